"""Where a client's server is, and what it is shown."""

import ipaddress
import re

import httpx2

from .errors import InvalidOption


def address(base_url: str) -> tuple[httpx2.URL, str | None]:
    """Return the URL, and the token of one that `jobrunner serve` printed.

    Raises:
        InvalidOption: It is no URL that a server can have.
    """
    try:
        url = httpx2.URL(base_url)
    except (httpx2.InvalidURL, TypeError, UnicodeEncodeError) as error:
        raise _no_address(base_url, str(error)) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise _no_address(base_url, "it has no http:// or https:// before the host")
    if (url.port or 0) > 65_535:
        raise _no_address(base_url, "its port is above 65535")
    if url.userinfo:
        raise _no_address("(hidden)", "it has a user name; give token=, or headers=")
    token = url.params.get("token")
    return url.copy_with(query=None, fragment=None, path=url.path.rstrip("/") or "/"), token


def _no_address(base_url: object, why: str) -> InvalidOption:
    return InvalidOption(
        f"base_url is {base_url!r:.200}: {why}; write it as in http://127.0.0.1:8000",
        option="base_url",
    )


def authorization(token: str | None) -> dict[str, str]:
    """Return the header that shows the token.

    Raises:
        InvalidOption: A header can't carry it.
    """
    if token is None:
        return {}
    if not isinstance(token, str) or not re.fullmatch("[!-~]+", token):
        raise InvalidOption(
            "token is empty, or has characters that a header can't carry; give the server's, or "
            "None for none",
            option="token",
        )
    return {"Authorization": f"Bearer {token}"}


def is_local(host: str) -> bool:
    """Whether a host is this machine, by what it is called."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
