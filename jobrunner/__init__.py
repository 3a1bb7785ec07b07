"""jobrunner: a single-process, asyncio, in-memory job runner for people who build AI agents.

`JobRunner` is where to begin, `JobContext` what a handler gets. Beside them there are
`jobrunner.web.create_app`, `jobrunner.server`, `jobrunner.client`, `jobrunner.webhooks`,
`jobrunner.testing` and `jobrunner.tools`.

The public names are those of `public.py`. They are loaded when the first of them is used: pytest
imports the package of every plugin that is installed, in projects too that have no use for it.

Example:
    runner = JobRunner(workers=3)

    @runner.job
    async def double(ctx: JobContext, n: int) -> int:
        ctx.progress(50, "half of it")
        return 2 * n

    async with runner:
        job = await runner.submit(double, {"n": 21})
        assert await job.result() == 42
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .public import *  # noqa: F403  # `public` says which

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the public names; all are classes, and only a module's own name is in small letters."""
    if name != "__all__" and not name[0].isupper():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    public = import_module(".public", __name__)
    if name == "__all__":
        return [*public.__all__, "__version__"]
    try:
        return getattr(public, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
