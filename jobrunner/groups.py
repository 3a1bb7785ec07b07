"""Live jobs by something that several of them share."""

from typing import Generic, TypeVar

from .jobs import Job

K = TypeVar("K")


class Groups(Generic[K]):
    """Jobs by key, those of one key in the order in which they came; an empty group costs nothing.

    Everything is O(1).
    """

    def __init__(self) -> None:
        self._groups: dict[K, dict[str, Job]] = {}

    def add(self, key: K, job: Job) -> None:
        """Put a job into the group of `key`."""
        self._groups.setdefault(key, {})[job.id] = job

    def remove(self, key: K, job: Job) -> None:
        """Take a job out of the group that it is in."""
        group = self._groups[key]
        del group[job.id]
        if not group:
            del self._groups[key]

    def of(self, key: K) -> dict[str, Job]:
        """Return the group; it changes as its jobs do, so take a list of it to end them."""
        return self._groups.get(key) or {}
