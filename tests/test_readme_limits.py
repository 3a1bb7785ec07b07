"""The README's table of limits and defaults says what the code does, and leaves nothing out."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from jobrunner import JobRunner, Limits, Retention, RetryPolicy, Webhooks
from jobrunner.client import JobClient, SyncJobClient
from jobrunner.couriers import AT_ONCE, MAX_BYTES, MAX_UNDER_WAY
from jobrunner.failures import Failures
from jobrunner.hosts import BREAK_AFTER, BREAK_FOR, PER_HOST
from jobrunner.options import JobOptions, TypeOptions
from jobrunner.output import KEEP_OUTPUT, MAX_LINE
from jobrunner.partial import MAX_PARTIAL
from jobrunner.queue import MAX_PRIORITY
from jobrunner.said import MAX_TEXT
from jobrunner.server import Server
from jobrunner.submit_options import SubmitOptions
from jobrunner.web import create_app
from jobrunner.web.api import MAX_WAIT
from jobrunner.web.body import MAX_BODY, MAX_READ
from jobrunner.web.security import MAX_HEADERS
from jobrunner.web.streams import HEARTBEAT
from jobrunner.webhooks import MAX_BODY as MAX_WEBHOOK
from jobrunner.webhooks import new_secret
from tests.readme import README
from tests.tabled import each_of

SECTION = README[README.index("### Limits and defaults") :].partition("\n## ")[0]
ROWS = re.findall(r"^\| ([^*|\n][^|]*) \| ([^|]+) \| ([^|]+) \|$", SECTION, re.MULTILINE)[2:]
FIXED: dict[str, Any] = {
    "a long poll": float(MAX_WAIT),
    "silence of a stream before a comment": HEARTBEAT,
    "`on_failure`": inspect.signature(Failures).parameters["timeout"].default,
    "characters of a piece of output, or of a log line": MAX_TEXT,
    "characters of output in a command's result": KEEP_OUTPUT,
    "characters of `partial`": MAX_PARTIAL,
    "body of a request": MAX_BODY,
    "headers of a request": MAX_HEADERS,
    "tries at once": AT_ONCE,
    "deliveries under way": MAX_UNDER_WAY,
    "failures in a row that close a host for half a minute": BREAK_AFTER,
    "body, before it goes without the result": MAX_WEBHOOK,
}
"""What can't be chosen, by what the table calls it."""
UNLIKE: dict[str, Any] = {
    "JobRunner(retry=)": inspect.signature(JobRunner).parameters["retry"].default.max_attempts,
    "submit(priority=)": MAX_PRIORITY,
    "submit(max_wait=)": 0.0,
}
"""Where the default stands elsewhere, or the bound isn't the default."""
NO_LIMITS = {
    JobRunner: {"on_failure", "retention", "limits", "webhooks", "now", "seed", "capture_logs"},
    RetryPolicy: {"retry_on", "give_up_on", "retry_if", "_logged"},
    Webhooks: {"secret", "url", "allow_private", "resolve", "transport"},
    JobOptions: {"concurrency_key", "on_duplicate", "engine", "on_failure", "webhook_url",
                 "description", "capture_logs"},
    SubmitOptions: {"delay", "run_at", "owner", "session_id", "batch_id", "idempotency_key",
                    "concurrency_key", "on_duplicate", "webhook_url", "metadata", "traceparent"},
}  # fmt: skip
"""Options that are neither a bound nor a duration."""


def parameters(of: Callable[..., Any]) -> dict[str, Any]:
    return {name: each.default for name, each in inspect.signature(of).parameters.items()}


def fields(of: Any) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(of)}


OPTIONS: dict[str, dict[str, Any]] = {
    "JobRunner": parameters(JobRunner),
    "Limits": fields(Limits),
    "Retention": fields(Retention),
    "RetryPolicy": fields(RetryPolicy),
    "Webhooks": fields(Webhooks),
    "job": fields(TypeOptions),
    "submit": dict.fromkeys(SubmitOptions.__annotations__),
    "create_app": parameters(create_app),
    "JobClient": parameters(JobClient),
}


def texts(value: Any) -> set[str]:
    """Return the ways in which a value may be written."""
    if value is None:
        return {"no limit"}
    if isinstance(value, tuple):
        return {", ".join(f"{each:g}" for each in value)}
    return {f"{value:,}", f"{value:g}", f"{value:,g} s"} | (
        {f"{value // 1024} kB"} if value % 1024 == 0 and value < 2**20 else set()
    ) | ({f"{value // 2**20} MB"} if value and value % 2**20 == 0 else set())  # fmt: skip


def default_of(what: str, where: str) -> Any:
    """Return the default of a row, from the first option that it names."""
    found = re.match(r"`(\w+)\((\w+)=\)`", where)
    if found is None:
        assert where.startswith("fixed"), f"{what}: name an option, or say `fixed`"
        return FIXED[what]
    written = found[0].strip("`")
    return UNLIKE[written] if written in UNLIKE else OPTIONS[found[1]][found[2]]


@each_of(ROWS)
def test_a_row_states_the_default(what: str, stated: str, where: str) -> None:
    """A table that is wrong is worse than none."""
    assert stated in texts(default_of(what, where))
    for owner, option in re.findall(r"`(\w+)\((\w+)=\)`", where):
        assert option in OPTIONS[owner], f"{owner} has no option {option}"


@pytest.mark.parametrize("owner", ["Limits", "Retention", "RetryPolicy", "Webhooks", "JobRunner"])
def test_no_bound_is_left_out(owner: str) -> None:
    """A bound that isn't in the table is met by a reader who didn't know of it."""
    without = {kind.__name__: names for kind, names in NO_LIMITS.items()}.get(owner, set())
    named = set(re.findall(rf"`{owner}\((\w+)=\)`", SECTION))
    assert OPTIONS[owner].keys() - without - named == set(), "add a row to the README's table"


@pytest.mark.parametrize(("verb", "options"), [("job", JobOptions), ("submit", SubmitOptions)])
def test_no_limit_of_a_type_or_a_job_is_left_out(verb: str, options: type) -> None:
    """So that the page is enough to know what can be limited."""
    named = set(re.findall(rf"`{verb}\((\w+)=\)`", SECTION))
    assert options.__annotations__.keys() - NO_LIMITS[options] - named == set()


@pytest.mark.parametrize("options", [JobOptions, SubmitOptions])
def test_every_option_is_named(options: type) -> None:
    """What isn't on the page isn't found."""
    assert [name for name in options.__annotations__ if not re.search(rf"\b{name}\b", README)] == []


def test_the_bounds_in_the_text_are_the_bounds() -> None:
    """What stands beside the table, in words."""
    assert (MAX_LINE, MAX_READ, BREAK_FOR) == (MAX_TEXT, 30.0, 30.0)
    assert (PER_HOST, MAX_BYTES) == (4, 2**26)
    assert Webhooks(new_secret()).schedule == OPTIONS["Webhooks"]["schedule"]
    assert (
        inspect.signature(Server).parameters["max_streams"].default
        == (OPTIONS["create_app"]["max_streams"])
    )
    same = ("timeout", "retry_for")
    assert all(parameters(SyncJobClient)[name] == OPTIONS["JobClient"][name] for name in same)
    limits, kept = Limits(), Retention()
    for text in (
        f"up to {limits.max_pending:,} or {limits.max_live_bytes // 2**20} MB of params",
        f"{limits.max_events:,} events or {limits.max_text // 10**6} MB more",
        f"{OPTIONS['create_app']['max_streams']:,} streams are open",
        f"past {kept.max_jobs:,} or past {(kept.max_bytes or 0) // 2**20} MB",
        f"after {OPTIONS['JobRunner']['watchdog']:g} s the log names",
        f"After {HEARTBEAT:g} s of silence",
    ):
        assert text in README
    stop = OPTIONS["JobRunner"]["shutdown_timeout"] + 3 * OPTIONS["JobRunner"]["cancel_grace"] + 1
    assert f"a stop takes at most {stop:g} s" in README
