"""The error tree.

    JobRunnerError                    code
    ├── UsageError                    the program that embeds the runner is wrong
    │   ├── InvalidOption             invalid-option
    │   ├── InvalidHandler            invalid-handler
    │   ├── InvalidToolsFile          invalid-tools-file
    │   ├── DuplicateJobType          duplicate-job-type
    │   ├── WrongLoop                 wrong-loop
    │   ├── IllegalTransition         illegal-transition
    │   ├── ForkedRunner              forked-runner
    │   ├── SeveralWorkers            several-workers
    │   ├── AttemptEnded              attempt-ended
    │   ├── RunnerNotStarted          runner-not-started
    │   └── RunnerStopped             shutting-down
    ├── RequestError                  what was asked can't be done
    │   ├── UnknownJobType            unknown-job-type
    │   ├── InvalidParams             invalid-params
    │   ├── InvalidCursor             invalid-cursor
    │   ├── PayloadTooLarge           payload-too-large
    │   ├── QueueFull                 queue-full
    │   ├── DuplicateJob              duplicate-job
    │   ├── IdempotencyKeyReused      idempotency-key-reused
    │   ├── BatchNotFound             batch-not-found
    │   ├── BatchGone                 batch-gone
    │   ├── JobNotFound               job-not-found
    │   ├── JobGone                   job-gone
    │   ├── DeliveryNotFound          delivery-not-found
    │   ├── QuestionNotFound          question-not-found
    │   ├── NotWaitingForInput        not-waiting-for-input
    │   ├── InvalidAnswer             invalid-answer
    │   ├── JobNotFinal               job-not-final
    │   ├── TooDeeplyNested           too-deeply-nested
    │   └── JobNotRetryable           job-not-retryable
    ├── JobUnsuccessful               raised by `result()`: the job ended without a value
    │   ├── JobFailed                 job-failed
    │   └── JobCancelled              job-cancelled
    ├── InvalidResult                 invalid-result
    ├── CommandFailed                 command-failed
    ├── CommandNotFound               command-not-found
    ├── ProcessDied                   process-died
    ├── ServerUnreachable             server-unreachable   raised by the client alone
    ├── ServerProblem                 server-problem       raised by the client alone
    ├── WebhookRejected               webhook-rejected
    ├── RetryableError                retryable      raise it in a handler
    └── PermanentError                permanent      raise it in a handler

Each class has a stable `code`, which is also the last part of the problem type over HTTP, so that a
client can raise what the runner raised.
"""

from collections.abc import Sequence
from typing import TypedDict


class JobRunnerError(Exception):
    """Base of everything that jobrunner raises on purpose."""

    code: str = "error"


class UsageError(JobRunnerError):
    """The program that embeds the runner is wrong."""

    code = "usage"


class InvalidOption(UsageError, ValueError):
    """An option has a value that it can't have; `option` names it, where it has a name."""

    code = "invalid-option"

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class InvalidHandler(UsageError, TypeError):
    """A function can't serve as a handler."""

    code = "invalid-handler"


class InvalidToolsFile(UsageError, ValueError):
    """A tools file can't be used; `problems` says each thing that is wrong, with its line.

    Args:
        message: All of it.
        problems: Pairs of a line, from 1, or 0 for the whole file, and what is wrong there.
    """

    code = "invalid-tools-file"

    def __init__(self, message: str, problems: Sequence[tuple[int, str]] = ()) -> None:
        super().__init__(message)
        self.problems = list(problems)


class DuplicateJobType(UsageError):
    """Two handlers have one name."""

    code = "duplicate-job-type"


class WrongLoop(UsageError, RuntimeError):
    """The runner was called from another thread or another event loop than its own."""

    code = "wrong-loop"


class IllegalTransition(UsageError, RuntimeError):
    """A job can't go from one status to the other."""

    code = "illegal-transition"


class ForkedRunner(UsageError, RuntimeError):
    """The runner is a copy, made by a fork, of one that runs in another process."""

    code = "forked-runner"


class SeveralWorkers(UsageError, RuntimeError):
    """The server has several worker processes, and a runner has its jobs in one."""

    code = "several-workers"


class AttemptEnded(UsageError, RuntimeError):
    """A handler submits sub-jobs after its attempt has ended, or was asked to stop."""

    code = "attempt-ended"


class RunnerNotStarted(UsageError, RuntimeError):
    """The runner was used before it was started."""

    code = "runner-not-started"


class RunnerStopped(UsageError, RuntimeError):
    """The runner is stopping, or has stopped, and takes no more jobs."""

    code = "shutting-down"


class RequestError(JobRunnerError):
    """What was asked for can't be done."""

    code = "bad-request"


class UnknownJobType(RequestError, LookupError):
    """No handler is registered under that name."""

    code = "unknown-job-type"


class ParamProblem(TypedDict):
    """One thing that is wrong with the params, and where."""

    detail: str
    """What is wrong, for a person."""
    pointer: str
    """JSON pointer (RFC 6901) into the params, as a URI fragment: `#/path`."""


class InvalidParams(RequestError, ValueError):
    """The params don't fit the handler's signature; `errors` says where."""

    code = "invalid-params"

    def __init__(self, message: str, errors: Sequence[ParamProblem] = ()) -> None:
        super().__init__(message)
        self.errors = list(errors)


class InvalidCursor(RequestError, ValueError):
    """A page cursor was not made by this runner."""

    code = "invalid-cursor"


class PayloadTooLarge(RequestError, ValueError):
    """Params or a request body are over their limit."""

    code = "payload-too-large"


class QueueFull(RequestError):
    """As many jobs wait already as may.

    Args:
        message: What is full.
        retry_after: Seconds in which there should be room, at the pace of the last jobs.
    """

    code = "queue-full"

    def __init__(self, message: str, *, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DuplicateJob(RequestError):
    """A live job has the same concurrency key, and the type rejects duplicates.

    Args:
        message: Which key.
        job_id: The live job.
    """

    code = "duplicate-job"

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class IdempotencyKeyReused(RequestError):
    """An idempotency key came again with another request."""

    code = "idempotency-key-reused"


class BatchNotFound(RequestError, LookupError):
    """No batch has that id."""

    code = "batch-not-found"


class BatchGone(RequestError, LookupError):
    """The batch was there, and has been pruned."""

    code = "batch-gone"


class JobNotFound(RequestError, LookupError):
    """No job has that id."""

    code = "job-not-found"


class JobGone(RequestError, LookupError):
    """The job was there, and has been pruned or forgotten."""

    code = "job-gone"


class DeliveryNotFound(RequestError, LookupError):
    """The job has no webhook delivery with that id, or not any more."""

    code = "delivery-not-found"


class QuestionNotFound(RequestError, LookupError):
    """The job never asked that, or no open question has the token."""

    code = "question-not-found"


class NotWaitingForInput(RequestError):
    """The question was answered already, nobody waits for it any more, or the job asks nothing."""

    code = "not-waiting-for-input"


class InvalidAnswer(RequestError, ValueError):
    """The answer doesn't fit what was asked for; `errors` says where."""

    code = "invalid-answer"

    def __init__(self, message: str, errors: Sequence[ParamProblem] = ()) -> None:
        super().__init__(message)
        self.errors = list(errors)


class JobNotFinal(RequestError):
    """The job hasn't ended, and the request needs one that has."""

    code = "job-not-final"


class TooDeeplyNested(RequestError):
    """Sub-jobs have sub-jobs, over more generations than may be."""

    code = "too-deeply-nested"


class JobNotRetryable(RequestError):
    """The job can't be run again from what is kept of it."""

    code = "job-not-retryable"


class JobUnsuccessful(JobRunnerError):
    """The job ended without a value."""

    code = "job-unsuccessful"

    def __init__(self, message: str, *, job_id: str, reason: str, retryable: bool = True) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.reason = reason
        self.retryable = retryable


class JobFailed(JobUnsuccessful):
    """The job failed.

    `reason` says how: `error`, `timeout`, `stuck`, ...; `retryable` whether it could succeed if it
    were run again. A handler that lets it out is tried again only then.
    """

    code = "job-failed"


class JobCancelled(JobUnsuccessful):
    """The job was cancelled.

    `reason` says by whom: `user`, `shutdown`, ... A handler that lets it out isn't tried again.
    """

    code = "job-cancelled"


class InvalidResult(JobRunnerError, TypeError):
    """A handler returned what can't be kept as JSON, or isn't what its annotation says."""

    code = "invalid-result"


class CommandFailed(JobRunnerError):
    """A command that was run with `check=True` ended with another exit code than 0."""

    code = "command-failed"


class CommandNotFound(JobRunnerError):
    """The program of a command isn't there, or can't be executed."""

    code = "command-not-found"


class ProcessDied(JobRunnerError):
    """The child process of a handler ended before the handler had."""

    code = "process-died"


class ServerUnreachable(JobRunnerError, ConnectionError):
    """The server of a client didn't answer, nor when it was asked again."""

    code = "server-unreachable"


class ServerProblem(JobRunnerError):
    """The server of a client answered with an error that has no class of its own here.

    Args:
        message: What the server said.
        code: Name of the problem: `unauthorized`, `forbidden`, `internal-error`, ...
        status: HTTP status of the answer.
    """

    code = "server-problem"

    def __init__(self, message: str, *, code: str = code, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class WebhookRejected(JobRunnerError):
    """What came as a webhook isn't from who has the secret, or isn't of now."""

    code = "webhook-rejected"


class RetryableError(JobRunnerError):
    """Raise it in a handler to have the job tried again, if attempts are left.

    Args:
        message: What went wrong, for a person.
        retry_after: Seconds to wait at least; None leaves the delay to the policy's backoff.
    """

    code = "retryable"

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(JobRunnerError):
    """Raise it in a handler to fail the job now, whatever attempts are left."""

    code = "permanent"
