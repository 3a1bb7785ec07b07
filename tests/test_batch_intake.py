"""Taking a batch in: all is checked first, and whatever is refused, nothing of it is there."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import SecretStr

from jobrunner import (
    InvalidOption,
    InvalidParams,
    JobRunner,
    JobStatus,
    Limits,
    PayloadTooLarge,
    QueueFull,
    RunnerNotStarted,
    RunnerStopped,
    UnknownJobType,
)
from jobrunner.testing import virtual_time
from tests.batched import WHO, make_runner, numbers, running, taken
from tests.receiving import Receiver, runner_with_webhooks, settled


async def refused(
    runner: JobRunner, kind: type[Exception], submit: Callable[[], Awaitable[Any]]
) -> str:
    """Return what is said, when nothing was taken in."""
    before = taken(runner)
    with pytest.raises(kind) as caught:
        await submit()
    assert (taken(runner), runner.stats().jobs[JobStatus.PENDING]) == (before, 0)
    return str(caught.value)


# Params


@virtual_time
async def test_each_fault_has_the_index_of_its_params() -> None:
    """Of a thousand lines of a file the bad ones are found in one go, and none has run."""
    params: list[Any] = numbers(20)
    params[3], params[17] = {"n": "x"}, {"n": 1, "other": 2}
    async with running() as runner:
        with pytest.raises(InvalidParams) as caught:
            await runner.submit_batch("analyse", params)
        assert taken(runner) == 0
    assert [(f["pointer"], f["detail"]) for f in caught.value.errors] == [
        ("#/3/n", "Input should be a valid integer, unable to parse string as an integer"),
        ("#/17/other", "this param is unknown"),
    ]
    assert str(caught.value).startswith("2 of 20 params don't fit job type 'analyse': #/3/n: Input")


@pytest.mark.parametrize("bad", [None, 5, "text", [1], [("n", 1)]])
@pytest.mark.parametrize("kind", ["analyse", "nothing"])
@virtual_time
async def test_params_that_are_no_object_are_named(bad: Any, kind: str) -> None:
    """Whatever comes over the wire."""
    good = {"n": 1} if kind == "analyse" else {}
    async with running() as runner:
        with pytest.raises(InvalidParams) as caught:
            await runner.submit_batch(kind, [good, bad])
        assert taken(runner) == 0
    assert caught.value.errors == [{"detail": "this must be an object", "pointer": "#/1"}]


@virtual_time
async def test_params_that_can_not_be_kept_are_named_too() -> None:
    """The fault is in none of its parts."""
    runner = make_runner()

    @runner.job
    async def take(value: Any) -> None: ...

    async with runner:
        with pytest.raises(InvalidParams) as caught:
            await runner.submit_batch(take, [{"value": 1}, {"value": object()}])
    assert [fault["pointer"] for fault in caught.value.errors] == ["#/1"]


@virtual_time
async def test_faults_are_told_up_to_a_bound() -> None:
    """Ten thousand sentences help nobody."""
    async with running() as runner:
        with pytest.raises(InvalidParams, match=r"; and more$") as caught:
            await runner.submit_batch("analyse", [{}] * 9_000)
    assert len(caught.value.errors) == 100


@pytest.mark.parametrize("params", [None, 5, "ab", b"ab", {"n": 1}])
@virtual_time
async def test_what_is_no_list_is_refused(params: Any) -> None:
    """A dict would be taken for its keys, a text for its letters."""
    async with running() as runner:
        said = await refused(runner, InvalidOption, lambda: runner.submit_batch("analyse", params))
    assert said.endswith("give a list of dicts, one for each job")


@virtual_time
async def test_any_iterable_will_do() -> None:
    """It is read once."""
    async with running() as runner:
        batch = await runner.submit_batch("analyse", ({"n": n} for n in range(3)))
        assert batch.total == 3
        await batch.wait()


@virtual_time
async def test_an_endless_iterable_is_refused() -> None:
    """It is read up to the limit, and one further."""
    read = 0

    def endless() -> Any:
        nonlocal read
        while True:
            read += 1
            yield {"n": 1}

    async with running(limits=Limits(max_batch=7)) as runner:
        said = await refused(
            runner, PayloadTooLarge, lambda: runner.submit_batch("analyse", endless())
        )
    assert said == "the batch has over 7 jobs, the limit (Limits.max_batch); submit it in parts"
    assert read == 8


@virtual_time
async def test_params_that_are_too_large_are_named() -> None:
    """The limit is that of one job."""
    large = [*numbers(2), {"n": 2, "text": "x" * 300_000}]
    async with running() as runner:
        said = await refused(runner, PayloadTooLarge, lambda: runner.submit_batch("analyse", large))
    assert said.startswith("params 2 of the batch: the params are 300")


@virtual_time
async def test_others_have_a_turn_while_many_are_checked() -> None:
    """Ten thousand params take a moment, in which streams and timers go on."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with running() as runner:
        other = asyncio.create_task(turn())
        await runner.submit_batch("analyse", numbers(1_500))
        other.cancel()
    assert turns >= 3


@virtual_time
async def test_a_runner_that_stops_meanwhile_takes_nothing() -> None:
    """It was running when the checking began."""
    async with running() as runner:
        submit = asyncio.create_task(runner.submit_batch("analyse", numbers(1_500)))
        await asyncio.sleep(0)
        await runner.stop()
        with pytest.raises(RunnerStopped):
            await submit
        assert taken(runner) == 0


@virtual_time
async def test_who_gives_up_while_it_is_checked_has_submitted_nothing() -> None:
    """All or nothing also holds for a client that has gone."""
    async with running() as runner:
        submit = asyncio.create_task(runner.submit_batch("analyse", numbers(1_500)))
        await asyncio.sleep(0)
        submit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submit
        assert taken(runner) == 0


@virtual_time
async def test_its_jobs_run_with_the_context_of_the_submit() -> None:
    """As a single job does (T14)."""
    async with running(workers=2) as runner:
        WHO.set("ada")
        batch = await runner.submit_batch("who", numbers(2))
        WHO.set("bob")
        await batch.wait()
        assert [item.result() for item in await batch.results()] == ["ada", "ada"]


@virtual_time
async def test_secrets_are_masked_in_all_of_them() -> None:
    """What is kept of params is what everybody may see."""
    runner = make_runner()

    @runner.job
    async def call(key: SecretStr) -> str:
        return key.get_secret_value()[:1]

    async with runner:
        batch = await runner.submit_batch(call, [{"key": "abc"}, {"key": "xyz"}])
        await batch.wait()
        assert [item.result() for item in await batch.results()] == ["a", "x"]
        assert "abc" not in json.dumps([item.job and item.job.params
                                        for item in await batch.results()])  # fmt: skip


# Options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_in_flight": 0}, "max_in_flight is 0; it must be an integer, 1 or more"),
        ({"max_in_flight": "x"}, "max_in_flight is 'x'; it must be an integer, 1 or more"),
        ({"batch_id": "mine"}, "a batch makes its own batch_id; read it from the batch"),
        ({"priority": 1_000}, "priority is 1000; it must be an integer, -100 to 100"),
        ({"other": 1}, "submit has no option 'other'"),
        ({"max_wait": -1}, "max_wait is -1; it must be a number of seconds"),
    ],
)
@virtual_time
async def test_an_option_that_can_not_be_is_refused(options: Any, said: str) -> None:
    """Before any of the params is looked at."""
    async with running() as runner:
        heard = await refused(
            runner, InvalidOption, lambda: runner.submit_batch("analyse", numbers(2), **options)
        )
    assert heard.startswith(said)


@virtual_time
async def test_it_says_what_a_single_submit_says() -> None:
    """There is one way to be wrong about a type or a runner."""
    runner = make_runner()
    with pytest.raises(RunnerNotStarted):
        await runner.submit_batch("no type", [])
    async with runner:
        with pytest.raises(UnknownJobType, match="did you mean 'analyse'"):
            await runner.submit_batch("analize", [])


# Room


@virtual_time
async def test_a_queue_without_room_for_all_takes_none() -> None:
    """Half a batch would be worse than none: who would know which half?"""
    async with running(limits=Limits(max_pending=5)) as runner:
        runner.pause()
        await runner.submit("analyse", {"n": 1})
        with pytest.raises(QueueFull) as caught:
            await runner.submit_batch("analyse", numbers(5))
        assert taken(runner) == 1
        assert str(caught.value).startswith("the batch needs 5 places at once: 1 jobs wait already")
        assert caught.value.retry_after >= 1.0
        assert (await runner.submit_batch("analyse", numbers(4))).total == 4
        assert (await runner.submit_batch("analyse", [])).total == 0
        runner.resume()
        await runner.drain()


@virtual_time
async def test_the_room_of_its_type_counts_too() -> None:
    """A type may have less than the runner has."""
    runner = make_runner()

    @runner.job(max_pending=3)
    async def few() -> None: ...

    async with runner:
        runner.pause()
        await runner.submit(few)
        with pytest.raises(QueueFull):
            await runner.submit_batch(few, [{}] * 3)
        assert (await runner.submit_batch(few, [{}] * 2)).total == 2
        with pytest.raises(PayloadTooLarge, match=r"has 4 jobs, and only 3 may wait \(max_pending"):
            await runner.submit_batch(few, [{}] * 4)
        runner.resume()
        await runner.drain()


@virtual_time
async def test_the_bytes_of_all_params_count_together() -> None:
    """Each alone is small."""
    async with running(limits=Limits(max_live_bytes=10_000)) as runner:
        runner.pause()
        text = "x" * 1_000
        with pytest.raises(PayloadTooLarge, match=r"the limit of all jobs together is 10000"):
            await runner.submit_batch("analyse", numbers(10, text=text))
        await runner.submit_batch("analyse", numbers(5, text=text))
        with pytest.raises(QueueFull):
            await runner.submit_batch("analyse", numbers(5, text=text))
        assert taken(runner) == 5
        runner.resume()
        await runner.drain()


@virtual_time
async def test_who_waits_for_room_gets_it_for_all_at_once() -> None:
    """And who comes behind for the same type doesn't overtake them."""
    async with running(limits=Limits(max_pending=4), workers=1) as runner:
        first = await runner.submit_batch("analyse", numbers(4, seconds=1.0))
        waiting = asyncio.create_task(runner.submit_batch("analyse", numbers(3), max_wait=None))
        await asyncio.sleep(0.5)
        with pytest.raises(QueueFull):
            await runner.submit_batch("analyse", numbers(1))
        assert (await runner.submit_batch("analyse", [])).total == 0  # it needs no room
        second = await waiting
        assert first.counts[JobStatus.COMPLETED] == 2
        await second.wait()


@virtual_time
async def test_the_wait_for_room_ends_with_its_time() -> None:
    """Then it is as if it had never been asked for."""
    async with running(limits=Limits(max_pending=4), workers=1) as runner:
        await runner.submit_batch("analyse", numbers(4, seconds=1.0))
        with pytest.raises(QueueFull, match="the batch needs 4 places at once"):
            await runner.submit_batch("analyse", numbers(4), max_wait=1.5)
        assert (taken(runner), asyncio.get_running_loop().time()) == (4, 1.5)
        await runner.drain()


@virtual_time
async def test_a_type_s_own_timeout_is_not_taken_for_the_wait_s() -> None:
    """What a concurrency key raises is told as it is."""
    runner = make_runner()

    @runner.job(concurrency_key=lambda p: {}[p["n"]])
    async def keyed(n: int) -> None: ...

    async with runner:
        with pytest.raises(InvalidOption, match=r"^params 0: the concurrency_key of 'keyed' can't"):
            await runner.submit_batch(keyed, numbers(2))


@virtual_time
async def test_the_end_of_each_job_is_posted_where_the_batch_says() -> None:
    """One URL for all of them, and one that may not be refuses all."""
    receiver = Receiver()
    async with runner_with_webhooks(receiver) as runner:
        batch = await runner.submit_batch("echo", [{}] * 3, webhook_url="https://192.0.2.3/")
        await batch.wait()
        await settled(runner)
        with pytest.raises(InvalidOption, match="it must be http"):
            await runner.submit_batch("echo", [{}] * 3, webhook_url="ftp://192.0.2.3/")
        assert taken(runner) == 3
    assert [request.url for request in receiver.received] == ["https://192.0.2.3/"] * 3
