"""The table of processes, read from Linux's `/proc`, and which of them a command has started."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MARKER = "JOBRUNNER_COMMAND"
"""Names the command in the environment of all that it starts; inside another one, after that."""

_ENTRY = f"{MARKER}=".encode()


@dataclass(frozen=True, slots=True)
class Process:
    """A line of the table of processes."""

    pid: int
    parent: int
    group: int
    session: int
    started: int
    """Clock ticks since boot; pids are used again, but not together with this."""
    alive: bool
    """False for a zombie, which nobody has to kill."""


Table = Mapping[int, Process]


class Family:
    """What is known of a command's processes: how they are told from all others."""

    def __init__(self, id: str) -> None:
        self.id = id
        """Stands in the environment of each, in the marker."""
        self.leader: int | None = None
        """Pid of the first, and so the number of its group and of its session."""
        self.started: int | None = None
        """When the leader was started; None when that isn't known."""
        self.known: Mapping[int, int] = {}
        """Pid and start of each that was seen."""


class Found:
    """The table of processes at one time, and to which trees they belong."""

    def __init__(self, trees: list[Family]) -> None:
        self.table: Table = _processes()
        self.owner: dict[int, Family] = {}
        self.doubtful = False
        """Whether a process had no environment, as one has none in the middle of an `exec`."""
        self._children: dict[int, list[int]] = {}
        for process in self.table.values():
            self._children.setdefault(process.parent, []).append(process.pid)
        self._claim_known(trees)
        self._claim_groups(trees)
        self._claim_marked(trees)

    def _claim_known(self, trees: list[Family]) -> None:
        for tree in trees:
            for pid, started in tree.known.items():
                if pid in self.table and self.table[pid].started == started:
                    self._claim(pid, tree)

    def _claim_groups(self, trees: list[Family]) -> None:
        led = {tree.leader: tree for tree in trees if not self._replaced(tree)}
        for pid, process in self.table.items():
            tree = led.get(process.session) or led.get(process.group)
            if tree is not None:
                self._claim(pid, tree)

    def _replaced(self, tree: Family) -> bool:
        leader = self.table.get(tree.leader or 0)
        return leader is not None and tree.started not in (None, leader.started)

    def _claim_marked(self, trees: list[Family]) -> None:
        marked = {tree.id: tree for tree in trees}
        oldest = min((tree.started or 0 for tree in trees), default=0)
        for pid, process in self.table.items():
            kernel = process.group == 0
            if pid in self.owner or kernel or not process.alive or process.started < oldest:
                continue
            for id in self._markers(pid):
                if id in marked:
                    self._claim(pid, marked[id])

    def _markers(self, pid: int) -> list[str]:
        environment = _contents(f"/proc/{pid}/environ")
        self.doubtful = self.doubtful or environment == b""
        for entry in (environment or b"").split(b"\0"):
            if entry.startswith(_ENTRY):
                return entry[len(_ENTRY) :].decode("ascii", "replace").split(".")
        return []

    def _claim(self, pid: int, tree: Family) -> None:
        """It belongs to the tree, and so do its children, and theirs."""
        claimed = [pid]
        while claimed:
            pid = claimed.pop()
            if pid not in self.owner and pid != os.getpid():
                self.owner[pid] = tree
                claimed += self._children.get(pid, [])

    def targets(self, processes: Iterable[Process]) -> set[int]:
        """Return what to signal: whole groups, which can't run away by forking; else pids.

        A group is theirs alone, since it is within a session of theirs, unless its number was
        given to a stranger meanwhile.
        """
        own = os.getpgrp()
        found: set[int] = set()
        for p in processes:
            stranger = p.group in self.table and p.group not in self.owner
            found.add(p.pid if stranger or p.group in (0, 1, own) else -p.group)
        return found


def _processes() -> Table:
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return {pid: found for pid in pids if (found := process(pid)) is not None}


def process(pid: int) -> Process | None:
    """Return the process, or None when there is none. The format: proc_pid_stat(5)."""
    line = _contents(f"/proc/{pid}/stat")
    if not line:
        return None
    fields = line[line.rindex(b")") + 2 :].split()  # a program's name may have blanks and `)`
    return Process(
        pid=pid,
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        started=int(fields[19]),
        alive=fields[0] not in (b"Z", b"X"),
    )


def _contents(path: str) -> bytes | None:
    """Return what is in a file of `/proc`, or None when the process is gone, or hides it."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def has_proc() -> bool:
    """Return whether processes can be looked for here."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False
