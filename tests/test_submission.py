"""From a request to a job: what is checked, what is kept, what comes again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import SecretStr

from jobrunner import (
    IdempotencyKeyReused,
    InvalidOption,
    InvalidParams,
    JobRunner,
    Limits,
    PayloadTooLarge,
    QueueFull,
    RetryPolicy,
    UnknownJobType,
)
from jobrunner.limits import LONGEST
from jobrunner.submit_options import MAX_NAME
from jobrunner.testing import EPOCH, unix_now, virtual_time

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@asynccontextmanager
async def paused(**options: Any) -> AsyncIterator[JobRunner]:
    """A runner that takes jobs and starts none."""
    runner = JobRunner(now=unix_now, seed=1, **options)

    @runner.job
    async def work(x: int = 0, token: SecretStr | None = None) -> str:
        return tenant.get()

    @runner.job("other", timeout=7.0, retry=RetryPolicy(max_attempts=4))
    async def other(x: int = 0) -> None: ...

    @runner.job("unlimited", timeout=None)
    async def unlimited() -> None: ...

    runner.pause()
    async with runner:
        yield runner


@virtual_time
async def test_keeps_what_it_was_asked_for() -> None:
    """A job has every option as it was given, and the rest as documented."""
    async with paused(timeout=50.0) as runner:
        handle = await runner.submit(
            "work", {"x": "3"}, priority=-5, delay=30.0, timeout=2, session_id="s",
            idempotency_key="k", metadata={"user": {"id": 1}},
        )  # fmt: skip
        job = runner.record(handle.id)
        assert (job.number, job.type, job.params) == (1, "work", b'{"x":3,"token":null}')
        assert (job.priority, job.timeout, job.max_attempts) == (-5, 2.0, 1)
        assert (job.session_id, job.idempotency_key) == ("s", "k")
        assert (job.metadata, job.created_at, job.run_at) == (
            {"user": {"id": 1}}, EPOCH, EPOCH + 30.0,
        )  # fmt: skip
        events = [(e.seq, e.type, e.data) for e in job.log.read().events]
        assert events == [(1, "status", {"status": "pending", "attempt": 0})]


@virtual_time
async def test_a_plain_job_has_the_defaults() -> None:
    """What wasn't given isn't made up."""
    async with paused(timeout=50.0) as runner:
        job = runner.record((await runner.submit("work")).id)
        assert (job.priority, job.timeout, job.run_at, job.session_id) == (0, 50.0, None, None)
        assert (job.idempotency_key, job.metadata, job.retry_of) == (None, None, None)


@virtual_time
async def test_jobs_are_numbered_as_they_come() -> None:
    """Numbers order the lists; a refused request uses none up."""
    async with paused() as runner:
        first = await runner.submit("work")
        with pytest.raises(InvalidParams):
            await runner.submit("work", {"x": "no"})
        second = await runner.submit("work")
        assert [runner.record(h.id).number for h in (first, second)] == [1, 2]


@pytest.mark.parametrize(("kind", "options", "expected"), [
    ("work", {}, 50.0), ("other", {}, 7.0), ("unlimited", {}, None),
    ("other", {"timeout": 1}, 1.0), ("other", {"timeout": None}, None),
    ("other", {"timeout": ...}, 7.0),
])  # fmt: skip
def test_the_nearest_limit_counts(
    kind: str, options: dict[str, Any], expected: float | None
) -> None:
    """Per job, per type, per runner (row 13)."""

    @virtual_time
    async def scenario() -> None:
        async with paused(timeout=50.0) as runner:
            handle = await runner.submit(kind, **options)
            assert runner.record(handle.id).timeout == expected

    scenario()


@virtual_time
async def test_the_nearest_retry_policy_says_how_many_attempts() -> None:
    """The type's before the runner's."""
    async with paused(retry=RetryPolicy(max_attempts=9)) as runner:
        jobs = [runner.record((await runner.submit(kind)).id) for kind in ("work", "other")]
        assert [job.max_attempts for job in jobs] == [9, 4]


@pytest.mark.parametrize(("options", "said"), [
    ({"priority": 101}, "priority is 101; it must be an integer, -100 to 100"),
    ({"priority": -101}, "priority is -101"), ({"priority": 1.5}, "priority is 1.5"),
    ({"priority": "1"}, "priority is '1'"), ({"priority": None}, "priority is None"),
    ({"delay": -1}, "delay is -1; it must be a number of seconds 0 or more"),
    ({"delay": float("nan")}, "delay is nan"), ({"delay": 1e12}, "delay is 1000000000000.0"),
    ({"timeout": 0}, "timeout is 0; it must be a number of seconds above 0"),
    ({"timeout": True}, "timeout is True"),
    ({"run_at": datetime(2030, 1, 1)}, "run_at is .*; it must be a datetime with a time zone"),
    ({"run_at": EPOCH}, "run_at is 1700000000.0; it must be a datetime"),
    ({"run_at": datetime.max.replace(tzinfo=UTC)}, "run_at is 9999-.* within a hundred years"),
    ({"run_at": datetime(2030, 1, 1, tzinfo=UTC), "delay": 0}, "delay and run_at are both given"),
    ({"session_id": ""}, "session_id is ''; it must be a text of 1 to 256 printable"),
    ({"session_id": "x" * (MAX_NAME + 1)}, "session_id is 'xxx"),
    ({"session_id": "a\nb"}, "session_id is"), ({"session_id": "\ud800"}, "session_id is"),
    ({"session_id": 5}, "session_id is 5"), ({"idempotency_key": ""}, "idempotency_key is ''"),
    ({"metadata": {"x": object()}}, "the metadata can't be JSON"),
    ({"metadata": {"x": "\ud800"}}, "the metadata can't be JSON"),
    ({"metadata": {"x": 10**5_000}}, "the metadata can't be JSON"),
    ({"metadata": 5}, "the metadata can't be JSON"), ({"metadata": "ab"}, "the metadata can't"),
    ({"prioritty": 1}, "submit has no option 'prioritty'"),
])  # fmt: skip
def test_refuses_an_option_that_can_not_be(options: dict[str, Any], said: str) -> None:
    """Refused at once, by name, and nothing is left of the request."""

    @virtual_time
    async def scenario() -> None:
        async with paused() as runner:
            with pytest.raises(InvalidOption, match=said):
                await runner.submit("work", **options)
            assert (await runner.list()).jobs == []

    scenario()


@pytest.mark.parametrize(("options", "kept"), [
    ({"priority": 100}, {"priority": 100}), ({"priority": -100}, {"priority": -100}),
    ({"session_id": "x" * MAX_NAME}, {"session_id": "x" * MAX_NAME}),
    ({"session_id": "größe 1"}, {"session_id": "größe 1"}),
    ({"delay": 0}, {"run_at": None}), ({"delay": LONGEST}, {"run_at": EPOCH + LONGEST}),
    ({"run_at": datetime.fromtimestamp(EPOCH - 5, UTC)}, {"run_at": None}),
    ({"run_at": datetime.fromtimestamp(EPOCH + 5, timezone(timedelta(hours=3)))},
     {"run_at": EPOCH + 5}),
    ({"metadata": {}}, {"metadata": None}),
    ({"metadata": {"t": (1, float("nan")), 2: None}}, {"metadata": {"t": [1, None], "2": None}}),
])  # fmt: skip
def test_accepts_the_ends_of_each_range(options: dict[str, Any], kept: dict[str, Any]) -> None:
    """Whatever is accepted can be shown."""

    @virtual_time
    async def scenario() -> None:
        async with paused() as runner:
            handle = await runner.submit("work", **options)
            job = runner.record(handle.id)
            assert {name: getattr(job, name) for name in kept} == kept
            assert (await runner.get(handle.id)).job_id == handle.id

    scenario()


@virtual_time
async def test_metadata_are_a_copy() -> None:
    """What the submitter does to its dict afterwards doesn't change the job."""
    async with paused() as runner:
        metadata = {"tags": ["a"]}
        handle = await runner.submit("work", metadata=metadata)
        metadata["tags"].append("b")
        assert runner.record(handle.id).metadata == {"tags": ["a"]}


@virtual_time
async def test_refuses_what_is_too_large() -> None:
    """Ten thousand waiting jobs of a megabyte each would be the end (Q10)."""
    async with paused(limits=Limits(max_params=30, max_metadata=10)) as runner:
        await runner.submit("work", {"x": 12_345_678_901}, metadata={"a": "12"})
        with pytest.raises(PayloadTooLarge, match="params are 31 bytes of JSON; the limit is 30"):
            await runner.submit("work", {"x": 123_456_789_012})
        with pytest.raises(PayloadTooLarge, match="metadata is 11 bytes of JSON; the limit is 10"):
            await runner.submit("work", metadata={"a": "123"})
        assert len((await runner.list()).jobs) == 1


@virtual_time
async def test_refuses_more_jobs_than_may_wait() -> None:
    """A full queue says so, instead of growing; a place that is freed can be taken."""
    async with paused(limits=Limits(max_pending=2)) as runner:
        first = await runner.submit("work")
        await runner.submit("work", delay=3_600.0)
        with pytest.raises(QueueFull, match="2 jobs wait already"):
            await runner.submit("work")
        await runner.cancel(first.id)
        await runner.submit("work")


@virtual_time
async def test_a_job_that_waits_for_a_retry_takes_a_place() -> None:
    """Failing jobs must not make room for others that will fail with them."""
    runner = JobRunner(now=unix_now, limits=Limits(max_pending=1), retry=RetryPolicy(), seed=1)

    @runner.job
    async def fail() -> None:
        raise ConnectionError("down")

    async with runner:
        job = await runner.submit(fail)
        await asyncio.sleep(0.01)
        assert job.status == "retrying"
        with pytest.raises(QueueFull):
            await runner.submit(fail)


@virtual_time
async def test_one_key_is_one_job() -> None:
    """A client that lost the answer asks again, and nothing runs twice (Q1)."""
    async with paused() as runner:
        handles = await collect(
            [runner.submit("work", {"x": 1}, idempotency_key="k") for _ in range(100)]
        )
        assert {handle.id for handle in handles} == {handles[0].id}
        assert [handle.outcome for handle in handles] == ["created"] + ["replayed"] * 99
        assert len((await runner.list()).jobs) == 1


async def collect(calls: list[Any]) -> list[Any]:
    """Make all calls at once and return their values."""
    tasks = [asyncio.create_task(call, name="submit") for call in calls]
    return [await task for task in tasks]


@virtual_time
async def test_a_key_counts_the_request_as_it_is_validated() -> None:
    """Writing out a default, or a number as text, is the same request."""
    async with paused() as runner:
        first = await runner.submit("work", {}, idempotency_key="k")
        again = await runner.submit("work", {"x": "0"}, idempotency_key="k", priority=9)
        assert (again.id, again.outcome) == (first.id, "replayed")


@pytest.mark.parametrize(("kind", "params"), [("work", {"x": 2}), ("other", {"x": 1})])
def test_a_key_for_another_request_is_refused(kind: str, params: dict[str, int]) -> None:
    """Two jobs under one key would be one of them lost in silence."""

    @virtual_time
    async def scenario() -> None:
        async with paused() as runner:
            job = await runner.submit("work", {"x": 1}, idempotency_key="k")
            with pytest.raises(IdempotencyKeyReused, match=f"'k' came before.*for job {job.id}"):
                await runner.submit(kind, params, idempotency_key="k")

    scenario()


@virtual_time
async def test_a_replay_needs_no_room() -> None:
    """Whoever asks again for an accepted job isn't told that the queue is full."""
    async with paused(limits=Limits(max_pending=1)) as runner:
        job = await runner.submit("work", idempotency_key="k")
        assert (await runner.submit("work", idempotency_key="k")).id == job.id


@virtual_time
async def test_a_key_lasts_as_long_as_its_job() -> None:
    """After the end too; when the job is forgotten the key is new."""
    async with paused() as runner:
        job = await runner.submit("work", idempotency_key="k")
        await runner.cancel(job.id)
        assert (await runner.submit("work", idempotency_key="k")).id == job.id
        await runner.forget(job.id)
        again = await runner.submit("work", idempotency_key="k")
        assert (again.id != job.id, again.outcome) == (True, "created")


@virtual_time
async def test_a_job_runs_with_the_context_of_its_submitter() -> None:
    """Two owners' jobs see their own context variables, and not each other's (T14)."""
    async with paused() as runner:
        handles = []
        for name in ("ann", "bob"):
            tenant.set(name)
            handles.append(await runner.submit("work"))
        tenant.set("eve")
        runner.resume()
        assert [await handle.result() for handle in handles] == ["ann", "bob"]


@virtual_time
async def test_a_secret_is_masked_in_what_is_kept() -> None:
    """The job holds the secret for its handler only, until it has ended."""
    async with paused() as runner:
        handle = await runner.submit("work", {"token": "top-secret"})
        assert (await runner.get(handle.id)).params == {"x": 0, "token": "**********"}
        await runner.cancel(handle.id)
        assert runner.record(handle.id).arguments is None


@virtual_time
async def test_an_unknown_type_leaves_nothing_behind() -> None:
    """A clear error, before anything is kept (row 1)."""
    async with paused() as runner:
        with pytest.raises(UnknownJobType, match="did you mean 'work'"):
            await runner.submit("wrok")
        assert (await runner.list()).jobs == []


@virtual_time
async def test_a_default_that_does_not_fit_its_annotation_may_be_run_again() -> None:
    """`b: int = None` is common; what ran once as it was given runs again."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def handle(a: str, b: int = None) -> str:  # type: ignore[assignment]  # noqa: RUF013  # as is tested
        return f"{a} {b}"

    async with runner:
        job = await runner.submit(handle, {"a": "x"})
        await job.wait()
        again = await runner.retry(job.id)
        assert await again.result() == "x None"
        assert again.view().params == {"a": "x", "b": None}
