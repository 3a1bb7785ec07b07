"""The commands that talk to a server: what they print in a pipe, and how they end."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner.stats_views import StatsView
from jobrunner.views import JobView
from tests.terminal import HARMLESS, HOSTILE, Terminal, terminal

UNKNOWN = "job_00000000000000000000000000000000"
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


@pytest.fixture(scope="module")
def served() -> Iterator[Terminal]:
    """One server for the file: each test has jobs of its own."""
    with terminal() as served:
        yield served


# Submit


def test_submit_prints_the_id_and_nothing_else(served: Terminal) -> None:
    """`ID=$(jobrunner submit ...)` is how scripts go on."""
    done = served("submit", "echo", "value=1")
    assert (done.code, done.err) == (0, "")
    assert served.result(done.out.strip()) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["text=1"], {"text": "1"}),
        (["text=true"], {"text": "true"}),
        (["text="], {"text": ""}),
        (["text=a=b"], {"text": "a=b"}),
        (["text=größer ☃"], {"text": "größer ☃"}),
        (["text={}"], {"text": "{}"}),
        (["text=x", "count=7"], {"text": "x", "count": 7}),
        (["text=x", "deep=yes"], {"text": "x", "deep": True}),
        (["text=x", "deep=false"], {"text": "x", "deep": False}),
        (["text=x", "names=a"], {"text": "x", "names": ["a"]}),
        (["text=x", "names=1", "names=b"], {"text": "x", "names": ["1", "b"]}),
        (["text=x", 'names=["a","b"]'], {"text": "x", "names": ["a", "b"]}),
        (["text=x", "names=null"], {"text": "x", "names": None}),
        (["text=x", "either=5"], {"text": "x", "either": 5}),
        (["text=x", "either=[5"], {"text": "x", "either": "[5"}),
        (["text=x", "either=[5]"], {"text": "x", "either": "[5]"}),
        (
            ["text=x", "options.approved=true", "options.where=production", "options.tags=t"],
            {"text": "x", "options": {"approved": True, "where": "production", "tags": ["t"]}},
        ),
        (
            ["text=x", 'options={"approved": true}', "options.tags=t"],
            {"text": "x", "options": {"approved": True, "tags": ["t"]}},
        ),
    ],
)
def test_a_value_is_what_its_type_wants(
    served: Terminal, words: list[str], expected: dict[str, Any]
) -> None:
    """Nobody quotes JSON strings in a shell; and `text=1` has to stay a text."""
    done = served("submit", "typed", *words, "--json")
    assert done.code == 0, done.err
    params = done.json["params"]
    assert {name: params[name] for name in expected if name != "options"} == {
        name: value for name, value in expected.items() if name != "options"
    }
    if "options" in expected:
        assert params["options"].items() >= expected["options"].items()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["text"], "'text' is no param; write it as key=value"),
        (["=x"], "'=x' is no param"),
        (["text=a", "text=b"], "'text' is given twice"),
        (["count=1"], "text: this param is missing"),
        (["text=x", "count=many"], "count: Input should be a valid integer"),
        (["text=x", "nothing=1"], "nothing"),
        (["text=x", "count=NaN"], "count: "),
        (["text=x", "count=1", "count.x=1"], "'count' has a value already"),
        (["text=x", "names=null", "names=a"], "'names' is given as null and with an item"),
        (["text=x", "options.approved=true", "options={}"], "'options' would undo 'options.app"),
    ],
)
def test_params_that_do_not_fit_are_refused(served: Terminal, words: list[str], says: str) -> None:
    """One line that names the param, and 2."""
    done = served("submit", "typed", *words)
    assert (done.code, done.out) == (2, "")
    assert says in done.err and done.err.count("\n") == 1


def test_params_come_from_a_file_and_from_stdin(served: Terminal, tmp_path: Path) -> None:
    """Large ones don't fit a command line; words go before what the file says."""
    file = tmp_path / "params.json"
    file.write_text('{"text": "from the file", "count": 3}')
    first = served("submit", "typed", "--params-file", str(file), "count=4", "--json").json
    second = served("submit", "typed", "--params-file", "-", "--json", stdin='{"text":"x"}').json
    assert (first["params"]["text"], first["params"]["count"]) == ("from the file", 4)
    assert second["params"]["text"] == "x"


@pytest.mark.parametrize(
    ("stdin", "says"), [("[1]", "has list"), ("{", "has no JSON"), ('{"a": NaN}', "NaN is no JSON")]
)
def test_a_file_that_has_no_params_is_refused(served: Terminal, stdin: str, says: str) -> None:
    """With what is in it instead."""
    done = served("submit", "typed", "--params-file", "-", stdin=stdin)
    assert (done.code, says in done.err) == (2, True)
    assert served("submit", "typed", "--params-file", "/no/such").code == 2


def test_submit_waits_for_the_result(served: Terminal) -> None:
    """Texts as they are, all else as JSON: what the next program in the pipe wants."""
    assert served("submit", "echo", "value=text", "--wait").out == "text\n"
    assert served("submit", "echo", 'value={"a": [1]}', "--wait").json == {"a": [1]}
    failed = served("submit", "fail", "message=no disk", "--wait")
    assert (failed.code, failed.out, "no disk" in failed.err) == (1, "", True)
    told = served("submit", "fail", "message=no disk", "--wait", "--json")
    assert (told.code, told.json["status"]) == (1, "failed")


def test_submit_waits_no_longer_than_told(served: Terminal) -> None:
    """124, as timeout(1) has it; the job goes on."""
    done = served("submit", "hold", "key=patience", "--wait-timeout", "0.01")
    assert (done.code, "it goes on" in done.err) == (124, True)
    served.open("patience")


def test_submit_passes_its_options_on(served: Terminal) -> None:
    """The same key gives the same job."""
    options = ["--priority", "7", "--session", "ada", "--timeout", "9", "--deadline", "90",
               "--delay", "3600", "--idempotency-key", "once", "--json"]  # fmt: skip
    job, same = (served("submit", "echo", *options).json for _ in range(2))
    found = job["priority"], job["session_id"], job["timeout"], job["job_id"]
    assert found == (7, "ada", 9.0, same["job_id"])
    assert job["run_at"] is not None and job["deadline_at"] is not None
    served("cancel", job["job_id"])


# Look


def test_a_job_is_the_wire_s_as_json(served: Terminal) -> None:
    """One shape everywhere; times with milliseconds and Z."""
    job_id = served.finished("echo", value="größer")
    done = served("show", job_id, "--json")
    assert done.out.isascii() and done.out.count("\n") == 1
    job = done.json
    assert list(job) == list(JobView.model_fields)
    assert (job["status"], job["result"]) == ("completed", "größer")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", job["finished_at"])


def test_a_job_is_shown_to_people(served: Terminal) -> None:
    """Its status, its params and its result, and no line about what it hasn't got."""
    shown = served("show", served.finished("echo", value={"a": 1})).out
    assert re.search(r"^status +completed$", shown, re.MULTILINE)
    assert 'params  {"value": {"a": 1}}\n' in shown
    assert 'result  {"a": 1}\n' in shown
    assert "error" not in shown and "session" not in shown


def test_a_bare_result_is_printed(served: Terminal) -> None:
    """For jq; a job without one is a failure."""
    assert served("show", served.finished("echo", value=[1]), "--result").json == [1]
    failed = served("show", served.finished("fail", message="no"), "--result")
    assert (failed.code, failed.out) == (1, "")


def test_a_list_in_a_pipe_has_tabs_and_is_not_cut(served: Terminal) -> None:
    """For cut and awk: one line a job, six fields, whatever the width."""
    job_id = served.finished("fail", message="x" * 150)
    done = served("list", "-n", "1", COLUMNS="40")
    row = done.out.removesuffix("\n").split("\t")
    assert row[:3] == [job_id, "fail", "failed"]
    assert row[5] == "x" * 150 and len(row) == 6


def test_a_list_goes_over_pages_and_obeys_filters(served: Terminal) -> None:
    """A page has 200 at most; nobody has to know."""
    for n in range(3):
        served.finished("say", texts=[str(n)])
    served.portal.call(_many, served)
    assert len(served("list", "--type", "steps", "--all").out.splitlines()) == 205
    assert len(served("list", "--type", "steps", "-n", "203", "--json").lines) == 203
    both = served("list", "--type", "say", "--status", "completed", "--json").lines
    assert {(job["type"], job["status"]) for job in both} == {("say", "completed")}
    assert served("list", "--session", "nobody").out == ""


async def _many(served: Terminal) -> None:
    for n in range(205):
        await served.bench.runner.submit("steps", {"key": str(n)}, delay=3_600.0)


def test_logs_are_what_the_job_has_said(served: Terminal) -> None:
    """As over HTTP, while it runs and afterwards."""
    job_id = served.held("logs", ["a\n", "b"])
    assert served("logs", job_id).out == "a\nb"
    said = [event["text"] for event in served("logs", job_id, "--json").lines]
    served.open("logs")
    assert said == ["a\n", "b"]
    assert served("logs", job_id, "--follow").out == "a\nb"


def test_followed_logs_are_the_same_as_those_of_the_server(served: Terminal) -> None:
    """Two ways to one text, log lines with their time in it."""
    job_id = served.finished("hostile")
    whole = served("logs", job_id)
    assert served("logs", job_id, "--follow") == whole
    assert re.search(r"^\d{4}-\S+Z \[bold\]x", whole.out, re.MULTILINE)


def test_types_are_shown_as_they_are_called(served: Terminal) -> None:
    """What somebody types next is `submit`."""
    shown = served("types").out
    assert "say(texts: [string])\n    Emit each text.\n" in shown
    assert "count: integer = 1, deep: boolean = false, names: [string] | null = null" in shown
    schema = served("types", "fail", "--json").json
    assert schema["params"]["required"] == ["message"]
    assert '"message"' in served("types", "fail").out
    assert served("types", "nothing").code == 2


def test_stats_are_the_server_s(served: Terminal) -> None:
    """In a pipe a name, a tab and a value."""
    assert list(served("stats", "--json").json) == list(StatsView.model_fields)
    rows = dict(line.split("\t") for line in served("stats").out.splitlines())
    assert (rows["state"], rows["workers"].endswith("of 50 busy")) == ("running", True)


# Watch


def test_watch_tells_a_job_s_story_in_lines(served: Terminal) -> None:
    """In a build's log: no bars, no control, and not a line for each percent."""
    job_id = served.finished("again")
    done = served("watch", job_id)
    retried = rf"{job_id} attempt 1 failed, next in \d\.\ds: busy\n"
    assert re.fullmatch(
        rf"{job_id} pending\n{job_id} running\n{job_id} 10% trying\n{retried}"
        rf'{job_id} running, attempt 2\n{job_id} 10% trying\n{job_id} completed: "at last"\n',
        done.out,
    )
    assert (done.code, done.err) == (0, "")


def test_watch_prints_output_as_it_came(served: Terminal) -> None:
    """Also when its last line has no end; what is told about the job begins a line of its own."""
    job_id = served.finished("say", texts=["a", "b\nc"])
    assert served("watch", job_id).out.endswith(f"ab\nc\n{job_id} completed: 2\n")


def test_watch_of_several_says_whose_line_it_is(served: Terminal) -> None:
    """Whole lines, each with its job's id; 1 as soon as one of them has failed."""
    one, two = served.finished("say", texts=["a", "b\nc"]), served.finished("fail", message="no")
    done = served("watch", one, two, one)
    assert done.code == 1
    said = [line for line in done.out.splitlines() if " | " in line]
    assert said == [f"{one} | ab", f"{one} | c"]
    assert f"{two} failed: no\n" in done.out


def test_watch_gives_events_as_json(served: Terminal) -> None:
    """The event stream's own fields, with the type beside them; the result in the last."""
    events = served("watch", served.finished("say", texts=["a"]), "--json").lines
    assert [event["type"] for event in events] == ["status", "status", "output", "done"]
    assert [event["seq"] for event in events] == [1, 2, 3, 4]
    assert (events[2]["text"], events[3]["result"]) == ("a", 1)


def test_submit_follows_as_watch_does(served: Terminal) -> None:
    """One command from the params to the end."""
    done = served("submit", "say", "texts=one", "--follow")
    assert done.code == 0
    assert re.search(r"^one\njob_\w+ completed: 1\n\Z", done.out, re.MULTILINE)


def test_too_many_jobs_are_not_watched_at_once(served: Terminal) -> None:
    """Each is a connection; a shell's `*` may be long."""
    done = served("watch", *(f"job_{n}" for n in range(101)))
    assert (done.code, "101 jobs" in done.err) == (2, True)


# Change


def test_cancel_says_what_became_of_each(served: Terminal) -> None:
    """A job that runs is asked to; one that waits or has ended is cancelled or what it was."""
    running, over = served.held("cancel"), served.finished("echo")
    done = served("cancel", running, over, "--note", "no need")
    assert done.out.splitlines()[1] == f"{over} completed"
    assert done.out.startswith(f"{running} ") and done.code == 0
    served("watch", running)
    assert "by user (no need)" in served("show", running).out


def test_one_that_can_not_be_changed_keeps_nobody_else(served: Terminal) -> None:
    """Each is told of, and the exit code is the highest: a script has named all that it means."""
    running, over = served.held("each"), served.finished("echo")
    done = served("retry", UNKNOWN, running, over)
    assert (done.code, len(done.out.split())) == (5, 1)
    unknown, live = done.err.splitlines()
    assert unknown.startswith(f"jobrunner: there is no job {UNKNOWN!r}") and running in live
    done = served("cancel", UNKNOWN, running)
    assert (done.code, done.err) == (4, f"{unknown}\n")
    assert done.out.startswith(f"{running} ")


def test_retry_runs_again_what_has_ended(served: Terminal) -> None:
    """Each by its id, or all that have failed of a type."""
    job_id = served.finished("fail", message="once")
    new = served("retry", job_id, "--json").json
    assert new["retry_of"] == job_id
    many = served("retry", "--failed", "--type", "fail")
    assert many.code == 0 and len(many.out.split()) >= 1
    assert served("retry").code == served("retry", job_id, "--failed").code == 2
    assert served("retry", job_id, "--type", "fail").code == 2
    none = served("retry", "--failed", "--type", "echo")
    assert (none.code, none.out, none.err) == (0, "", "jobrunner: no job has failed\n")


# Ends


ENDS: dict[str, tuple[list[str], int, str]] = {
    "an unknown job": (["show", UNKNOWN], 4, "there is no job"),
    "an unknown job to watch": (["watch", UNKNOWN], 4, "there is no job"),
    "logs of an unknown job": (["logs", "-f", UNKNOWN], 4, "there is no job"),
    "no id at all": (["show", "a b/../c"], 4, "there is no job 'a b/../c'"),
    "an id that drives terminals": (["cancel", "\x1b[2J\x9b"], 4, "there is no job"),
    "an unknown type": (["submit", "nothing"], 2, "`jobrunner types` lists them"),
    "an unknown type with params": (["submit", "nothing", "a=1"], 2, "no job type 'nothing'"),
    "an unknown status": (["list", "--status", "odd"], 2, "odd"),
    "no type": (["submit"], 2, "TYPE"),
    "a limit of nothing": (["list", "-n", "0"], 2, "--limit"),
    "an option that can't be": (["submit", "echo", "--priority", "1000"], 2, "priority"),
    "an odd URL": (["list", "--url", "example.com"], 2, "the server's URL is 'example.com'"),
    "a port that can't be": (["list", "--url", "http://[::1]:99999"], 2, "port is above 65535"),
    "a session that can't be": (["list", "--session", "\udcff"], 2, "'\\udcff'"),
    "a session to watch": (["list", "--watch", "--session", "\udcff"], 2, "'\\udcff'"),
    "a wrong token": (["list", "--token", "wrong"], 5, "JOBRUNNER_TOKEN"),
    "nobody there": (["stats", "--url", "http://127.0.0.1:1"], 3, "no answer from"),
}


@pytest.mark.parametrize(("arguments", "code", "says"), ENDS.values(), ids=ENDS)
@pytest.mark.slow  # the client is patient for two seconds with one that isn't there
def test_each_error_is_a_line_with_a_code(
    served: Terminal, arguments: list[str], code: int, says: str
) -> None:
    """A script tells them apart; a person reads what to do, and no traceback."""
    done = served(*arguments)
    assert (done.code, done.out) == (code, "")
    assert says in done.err and not CONTROLS.search(done.err)
    assert "Traceback" not in done.err


def test_what_the_state_forbids_is_told_apart_from_what_is_unknown(served: Terminal) -> None:
    """5: the job is there, and the request makes sense at another time."""
    job_id = served.held("state")
    assert served("retry", job_id).code == 5
    assert served("answer", job_id, "yes").code == 5
    served.open("state")


def test_a_result_that_is_waited_for_drives_no_terminal(served: Terminal) -> None:
    """It is printed as it is; as JSON it is whole."""
    text = served("submit", "hostile", "--wait")
    value = served("submit", "echo", f"value={json.dumps([HOSTILE])}", "--wait")
    assert text.out == f"{HARMLESS}\n"
    assert HARMLESS in value.out and not CONTROLS.search(value.out)


@pytest.mark.parametrize("given", ["show", "list", "logs", "watch", "types", "stats", "retry"])
def test_what_a_job_says_drives_no_terminal(served: Terminal, given: str) -> None:
    """Title, clipboard, cursor, links, direction: in messages, errors and results, too."""
    ids = [served.finished("hostile"), served.finished("hostile", fail=True)]
    for job_id in ids:
        arguments = [given, job_id] if given in ("show", "logs", "watch", "retry") else [given]
        done = served(*arguments)
        assert not CONTROLS.search(done.out + done.err)
        assert (HARMLESS in done.out) == (given not in ("types", "stats", "retry"))
    assert json.loads(served("show", ids[0], "--json").out)["result"] == HOSTILE
