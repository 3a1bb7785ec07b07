"""Questions that handlers ask people: what is asked, what fits as an answer, and by which token.

A question is open from the moment it is asked until it is answered, its time is over, or its
handler waits no more. What is open is part of the job's record; afterwards only events tell of it.
"""

import asyncio
import hashlib
import os
import random
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, from_json, to_json

from .errors import InvalidAnswer, InvalidOption, PayloadTooLarge
from .redaction import Redaction, mark_secrets, redaction_for
from .schemas import schema_of
from .timers import Timer
from .wording import describe

MAX_SCHEMAS = 256
"""Kinds of answers whose schemas are kept for the next question."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it was asked, with the token that answers it once.

    Who has the token can answer: give it to the person who is asked, and to nobody else.
    """

    job_id: str
    """The job that asks."""
    question_id: str
    """`q1`, `q2`, ...: its number among the job's questions."""
    prompt: str
    """What is asked."""
    schema: dict[str, Any]
    """JSON schema of the answers that fit."""
    asked_at: datetime
    """When it was asked."""
    expires_at: datetime | None
    """When nobody waits for an answer any more; None for never."""
    token: str = field(repr=False)
    """256 random bits, URL-safe; of no use once the question is closed."""


@dataclass(slots=True, eq=False)
class OpenQuestion:
    """The record of an open question."""

    question_id: str
    prompt: str
    kind: "AnswerKind"
    asked_at: float
    expires_at: float | None
    answer: "asyncio.Future[Any]"
    """What the handler waits for."""
    default: Any = None
    """What the handler goes on with when nobody answers in time."""
    timer: Timer | None = None
    token: str | None = None
    """Made when somebody wants it."""


class Questions:
    """The questions of one job; made when it asks the first."""

    __slots__ = ("asked", "open")

    def __init__(self) -> None:
        self.asked = 0
        """How many were asked so far, in all attempts."""
        self.open: dict[str, OpenQuestion] = {}
        """Those that wait for an answer, by id, in order."""


class AnswerKind:
    """What fits as an answer.

    Args:
        schema: Anything that pydantic's TypeAdapter takes.

    Raises:
        InvalidOption: It takes no part in JSON.
    """

    __slots__ = ("_adapter", "_redaction", "json_schema")

    def __init__(self, schema: Any) -> None:
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(schema)
            found = schema_of(self._adapter)
        except (PydanticUserError, TypeError, ValueError) as error:
            raise InvalidOption(
                f"schema is {schema!r:.100}, which no answer in JSON can have: {describe(error)}; "
                "take a pydantic model, Literal[...], bool, str or the like",
                option="schema",
            ) from None
        self._redaction: Redaction | None = redaction_for(found)
        self.json_schema = mark_secrets(found, self._redaction)

    def check(self, value: Any) -> Any:
        """Return the answer as the handler takes it; raises pydantic's ValidationError."""
        return self._adapter.validator.validate_python(value)

    def show(self, value: Any, *, limit: int) -> Any:
        """Return a checked answer as JSON values, secrets masked.

        Raises:
            InvalidAnswer: It can't be JSON.
            PayloadTooLarge: It is over `limit` bytes.
        """
        try:
            raw = self._adapter.serializer.to_json(value)
        except (PydanticSerializationError, ValueError) as error:
            raise InvalidAnswer(f"the answer can't be kept: {describe(error)}") from None
        if len(raw) > limit:
            raise PayloadTooLarge(f"the answer is {len(raw)} bytes of JSON; the limit is {limit}")
        return self.masked(raw)

    def masked(self, raw: bytes) -> Any:
        """Return JSON as values, secrets masked."""
        return from_json(raw if self._redaction is None else self._redaction.in_json(raw))


def kind_of(schema: Any) -> AnswerKind:
    """Return what fits; made once for each schema that can be told from others."""
    try:
        return _known_kind(schema, repr(schema))  # `A | B` equals `B | A`
    except TypeError:  # it can't be hashed
        return AnswerKind(schema)


@lru_cache(maxsize=MAX_SCHEMAS, typed=True)
def _known_kind(schema: Any, _: str) -> AnswerKind:
    return AnswerKind(schema)


def shown_default(question: OpenQuestion) -> Any:
    """Return what its handler goes on with as JSON values; what isn't JSON as text."""
    try:
        return question.kind.masked(to_json(question.default, fallback=repr, inf_nan_mode="null"))
    except Exception as error:  # bytes that aren't UTF-8, half a character, anybody's `__repr__`
        return f"(what JSON can't hold: {describe(error)})"


class Tokens:
    """The tokens of open questions: as many as there are open ones that need one.

    Args:
        seed: Makes them repeatable, for tests; None takes them from the system.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._read: Callable[[int], bytes] = (
            os.urandom if seed is None else random.Random(seed).randbytes
        )
        self._questions: dict[bytes, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._questions)

    def give(self, job_id: str, question: OpenQuestion) -> str:
        """Return the token of an open question."""
        if question.token is None:
            token = urlsafe_b64encode(self._read(32)).rstrip(b"=").decode()
            question.token = token
            self._questions[_digest(token)] = (job_id, question.question_id)
        return question.token

    def find(self, token: str) -> tuple[str, str] | None:
        """Return the ids of the job and of its question, None when no open one has the token."""
        return self._questions.get(_digest(token))

    def drop(self, question: OpenQuestion) -> None:
        """The question is closed: its token answers nothing any more."""
        if question.token is not None:
            del self._questions[_digest(question.token)]


def _digest(token: str) -> bytes:
    """Hash it, so that no comparison takes longer the more of a guess is right."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
