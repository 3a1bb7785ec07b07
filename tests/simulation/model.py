"""What a runner does, told as plainly as possible: lists, loops and no concurrency.

The model is only ever looked at when the runner is at rest: whatever could happen without time
passing has happened.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from jobrunner import (
    DuplicateJob,
    IdempotencyKeyReused,
    JobGone,
    JobNotFinal,
    JobNotFound,
    JobStatus,
    QueueFull,
)

from .entries import (
    KINDS,
    MINUTE,
    STRENGTH,
    WAITING,
    Alarm,
    Entry,
    Options,
    Outcome,
    Refusal,
    Stop,
)


@dataclass(eq=False)
class Model:
    """All that there is to know."""

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
    running: list[Entry] = field(default_factory=list)
    stuck: list[Entry] = field(default_factory=list)
    starts: list[tuple[int, int]] = field(default_factory=list)
    tied: bool = False
    """Whether there was an instant whose order nobody promises."""
    """Number and attempt of all that has started, in order."""
    start_times: list[tuple[str, float]] = field(default_factory=list)
    """Type and time of the same."""
    alarms: list[Alarm] = field(default_factory=list)
    turns: deque[Entry | None] = field(default_factory=deque)
    """Who is about to do something: a handler that was asked to stop, or a worker, for None."""
    order: int = 0
    idle: int = field(init=False)
    """Workers that wait for a job."""

    def __post_init__(self) -> None:
        self.idle = self.workers

    def refusal(self, entry: Entry) -> Refusal | None:
        """Return how a request for a job is refused because the job isn't there."""
        if entry in self.kept:
            return None
        remembered = self.gone[-self.max_tombstones :] if self.max_tombstones else []
        return JobGone if entry in remembered else JobNotFound

    def submit(self, options: Options) -> Refusal | Entry:
        """Return the new job, the one that had the key, or why there is none."""
        for entry in self.kept:
            if options.key is not None and options.key in (entry.options.key, *entry.joined):
                same = entry.options.type == options.type
                return entry if same else IdempotencyKeyReused
        rivals = [entry for entry in self.kept if self._are_rivals(entry, options)]
        going_on = [entry for entry in rivals if not entry.asked]
        if going_on and options.duplicate == "join":
            going_on[-1].joined.append(options.key)
            return going_on[-1]
        if rivals and options.duplicate == "reject":
            return DuplicateJob
        replaced = rivals if options.duplicate == "replace" else []
        if self._is_full(options.type, replaced):
            return QueueFull
        for rival in replaced:
            self.cancel(rival)
        return self._add(options)

    def _are_rivals(self, entry: Entry, options: Options) -> bool:
        alike = (entry.options.type, entry.options.together) == (options.type, options.together)
        return alike and options.together is not None and not entry.final

    def _is_full(self, type: str, less: list[Entry]) -> bool:
        waiting = [entry for entry in self.kept if entry.status in WAITING and entry not in less]
        most, of_type = KINDS[type].pending, [e for e in waiting if e.options.type == type]
        return len(waiting) >= self.max_pending or (most is not None and len(of_type) >= most)

    def _add(self, options: Options) -> Entry:
        entry = Entry(len(self.jobs) + 1, options)
        self.jobs.append(entry)
        self.kept.append(entry)
        self._move(entry, JobStatus.PENDING)
        if options.expires is not None:
            self._alarm(entry, options.delay + options.expires, self._expire, lasting=True)
        if options.deadline is not None:
            entry.due_by = self.now + options.delay + options.deadline
            self._alarm(entry, options.delay + options.deadline, self._miss, lasting=True)
        self._queue(entry, options.delay)
        return entry

    def retry(self, entry: Entry) -> Refusal | Entry:
        """Return the new job that runs a final one again, or why there is none."""
        if (refusal := self.refusal(entry)) is not None:
            return refusal
        if not entry.final:
            return JobNotFinal
        again = self.submit(
            entry.options._replace(delay=0.0, key=None, expires=None, duplicate="enqueue")
        )
        if isinstance(again, Entry):
            again.retry_of = entry
        return again

    def retry_failed(self, type: str | None) -> Refusal | list[Entry]:
        """Return the new jobs that run failed ones again, newest first, or why there is none."""
        made: list[Entry] = []
        for entry in [e for e in reversed(self.kept) if e.status is JobStatus.FAILED]:
            retried = any(other.retry_of is entry for other in self.kept)
            if type in (None, entry.options.type) and not retried:
                again = self.retry(entry)
                if not isinstance(again, Entry):
                    return made or again
                made.append(again)
        return made

    def cancel(self, entry: Entry) -> Refusal | None:
        if (refusal := self.refusal(entry)) is not None:
            return refusal
        if entry in self.running:
            if not entry.asked:
                entry.history.append((JobStatus.RUNNING, self.now))  # that it is to stop
            entry.asked = True
            self._ask(entry, "cancel")
        elif not entry.final:
            self._end(entry, JobStatus.CANCELLED)
        return None

    def _expire(self, entry: Entry) -> None:
        if entry.attempt == 0:
            self._end(entry, JobStatus.FAILED)

    def _miss(self, entry: Entry) -> None:
        if entry in self.running:
            self._ask(entry, "deadline")
        else:
            self._end(entry, JobStatus.FAILED)

    def forget(self, entry: Entry) -> Refusal | None:
        if (refusal := self.refusal(entry)) is not None:
            return refusal
        if not entry.final:
            return JobNotFinal
        self.finals.remove(entry)
        self._bury(entry)
        return None

    def finish(self, entry: Entry, outcome: Outcome, delay: float) -> None:
        """The handler returns or raises; what a stuck one says is dropped."""
        if entry in self.stuck:
            self.stuck.remove(entry)
        elif outcome == "value" and entry.stop not in ("timeout", "deadline"):
            self._leave(entry)
            self._end(entry, JobStatus.COMPLETED)
        else:
            self._leave(entry)
            self._fail(entry, outcome, delay)

    def _act(self) -> None:
        """What was asked to stop stops, and workers take who is next."""
        while self.turns:
            if (entry := self.turns.popleft()) is None:
                self._take()
            elif entry in self.running:
                self._leave(entry)
                self._fail(entry, "error", 0.0)
        self.idle = max(0, self.workers - len(self.running))

    def wake(self) -> None:
        """All idle workers look at the queue again, after a resume or a resize."""
        self.turns.extend([None] * (self.workers - len(self.running)))

    def _take(self) -> None:
        able = [entry for entry in self.ready if self._may_start(entry)]
        if able and not self.paused and len(self.running) < self.workers:
            entry = min(able, key=lambda entry: (entry.rank, entry.number))
            self.ready.remove(entry)
            self._start(entry)

    def _may_start(self, entry: Entry) -> bool:
        """Whether no limit of its type holds it back."""
        kind, key = KINDS[entry.options.type], entry.options.together
        alike = [other for other in self.running if other.options.type == entry.options.type]
        if kind.together is not None and len(alike) >= kind.together:
            return False
        if key is not None and any(other.options.together == key for other in alike):
            return False
        return self._opens(entry.options.type) <= self.now

    def _opens(self, type: str) -> float:
        """Return from when on the type's rate lets another attempt start."""
        rate = KINDS[type].rate
        times = [when for name, when in self.start_times if name == type]
        return (
            0.0 if rate is None or len(times) < rate.starts else times[-rate.starts] + rate.seconds
        )

    def _next_moment(self) -> float:
        """Return when something happens next, by itself; infinite when nothing does."""
        moments = [alarm.when for alarm in self.alarms]
        opens = [self._opens(entry.options.type) for entry in self.ready]
        return min([*moments, *(when for when in opens if when > self.now)], default=math.inf)

    def _ties(self, when: float) -> bool:
        """Whether a rate opens in the instant of an alarm: either may come first then."""
        opens = any(self._opens(entry.options.type) == when for entry in self.ready)
        return opens and any(alarm.when == when for alarm in self.alarms)

    def advance(self, seconds: float = 0.0) -> None:
        """Let time pass, from one thing that happens to the next; first what happens now."""
        self._act()
        target = self.now + seconds
        while (when := self._next_moment()) <= target:
            self.now = when
            self._prune()
            self.tied = self.tied or self._ties(when)
            due = sorted(alarm for alarm in self.alarms if alarm.when == when)
            for alarm in due:
                if alarm in self.alarms:
                    self.alarms.remove(alarm)
                    alarm.call(alarm.entry)
            self.wake()
            self._act()
        self.now = target
        self._prune()

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

    def _move(self, entry: Entry, status: JobStatus) -> None:
        entry.status = status
        entry.history.append((status, self.now))

    def _queue(self, entry: Entry, delay: float) -> None:
        entry.rank = self.now + delay - MINUTE * entry.options.priority
        if delay > 0:
            self._alarm(entry, delay, self._put)
        else:
            self._put(entry)

    def _put(self, entry: Entry) -> None:
        self.ready.append(entry)
        if self.idle > 0:
            self.idle -= 1
            self.turns.append(None)

    def _start(self, entry: Entry) -> None:
        entry.attempt += 1
        entry.stop = None
        self._move(entry, JobStatus.RUNNING)
        self.running.append(entry)
        self.starts.append((entry.number, entry.attempt))
        self.start_times.append((entry.options.type, self.now))
        if entry.options.timeout is not None:
            self._alarm(entry, entry.options.timeout, lambda entry: self._ask(entry, "timeout"))

    def _ask(self, entry: Entry, reason: Stop) -> None:
        """Ask the handler to stop, again after a grace, and give it up after another."""
        asked = entry.stop is not None
        entry.stop = max(reason, entry.stop, key=STRENGTH.index)
        if asked:
            return
        if KINDS[entry.options.type].obeys:
            self.turns.append(entry)
        self._silence(entry)
        self._alarm(entry, self.grace, lambda _: self._alarm(entry, self.grace, self._give_up))

    def _give_up(self, entry: Entry) -> None:
        self._leave(entry)
        self.stuck.append(entry)
        self._end(entry, JobStatus.FAILED)

    def _leave(self, entry: Entry) -> None:
        self.running.remove(entry)
        self.turns.append(None)
        self._silence(entry)

    def _fail(self, entry: Entry, outcome: Outcome, delay: float) -> None:
        left = entry.attempt < KINDS[entry.options.type].attempts
        wait = delay if outcome == "later" and entry.stop is None else 0.0
        in_time = entry.stop != "deadline" and self.now + wait < entry.due_by
        if entry.stop == "cancel":
            self._end(entry, JobStatus.CANCELLED)
        elif left and in_time and (entry.stop == "timeout" or outcome != "never"):
            self._move(entry, JobStatus.RETRYING)
            self._queue(entry, wait)
        else:
            self._end(entry, JobStatus.FAILED)

    def _end(self, entry: Entry, status: JobStatus) -> None:
        self.alarms = [alarm for alarm in self.alarms if alarm.entry is not entry]
        if entry in self.ready:
            self.ready.remove(entry)
        self._move(entry, status)
        entry.ended = self.now
        self.finals.append(entry)
        self._prune()

    def _prune(self) -> None:
        while self.finals and self._outlived(self.finals[0]):
            self._bury(self.finals.pop(0))

    def _outlived(self, oldest: Entry) -> bool:
        if self.max_jobs is not None and len(self.finals) > self.max_jobs:
            return True
        return self.max_age is not None and oldest.ended + self.max_age <= self.now

    def _bury(self, entry: Entry) -> None:
        self.kept.remove(entry)
        self.gone.append(entry)

    def _alarm(
        self, entry: Entry, delay: float, call: Callable[[Entry], None], *, lasting: bool = False
    ) -> None:
        self.order += 1
        self.alarms.append(Alarm(self.now + delay, self.order, entry, call, lasting))

    def _silence(self, entry: Entry) -> None:
        """What an attempt had set strikes no more."""
        self.alarms = [a for a in self.alarms if a.entry is not entry or a.lasting]
