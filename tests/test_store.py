"""Jobs by id, the ways to list them, and how they are forgotten."""

import asyncio
import itertools
import weakref
from collections.abc import Mapping
from typing import Any, cast

import pytest

from jobrunner import JobGone, JobNotFinal, JobNotFound, JobStatus, Retention
from jobrunner.events import Event
from jobrunner.jobs import Job, cancel, complete, start
from jobrunner.pages import BLOCK
from jobrunner.store import RECENT, SWEEP, JobStore
from jobrunner.testing.clock import EPOCH, VirtualLoop, unix_now, virtual_time
from jobrunner.timers import Timers
from jobrunner.views import view
from tests.records import make_job


def opened(**retention: Any) -> tuple[JobStore, Timers]:
    timers = Timers()
    timers.open(asyncio.get_running_loop())
    return JobStore(
        retention=Retention(**retention), max_feed=100, now=unix_now, timers=timers
    ), timers


def add(store: JobStore, number: int, **fields: Any) -> Job:
    job = make_job(number, **fields)
    store.add(job, {"status": job.status})
    return job


def begin(store: JobStore, job: Job) -> None:
    start(job, unix_now(), 0.0)
    store.save(job, "status", {"status": job.status})


def end(store: JobStore, job: Job) -> None:
    begin(store, job)
    complete(job, unix_now(), b"1")
    store.save(job, "done", {"status": job.status})


def numbers(store: JobStore, filters: Mapping[str, str | None], limit: int = 1_000) -> list[int]:
    return [job.number for job in store.page(filters, limit=limit).jobs]


def same(one: Job, two: Job) -> bool:
    """Whether two records say the same of one job."""
    logs = [(log.first, log.last, log.closed, log.read()) for log in (one.log, two.log)]
    return (view(one), logs[0]) == (view(two), logs[1])


def counted(store: JobStore) -> dict[str, int]:
    return {status.value: count for status, count in store.counts.items() if count}


class Watched(Job):
    """Counts how often somebody looks at its session or its id."""

    looks = 0

    def __getattribute__(self, name: str) -> Any:
        if name in ("id", "session_id"):
            Watched.looks += 1
        return super().__getattribute__(name)


@virtual_time
async def test_a_new_job_is_there_with_its_first_event() -> None:
    """Whoever got an id finds the job, and an event to begin at."""
    store, _ = opened()
    job = add(store, 1, session_id="s", batch_id="b", idempotency_key="k")
    first = Event(1, job.id, "status", job.created_at, {"status": "pending"})
    assert store.get(job.id) is job
    assert store.by_key("k") is job
    assert (len(store), counted(store), job.updated_at) == (1, {"pending": 1}, job.created_at)
    assert (job.log.read().events, store.feed.read().events) == ([first], [first])


@virtual_time
async def test_a_change_and_its_event_are_seen_together() -> None:
    """State and event are never seen apart: one synchronous step."""
    store, _ = opened()
    job = add(store, 1)
    await asyncio.sleep(5)
    begin(store, job)
    assert job.log.read(1).events == [Event(2, job.id, "status", EPOCH + 5, {"status": "running"})]
    assert (job.updated_at, counted(store), job.listed_as) == (EPOCH + 5, {"running": 1}, "running")


@virtual_time
async def test_the_end_closes_the_log() -> None:
    """Each open stream ends."""
    store, _ = opened()
    job = add(store, 1)
    begin(store, job)
    assert not job.log.closed
    complete(job, unix_now(), b"1")
    store.save(job, "done", {"status": job.status})
    assert (job.log.closed, counted(store)) == (True, {"completed": 1})


@virtual_time
async def test_log_lines_and_output_stay_with_their_job() -> None:
    """One talkative job must not push everybody's ends out of the feed."""
    store, _ = opened()
    job = add(store, 1)
    for kind in ("log", "output", "progress"):
        store.save(job, cast(Any, kind), {"text": "x"})
    assert [event.type for event in job.log.read().events] == [
        "status",
        "log",
        "output",
        "progress",
    ]
    assert [event.type for event in store.feed.read().events] == ["status", "progress"]


@virtual_time
async def test_an_unknown_id_was_never_there() -> None:
    """A clear error, cut to what fits a line."""
    store, _ = opened()
    with pytest.raises(JobNotFound, match="there is no job 'nope'"):
        store.get("nope")
    with pytest.raises(JobNotFound) as refused:
        store.get("x" * 10_000)
    assert len(str(refused.value)) < 130
    assert store.by_key("nope") is None


@virtual_time
async def test_lists_the_newest_first() -> None:
    """Over several blocks, in whatever order the jobs change."""
    store, _ = opened()
    for number in range(1, 200):
        add(store, number)
    assert numbers(store, {}) == list(range(199, 0, -1))


@virtual_time
async def test_knows_the_live_children_of_a_job() -> None:
    """They end with it, and to look for them among all jobs would cost more than to run them."""
    store, _ = opened()
    children = [add(store, number, parent_id="p") for number in (1, 2, 3)]
    add(store, 4)
    assert list(store.children("p").values()) == children
    end(store, children[1])
    assert list(store.children("p").values()) == [children[0], children[2]]
    end(store, children[0])
    end(store, children[2])
    assert not store.children("p")


@virtual_time
async def test_lists_what_every_filter_matches() -> None:
    """Filters are combined, and None matches everything."""
    store, _ = opened()
    for number in range(1, 200):
        job = add(store, number, type="ab"[number % 2], session_id="s" if number % 3 else None,
                  batch_id="b" if number % 5 == 0 else None,
                  parent_id="p" if number % 9 == 0 else None)  # fmt: skip
        if number % 7 == 0:
            end(store, job)
    down = range(199, 0, -1)
    assert numbers(store, {"type": "a"}) == [n for n in down if n % 2 == 0]
    assert numbers(store, {"session_id": "s"}) == [n for n in down if n % 3]
    assert numbers(store, {"batch_id": "b", "type": None}) == [n for n in down if n % 5 == 0]
    assert numbers(store, {"parent_id": "p"}) == [n for n in down if n % 9 == 0]
    assert numbers(store, {"status": "completed", "type": "b", "session_id": "s"}) == [
        n for n in down if n % 7 == 0 and n % 2 and n % 3
    ]
    assert numbers(store, {"session_id": "nobody's"}) == []


@virtual_time
async def test_jobs_far_apart_match_together_nowhere() -> None:
    """A block in which one filter has nothing is passed over."""
    store, _ = opened()
    add(store, 1, type="a", session_id="s")
    add(store, 10 * BLOCK, type="a")
    add(store, 20 * BLOCK, session_id="s")
    assert numbers(store, {"type": "a", "session_id": "s"}) == [1]


@pytest.mark.parametrize("limit", [1, 3, 63, 64, 65, 150])
def test_pages_follow_each_other_without_a_hole(limit: int) -> None:
    """Every job once, whatever the size of the page, and no cursor at the end."""

    @virtual_time
    async def scenario() -> None:
        store, _ = opened()
        for number in range(1, 151):
            add(store, number)
        seen: list[int] = []
        page = store.page({}, limit=limit)
        seen += [job.number for job in page.jobs]
        while page.next_cursor is not None:
            page = store.page({}, limit=limit, cursor=page.next_cursor)
            seen += [job.number for job in page.jobs]
        assert seen == list(range(150, 0, -1))

    scenario()


@virtual_time
async def test_a_cursor_outlives_its_job() -> None:
    """The job at the end of a page may be pruned before the next page is asked for."""
    store, _ = opened()
    jobs = [add(store, number) for number in range(1, 6)]
    page = store.page({}, limit=2)
    end(store, jobs[3])
    store.forget(jobs[3].id)
    rest = store.page({}, limit=2, cursor=page.next_cursor)
    assert [job.number for job in rest.jobs] == [3, 2]


@virtual_time
async def test_a_new_job_does_not_shift_the_pages() -> None:
    """Nobody sees a job twice because others came."""
    store, _ = opened()
    for number in range(1, 5):
        add(store, number)
    page = store.page({}, limit=2)
    add(store, 5)
    rest = store.page({}, limit=2, cursor=page.next_cursor)
    assert [job.number for job in rest.jobs] == [2, 1]


@virtual_time
async def test_a_page_costs_what_it_returns() -> None:
    """Looking at five jobs of a session must not look at two thousand of others."""
    store, _ = opened()
    for number in range(1, 2_001):
        session = "mine" if number % 400 == 0 else "another"
        store.add(make_job(number, Watched, session_id=session), {})
    assert len(numbers(store, {}, limit=1)) == 1  # what was added last is listed now
    for filters in ({"session_id": "mine"}, {"session_id": "mine", "type": "work"}):
        Watched.looks = 0
        assert numbers(store, filters) == [2_000, 1_600, 1_200, 800, 400]
        assert Watched.looks == 0
    assert len(numbers(store, {"session_id": "another"}, limit=10)) == 10
    assert Watched.looks == 0


@virtual_time
async def test_live_jobs_are_those_that_have_not_ended() -> None:
    """What a drain waits for, and a stop ends."""
    store, _ = opened()
    jobs = [add(store, number) for number in range(1, 5)]
    begin(store, jobs[1])
    end(store, jobs[2])
    assert sorted(job.number for job in store.live()) == [1, 2, 4]


@virtual_time
async def test_a_live_job_can_not_be_forgotten() -> None:
    """What still runs must stay visible."""
    store, _ = opened()
    job = add(store, 1)
    with pytest.raises(JobNotFinal, match="is pending; cancel it before"):
        store.forget(job.id)
    assert store.get(job.id) is job


@virtual_time
async def test_a_forgotten_id_answers_gone() -> None:
    """Gone and "never heard of it" are two answers (row 20)."""
    store, _ = opened()
    job = add(store, 1, session_id="s", batch_id="b", idempotency_key="k")
    end(store, job)
    store.forget(job.id)
    for call in (store.get, store.forget):
        with pytest.raises(JobGone, match="is no longer kept"):
            call(job.id)
    assert (len(store), counted(store), store.by_key("k")) == (0, {}, None)
    assert [numbers(store, {name: value}) for name, value in
            {"type": "work", "session_id": "s", "batch_id": "b", "status": "completed"}.items()
            ] == [[], [], [], []]  # fmt: skip


@virtual_time
async def test_keeps_the_newest_ends_up_to_its_number() -> None:
    """Never a live job, however old (row 18)."""
    store, _ = opened(max_jobs=3)
    live = add(store, 1)
    for number in range(2, 10):
        end(store, add(store, number))
    assert numbers(store, {}) == [9, 8, 7, 1]
    assert (store.get(live.id) is live, store.pruned) == (True, 5)


@virtual_time
async def test_prunes_in_the_order_of_ends() -> None:
    """A long job is kept as long after its end as a short one."""
    store, _ = opened(max_jobs=2)
    jobs = [add(store, number) for number in (1, 2, 3)]
    for job in (jobs[2], jobs[0], jobs[1]):
        end(store, job)
    assert numbers(store, {}) == [2, 1]


@virtual_time
async def test_prunes_by_age_without_being_asked() -> None:
    """A server that has nothing to do lets go of its memory too (row 18)."""
    store, timers = opened(max_age=100.0)
    for number in (1, 2, 3):
        end(store, add(store, number))
        await asyncio.sleep(30)
    left = []
    for seconds in (9, 2, 30, 30):  # the first ends are 90, 60 and 30 seconds ago
        await asyncio.sleep(seconds)
        left.append((numbers(store, {}), len(timers)))
    assert left == [([3, 2, 1], 1), ([3, 2], 1), ([3], 1), ([], 0)]
    assert store.pruned == 3


@virtual_time
async def test_one_timer_prunes_for_all() -> None:
    """A timer for each ended job would be a second copy of the store."""
    store, timers = opened(max_age=100.0, max_jobs=50)
    for number in range(1, 1_001):
        end(store, add(store, number))
    assert (len(timers), len(store)) == (1, 50)
    assert len(cast(VirtualLoop, asyncio.get_running_loop()).timers()) == 1


@virtual_time
async def test_an_age_of_zero_keeps_nothing() -> None:
    """For who is told of the end and never asks."""
    store, _ = opened(max_age=0.0)
    job = add(store, 1)
    end(store, job)
    assert (len(store), job.log.closed) == (0, True)


@virtual_time
async def test_no_age_sets_no_timer() -> None:
    """Who keeps by number alone isn't woken."""
    store, timers = opened(max_age=None)
    end(store, add(store, 1))
    await asyncio.sleep(10**6)
    assert (len(store), len(timers)) == (1, 0)


@virtual_time
async def test_rest_and_schedule_again() -> None:
    """A runner that is left and entered again goes on pruning."""
    store, timers = opened(max_age=100.0)
    end(store, add(store, 1))
    store.rest()
    store.rest()
    assert len(timers) == 0
    store.schedule_prune()
    store.schedule_prune()
    assert len(timers) == 1
    await asyncio.sleep(101)
    assert len(store) == 0


@virtual_time
async def test_a_pruned_job_lives_on_for_who_holds_it() -> None:
    """Pruning takes nothing from under a waiter's feet (Q8)."""
    store, _ = opened(max_jobs=0)
    job = add(store, 1)
    end(store, job)
    assert [event.type for event in job.log.read().events] == ["status", "status", "done"]
    with pytest.raises(JobGone):
        store.get(job.id)


@virtual_time
async def test_tombstones_are_bounded_too() -> None:
    """The oldest of the forgotten ids answers as if it had never been (Q10)."""
    store, _ = opened(max_jobs=0, max_tombstones=2)
    jobs = [add(store, number) for number in (1, 2, 3)]
    for job in jobs:
        end(store, job)
    kinds = []
    for job in jobs:
        with pytest.raises((JobGone, JobNotFound)) as refused:
            store.get(job.id)
        kinds.append(refused.type)
    assert kinds == [JobNotFound, JobGone, JobGone]


@virtual_time
async def test_forgotten_jobs_do_not_count_as_kept() -> None:
    """Forgetting one makes room for another, and pruning passes over what is forgotten."""
    store, _ = opened(max_jobs=3)
    jobs = [add(store, number) for number in range(1, 8)]
    for job in jobs[:3]:
        end(store, job)
    store.forget(jobs[0].id)
    end(store, jobs[3])
    assert numbers(store, {"status": "completed"}) == [4, 3, 2]
    end(store, jobs[4])
    assert (numbers(store, {"status": "completed"}), store.pruned) == ([5, 4, 3], 2)


@virtual_time
async def test_what_ends_is_let_go() -> None:
    """A record of a job that has ended lives for who holds it, and for nobody else (Q7)."""

    class Metadata(dict[str, str]):
        pass

    def ended(number: int) -> "weakref.ref[Metadata]":
        job = add(store, number, metadata=Metadata(user="u"))
        end(store, job)
        return weakref.ref(cast(Metadata, job.metadata))

    store, _ = opened()
    alive = [ended(number) for number in range(1, 101)]
    assert sum(one() is not None for one in alive) == 0
    assert [job.metadata for job in store.page({}, limit=2).jobs] == [{"user": "u"}] * 2


@virtual_time
async def test_what_is_kept_ages_though_others_were_forgotten() -> None:
    """Tidying up after the forgotten must not lose sight of the others (row 18)."""
    store, _ = opened(max_age=100.0)
    jobs = [add(store, number) for number in range(1, 201)]
    for job in jobs:
        end(store, job)
    for job in jobs[50:]:
        store.forget(job.id)
    assert numbers(store, {}) == list(range(50, 0, -1))
    await asyncio.sleep(101)
    assert (numbers(store, {}), store.pruned) == ([], 200)


@virtual_time
async def test_what_is_not_listed_yet_ages_though_others_were_forgotten() -> None:
    """Most jobs are looked for by nobody, and are kept no longer for that."""
    store, _ = opened(max_age=100.0)
    old = [add(store, number) for number in range(1, 201)]
    for job in old:
        end(store, job)
    assert numbers(store, {}) == list(range(200, 0, -1))
    for number in range(201, 221):
        end(store, add(store, number))
    for job in old[1:]:
        store.forget(job.id)
    await asyncio.sleep(101)
    assert (len(store), store.pruned) == (0, 220)


@virtual_time
async def test_forgetting_costs_little_on_the_average() -> None:
    """Going through all that are kept at each call would be quadratic."""
    store, _ = opened()
    jobs = [make_job(number, Watched) for number in range(1, 1_001)]
    for job in jobs:
        store.add(job, {})
        end(store, job)
    ids = [job.id for job in jobs]
    Watched.looks = 0
    for job_id in ids:
        store.forget(job_id)
    assert Watched.looks <= 10 * len(jobs)


@virtual_time
async def test_a_cancelled_job_is_listed_as_cancelled() -> None:
    """A job can end without ever having run."""
    store, _ = opened()
    job = add(store, 1)
    cancel(job, unix_now())
    store.save(job, "done", {"status": job.status})
    assert (numbers(store, {"status": "cancelled"}), counted(store)) == ([1], {"cancelled": 1})
    assert numbers(store, {"status": JobStatus.PENDING}) == []


@virtual_time
async def test_a_job_that_has_ended_comes_back_the_same() -> None:
    """Asked for by id, by key or in a list, it is what it was, with all its events (Q7)."""
    store, _ = opened()
    job = add(store, 1, session_id="s", idempotency_key="k", metadata={"a": 1})
    store.save(job, "log", {"level": "info", "text": "hello", "fields": {}})
    end(store, job)
    found = [store.get(job.id), store.by_key("k"), *store.page({"session_id": "s"}, limit=1).jobs]
    assert [one is not None and one is not job and same(one, job) for one in found] == [True] * 3


@virtual_time
async def test_q8_a_reader_of_the_record_is_not_disturbed() -> None:
    """A stream that has read half goes on with the record it holds, when that is packed, pruned."""
    store, _ = opened(max_jobs=1)
    job = add(store, 1)
    begin(store, job)
    reader = job.log.follow(limit=1)
    seen = [await anext(reader)]
    complete(job, unix_now(), b"1")
    store.save(job, "done", {"status": job.status})
    seen.append(await anext(reader))
    end(store, add(store, 2))
    seen += [reading async for reading in reader]
    assert [reading.last for reading in seen] == [1, 2, 3]
    with pytest.raises(JobGone):
        store.get(job.id)


@virtual_time
async def test_q8_a_waiter_on_the_record_is_woken_by_its_end() -> None:
    """The end comes with the prune that it causes, in one step."""
    store, _ = opened(max_jobs=0)
    job = add(store, 1)
    waiter = asyncio.create_task(job.log.wait_closed())
    await asyncio.sleep(0)
    end(store, job)
    await waiter
    assert (job.status, job.result) == ("completed", b"1")


@virtual_time
async def test_what_has_ended_stays_as_it_was() -> None:
    """A late word of a thread, or a second end, must not be seen after the last event."""
    store, _ = opened()
    job = add(store, 1)
    end(store, job)
    store.save(job, "log", {"text": "late"})
    store.save(job, "done", {"status": job.status})
    assert (job.log.last, store.get(job.id).log.last, counted(store)) == (3, 3, {"completed": 1})
    store.forget(job.id)
    store.save(job, "done", {"status": job.status})
    assert (job.log.last, len(store), store.pruned) == (3, 0, 1)


@virtual_time
async def test_a_key_goes_with_its_job_and_not_with_one_before() -> None:
    """A key that was given anew is the new job's, though the old one is pruned later."""
    store, _ = opened()
    old = add(store, 1, idempotency_key="k")
    end(store, old)
    new = add(store, 2, idempotency_key="k")
    store.forget(old.id)
    assert store.by_key("k") is new
    later = add(store, 3, idempotency_key="k")
    for job in (later, new):
        end(store, job)
        store.forget(job.id)
    assert store.by_key("k") is None


@virtual_time
async def test_a_key_that_led_to_another_job_stays_the_newer_one_s() -> None:
    """A key can lead anew when what it led to was cancelled; the old job is pruned later."""
    store, _ = opened()
    old, new = add(store, 1), add(store, 2)
    store.join("k", old, b"{}")
    store.join("k", new, b"{}")
    end(store, old)
    store.forget(old.id)
    assert store.by_key("k") is new
    end(store, new)
    store.forget(new.id)
    assert store.by_key("k") is None


@virtual_time
async def test_live_jobs_are_found_by_their_key() -> None:
    """In order of submission, for who replaces or joins the one that waits."""
    store, _ = opened()
    jobs = [add(store, n, type="ab"[n % 2], concurrency_key="k" if n < 6 else None)
            for n in range(1, 9)]  # fmt: skip
    assert list(store.live_with_key("b", "k").values()) == [jobs[0], jobs[2], jobs[4]]
    end(store, jobs[0])
    assert list(store.live_with_key("b", "k").values()) == [jobs[2], jobs[4]]
    for job in (jobs[2], jobs[4]):
        end(store, job)
    assert (
        list(store.live_with_key("b", "k").values())
        == list(store.live_with_key("a", "x").values())
        == []
    )
    assert list(store.live_with_key("a", "k").values()) == [jobs[1], jobs[3]]


@virtual_time
async def test_knows_what_was_run_again() -> None:
    """For as long as one of the jobs that run it again is kept."""
    store, _ = opened()
    first = add(store, 1)
    end(store, first)
    assert not store.retried(first.id)
    others = [add(store, number, retry_of=first.id) for number in (2, 3)]
    assert store.retried(first.id)
    known = []
    for job in others:
        end(store, job)
        known.append(store.retried(first.id))
        store.forget(job.id)
        known.append(store.retried(first.id))
    assert known == [True, True, True, False]


@virtual_time
async def test_knows_how_fast_jobs_ended() -> None:
    """What has been pruned ended too: the rate is known with nothing kept."""
    store, timers = opened(max_jobs=0)
    assert store.recent_ends(5) == (0, timers.now())
    for number in range(1, 6):
        await asyncio.sleep(10)
        end(store, add(store, number))
    assert [store.recent_ends(k) for k in (1, 3, 5, 9)] == [(1, 50), (3, 30), (5, 10), (5, 10)]
    assert store.recent_ends(0) == (0, 50)
    for number in range(6, RECENT + 10):
        end(store, add(store, number))
    assert store.recent_ends(2 * RECENT) == (RECENT, 50)


@virtual_time
async def test_counts_the_params_of_live_jobs() -> None:
    """What a bound at submit goes by; what has ended is bounded by retention (Q10)."""
    store, _ = opened()
    jobs = [add(store, number, params=b"x" * number) for number in (1, 20, 300)]
    seen = [store.live_bytes]
    for job in jobs:
        end(store, job)
        seen.append(store.live_bytes)
    assert seen == [321, 320, 300, 0]


@virtual_time
async def test_old_jobs_go_in_portions() -> None:
    """A hundred thousand that end together would hold up everybody when they are too old."""
    store, timers = opened(max_age=100.0, max_jobs=None)
    for number in range(1, 2 * SWEEP + 11):
        end(store, add(store, number))
    await asyncio.sleep(50)
    end(store, add(store, 2 * SWEEP + 11))
    left: list[int] = []
    timers.at(timers.now() + 50, lambda: left.append(len(store)))
    await asyncio.sleep(50)
    for _ in range(5):
        await asyncio.sleep(0)
        left.append(len(store))
    assert left[0] == SWEEP + 11
    assert (left[-1], len(timers)) == (1, 1)
    assert max(one - two for one, two in itertools.pairwise([2 * SWEEP + 11, *left])) == SWEEP


def end_with(store: JobStore, number: int, result: bytes) -> Job:
    job = add(store, number)
    begin(store, job)
    complete(job, unix_now(), result)
    store.save(job, "done", {"status": job.status})
    return job


@virtual_time
async def test_q10_large_results_are_bounded_together() -> None:
    """Ten thousand results of a megabyte each are within the number, and more than there is."""
    store, _ = opened(max_bytes=100_000)
    live, sizes = add(store, 1), []
    for number in range(2, 60):
        end_with(store, number, b"1" * 9_000)
        sizes.append(store.final_bytes)
    assert (max(sizes) <= 100_000, sizes[-1] > 90_000) == (True, True)
    assert numbers(store, {}) == [*range(59, 49, -1), 1]
    assert (store.get(live.id) is live, counted(store)["completed"]) == (True, len(store) - 1)


@virtual_time
async def test_q10_one_large_result_takes_the_place_of_many() -> None:
    """The oldest go first, as many as it needs."""
    store, _ = opened(max_bytes=100_000)
    for number in range(1, 11):
        end_with(store, number, b"1" * 5_000)
    end_with(store, 11, b"1" * 80_000)
    assert numbers(store, {}) == [11, 10, 9, 8]


@virtual_time
async def test_q10_the_newest_is_kept_however_large_it_is() -> None:
    """Or nobody could ever read its result; the next one takes its place."""
    store, _ = opened(max_bytes=1_000)
    end_with(store, 1, b"1")
    huge = end_with(store, 2, b'"%b"' % (b"1" * 1_000_000))
    assert (numbers(store, {}), same(store.get(huge.id), huge)) == ([2], True)
    end_with(store, 3, b"1")
    assert numbers(store, {}) == [3]


@virtual_time
async def test_q10_events_and_metadata_count_too() -> None:
    """A job is as large as all that is kept of it; small ones count with what tables cost."""
    store, _ = opened(max_bytes=None)
    end(store, add(store, 1))
    small = store.final_bytes
    job = add(store, 2, metadata={"a": "x" * 1_000}, params=b'{"b":"%b"}' % (b"y" * 1_000))
    store.save(job, "output", {"stream": "stdout", "text": "z" * 1_000})
    end(store, job)
    assert 200 < small < 600
    assert 3_000 < store.final_bytes - 2 * small < 3_200
    store.forget(job.id)
    assert store.final_bytes == small


@virtual_time
async def test_q10_bytes_of_zero_keep_one_job() -> None:
    """The last result is what somebody waits for; number or age of zero keep nothing."""
    store, _ = opened(max_bytes=0)
    for number in (1, 2):
        end(store, add(store, number))
    assert numbers(store, {}) == [2]


@virtual_time
async def test_without_a_bound_of_bytes_the_number_decides() -> None:
    """For who has the memory."""
    store, _ = opened(max_bytes=None, max_jobs=None)
    for number in range(1, 6):
        end_with(store, number, b"1" * 1_000_000)
    assert numbers(store, {}) == [5, 4, 3, 2, 1]
