"""What a runner does, told as plainly as possible: lists, loops and no concurrency.

The model is only ever looked at when the runner is at rest: whatever could happen without time
passing has happened.
"""

import math
from collections.abc import Callable

from jobrunner import (
    DuplicateJob,
    IdempotencyKeyReused,
    InvalidAnswer,
    JobNotFinal,
    JobStatus,
    NotWaitingForInput,
    QuestionNotFound,
    QueueFull,
)

from .entries import (
    KINDS,
    MINUTE,
    STRENGTH,
    Alarm,
    Entry,
    Options,
    Outcome,
    Refusal,
    Stop,
)
from .known import Known

NOBODY = -1
"""What a handler goes on with when nobody has answered in time."""


class Model(Known):
    """The same, as it changes."""

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
        if self._goes_on(entry):
            if not entry.asked:
                entry.history.append((entry.status, self.now))  # that it is to stop
            entry.asked = True
            self._stop(entry, "cancel")
        elif not entry.final:
            self._end(entry, JobStatus.CANCELLED)
        return None

    def ask(self, entry: Entry, timeout: float | None) -> None:
        """The handler asks a person, unless it is to stop; it gives its worker back meanwhile."""
        if entry.stop is not None:
            return
        entry.questions += 1
        entry.open = True
        self._move(entry, JobStatus.INPUT_REQUIRED)
        self._silence(entry)
        entry.left = entry.ends_by - self.now
        if timeout is not None:
            self._alarm(entry, timeout, lambda entry: self._close(entry, NOBODY))
        self.running.remove(entry)
        self.aside.append(entry)
        self.stir()

    def answer(self, entry: Entry, question: int | None, value: int | None) -> Refusal | None:
        """Somebody answers; None is no answer that fits."""
        if (refusal := self.refusal(entry)) is not None:
            return refusal
        if not entry.open or question not in (None, entry.questions):
            never = not entry.final and question is not None and question > entry.questions
            return QuestionNotFound if never else NotWaitingForInput
        if value is None:
            return InvalidAnswer
        self._close(entry, value)
        return None

    def _close(self, entry: Entry, value: int) -> None:
        self._withdraw(entry)
        self._silence(entry)
        entry.answer = value
        self.turns.append(entry)

    def _withdraw(self, entry: Entry) -> None:
        """Nobody waits for an answer any more, nor for a worker."""
        if entry.open:
            entry.open = False
            self._move(entry, JobStatus.RUNNING)
        if entry in self.ready:
            self.ready.remove(entry)

    def _expire(self, entry: Entry) -> None:
        if entry.attempt == 0:
            self._end(entry, JobStatus.FAILED)

    def _miss(self, entry: Entry) -> None:
        if self._goes_on(entry):
            self._stop(entry, "deadline")
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
        """What was asked to stop stops, and who is next is begun, in the order of their turns."""
        while self.turns:
            if (entry := self.turns.popleft()) is None:
                self._fill()
            elif entry in self.aside and entry.stop is None:
                self._put(entry)
            elif self._goes_on(entry):
                self._leave(entry)
                self._fail(entry, "error", 0.0)

    def stir(self) -> None:
        """There may be a job and a worker for it: the pool has a turn, after all that have one."""
        if None not in self.turns:
            self.turns.append(None)

    def _fill(self) -> None:
        while len(self.running) < self.workers and not self.paused:
            able = [entry for entry in self.ready if self._may_start(entry)]
            if not able:
                return
            entry = min(able, key=lambda entry: (entry.rank, entry.number))
            self.ready.remove(entry)
            if entry in self.aside:
                self._go_on(entry)
            else:
                self._start(entry)

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
            self.stir()
            self._act()
        self.now = target
        self._prune()

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
        self.stir()

    def _start(self, entry: Entry) -> None:
        entry.attempt += 1
        entry.stop = None
        self._move(entry, JobStatus.RUNNING)
        self.running.append(entry)
        self.starts.append((entry.number, entry.attempt))
        self.start_times.append((entry.options.type, self.now))
        self._limit(entry, math.inf if entry.options.timeout is None else entry.options.timeout)

    def _go_on(self, entry: Entry) -> None:
        """It has a worker again, and as much time as it had."""
        self.aside.remove(entry)
        self.running.append(entry)
        self.answers.append((entry.number, entry.questions, entry.answer))
        self._limit(entry, entry.left)

    def _limit(self, entry: Entry, seconds: float) -> None:
        entry.ends_by = self.now + seconds
        if seconds < math.inf:
            self._alarm(entry, seconds, lambda entry: self._stop(entry, "timeout"))

    def _stop(self, entry: Entry, reason: Stop) -> None:
        """Ask the handler to stop, again after a grace, and give it up after another."""
        asked = entry.stop is not None
        entry.stop = max(reason, entry.stop, key=STRENGTH.index)
        if asked:
            return
        self._withdraw(entry)
        if KINDS[entry.options.type].obeys:
            self.turns.append(entry)
        self._silence(entry)
        self._alarm(entry, self.grace, lambda _: self._alarm(entry, self.grace, self._give_up))

    def _give_up(self, entry: Entry) -> None:
        self._leave(entry)
        self.stuck.append(entry)
        self._end(entry, JobStatus.FAILED)

    def _leave(self, entry: Entry) -> None:
        (self.aside if entry in self.aside else self.running).remove(entry)
        self.stir()
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
        self.stir()
        self._move(entry, status)
        entry.ended = self.now
        self.finals.append(entry)
        self._prune()

    def _prune(self) -> None:
        while self.finals and self._outlived(self.finals[0]):
            self._bury(self.finals.pop(0))

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
