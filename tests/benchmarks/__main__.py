"""Measure the runner beside its peers, in one interleaved run, each time in a fresh process.

    python -m tests.benchmarks                       everything, in a few minutes
    python -m tests.benchmarks throughput http       some parts of it
    python -m tests.benchmarks --full growth         up to a million jobs; it takes long
    python -m tests.benchmarks --readme              and write the tables and the picture

Absolute times don't hold on a shared machine and ratios do, so every ratio is one of the same
round, and what is quoted is the median over the rounds.
"""

import argparse
import sys
from pathlib import Path

from . import readme, tables
from .registry import PARTS
from .results import Results, describe, load, this_machine
from .rounds import measure


def main() -> None:
    """Measure, print the tables, and write what is asked for."""
    given = _parser().parse_args()
    if unknown := set(given.parts) - PARTS.keys():
        sys.exit(f"there is no part {min(unknown)!r}; there are: {', '.join(PARTS)}")
    results = load(given.load) if given.load else Results(this_machine())
    parts = given.parts or ([] if given.load else list(PARTS))
    for python in given.python or [sys.executable]:
        _measure(results, parts, given, python)
    print(f"{readme.machine(results)}\n\n{tables.everything(results)}\n\n{tables.goals(results)}")
    if given.readme:
        readme.write(results)


def _measure(results: Results, parts: list[str], given: argparse.Namespace, python: str) -> None:
    if not parts:
        return
    run = results.run(*describe(python))
    for name in parts:
        part = PARTS[name]
        asked = dict(part.full if given.full else {}) | {
            size: number for size, number in given.size if size in part.sizes
        }
        rounds = given.rounds or part.rounds
        run.parts[name] = measure(part, rounds=rounds, sizes=asked, python=python)
        if given.json:
            results.save(given.json)  # what comes later may be cut off


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, help="of every part; 2 to 5 if not given")
    parser.add_argument("--full", action="store_true",
                        help="a million jobs, 10,000 streams, 1 GB of output")  # fmt: skip
    parser.add_argument("--size", type=_size, action="append", default=[], metavar="NAME=NUMBER",
                        help="another size, such as jobs=1000")  # fmt: skip
    parser.add_argument("--python", action="append", metavar="PATH",
                        help="the interpreter to measure with, or several in turn")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    parser.add_argument("--from", dest="load", type=Path, metavar="FILE",
                        help="begin with those from there; measure only named parts")  # fmt: skip
    parser.add_argument("--readme", action="store_true", help="write tables and picture")
    return parser


def _size(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    return name, int(number)


if __name__ == "__main__":
    main()
