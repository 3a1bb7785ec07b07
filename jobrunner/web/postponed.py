"""What is served for long is served where little is waiting for it.

A router, its route and their error handlers are a dozen coroutines, each of which would wait for as
long as a stream is open: 6 kB of its 14. They have nothing to do once the stream has been found, so
it is put off until they have returned.
"""

from starlette.types import ASGIApp, Scope

_KEY = "jobrunner.postponed"


def postponing(scope: Scope) -> list[ASGIApp]:
    """Return a list in which the app will put what is to be served when it has returned."""
    put_off: list[ASGIApp] = []
    scope[_KEY] = put_off
    return put_off


def postpone(serve: ASGIApp, scope: Scope) -> None:
    """Have `serve` called when the app has returned."""
    put_off: list[ASGIApp] = scope[_KEY]
    put_off.append(serve)
