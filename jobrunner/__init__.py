"""jobrunner: a single-process, asyncio, in-memory job runner for people who build AI agents."""

from .commands import CommandResult
from .context import JobContext
from .errors import (
    CommandFailed,
    CommandNotFound,
    DuplicateJob,
    DuplicateJobType,
    ForkedRunner,
    IdempotencyKeyReused,
    IllegalTransition,
    InvalidCursor,
    InvalidHandler,
    InvalidOption,
    InvalidParams,
    InvalidResult,
    JobCancelled,
    JobFailed,
    JobGone,
    JobNotFinal,
    JobNotFound,
    JobNotRetryable,
    JobRunnerError,
    JobUnsuccessful,
    PayloadTooLarge,
    PermanentError,
    ProcessDied,
    QueueFull,
    RequestError,
    RetryableError,
    RunnerNotStarted,
    RunnerStopped,
    SeveralWorkers,
    UnknownJobType,
    UsageError,
    WrongLoop,
)
from .events import Event
from .handles import JobHandle
from .jobs import JobStatus
from .limits import Limits, Retention
from .lookup import JobPage, Stats, Waited
from .retry import RetryPolicy
from .runner import JobRunner
from .views import JobView

__version__ = "0.1.0"

__all__ = [
    "CommandFailed",
    "CommandNotFound",
    "CommandResult",
    "DuplicateJob",
    "DuplicateJobType",
    "Event",
    "ForkedRunner",
    "IdempotencyKeyReused",
    "IllegalTransition",
    "InvalidCursor",
    "InvalidHandler",
    "InvalidOption",
    "InvalidParams",
    "InvalidResult",
    "JobCancelled",
    "JobContext",
    "JobFailed",
    "JobGone",
    "JobHandle",
    "JobNotFinal",
    "JobNotFound",
    "JobNotRetryable",
    "JobPage",
    "JobRunner",
    "JobRunnerError",
    "JobStatus",
    "JobUnsuccessful",
    "JobView",
    "Limits",
    "PayloadTooLarge",
    "PermanentError",
    "ProcessDied",
    "QueueFull",
    "RequestError",
    "Retention",
    "RetryPolicy",
    "RetryableError",
    "RunnerNotStarted",
    "RunnerStopped",
    "SeveralWorkers",
    "Stats",
    "UnknownJobType",
    "UsageError",
    "Waited",
    "WrongLoop",
    "__version__",
]
