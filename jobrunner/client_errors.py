"""What a server says went wrong, as the exception that its runner raised."""

from http import HTTPStatus

import httpx2
from pydantic import BaseModel, ValidationError

from . import errors
from .errors import JobRunnerError, ParamProblem, ServerProblem

CLASSES = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, JobRunnerError)
}
"""By code; not from `__subclasses__`, where a program's own classes would be, too."""
CLASSES |= {"invalid-request": errors.InvalidOption, "invalid-query": errors.InvalidOption}
RESTARTED = "A server that was restarted knows no job of before: they are in memory."
NOTES = {
    "unauthorized": "The client takes the token as JobClient(url, token=...).",
    "job-not-found": RESTARTED,
    "batch-not-found": RESTARTED,
}
"""What the client adds to what a server says, below the message."""
IN_PARAMS, IN_VALUE = "#/params", "#/value"


class Fault(BaseModel):
    """One of the `errors` of a problem document."""

    detail: str = ""
    pointer: str = ""


class Problem(BaseModel):
    """A problem document (RFC 9457); members that this version doesn't know are left out."""

    type: str
    title: str = ""
    detail: str = ""
    errors: list[Fault] = []
    option: str | None = None
    job_id: str = ""
    reason: str = ""
    retry_after: float | None = None

    @property
    def code(self) -> str:
        """The stable name: the last part of the type."""
        return self.type.rpartition("/")[2]


def error_from(response: httpx2.Response) -> JobRunnerError:
    """Return what an answer that is no success says, to be raised.

    A code that this version doesn't know is a ServerProblem with that code.
    """
    problem = _problem(response)
    if problem is None:
        return _unexpected(response)
    error = _build(problem, response)
    if (note := NOTES.get(error.code)) is not None:
        error.add_note(note)
    return error


def not_a_job(response: httpx2.Response) -> ServerProblem:
    """Return the error for a success that isn't what a runner's app would say."""
    return ServerProblem(
        f"{_asked(response)} answered {response.status_code} with {_kind(response)}, which is no "
        "answer of jobrunner; base_url has to be the address that the runner's app is mounted at",
        code="no-jobrunner",
        status=response.status_code,
    )


def retry_after(response: httpx2.Response) -> float:
    """Return the seconds of `Retry-After`, 0 where there are none."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0.0


def _problem(response: httpx2.Response) -> Problem | None:
    if _kind(response) != "application/problem+json":
        return None
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return None


def _build(problem: Problem, response: httpx2.Response) -> JobRunnerError:
    kind, said = CLASSES.get(problem.code), problem.detail or problem.title
    if kind is None or issubclass(kind, ServerProblem):
        return ServerProblem(said, code=problem.code, status=response.status_code)
    if issubclass(kind, errors.InvalidParams):
        return kind(said, _inside(IN_PARAMS, problem.errors))
    if issubclass(kind, errors.InvalidAnswer):
        return kind(said, _inside(IN_VALUE, problem.errors))
    if issubclass(kind, errors.InvalidOption):
        return kind(said, option=problem.option or _member(problem.errors))
    if issubclass(kind, errors.QueueFull):
        wait = problem.retry_after
        return kind(said, retry_after=retry_after(response) if wait is None else wait)
    if issubclass(kind, errors.DuplicateJob):
        return kind(said, job_id=problem.job_id)
    if issubclass(kind, errors.JobUnsuccessful):
        return kind(said, job_id=problem.job_id, reason=problem.reason)
    return kind(said)


def _inside(member: str, faults: list[Fault]) -> list[ParamProblem]:
    """Point into params or an answer, as the runner does, and not into the body they came in."""
    return [
        ParamProblem(detail=fault.detail, pointer=f"#{fault.pointer.removeprefix(member)}")
        for fault in faults
    ]


def _member(faults: list[Fault]) -> str | None:
    """Return the member of the body that is wrong, when it is one."""
    name = faults[0].pointer.removeprefix("#/") if faults else ""
    return name if name.isidentifier() else None


def _unexpected(response: httpx2.Response) -> ServerProblem:
    """Return the error for an answer that came from something in between, or elsewhere."""
    said = f"{_asked(response)} answered {response.status_code} with {_kind(response)}"
    if response.has_redirect_location:
        target = response.headers["location"]
        said += f" and sends on to {target[:200]}; give base_url as it is there"
    elif response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        said += ", no problem document: is base_url the address of the runner's app?"
    code = response.reason_phrase.lower().replace(" ", "-") or "unexpected"
    return ServerProblem(said, code=code, status=response.status_code)


def _asked(response: httpx2.Response) -> str:
    request = response.request
    return f"{request.method} {request.url.copy_with(query=None)}"


def _kind(response: httpx2.Response) -> str:
    kind: str = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind or "no content type"
