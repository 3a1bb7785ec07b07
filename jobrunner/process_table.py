"""The table of processes, read from Linux's `/proc`, and which of them a command has started."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MARKER = "JOBRUNNER_COMMAND"
"""Names the command in the environment of all that it starts; inside another one, after that."""

_ENTRY = f"{MARKER}=".encode()
_NEWER = 20
"""Times to look at who was born during a search, before it is called doubtful."""


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


class Family:
    """What is known of a command's processes: how they are told from all others."""

    def __init__(self, id: str) -> None:
        self.id = id
        """Stands in the environment of each, in the marker."""
        self.known: Mapping[int, int] = {}
        """Pid and start of each that was there when somebody looked last."""
        self.groups: frozenset[int] = frozenset()
        """Their process groups and sessions, as long as anybody is in them."""


class Found:
    """The table of processes at one time, and to which families they belong."""

    def __init__(self, families: list[Family]) -> None:
        self.table: dict[int, Process] = {}
        self.owner: dict[int, Family] = {}
        self.doubtful = False
        """Whether a child may be missing, or one is in an `exec` and has no environment yet."""
        self._marks: dict[int, list[str]] = {}
        self._children: dict[int, list[int]] = {}
        self._read()
        for process in self.table.values():
            self._children.setdefault(process.parent, []).append(process.pid)
        self._claim_known(families)
        self._claim_groups(families)
        self._claim_marked(families)
        for family in families:
            self._remember(family)

    def _read(self) -> None:
        """Read all, the newest first, and then who was born meanwhile.

        When nobody was, nobody is missing. One that forks and exits all the time is seen in this
        way only, and once seen it is known by its group.
        """
        newest = _newest_pid()
        pids = sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True)
        self.table = {pid: found for pid in pids if (found := process(pid)) is not None}
        for _ in range(_NEWER):
            before, newest = newest, _newest_pid()
            if newest == before:
                return
            self.doubtful = self.doubtful or newest < before  # pids begin again from below
            for pid in range(before + 1, newest + 1):
                if pid not in self.table and (born := process(pid)) is not None:
                    self.table[pid] = born
                    self._marks[pid] = self._markers(pid)
        self.doubtful = True

    def of(self, family: Family) -> list[Process]:
        """Return those of one family."""
        return [p for pid, p in self.table.items() if self.owner.get(pid) is family]

    def unseen(self, family: Family) -> list[int]:
        """Return its groups that exist, but for a zombie, though nobody of them was seen."""
        seen = {number for p in self.table.values() for number in (p.group, p.session)}
        return [group for group in family.groups if group not in seen]

    def _remember(self, family: Family) -> None:
        mine = self.of(family)
        groups = {number for p in mine for number in (p.group, p.session)}
        dead = {p.pid: p for pid, p in self.table.items() if pid in groups and not p.alive}
        family.known = {p.pid: p.started for p in [*mine, *dead.values()]}
        groups |= family.groups
        family.groups = frozenset(group for group in groups if self._is_theirs(group, family))

    def _is_theirs(self, group: int, family: Family) -> bool:
        """A number stays in use as long as anybody is in the group; then a stranger may get it."""
        leader = self.table.get(group)
        if leader is not None:
            return family.known.get(group) == leader.started
        return group > 1 and group != os.getpgrp() and _exists(group)

    def _claim_known(self, families: list[Family]) -> None:
        for family in families:
            for pid, started in family.known.items():
                if pid in self.table and self.table[pid].started == started:
                    self._claim(pid, family)

    def _claim_groups(self, families: list[Family]) -> None:
        theirs = {
            group: family
            for family in families
            for group in family.groups
            if self._is_theirs(group, family)
        }
        for pid, process in self.table.items():
            family = theirs.get(process.session) or theirs.get(process.group)
            if family is not None:
                self._claim(pid, family)

    def _claim_marked(self, families: list[Family]) -> None:
        marked = {family.id: family for family in families}
        for pid, process in self.table.items():
            kernel = process.group == 0
            if pid not in self.owner and process.alive and not kernel:
                for id in self._marks.get(pid) or self._markers(pid):
                    if id in marked:
                        self._claim(pid, marked[id])

    def _markers(self, pid: int) -> list[str]:
        environment = _contents(f"/proc/{pid}/environ")
        self.doubtful = self.doubtful or environment == b""
        for entry in (environment or b"").split(b"\0"):
            if entry.startswith(_ENTRY):
                return entry[len(_ENTRY) :].decode("ascii", "replace").split(".")
        return []

    def _claim(self, pid: int, family: Family) -> None:
        """It belongs to the family, and so do its children, and theirs."""
        claimed = [pid]
        while claimed:
            pid = claimed.pop()
            if pid not in self.owner and pid != os.getpid():
                self.owner[pid] = family
                claimed += self._children.get(pid, [])

    def targets(self, processes: Iterable[Process]) -> set[int]:
        """Return what to signal: whole groups, which can't run away by forking; else pids.

        A group is theirs alone, since it is within a session of theirs, unless somebody has given
        a marker away, and it was led by a stranger before.
        """
        own = os.getpgrp()
        found: set[int] = set()
        for p in processes:
            leader = self.table.get(p.group)
            stranger = leader is not None and leader.alive and p.group not in self.owner
            found.add(p.pid if stranger or p.group in (0, 1, own) else -p.group)
        return found


def _newest_pid() -> int:
    """Return the pid given last, which stands at the end: proc_loadavg(5)."""
    return int((_contents("/proc/loadavg") or b"0").split()[-1])


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


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
    """Return what is in a file of `/proc`: nothing when the process is gone, None if that hides."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return b""
    except PermissionError:
        return None


def has_proc() -> bool:
    """Return whether processes can be looked for here."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False
