"""Handlers that run in processes of their own, and say something there."""

import logging
import warnings

from jobrunner import JobContext

logger = logging.getLogger("tests.said_handlers")


def say_all(ctx: JobContext, n: int) -> None:
    """Say something in every way."""
    ctx.log("by the context")
    print("printed", n)
    logger.warning("logged %d", n, extra={"api_key": "secret"})
    warnings.warn("warned", stacklevel=1)
    print("not ended", end="")


async def print_only() -> None:
    """Print, whoever listens."""
    print("printed in silence")
