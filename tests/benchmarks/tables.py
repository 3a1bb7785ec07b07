"""Tables in Markdown."""

import statistics
from collections.abc import Iterable, Sequence

from .registry import PARTS
from .results import Results, Run
from .shape import OURS, Figure, Goal, Part


def everything(results: Results) -> str:
    """Return all figures of all runs: median, range, and ratio to the part's base."""
    texts = []
    for run in results.runs:
        texts.append(f"### Python {run.python}")
        for name, part in PARTS.items():
            if name in run.parts:
                texts.append(_part(run, part))
    return "\n\n".join(texts)


def _part(run: Run, part: Part) -> str:
    ways = [way.name for way in part.ways if run.parts[part.name].rounds.get(way.name)]
    sizes = ", ".join(f"{name} {size:,}" for name, size in run.parts[part.name].sizes.items())
    text = f"**{part.title}** ({sizes})\n\n"
    if len(ways) >= len(part.figures):
        heads = ["", *(figure.title for figure in part.figures)]
        rows = [[way, *(_cell(run, part, way, f) for f in part.figures)] for way in ways]
    else:
        heads = ["", *ways]
        rows = [[f.title, *(_cell(run, part, way, f) for way in ways)] for f in part.figures]
    return text + table(heads, rows) + _left_out(run, part)


def _left_out(run: Run, part: Part) -> str:
    left_out = run.parts[part.name].left_out.items()
    return "".join(f"\n\nLeft out: {way}, {why}." for way, why in left_out)


def _cell(run: Run, part: Part, way: str, figure: Figure) -> str:
    taken = run.taken(part.name, way, figure.key)
    if not taken:
        return "failed"
    text = number(statistics.median(taken))
    if len(taken) > 1:
        text += f" ({number(min(taken))} to {number(max(taken))})"
    if part.base not in (None, way):
        ratios = run.ratios(part.name, way, figure.key, str(part.base))
        text += f" x{number(statistics.median(ratios))}" if ratios else ""
    return f"**{text}**" if way == OURS else text


def goals(results: Results) -> str:
    """Return the goals, each with what was reached and whether that is enough."""
    rows = []
    for run in results.runs:
        for what, bound, reached in _grouped(run):
            rows.append([run.python.rpartition(".")[0], what, bound, *reached])
    return table(["Python", "what", "goal", "measured", ""], rows, words=3)


def _grouped(run: Run) -> Iterable[tuple[str, str, list[str]]]:
    """Yield goals that belong together as one: from the worst to the best, met if all are."""
    groups: dict[tuple[str, str], list[tuple[Goal, float | None]]] = {}
    for part, goal, reached in run.goals():
        title = goal.title or part.figure(goal.figure).title
        bound = goal.bound if goal.way == OURS else goal.bound_alone
        groups.setdefault((title, bound), []).append((goal, reached))
    for (title, bound), found in groups.items():
        yield title, bound, _judged(found)


def _judged(found: Sequence[tuple[Goal, float | None]]) -> list[str]:
    values = sorted(value for _, value in found if value is not None)
    if not values:
        return ["not measured", ""]
    missed = [goal for goal, value in found if value is None or not goal.met(value)]
    low, high = number(values[0]), number(values[-1])
    share = f", {len(missed)} of {len(found)}" if len(found) > 1 else ""
    return [low if low == high else f"{low} to {high}", f"missed{share}" if missed else "met"]


def peers(run: Run) -> str:
    """Return the table of those that run jobs in process: one line for each."""
    rows = []
    for way in PARTS["throughput"].ways:
        name = way.name
        if run.median("throughput", name, "rate") is None:
            continue
        cells = [
            _of(run, "throughput", name, "rate"),
            _share(run, name),
            f"{_of(run, 'latency', name, 'idle p50')} / {_of(run, 'latency', name, 'idle p99')}",
            _of(run, "memory", name, "bytes"),
            f"{_of(run, 'idle', name, 'cpu')} / {_of(run, 'idle', name, 'loop')}",
        ]
        marked = [f"**{cell}**" for cell in (name, *cells)] if name == OURS else [name, *cells]
        rows.append(marked)
    heads = ["", "jobs/s, submit to all readable", "of the bare loop",
             "idle pool, submit to start, p50 / p99, µs", "bytes per finished job",
             "2 s idle: CPU ms / wake-ups"]  # fmt: skip
    return table(heads, rows)


def _share(run: Run, way: str) -> str:
    ratios = run.ratios("throughput", way, "rate", str(PARTS["throughput"].base))
    return number(statistics.median(ratios)) if ratios else "1"


def _of(run: Run, part: str, way: str, figure: str) -> str:
    median = run.median(part, way, figure)
    return "" if median is None else number(median)


def figures(run: Run, name: str, keys: Sequence[str]) -> str:
    """Return some figures of a part: a line for each way."""
    part = PARTS[name]
    if name not in run.parts:
        return ""
    ways = [way.name for way in part.ways if run.parts[name].rounds.get(way.name)]
    heads = ["", *(part.figure(key).title for key in keys)]
    return table(heads, [[way, *(_of(run, name, way, key) for key in keys)] for way in ways])


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """Return a table; all columns after the first `words` are numbers."""
    lines = [heads, ["---" if n < words else "---:" for n in range(len(heads))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """Return a number with two or three digits that say something."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    digits = 1 if size >= 10 else 2 if size >= 0.095 else 4
    return f"{value:.{digits}f}"
