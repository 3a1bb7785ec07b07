"""Which URLs and addresses may be posted to."""

from collections.abc import Sequence

import pytest

from jobrunner import InvalidOption
from jobrunner.addresses import Target, addresses_of, check_literal, is_public, parse_url
from tests.tabled import each_of

NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254
    169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1
    192.88.99.1 192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1
    224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:0:127.0.0.1 ::ffff:169.254.169.254
    ::ffff:8.8.8.8 64:ff9b::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1
    2001::1 2001:0:7f00:1:: 2001:2::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe:: 2002::1
    3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1
    2606:4700::1%1 nonsense 127.1
""".split()
PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
    172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255
    2001:200::1 2001:4860:4860::8888 2606:4700:4700::1111 2a00:1450:4001:81b::200e 3ffe::1
""".split()
ODD = """
    http://0x7f.1/ http://0x7f000001/ http://2130706433/ http://127.1/ http://127.0.1/
    http://0177.0.0.1/ http://017700000001/ http://127.0.0.1./ http://0/ http://127.0.0.0x1/
    http://127.0.0.256/ http://1.2.3.4.5/ http://0x/ http://example.com.1/ http://1.2.3.09/
    http://[::ffff:127.0.0.1%25lo]/ http://[::1%lo]/ http://[::1/ http://[127.0.0.1]/ http://[]/
    http://[1::2::3]/ http://%31%32%37.0.0.1/ http://127。0。0。1/ http://①②⑦.0.0.1/
    http://\uff11\uff12\uff17.0.0.1/ http://exämple.com/ http://user@example.com/ http://user:pass@example.com/
    http://example.com@127.0.0.1/ http://@example.com/ http://example.com\\@127.0.0.1/
    http://example.com\\.evil.com/ http:/example.com/ http:example.com http:///etc/passwd
    //example.com/ example.com ftp://example.com/ file:///etc/passwd gopher://example.com/
    javascript:alert(1) unix:///run/docker.sock http://example.com:0/ http://example.com:65536/
    http://example.com:99999/ http://example.com:port/ http://example.com:80:80/
    http://example.com#@127.0.0.1/ http://example.com/#fragment http://.com/ http://a..b/
    http://-a.com/ http://a-.com/ http://example.com..
""".split()  # \uff11 is a wide 1


@each_of(NOT_PUBLIC)
def test_an_address_that_is_not_public_is_none(address: str) -> None:
    """Each of them reaches this machine, its network or nobody, in one of the ways to write it."""
    assert not is_public(address)


@each_of(PUBLIC)
def test_a_public_address_is_one(address: str) -> None:
    """What is next to a reserved block belongs to somebody, who wants webhooks."""
    assert is_public(address)


@each_of([*ODD, "http://exa mple.com/", "http://example.com/\r\nHost: x", "http://a/\n", "", 7,
          None, b"http://example.com/", "http://example.com/" + "x" * 2_048,
          "http://" + "a." * 130 + "com/"])  # fmt: skip
def test_a_url_that_is_read_in_two_ways_is_refused(url: object) -> None:
    """Where two parsers differ, one checks what the other doesn't reach."""
    with pytest.raises(InvalidOption) as caught:
        parse_url(url)
    assert caught.value.option == "webhook_url"


def test_a_password_in_a_url_is_not_shown() -> None:
    """The message goes to logs."""
    with pytest.raises(InvalidOption, match="leave them out") as caught:
        parse_url("https://user:hunter2@example.com/")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        ("https://example.com", ("https", "example.com", 443, "/"), "example.com"),
        ("HTTP://Example.COM:80/A?b=@c", ("http", "example.com", 80, "/A?b=@c"), "example.com"),
        ("https://a-b.example.com:8443?x", ("https", "a-b.example.com", 8443, "/?x"),
         "a-b.example.com:8443"),
        ("http://example.com./x", ("http", "example.com.", 80, "/x"), "example.com."),
        ("http://1.1.1.1/", ("http", "1.1.1.1", 80, "/"), "1.1.1.1"),
        ("https://[2606:4700::0001]:1/", ("https", "2606:4700::1", 1, "/"), "[2606:4700::1]:1"),
        ("http://my_service.internal/", ("http", "my_service.internal", 80, "/"),
         "my_service.internal"),
        ("http://xn--exmple-cua.com/", ("http", "xn--exmple-cua.com", 80, "/"),
         "xn--exmple-cua.com"),
    ],
)  # fmt: skip
def test_a_plain_url_is_read(url: str, target: tuple[object, ...], authority: str) -> None:
    """Scheme and host in lower case, the scheme's own port left out of `Host`."""
    assert (tuple(parse_url(url)), parse_url(url).authority) == (target, authority)


def resolver(*answers: str) -> tuple[list[str], object]:
    """Return what has been asked, and a resolver that gives these addresses."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(f"{host}:{port}")
        return answers

    return asked, resolve


async def found(host: str, *answers: str, allow_private: bool = False) -> list[str]:
    _, resolve = resolver(*answers)
    target = Target("https", host, 443, "/")
    return await addresses_of(target, resolve, allow_private=allow_private)  # type: ignore[arg-type]  # a resolver


async def test_a_name_counts_as_what_it_resolves_to() -> None:
    """A name costs nothing, and may lead anywhere."""
    assert await found("a.test", "1.1.1.1", "2606:4700::1", "1.1.1.1") == [
        "1.1.1.1", "2606:4700::1"
    ]  # fmt: skip
    with pytest.raises(InvalidOption, match="isn't public"):
        await found("a.test", "10.0.0.1")


async def test_one_private_address_among_public_ones_refuses_all() -> None:
    """Which of them is connected to would be left to chance, or to the attacker."""
    with pytest.raises(InvalidOption, match="isn't public"):
        await found("a.test", "1.1.1.1", "127.0.0.1")
    assert await found("a.test", "1.1.1.1", "127.0.0.1", allow_private=True) == [
        "1.1.1.1", "127.0.0.1"
    ]  # fmt: skip


async def test_an_address_is_not_looked_up() -> None:
    """It is what it is; a resolver has no say in it."""
    asked, resolve = resolver("1.1.1.1")
    target = parse_url("http://127.0.0.1/")
    with pytest.raises(InvalidOption, match="isn't public"):
        await addresses_of(target, resolve, allow_private=False)  # type: ignore[arg-type]  # a resolver
    with pytest.raises(InvalidOption, match="isn't public"):
        check_literal(target, allow_private=False)
    check_literal(target, allow_private=True)
    check_literal(parse_url("http://localhost/"), allow_private=False)  # it is a name
    assert asked == []


async def test_a_name_without_addresses_is_an_error_of_the_network() -> None:
    """It may have one later, so it is nothing to refuse for good."""
    with pytest.raises(OSError, match=r"a\.test has no address"):
        await found("a.test")


async def test_only_so_many_addresses_are_looked_at() -> None:
    """An answer may have hundreds."""
    many = [f"1.1.1.{number}" for number in range(100)]
    assert await found("a.test", *many) == many[:8]
