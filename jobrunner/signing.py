"""Standard Webhooks 1.0: secrets, how a message is signed, and how a receiver checks it.

    webhook-id          one for each event, the same in every try
    webhook-timestamp   unix seconds of this try
    webhook-signature   `v1,` and the base64 HMAC-SHA256 of `{id}.{timestamp}.{body}`; several,
                        with spaces between, while a secret rotates

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .errors import InvalidOption, WebhookRejected

PREFIX = "whsec_"
SHORTEST, LONGEST_KEY = 24, 64
"""Bytes that a key may have."""
MAX_SIGNATURES = 20
"""How many signatures of one message are looked at; a sender that rotates needs two."""


def new_secret() -> str:
    """Return a new secret for both sides to keep: `whsec_` and 256 random bits in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def keys_of(given: object) -> list[bytes]:
    """Return the keys of one secret or of several.

    Raises:
        InvalidOption: There is none, or one isn't a secret; none is shown.
    """
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not several:
        raise InvalidOption(f"there is no webhook secret; {_WAY_OUT}", option="secret")
    return [_key(secret) for secret in several]


def _key(secret: object) -> bytes:
    key = b""
    if isinstance(secret, str) and secret.startswith(PREFIX):
        digits = secret.removeprefix(PREFIX).rstrip("=")
        try:
            key = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
        except (binascii.Error, ValueError):
            pass
    if not SHORTEST <= len(key) <= LONGEST_KEY:
        raise InvalidOption(f"a webhook secret is none: {_WAY_OUT}", option="secret")
    return key


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`, with one signature for each key."""
    signed = b"%b.%d.%b" % (_bytes(message_id), timestamp, body)
    return " ".join(f"v1,{_digest(key, signed)}" for key in keys)


def _bytes(text: str) -> bytes:
    """Return the text as UTF-8; a lone surrogate, which it can't have, as what nobody signs."""
    return text.encode("utf-8", "surrogatepass")


def _digest(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def verify(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance: float = 300.0,
    now: Callable[[], float] = time.time,
) -> Any:
    """Return what a webhook says, once it is certain who sent it and when.

    Give it the body as it came: JSON that was parsed and written again has other bytes. An event
    may come twice; `webhook-id` tells.

    Args:
        body: The body of the request.
        headers: Its headers, whatever case their names are written in.
        secret: The secret, or several while they rotate.
        tolerance: Seconds that the sender's clock may differ, or the message be on its way.
        now: The current time in unix seconds.

    Raises:
        WebhookRejected: A header is missing or broken, the message is too old or too new, no
            signature fits, or the body isn't JSON.
        InvalidOption: The secret is none.
    """
    keys = keys_of(secret)
    raw = _bytes(body) if isinstance(body, str) else bytes(body)
    message_id, timestamp, given = _headers(headers)
    if abs(now() - timestamp) > tolerance:
        raise WebhookRejected(f"the message is of {timestamp}, over {tolerance:g} s from now")
    wanted = [part.encode() for part in sign(keys, message_id, timestamp, raw).split(" ")]
    signatures = _bytes(given).split(b" ")[:MAX_SIGNATURES]
    fits = [hmac.compare_digest(one, other) for one in signatures for other in wanted]
    if not any(fits):  # all of them are compared, however early one fits
        raise WebhookRejected("no signature fits: another secret, or the body was changed")
    try:
        return json.loads(raw)
    except ValueError:
        raise WebhookRejected("the body is signed and isn't JSON") from None


def _headers(headers: Mapping[str, str]) -> tuple[str, int, str]:
    found = {str(name).lower(): value for name, value in headers.items()}
    try:
        message_id, timestamp, given = (found[f"webhook-{name}"] for name in _NAMES)
    except KeyError as missing:
        raise WebhookRejected(f"the header {missing.args[0]} is missing") from None
    if not re.fullmatch("[0-9]{1,12}", timestamp):
        raise WebhookRejected(f"webhook-timestamp is {timestamp!r:.40}; it must be unix seconds")
    return message_id, int(timestamp), given


_NAMES = ("id", "timestamp", "signature")
_WAY_OUT = (
    f"it must be {PREFIX!r} and the base64 of {SHORTEST} to {LONGEST_KEY} bytes; make one with "
    "jobrunner.webhooks.new_secret(), once, and keep it where both sides can read it"
)
