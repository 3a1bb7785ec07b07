"""The file that a server leaves behind while it serves: by it commands find the server themselves.

It holds the server's URL and token, so it is for its user alone: mode 0600, in a folder of mode
0700 that is theirs. The server keeps it locked; what nobody holds was left by one that was killed.
"""

import fcntl
import json
import logging
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger("jobrunner.whereabouts")

MAX_SIZE = 65_536
"""Bytes of a file that is read."""


class Whereabouts(NamedTuple):
    """A server that runs on this machine, for this user."""

    url: str
    """Where it is, without a slash at the end."""
    token: str | None
    """What it wants to be shown; None for nothing."""
    pid: int
    """Its process."""
    serves: str
    """What it serves: `module:runner`, a tools file."""


class LeftBehind:
    """The file of one server, there until `remove`.

    Raises:
        OSError: It can't be written, or the folder isn't safe.
    """

    def __init__(self, where: Whereabouts) -> None:
        place = folder()
        _make_safe(place)
        _sweep(place)
        self.path = place / f"{where.pid}-{secrets.token_hex(4)}.json"
        new = self.path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(new, flags, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        os.write(self._descriptor, json.dumps(where._asdict()).encode())
        new.rename(self.path)  # locked and whole from the moment that it is seen

    def remove(self) -> None:
        """Take the file away; twice is the same as once."""
        if self._descriptor >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


def leave_behind(where: Whereabouts) -> LeftBehind | None:
    """Leave the file; None, and a line in the log, where that can't be done: it serves anyway."""
    try:
        return LeftBehind(where)
    except OSError as error:
        logger.warning("commands won't find the server by themselves: %s", error)
        return None


def folder() -> Path:
    """Return where the files are: in the user's runtime folder, or in one of theirs beside it.

    Raises:
        OSError: There is no folder for temporary files.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.isdir(runtime):
        return Path(runtime, "jobrunner")
    return Path(tempfile.gettempdir(), f"jobrunner-{os.geteuid()}")


def running_servers() -> list[Whereabouts]:
    """Return the servers that run here for this user, by URL; what others have left isn't read."""
    try:
        place = folder()
        _check_safe(place)
        paths = list(place.glob("*.json"))
    except OSError:
        return []
    found = (_read(path) for path in paths)
    return sorted(where for where in found if where is not None)


def _make_safe(place: Path) -> None:
    place.mkdir(mode=0o700, exist_ok=True)
    _check_safe(place)


def _check_safe(place: Path) -> None:
    """Raise OSError unless the folder is ours alone: in /tmp anybody may have made it first."""
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{place} isn't a folder that only you can look into; remove it")


def _read(path: Path) -> Whereabouts | None:
    """Return what stands in a file; None if its server is gone, or it is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not _is_held(descriptor):
            return None
        try:
            said = json.loads(file.read(MAX_SIZE))
            return Whereabouts(
                str(said["url"]), said["token"], int(said["pid"]), str(said["serves"])
            )
        except (ValueError, KeyError, TypeError):
            return None


def _is_held(descriptor: int) -> bool:
    """Return whether a process holds the lock; the system lets go for one that was killed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _sweep(place: Path) -> None:
    """Remove what servers that were killed have left."""
    for path in place.glob("*.json"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        held = _is_held(descriptor)
        os.close(descriptor)
        if not held:
            path.unlink(missing_ok=True)
