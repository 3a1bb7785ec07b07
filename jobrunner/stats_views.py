"""What everybody outside sees of how a runner does; see `Stats`, which it is made of."""

from typing import Literal

from .views import Frozen


class StatsView(Frozen):
    """How a runner does, at one moment."""

    state: Literal["new", "running", "draining", "stopped"]
    """new, running, draining or stopped."""
    paused: bool
    """Whether no job is started for now."""
    workers: int
    """How many jobs may run at once."""
    busy: int
    """How many run, and have a worker."""
    aside: int
    """How many wait for an answer, for sub-jobs or for a worker after it, without one."""
    stuck: int
    """Handlers that refused to end and still run, their jobs long ended."""
    stuck_total: int
    """How many there have been."""
    blocked: int
    """How often the event loop was blocked, as far as the watchdog saw it."""
    faults: int
    """How often a fault of the runner's own has cost a job its attempt."""
    unready: str | None
    """Why no more work should come here; null when it may."""
    jobs: dict[str, int]
    """Jobs that are kept, by status; empty where jobs have owners."""
    pruned: int
    """Jobs that were kept and are gone: too old, too many, or forgotten; 0 where jobs have
    owners."""
    webhooks: dict[str, int]
    """Deliveries: `pending` now, `delivered` and `dead` so far, and `failed` tries; empty where
    jobs have owners."""
