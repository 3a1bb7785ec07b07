"""Where may be posted to: URLs that are what they seem, and addresses that are public.

Somebody else's URL must not reach what only this machine can: its own services, its network, the
metadata of its cloud. So a URL has one reading or none, and a name counts as what it resolves to;
whoever connects does so to an address that was checked, since a second look-up may say otherwise.

`ipaddress.is_global` doesn't help: it passes 64:ff9b::7f00:1 (NAT64), and on some versions also
2002:7f00:1:: (6to4) and ::127.0.0.1, all of them ways to write 127.0.0.1.
"""

import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeAlias

from .errors import InvalidOption

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
MAX_URL = 2_048
MAX_ADDRESSES = 8
"""How many addresses of a name are looked at."""

_URL = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>/[!-~]*|\?[!-~]*)?",
    re.IGNORECASE | re.ASCII,
)
_NAME = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.?"
)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_RESERVED_V4 = [ipaddress.IPv4Network(text) for text in (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
)]  # fmt: skip
"""What of IPv4 isn't public (IANA's registry of special-purpose addresses); 224/3 is to the end."""
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
"""What of IPv6 is given out as global unicast; NAT64, mapped, local and the rest are outside."""
_RESERVED_V6 = [ipaddress.IPv6Network(text) for text in (
    "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)]  # fmt: skip
"""What of that isn't: Teredo and other protocols' own, documentation, 6to4."""


class Target(NamedTuple):
    """A URL, read."""

    scheme: str
    host: str
    """Name or address, in lower case; an IPv6 address without brackets."""
    port: int
    path: str
    """Path and query, as they are sent."""

    @property
    def authority(self) -> str:
        """The host as `Host` names it, with a port that isn't the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS = {"http": 80, "https": 443}


def parse_url(url: object, *, option: str = "webhook_url") -> Target:
    """Return the parts of a URL that has one reading only.

    Raises:
        InvalidOption: It isn't http(s), has a user, a password or a fragment, or a host that isn't
            written as everybody would write it.
    """
    if not isinstance(url, str) or not 0 < len(url) <= MAX_URL:
        raise _refused(option, f"is {url!r:.60}; it must be a URL of up to {MAX_URL} characters")
    if "@" in re.split(r"[/?#\\]", url.partition("://")[2], maxsplit=1)[0]:
        raise _refused(option, "has a user or a password in it; leave them out")
    found = _URL.fullmatch(url)
    if found is None or "#" in url:
        raise _refused(option, f"is {url!r:.60}; it must be http:// or https://, a host name in "
                               "ASCII, and a path and a query without fragment")  # fmt: skip
    scheme = found["scheme"].lower()
    host = _address(found["v6"], option) if found["v6"] else _name(found["name"], option)
    port = _PORTS[scheme] if found["port"] is None else int(found["port"])
    if not 0 < port < 65_536:
        raise _refused(option, f"has the port {port}; it must be 1 to 65535")
    path = found["path"] or "/"
    return Target(scheme, host, port, path if path[0] == "/" else f"/{path}")


def _address(text: str, option: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise _refused(option, f"has the host [{text[:60]}], which is no IPv6 address") from None


def _name(text: str, option: str) -> str:
    """Return a host name, or an IPv4 address in the one way that isn't 0x7f.1 or 2130706433."""
    host = text.lower()
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise _refused(option, f"has the host {host!r:.60}, which is no host name")
    if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) and _literal(host) is None:
        raise _refused(option, f"has the host {host!r:.60}; write an address as in 192.0.2.1")
    return host


def _literal(host: str) -> str | None:
    """Return the host when it is an address already."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def is_public(address: str) -> bool:
    """Return whether an address is one of the public internet; what can't be read isn't."""
    try:
        read = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(read, ipaddress.IPv4Address):
        return not any(read in network for network in _RESERVED_V4)
    if read.scope_id is not None or read not in _GLOBAL_V6:
        return False
    return not any(read in network for network in _RESERVED_V6)


def check_literal(target: Target, *, allow_private: bool, option: str = "webhook_url") -> None:
    """Raise InvalidOption when the host is an address that isn't public; names are no addresses."""
    if (address := _literal(target.host)) is not None:
        _check([address], allow_private, option)


async def addresses_of(target: Target, resolve: Resolve, *, allow_private: bool) -> list[str]:
    """Return the addresses of the target, each of them checked, in the resolver's order.

    One that isn't public is enough to refuse all: nobody with good intentions mixes them.

    Raises:
        InvalidOption: One isn't public.
        OSError: The name has none.
    """
    if (literal := _literal(target.host)) is not None:
        found = [literal]
    else:
        found = list(dict.fromkeys(await resolve(target.host, target.port)))[:MAX_ADDRESSES]
    if not found:
        raise OSError(f"{target.host} has no address")
    _check(found, allow_private, "webhook_url")
    return found


def _check(addresses: Sequence[str], allow_private: bool, option: str) -> None:
    if not allow_private and not all(is_public(address) for address in addresses):
        raise _refused(
            option,
            "leads to an address that isn't public; for local development there is "
            "Webhooks(allow_private=True)",
        )


def _refused(option: str, why: str) -> InvalidOption:
    return InvalidOption(f"{option} {why}", option=option)
