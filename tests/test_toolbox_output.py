"""What jobs have to show to a model: results, output, errors; however long, whoever asks."""

import asyncio
import sys
from typing import Any

import pytest
from pydantic import SecretStr

from jobrunner import CommandResult, JobContext, JobRunner, Limits, RetryableError, RetryPolicy
from jobrunner.testing import virtual_time
from tests.runners import runner_with
from tests.tooled import Model


async def answer(runner: JobRunner, type: str, **params: Any) -> str:
    """Run a job to its end and return what is said of it."""
    async with runner:
        job = await runner.submit(type, params)
        await job.wait()
        return await runner.execute_tool("check_job_status", {"job_id": job.id})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two\nlines é", "two\nlines é"),
        ({"pages": 12, "name": "é"}, '{"pages":12,"name":"é"}'),
        ([1, None], "[1,null]"),
        (0, "0"),
        (False, "false"),
        ("", None),
        (None, None),
        ({"exit_code": 3, "other": "x"}, '{"exit_code":3,"other":"x"}'),
    ],
)
@virtual_time
async def test_a_result_reads_as_what_it_is(value: Any, shown: str | None) -> None:
    """Text as text, the rest as JSON: escapes cost tokens and hide lines."""
    runner = runner_with()

    @runner.job("give")
    async def give() -> Any:
        return value

    text = await answer(runner, "give")
    expected = "It returned nothing." if shown is None else f"<job_result>\n{shown}\n</job_result>"
    assert expected in text


@virtual_time
async def test_what_a_generator_has_yielded_is_what_it_has_to_show() -> None:
    """It returns nothing, and has said everything."""
    runner = runner_with()

    @runner.job("think")
    async def think(ctx: JobContext) -> Any:
        ctx.emit("hidden", channel="reasoning")
        yield "to "
        yield "be"

    assert "Its output:\n<job_output>\nto be\n</job_output>" in await answer(runner, "think")


@virtual_time
async def test_only_the_last_attempt_is_shown() -> None:
    """What the failed ones have written would be read as the answer."""
    runner = runner_with(retry=RetryPolicy(max_attempts=2))

    @runner.job("think")
    async def think(ctx: JobContext) -> None:
        ctx.emit(f"attempt {ctx.attempt}")
        if ctx.attempt == 1:
            raise RetryableError("busy")

    text = await answer(runner, "think")
    assert "<job_output>\nattempt 2\n</job_output>" in text


@pytest.mark.slow  # runs a command that writes 5 MB
async def test_five_megabytes_of_output_are_read_in_parts() -> None:
    """The result keeps 200,000 characters; the log has the rest, and an offset leads there."""
    runner = JobRunner(limits=Limits(max_result=500_000))
    code = "import sys\nfor n in range(500_000): print(f'{n:09}')\nsys.exit(1)"
    runner.command_job("run_tests", [sys.executable, "-c", code])
    async with runner:
        job = await runner.submit("run_tests")
        await job.wait()
        box = runner.toolbox()
        first = await box.call("get_job_result", {"job_id": job.id})
        assert len(first.text) < 9_000
        assert "with exit code 1" in first.text
        assert "000000000\n" in first.text and "000499999\n" in first.text
        middle = await box.call("get_job_result", {"job_id": job.id, "offset": 2_500_000})
        assert middle.data["total"] > 5_000_000
        assert (middle.data["offset"], len(middle.text) < 9_000) == (2_500_000, True)
        after = {"job_id": job.id, "offset": middle.data["next_offset"]}
        following = await box.call("get_job_result", after)
        assert int(following.data["text"].split()[0]) == int(middle.data["text"].split()[-1]) + 1


@virtual_time
async def test_what_is_lost_of_a_command_is_said_to_be() -> None:
    """Where the log has let go of output too, the result's own head and tail remain."""
    runner = runner_with(limits=Limits(max_text=100))

    @runner.job("run_tests")
    async def run_tests(ctx: JobContext) -> CommandResult:
        for n in range(200):
            ctx.emit(f"line {n}\n", channel="stdout")
        return CommandResult(0, "line 0\n... 9 characters left out ...\nline 199", "", 1.0, True)

    assert "line 0\n... 9 characters left out ...\nline 199" in await answer(runner, "run_tests")


@virtual_time
async def test_a_running_job_shows_the_end_of_its_output() -> None:
    """How far it is can often be read there alone."""
    runner = runner_with()

    @runner.job
    async def talk(ctx: JobContext) -> None:
        for n in range(1_000):
            ctx.emit(f"line {n}\n")
        await asyncio.sleep(60.0)

    async with runner:
        model = Model(runner)
        await model.calls("talk_background")
        await asyncio.sleep(1.0)
        text = await model.calls("check_job_status", job_id="job_1")
        assert "The last of its output:\n<job_output>\n" in text
        assert "line 999\n</job_output>" in text and len(text) < 1_600
        part = await model.calls("get_job_result", job_id="job_1", offset=9)
        assert "Characters 9 to 8" in part


@virtual_time
async def test_secrets_are_masked_as_everywhere() -> None:
    """A model's provider keeps what it reads."""
    runner = runner_with()

    @runner.job
    async def login(token: SecretStr, password: str, n: int) -> None: ...

    async with runner:
        model = Model(runner)
        sent = {"token": "s3cret", "password": "s3cret", "n": "s3cret"}
        said = [await model.calls("login_background", sent)]
        said += [await model.calls("login_background", sent | {"n": 1})]
        said += [await model.calls("wait_for_jobs", job_ids=["job_1"])]
        said += [str((await runner.toolbox().call("list_jobs")).data), str(runner.tools("mcp"))]
    assert [text for text in said if "s3cret" in text] == []


@virtual_time
async def test_many_jobs_share_the_room() -> None:
    """Fifty results in one answer must not be fifty long ones."""
    runner = runner_with(workers=50)

    @runner.job
    async def dump(n: int) -> str:
        return f"{n}" * 5_000

    async with runner:
        handles = [await runner.submit(dump, {"n": n}) for n in range(50)]
        ids = [handle.id for handle in handles]
        text = await runner.execute_tool("wait_for_jobs", {"job_ids": ids})
    assert len(text) < 40_000
    assert all(f"Job {job_id} (dump) has completed" in text for job_id in ids)


@virtual_time
async def test_what_a_job_asks_is_shown_whole_or_not_at_all() -> None:
    """Cut, it could leave out what is decided; where there is no room, a call leads to it."""
    runner, prompt = runner_with(), "Run make; " + "a" * 5_000 + "; rm -r / ;" + "b" * 5_000

    @runner.job
    async def confirm(ctx: JobContext) -> bool:
        return await ctx.ask(prompt, schema=bool)

    async with runner:
        model = Model(runner)
        for _ in range(2):
            await model.calls("confirm_background")
        both = await model.calls("wait_for_jobs", job_ids=["job_1", "job_2"])
        one = await model.calls("check_job_status", job_id="job_2")
    assert f"It asks q1:\n<job_question>\n{prompt}\n</job_question>\n" in one
    assert f'It asks q1: {len(prompt)} characters, which check_job_status(job_id="job_2")' in both
    assert "Run make" not in both


@virtual_time
async def test_structured_answers_have_the_names_that_a_job_has_everywhere() -> None:
    """A program reads these; a short result is among them."""
    runner = runner_with(seed=1)

    @runner.job
    async def double(n: int) -> dict[str, int]:
        return {"twice": 2 * n}

    async with runner:
        box = runner.toolbox(max_chars=50)
        started = await box.call("double_background", {"n": 4})
        job_id = started.data["job_id"]
        assert started == (
            started.text,
            {"job_id": job_id, "type": "double", "status": "pending", "progress": 0,
             "retry_after": 1.0, "outcome": "created"},
            False,
        )  # fmt: skip
        waited = await box.call("wait_for_jobs", {"job_ids": [job_id]})
        done = {"job_id": job_id, "type": "double", "status": "completed", "progress": 100,
                "result": {"twice": 8}}  # fmt: skip
        assert waited.data == {"jobs": [done]}
        assert (await box.call("check_job_status", {"job_id": job_id})).data == done
        assert (await box.call("list_jobs")).data == {"jobs": [
            {name: value for name, value in done.items() if name != "result"}]}  # fmt: skip
        unknown = await box.call("cancel_job", {"job_id": "job_0"})
        assert (unknown.is_error, unknown.data["error"]["code"]) == (True, "job-not-found")
