"""The part of a job's context that asks people."""

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar, overload

from .errors import InvalidOption
from .questions import Question

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")

NOT_GIVEN: Final = object()
"""What an argument is that wasn't given, where None says something."""
Notify: TypeAlias = Callable[[Question], Awaitable[None] | None]


class Asker:
    """What a handler may do that people answer."""

    __slots__ = ()

    @property
    @abstractmethod
    def job_id(self) -> str:
        """Id of the job."""

    @abstractmethod
    def _loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that the runner works in."""

    @abstractmethod
    def run_async(
        self, function: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Await a coroutine function in that loop, from a thread that is woken by a cancel."""

    @abstractmethod
    def _asking(self) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Return what asks for this attempt.

        Raises:
            InvalidOption: Nothing does where this handler runs.
        """

    @overload
    def ask(
        self, prompt: str, *, timeout: float | None = None, notify: Notify | None = None
    ) -> Coroutine[Any, Any, str]: ...
    @overload
    def ask(
        self,
        prompt: str,
        *,
        schema: type[T],
        timeout: float | None = None,
        notify: Notify | None = None,
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def ask(
        self,
        prompt: str,
        *,
        schema: type[T],
        timeout: float | None = None,
        default: D,
        notify: Notify | None = None,
    ) -> Coroutine[Any, Any, T | D]: ...
    @overload
    def ask(
        self,
        prompt: str,
        *,
        schema: Any = str,
        timeout: float | None = None,
        default: Any = NOT_GIVEN,
        notify: Notify | None = None,
    ) -> Coroutine[Any, Any, Any]: ...
    def ask(
        self,
        prompt: str,
        *,
        schema: Any = str,
        timeout: float | None = None,
        default: Any = NOT_GIVEN,
        notify: Notify | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Ask a person, and return the answer: `if await ctx.ask("Deploy?", schema=bool): ...`.

        The job is `input_required` as long as it asks, and has no worker; when it is answered it
        waits for one, before jobs that came later. Its time limit and its stall timeout stand still
        until then, its deadline doesn't. Several may be asked at once, in tasks of the handler.

        Args:
            prompt: What is asked, for a person.
            schema: What fits as an answer: a pydantic model, `Literal[...]`, `bool`, whatever
                pydantic validates; the answer is returned as such a value.
            timeout: Seconds for which somebody may answer; None for as long as the job may take.
            default: What is returned when nobody did.
            notify: Called with the question and its token once it is open, to tell a person of it:
                a function or a coroutine function. What it raises is raised here.

        Raises:
            TimeoutError: Nobody answered in time, and there is no `default`.
            InvalidOption: The prompt is too long or none, the schema can't be JSON, too many
                questions are open, or the handler runs in a thread or in a process of its own.
            RetryableError: Too many jobs wait already.
        """
        ask = self._asking()
        if asyncio._get_running_loop() is not self._loop():
            raise InvalidOption(
                "ctx.ask is for the event loop; a plain function, which runs in a thread, says "
                "ctx.ask_blocking(...)"
            )
        return ask(prompt, schema=schema, timeout=timeout, default=default, notify=notify)

    def ask_blocking(
        self,
        prompt: str,
        *,
        schema: Any = str,
        timeout: float | None = None,
        default: Any = NOT_GIVEN,
        notify: Notify | None = None,
    ) -> Any:
        """Ask a person from a thread, which waits for the answer; see `ask`.

        The thread is one of `Limits.max_threads` meanwhile. `notify` is called in the event loop.

        Raises:
            asyncio.CancelledError: This attempt is to stop.
        """
        ask = self._asking()
        if asyncio._get_running_loop() is not None:
            raise InvalidOption("ctx.ask_blocking is for threads; write `await ctx.ask(...)` here")
        return self.run_async(
            ask, prompt, schema=schema, timeout=timeout, default=default, notify=notify
        )
