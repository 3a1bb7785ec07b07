"""What is shown of jobs that are watched where there is no terminal: lines, or events as JSON."""

from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console

from ..events import Event
from ..jobs import FINAL, JobStatus
from ..views import ErrorView, JobView
from .output import Writer, compact, print_json
from .stripping import one_line
from .transcript import Transcript, missed
from .wording import failure, seconds

SHORT = 300
"""Characters of a result on the line that says that there is one; `show` has all of it."""
TENTH = 10
"""Percent after which progress is worth a line in a log of a build."""


class Show(Protocol):
    """Shows what happens to jobs, while its block runs."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def event(self, job: JobView, event: Event) -> None:
        """Show an event of a job, which is as it was when it began to be watched."""
        ...

    def note(self, text: str) -> None:
        """Show something about the watching itself."""
        ...


class JsonShow:
    """A line of JSON for each event; nothing else on stdout."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def event(self, job: JobView, event: Event) -> None:
        """Print it."""
        print_json(event)

    def note(self, text: str) -> None:
        """Say nothing: whoever reads the lines sees that none come."""


class LineShow:
    """Lines for a pipe: output as it comes, and what becomes of the job.

    Args:
        jobs: Those that are watched; with several each line begins with its job's id.
    """

    def __init__(self, jobs: Iterable[JobView], out: Console) -> None:
        self._out = out
        self._several = len(list(jobs)) > 1
        self._scripts: dict[str, Script] = {}
        self._tenths: dict[str, int] = {}
        self._writer = Writer(out)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for job_id, script in self._scripts.items():
            self._lines(job_id, script.finish())
        self._writer.finish()

    def event(self, job: JobView, event: Event) -> None:
        """Print what it says."""
        script = self._scripts.setdefault(job.job_id, Script())
        said = script.text(event)
        if said and not self._several:
            self._writer.write(said)
        elif said:
            self._lines(job.job_id, script.whole_lines(said))
        elif (about := happened(job, event)) and self._is_news(job, event):
            self._lines(job.job_id, script.finish())
            self._about(f"{job.job_id} {about}")

    def note(self, text: str) -> None:
        """Print it."""
        self._about(text)

    def _about(self, text: str) -> None:
        self._writer.end_line()
        self._writer.write(f"{text}\n")

    def _lines(self, job_id: str, lines: list[str]) -> None:
        for line in lines:
            self._writer.write(f"{job_id} | {line}\n")

    def _is_news(self, job: JobView, event: Event) -> bool:
        if event.type == "status":
            self._tenths.pop(job.job_id, None)  # the next attempt begins at 0
        if event.type != "progress":
            return True
        tenth = int(event.data.get("progress") or 0) // TENTH
        return self._tenths.get(job.job_id) != (self._tenths.update({job.job_id: tenth}) or tenth)


class Script:
    """What one job has said, as text and in whole lines."""

    def __init__(self) -> None:
        self._transcript = Transcript(times=False)
        self.rest = ""
        """The line that hasn't ended yet."""

    def text(self, event: Event) -> str:
        """Return the text of an event that has one."""
        return self._transcript.text(event)

    def whole_lines(self, text: str) -> list[str]:
        """Return the lines that end in a piece of text, without their ends."""
        *lines, self.rest = (self.rest + text).split("\n")
        return lines

    def finish(self) -> list[str]:
        """Return the line that hasn't ended, if there is one."""
        lines, self.rest = [self.rest] if self.rest else [], ""
        return lines


def happened(job: JobView, event: Event) -> str:
    """Return what an event says that isn't the job's own output, on one line, else nothing."""
    data = event.data
    if event.type == "progress":
        step = f"{data['step']['current']}/{data['step']['total']} " if data.get("step") else ""
        message = one_line(data.get("progress_message") or "")
        return f"{step}{data.get('progress') or 0:.0f}% {message}".rstrip()
    if event.type == "status":
        return _status(event)
    if event.type == "question":
        return f"asks: {one_line(data['prompt'])} (jobrunner answer {job.job_id})"
    if event.type == "answer" and data.get("by") not in ("cancel", None):
        return f"has its answer: {one_line(compact(data['value']), 200)}"
    if event.type == "gap":
        return missed(event)
    return ended(event) if event.type == "done" else ""


def ended(event: Event) -> str:
    """Return how a job has ended, and with what."""
    data = event.data
    if data.get("error"):
        return f"failed: {failure(ErrorView.model_validate(data['error']))}"
    if data["status"] == JobStatus.COMPLETED:
        return f"completed: {one_line(compact(data.get('result')), SHORT)}"
    return str(data["status"])


def _status(event: Event) -> str:
    data, status = event.data, event.data["status"]
    if data.get("cancel_requested_at") and status not in FINAL:
        return "is asked to stop"
    if status == JobStatus.RETRYING:
        why = failure(ErrorView.model_validate(data["error"]))
        wait = datetime.fromisoformat(data["next_attempt_at"]).timestamp() - event.at
        return f"attempt {data['attempt']} failed, next in {seconds(wait)}: {why}"
    if status == JobStatus.INPUT_REQUIRED:
        return ""  # the question says it
    attempt = f", attempt {data['attempt']}" if data.get("attempt", 0) > 1 else ""
    return f"{status}{attempt}"
