"""What can be decided for a single job: how it is checked, and what its type says instead."""

from typing import Any

import pytest

from jobrunner import InvalidOption, JobRunner
from jobrunner.limits import LONGEST, Limits
from jobrunner.options import TypeOptions
from jobrunner.submit_options import MAX_NAME, SubmitOptions, check_name, check_submit
from jobrunner.testing import EPOCH, unix_now, virtual_time
from tests.serving import in_process

NOW = 1_000.0
TIMES = ("deadline", "expires", "stall_timeout")


def checked(given: dict[str, Any], of_type: TypeOptions | None = None) -> Any:
    """Return the options of a job, at a fixed time, with a runner's timeout of 600 s."""
    options: SubmitOptions = given  # type: ignore[assignment]  # some of them can't be
    return check_submit(options, of_type or TypeOptions(), 600.0, Limits(), NOW)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"deadline": 0}, "deadline is 0; it must be a number of seconds above 0"),
        ({"expires": -5}, "expires is -5; it must be a number of seconds above 0"),
        ({"stall_timeout": "5"}, "stall_timeout is '5'; it must be a number of seconds above 0"),
        ({"deadline": LONGEST + 1}, r"deadline is 3153600001\.0; it must be"),
        ({"concurrency_key": ""}, "concurrency_key is ''; it must be a text of 1 to 256"),
        ({"concurrency_key": 5}, "concurrency_key is 5; it must be a text"),
        ({"batch_id": "a\0b"}, "batch_id is"),
        ({"on_duplicate": "drop"}, "on_duplicate is 'drop'; it must be one of: enqueue, join, "),
        ({"on_duplicate": None}, "on_duplicate is None"),
        ({"deadlin": 5, "zzz": 1}, "submit has no option 'deadlin'; params are its second"),
    ],
)
def test_refuses_what_can_not_be(given: dict[str, Any], said: str) -> None:
    """With the name of the option, at once."""
    with pytest.raises(InvalidOption, match=f"^{said}"):
        checked(given)


@pytest.mark.parametrize("name", TIMES)
def test_the_nearest_limit_counts(name: str) -> None:
    """The submit's before the type's; None is a submit's word too."""
    of_type = TypeOptions(**{name: 7.0})  # type: ignore[arg-type]  # one of three

    def limit(given: dict[str, Any], options: TypeOptions) -> float | None:
        found = checked(given, options)
        value: float | None = found.expires if name == "expires" else found.fields.get(name)
        return value

    assert limit({}, TypeOptions()) is None
    assert limit({}, of_type) == 7.0
    assert limit({name: 3}, of_type) == 3.0
    assert limit({name: None}, of_type) is None


@pytest.mark.parametrize(("delay", "begins"), [(0, NOW), (30.0, NOW + 30.0)])
def test_limits_of_the_whole_job_begin_when_it_may_start(delay: float, begins: float) -> None:
    """And what is shown of them is the time at which they strike."""
    found = checked({"delay": delay, "deadline": 5.0, "expires": 3.0})
    fields = found.fields
    assert (fields.get("deadline_at"), fields.get("expires_at")) == (begins + 5.0, begins + 3.0)
    assert (found.delay, found.expires, fields.get("deadline")) == (delay, 3.0, 5.0)


def test_without_limits_there_are_no_times() -> None:
    """None, and not some far year."""
    fields = checked({}).fields
    assert [fields.get(name) for name in ("deadline_at", "expires_at", "run_at")] == [None] * 3


def test_a_type_says_what_is_done_with_duplicates() -> None:
    """Unless the submit does."""
    of_type = TypeOptions(on_duplicate="join")
    assert checked({}, of_type).on_duplicate == "join"
    assert checked({"on_duplicate": "reject"}, of_type).on_duplicate == "reject"


@pytest.mark.parametrize("value", [None, "x", "x" * MAX_NAME, "größe 1"])
def test_a_name_that_can_be_is_returned(value: str | None) -> None:
    """As it came."""
    assert check_name("session_id", value) == value


@virtual_time
async def test_the_longest_times_can_be_shown() -> None:
    """A hundred years after a hundred years is a date with four digits of year."""
    runner = JobRunner(now=unix_now)

    @runner.job
    async def work() -> None: ...

    async with runner:
        job = await runner.submit(work, delay=LONGEST, deadline=LONGEST, expires=LONGEST)
        shown = job.view().deadline_at
        assert shown is not None
        assert shown.timestamp() == EPOCH + 2 * LONGEST


async def test_all_of_it_can_be_said_over_http() -> None:
    """What can be said in Python can be said in JSON."""
    options = {"deadline": 60.5, "expires": 30, "stall_timeout": 5, "concurrency_key": "k"}
    async with in_process() as bench:
        bench.runner.pause()
        response = await bench.client.post("/jobs", json={"type": "echo", **options})
        record = bench.runner.record(response.json()["job_id"])
        assert response.json()["deadline_at"] is not None
    assert (record.deadline, record.stall_timeout, record.concurrency_key) == (60.5, 5.0, "k")
    assert record.deadline_at == record.created_at + 60.5
    assert record.expires_at == record.created_at + 30.0


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [0, -1, "5", [], 1e300])
async def test_a_time_that_can_not_be_is_refused_over_http(name: str, value: Any) -> None:
    """422, and no job."""
    async with in_process() as bench:
        response = await bench.client.post("/jobs", json={"type": "echo", name: value})
        assert response.status_code in (400, 422)
        assert (await bench.runner.list()).jobs == []
