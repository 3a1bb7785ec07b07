"""What an exception says of an HTTP response, whoever made it."""

import math
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import httpx2
import pytest
from starlette.exceptions import HTTPException

from jobrunner.http_errors import LONGEST_WAIT, may_pass, status_of, wait_of
from tests.tabled import each_of

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
UNIX = 784_111_777.0
"""The same moment, RFC 9110's own example."""


class Carrier(Exception):
    """Carries whatever attributes a test gives it."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__ |= attributes


class Part:
    """A response, or another thing that an error carries."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__ |= attributes


class Falsy(Part):
    """As a response of requests is when it failed."""

    def __bool__(self) -> bool:
        return False


class Pairs:
    """Headers that are no mapping and have `items()`, as urllib's are."""

    def __init__(self, *pairs: tuple[Any, Any]) -> None:
        self.pairs = pairs

    def items(self) -> list[tuple[Any, Any]]:
        return list(self.pairs)


class Answering(Exception):
    """Answers with itself to any attribute and any call, as a mock does."""

    def __getattr__(self, name: str) -> "Answering":
        return self

    def __call__(self, *args: Any) -> "Answering":
        return self

    def __iter__(self) -> Iterator["Answering"]:
        while True:
            yield self


class Raising(Exception):
    """Raises what ends a process from any attribute."""

    def __getattr__(self, name: str) -> Any:
        raise SystemExit(name)


class Lying(int):
    """A number that doesn't want to be one."""

    def __int__(self) -> int:
        return 401

    __index__ = __int__

    def _refuse(self, other: object) -> bool:
        raise KeyboardInterrupt

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __hash__ = None  # type: ignore[assignment]  # it can't be looked up


class Quiet(str):
    """A text that doesn't want to be read."""

    def __str__(self) -> str:
        raise SystemExit

    __hash__ = None  # type: ignore[assignment]  # it can't be looked up


class Disguised(Exception):
    """Raises when it is asked for its class, and for a status."""

    @property  # type: ignore[misc]  # what a proxy does
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    @property
    def status_code(self) -> int:
        raise RuntimeError("no status")

    status = 404


def http_error(status: int, headers: dict[str, str] | None = None) -> httpx2.HTTPStatusError:
    """Return the error that httpx2 raises for a response."""
    request = httpx2.Request("GET", "http://model.test")
    with pytest.raises(httpx2.HTTPStatusError) as caught:
        httpx2.Response(status, headers=headers, request=request).raise_for_status()
    return caught.value


@pytest.fixture
def local_zone(zone: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the machine's time zone."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        yield
    time.tzset()


def told(headers: Any, *, now: float | None = None) -> float:
    return wait_of(Carrier(status_code=429, headers=headers), now)


@pytest.mark.parametrize("error", [
    http_error(429),
    HTTPException(429),
    Carrier(status_code=429),
    Carrier(status_code=HTTPStatus.TOO_MANY_REQUESTS),
    Carrier(response=Part(status_code=429)),
    Carrier(response=Falsy(status_code=429)),
    Carrier(status=429),
    Carrier(status_code="401", response=Part(status_code=429)),
    Carrier(status_code=None, status=429),
    Carrier(status_code=Lying(429)),
    Carrier(status_code=200, response=Answering(), status=429),
], ids=[
    "httpx2", "starlette", "openai", "enum", "response", "requests", "aiohttp", "string first",
    "none first", "lying", "answering",
])  # fmt: skip
def test_finds_the_status_wherever_a_library_keeps_it(error: Exception) -> None:
    """Nobody should have to name the client library to a retry policy."""
    assert status_of(error) == 429


@each_of([
    None, True, "429", b"429", 429.0, math.nan, 0, -1, 200, 302, 399, 600, 10**400, [429], object(),
    Part(), Answering(),
])  # fmt: skip
def test_takes_nothing_else_for_a_status(value: Any) -> None:
    """Anybody's exception may have a `status`; a wrong guess would fail its job at once."""
    for name in ("status_code", "status"):
        assert status_of(Carrier(**{name: value})) is None
    assert status_of(Carrier(response=Part(status_code=value))) is None


@each_of([
    ValueError(), ConnectionError(), TimeoutError(), httpx2.ConnectError("no route"),
    httpx2.ReadTimeout("slow"), Answering(), Raising(), Carrier(status_code=Lying(7)),
])  # fmt: skip
def test_an_error_without_a_status_may_pass(error: Exception) -> None:
    """T13: a connection that broke says nothing against another try, nor does a hostile object."""
    assert (status_of(error), may_pass(error), wait_of(error, 0.0)) == (None, True, 0.0)


def test_t13_a_status_is_found_past_a_property_that_raises() -> None:
    """One broken attribute doesn't hide the next one."""
    assert status_of(Disguised()) == 404


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 501, 502, 503, 504, 529, 599])
def test_a_status_that_may_pass(status: int) -> None:
    """The server is busy, or was: the same request can succeed."""
    assert may_pass(http_error(status)) is True


@pytest.mark.parametrize(
    "status", [400, 401, 402, 403, 404, 410, 412, 413, 415, 422, 428, 451, 499]
)
def test_a_status_that_will_not_pass(status: int) -> None:
    """A bad key, a context that is too long, a refused prompt: each try costs, and none helps."""
    assert may_pass(http_error(status)) is False


@pytest.mark.parametrize("attributes", [
    {"code": "insufficient_quota"},
    {"type": "insufficient_quota", "code": "credit_balance_exhausted"},
    {"type": "insufficient_quota", "code": "a code of next year"},
    {"body": {"code": "insufficient_quota"}},
    {"body": {"type": "insufficient_quota", "code": None}},
    {"body": {"error": {"code": "project_spend_limit_exceeded"}}},
    {"error": {"code": "billing_hard_limit_reached"}},
    {"error": Part(code="insufficient_quota")},
    {"code": Quiet("insufficient_quota")},
    {"error_code": "contract_spend_limit_reached"},
    {"body": {"error": {"details": {"error_code": "enforced_spend_limit_reached"}}}},
])  # fmt: skip
def test_a_429_for_lack_of_money_will_not_pass(attributes: dict[str, Any]) -> None:
    """It has the status of a rate limit, and comes back until somebody has paid."""
    assert may_pass(Carrier(status_code=429, **attributes)) is False


@pytest.mark.parametrize("attributes", [
    {},
    {"code": "rate_limit_exceeded", "type": "tokens"},
    {"code": None, "body": None, "error": None},
    {"code": ["insufficient_quota"], "type": 10**5_000},
    {"body": "insufficient_quota"},
    {"body": {"error": "insufficient_quota"}},
    {"body": {"error": {"type": "rate_limit_error", "details": {"error_code": "ramp_limit"}}}},
    {"body": Answering(), "code": Raising()},
    {"error": Raising()},
])  # fmt: skip
def test_another_429_is_a_rate_limit(attributes: dict[str, Any]) -> None:
    """T13: what can't be read is no reason to give a job up."""
    assert may_pass(Carrier(status_code=429, **attributes)) is True


def test_money_is_asked_for_with_a_429_only() -> None:
    """A 503 whose body names a quota is an outage of the server's."""
    for status in (409, 503):
        assert may_pass(Carrier(status_code=status, code="insufficient_quota")) is True


@pytest.mark.parametrize(("value", "expected"), [
    ("120", 120.0), ("1.5", 1.5), (".5", 0.5), ("2.", 2.0), ("0", 0.0), (" 7 ", 7.0), (5, 5.0),
    (0.25, 0.25),
])  # fmt: skip
def test_waits_the_seconds_that_retry_after_says(value: Any, expected: float) -> None:
    """Who comes back earlier is refused again, or barred."""
    assert told({"Retry-After": value}) == expected


@each_of([
    "", "soon", "-5", "+5", "nan", "NaN", "inf", "-inf", "Infinity", "1e3", "1_0", "0x10", "1, 2",
    "٣", "²", "5 s", "9" * 101, ".", "Sun, 06 Nov 99999999 08:49:37 GMT",
    "Sun, 06 Nov 99999999999999999999 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT",
    DATE.replace("Nov", "Foo"), DATE * 9, None, True, b"5", [5], 10**5_000, -5, math.nan, math.inf,
    object(), Answering(), Raising(),
])  # fmt: skip
def test_a_wait_that_makes_no_sense_says_nothing(value: Any) -> None:
    """T13: the backoff is there for it, and nothing may raise."""
    assert told({"Retry-After": value}, now=0.0) == 0.0


@pytest.mark.parametrize("value", [
    DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
    "Sun, 06 Nov 1994 09:49:37 +0100",
])  # fmt: skip
@pytest.mark.parametrize("zone", ["UTC0", "EST5"])
@pytest.mark.usefixtures("local_zone")
def test_waits_until_the_date_that_retry_after_says(value: str) -> None:
    """RFC 9110 knows three formats, all of them in UTC, and a recipient has to take each."""
    assert told({"Retry-After": value}, now=UNIX - 90.0) == 90.0


def test_a_date_counts_from_the_date_of_the_response() -> None:
    """A server whose clock is an hour off still means half a minute."""
    headers = {"retry-after": DATE, "DATE": "Sun, 06 Nov 1994 08:49:07 GMT"}
    assert [told(headers, now=now) for now in (None, UNIX - 3_600.0, UNIX)] == [30.0, 30.0, 30.0]


@pytest.mark.parametrize(("now", "date", "expected"), [
    (None, None, 0.0), (None, "yesterday", 0.0), (UNIX - 5.0, "yesterday", 5.0),
    (UNIX + 5.0, None, 0.0),
])  # fmt: skip
def test_a_date_needs_a_moment_to_count_from(
    now: float | None, date: str | None, expected: float
) -> None:
    """What is past, or can't be told, is no wait."""
    assert told({"Retry-After": DATE, "Date": date}, now=now) == expected


@pytest.mark.parametrize("value", ["Fri, 31 Dec 9999 23:59:59 GMT", "86401", "9" * 100, 10**9])
def test_no_header_makes_a_job_wait_longer_than_a_day(value: Any) -> None:
    """A server's typo must not keep a job for eight thousand years."""
    assert told({"Retry-After": value}, now=UNIX) == LONGEST_WAIT == 86_400.0
    assert told({"retry-after-ms": "9" * 100}) == LONGEST_WAIT


@pytest.mark.parametrize(("millis", "expected"), [
    ("1500", 1.5), ("0", 0.0), ("soon", 20.0), ("-1", 20.0), ("nan", 20.0), ("", 20.0),
])  # fmt: skip
def test_milliseconds_are_read_first(millis: str, expected: float) -> None:
    """OpenAI sends both, and the seconds are the milliseconds rounded up."""
    assert told({"retry-after": "20", "Retry-After-Ms": millis}) == expected


@pytest.mark.parametrize("headers", [
    {"retry-after": "4"}, {"RETRY-AFTER": "4"}, httpx2.Headers({"Retry-After": "4"}),
    Pairs(("Server", "x"), ("Retry-after", "4")),
    Pairs((Quiet("retry-AFTER"), Quiet(" 4 "))),
    Pairs((None, None), (7, Raising()), ("Retry-After", "4")),
])  # fmt: skip
def test_reads_headers_from_any_mapping(headers: Any) -> None:
    """On the response or on the exception, in whatever case."""
    assert told(headers) == 4.0
    assert wait_of(Carrier(response=Part(status_code=503, headers=headers)), None) == 4.0
    assert wait_of(Carrier(status_code=503, headers=headers, response=Answering()), None) == 4.0


@pytest.mark.parametrize("headers", [
    None, "Retry-After: 5", ["Retry-After"], 5, Part(items=None), Pairs((1, 2, 3)), Answering(),  # type: ignore[arg-type]  # three
    Raising(), Part(items=Answering()), Part(items=lambda: iter(lambda: ("x", "y"), None)),
], ids=lambda headers: type(headers).__name__)  # fmt: skip
def test_t13_headers_that_can_not_be_read_say_nothing(headers: Any) -> None:
    """Not even those without an end."""
    assert told(headers, now=0.0) == 0.0


def test_headers_without_a_status_say_nothing() -> None:
    """They may be those of a request, or of a table."""
    assert wait_of(Carrier(headers={"Retry-After": "5"}), None) == 0.0
    assert wait_of(Carrier(status_code=200, headers={"Retry-After": "5"}), None) == 0.0


def test_real_responses_say_how_long_to_wait() -> None:
    """The way from the client library to the wait, with nothing of ours between."""
    assert wait_of(http_error(503, {"Retry-After": "2.5"}), None) == 2.5
    assert wait_of(HTTPException(429, headers={"retry-after": "3"}), None) == 3.0
