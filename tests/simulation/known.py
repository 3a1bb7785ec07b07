"""What the model knows: all jobs, who has a worker, what will happen when."""

import math
from collections import deque
from dataclasses import dataclass, field

from jobrunner import JobGone, JobNotFound

from .entries import KINDS, WAITING, Alarm, Entry, Options, Refusal


@dataclass(eq=False)
class Known:
    """All that there is to know, and what follows from it."""

    workers: int
    grace: float
    max_jobs: int | None
    max_age: float | None
    max_tombstones: int
    max_pending: int
    now: float = 0.0
    paused: bool = False
    jobs: list[Entry] = field(default_factory=list)
    """All that were ever accepted."""
    kept: list[Entry] = field(default_factory=list)
    gone: list[Entry] = field(default_factory=list)
    """Those that were, in the order in which they went."""
    finals: list[Entry] = field(default_factory=list)
    """Those that are kept and have ended, in that order."""
    ready: list[Entry] = field(default_factory=list)
    """Those that wait for a worker, for the first time or again."""
    running: list[Entry] = field(default_factory=list)
    """Those that have one."""
    aside: list[Entry] = field(default_factory=list)
    """Those that were begun and have none: they wait for an answer, for a worker, or stop."""
    stuck: list[Entry] = field(default_factory=list)
    starts: list[tuple[int, int]] = field(default_factory=list)
    """Number and attempt of all that has started, in order."""
    answers: list[tuple[int, int, int]] = field(default_factory=list)
    """Number, question and answer of all that went on with one, in order."""
    tied: bool = False
    """Whether there was an instant whose order nobody promises."""
    start_times: list[tuple[str, float]] = field(default_factory=list)
    """Type and time of the same."""
    alarms: list[Alarm] = field(default_factory=list)
    turns: deque[Entry | None] = field(default_factory=deque)
    """Who is about to act: a handler that stops or is answered, None for the pool."""
    order: int = 0

    def refusal(self, entry: Entry) -> Refusal | None:
        """Return how a request for a job is refused because the job isn't there."""
        if entry in self.kept:
            return None
        remembered = self.gone[-self.max_tombstones :] if self.max_tombstones else []
        return JobGone if entry in remembered else JobNotFound

    def _goes_on(self, entry: Entry) -> bool:
        return entry in self.running or entry in self.aside

    def inside(self) -> list[Entry]:
        """Return those whose handlers can be told what to do."""
        stopping = [entry for entry in self.aside if entry.stop is not None]
        return self.running + stopping + self.stuck

    def _are_rivals(self, entry: Entry, options: Options) -> bool:
        alike = (entry.options.type, entry.options.together) == (options.type, options.together)
        return alike and options.together is not None and not entry.final

    def _is_full(self, type: str, less: list[Entry]) -> bool:
        waiting = [entry for entry in self.kept if entry.status in WAITING and entry not in less]
        most, of_type = KINDS[type].pending, [e for e in waiting if e.options.type == type]
        return len(waiting) >= self.max_pending or (most is not None and len(of_type) >= most)

    def _may_start(self, entry: Entry) -> bool:
        """Whether no limit of its type holds it back."""
        kind, key = KINDS[entry.options.type], entry.options.together
        alike = [other for other in self.running if other.options.type == entry.options.type]
        if kind.together is not None and len(alike) >= kind.together:
            return False
        if key is not None and any(other.options.together == key for other in alike):
            return False
        return entry in self.aside or self._opens(entry.options.type) <= self.now

    def _opens(self, type: str) -> float:
        """Return from when on the type's rate lets another attempt start."""
        rate = KINDS[type].rate
        times = [when for name, when in self.start_times if name == type]
        return (
            0.0 if rate is None or len(times) < rate.starts else times[-rate.starts] + rate.seconds
        )

    def _openings(self) -> list[float]:
        """Return when the rates open to those who wait; who goes on needs none."""
        return [self._opens(e.options.type) for e in self.ready if e not in self.aside]

    def _next_moment(self) -> float:
        """Return when something happens next, by itself; infinite when nothing does."""
        moments = [alarm.when for alarm in self.alarms]
        opens = self._openings()
        return min([*moments, *(when for when in opens if when > self.now)], default=math.inf)

    def _ties(self, when: float) -> bool:
        """Whether a rate opens, or a question's time ends, as something else happens.

        Either may come first then.
        """
        due = [alarm for alarm in self.alarms if alarm.when == when]
        opens = when in self._openings()
        asked = any(alarm.entry.open and not alarm.lasting for alarm in due)
        return len(due) + opens > 1 and (opens or asked)

    def _outlived(self, oldest: Entry) -> bool:
        if self.max_jobs is not None and len(self.finals) > self.max_jobs:
            return True
        return self.max_age is not None and oldest.ended + self.max_age <= self.now

    def listing(self, before: int | None, **wanted: str | None) -> list[int]:
        """Return the numbers of the jobs that are kept, newest first."""
        return [
            entry.number
            for entry in reversed(self.kept)
            if (before is None or entry.number < before)
            and wanted["status"] in (None, entry.status)
            and wanted["type"] in (None, entry.options.type)
            and wanted["session_id"] in (None, entry.options.session)
        ]
