"""The queue: which job is next, and which isn't due yet.

Order is by rank, and a rank is a time: the moment a job became due, moved earlier by `AGEING`
seconds for each point of priority. So a job of priority 1 goes before all of priority 0 that
became due up to a minute before it, and behind those that have waited longer: whatever keeps
coming, a job of priority p is overtaken by jobs of priority q for (q - p) minutes at most, and
none starves (Q4). A rank never changes, so those that come in order need no sorting; a heap has
those that overtake.

Who stood aside goes on in the rank that it had, and its sub-jobs go just before it: what was begun
is brought to its end before the next is begun, or all that wait would stand aside together.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable

from .gates import Entry, Gate, Queued, Resumption, TypeGates
from .jobs import Job
from .options import TypeOptions
from .timers import Timers

AGEING = 60.0
"""Seconds of waiting that one point of priority is worth."""
MAX_PRIORITY = 100
"""Priorities are -100 to 100: a bound on how long a job can be overtaken."""
TURN = 100
"""Jobs that one `take` may send to wait at a gate before it lets others run."""


class JobQueue:
    """Jobs that wait for a worker, in order, and jobs that wait for their time or at a gate.

    Times are seconds on the event loop's clock. Putting and taking are O(1) for jobs that come in
    order, and O(log n) for others.

    Args:
        timers: What is not due yet waits there.
        options_of: Returns what was decided for a type; its limits hold here.
        ready: Called when there may be a job to take; not for each one while it has some.
    """

    def __init__(
        self,
        timers: Timers,
        options_of: Callable[[str], TypeOptions],
        ready: Callable[[], None],
    ) -> None:
        self._timers = timers
        self._options_of = options_of
        self._tell = ready
        self._paused = False
        self._held = False
        self._single: Callable[[Queued], None] | None = None
        self.open()

    def open(self) -> None:
        """Begin empty, in whatever event loop comes next."""
        self._line: deque[Entry] = deque()
        self._heap: list[Entry] = []
        self._dropped = 0
        self._gates: dict[str, TypeGates] = {}
        self._parked: dict[str, Gate] = {}
        self._passed: dict[str, TypeGates] = {}

    @property
    def paused(self) -> bool:
        """Whether `take` gives out nothing for now."""
        return self._paused

    def put(self, job: Job, *, delay: float = 0.0, parent_due: float | None = None) -> None:
        """Add a job that is due after `delay` seconds.

        Args:
            parent_due: When its parent became due, if it goes where that went: just before it.
        """
        if parent_due is None or delay > 0.0:
            due = self._timers.now() + delay
        else:
            due = math.nextafter(parent_due, -math.inf)
        job.due = due
        if delay > 0.0:
            job.timer = self._timers.at(due, lambda: self._put_ready(job, due))
        else:
            self._put_ready(job, due)

    def put_back(self, resumption: Resumption) -> None:
        """Add an attempt that waits for a worker again; it goes where it went before."""
        self._put_ready(resumption, resumption.job.due)

    def _put_ready(self, job: Queued, due: float) -> None:
        job.timer = None
        entry = (due - AGEING * job.priority, job.number, job)
        gates = self._gates_of(job)
        closed = None if gates is None else gates.closed(job)
        if closed is None:
            self._push(entry)
        else:
            self._park(entry, closed)

    def _push(self, entry: Entry) -> None:
        line = self._line
        if not line or line[-1] < entry:
            line.append(entry)
        else:
            heapq.heappush(self._heap, entry)
        self._tell()

    def _pop(self) -> Entry | None:
        line, heap = self._line, self._heap
        if heap and not (line and line[0] < heap[0]):
            return heapq.heappop(heap)
        return line.popleft() if line else None

    def take(self) -> Queued | None:
        """Take the next job; None when there is none to be had now, and `ready` will be called.

        Or the next attempt that stood aside, to which its job's limits are open again.

        Who takes a job says `leave` when nothing runs of it any more.
        """
        if self._held or (self._paused and self._single is None):
            return None
        parked = 0
        while (entry := self._pop()) is not None:
            job = entry[2]
            if job.is_final:
                self._dropped -= 1
            elif self._enter(entry):
                if self._single is not None:
                    self._single(job)
                    self._single = None
                return job
            elif (parked := parked + 1) == TURN:
                self._tell()
                break
        return None

    def _enter(self, entry: Entry) -> bool:
        """Pass the gates of the job's type, or wait there."""
        job = entry[2]
        gates = self._gates_of(job)
        if gates is None:
            return True
        if (closed := gates.closed(job)) is not None:
            self._park(entry, closed)
            gates.pass_on(job)
            return False
        gates.enter(job)
        self._passed[job.id] = gates
        return True

    def _gates_of(self, job: Queued) -> TypeGates | None:
        gates = self._gates.get(job.type)
        if gates is None:
            options = self._options_of(job.type)
            gates = self._gates[job.type] = TypeGates(options, self._timers, self._call)
        if not gates.limits_all and job.concurrency_key is None and job.batch is None:
            return None  # as for nearly every job, so that it costs no call
        return None if gates.open_to(job) else gates

    def _park(self, entry: Entry, gate: Gate) -> None:
        gate.park(entry)
        self._parked[entry[2].id] = gate

    def _call(self, entry: Entry) -> None:
        del self._parked[entry[2].id]
        self._push(entry)

    def leave(self, job: Job) -> None:
        """Give back what the job had taken of its type's limits, and its place; twice is once."""
        if self._passed and (gates := self._passed.pop(job.id, None)) is not None:
            gates.leave(job)
        self._tell()

    def discard(self, job: Queued) -> None:
        """Let go of a waiting job that has just become final, or of an attempt that waits no more.

        It stays in its place until it is met, or until half of the queue is like it.
        """
        if job.timer is not None:
            self._timers.cancel(job.timer)
            job.timer = None
            return
        if (gate := self._parked.pop(job.id, None)) is not None:
            gate.drop()
        else:
            self._drop()
        if (gates := self._gates_of(job)) is not None:
            gates.pass_on(job)

    def _drop(self) -> None:
        self._dropped += 1
        if self._dropped > 64 and self._dropped * 2 > len(self._line) + len(self._heap):
            self._line = deque(entry for entry in self._line if not entry[2].is_final)
            self._heap = [entry for entry in self._heap if not entry[2].is_final]
            heapq.heapify(self._heap)
            self._dropped = 0

    def pause(self) -> None:
        """Give out no job until `resume`; jobs that run go on."""
        self._paused = True

    def resume(self) -> None:
        """Give out jobs again."""
        self._paused = False
        self._tell()

    def let_one(self, given: Callable[[Queued], None] | None) -> None:
        """While paused, give out one more job, and call `given` with it; None takes it back."""
        self._single = given
        self._tell()

    def hold(self, held: bool) -> None:
        """Give out no job while the runner can't carry out any; apart from what a user pauses."""
        self._held = held
        self._tell()
