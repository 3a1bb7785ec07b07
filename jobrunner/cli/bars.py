"""Jobs that are watched in a terminal: a bar for each, and above it what they say."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from ..events import Event
from ..jobs import JobStatus
from ..views import JobView
from .output import unicode
from .shows import Script, ended, happened
from .stripping import Stripper, one_line
from .tables import NARROW
from .wording import STYLES, progress, seconds

FLUSH = 0.05
"""Seconds for which lines are collected: drawing the bars anew for each would take longer."""
COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")
MAX_LINE = 4_096
"""Characters of a line that hasn't ended which are kept to be shown."""


class BarShow:
    """Bars at the bottom of the terminal, and the jobs' output above them.

    Args:
        jobs: Those that are watched; with several each line begins with its job's name.
    """

    def __init__(self, jobs: Sequence[JobView], out: Console) -> None:
        self._out = out
        self._several = len(jobs) > 1
        self._bars = _bars(out)
        self._pending: list[Text] = []
        self._flushing: asyncio.TimerHandle | None = None
        self._watched = {job.job_id: _Watched(job, self._add(job), n) for n, job in enumerate(jobs)}
        self._live = Live(get_renderable=self._picture, console=out, refresh_per_second=10)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        for watched in self._watched.values():
            self._put(watched, watched.finish())
        self._flush()
        self._live.stop()

    def event(self, job: JobView, event: Event) -> None:
        """Show it: in the bar, or above."""
        watched = self._watched[job.job_id]
        if said := watched.script.text(event):
            self._put(watched, watched.lines(said))
        elif event.type == "progress":
            self._move(watched, event)
        else:
            self._happened(watched, event)

    def note(self, text: str) -> None:
        """Show it above the bars."""
        self._line(Text(text, style="yellow"))

    def _happened(self, watched: "_Watched", event: Event) -> None:
        status = event.data.get("status")
        if status is not None:
            self._say(watched, str(status), event.at)
        if event.type == "status" and status in (JobStatus.PENDING, JobStatus.RUNNING):
            if event.data.get("attempt", 0) < 2 and not event.data.get("cancel_requested_at"):
                return  # the bar shows it
        if event.type == "done":
            self._end(watched, event)
        elif text := happened(watched.job, event):
            self._put(watched, watched.finish())
            self._line(watched.label(Text(text, style="yellow")))

    def _end(self, watched: "_Watched", event: Event) -> None:
        self._put(watched, watched.finish())
        style = STYLES.get(event.data["status"], "")
        self._line(watched.label(Text(ended(event), style=style)))
        self._bars.update(watched.bar, total=100.0, until=event.at)
        if event.data["status"] == JobStatus.COMPLETED:
            self._bars.update(watched.bar, completed=100.0)

    def _add(self, job: JobView) -> TaskID:
        total = None if job.status == JobStatus.RUNNING and not job.progress else 100.0
        said = job.progress_message or job.status
        return self._bars.add_task(
            _name(job), total=total, completed=int(job.progress), said=one_line(said, 200),
            at=progress(job), style="", since=job.started_at and job.started_at.timestamp(),
            until=None,
        )  # fmt: skip

    def _say(self, watched: "_Watched", status: str, at: float) -> None:
        moving: dict[str, Any] = {"said": status, "style": STYLES.get(JobStatus(status), "")}
        if status == JobStatus.RUNNING:
            moving |= {"total": None, "at": ""}
            if self._bars.tasks[watched.bar].fields["since"] is None:
                moving["since"] = at
        self._bars.update(watched.bar, **moving)

    def _move(self, watched: "_Watched", event: Event) -> None:
        data = event.data
        step, percent = data.get("step"), data.get("progress") or 0
        self._bars.update(
            watched.bar, total=100.0, completed=percent, style="",
            at=f"{step['current']}/{step['total']}" if step else f"{percent:.0f}%",
            said=one_line(data.get("progress_message") or "", 200),
        )  # fmt: skip

    def _put(self, watched: "_Watched", lines: list[Text]) -> None:
        for line in lines:
            self._line(watched.label(line) if self._several else line)

    def _line(self, line: Text) -> None:
        self._pending.append(line)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH, self._flush)

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._pending:
            lines, self._pending = Text("\n").join(self._pending), []
            self._live.console.print(lines, soft_wrap=True)

    def _picture(self) -> RenderableType:
        """Return what stands at the bottom: lines that haven't ended, and the bars."""
        room = max(self._out.width - 1, 1)
        tails = [(watched, watched.tail()) for watched in self._watched.values()]
        lines = [watched.label(tail) if self._several else tail for watched, tail in tails if tail]
        bars = Constrain(self._bars, max(room - 2, 1))  # there is room for the `^C` of a Ctrl-C
        return Group(*(line[-room:] for line in lines), bars)


class _Watched:
    """A job, its bar, and its line that hasn't ended."""

    def __init__(self, job: JobView, bar: TaskID, number: int) -> None:
        self.job = job
        self.bar = bar
        self.script = Script()
        self._stripper = Stripper(colours=True)
        self._colour = COLOURS[number % len(COLOURS)]

    def lines(self, text: str) -> list[Text]:
        """Return the lines that a piece of output ends."""
        lines = self.script.whole_lines(self._stripper.feed(text))
        if len(self.script.rest) > MAX_LINE:
            lines += self.script.finish()
        return [Text.from_ansi(line) for line in lines]

    def finish(self) -> list[Text]:
        """Return the line that hasn't ended."""
        lines = self.lines(self._stripper.finish()) + [
            Text.from_ansi(line) for line in self.script.finish()
        ]
        return lines

    def tail(self) -> Text:
        """Return the line that hasn't ended."""
        return Text.from_ansi(self.script.rest)

    def label(self, line: Text) -> Text:
        """Return the line with the job's name before it."""
        return Text.assemble((f"{_name(self.job)} ", self._colour), line)


def _name(job: JobView) -> str:
    return f"{one_line(job.type, 20)} {job.job_id.removeprefix('job_')[:6]}"


def _bars(out: Console) -> Progress:
    """Return bars that leave the message what the width has left for it."""
    narrow = out.width < NARROW
    clip: Any = "ellipsis" if unicode(out) else "crop"
    message = Column(ratio=1, no_wrap=True, overflow=clip)
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=10 if narrow else 30),
        TextColumn("{task.fields[at]}", markup=False, table_column=Column(no_wrap=True)),
        _Said(message),
        *([] if narrow else [_Took()]),
        console=out,
        expand=True,
    )


class _Took(ProgressColumn):
    """How long the job has run, from its first start, and not how long it was watched."""

    def render(self, task: Any) -> Text:
        """Return it for one bar."""
        since, until = task.fields["since"], task.fields["until"]
        return Text("" if since is None else seconds((until or time.time()) - since), style="dim")


class _Said(TextColumn):
    """What the job says, in the colour of its status."""

    def __init__(self, column: Column) -> None:
        super().__init__("{task.fields[said]}", markup=False, table_column=column)

    def render(self, task: Any) -> Text:
        """Return it for one bar."""
        return Text(task.fields["said"], style=task.fields["style"])
