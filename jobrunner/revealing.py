"""What JSON masks, put back on the way to a handler: secrets, and numbers that JSON hasn't got."""

import math
from typing import Any

from pydantic import Secret, SecretBytes, SecretStr
from pydantic_core import from_json, to_json

from .redaction import MASK

_SECRETS = (SecretStr, SecretBytes, Secret)
_UNWRITTEN = (None, "NaN", "Infinity", "-Infinity")
"""What stands in JSON for the numbers that it hasn't got."""


def revealed(shown: Any, real: Any) -> Any:
    """Return `shown`, which is JSON, with the secrets of `real`, the same as Python values."""
    if isinstance(real, _SECRETS):
        return from_json(to_json(real.get_secret_value()))
    if shown == MASK and real != MASK:  # by its name, and it may have secrets in it
        return revealed(from_json(to_json(real, inf_nan_mode="null", fallback=str)), real)
    if isinstance(real, float) and not math.isfinite(real) and shown in _UNWRITTEN:
        return real
    if isinstance(real, set | frozenset) and any(isinstance(each, _SECRETS) for each in real):
        return [revealed(None, each) for each in real]
    if isinstance(shown, dict) and isinstance(real, dict) and len(shown) == len(real):
        return {k: revealed(v, r) for (k, v), r in zip(shown.items(), real.values(), strict=True)}
    if isinstance(shown, list) and isinstance(real, list | tuple) and len(shown) == len(real):
        return [revealed(s, r) for s, r in zip(shown, real, strict=True)]
    return shown
