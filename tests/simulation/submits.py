"""A client's submits: what they ask for, and what has to come of each.

A submit that doesn't wait for room is one step of the loop, so that its outcome can be told to the
letter from what was there before it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from jobrunner import (
    DuplicateJob,
    IdempotencyKeyReused,
    InvalidOption,
    InvalidParams,
    JobHandle,
    QueueFull,
    RunnerStopped,
)
from jobrunner.jobs import Job

from . import hostile
from .behaviours import draw_plan
from .faults import Injected, InjectedExit
from .runners import KEYS, is_hostile_to_params
from .world import Ticket, World

REFUSALS = (QueueFull, RunnerStopped, IdempotencyKeyReused, DuplicateJob)
HOSTILE = (InvalidOption, InvalidParams, Injected, InjectedExit)
"""What may come of a function or a value of the user's that raises."""
LEADING_TO = {
    "error.retry_after": "again", "handler.piece": "pieces", "user.key": "keyed",
    "user.validator": "keyed",
}  # fmt: skip
"""Types that come by a place where something can go wrong."""
EPSILON = 1e-6


@dataclass(slots=True)
class Request:
    """What a submit says."""

    type: str
    params: dict[str, Any]
    options: dict[str, Any]
    hostile: bool = False

    @property
    def key(self) -> str | None:
        """Its concurrency key, where the submitter or the type names one."""
        key: str | None = self.options.get("concurrency_key") or self.params.get("key")
        return key

    @property
    def max_wait(self) -> float | None:
        """Seconds that it waits for room."""
        wait: float | None = self.options.get("max_wait", 0.0)
        return wait


@dataclass(slots=True)
class Expected:
    """What has to come of a submit."""

    refusal: type[Exception] | None = None
    outcome: str = "created"
    known: Job | None = None
    rivals: list[Job] = field(default_factory=list)


def draw_request(world: World, draw: Random, client: str) -> Request:
    """Return a request; most say little."""
    type_name = draw.choice(("once", "once", "again", "pieces", "keyed"))
    if (leading := LEADING_TO.keys() & world.faults.active.keys()) and draw.random() < 0.5:
        type_name = LEADING_TO[min(leading)]
    elif type_name not in world.options:
        type_name = "once"
    request = Request(type_name, {}, {"metadata": draw_plan(draw, world.faults, client)})
    if type_name == "keyed":
        request.params = {"key": draw.choice((None, *KEYS)), "size": draw.randint(0, 1)}
        request.hostile = is_hostile_to_params(world.faults)
    _draw_limits(request.options, draw)
    _draw_names(request.options, draw)
    if world.faults.wants("metadata.keys"):
        request.options["metadata"] = hostile.Table(world.faults.arm("metadata.keys"))
        request.hostile = True
    return request


def _draw_limits(options: dict[str, Any], draw: Random) -> None:
    if draw.random() < 0.3:
        options["delay"] = draw.choice((0.5, 1, 2, 3))
    if draw.random() < 0.3:
        options["priority"] = draw.randint(-2, 2)
    if draw.random() < 0.4:
        options["timeout"] = draw.choice((0.5, 1, 2, None))
    if draw.random() < 0.15:
        options["deadline"] = draw.choice((0.5, 1, 3, None))
    if draw.random() < 0.15:
        options["expires"] = draw.choice((0.5, 1, 3, None))
    if draw.random() < 0.15:
        options["stall_timeout"] = draw.choice((0.5, 1, 2, None))
    if draw.random() < 0.3:
        options["max_wait"] = draw.choice((0, 0.5, 1, 3, None))


def _draw_names(options: dict[str, Any], draw: Random) -> None:
    if draw.random() < 0.3:
        options["session_id"] = draw.choice("ab")
    if draw.random() < 0.3:
        options["idempotency_key"] = draw.choice("kl")
    if draw.random() < 0.4:
        options["concurrency_key"] = draw.choice(KEYS)
    if draw.random() < 0.3:
        options["on_duplicate"] = draw.choice(("enqueue", "join", "replace", "reject"))


def expected(world: World, request: Request) -> Expected:
    """Return what has to come of the request if it is taken now."""
    if world.runner.stats().state != "running":
        return Expected(RunnerStopped)
    name = request.options.get("idempotency_key")
    for job in world.jobs:
        if name is not None and name in world.names(job) and world.kept(job):
            same = job.type == request.type and request.type != "keyed"
            return Expected(None, "replayed", job) if same else Expected(IdempotencyKeyReused)
    return _among_rivals(world, request)


def _among_rivals(world: World, request: Request) -> Expected:
    options = world.options[request.type]
    action = request.options.get("on_duplicate", options.on_duplicate)
    rivals = [] if request.key is None else world.live(request.type, request.key)
    going_on = [job for job in rivals if job.cancel_requested_at is None]
    if going_on and action == "join":
        return Expected(None, "joined", going_on[-1])
    if rivals and action == "reject":
        return Expected(DuplicateJob, known=rivals[-1])
    replaced = rivals if action == "replace" else []
    behind = bool(world.lines[request.type]) and not replaced
    if behind or world.full(request.type, replaced):
        return Expected(QueueFull)
    outcome = "replaced" if replaced else "enqueued" if rivals else "created"
    return Expected(None, outcome, None, replaced)


async def submit(world: World, request: Request) -> None:
    """Submit, and see that what has to come of it does."""
    wanted = expected(world, request)
    if wanted.refusal is QueueFull and request.max_wait != 0.0:
        await _submit_in_line(world, request, world.lines[request.type])
    else:
        await _submit_now(world, request, wanted)


async def _submit_now(world: World, request: Request, wanted: Expected) -> None:
    began = world.loop.steps
    try:
        handle = await _call(world, request)
    except REFUSALS as error:
        fits = type(error) is wanted.refusal or _is_excused(world, request)
        world.require(fits, "wrong refusal", repr(error), wanted.refusal)
        if isinstance(error, DuplicateJob) and wanted.known is not None:
            world.require(error.job_id == wanted.known.id, "another one is named", error.job_id)
        return
    except HOSTILE as error:
        world.require(request.hostile, "an odd refusal", repr(error))
        return
    world.require(world.loop.steps == began, "it waited", request.options)
    fits = wanted.refusal is None or _is_excused(world, request)
    world.require(fits, "not refused", wanted.refusal)
    if handle.outcome != wanted.outcome and not _is_excused(world, request):
        world.require(False, "wrong outcome", handle.outcome, wanted.outcome)
    if wanted.known is not None and not _is_excused(world, request):
        world.require(handle.id == wanted.known.id, "another one is given", handle.id)
    _note(world, request, handle)


async def _submit_in_line(world: World, request: Request, line: list[Ticket]) -> None:
    """Wait for room, behind those of the type who came before."""
    now, wait = world.loop.time(), request.max_wait
    task = asyncio.current_task()
    assert task is not None
    ticket = Ticket(float("inf") if wait is None else now + wait, task)
    line.append(ticket)
    try:
        handle = await _call(world, request)
    except QueueFull:
        world.require(abs(world.loop.time() - ticket.until) <= EPSILON, "not its time", ticket)
    except (*REFUSALS, *HOSTILE) as error:
        fits = request.hostile or isinstance(error, REFUSALS)
        world.require(fits, "an odd refusal in line", repr(error))
        stopped = world.runner.stats().state != "running" or not isinstance(error, RunnerStopped)
        world.require(stopped, "told that it stopped", repr(error))
    else:
        before = [t for t in line[: line.index(ticket)] if _counts(world, t)]
        world.require(not before, "overtaken in line", request.type, before)
        world.require(world.loop.time() <= ticket.until + EPSILON, "room too late", ticket)
        _note(world, request, handle)
    finally:
        line.remove(ticket)


def _counts(world: World, ticket: Ticket) -> bool:
    """Whether somebody in line still waits, and isn't about to give up."""
    return not ticket.task.cancelling() and ticket.until > world.loop.time() + EPSILON


async def _call(world: World, request: Request) -> JobHandle[Any]:
    params: Mapping[str, Any] = request.params
    return await world.runner.submit(request.type, params, **request.options)


def _is_excused(world: World, request: Request) -> bool:
    """A keyed request may have other params than the one before; a fault leaves jobs in between."""
    return world.broken > 0 or (request.type == "keyed" and "idempotency_key" in request.options)


def _note(world: World, request: Request, handle: JobHandle[Any]) -> None:
    """Compare the handle with what was there, and note a new job."""
    if handle.outcome in ("replayed", "joined"):
        job = next((job for job in world.jobs if job.id == handle.id), None)
        world.require(job is not None, "an unknown job is given", handle.id)
        if job is not None and (name := request.options.get("idempotency_key")) is not None:
            world.joined.setdefault(job.id, set()).add(name)
        if handle.outcome == "joined":
            live = job in world.live() or world.broken > 0
            world.require(live, "joined a final job", handle.id)
        return
    world.accepted(handle)
    if handle.outcome == "replaced":
        _check_replaced(world, handle)


def _check_replaced(world: World, handle: JobHandle[Any]) -> None:
    """All others with the key have ended, or were asked to."""
    new = world.jobs[-1]
    for job in world.jobs[:-1]:
        alike = job.type == new.type and job.concurrency_key == new.concurrency_key
        if alike and job.cancel_requested_at is not None:
            world.never_again.setdefault(job.id, world.loop.time())
        asked = job.is_final or job.cancel_requested_at is not None
        world.require(not alike or asked, "one is not replaced", job.number)
