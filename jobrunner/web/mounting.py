"""Where the app is mounted, and how that is written."""

from urllib.parse import quote

from starlette.types import Scope


def root_of(scope: Scope) -> str:
    """Return the path before the app's own, as it stands in URLs: quoted (RFC 3986, 2.1).

    The name of a tenant may be in it, and with that any character; headers carry ASCII alone.
    """
    root: str = scope.get("root_path", "")
    return quote(root) if root else root
