"""Webhooks: who is told by a signed POST that a job has ended, or waits for somebody.

    feed -> Announcer: which events, which URL, the body -> Couriers: when -> Poster: one try

The feed of all jobs is read by number, by one reader, and each event that matters becomes one
delivery. No job waits for any of it. Of a job that has a webhook the record is held until the end,
so that even one that is pruned at once is told of.

Standard Webhooks 1.0; the body is `{"type", "timestamp", "data"}`, `data` the job as everywhere.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic_core import to_json

from .addresses import Resolve, Target, check_literal, parse_url
from .couriers import Couriers
from .deliveries import Delivery, DeliveryView, Ledger, WebhookEvent, delivery_view
from .errors import InvalidOption, JobGone, JobNotFound
from .events import Event
from .jobs import Job, JobStatus, log_fields
from .limits import LONGEST, check_count, check_seconds
from .posting import Poster
from .questions import Tokens
from .signing import keys_of, new_secret, verify
from .store import JobStore
from .timers import Timers
from .views import iso, view_json

if TYPE_CHECKING:
    import httpx2

logger = logging.getLogger("jobrunner.webhooks")

__all__ = ["Announcer", "DeliveryView", "Webhooks", "new_secret", "verify"]

Secret: TypeAlias = str | Sequence[str] | Callable[[str], str | Sequence[str]]
MAX_BODY = 20_000
"""Bytes of a body; what is larger goes without the result, then without params and metadata."""
BATCH = 100
"""Events that are read before others have a turn."""
EVENTS: dict[JobStatus, WebhookEvent] = {
    JobStatus.COMPLETED: "job.completed",
    JobStatus.FAILED: "job.failed",
    JobStatus.CANCELLED: "job.cancelled",
    JobStatus.INPUT_REQUIRED: "job.input_required",
}


@dataclass(frozen=True, slots=True)
class Webhooks:
    """How a runner delivers webhooks, Standard Webhooks 1.0; times are seconds.

    A job's events go to its own `webhook_url`, else to its type's, else to `url`: one of them.
    Each is tried at random times within the schedule until the receiver answers 2xx.

    Raises:
        InvalidOption: One of them has a value that it can't have.

    Example:
        runner = JobRunner(webhooks=Webhooks(new_secret(), url="https://example.com/jobs"))
    """

    secret: Secret = field(repr=False)
    """What messages are signed with: a secret of `new_secret()`, or several, the newest first,
    while receivers change from one to the other; or a plain, quick function that returns them for a
    URL, asked at every try, so that a secret can be changed while the runner runs."""
    url: str | None = None
    """Where the events of all jobs go that have no URL of their own; None for nowhere."""
    allow_private: bool = False
    """Whether URLs may lead to addresses that aren't public. For local development, and for URLs
    that no stranger chooses."""
    schedule: tuple[float, ...] = (0.0, 5.0, 30.0, 120.0, 600.0, 3_600.0)
    """How often it is tried, and for each try the seconds before it at most: full jitter."""
    timeout: float = 10.0
    """Seconds for a whole try."""
    max_kept: int = 10_000
    """Deliveries that are remembered after their end, to be looked at and sent again."""
    resolve: Resolve | None = None
    """Returns the addresses of a name; the system's resolver if not given."""
    transport: "httpx2.AsyncBaseTransport | None" = None
    """What connects, in place of `jobrunner.direct.Direct()`: `Direct(context)` for certificates of
    your own, a transport of httpx2 for a proxy. It is given URLs with the checked address in the
    host's place, the URL as it was submitted in the extension `webhook_url`, and is yours to
    close."""

    def __post_init__(self) -> None:
        if not callable(self.secret):
            keys_of(self.secret)
        if self.url is not None:
            self.read(self.url, option="url")
        check_seconds("timeout", self.timeout)
        check_count("max_kept", self.max_kept)
        delays = self.schedule
        if not delays or not all(
            isinstance(delay, int | float) and 0 <= delay <= LONGEST for delay in delays
        ):
            raise InvalidOption(
                f"schedule is {delays!r:.60}; it must be the seconds before each try, one or more",
                option="schedule",
            )

    def read(self, url: object, *, option: str = "webhook_url") -> Target:
        """Return the parts of a URL, when something may be posted to it; names are not looked up.

        Raises:
            InvalidOption: It can't be read in one way only, or has an address that isn't public.
        """
        target = parse_url(url, option=option)
        check_literal(target, allow_private=self.allow_private, option=option)
        return target


class Announcer:
    """Reads what happens to all jobs, and has those told who want to know.

    Args:
        options: What was decided for the runner.
        store: The jobs, and the feed.
        timers: What wakes the next try.
        now: The current time in unix seconds.
        random: Where the jitter comes from.
        tokens: What answers the questions that it tells of.
    """

    def __init__(
        self,
        options: Webhooks,
        *,
        store: JobStore,
        tokens: Tokens,
        timers: Timers,
        now: Callable[[], float],
        random: Random,
    ) -> None:
        self.options = options
        self._tokens = tokens
        self._store = store
        self._ledger = Ledger(options.max_kept)
        self._poster = Poster(
            secret=options.secret,
            timeout=options.timeout,
            allow_private=options.allow_private,
            resolve=options.resolve,
            transport=options.transport,
            now=now,
        )
        self._couriers = Couriers(
            post=self._poster.post,
            schedule=options.schedule,
            ledger=self._ledger,
            timers=timers,
            now=now,
            random=random,
        )
        self._watched: dict[str, Job] = {}
        self._read = 0  # number in the feed
        self._newest = 0  # number of the newest job
        self._reader: asyncio.Task[None] | None = None

    @property
    def counts(self) -> Counter[str]:
        """How many deliveries are under way, were delivered or died, and how many tries failed."""
        return Counter(pending=len(self._couriers)) + self._couriers.outcomes

    async def check(self, url: object) -> None:
        """Look at a URL that a submitter gives, its name looked up, for 2 s at most.

        Raises:
            InvalidOption: Nothing may be posted there.
        """
        await self._poster.check(self.options.read(url))

    def open(self) -> None:
        """Read on from where it ended, in the loop that runs now."""
        self._poster.open()
        self._couriers.open()
        self._reader = asyncio.get_running_loop().create_task(
            self._follow(),
            name="webhooks",
            context=Context(),  # not that of any job (T14)
        )

    async def _follow(self) -> None:
        feed = self._store.feed
        while True:
            await feed.wait(self._read)
            self._step()
            await asyncio.sleep(0)  # others have a turn, however much there is to read

    def _step(self) -> bool:
        """Read some events; False when there are none."""
        reading = self._store.feed.read(self._read, limit=BATCH)
        self._read = reading.last
        if reading.missed:
            self._catch_up()
        for event in reading.events:
            self._see(event)
        return bool(reading.events or reading.missed)

    def _see(self, event: Event) -> None:
        try:
            self._take(event)
        except Exception as fault:  # one job's must not end the reader of all (T17)
            logger.critical("job %s is not told of", event.job_id, exc_info=fault,
                            extra=self._log_fields(event.job_id))  # fmt: skip

    def _take(self, event: Event) -> None:
        job = self._watched.get(event.job_id)
        if job is None:
            if event.seq == 1:
                self._watch(event.job_id)
        elif event.type == "done":
            del self._watched[job.id]
            self._announce(job, event, EVENTS[event.data["status"]])
        elif event.type == "question":
            self._announce(job, event, "job.input_required")

    def _log_fields(self, job_id: str) -> dict[str, str]:
        """Return what a line about a job has as `extra`; its type only if that is at hand."""
        job = self._store.live_job(job_id) or self._watched.get(job_id)
        return {"job_id": job_id} if job is None else log_fields(job)

    def _watch(self, job_id: str) -> None:
        try:
            job = self._store.get(job_id)
        except (JobGone, JobNotFound):
            logger.warning("job %s is not told of: it was pruned before anybody saw it", job_id,
                           extra={"job_id": job_id})  # fmt: skip
            return
        self._newest = max(self._newest, job.number)
        if self._url_of(job) is not None:
            self._watched[job_id] = job

    def _url_of(self, job: Job) -> str | None:
        return self.options.url if job.webhook_url is None else job.webhook_url or None

    def _announce(self, job: Job, event: Event, kind: WebhookEvent) -> None:
        url = self._url_of(job)
        assert url is not None, "who is watched has a URL"
        message_id = f"msg_{job.id.removeprefix('job_')}_{event.seq}"
        target = parse_url(url)  # whether it may be posted to is asked by whoever does so
        delivery = Delivery(message_id, job.id, kind, url, target, event.at, job.traceparent)
        delivery.question_id, delivery.job_type = event.data.get("question_id"), job.type
        body = self._body(job, delivery)
        if self._ledger.add(delivery):
            self._couriers.take(delivery, body)

    def _body(self, job: Job, delivery: Delivery) -> bytes:
        """Return what is sent; with the token that answers the question that it tells of."""
        questions = {} if job.questions is None else job.questions.open
        question = questions.get(delivery.question_id or "")
        if question is None:
            return body_of(job, delivery)
        token = self._tokens.give(job.id, question)
        more = {"question_id": question.question_id, "answer_token": token}
        return body_of(job, delivery, more)

    def _catch_up(self) -> None:
        """See from the jobs themselves what the feed no longer has; what is seen twice is one."""
        missed = list(self._watched.values())
        cursor: str | None = None
        while True:
            page = self._store.page({}, limit=BATCH, cursor=cursor)
            new = [job for job in page.jobs if job.number > self._newest]
            missed += new
            if len(new) < len(page.jobs) or (cursor := page.next_cursor) is None:
                break
        for job in sorted(missed, key=lambda job: job.number):
            if job.number > self._newest:
                self._watch(job.id)  # its own log may no longer begin with its first event either
            for event in job.log.read().events:
                self._see(event)

    def deliveries(self, job_id: str) -> list[DeliveryView]:
        """Return the deliveries of a job, the oldest first."""
        return [delivery_view(delivery) for delivery in self._ledger.of(job_id)]

    def resend(self, job: Job, delivery_id: str) -> DeliveryView:
        """Send a delivery of the job again, from the begin of the schedule.

        Raises:
            DeliveryNotFound: The job has none with that id.
        """
        delivery = self._ledger.get(job.id, delivery_id)
        self._couriers.again(delivery, self._body(job, delivery))
        return delivery_view(delivery)

    async def stop(self, timeout: float) -> None:
        """See all that has happened, and let tries end for `timeout` seconds."""
        while self._step():
            pass
        await self._couriers.stop(timeout)
        assert self._reader is not None, "what stops has been opened"
        self._reader.cancel()
        await asyncio.wait([self._reader], timeout=0)

    def close(self) -> None:
        """Let go of the loop; what isn't delivered is kept until `open`."""
        while self._step():
            pass
        self._couriers.close()
        assert self._reader is not None, "what is closed has been opened"
        self._reader.cancel()
        self._reader = None


def needed(webhooks: Announcer | None) -> Announcer:
    """Return what a URL needs to be of any use.

    Raises:
        InvalidOption: The runner has none.
    """
    if webhooks is None:
        raise InvalidOption(
            "webhook_url is given, and the runner has no secret to sign webhooks with: make one "
            "with jobrunner.webhooks.new_secret(), once, keep it where the receivers can read it "
            "too, and start the runner as JobRunner(webhooks=Webhooks(secret))",
            option="webhook_url",
        )
    return webhooks


def body_of(job: Job, delivery: Delivery, more: Mapping[str, str] | None = None) -> bytes:
    """Return what is sent: the event, and the job as it stands now, within 20 kB if it can be.

    Args:
        more: What else is said of the job, to this receiver only.
    """
    at = iso(delivery.event_at) or ""
    head = b'{"type":"%b","timestamp":"%b","data":' % (delivery.event.encode(), at.encode())
    body = b""
    for left_out in _CUTS[len(job.result or b"") > MAX_BODY :]:
        told = view_json(job, links={}, leave_out=left_out)
        if more:
            told = b"%b,%b" % (told[:-1], to_json(more)[1:])
        body = b"%b%b}" % (head, told)
        if len(body) <= MAX_BODY:
            break
    return body


_CUTS: Sequence[tuple[Literal["result", "params", "metadata"], ...]] = (
    (), ("result",), ("result", "params", "metadata")
)  # fmt: skip
