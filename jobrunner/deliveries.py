"""Deliveries: one event of one job on its way to one URL, and what is remembered of each."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from .addresses import Target
from .errors import DeliveryNotFound
from .timers import Timer
from .views import Frozen, iso

WebhookEvent: TypeAlias = Literal[
    "job.completed", "job.failed", "job.cancelled", "job.input_required"
]
DeliveryStatus: TypeAlias = Literal["pending", "sending", "delivered", "dead"]


@dataclass(slots=True, eq=False)
class Delivery:
    """The record of a delivery. Times ending in `_at` are unix seconds."""

    id: str
    """Made of the event's job and number, so that the same event always has the same id."""
    job_id: str
    event: WebhookEvent
    url: str
    target: Target
    """The URL, read."""
    event_at: float
    """When what it tells of happened."""
    traceparent: str | None = None
    """W3C Trace Context of the job, to be sent along."""
    question_id: str | None = None
    """The question that it tells of."""
    job_type: str = ""
    """For the log."""
    body: bytes | None = None
    """What is sent, while it is under way."""
    status: DeliveryStatus = "pending"
    attempts: int = 0
    """Tries in all."""
    tries: int = 0
    """Tries since it was taken, or sent again: where in the schedule it is."""
    next_attempt_at: float | None = None
    last_attempt_at: float | None = None
    status_code: int | None = None
    error: str | None = None
    timer: Timer | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it is delivered or dead; it may be sent again all the same."""
        return self.status in ("delivered", "dead")


class DeliveryView(Frozen):
    """A webhook delivery as it stood when somebody asked."""

    delivery_id: str
    """The `webhook-id`: one for each event, the same in every try."""
    job_id: str
    """The job it tells of."""
    event: WebhookEvent
    """job.completed, job.failed, job.cancelled or job.input_required."""
    url: str
    """Where it goes, without the query, which may hold a token."""
    status: DeliveryStatus
    """pending until its next try, sending, delivered, or dead: given up."""
    attempts: int
    """Tries that were made; not those that came due while the host's circuit was open."""
    event_at: datetime
    """When what it tells of happened."""
    last_attempt_at: datetime | None
    """When it was tried last."""
    next_attempt_at: datetime | None
    """When it is tried again; null when it is being sent, is delivered or dead."""
    status_code: int | None
    """HTTP status of the last answer; null when there was none."""
    error: str | None
    """Why the last try failed; null when it didn't."""


def delivery_view(delivery: Delivery) -> DeliveryView:
    """Return the delivery as it stands now."""
    path = delivery.target.path.partition("?")[0]
    return DeliveryView.model_validate(
        {
            "delivery_id": delivery.id,
            "job_id": delivery.job_id,
            "event": delivery.event,
            "url": f"{delivery.target.scheme}://{delivery.target.authority}{path}",
            "status": delivery.status,
            "attempts": delivery.attempts,
            "event_at": iso(delivery.event_at),
            "last_attempt_at": iso(delivery.last_attempt_at),
            "next_attempt_at": iso(delivery.next_attempt_at),
            "status_code": delivery.status_code,
            "error": delivery.error,
        }
    )


class Ledger:
    """All deliveries that are under way, and the last ones that have ended, by job.

    Args:
        max_ended: How many of those that have ended are kept.
    """

    def __init__(self, max_ended: int) -> None:
        self._max_ended = max_ended
        self._by_job: dict[str, dict[str, Delivery]] = {}
        self._ended: dict[str, Delivery] = {}

    def add(self, delivery: Delivery) -> bool:
        """Take a new delivery in; False if that event has one."""
        of_job = self._by_job.setdefault(delivery.job_id, {})
        if delivery.id in of_job:
            return False
        of_job[delivery.id] = delivery
        return True

    def of(self, job_id: str) -> list[Delivery]:
        """Return the job's deliveries, the oldest first."""
        return list(self._by_job.get(job_id, {}).values())

    def get(self, job_id: str, delivery_id: str) -> Delivery:
        """Return a delivery of the job.

        Raises:
            DeliveryNotFound: The job has none with that id, or not any more.
        """
        try:
            return self._by_job[job_id][delivery_id]
        except KeyError:
            raise DeliveryNotFound(
                f"job {job_id[:100]} has no webhook delivery {delivery_id[:100]!r}"
            ) from None

    def end(self, delivery: Delivery) -> None:
        """Note that it has ended, and let the one go that ended first if there are too many."""
        self._ended[delivery.id] = delivery
        if len(self._ended) > self._max_ended:
            oldest = self._ended.pop(next(iter(self._ended)))
            of_job = self._by_job[oldest.job_id]
            del of_job[oldest.id]
            if not of_job:
                del self._by_job[oldest.job_id]

    def reopen(self, delivery: Delivery) -> None:
        """Note that it is under way again."""
        self._ended.pop(delivery.id, None)
