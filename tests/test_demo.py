"""The demo: what it says is what happens, to real tests and real documents."""

import io
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from jobrunner import JobRunner
from jobrunner.demo import SUITE, analyse_document, demo_server, make_runner, run_demo


async def demo() -> str:
    said = io.StringIO()
    console = Console(file=said, width=120, force_terminal=False)
    await run_demo(console, demo_server(0), keep=False)
    return said.getvalue()


@pytest.mark.slow
async def test_the_demo_shows_a_conversation_and_a_batch() -> None:
    """The five minutes in which somebody decides: each number in it is counted from a real run."""
    said = await demo()
    assert "run the full test suite" in said
    assert re.search(r"POST /jobs run_tests -> 202 in \d+ ms", said)
    assert re.search(r"Not yet: \d+ of 49 have run\.", said)
    assert "Done: 47 passed, 2 failed." in said
    failed = re.search(r"What failed: (.*)\.", said)
    assert failed is not None and len(failed[1].split(", ")) == 2
    assert "Analysed 50 documents" in said


@pytest.mark.slow
@pytest.mark.parametrize("with_pytest", [True, False])
async def test_the_suite_runs_with_and_without_pytest(
    with_pytest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pip install` brings no pytest; unittest finds the same two failures."""
    if not with_pytest:
        monkeypatch.setitem(sys.modules, "pytest", None)
    async with make_runner() as runner:
        report = await (await runner.submit("run_tests")).result()
    assert (report.passed, sorted(report.failures)) == (47, FAILURES)
    assert report.seconds > 0


FAILURES = ["test_04_is_IV", "test_1d_is_86400"]


def test_the_suite_is_a_test_suite_like_any_other() -> None:
    """Its files are in the package: without them the demo would have nothing to run."""
    assert sorted(path.name for path in SUITE.glob("*.py")) == ["test_vault.py", "vault.py"]


@pytest.mark.parametrize(
    ("text", "words", "commonest"),
    [("some words and some more", 4, "some"), ("", 0, ""), ("a b c", 0, "")],
)
def test_a_document_is_analysed(tmp_path: Path, text: str, words: int, commonest: str) -> None:
    """Also an empty one, and one without a word that counts."""
    path = tmp_path / "a.txt"
    path.write_text(text)
    analysis = analyse_document(str(path))
    assert (analysis.document, analysis.words, analysis.commonest) == ("a.txt", words, commonest)


def test_the_demo_s_runner_has_its_two_types() -> None:
    """Whoever keeps it serving can submit them."""
    runner: JobRunner = make_runner()
    assert [t.name for t in runner.job_types] == ["run_tests", "analyse_document"]
