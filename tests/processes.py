"""Whether processes that a test started are still there, without polling."""

import os
import select


def ends(pid: int, *, within: float = 5.0) -> bool:
    """Return whether the process has ended, or does so within some seconds."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], within)[0])
    finally:
        os.close(watched)
