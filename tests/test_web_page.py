"""The page: text only, its own files only, and nothing that a job says is ever markup."""

import re
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest

import jobrunner
from jobrunner import JobRunner
from jobrunner.web import create_app
from tests.serving import in_process

STATIC = Path(jobrunner.__file__).parent / "web" / "static"
SCRIPTS = sorted(STATIC.glob("*.js"))
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


async def page(root_path: str = "") -> httpx2.Response:
    app = create_app(JobRunner(), auth=None)
    transport = httpx2.ASGITransport(app=app, root_path=root_path)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(f"{root_path}/")


async def test_the_page_may_load_its_own_files_and_nothing_else() -> None:
    """A job's output that found its way into the page as markup could still do nothing."""
    headers = (await page()).headers
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-security-policy"] == CSP
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


async def test_the_page_has_no_inline_script_or_style() -> None:
    """The policy would forbid it, and the page would be dead."""
    html = (await page()).text
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", html) == []


async def test_every_file_that_the_page_names_is_there() -> None:
    """The package may be built without its static files; this is where one would notice."""
    async with in_process() as served:
        html = (await served.client.get("/")).text
        names = re.findall(r'<(?:script|link)[^>]*?(?:src|href)="([^"]+)"', html)
        files = [await served.client.get(name) for name in names]
    assert sorted(names) == ["/static/icon.svg", "/static/page.css", "/static/page.js"]
    kinds = sorted(file.headers["content-type"].partition(";")[0] for file in files)
    assert kinds == ["image/svg+xml", "text/css", "text/javascript"]


async def test_every_module_that_another_one_imports_is_there() -> None:
    """A page that lacks one of its modules does nothing at all."""
    async with in_process() as served:
        for script in SCRIPTS:
            for name in re.findall(r' from "\./([^"]+)"', script.read_text("utf-8")):
                answer = await served.client.get(f"/static/{name}")
                kind = answer.headers["content-type"]
                assert (answer.status_code, kind) == (200, "text/javascript; charset=utf-8")


@pytest.mark.parametrize("prefix", ["", "/api", "/a/b c"])
async def test_the_page_knows_where_it_is_mounted(prefix: str) -> None:
    """Its files and its requests go where it came from."""
    html = (await page(prefix)).text
    assert re.findall(r'data-base="([^"]*)"', html) == [f"{quote(prefix)}/"]


async def test_a_prefix_cannot_break_out_of_its_attribute() -> None:
    """A prefix may come from a proxy's header, and so from anybody."""
    html = (await page('/"><script>alert(1)</script>')).text
    assert "<script>alert" not in html


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_no_script_makes_markup_of_data(script: Path) -> None:
    """What a job says is set as text; there is no other way in these files."""
    found = re.findall(
        r"innerHTML|outerHTML|insertAdjacent|createContextualFragment|document\.write|DOMParser"
        r"|srcdoc|\beval\b|Function\(|import\(|setAttribute\(.on|javascript:|https?://(?!www\.w3\.org/2000/svg)",
        script.read_text("utf-8"),
    )
    assert found == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_is_one_subject(script: Path) -> None:
    """The house's measure for files and lines holds for these too."""
    lines = script.read_text("utf-8").splitlines()
    assert len(lines) < 300
    assert [line for line in lines if len(line) > 100 and "/g;" not in line] == []
    assert lines[0].startswith("// ")
