"""Write what was measured where people read it: tables between two marks, and the picture."""

import re
from pathlib import Path

from . import picture, tables
from .results import Results, Run
from .rounds import ROOT

HERE = Path(__file__).parent
README, PICTURE, FIGURES = ROOT / "README.md", HERE / "speed.svg", HERE / "README.md"
BEGIN, END = "<!-- written by `{}` -->", "<!-- end of what is written -->"
COMMAND = "python -m tests.benchmarks --readme"


def write(results: Results, *, readme: Path = README, picture_to: Path = PICTURE,
          figures: Path = FIGURES) -> None:  # fmt: skip
    """Replace the section in the README, all figures beside the benchmarks, and the picture."""
    run = results.runs[0]
    picture_to.write_text(picture.draw(run, machine(results)), "utf-8")
    replace(readme, _section(results, run), COMMAND)
    text = f"{machine(results)}. {_versions(run)}\n\n{tables.everything(results)}"
    replace(figures, text, COMMAND)


def _section(results: Results, run: Run) -> str:
    http = ["POST /jobs 1", "POST /jobs 10", "POST /jobs 100",
            "GET /jobs/{id} 1", "GET /jobs/{id} 10", "GET /jobs/{id} 100"]  # fmt: skip
    return "\n\n".join(
        text
        for text in (
            "![Bars of the figures below](tests/benchmarks/speed.svg)",
            f"{machine(results)}; Python {run.python}, {_versions(run)}",
            tables.peers(run),
            tables.figures(run, "http", http),
            tables.figures(run, "streams", ["rate", "kilobytes"]),
            "What it is held to, as ratios in one run:",
            tables.goals(results),
        )
        if text
    )


def machine(results: Results) -> str:
    """Describe the machine in a line."""
    known = results.machine
    return (
        f"Measured on {known['date']}: {known['cpu']}, {known['cores']} cores, "
        f"{known['memory']}, {known['system']}, load {known['load']}"
    )


def _versions(run: Run) -> str:
    return ", ".join(f"{name} {version}" for name, version in run.versions.items())


def replace(path: Path, text: str, command: str) -> None:
    """Put the text between the marks of a command.

    Raises:
        ValueError: The file has no such marks.
    """
    begin, old = BEGIN.format(command), path.read_text("utf-8")
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(old):
        raise ValueError(f"{path} has no line {begin!r} with {END!r} after it")
    path.write_text(pattern.sub(lambda _: f"{begin}\n\n{text}\n\n{END}", old), "utf-8")
