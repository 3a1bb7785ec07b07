"""Jobs, job types and numbers as tables, for terminals of any width."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..stats_views import StatsView
from ..views import JobView, QuestionView
from .output import compact, pretty, print_rows, unicode
from .params import Schema, branches, resolved
from .stripping import one_line, stripped
from .wording import STYLES, ago, failure, lasted, progress, said

if TYPE_CHECKING:
    from ..client import JobType

NARROW = 90
"""Columns below which a list leaves out what is said least."""
SHORT = 60
"""Characters of a value that stands on one line."""
FEW_LINES = 60
"""Lines of a value that a terminal is shown; a pipe gets all of them."""


def job_rows(jobs: Iterable[JobView]) -> Iterator[list[str]]:
    """Yield for each job what a pipe gets: id, type, status, progress, created, what is said."""
    for job in jobs:
        created = job.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        words = one_line(job.type), job.status, progress(job), created, said(job)
        yield [job.job_id, *words]


def type_width(jobs: Iterable[JobView]) -> int:
    """Return the columns that the jobs' types need, within bounds."""
    return min(20, max((len(job.type) for job in jobs), default=0))


def job_table(
    jobs: Sequence[JobView], out: Console, *, types: int | None = None, heading: bool = True
) -> Table:
    """Return the jobs as a table; a narrow one has what the ids need, and the status.

    Args:
        types: Columns for the types; what these jobs need if not given.
        heading: Whether it has one: the first of several tables.
    """
    wide = out.width >= NARROW
    types = max(4, type_width(jobs) if types is None else types)
    table = Table(box=None, pad_edge=False, header_style="bold", expand=wide, show_header=heading)
    ids = {"no_wrap": True, "overflow": "fold", "min_width": 36 if out.width > 56 else 0}
    table.add_column("ID", **ids)  # type: ignore[arg-type]  # by name
    clip: Any = "ellipsis" if unicode(out) else "crop"
    types = types if wide else min(types, 12)
    table.add_column("TYPE", no_wrap=True, overflow=clip, min_width=types, max_width=types)
    table.add_column("STATUS", no_wrap=True, overflow=clip, min_width=9 if wide else 0)
    if wide:
        table.add_column("AT", justify="right", no_wrap=True, min_width=5)
        table.add_column("AGE", justify="right", no_wrap=True, min_width=4)
        table.add_column("", no_wrap=True, overflow=clip, ratio=1)
    for job in jobs:
        cells = [Text(job.job_id), Text(one_line(job.type)), status(job)]
        more = [Text(progress(job)), Text(ago(job.created_at)), Text(said(job))]
        table.add_row(*cells, *(more if wide else []))
    return table


def status(job: JobView) -> Text:
    """Return a job's status in its colour."""
    stopping = job.cancel_requested_at is not None and job.finished_at is None
    word = f"{job.status}, stopping" if stopping else str(job.status)
    return Text(word, style=STYLES.get(job.status, ""))


def print_job(job: JobView, out: Console) -> None:
    """Print all that a person wants to know of a job."""
    lines = [(name, value) for name, value in _facts(job) if value]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        text = value if isinstance(value, Text) else Text(value)
        out.print(Text(f"{name:<{width}}  ", style="bold").append_text(text), soft_wrap=True)
    for question in job.questions:
        _print_question(job, question, out)
    _print_value("params", job.params, out)
    if job.metadata:
        _print_value("metadata", job.metadata, out)
    if job.partial:
        out.print("output so far" if job.finished_at is None else "output", style="bold")
        shown = Text.from_ansi(stripped(job.partial, colours=True))
        out.print(shown, soft_wrap=True)
    if job.status == "completed":
        _print_value("result", job.result, out)


def _facts(job: JobView) -> Iterator[tuple[str, str | Text]]:
    step = f"step {progress(job)}, " if job.step else ""
    yield "job", job.job_id
    yield "type", one_line(job.type)
    yield "status", status(job)
    yield "progress", f"{step}{job.progress:.0f}%  {one_line(job.progress_message or '')}".rstrip()
    yield "error", Text("" if job.error is None else failure(job.error), style="red")
    yield "attempt", f"{job.attempt} of {job.max_attempts}"
    yield "created", _when(job, "created_at")
    yield "started", _when(job, "started_at")
    yield "finished", _when(job, "finished_at")
    yield "took" if job.finished_at else "running for", lasted(job)
    yield "next try", _when(job, "next_attempt_at")
    yield "not before", _when(job, "run_at")
    yield "deadline", _when(job, "deadline_at")
    yield "cancelled" if job.finished_at else "stopping", " ".join(_cancel(job))
    yield "session", one_line(job.session_id or "")
    yield "batch", job.batch_id or ""
    yield "parent", job.parent_id or ""
    yield "runs again", job.retry_of or ""


def _when(job: JobView, name: str) -> str:
    at = getattr(job, name)
    return "" if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S %z}"


def _cancel(job: JobView) -> Iterator[str]:
    if job.cancel_reason is not None:
        yield f"by {one_line(job.cancel_reason)}"
    if job.cancel_note:
        yield f"({one_line(job.cancel_note)})"


def _print_question(job: JobView, question: QuestionView, out: Console) -> None:
    asked = Text(f"{question.question_id} asks  ", style="bold yellow")
    out.print(asked.append(one_line(question.prompt)), soft_wrap=True)
    wanted = f"  {signature(question.schema)}; answer it: jobrunner answer {job.job_id}"
    more = f" --question {question.question_id}" if len(job.questions) > 1 else ""
    out.print(Text(wanted + more, style="dim"), soft_wrap=True)


def _print_value(name: str, value: Any, out: Console) -> None:
    short = compact(value)
    lines = stripped(short if len(short) <= SHORT else pretty(value)).splitlines()
    kept = lines[:FEW_LINES] if out.is_terminal else lines
    text = JSONHighlighter()(Text("\n".join(kept)))
    out.print(Text(f"{name}  " if len(kept) == 1 else f"{name}\n", style="bold"), end="")
    out.print(text, soft_wrap=True)
    if len(kept) < len(lines):
        out.print(f"... {len(lines) - len(kept)} more lines; --json has all", style="dim")


def signature(kind: Schema, root: Schema | None = None) -> str:
    """Return what fits a schema in a few words: `"eu" | "us"`, `integer`, `{approved: boolean}`."""
    root = kind if root is None else root
    found = [_branch(each, root) for each in branches(resolved(kind, root), root)]
    return one_line(" | ".join(dict.fromkeys(found)), 200)


def _branch(kind: Schema, root: Schema) -> str:
    if "enum" in kind or "const" in kind:
        values = kind.get("enum", [kind.get("const")])
        return " | ".join(compact(value) for value in values)
    if isinstance(kind.get("items"), Mapping):
        return f"[{signature(resolved(kind['items'], root), root)}]"
    if "properties" in kind:
        return f"{{{', '.join(fields(kind, root))}}}"
    return str(kind.get("type", "any"))


def fields(kind: Schema, root: Schema) -> Iterator[str]:
    """Yield the fields of an object as a signature has them: `name: type = default`."""
    for name, field in kind.get("properties", {}).items():
        inner = resolved(field, root)
        default = f" = {compact(inner['default'])}" if "default" in inner else ""
        nested = "properties" in inner
        shape = "object" if nested else signature(inner, root)
        yield one_line(f"{name}: {shape}{default}", 200)


def print_type(found: "JobType", out: Console) -> None:
    """Print a job type: how it is called, and what it does."""
    name = Text(one_line(found.type), style="bold cyan")
    params = ", ".join(fields(found.params, found.params))
    out.print(name.append(f"({params})", style="default"), soft_wrap=True)
    for line in stripped(found.description).splitlines():
        out.print(Text(f"    {line}", style="dim"), soft_wrap=True)


def print_tool(name: str, description: str, out: Console) -> None:
    """Print a tool: on a line in a pipe, and with all that a model is told at a terminal."""
    if out.is_terminal:
        out.print(Text(one_line(name), style="bold cyan"))
        out.print(Padding(Text(one_line(description), style="dim"), (0, 0, 0, 4)))
    else:
        print_rows([[name, one_line(description, 120)]])


def stats_rows(stats: StatsView) -> Iterator[list[str]]:
    """Yield name and value of what a server's numbers are."""
    yield ["state", f"{stats.state}{', paused' if stats.paused else ''}"]
    if stats.unready is not None:
        yield ["not ready", one_line(stats.unready)]
    yield ["workers", f"{stats.busy} of {stats.workers} busy"]
    yield ["aside", f"{stats.aside}"]
    yield from ([status, f"{count}"] for status, count in stats.jobs.items())
    yield ["pruned", f"{stats.pruned}"]
    yield ["stuck", f"{stats.stuck} now, {stats.stuck_total} in all"]
    yield ["blocked", f"{stats.blocked}"]
    yield ["faults", f"{stats.faults}"]
    yield from ([f"webhooks {name}", f"{count}"] for name, count in stats.webhooks.items())
