"""One try, over real sockets: to receivers that are slow, down, redirecting or hostile."""

import asyncio
import ssl
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from jobrunner import DeliveryView, JobRunner, Webhooks
from jobrunner.direct import Direct
from jobrunner.threads import Threads
from jobrunner.webhooks import new_secret, verify
from tests.receiving import SECRET, Behave, listening, resolver, run
from tests.serving import GONE_ON, NO_TLS

THANKS = b"HTTP/1.1 204 No Content\r\n\r\n"
CERTIFICATE = Path(__file__).parent / "receiver.pem"
"""Of receiver.test, signed by itself."""


async def told(url: str, **hooks: Any) -> DeliveryView:
    """Run a job whose end is posted to the URL once, and return what came of that."""
    given = {
        "secret": SECRET,
        "url": url,
        "allow_private": True,
        "schedule": (0.0,),
        "transport": Direct(NO_TLS),
        **hooks,
    }
    runner = JobRunner(webhooks=Webhooks(**given), cancel_grace=GONE_ON)

    @runner.job
    async def quick() -> None:
        pass

    async with runner:  # leaving it lets the try end
        job = await run(runner)
        assert job.status == "completed"  # whatever the receiver does
    (delivery,) = await runner.deliveries(job.id)
    return delivery


def outcome(delivery: DeliveryView) -> tuple[str, int | None, str | None]:
    return delivery.status, delivery.status_code, delivery.error


async def test_a_receiver_gets_what_it_can_verify() -> None:
    """The bytes on the wire, read by nothing of ours but `verify`."""
    bodies: list[bytes] = []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int(got.heads[0].lower().partition(b"content-length: ")[2].split()[0])
        bodies.append(await reader.readexactly(length))
        writer.write(THANKS)

    async with listening(read) as got:
        assert outcome(await told(got.url() + "?x=1")) == ("delivered", 204, None)
    first, *lines = got.heads[0].decode().strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert (first, headers["Host"]) == ("POST /hook?x=1 HTTP/1.1", f"127.0.0.1:{got.port}")
    assert verify(bodies[0], headers, SECRET)["type"] == "job.completed"
    standard = pytest.importorskip(
        "standardwebhooks.webhooks", reason="it comes with the extra `test`"
    )
    assert standard.Webhook(SECRET).verify(bodies[0], headers)["type"] == "job.completed"


async def test_nobody_listens() -> None:
    """The usual state of a receiver that is being deployed."""
    async with listening() as got:
        pass
    status, code, error = outcome(await told(got.url()))
    assert (status, code) == ("dead", None)
    assert error is not None and error.startswith("ConnectError: ")


async def test_a_redirect_leads_nowhere() -> None:
    """Whoever answers it may name any address inside."""
    async with listening(THANKS) as inside:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {inside.url()}\r\nContent-Length: 0\r\n\r\n"
        async with listening(moved.encode()) as got:
            seen = outcome(await told(got.url()))
    assert seen == ("dead", 307, "HTTP 307: redirects are not followed")
    assert inside.heads == []


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read everything, say nothing."""
    while await reader.read(65_536):
        pass


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a head that never ends, slowly enough for any limit between two reads."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"X-A: b\r\n")
        await asyncio.sleep(0.01)
        await writer.drain()


async def go_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say 100 Continue for ever."""
    while not writer.is_closing():
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.01)
        await writer.drain()


@pytest.mark.parametrize("behave", [never, drip, go_on])
async def test_a_try_has_a_total_deadline(behave: Behave) -> None:
    """A limit for each read would let one byte a second hold a place for ever."""
    async with listening(behave) as got:
        seen = outcome(await told(got.url(), timeout=0.1))
    assert seen == ("dead", None, "no answer within 0.1 s")


async def test_a_handshake_that_never_ends_is_cut_off() -> None:
    """And its connection is closed: the other side hears of it."""
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never(reader, writer)
        ended.set()

    async with listening(silent, head=False) as got:
        seen = outcome(await told(got.url("https"), timeout=0.1))
        async with asyncio.timeout(GONE_ON):
            await ended.wait()
    assert seen == ("dead", None, "no answer within 0.1 s")


async def test_a_transport_of_httpx2_can_do_it_too() -> None:
    """For a proxy, which decides by itself where it connects to."""
    async with httpx2.AsyncHTTPTransport(verify=NO_TLS, trust_env=False) as transport:
        async with listening(THANKS) as got:
            seen = outcome(await told(got.url(), transport=transport))
    assert seen == ("delivered", 204, None)


async def test_a_body_that_never_ends_is_not_read() -> None:
    """The status says all that we want to know; the connection is closed at once."""
    sent = 0
    closed = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
                sent += 65_536
        finally:
            closed.set()

    async with listening(endless) as got:
        assert outcome(await told(got.url())) == ("delivered", 200, None)
        async with asyncio.timeout(GONE_ON):
            await closed.wait()
    assert sent < 50_000_000  # what fits into the buffers of two sockets, and no stream of it


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", b"\x00" * 100, b"HTTP/1.1 2000 OK\r\n\r\n",
     b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n",
     b"HTTP/1.1 200 OK\r\n" + b"X-Large: " + b"x" * 200_000 + b"\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", b"\xff\xfe\r\n\r\n"],
    ids=range(10),
)  # fmt: skip
async def test_what_is_no_http_is_a_failure(answer: bytes) -> None:
    """Whatever comes from there, it ends one try and nothing else."""
    async with listening(answer) as got:
        status, code, error = outcome(await told(got.url()))
    assert (status, code) == ("dead", None)
    assert error is not None and 0 < len(error) <= 600


@pytest.mark.parametrize(
    "answer", [THANKS, b"\x16\x03\x01" + bytes(100), b"\x15\x03\x03\x00\x02\x02\x28"]
)
async def test_what_is_no_tls_is_a_failure(answer: bytes) -> None:
    """An https URL on a port that speaks something else."""

    async def anyhow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)

    async with listening(anyhow, head=False) as got:
        status, code, error = outcome(await told(got.url("https"), timeout=5.0))
    assert (status, code) == ("dead", None)
    assert error is not None and "ConnectError" in error


def tls_server(names: list[str | None]) -> ssl.SSLContext:
    """Return a server's context that notes the names it is asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)

    def note(socket: object, name: str | None, _: object) -> None:
        names.append(name)

    context.sni_callback = note
    return context


def trusting() -> Direct:
    """Return a transport that trusts the certificate of receiver.test."""
    return Direct(ssl.create_default_context(cafile=str(CERTIFICATE)))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_head_is_read_up_to_a_bound(scheme: str) -> None:
    """Answers that come in faster than they are parsed would have the event loop for themselves."""
    flood = b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(flood)
            await writer.drain()

    resolve = resolver({"receiver.test": ["127.0.0.1"]})
    tls = tls_server([]) if scheme == "https" else None
    async with listening(pour, ssl=tls) as got:
        url = got.url(scheme, "receiver.test")
        seen = outcome(await told(url, resolve=resolve, transport=trusting()))
    error = "RemoteProtocolError: the answer's head is over 65536 bytes"
    assert seen == ("dead", None, error)


async def test_the_checked_address_is_connected_to_under_the_host_s_own_name() -> None:
    """A name that only our resolver knows: SNI, certificate and `Host` still go by it."""
    names: list[str | None] = []
    resolve = resolver({"receiver.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]})
    async with listening(THANKS, ssl=tls_server(names)) as got:
        right = await told(got.url("https", "receiver.test"), resolve=resolve, transport=trusting())
        wrong = await told(got.url("https", "other.test"), resolve=resolve, transport=trusting())
        stranger = await told(got.url("https", "receiver.test"), resolve=resolve, transport=None)
    assert outcome(right) == ("delivered", 204, None)
    assert f"Host: receiver.test:{got.port}".encode() in got.heads[0]
    assert names == ["receiver.test", "other.test", "receiver.test"]
    assert len(got.heads) == 1
    for refused in (wrong, stranger):
        assert refused.error is not None and "CERTIFICATE_VERIFY_FAILED" in refused.error


def test_a_runner_posts_in_one_event_loop_after_the_other() -> None:
    """A test suite has a loop for each test, and a module-level runner."""
    hooks = Webhooks(SECRET, allow_private=True, schedule=(0.0,))
    runner = JobRunner(webhooks=hooks, cancel_grace=GONE_ON)

    @runner.job
    async def quick() -> None:
        pass

    async def use() -> int:
        async with listening(THANKS) as got:
            async with runner:
                jobs = [await runner.submit(quick, webhook_url=got.url()) for _ in range(3)]
                await runner.wait([job.id for job in jobs])
            return len(got.heads)

    assert [asyncio.run(use()) for _ in range(2)] == [3, 3]


async def test_the_first_tries_share_one_transport() -> None:
    """Certificates take their time to load; nobody should do so twice."""
    runner = JobRunner(webhooks=Webhooks(SECRET, allow_private=True), cancel_grace=GONE_ON)

    @runner.job
    async def quick() -> None:
        pass

    async with listening(THANKS) as got, runner:
        jobs = [await runner.submit(quick, webhook_url=got.url()) for _ in range(4)]
        for job in jobs:
            await job.wait()
        await runner.stop()
    assert len(got.heads) == 4


async def test_certificates_of_the_environment_are_not_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who can set a variable shouldn't be able to read along."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    resolve = resolver({"receiver.test": ["127.0.0.1"]})
    async with listening(THANKS, ssl=tls_server([])) as got:
        seen = await told(got.url("https", "receiver.test"), resolve=resolve, transport=None)
    assert seen.error is not None and "CERTIFICATE_VERIFY_FAILED" in seen.error


@pytest.mark.parametrize("addresses", ["::1 127.0.0.1", "127.0.0.1 ::1"])
async def test_another_address_is_tried_when_one_can_t_be_connected_to(addresses: str) -> None:
    """Many a host has an IPv6 address, and many a machine has no IPv6."""
    resolve = resolver({"receiver.test": [addresses]})
    async with listening(THANKS) as got:
        seen = await told(got.url(host="receiver.test"), resolve=resolve)
    assert outcome(seen) == ("delivered", 204, None)


async def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them would connect to whatever it likes."""
    async with listening(THANKS) as got, listening(b"HTTP/1.1 502 No\r\n\r\n") as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        assert outcome(await told(got.url(), transport=None)) == ("delivered", 204, None)
    assert proxy.heads == []


async def test_the_system_resolves_names() -> None:
    """Nothing has to be set up for that."""
    async with listening(THANKS) as got:
        seen = await told(got.url(host="localhost"))
        lost = await told("http://no-such-host.invalid/")
    assert outcome(seen) == ("delivered", 204, None)
    assert (lost.status, lost.status_code) == ("dead", None)


async def test_a_secret_may_depend_on_the_url_and_change() -> None:
    """Receivers that know each other's secret could forge each other's messages."""
    secrets = [new_secret(), new_secret()]
    asked: list[str] = []

    def secret(url: str) -> Sequence[str]:
        asked.append(url)
        return secrets

    async with listening(THANKS) as got:
        assert outcome(await told(got.url(), secret=secret)) == ("delivered", 204, None)
    assert asked == [got.url()]
    signature = got.heads[0].partition(b"webhook-signature: ")[2].split(b"\r\n")[0]
    assert len(signature.split(b" ")) == 2


async def test_a_secret_function_that_fails_fails_the_try() -> None:
    """It is somebody's code; the delivery says what it said."""
    seen = await told("http://127.0.0.1:9/", secret=lambda url: {}[url])
    assert seen.error is not None and seen.error.startswith("KeyError: ")


async def test_a_thread_that_hangs_can_be_left_alone() -> None:
    """A resolver that takes half a minute must not hold up who has given up on it."""
    go, began = threading.Event(), asyncio.Event()
    loop, threads = asyncio.get_running_loop(), Threads(1)

    def hang() -> None:
        loop.call_soon_threadsafe(began.set)
        go.wait(GONE_ON)

    waiting = asyncio.create_task(threads.call(hang, "hangs", abandon=True))
    await began.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (waiting.cancelled(), go.is_set()) == (True, False)
    go.set()


@pytest.mark.slow  # starts an interpreter
def test_httpx2_is_loaded_by_the_first_delivery() -> None:
    """It takes a tenth of a second, which who has no webhook shouldn't pay."""
    code = """
import asyncio, sys
from jobrunner import JobRunner, Webhooks
from jobrunner.webhooks import new_secret

runner = JobRunner(webhooks=Webhooks(new_secret(), allow_private=True, schedule=(0.0,)))

@runner.job
async def quick() -> None:
    pass

async def main():
    async with runner:
        await (await runner.submit(quick)).wait()
        print("httpx2" in sys.modules)
        await runner.submit(quick, webhook_url="http://127.0.0.1:9/")
    print("httpx2" in sys.modules)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
