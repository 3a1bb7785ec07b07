"""What a submit does while a job with the same concurrency key is live, and how it says so."""

import asyncio
from typing import Any

import pytest

from jobrunner import (
    DuplicateJob,
    IdempotencyKeyReused,
    InvalidOption,
    JobContext,
    JobHandle,
    JobRunner,
    JobStatus,
    Limits,
    QueueFull,
    Retention,
    RetryPolicy,
)
from jobrunner.testing import simulate, unix_now, virtual_time
from tests.serving import in_process, problem

STATES = ("none", "pending", "delayed", "retrying", "running")
LIVE = STATES[1:]


def new_runner(**options: Any) -> JobRunner:
    """Return a runner with a type whose jobs with one document are duplicates."""
    runner = JobRunner(**{"now": unix_now, "seed": 1, "workers": 3, **options})

    @runner.job(
        concurrency_key=lambda params: params["document"],
        retry=RetryPolicy(max_attempts=2, base=0.0),
    )
    async def index(ctx: JobContext, document: str = "d", version: int = 0) -> int:
        if version == -1 and ctx.attempt == 1:
            runner.pause()
            raise OSError("down")
        await asyncio.sleep(10.0)
        return version

    return runner


async def in_state(runner: JobRunner, state: str) -> JobHandle[Any] | None:
    """Bring a job of document `d` into a state in which it stays for a while."""
    if state == "none":
        ended = await runner.submit("index")
        await ended.wait()
        return None
    if state == "pending":
        runner.pause()
    version = -1 if state == "retrying" else 1
    job = await runner.submit(
        "index", {"version": version}, delay=50.0 if state == "delayed" else 0.0
    )
    await asyncio.sleep(1.0)
    assert job.status == {"delayed": "pending"}.get(state, state)
    return job


# --- the four ways ------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
@virtual_time
async def test_enqueue_has_the_new_job_run_after_the_other(state: str) -> None:
    """The default: nothing is lost, and the two never overlap."""
    async with new_runner() as runner:
        first = await in_state(runner, state)
        second = await runner.submit("index", {"version": 2})
        assert second.outcome == ("created" if first is None else "enqueued")
        runner.resume()
        assert await second.result() == 2
        if first is not None and state != "delayed":
            assert first.status == "completed"
            began, ended = second.view().started_at, first.view().finished_at
            assert began is not None and ended is not None
            assert state == "retrying" or began >= ended


@pytest.mark.parametrize("state", STATES)
@virtual_time
async def test_join_returns_the_job_that_is_there(state: str) -> None:
    """Two clicks are one export; the params of the second are not looked at any further."""
    async with new_runner() as runner:
        first = await in_state(runner, state)
        second = await runner.submit("index", {"version": 2}, on_duplicate="join")
        if first is None:
            assert second.outcome == "created"
        else:
            assert (second.id, second.outcome) == (first.id, "joined")
            assert second.view().params["version"] != 2


@pytest.mark.parametrize("state", STATES)
@virtual_time
async def test_reject_refuses_the_new_job_and_names_the_other(state: str) -> None:
    """The caller may then look at that one; nothing is left of the refused request."""
    async with new_runner() as runner:
        first = await in_state(runner, state)
        if first is None:
            second = await runner.submit("index", on_duplicate="reject")
            assert second.outcome == "created"
            return
        with pytest.raises(DuplicateJob) as caught:
            await runner.submit("index", {"version": 2}, on_duplicate="reject")
        assert caught.value.job_id == first.id
        assert str(caught.value) == (
            f"job {first.id} has the concurrency key 'd' and is {first.status}"
        )
        assert len((await runner.list()).jobs) == 1


@pytest.mark.parametrize("state", STATES)
@virtual_time
async def test_replace_cancels_the_job_that_is_there(state: str) -> None:
    """The newest version is the one that counts; the others are `superseded`."""
    async with new_runner() as runner:
        first = await in_state(runner, state)
        second = await runner.submit("index", {"version": 2}, on_duplicate="replace")
        assert second.outcome == ("created" if first is None else "replaced")
        if first is not None and state != "running":
            assert first.status == "cancelled"
        runner.resume()
        assert await second.result() == 2
        if first is not None:
            view = first.view()
            assert (view.status, view.cancel_reason) == ("cancelled", "superseded")


@virtual_time
async def test_replace_waits_until_the_running_one_has_stopped() -> None:
    """Two that write to one document at once would be what the key is there against."""
    runner = new_runner()

    @runner.job(on_duplicate="replace", concurrency_key=lambda params: "one")
    async def write(version: int) -> int:
        try:
            await asyncio.sleep(10.0)
        except asyncio.CancelledError:
            await asyncio.sleep(3.0)
            raise
        return version

    async with runner:
        jobs = []
        for version in range(3):
            jobs.append(await runner.submit(write, {"version": version}))
            await asyncio.sleep(1.0)
        assert await jobs[2].result() == 2
    assert [job.status for job in jobs] == ["cancelled", "cancelled", "completed"]
    began, ended = jobs[2].view().started_at, jobs[0].view().finished_at
    assert began is not None
    assert began == ended


@virtual_time
async def test_replace_replaces_all_that_are_there() -> None:
    """Those that run and those that wait: only the newest is of any use."""
    async with new_runner() as runner:
        others = [await runner.submit("index", {"version": n}) for n in range(5)]
        await asyncio.sleep(1.0)
        last = await runner.submit("index", {"version": 9}, on_duplicate="replace")
        assert await last.result() == 9
        assert {job.status for job in others} == {"cancelled"}


@virtual_time
async def test_a_job_that_is_being_cancelled_is_not_joined() -> None:
    """It will have no result; who submits now wants one, and gets it behind that job."""
    runner = new_runner()

    @runner.job(on_duplicate="join", concurrency_key=lambda params: "one")
    async def slow() -> str:
        try:
            await asyncio.sleep(10.0)
        except asyncio.CancelledError:
            await asyncio.sleep(3.0)
            raise
        return "value"

    async with runner:
        first = await runner.submit(slow)
        await asyncio.sleep(1.0)
        await first.cancel()
        second = await runner.submit(slow)
        third = await runner.submit(slow)
        assert (second.outcome, third.outcome, third.id) == ("enqueued", "joined", second.id)
        assert await third.result() == "value"


@virtual_time
async def test_the_newest_of_several_is_joined() -> None:
    """It has the latest params."""
    async with new_runner() as runner:
        jobs = [await runner.submit("index", {"version": n}) for n in range(3)]
        joined = await runner.submit("index", on_duplicate="join")
        assert joined.id == jobs[2].id


@virtual_time
async def test_an_idempotency_key_leads_to_the_job_that_was_joined() -> None:
    """A client whose answer was lost sends the request again, when the job may have ended."""
    key: Any = {"idempotency_key": "k", "on_duplicate": "join"}
    async with new_runner(retention=Retention(max_jobs=1)) as runner:
        first = await runner.submit("index", {"version": 1})
        await runner.submit("index", {"version": 2}, **key)
        await first.wait()
        again = await runner.submit("index", {"version": 2}, **key)
        with pytest.raises(IdempotencyKeyReused):
            await runner.submit("index", {"version": 3}, **key)
        await (await runner.submit("index", {"document": "other"})).wait()  # prunes the first
        anew = await runner.submit("index", {"version": 2}, **key)
    assert (again.id, again.outcome) == (first.id, "replayed")
    assert (anew.id != first.id, anew.outcome) == (True, "created")


# --- what is a duplicate ------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["join", "reject", "replace"])
@virtual_time
async def test_without_a_key_there_are_no_duplicates(way: Any) -> None:
    """Nor with another key, nor with the same key of another type."""
    runner = new_runner()

    @runner.job
    async def other() -> None: ...

    async with runner:
        runner.pause()
        outcomes = [
            (await runner.submit("index", {"document": "a"}, on_duplicate=way)).outcome,
            (await runner.submit("index", {"document": "b"}, on_duplicate=way)).outcome,
            (await runner.submit(other, on_duplicate=way)).outcome,
            (await runner.submit(other, on_duplicate=way)).outcome,
            (await runner.submit(other, on_duplicate=way, concurrency_key="a")).outcome,
        ]
        assert outcomes == ["created"] * 5


@virtual_time
async def test_a_type_says_what_is_done_and_a_submit_may_say_otherwise() -> None:
    """The option stands with the handler; an administrator's script may force a second run."""
    runner = new_runner()

    @runner.job(on_duplicate="reject", concurrency_key=lambda params: "one")
    async def nightly() -> None: ...

    async with runner:
        runner.pause()
        await runner.submit(nightly)
        with pytest.raises(DuplicateJob):
            await runner.submit(nightly)
        assert (await runner.submit(nightly, on_duplicate="enqueue")).outcome == "enqueued"
        with pytest.raises(InvalidOption, match="on_duplicate is 'ignore'; it must be one of"):
            await runner.submit(nightly, on_duplicate="ignore")  # type: ignore[call-overload]  # refused, as is tested


@virtual_time
async def test_a_replay_comes_before_a_duplicate() -> None:
    """The same request again is no second one, whatever is done with second ones."""
    async with new_runner() as runner:
        first = await runner.submit("index", idempotency_key="k", on_duplicate="reject")
        again = await runner.submit("index", idempotency_key="k", on_duplicate="reject")
        assert (again.id, again.outcome) == (first.id, "replayed")


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("way", ["join", "reject", "replace"])
def test_q1_of_a_hundred_submits_at_once_one_lives(way: Any, seed: int) -> None:
    """There is no await between the look and the job, whatever comes in between."""

    async def scenario() -> None:
        async with new_runner() as runner:
            submits = [
                asyncio.create_task(runner.submit("index", {"version": n}, on_duplicate=way))
                for n in range(100)
            ]
            await asyncio.wait(submits)
            refused = [s.exception() for s in submits if s.exception() is not None]
            assert len(refused) == (99 if way == "reject" else 0)
            await runner.drain()
            assert runner.stats().jobs[JobStatus.COMPLETED] == 1

    simulate(scenario, seed=seed)


# --- room ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["pending", "delayed", "retrying"])
@virtual_time
async def test_replace_takes_the_place_that_it_frees(state: str) -> None:
    """A full queue that holds the old version has room for the new one."""
    async with new_runner(limits=Limits(max_pending=1)) as runner:
        await in_state(runner, state)
        second = await runner.submit("index", {"version": 2}, on_duplicate="replace")
        assert second.outcome == "replaced"
        assert runner.stats().jobs[JobStatus.PENDING] == 1


@virtual_time
async def test_replace_takes_the_bytes_that_it_frees() -> None:
    """So with the memory of the params, which is the other way to be full."""
    async with new_runner(limits=Limits(max_live_bytes=40)) as runner:
        runner.pause()
        await runner.submit("index", {"version": 10**30})
        with pytest.raises(QueueFull):
            await runner.submit("index", {"version": 2})
        replaced = await runner.submit("index", {"version": 3}, on_duplicate="replace")
        assert replaced.outcome == "replaced"


@virtual_time
async def test_replace_of_a_running_job_needs_a_place() -> None:
    """That one frees none, and nothing may be cancelled for a job that isn't taken."""
    async with new_runner(limits=Limits(max_pending=1), workers=1) as runner:
        running = await in_state(runner, "running")
        await runner.submit("index", {"document": "other"})
        with pytest.raises(QueueFull):
            await runner.submit("index", {"version": 2}, on_duplicate="replace")
        assert running is not None
        assert running.view().cancel_requested_at is None


@pytest.mark.parametrize(("way", "expected"), [("join", None), ("reject", DuplicateJob)])
@virtual_time
async def test_what_makes_no_job_needs_no_place(way: Any, expected: Any) -> None:
    """A full queue has an answer for whoever asks for what is in it."""
    async with new_runner(limits=Limits(max_pending=1)) as runner:
        await in_state(runner, "pending")
        if expected is None:
            assert (await runner.submit("index", on_duplicate=way)).outcome == "joined"
        else:
            with pytest.raises(expected):
                await runner.submit("index", on_duplicate=way)


# --- over HTTP ----------------------------------------------------------------------------------

HELD: dict[str, Any] = {"type": "hold", "params": {"key": "k"}, "concurrency_key": "c"}


@pytest.mark.parametrize(
    ("way", "outcome"),
    [(None, "enqueued"), ("enqueue", "enqueued"), ("join", "joined"), ("replace", "replaced")],
)
async def test_the_outcome_is_a_header(way: str | None, outcome: str) -> None:
    """A client that joined a job has to know that its own params were not used."""
    async with in_process() as bench:
        bench.runner.pause()
        first = await bench.client.post("/jobs", json=HELD)
        body = HELD if way is None else HELD | {"on_duplicate": way}
        second = await bench.client.post("/jobs", json=body)
    assert (first.status_code, first.headers["job-outcome"]) == (202, "created")
    assert (second.status_code, second.headers["job-outcome"]) == (202, outcome)
    same = first.json()["job_id"] == second.json()["job_id"]
    assert same == (outcome == "joined")


async def test_a_replay_has_its_outcome_too() -> None:
    """Beside the header that says so after the draft of the Idempotency-Key."""
    async with in_process() as bench:
        bench.runner.pause()
        key = {"idempotency-key": '"k"'}
        for outcome in ("created", "replayed"):
            response = await bench.client.post("/jobs", json=HELD, headers=key)
            assert response.headers["job-outcome"] == outcome


async def test_a_rejected_duplicate_is_a_conflict() -> None:
    """409, with the id of the job that is in the way."""
    async with in_process() as bench:
        bench.runner.pause()
        first = (await bench.client.post("/jobs", json=HELD)).json()["job_id"]
        response = await bench.client.post("/jobs", json=HELD | {"on_duplicate": "reject"})
    assert problem(response) == (409, "duplicate-job")
    assert first in response.json()["detail"]


async def test_an_unknown_way_is_refused() -> None:
    """With a pointer to the field."""
    async with in_process() as bench:
        response = await bench.client.post("/jobs", json=HELD | {"on_duplicate": "ignore"})
    assert problem(response) == (422, "invalid-request")
    assert response.json()["errors"][0]["pointer"] == "#/on_duplicate"
