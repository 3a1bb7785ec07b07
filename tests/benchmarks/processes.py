"""What the system says of a process: memory and sleeps. Linux only."""

from pathlib import Path


def resident(pid: int | str = "self") -> int:
    """Return the resident memory of a process in bytes."""
    return 1024 * _status(Path(f"/proc/{pid}/status"), "VmRSS")


def peak_resident() -> int:
    """Return the most that this process ever had, in bytes."""
    return 1024 * _status(Path("/proc/self/status"), "VmHWM")


def sleeps() -> int:
    """Return how often a thread of this process went to sleep, and so woke up; all threads."""
    tasks = Path("/proc/self/task").iterdir()
    return sum(_status(task / "status", "voluntary_ctxt_switches") for task in tasks)


def _status(path: Path, name: str) -> int:
    lines = path.read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
