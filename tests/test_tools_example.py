"""The files that a reader copies: the example, and the one in the README."""

import re
from pathlib import Path

from tests.test_tools_http import answer, server
from tests.tools_files import result_of

from jobrunner.tools.gantz import load_tools  # isort: skip  # it needs what the line above skips for

ROOT = Path(__file__).parent.parent


async def test_the_example_s_tools_do_what_they_say(tmp_path: Path) -> None:
    """A newcomer starts with it, and tries each of them."""
    async with server(answer(b'{"pages": [{"status": "well"}]}')) as there:
        environ = {"SITE": str(tmp_path), "SITE_API": there.url, "SITE_KEY": "k1"}
        file = load_tools(ROOT / "examples" / "gantz.yaml", environ=environ)
        page = {"name": "it's", "text": "a $(id)\nb\n  TEXT\nc"}
        assert await result_of(file, page, "write_page") == "7"
        assert await result_of(file, {"query": "$(id)"}, "search") == "./it's.md:3:a $(id)"
        assert await result_of(file, {"text": "a b"}, "count_words") == "2"
        assert await result_of(file, {"page": "a/b"}, "status") == "well"
    assert (tmp_path / "it's.md").read_text() == "# it's\n\na $(id)\nb\n  TEXT\nc\n"
    assert there.got[0].line == "GET /pages/a%2Fb?fields=status HTTP/1.1"
    assert there.got[0].header("authorization") == "Bearer k1"
    assert {tool.name: tool.confirm for tool in file.tools}["publish"]


def test_the_file_in_the_readme_is_one(tmp_path: Path) -> None:
    """What stands there has to work as it stands."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    path = tmp_path / "gantz.yaml"
    path.write_text(block, "utf-8")
    file = load_tools(path, environ=dict.fromkeys(["NOTES", "WEATHER_KEY", "DEPLOY_KEY"], "x"))
    assert [tool.name for tool in file.tools] == ["search", "weather", "deploy"]
