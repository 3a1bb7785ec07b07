"""What a part of the benchmarks is made of: ways to do one thing, figures, and goals for them."""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Sizes: TypeAlias = Mapping[str, int]
"""How much of each thing there is: jobs, streams, rounds of a loop, seconds."""
Figures: TypeAlias = dict[str, float]
"""What was measured, by the keys of the part's figures."""
OURS = "jobrunner"


@dataclass(frozen=True)
class Way:
    """One of the ways that are compared. Each time it is measured it has a process of its own."""

    name: str
    measure: Callable[[Sizes], Figures]
    needs: Sequence[str] = ()
    """Modules that it can't do without, of the extra `bench`."""

    @property
    def missing(self) -> list[str]:
        """Those of them that aren't installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


@dataclass(frozen=True)
class Figure:
    """Something that is measured of each way."""

    key: str
    title: str
    """What it is, with its unit."""
    less: bool = False
    """Whether less is better."""


@dataclass(frozen=True)
class Goal:
    """What the runner's figure has to be; with `of`, as a ratio to that way's in the same round."""

    figure: str
    least: float | None = None
    most: float | None = None
    of: str | None = None
    way: str = OURS
    """Whose figure it is for."""
    since: tuple[int, int] = (3, 11)
    """The first version of Python that it is for."""
    until: tuple[int, int] = (3, 99)
    """The last one."""
    title: str = ""
    """Of several goals that are told as one; that of the figure for one alone."""

    def holds_for(self, python: str) -> bool:
        """Return whether it is a goal for this version, such as `3.11.7`."""
        major, minor = python.split(".")[:2]
        return self.since <= (int(major), int(minor)) <= self.until

    def met(self, value: float) -> bool:
        """Return whether `value` is within it."""
        return (self.least is None or value >= self.least) and (
            self.most is None or value <= self.most
        )

    @property
    def bound(self) -> str:
        """The goal in words, such as `at least 0.45 of bare loop`."""
        return f"{self.bound_alone} of {self.of}" if self.of else self.bound_alone

    @property
    def bound_alone(self) -> str:
        """The same without whose it is compared with."""
        return f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"


@dataclass(frozen=True)
class Part:
    """A part of the benchmarks.

    Sizes are what is measured by default, `full` what `--full` takes in their place.
    """

    name: str
    title: str
    figures: Sequence[Figure]
    ways: Sequence[Way]
    sizes: Sizes
    goals: Sequence[Goal] = ()
    full: Sizes = field(default_factory=dict)
    rounds: int = 5
    base: str | None = None
    """The way that ratios are taken to."""

    def way(self, name: str) -> Way:
        """Return the way of this name."""
        return next(way for way in self.ways if way.name == name)

    def figure(self, key: str) -> Figure:
        """Return the figure with this key."""
        return next(figure for figure in self.figures if figure.key == key)


def python_version() -> str:
    """Return the version of this interpreter, such as `3.11.7`."""
    return ".".join(map(str, sys.version_info[:3]))
