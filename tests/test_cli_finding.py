"""How the commands find their server: by its file, by a URL, or not at all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner.whereabouts import LeftBehind, Whereabouts
from tests.terminal import Terminal, terminal


@pytest.fixture(scope="module")
def served() -> Iterator[Terminal]:
    """One server for the file."""
    with terminal() as served:
        yield served


def test_without_a_server_it_says_how_to_get_one(served: Terminal) -> None:
    """The first thing that somebody sees who has started none."""
    done = served("list", JOBRUNNER_URL=None, JOBRUNNER_TOKEN=None)
    assert (done.code, "jobrunner serve" in done.err) == (3, True)


def test_the_server_is_found_by_its_file(served: Terminal, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Neither URL nor token have to be said; several are named, to choose from."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    url, token = served.bench.url, served.bench.token
    nobody: dict[str, Any] = {"JOBRUNNER_URL": None, "XDG_RUNTIME_DIR": str(tmp_path)}
    left = LeftBehind(Whereabouts(url, token, 1, "work:runner"))
    found = [served("stats", JOBRUNNER_TOKEN=given, **nobody).code for given in (None, "wrong")]
    other = LeftBehind(Whereabouts("http://127.0.0.1:1", None, 2, "other:runner"))
    several = served("stats", JOBRUNNER_TOKEN=None, **nobody)
    chosen = served("stats", "--url", f"{url}/", JOBRUNNER_TOKEN=None, **nobody)
    left.remove()
    other.remove()
    assert (found, chosen.code, several.code) == ([0, 0], 0, 3)
    assert f"{url} (work:runner, pid 1)" in several.err and "other:runner" in several.err


def test_a_url_may_carry_its_token(served: Terminal) -> None:
    """The one that `serve` has printed is copied as it stands."""
    url = f"{served.bench.url}/?token={served.bench.token}"
    assert served("stats", "--url", url, JOBRUNNER_TOKEN="wrong").code == 0
