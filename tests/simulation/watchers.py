"""Clients that only look: at one job's events, at everybody's, at the list."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

from jobrunner import Event, JobHandle
from jobrunner.jobs import Job

from .world import Stream, World


def follow(world: World, handle: JobHandle[Any], job: Job, after: int, *, slow: bool) -> Stream:
    """Have somebody follow a job's events above number `after`."""
    stream = Stream(job, after, slow)
    world.streams.append(stream)
    stream.task = asyncio.create_task(_follow(handle, stream), name="client")
    return stream


async def _follow(handle: JobHandle[Any], stream: Stream) -> None:
    async for event in handle.events(stream.after):
        stream.seen.append(event)
        if stream.slow:
            await asyncio.sleep(1)


def follow_all(world: World) -> "asyncio.Task[None]":
    """Have somebody follow what happens to all jobs."""
    feed = asyncio.create_task(_follow_all(world, world.runner.events()), name="client")
    world.feeds.append(feed)
    return feed


async def _follow_all(world: World, events: AsyncIterator[Event]) -> None:
    last: dict[str, int] = {}
    async for event in events:
        if event.type == "gap":
            continue
        newer = event.seq > last.get(event.job_id, 0)
        world.require(newer, "the feed goes back", event.seq)
        last[event.job_id] = event.seq


async def page(world: World, draw: Random, session: str | None, limit: int) -> None:
    """Page through all jobs while they change: none is left out, and none comes twice."""
    at_first = [job for job in world.jobs if session in (None, job.session_id)]
    numbers: list[int] = []
    cursor: str | None = None
    while True:
        part = world.runner.page(session_id=session, limit=limit, cursor=cursor)
        numbers.extend(job.number for job in part.jobs)
        world.require(len(part.jobs) <= limit, "a long page", len(part.jobs))
        if (cursor := part.next_cursor) is None:
            break
        await asyncio.sleep(draw.choice((0, 0, 0.5)))
    world.require(numbers == sorted(set(numbers), reverse=True), "order of pages", numbers)
    missed = [j.number for j in at_first if world.kept(j) and j.number not in numbers]
    world.require(not missed, "pages left out", missed)
