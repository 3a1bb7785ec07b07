"""Somebody else's URL reaches nothing inside, however it is written and whatever it resolves to."""

import asyncio
from collections.abc import Sequence

import pytest

from jobrunner import InvalidOption, JobRunner, Webhooks
from jobrunner.testing import virtual_time
from tests.receiving import SECRET, Receiver, listening, resolver, run

HOSTS = """
    127.0.0.1 127.0.0.2 127.1 127.0.1 0x7f.1 0x7f000001 0x7f.0x0.0x0.0x1 2130706433 017700000001
    0177.0.0.1 0177.1 0 0.0.0.0 00000177.0.0.1 127.0.0.1. 127.0.0.01 127.000.000.001
    localhost localhost. LOCALHOST LocalHost
    [::1] [0:0:0:0:0:0:0:1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:0:127.0.0.1]
    [::127.0.0.1] [0000::ffff:127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1]
    [64:ff9b:1::7f00:1] [2002:7f00:1::] [2002:7f00:0001::1] [2001:0:7f00:1::]
    [fe80::1] [fe80::1%25lo] [::1%25lo] [fc00::1] [fd00::1] [fec0::1] [ff02::1] [100::1]
    169.254.169.254 [::ffff:169.254.169.254] [64:ff9b::a9fe:a9fe] [2002:a9fe:a9fe::1] 2852039166
    0xa9fea9fe 10.0.0.1 172.16.0.1 192.168.0.1 100.64.0.1 198.18.0.1 224.0.0.1 255.255.255.255
    127。0。0。1 ①②⑦.⓪.⓪.① user@127.0.0.1 example.com@127.0.0.1 127.0.0.1\\@example.com
    %31%32%37.0.0.1 127.0.0.1%00.example.com 127.0.0.1%2eexample.com
""".split()


def new_runner(**options: object) -> JobRunner:
    runner = JobRunner(webhooks=Webhooks(SECRET, **options))  # type: ignore[arg-type]  # by name

    @runner.job
    async def quick() -> None:
        pass

    return runner


@pytest.mark.parametrize("host", HOSTS)
async def test_no_spelling_reaches_this_machine(host: str) -> None:
    """Each of them is one way or another to write an address that isn't public."""
    async with listening(b"HTTP/1.1 204 No\r\n\r\n") as inside, new_runner() as runner:
        with pytest.raises(InvalidOption) as caught:
            job = await run(runner, webhook_url=f"http://{host}:{inside.port}/")
            await asyncio.sleep(0.1)  # only if it was taken: let it arrive
            assert (await runner.deliveries(job.id))[0].status == "dead"
            raise InvalidOption("it was taken", option="webhook_url")
        assert caught.value.option == "webhook_url"
    assert inside.heads == []


@virtual_time
async def test_a_name_that_is_private_is_refused_when_it_is_given() -> None:
    """Whoever gives it hears of it at once."""
    receiver = Receiver()
    resolve = resolver({"inside.test": ["10.0.0.1"], "mixed.test": ["1.1.1.1 10.0.0.1"]})
    async with new_runner(resolve=resolve, transport=receiver) as runner:
        for host in ("inside.test", "mixed.test"):
            with pytest.raises(InvalidOption, match="isn't public"):
                await runner.submit("quick", webhook_url=f"https://{host}/")
        assert runner.stats().jobs["completed"] == 0  # type: ignore[index]  # a status is a str


@pytest.mark.parametrize(
    "then", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1",
             "64:ff9b::7f00:1", "2002:7f00:1::", "1.1.1.1 127.0.0.1", "fe80::1%eth0", "0.0.0.0"],
)  # fmt: skip
@virtual_time
async def test_a_resolver_that_changes_its_answer_reaches_nothing(then: str) -> None:
    """Public when the URL is given, private a moment later (DNS rebinding): looked at again."""
    receiver = Receiver()
    resolve = resolver({"rebound.test": ["1.1.1.1", then]})
    async with new_runner(resolve=resolve, transport=receiver, schedule=(0.0, 1.0)) as runner:
        job = await run(runner, webhook_url="https://rebound.test/")
        await asyncio.sleep(100.0)
        (seen,) = await runner.deliveries(job.id)
    assert (seen.status, seen.attempts) == ("dead", 2)
    assert seen.error is not None and "isn't public" in seen.error
    assert receiver.received == []


@virtual_time
async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """There is no third look-up, whose answer nobody would have seen."""
    receiver = Receiver()
    resolve = resolver({"rebound.test": ["1.1.1.1", "1.1.1.2", "127.0.0.1"]})
    async with new_runner(resolve=resolve, transport=receiver) as runner:
        await run(runner, webhook_url="https://rebound.test:8443/a?b=c")
        await asyncio.sleep(1.0)
    (request,) = receiver.received
    assert (request.url, request.headers["host"]) == (
        "https://1.1.1.2:8443/a?b=c", "rebound.test:8443"
    )  # fmt: skip
    assert request.extensions["sni_hostname"] == "rebound.test"


@virtual_time
async def test_a_type_s_and_the_runner_s_url_are_looked_at_when_they_are_used() -> None:
    """A name can't be looked up where nothing runs yet."""
    receiver = Receiver()
    resolve = resolver({"inside.test": ["10.0.0.1"]})
    runner = new_runner(url="https://inside.test/", resolve=resolve, transport=receiver,
                        schedule=(0.0,))  # fmt: skip
    runner.job("typed", webhook_url="https://inside.test/type")(typed)
    async with runner:
        jobs = [await run(runner)]
        jobs.append(await runner.submit("typed"))
        await asyncio.sleep(1.0)
        seen = [(await runner.deliveries(job.id))[0].status for job in jobs]
    assert (seen, receiver.received) == (["dead", "dead"], [])


async def typed() -> None:
    """Have a URL of the type's own."""


@pytest.mark.parametrize("answer", ["hangs", "fails", "raises"])
@virtual_time
async def test_a_name_that_can_t_be_looked_up_now_delays_no_job_for_long(answer: str) -> None:
    """It may be there when the job has ended; until then nothing is sent anywhere."""
    looks = 0

    async def resolve(host: str, port: int) -> Sequence[str]:
        nonlocal looks
        looks += 1
        if looks > 1:
            return ["1.1.1.1"]
        if answer == "fails":
            raise OSError("no such host")
        if answer == "raises":
            raise RuntimeError("anybody's code")
        await asyncio.Event().wait()
        return []

    receiver = Receiver()
    loop = asyncio.get_running_loop()
    async with new_runner(resolve=resolve, transport=receiver) as runner:
        await run(runner, webhook_url="https://later.test/")
        took = loop.time()
        await asyncio.sleep(1.0)
    assert took == (2.0 if answer == "hangs" else 0.0)
    assert len(receiver.received) == 1


@virtual_time
async def test_a_runner_that_stops_during_a_look_up_takes_the_job_no_more() -> None:
    """Two seconds are long enough for that (Q2)."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(1.0)
        return ["1.1.1.1"]

    runner = new_runner(resolve=resolve, transport=Receiver())
    async with runner:
        submitting = asyncio.create_task(runner.submit("quick", webhook_url="https://a.test/"))
        await asyncio.sleep(0.5)
    await asyncio.wait([submitting])
    assert str(submitting.exception()) == "the runner is stopped and takes no more jobs"
