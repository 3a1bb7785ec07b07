"""Where the app is mounted, and how that is written."""

from urllib.parse import quote

from starlette.types import Scope


def root_of(scope: Scope) -> str:
    """Return the path before the app's own, as it stands in URLs: quoted (RFC 3986, 2.1).

    The name of a tenant may be in it, and with that any character; headers carry ASCII alone.
    """
    return quote(scope.get("root_path", ""))
