"""Jobs without their bulk: a list of two hundred may have 50 MB of params in it, and of results."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from pydantic_core import to_json

from ..jobs import Job
from ..redaction import redact

BRIEF = 1_024
"""Bytes of params, result or metadata above which a brief job goes without them."""
Part: TypeAlias = Literal["result", "params", "metadata"]


def bulk_of(job: Job) -> Sequence[Part]:
    """Return which parts of a job are too large for a brief one."""
    metadata = to_json(redact(job.metadata)) if job.metadata else b""
    parts: dict[Part, bytes] = {"result": job.result or b"", "params": job.params,
                                "metadata": metadata}  # fmt: skip
    return [name for name, raw in parts.items() if len(raw) > BRIEF]
