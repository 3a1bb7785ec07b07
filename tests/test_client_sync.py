"""The client without asyncio: in scripts, in threads, beside a running loop, and after Ctrl-C."""

import io
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, NamedTuple

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from rich.console import Console

from jobrunner import InvalidOption, JobFailed, JobNotFound, UsageError
from jobrunner.client import Progress, SyncJobClient, progress_bar
from tests.cutting import Proxy, cutting
from tests.serving import GONE_ON, Bench, bench


class Elsewhere(NamedTuple):
    """A server in a thread of its own, and a client of it."""

    portal: BlockingPortal
    bench: Bench
    client: SyncJobClient
    proxy: Proxy
    """What the client's connections go through."""

    def open(self, gate: str) -> None:
        """Let a handler go on."""
        self.portal.call(self.bench.gates[gate].set)

    def reached(self, gate: str) -> None:
        """Wait until a handler is at its gate."""
        self.portal.call(self.bench.gates[f"{gate} reached"].wait)


@pytest.fixture(scope="module")
def there() -> Iterator[Elsewhere]:
    """One server for the file: each test has jobs of its own."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(bench(workers=20)) as served,
        portal.wrap_async_context_manager(cutting(served.url)) as proxy,
        SyncJobClient(proxy.url, token=served.token) as client,
    ):
        yield Elsewhere(portal, served, client, proxy)


def test_the_verbs_wait_for_their_answers(there: Elsewhere) -> None:
    """Each of them, with the same views and errors as the other client's."""
    client = there.client
    job = client.submit("echo", {"value": 1})
    assert (job.result(), job.outcome, repr(job)) == (1, "created", f"<SyncRemoteJob {job.id}>")
    assert job.wait() == job.get() == client.get(job.id) == client.get(job.id, wait=1)
    assert client.submit_and_wait("echo", {"value": 2}) == 2
    assert job.id in [found.job_id for found in client.list().jobs]
    assert [ended.job_id for ended in client.wait([job.id]).done] == [job.id]
    assert job.retry().result() == 1
    assert job.cancel("late").status == "completed"
    job.forget()
    failed = client.handle(client.submit("fail", {"message": "no"}).id)
    with pytest.raises(JobFailed, match="no"):
        failed.result()
    assert failed.id in [new.wait().retry_of for new in client.retry_failed("fail")]
    with pytest.raises(JobNotFound):
        client.get("job_never")
    assert (client.unready(), len(client.types())) == (None, 5)
    assert repr(client) == f"<SyncJobClient {there.proxy.url}/>"


def test_events_are_iterated(there: Elsewhere) -> None:
    """To the end, from a number, or until somebody has seen enough."""
    job = there.client.submit("say", {"texts": ["a", "b"]})
    assert [event.seq for event in job.events()] == [1, 2, 3, 4, 5]
    assert [event.seq for event in job.events(after=4)] == [5]
    held = there.client.submit("hold", {"key": "seen", "say": ["a"]})
    there.reached("seen")
    before = there.proxy.open
    for event in held.events():
        if event.type == "output":
            break
    there.portal.call(there.proxy.until_open, before - 1)  # its connection is closed
    there.open("seen")
    assert held.result() == "seen"


def test_a_timeout_is_a_timeout(there: Elsewhere) -> None:
    """The job goes on."""
    job = there.client.submit("hold", {"key": "slow"})
    with pytest.raises(TimeoutError, match="it goes on"):
        job.wait(timeout=0.01)
    there.open("slow")
    assert job.result() == "slow"


def test_progress_is_called_back_where_the_caller_is(there: Elsewhere) -> None:
    """In the same thread, so that a callback may touch what belongs to it."""
    told: list[tuple[str, Progress]] = []

    def tell(now: Progress) -> None:
        told.append((threading.current_thread().name, now))
        there.open("progress")

    there.client.submit("steps", {"key": "progress"}).wait(on_progress=tell)
    me = threading.current_thread().name
    assert told == [
        (me, Progress(25.0, "first", 1, 4)),
        (me, Progress(100.0, "first", 1, 4)),
    ]


def test_a_callback_that_raises_ends_the_wait(there: Elsewhere) -> None:
    """And closes its stream."""
    job = there.client.submit("steps", {"key": "raises"})
    with pytest.raises(ZeroDivisionError):
        job.wait(on_progress=lambda now: 1 / 0)
    there.open("raises")
    assert job.wait().status == "completed"


def test_a_bar_shows_the_progress(there: Elsewhere) -> None:
    """With the job's own words, which are no markup."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with progress_bar("[waiting]", console=console) as move:
        there.client.submit_and_wait("echo", on_progress=move)
        move(Progress(40.0, "[bold]half[/bold]", None, None))
    assert "[bold]half[/bold]" in out.getvalue()
    assert "40%" in out.getvalue()


def test_a_bar_without_rich_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has only the base package is told what to install."""
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(InvalidOption, match=r"agent-jobrunner\[cli\]"), progress_bar():
        pass


def test_threads_share_a_client(there: Elsewhere) -> None:
    """Each call is its own; none waits for another."""
    with ThreadPoolExecutor(16) as pool:
        values = [{"value": n} for n in range(64)]
        results = list(pool.map(lambda v: there.client.submit_and_wait("echo", v), values))
    assert results == list(range(64))


async def test_it_works_where_a_loop_runs(there: Elsewhere) -> None:
    """As in a notebook: the loop stands still for the time of the call."""
    assert there.client.submit_and_wait("echo", {"value": "notebook"}) == "notebook"


def test_closing_twice_is_no_error_and_nothing_is_left(there: Elsewhere) -> None:
    """No thread, no connection; who calls on is told."""
    before = set(threading.enumerate())
    client = SyncJobClient(there.proxy.url, token=there.bench.token)
    assert client.unready() is None
    client.close()
    client.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(UsageError, match="is closed"):
        client.types()


def test_closing_ends_the_calls_of_other_threads(there: Elsewhere) -> None:
    """A long poll doesn't keep a program from ending."""
    job_id = there.client.submit("hold", {"key": "closed"}).id
    client = SyncJobClient(there.proxy.url, token=there.bench.token)
    asked = there.proxy.requests
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.handle(job_id).wait)
        there.portal.call(there.proxy.until_asked, asked + 1)
        client.close()
        with pytest.raises(UsageError, match="is closed"):
            waiting.result(GONE_ON)
    there.open("closed")


@pytest.mark.slow  # starts an interpreter
def test_a_fork_has_no_thread_of_the_client(there: Elsewhere) -> None:
    """It would wait for ever for a thread that isn't there."""
    code = f"""
import os, warnings
from jobrunner import UsageError
from jobrunner.client import SyncJobClient
warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads is forked
with SyncJobClient({there.bench.url!r}, token={there.bench.token!r}) as client:
    if os.fork() == 0:
        try:
            client.types()
        except UsageError as error:
            os._exit(7)
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=GONE_ON
    )
    assert (done.stdout, done.stderr) == ("7\n", "")


@pytest.mark.slow  # starts an interpreter
@pytest.mark.parametrize("end", ["client.close(); os._exit(0)", "del client; exit()", "exit()"])
def test_a_fork_may_close_or_forget_the_client_or_just_end(there: Elsewhere, end: str) -> None:
    """As the workers of gunicorn do, whose parent goes on with it."""
    code = f"""
import os, warnings
from jobrunner.client import SyncJobClient
warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads is forked
client = SyncJobClient({there.bench.url!r}, token={there.bench.token!r})
if os.fork() == 0:
    {end}
print(os.waitstatus_to_exitcode(os.wait()[1]), client.submit_and_wait("echo", {{"value": 1}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=GONE_ON
    )
    assert (done.stdout, done.stderr) == ("0 1\n", "")


SCRIPT = """
from jobrunner.client import SyncJobClient
client = SyncJobClient({url!r}, token={token!r})
print(client.submit_and_wait("echo", {{"value": 1}}), flush=True)
"""


@pytest.mark.slow  # starts an interpreter
def test_a_script_that_forgets_to_close_ends_all_the_same(there: Elsewhere) -> None:
    """And says nothing."""
    code = SCRIPT.format(url=there.bench.url, token=there.bench.token)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, timeout=GONE_ON,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@pytest.mark.slow  # starts an interpreter
@pytest.mark.parametrize("call", ["wait()", "wait(on_progress=print)", "events()"])
def test_ctrl_c_ends_the_call_and_not_the_job(there: Elsewhere, call: str) -> None:
    """At once, with the connection closed, and the client still of use."""
    key = f"interrupted {call}"
    job_id = there.client.submit("hold", {"key": key}).id
    code = f"""
from jobrunner.client import SyncJobClient
with SyncJobClient({there.proxy.url!r}, token={there.bench.token!r}) as client:
    try:
        for _ in client.handle({job_id!r}).{call}:
            pass
    except KeyboardInterrupt:
        print(client.get({job_id!r}).status, flush=True)
"""
    asked = there.proxy.requests
    running = subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True)
    there.portal.call(there.proxy.until_asked, asked + 1)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=GONE_ON)
    assert (out, err, running.returncode) == ("running\n", "", 0)
    there.open(key)
    assert there.client.handle(job_id).result() == key


@pytest.mark.parametrize("moment", ["call", "return"])
def test_ctrl_c_while_a_call_is_handed_over_ends_it_too(there: Elsewhere, moment: str) -> None:
    """It would go on in the client's thread, and what it reads could not be closed any more."""
    key = f"handed over {moment}"
    job_id = there.client.submit("hold", {"key": key}).id
    there.reached(key)
    events = there.client.handle(job_id).events(after=2)

    def strike(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_name == "start_task_soon":
            if event == moment:
                raise KeyboardInterrupt  # which ends the tracing
            return strike
        return None

    traced = sys.gettrace()
    sys.settrace(strike)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(iter(events))
    finally:
        sys.settrace(traced)
    assert there.client.get(job_id).status == "running"
    there.open(key)
    assert there.client.handle(job_id).result() == key
