"""From one request to many jobs: all of them are checked, then all are taken in, or none.

Checking gives others a turn now and then. Taking in is one step without an await, from the
idempotency key to the last job, so that nothing can come in between (Q1).
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from .batches import Batch
from .errors import (
    DuplicateJob,
    IdempotencyKeyReused,
    InvalidOption,
    InvalidParams,
    ParamProblem,
    PayloadTooLarge,
    QueueFull,
)
from .fingerprints import fingerprint
from .handlers import Handler
from .heritage import Heritage
from .jobs import Job, JobStatus, standing
from .limits import check_count, check_seconds
from .subjobs import SubJobs
from .submission import Intake, duplicate, set_key
from .submit_options import Checked, Fields, SubmitOptions, check_submit

TURN = 500
"""Params that are checked before others have a turn."""
MAX_FAULTS = 100
"""Faults after which the rest of the params isn't looked at."""

BatchOutcome: TypeAlias = Literal["created", "replayed"]
Taken: TypeAlias = tuple[Batch, BatchOutcome, list[Job]]
"""A batch, how it came about, and the jobs that were made for it now."""


class Item(NamedTuple):
    """The params of one job, checked."""

    arguments: Mapping[str, Any]
    raw: bytes
    request: bytes
    """What to know them by if they come again, secrets included; `raw` where there are none."""
    concurrency_key: str | None


class BatchIntake(Intake):
    """Takes requests in, for one job or for many."""

    async def take_many(
        self,
        handler: Handler,
        params: Iterable[Mapping[str, Any]],
        options: SubmitOptions,
        max_in_flight: int | None,
        parent: SubJobs | None = None,
    ) -> Taken:
        """Return the batch that the request asks for, when there is room for all of it.

        Raises:
            QueueFull: There is no room, after `max_wait` seconds.
            Exception: What `JobRunner.submit_batch` says.
        """
        max_wait = check_seconds("max_wait", options.get("max_wait", 0.0), zero=True)
        if max_in_flight is not None:
            check_count("max_in_flight", max_in_flight)
        checked = self._checked(handler, options)
        self._heritage(checked, parent)
        items = await self._items(handler, self._counted(params), checked)
        self._check_size(handler, items)

        def accept(*, behind: bool = False) -> Taken:
            return self._accept_many(handler, items, options, max_in_flight, behind, parent)

        try:
            return accept(behind=handler.name in self._lines)
        except QueueFull:
            if max_wait == 0.0:
                raise
        size = _size(items)
        try:
            async with asyncio.timeout(max_wait), self._turn(handler):
                while self._is_full(handler, more=len(items), size=size):
                    await self._store.feed.wait(self._store.feed.last)
                    self._check_open()
                return accept()
        except TimeoutError:
            raise self._no_room(handler, items) from None

    def _counted(self, params: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        if isinstance(params, str | bytes | Mapping) or not isinstance(params, Iterable):
            raise InvalidOption(
                f"the params of a batch are {params!r:.60}; give a list of dicts, one for each job",
                option="params",
            )
        most = self._limits.max_batch
        counted = list(islice(params, most + 1))
        if len(counted) > most:
            raise PayloadTooLarge(
                f"the batch has over {most} jobs, the limit (Limits.max_batch); submit it in parts"
            )
        return counted

    def _checked(self, handler: Handler, options: SubmitOptions) -> Checked:
        if "batch_id" in options:
            raise InvalidOption(
                "a batch makes its own batch_id; read it from the batch that is returned",
                option="batch_id",
            )
        return check_submit(options, handler.options, self._timeout, self._limits, self._now())

    async def _items(
        self, handler: Handler, params: Sequence[Mapping[str, Any]], checked: Checked
    ) -> list[Item]:
        """Return the params, checked; raises InvalidParams with the faults of all of them."""
        items, faults, bad = list[Item](), list[ParamProblem](), 0
        for index, given in enumerate(params):
            if index % TURN == TURN - 1:
                await asyncio.sleep(0)
            try:
                items.append(self._item(handler, given, checked.fields))
            except InvalidParams as error:
                bad += 1
                faults += _placed(index, error)
                if len(faults) >= MAX_FAULTS:
                    break
            except PayloadTooLarge as error:
                raise PayloadTooLarge(f"params {index} of the batch: {error}") from None
            except InvalidOption as error:
                raise InvalidOption(f"params {index}: {error}", option=error.option) from error
        if faults:
            raise InvalidParams(_listing(handler.name, faults, bad, len(params)), faults)
        if checked.on_duplicate == "join" and any(item.concurrency_key for item in items):
            raise InvalidOption(
                f"a batch runs all of its jobs, and {handler.name!r} would have them join others: "
                "submit it with on_duplicate='enqueue', 'replace' or 'reject'",
                option="on_duplicate",
            )
        return items

    def _item(self, handler: Handler, params: Mapping[str, Any], fields: Fields) -> Item:
        if not isinstance(params, Mapping):
            fault: ParamProblem = {"detail": "this must be an object", "pointer": "#"}
            raise InvalidParams(f"params are {params!r:.60}; give a dict", [fault])
        keyed = fields.get("idempotency_key") is not None
        arguments, raw, request = self._validate(handler, params, keyed=keyed)
        own = cast(Fields, dict(fields))
        set_key(own, handler, arguments)
        return Item(arguments, raw, request, own.get("concurrency_key"))

    def _check_size(self, handler: Handler, items: Sequence[Item]) -> None:
        """Refuse what there will never be room for; waiting for it would be for ever."""
        bounds = [self._limits.max_pending, handler.options.max_pending or self._limits.max_pending]
        if len(items) > min(bounds):
            raise PayloadTooLarge(
                f"the batch has {len(items)} jobs, and only {min(bounds)} may wait (max_pending); "
                "submit it in parts"
            )
        if (size := _size(items)) > self._limits.max_live_bytes:
            raise PayloadTooLarge(
                f"the params of the batch are {size} bytes of JSON; the limit of all jobs together "
                f"is {self._limits.max_live_bytes} (Limits.max_live_bytes); submit it in parts"
            )

    def _accept_many(
        self,
        handler: Handler,
        items: Sequence[Item],
        options: SubmitOptions,
        max_in_flight: int | None,
        behind: bool,
        parent: SubJobs | None,
    ) -> Taken:
        """Take all of the jobs in; whatever is raised, none of them is."""
        self._check_open()
        checked = self._checked(handler, options)
        heritage = self._heritage(checked, parent)
        key, owner = checked.fields.get("idempotency_key"), checked.fields.get("owner")
        request = b"" if key is None else _fingerprint(handler.name, items)
        if key is not None and (known := self._known_batch(key, owner, request)) is not None:
            return known, "replayed", []
        rivals = self._rivals_of(handler, items, checked, heritage)
        full = self._is_full(handler, less=rivals, more=len(items), size=_size(items))
        if items and (full or (behind and not rivals)):
            raise self._no_room(handler, items)
        batch_id, now = f"batch_{self._new_id().partition('_')[2]}", self._now()
        jobs = [self._one(handler, item, checked.fields, batch_id, now) for item in items]
        batch = Batch(
            id=batch_id,
            type=handler.name,
            job_ids=tuple(job.id for job in jobs),
            first=jobs[0].number if jobs else 0,
            created_at=now,
            counts=dict.fromkeys(map(str, JobStatus), 0),
            owner=owner,
            session_id=checked.fields.get("session_id"),
            max_in_flight=max_in_flight,
            idempotency_key=key, request=request,
        )  # fmt: skip
        self._store.add_batch(batch)
        for job in jobs:
            job.batch = batch
            self._add(job, checked, heritage)
        return batch, "created", jobs

    def _add(self, job: Job, checked: Checked, heritage: Heritage) -> None:
        if checked.on_duplicate == "replace" and (key := job.concurrency_key) is not None:
            for rival in list(self._alike(job.type, key, job.owner, heritage).values()):
                self._control.cancel(rival, "superseded")
        self._store.add(job, standing(job))
        self._enqueue(job, checked, heritage)

    def _one(self, handler: Handler, item: Item, fields: Fields, batch_id: str, now: float) -> Job:
        own = fields | {
            "batch_id": batch_id,
            "concurrency_key": item.concurrency_key,
            "idempotency_key": None,  # it is the batch's
        }
        return self._job(handler, item.raw, item.arguments, own, now, None)

    def _known_batch(self, key: str, owner: str | None, request: bytes) -> Batch | None:
        batch, job = self._store.batches.by_key(key, owner), self._store.by_key(key, owner)
        if job is not None or (batch is not None and batch.request != request):
            told = f"batch {batch.id}" if job is None and batch is not None else "a single job"
            raise IdempotencyKeyReused(
                f"the idempotency key {key!r} came before, with another request, for {told}; make "
                "a new key for a new batch"
            )
        return batch

    def _rivals_of(
        self, handler: Handler, items: Sequence[Item], checked: Checked, heritage: Heritage
    ) -> list[Job]:
        """Return the live jobs that will be replaced.

        Raises:
            DuplicateJob: Duplicates are rejected, and one of these would be one.
        """
        if checked.on_duplicate not in ("replace", "reject"):
            return []
        found, owner = dict[str, list[Job]](), checked.fields.get("owner")
        for index, item in enumerate(items):
            if (key := item.concurrency_key) is None:
                continue
            rivals = list(self._alike(handler.name, key, owner, heritage).values())
            if rivals and checked.on_duplicate == "reject":
                raise DuplicateJob(f"params {index}: {duplicate(rivals[-1])}", job_id=rivals[-1].id)
            if key in found and checked.on_duplicate == "reject":
                raise _alike(index, key)
            found[key] = rivals
        return [job for jobs in found.values() for job in jobs]

    def _no_room(self, handler: Handler, items: Sequence[Item]) -> QueueFull:
        full = self._full(handler)
        message = f"the batch needs {len(items)} places at once: {full}"
        return QueueFull(message, retry_after=full.retry_after)


def _size(items: Sequence[Item]) -> int:
    return sum(len(item.raw) for item in items)


def _fingerprint(type: str, items: Sequence[Item]) -> bytes:
    return fingerprint(chain((type.encode(),), (item.request for item in items)))


def _placed(index: int, error: InvalidParams) -> list[ParamProblem]:
    """Return the faults of one job's params as faults of the batch's."""
    whole: ParamProblem = {"detail": str(error), "pointer": "#"}
    return [
        {"detail": fault["detail"], "pointer": f"#/{index}{fault['pointer'][1:]}"}
        for fault in error.errors or [whole]
    ]


def _listing(name: str, faults: Sequence[ParamProblem], bad: int, total: int) -> str:
    shown = "; ".join(f"{fault['pointer']}: {fault['detail']}" for fault in faults[:5])
    more = "; and more" if len(faults) > 5 else ""
    return f"{bad} of {total} params don't fit job type {name!r}: {shown}{more}"


def _alike(index: int, key: str) -> InvalidParams:
    fault: ParamProblem = {
        "detail": f"it has the concurrency key {key!r} of another one, and duplicates are rejected",
        "pointer": f"#/{index}",
    }
    return InvalidParams(f"params {index}: {fault['detail']}", [fault])
