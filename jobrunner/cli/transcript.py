"""What a job has said, as text: log lines with their time, output as it came."""

import json

from ..events import Event
from ..views import iso


class Transcript:
    """Makes text of events, as `GET /jobs/{id}/logs` does.

    Args:
        times: Whether log lines begin with their time.
    """

    def __init__(self, *, times: bool) -> None:
        self._times = times
        self._in_line = False

    def text(self, event: Event) -> str:
        """Return what an event adds; nothing where it is neither log nor output."""
        if event.type == "output":
            said: str = event.data["text"] + ("\n" if "json" in event.data else "")
        elif event.type == "log":
            fields = event.data.get("fields")
            more = f" {json.dumps(fields, ensure_ascii=False)}" if fields else ""
            time = f"{iso(event.at)} " if self._times else ""
            before = "\n" if self._in_line else ""
            said = f"{before}{time}{event.data['text']}{more}\n"
        else:
            return ""
        self._in_line = bool(said) and not said.endswith("\n")
        return said


def missed(event: Event) -> str:
    """Return what a `gap` says."""
    count = event.data["to"] - event.data["from"] + 1
    return f"... {count} events are no longer kept"
