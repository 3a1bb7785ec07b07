"""What is known of the host that deliveries go to: its line, its places, its circuit.

closed      tries go through, a few at once
open        nothing does, for a while, after so many failures in a row
half open   one try does; what comes of it closes the circuit, or opens it again
"""

from collections import deque

from .deliveries import Delivery
from .posting import Answer

PER_HOST = 4
"""Tries at one host at once."""
BREAK_AFTER = 5
"""Failures in a row that open the circuit."""
BREAK_FOR = 30.0
"""Seconds for which an open circuit lets nothing through."""


class Host:
    """A host and port, while anything is under way to it, or it has failed last."""

    __slots__ = ("_closes_at", "failures", "line", "name", "sending", "under_way")

    def __init__(self, name: str) -> None:
        self.name = name
        self.under_way = 0
        """Deliveries to it that haven't ended."""
        self.line: deque[Delivery] = deque()
        """Those that are due, and wait for a place."""
        self.sending = 0
        """Tries that are made right now."""
        self.failures = 0
        """Failures in a row."""
        self._closes_at = 0.0

    @property
    def has_room(self) -> bool:
        """Whether the next of its line may be tried now."""
        most = PER_HOST if self.failures < BREAK_AFTER else 1
        return bool(self.line) and self.sending < most

    def is_open(self, clock: float) -> bool:
        """Whether its circuit is open: nothing goes through now, on the loop's clock."""
        return clock < self._closes_at

    def judge(self, answer: Answer, clock: float) -> None:
        """Open the circuit or close it. Who refuses what was sent is well; 429 is overload."""
        if answer.status is not None and answer.status < 500 and answer.status != 429:
            self.failures, self._closes_at = 0, 0.0
        else:
            self.failures += 1
            if self.failures >= BREAK_AFTER:
                self._closes_at = clock + BREAK_FOR
