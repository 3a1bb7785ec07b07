"""The lists of jobs: which of them have which status, type, owner, session, batch or
parent.

What changes is noted at once and listed later: when somebody looks, or when many changes have come
together. Most jobs have changed twice by then, and are listed once.
"""

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

from .jobs import FINAL, Job, JobStatus
from .packing import Heading
from .pages import Ids, Index, newest

FILTERS = ("status", "type", "owner", "session_id", "batch_id", "parent_id")
LATE = 256
"""Jobs whose changes are noted before they are listed, in a quarter of a millisecond."""
_filters_of = attrgetter(*FILTERS)
_facts_of = attrgetter(*FILTERS, "id")


class Listing:
    """Jobs by what they can be filtered by, and their ids by number, newest first."""

    def __init__(self) -> None:
        self.ids = Ids()
        """Ids by number; up to date after `update`."""
        self._indexes = {name: Index() for name in FILTERS}
        self._late: dict[int, Job | tuple[Any, ...]] = {}  # of final jobs no record is held
        self._listed: dict[int, JobStatus] = {}  # of live jobs, as they stand in the lists

    def note(self, job: Job) -> None:
        """The job is new, or its status has changed."""
        self._late[job.number] = _facts_of(job) if job.status in FINAL else job
        if len(self._late) >= LATE:
            self.update()

    def update(self) -> None:
        """List what has changed."""
        by_status, listed = self._indexes["status"], self._listed
        alike: dict[tuple[Any, ...], list[int]] = {}  # new ones: most have all in common
        for number, noted in self._late.items():
            facts = noted if type(noted) is tuple else _facts_of(noted)
            was, status = listed.get(number), facts[0]
            if was is None:
                self.ids.add(number, facts[-1])
                alike.setdefault(facts[:-1], []).append(number)
            elif was is not status:
                by_status.remove(was, number)
                by_status.add(status, number)
            if status not in FINAL:
                listed[number] = status
            elif was is not None:
                del listed[number]
        self._late.clear()
        for facts, numbers in alike.items():
            self._add(facts, numbers)

    def _add(self, facts: tuple[Any, ...], numbers: list[int]) -> None:
        for index, value in zip(self._indexes.values(), facts, strict=True):
            if value is not None:
                index.add_all(value, numbers)

    def remove(self, job: Heading) -> None:
        """Forget a final job."""
        number = job.number
        if number in self._late:
            self.update()
        self.ids.remove(number)
        for index, value in zip(self._indexes.values(), _filters_of(job), strict=True):
            if value is not None:
                index.remove(value, number)

    def find(self, filters: Mapping[str, str | None], *, before: int | None) -> Iterator[int]:
        """Yield the numbers of the jobs that have all these values, the newest first.

        Args:
            filters: Values by name; None matches everything.
            before: The number that all are below; None for no bound.
        """
        self.update()
        sets = [
            self._indexes[name].find(value) for name, value in filters.items() if value is not None
        ]
        return newest(sets or [self.ids.numbers], before=before)
