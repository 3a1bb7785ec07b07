"""Tools that a person has to confirm before they run."""

from pathlib import Path
from typing import Any

import pytest

from jobrunner import JobRunner, JobView
from tests.tools_files import load, refused_tool, serving, shell, tool


async def asked(runner: JobRunner, params: dict[str, Any]) -> JobView:
    """Submit, and return the job once it asks."""
    job = await runner.submit("t", params)
    async for event in job.events():
        if event.type in ("question", "done"):
            break
    return job.view()


async def test_a_person_sees_the_values_and_says_yes(tmp_path: Path) -> None:
    """Nothing has run before, and time doesn't run out while somebody thinks."""
    done = tmp_path / "done"
    given = shell("cat > done; echo {{x}}", confirm=True,
                  script={"working_dir": str(tmp_path), "timeout": "30s"})  # fmt: skip
    async with serving(load(tmp_path, given)) as runner:
        view = await asked(runner, {"x": "a\u202eb"})
        assert view.question is not None
        assert view.question.prompt == 'Run t?\nx: "a\\u202eb"'
        assert not done.exists()
        await runner.answer(view.job_id, None, True)
        assert await runner.handle(view.job_id).result() == "a\u202eb"
    assert done.exists()


async def test_a_person_says_no(tmp_path: Path) -> None:
    """The job fails, for good, and says why."""
    given = shell("echo {{x}}", confirm=True)
    async with serving(load(tmp_path, given)) as runner:
        view = await asked(runner, {"x": "a"})
        await runner.answer(view.job_id, "q1", False)
        ended = await runner.handle(view.job_id).wait()
    assert ended.error is not None
    assert ended.error.type == "PermanentError"
    assert ended.error.detail == "t was not confirmed, and did not run"


@pytest.mark.parametrize("value", ["a" * 9_000, "\u200b" * 2_000], ids=["long", "hidden"])
async def test_what_is_too_long_to_be_judged_is_refused(value: str, tmp_path: Path) -> None:
    """Nobody can say yes to what they can't see whole; what hides is long once it is shown."""
    async with serving(load(tmp_path, shell("echo {{x}}", confirm=True))) as runner:
        ended = await asked(runner, {"x": value})
    assert ended.error is not None
    assert "too long to be confirmed" in ended.error.detail


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"shell": "{{x}}"}, "2"),
        ({"shell": "sh -c {{x}}"}, "2"),
        ({"command": "sh", "args": ["-c", "{{x}}"]}, "2"),
        ({"command": "sh", "stdin": "echo 2"}, "2"),
    ],
)
async def test_what_a_person_sees_whole_may_be_code(
    script: dict[str, str], said: str, tmp_path: Path
) -> None:
    """A tool that runs any command is of use when somebody looks at each."""
    async with serving(load(tmp_path, tool(script=script, confirm=True))) as runner:
        view = await asked(runner, {"x": "echo $((1 + 1))"})
        await runner.answer(view.job_id, None, True)
        assert await runner.handle(view.job_id).result() == said


@pytest.mark.parametrize(
    "script",
    [
        {"shell": "{{x}} now"}, {"shell": "sh -c 'ls {{x}}'"}, {"shell": "eval ls {{x}}"},
        {"shell": "ssh host ls {{x}}"}, {"command": "sh", "args": ["-c", "ls {{x}}"]},
        {"command": "ssh", "args": ["host", "ls", "{{x}}"]},
    ],
)  # fmt: skip
def test_a_part_of_code_stays_refused(script: dict[str, Any], tmp_path: Path) -> None:
    """A person sees the values, and not what becomes of them in the midst of code."""
    assert refused_tool(tmp_path, tool(script=script, confirm=True))
