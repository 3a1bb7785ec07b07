"""Fingerprints: what two requests share only when they ask for the same, their secrets included.

They are kept for as long as an idempotency key is, in place of params that mustn't be. The key is
this process's own, so that nobody finds a short secret by trying.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

_KEY = os.urandom(32)


def fingerprint(parts: Iterable[bytes]) -> bytes:
    """Return the fingerprint of some parts, none of which has a zero byte, as JSON hasn't."""
    digest = hashlib.blake2b(key=_KEY, digest_size=32)
    for part in parts:
        digest.update(part)
        digest.update(b"\0")
    return digest.digest()


def secrets_in(value: Any) -> Iterator[bytes]:
    """Yield what pydantic's secrets in Python values hide, each as bytes, in order."""
    if callable(reveal := getattr(value, "get_secret_value", None)):
        yield repr(reveal()).encode()
    elif isinstance(value, dict):
        for item in value.values():
            yield from secrets_in(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from secrets_in(item)
