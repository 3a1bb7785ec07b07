"""Measure the runner beside the loop that one writes by hand, in one interleaved run.

    python -m tests.benchmarks [--rounds 5] [--jobs 20000]

Each figure is taken in a fresh process, the ways in turn, round after round, since absolute times
don't hold on a shared machine and ratios do. What is quoted is the median over the rounds.
"""

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys

from .peers import WAYS

LATENCY_JOBS = 2_000


def main() -> None:
    """Measure everything and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--one", nargs=3, metavar=("WHAT", "WAY", "COUNT"))
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_measure(*arguments.one)))
        return
    print(f"Python {platform.python_version()}, {platform.machine()}, medians of "
          f"{arguments.rounds} rounds\n")  # fmt: skip
    print("| | bare loop | jobrunner | ratio |\n| --- | ---: | ---: | ---: |")
    for title, what, count, figure in (
        ("jobs per second", "throughput", arguments.jobs, lambda s: arguments.jobs / s[0]),
        ("submit to start, p50, µs", "latency", LATENCY_JOBS, lambda s: 1e6 * _percentile(s, 50)),
        ("submit to start, p99, µs", "latency", LATENCY_JOBS, lambda s: 1e6 * _percentile(s, 99)),
    ):
        figures: dict[str, list[float]] = {way: [] for way in WAYS[what]}
        for _ in range(arguments.rounds):
            for way, taken in figures.items():
                taken.append(figure(_in_fresh_process(what, way, count)))
        bare, ours = (statistics.median(taken) for taken in figures.values())
        print(f"| {title} | {bare:,.0f} | {ours:,.0f} | {ours / bare:.2f} |")


def _percentile(seconds: list[float], percent: int) -> float:
    return sorted(seconds)[len(seconds) * percent // 100]


def _in_fresh_process(what: str, way: str, count: int) -> list[float]:
    command = [sys.executable, "-m", "tests.benchmarks", "--one", what, way, str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds: list[float] = json.loads(done.stdout)
    return seconds


def _measure(what: str, way: str, count: str) -> list[float]:
    async def run() -> list[float]:
        await WAYS[what][way](min(1_000, int(count)))  # warm up
        return await WAYS[what][way](int(count))

    return asyncio.run(run())


if __name__ == "__main__":
    main()
