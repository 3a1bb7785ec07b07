"""The picture of the figures: bars, in SVG, for light pages and dark ones."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from .registry import PARTS
from .results import Run
from .shape import OURS
from .tables import number

COLUMN, BAR, NAMES, VALUES, GAP = 500, 16, 190, 60, 22
"""Pixels: width of a column, height of a line, width of names and numbers, and what is between."""
HEAD, TOP, MARGIN = 40, 56, 20
CUT = 8
"""How many times longer than the middle one, and than ours, a bar may be."""
STYLE = """
svg { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
.page { fill: #fff } text { fill: #24292f } .faint { fill: #6e7781 }
.bar { fill: #b6bec8 } .ours { fill: #1f6feb } .range { stroke: #57606a; stroke-width: 1 }
.title { font-weight: 600 } .large { font-size: 16px; font-weight: 600 }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117 } text { fill: #e6edf3 } .faint { fill: #9198a1 }
  .bar { fill: #4b535d } .ours { fill: #388bfd } .range { stroke: #b1bac4 }
}
"""


class Panel(NamedTuple):
    """Bars for one figure."""

    part: str
    figure: str
    title: str


PANELS = [
    Panel("throughput", "rate", "Jobs per second"),
    Panel("latency", "idle p50", "Submit to start on an idle pool, p50, µs (less is better)"),
    Panel("memory", "bytes", "Bytes per finished job (less is better)"),
    Panel("http", "POST /jobs 10", "POST /jobs per second, 10 connections"),
    Panel("http", "GET /jobs/{id} 10", "GET /jobs/{id} per second, 10 connections"),
    Panel("streams", "rate", "Stream frames delivered per second"),
    Panel("streams", "kilobytes", "kB per open stream (less is better)"),
    Panel("commands", "rate", "Output of a command, MB per second"),
]


class Bar(NamedTuple):
    """One way's figure."""

    name: str
    value: float
    low: float
    high: float


def draw(run: Run, subtitle: str) -> str:
    """Return the picture of a run as SVG."""
    panels = [(panel, bars) for panel in PANELS if (bars := _bars(run, panel))]
    left, right = _two_columns(panels)
    height = TOP + max(_height(left), _height(right)) + MARGIN
    width = 2 * COLUMN + 3 * MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="Speed of jobrunner and its peers">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}" rx="8"/>',
        _text(MARGIN, 28, f"jobrunner beside its peers, Python {run.python}", "large"),
        _text(MARGIN, 46, subtitle, "faint"),
        *_column(left, MARGIN),
        *_column(right, 2 * MARGIN + COLUMN),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _bars(run: Run, panel: Panel) -> list[Bar]:
    bars = []
    for way in PARTS[panel.part].ways:
        if taken := run.taken(panel.part, way.name, panel.figure):
            median = run.median(panel.part, way.name, panel.figure)
            assert median is not None, "there are figures"
            bars.append(Bar(way.name, median, min(taken), max(taken)))
    less = PARTS[panel.part].figure(panel.figure).less
    return sorted(bars, key=lambda bar: bar.value, reverse=not less)


_Panels = Sequence[tuple[Panel, list[Bar]]]


def _two_columns(panels: _Panels) -> tuple[_Panels, _Panels]:
    """Return them in two columns of about the same height, in their order."""
    cuts = range(len(panels) + 1)
    cut = min(cuts, key=lambda n: abs(_height(panels[:n]) - _height(panels[n:])))
    return panels[:cut], panels[cut:]


def _height(panels: _Panels) -> int:
    return sum(HEAD + BAR * len(bars) for _, bars in panels)


def _column(panels: _Panels, x: int) -> Iterator[str]:
    y = TOP
    for panel, bars in panels:
        yield _text(x, y + GAP, panel.title, "title")
        y += GAP + 8
        most = _longest(bars)
        for bar in bars:
            yield from _line(bar, x, y, (COLUMN - NAMES - VALUES) / most, most)
            y += BAR
        y += HEAD - GAP - 8


def _longest(bars: Sequence[Bar]) -> float:
    """Return the value of a full line: of few that are far beyond the rest the end is cut off."""
    middle = sorted(bar.value for bar in bars)[len(bars) // 2]
    ours = max((bar.value for bar in bars if bar.name == OURS), default=0.0)
    return min(max(bar.high for bar in bars), CUT * max(middle, ours)) or 1.0


def _line(bar: Bar, x: int, y: int, scale: float, most: float) -> Iterator[str]:
    start, middle = x + NAMES, y + BAR / 2
    low, high = (start + min(max(end, 0), most) * scale for end in (bar.low, bar.high))
    kind = "bar ours" if bar.name == OURS else "bar"
    name = "title" if bar.name == OURS else "faint"
    length = max(min(bar.value, most) * scale, 1)
    yield _text(start - 6, middle + 4, bar.name, name, anchor="end")
    yield f'<rect class="{kind}" x="{start}" y="{y + 2}" width="{length:.1f}" height="{BAR - 4}"/>'
    if bar.value > most:
        yield f'<rect class="page" x="{start + length - 14:.1f}" y="{y}" width="4" height="{BAR}"/>'
    yield f'<line class="range" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>'
    yield _text(max(high, start + length) + 6, middle + 4, number(bar.value), name)


def _text(x: float, y: float, text: str, kind: str = "", *, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'
