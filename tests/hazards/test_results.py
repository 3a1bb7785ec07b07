"""A handler's value becomes JSON once, or fails there and says where (Q9)."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, SecretStr, computed_field
from pydantic_core import from_json

from jobrunner import InvalidResult, Limits, PayloadTooLarge, RetryPolicy
from jobrunner.results import ROOM, SAFE_JSON, dump_result
from jobrunner.testing import virtual_time
from tests.runners import runner_with
from tests.serving import in_process

MEGABYTE = 1_048_576


class Colour(StrEnum):
    RED = "red"


class Model(BaseModel):
    path: Path
    secret: SecretStr


@dataclass
class Point:
    x: int
    y: float


class RaisesWhenSerialised(BaseModel):
    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def broken(self) -> int:
        raise KeyboardInterrupt


class HostileKey:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class HostileItems(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")


class HostileClass:
    @property  # type: ignore[misc]  # hostile on purpose
    def __class__(self) -> Any:
        raise RuntimeError("no class")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def circle() -> Any:
    inner: dict[str, Any] = {}
    inner["again"] = [inner]
    return inner


@pytest.mark.parametrize(("value", "raw"), [
    (None, b"null"), (True, b"true"), (12, b"12"), (0.1, b"0.1"),
    ("ä€\x00", '"ä€\\u0000"'.encode()),
    ([], b"[]"), ({"a": (1, 2)}, b'{"a":[1,2]}'), ({1: 2, None: 3}, b'{"1":2,"None":3}'),
    (math.nan, b"null"), ([math.inf, -math.inf], b"[null,null]"),
    ({3}, b"[3]"), (frozenset(), b"[]"), (b"text", b'"text"'), 
    (OrderedDict(b=1, a=2), b'{"b":1,"a":2}'),
    (datetime(2026, 11, 22, 3, tzinfo=UTC), b'"2026-11-22T03:00:00Z"'),
    (Decimal("1.10"), b'"1.10"'), (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
    (Path("/tmp"), b'"/tmp"'), (Colour.RED, b'"red"'), (Point(1, 2.5), b'{"x":1,"y":2.5}'),
    (Model(path=Path("/a"), secret=SecretStr("x")), b'{"path":"/a","secret":"**********"}'),
    (10**4_000, b"1" + b"0" * 4_000), (nested(150), b"[" * 150 + b"1" + b"]" * 150),
])  # fmt: skip
def test_q9_a_value_is_kept_as_json(value: Any, raw: bytes) -> None:
    """What a handler may return is what anybody can read; NaN becomes null, as in JavaScript."""
    assert dump_result(value, limit=MEGABYTE) == raw


BAD: list[Any] = [
    pytest.param(lambda: object(), "result (object) can't be JSON: Unable", id="object"),
    pytest.param(lambda: {"a": [1, {"b": object()}]}, "result['a'][1]['b'] (object)", id="place"),
    pytest.param(lambda: ("x", b"\xff"), "result[1] (bytes)", id="bytes"),
    pytest.param(lambda: "half \ud800", "result (str)", id="surrogate"),
    pytest.param(lambda: {"\ud800": 1}, "result (dict)", id="surrogate key"),
    pytest.param(lambda: [10**5_000], "result[0] (int)", id="5,000 digits"),
    pytest.param(lambda: nested(220), "(list) can't be JSON: recursion limit", id="220 deep"),
    pytest.param(lambda: nested(100_000), "..., nested deeper than 100 levels", id="100,000 deep"),
    pytest.param(circle, "result['again'][0]['again'][0]['again'][..., nested", id="circle"),
    pytest.param(lambda: {"k" * 1_000: object()}, "result['" + "k" * 59 + "] (", id="long key"),
    pytest.param(lambda: [asyncio.Future], "result[0] (type)", id="class"),
    pytest.param(lambda: RaisesWhenSerialised(), "result (RaisesWhenSerialised)", id="raises"),
    pytest.param(lambda: [RaisesWhenSerialised()], "result[0] (Raises", id="raises inside"),
    pytest.param(lambda: {HostileKey(): object()}, "result can't be JSON", id="hostile key"),
    pytest.param(lambda: HostileItems(a=object()), "result can't be JSON", id="hostile items"),
    pytest.param(lambda: HostileClass(), "result can't be JSON", id="hostile class"),
]


@pytest.mark.parametrize(("make", "said"), BAD)
def test_q9_names_the_part_that_can_not_be_json(make: Callable[[], Any], said: str) -> None:
    """The place saves a search through a large value, and finding it can't fail (T13)."""
    with pytest.raises(InvalidResult) as refused:
        dump_result(make(), limit=MEGABYTE)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 2_000


@pytest.mark.parametrize("depth", [*range(145, 155), *range(195, 205), 255, 256])
def test_q9_whatever_is_kept_can_be_read_again(depth: int) -> None:
    """What could be written and not read would break every list that the job is in."""
    try:
        raw = dump_result(nested(depth), limit=MEGABYTE)
    except InvalidResult:
        return
    assert from_json(b'{"jobs":[{"result":%b}]}' % raw) == {"jobs": [{"result": nested(depth)}]}


def test_q9_json_below_the_safe_size_can_be_read_whatever_it_is() -> None:
    """Small results are not parsed, so the size below which they needn't be has to be right."""
    levels = SAFE_JSON // 2 + ROOM
    assert from_json(b"[" * levels + b"]" * levels) is not None
    assert from_json(b"9" * SAFE_JSON) == int("9" * SAFE_JSON)


def test_q10_a_result_over_the_limit_is_refused() -> None:
    """One large result must not push out ten thousand others (Q10)."""
    assert dump_result("x" * 8, limit=10) == b'"xxxxxxxx"'
    with pytest.raises(PayloadTooLarge, match="the result is 11 bytes of JSON; the limit is 10"):
        dump_result("x" * 9, limit=10)


def pieces() -> Iterator[int]:
    raise AssertionError("it must not be run")
    yield 1


async def later() -> int:
    raise AssertionError("it must not be run")


@pytest.mark.parametrize("make", [pieces, later, lambda: map(print, [1])])
def test_q9_refuses_what_has_not_run_yet(make: Any) -> None:
    """Reading a generator runs the handler's code in the event loop, where no limit holds."""
    with pytest.raises(InvalidResult, match="which has not run yet: write the handler as `async"):
        dump_result(make(), limit=MEGABYTE)


@pytest.mark.parametrize(
    ("value", "why", "title"),
    [
        (
            {"a": [1, object()]},
            "result_not_serialisable",
            "result['a'][1] (object) can't be JSON: Unable to serialize unknown type: "
            "<class 'object'>",
        ),
        ("x" * 100, "too_large", "the result is 102 bytes of JSON; the limit is 50"),
    ],
)
@virtual_time
async def test_q9_a_value_that_is_no_json_fails_the_job(value: Any, why: str, title: str) -> None:
    """Once, at the end, and with the place, instead of on every later request."""
    runner = runner_with(limits=Limits(max_result=50), retry=RetryPolicy(max_attempts=3))

    @runner.job
    async def make() -> Any:
        return value

    async with runner:
        view = await (await runner.submit(make)).wait()
    assert view.error is not None
    assert (view.status, view.attempt, view.error.reason, view.error.title) == (
        "failed",
        1,
        why,
        title,
    )


@pytest.mark.parametrize(("make", "said"), BAD)
async def test_q9_a_job_with_a_bad_value_can_be_read_over_http(
    make: Callable[[], Any], said: str
) -> None:
    """The job fails and says where; what is kept of it is no error for each later request."""
    async with in_process() as served:

        @served.runner.job
        async def make_it() -> Any:
            return make()

        job_id = await served.finished("make_it")
        answers = [await served.client.get(f"/jobs/{job_id}"), await served.client.get("/jobs")]
    job = answers[0].json()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert (job["status"], job["error"]["reason"]) == ("failed", "result_not_serialisable")
    assert said in job["error"]["detail"]
    assert answers[1].json()["jobs"] == [job]


@pytest.mark.parametrize("value", [
    math.nan, [math.inf], {3}, b"text", "ä€\x00", 10**4_000, nested(150), {1: 2, None: 3}, None,
])  # fmt: skip
async def test_q9_a_value_that_json_has_can_be_read_over_http(value: Any) -> None:
    """What was completed has its value, whatever reads it."""
    async with in_process() as served:

        @served.runner.job
        async def give() -> Any:
            return value

        job_id = await served.finished("give")
        job = await served.client.get(f"/jobs/{job_id}")
        result = await served.client.get(f"/jobs/{job_id}/result")
        jobs = await served.client.get("/jobs")
    assert [answer.status_code for answer in (job, result, jobs)] == [200, 200, 200]
    assert job.json()["status"] == "completed"
    assert from_json(result.content) == from_json(dump_result(value, limit=MEGABYTE))
