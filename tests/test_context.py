"""What a handler may do while it runs, and what everybody else sees of it."""

import asyncio
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Unpack

import pytest

from jobrunner import (
    Event,
    InvalidOption,
    JobContext,
    JobFailed,
    JobHandle,
    JobRunner,
    RetryableError,
    RetryPolicy,
)
from jobrunner.jobs import Step
from jobrunner.submit_options import SubmitOptions
from jobrunner.testing import unix_now, virtual_time

Act = Callable[[JobContext], Any]


def both(first: Act, second: Act) -> Act:
    """Return what does one after the other."""

    def act(ctx: JobContext) -> None:
        first(ctx)
        second(ctx)

    return act


async def watched(
    act: Act, **options: Unpack[SubmitOptions]
) -> list[tuple[str, Mapping[str, Any]]]:
    """Run a handler that does `act`, and return the events between its start and its end."""
    events = [event async for event in (await ran(act, **options)).events()]
    return [(event.type, event.data) for event in events[2:-1]]


async def ran(act: Act, **options: Unpack[SubmitOptions]) -> JobHandle[None]:
    """Run a handler that does `act` to its end."""
    runner = JobRunner(now=unix_now, watchdog=None)

    @runner.job
    async def handler(ctx: JobContext) -> None:
        act(ctx)

    async with runner:
        job: JobHandle[None] = await runner.submit(handler, **options)
        await job.result()
    return job


@virtual_time
async def test_a_handler_knows_its_job() -> None:
    """Whatever the submitter said about the job, its handler can read."""
    seen: list[Any] = []

    def look(ctx: JobContext) -> None:
        seen.extend((ctx.job_id, ctx.type, ctx.attempt, ctx.max_attempts))
        seen.extend((ctx.session_id, ctx.metadata, ctx.cancel_requested))

    job = await ran(look, session_id="s1", metadata={"user": "u1"})
    assert seen == [job.id, "handler", 1, 1, "s1", {"user": "u1"}, False]


@virtual_time
async def test_what_was_not_said_about_a_job_is_empty() -> None:
    """A handler needs no guard around metadata that nobody gave."""
    seen: list[Any] = []
    await ran(lambda ctx: seen.extend((ctx.session_id, ctx.metadata)))
    assert seen == [None, {}]


@virtual_time
async def test_each_attempt_has_its_number() -> None:
    """A handler may go on where the last attempt stopped, or try another way."""
    runner = JobRunner(now=unix_now, retry=RetryPolicy(max_attempts=3))
    seen: list[tuple[int, int]] = []

    @runner.job
    async def flaky(ctx: JobContext) -> None:
        seen.append((ctx.attempt, ctx.max_attempts))
        raise RetryableError

    async with runner:
        await (await runner.submit(flaky)).wait()
    assert seen == [(1, 3), (2, 3), (3, 3)]


@virtual_time
async def test_progress_is_an_event() -> None:
    """Percent and message go together, as they are shown."""
    assert await watched(lambda ctx: ctx.progress(40, "Reading")) == [
        ("progress", {"progress": 40, "progress_message": "Reading", "step": None})
    ]


@virtual_time
async def test_progress_without_a_message_keeps_the_last_one() -> None:
    """A loop says where it is once, and then only how far."""
    events = await watched(
        both(lambda ctx: ctx.progress(1, "Reading"), lambda ctx: ctx.progress(2))
    )
    assert [data["progress_message"] for _, data in events] == ["Reading", "Reading"]


@virtual_time
async def test_progress_that_says_nothing_new_is_no_event() -> None:
    """A handler may call it in a tight loop without flooding who watches."""
    events = await watched(both(lambda ctx: ctx.progress(7, "x"), lambda ctx: ctx.progress(7, "x")))
    assert len(events) == 1


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (0.5, 0.5),
        (33.333, 33.33),
        (100, 100),
        (50.0, 50),
        (True, 1),
        (-5, 0),
        (1e9, 100),
        (math.inf, 100),
    ],
)
@virtual_time
async def test_progress_stays_within_0_and_100(said: float, shown: float) -> None:
    """Rounding errors of a handler don't break a progress bar."""
    job = await ran(both(lambda ctx: ctx.progress(50.5), lambda ctx: ctx.progress(said)))
    events = [event async for event in job.events() if event.type == "progress"]
    assert repr(events[-1].data["progress"]) == repr(shown)


@pytest.mark.parametrize("value", ["40", None, math.nan, [1]])
@virtual_time
async def test_progress_that_is_no_number_is_refused(value: Any) -> None:
    """The mistake shows up in the handler that made it, not in who reads."""
    with pytest.raises(Exception, match=r"it must be a number from 0 to 100$"):
        await ran(lambda ctx: ctx.progress(value))


@virtual_time
async def test_steps_set_the_same_bar() -> None:
    """Step 3 of 7 is 42.86 percent."""
    assert await watched(lambda ctx: ctx.step(3, 7, "Analysing document")) == [
        (
            "progress",
            {
                "progress": 42.86,
                "progress_message": "Analysing document",
                "step": {"current": 3, "total": 7},
            },
        )
    ]


@virtual_time
async def test_progress_keeps_the_step() -> None:
    """A handler may be more exact within a step."""
    job = await ran(both(lambda ctx: ctx.step(1, 2), lambda ctx: ctx.progress(75, "almost")))
    view = job.view()
    assert view.step is not None
    assert (view.step.current, view.step.total, view.progress_message) == (1, 2, "almost")


@pytest.mark.parametrize(
    ("current", "total"), [(1, 0), (8, 7), (-1, 7), (1.0, 7), (1, 7.0), (True, 7), ("1", 7)]
)
@virtual_time
async def test_a_step_out_of_range_is_refused(current: Any, total: Any) -> None:
    """0 of 0, 8 of 7: the mistake shows up in the handler that made it."""
    refused: list[str] = []

    def act(ctx: JobContext) -> None:
        with pytest.raises(InvalidOption) as caught:
            ctx.step(current, total)
        refused.append(str(caught.value))

    await ran(act)
    assert refused == [f"step {current!r} of {total!r}; say 0 <= current <= total"]


@virtual_time
async def test_a_log_line_has_its_fields() -> None:
    """Fields are kept as JSON; what isn't JSON is kept as text, and never fails the job."""
    events = await watched(
        lambda ctx: ctx.log("opened", path="a.pdf", size=3, ratio=math.nan, at=int, t=(1, 2))
    )
    assert events == [
        (
            "log",
            {
                "text": "opened",
                "fields": {
                    "path": "a.pdf",
                    "size": 3,
                    "ratio": "NaN",
                    "at": "<class 'int'>",
                    "t": [1, 2],
                },
            },
        )
    ]


@virtual_time
async def test_a_log_line_without_fields_has_none() -> None:
    """The shape is the same, so that a reader needs no case."""
    assert await watched(lambda ctx: ctx.log("x")) == [("log", {"text": "x", "fields": {}})]


class Unshowable:
    """Something with a repr that raises."""

    def __repr__(self) -> str:
        raise LookupError("no repr")


@pytest.mark.parametrize(
    ("field", "kept"),
    [
        ("x" * 20_000, "20008 bytes of fields"),
        (Unshowable(), "fields that can't be JSON: "),
    ],
    ids=["too large", "hostile"],
)
@virtual_time
async def test_t13_fields_that_can_not_be_kept_are_left_out(field: object, kept: str) -> None:
    """T13: a log line never fails its job, and never fills the memory; the line itself stays."""
    ((_, data),) = await watched(lambda ctx: ctx.log("opened", x=field))
    assert data["text"] == "opened"
    assert data["fields"]["left_out"].startswith(kept)


@virtual_time
async def test_emitted_text_is_output() -> None:
    """An agent's tokens are streamed, and replayed to who comes late."""
    assert await watched(both(lambda ctx: ctx.emit("to"), lambda ctx: ctx.emit("ken"))) == [
        ("output", {"stream": "text", "text": "to"}),
        ("output", {"stream": "text", "text": "ken"}),
    ]


@virtual_time
async def test_a_long_line_loses_its_middle() -> None:
    """Q10: one call can't fill the memory; the start and the end say the most."""
    ((_, data),) = await watched(lambda ctx: ctx.log("x" * 100_000))
    marker = "\n... 83616 characters left out ...\n"
    assert data["text"] == "x" * 8_192 + marker + "x" * 8_192


@virtual_time
async def test_a_long_piece_of_output_comes_in_several() -> None:
    """A model that doesn't stream answers at once, and nobody wants that without its middle."""
    text = "".join(f"{number:05} " for number in range(10_000))
    pieces = [data["text"] for _, data in await watched(lambda ctx: ctx.emit(text))]
    assert ([len(piece) for piece in pieces], "".join(pieces)) == ([16_384] * 3 + [10_848], text)


@virtual_time
async def test_output_has_a_channel() -> None:
    """What a model thinks is told apart from what it answers, by who watches."""
    assert await watched(lambda ctx: ctx.emit("hm", channel="reasoning")) == [
        ("output", {"stream": "reasoning", "text": "hm"})
    ]


@pytest.mark.parametrize("channel", ["", "x" * 65, "a\nb", 7, None])
@virtual_time
async def test_a_channel_is_a_short_name(channel: Any) -> None:
    """It stands beside every piece, and in a page."""
    with pytest.raises(JobFailed, match="it must be 1 to 64 printable characters"):
        await ran(lambda ctx: ctx.emit("x", channel=channel))


@pytest.mark.parametrize(("value", "text"), [
    ({"tool": "search", "n": 1}, '{"tool":"search","n":1}'),
    ([1, None], "[1,null]"),
    (True, "true"),
    (None, "null"),
    (float("nan"), "null"),
    (Step(1, 2), "[1,2]"),
    ({1: {2}}, '{"1":[2]}'),
    ("x" * 20_000, None),
])  # fmt: skip
@virtual_time
async def test_a_value_is_emitted_as_json(value: Any, text: str | None) -> None:
    """A step of an agent is more than text; it comes whole, in one event."""
    value = value if text else {"long": value}
    text = text or '{"left_out":"20011 bytes"}'
    assert await watched(lambda ctx: ctx.emit(value, channel="steps")) == [
        ("output", {"stream": "steps", "text": text, "json": True})
    ]


@virtual_time
async def test_what_was_emitted_is_the_event_s_value() -> None:
    """In Python nobody has to parse, or to look which of the two it is."""
    job = await ran(both(lambda ctx: ctx.emit({"a": [1]}), lambda ctx: ctx.emit("b")))
    assert [event.value async for event in job.events()] == [None, None, {"a": [1]}, "b", None]


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


@pytest.mark.parametrize("value", [10**5_000, nested(220)], ids=["long", "deep"])
@virtual_time
async def test_a_value_that_nobody_could_read_is_left_out(value: Any) -> None:
    """Its JSON can be written; whoever asked for the event's value would get an error."""
    job = await ran(lambda ctx: ctx.emit({"found": value}))
    (said,) = [event.value async for event in job.events() if event.type == "output"]
    assert said["left_out"].startswith("a value that can't be JSON: ")


@virtual_time
async def test_t13_a_hostile_value_is_left_out() -> None:
    """Output fails no job, whatever is in it."""

    class Hostile:
        def __repr__(self) -> str:
            raise LookupError("no text")

    ((_, data),) = await watched(lambda ctx: ctx.emit(Hostile()))
    assert data["text"].startswith('{"left_out":"a value that can\'t be JSON: ')


@virtual_time
async def test_an_empty_piece_is_no_event() -> None:
    """A stream of a model begins and ends with some; q10: what weighs nothing is never counted."""
    assert await watched(lambda ctx: ctx.emit("")) == []


@virtual_time
async def test_text_that_is_no_text_is_taken_as_one() -> None:
    """A handler may emit a number, and text that UTF-8 can't hold is made to fit."""
    odd: Any = 7
    events = await watched(both(lambda ctx: ctx.emit(odd), lambda ctx: ctx.log("\ud800")))
    assert [data["text"] for _, data in events] == ["7", "?"]


@virtual_time
async def test_a_context_has_no_effect_when_its_attempt_has_ended() -> None:
    """P9: what a task left behind calls later can't follow the end of the job."""
    kept: list[JobContext] = []
    job = await ran(kept.append)
    before = job.view()
    kept[0].progress(50, "late")
    kept[0].emit("late")
    kept[0].log("late")
    assert job.view() == before


@virtual_time
async def test_a_stopped_attempt_can_see_it() -> None:
    """A coroutine that protects its last step looks here before it begins another."""
    runner = JobRunner(now=unix_now)
    seen: list[bool] = []

    @runner.job
    async def careful(ctx: JobContext) -> None:
        ctx.check_cancelled()
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            seen.append(ctx.cancel_requested)
            ctx.check_cancelled()

    async with runner:
        job = await runner.submit(careful)
        await asyncio.sleep(1.0)
        await job.cancel()
        view = await job.wait()
    assert (view.status, seen) == ("cancelled", [True])


async def test_a_command_streams_its_output_and_keeps_it() -> None:
    """A watcher sees the lines as they come; the handler gets them with the exit code."""
    runner = JobRunner()

    @runner.job
    async def build(ctx: JobContext, target: str) -> int:
        result = await ctx.run_command(
            'sh -c \'echo "$target"; echo "$MODE" >&2; exit 3\'',
            params={"target": target},
            env={"MODE": "fast"},
        )
        assert (result.stdout, result.stderr) == ("a; b\n", "fast\n")
        return result.exit_code

    async with runner:
        job = await runner.submit(build, {"target": "a; b"})
        assert await job.result() == 3
        events = [event async for event in job.events()]
    assert sorted(_output(events)) == [("stderr", "fast\n"), ("stdout", "a; b\n")]


def _output(events: list[Event]) -> list[tuple[str, str]]:
    return [(e.data["stream"], e.data["text"]) for e in events if e.type == "output"]


async def test_a_shell_command_reads_its_params_from_the_environment(tmp_path: Path) -> None:
    """P7: pipes and redirections are written by the author, values come in as values."""
    runner = JobRunner()

    @runner.job
    async def shout(ctx: JobContext, text: str) -> str:
        command = 'printf %s "$text" | tr a-z A-Z'
        done = await ctx.run_command(command, params={"text": text}, shell=True, cwd=tmp_path)
        return done.stdout

    async with runner:
        job = await runner.submit(shout, {"text": "$(touch pwned)"})
        assert await job.result() == "$(TOUCH PWNED)"


async def test_the_lines_of_a_command_can_be_read_as_they_come() -> None:
    """A test runner says how far it is in its output, and the last line may have no end."""
    runner = JobRunner()
    lines: list[tuple[str, str]] = []

    @runner.job
    async def check(ctx: JobContext) -> str:
        command = "printf 'one\\r\\ntw'; printf 'o\\nthree'"
        done = await ctx.run_command(
            command, shell=True, on_line=lambda stream, line: lines.append((stream, line))
        )
        return done.stdout

    async with runner:
        assert await (await runner.submit(check)).result() == "one\r\ntwo\nthree"
    assert lines == [("stdout", "one"), ("stdout", "two"), ("stdout", "three")]


async def test_a_command_can_fail_its_job() -> None:
    """With `check`, an exit code is a failure like any other, and its message says which."""
    runner = JobRunner()

    @runner.job
    async def check(ctx: JobContext) -> None:
        await ctx.run_command(["sh", "-c", "exit 4"], check=True)

    async with runner:
        view = await (await runner.submit(check)).wait()
    assert view.error is not None
    assert (view.error.type, view.error.title) == (
        "CommandFailed",
        "sh -c 'exit 4' ended with exit code 4",
    )


@virtual_time
async def test_fields_of_a_log_line_are_bounded() -> None:
    """A handler that logs its whole document must not fill the memory with it (Q10)."""
    runner = JobRunner(now=unix_now, watchdog=None)

    @runner.job
    async def chatter(ctx: JobContext) -> None:
        ctx.log("small", n=1)
        ctx.log("large", document="x" * 20_000)

    async with runner:
        job = await runner.submit(chatter)
        logged = [event.data async for event in job.events() if event.type == "log"]
    assert logged == [
        {"text": "small", "fields": {"n": 1}},
        {"text": "large", "fields": {"left_out": "20015 bytes of fields"}},
    ]


@virtual_time
async def test_a_field_of_a_log_line_may_be_called_message() -> None:
    """Whatever an author calls their fields, the line is kept."""
    runner = JobRunner(now=unix_now, watchdog=None)

    @runner.job
    async def chatter(ctx: JobContext) -> None:
        ctx.log("said", message="hello", self=1)

    async with runner:
        job = await runner.submit(chatter)
        (line,) = [event.data async for event in job.events() if event.type == "log"]
    assert line == {"text": "said", "fields": {"message": "hello", "self": 1}}
