"""The runner over HTTP, as a Starlette app that stands alone or is mounted in another one."""

from .app import create_app

__all__ = ["create_app"]
