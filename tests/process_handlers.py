"""Handlers that a child process can import, good ones and bad ones."""

import asyncio
import ctypes
import datetime
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, Secret, SecretBytes, SecretStr

from jobrunner import JobContext, PermanentError, RetryableError


def add(a: int, b: int = 2) -> int:
    return a + b


def echo(value: Any) -> Any:
    return value


def pid() -> int:
    return os.getpid()


def where() -> dict[str, Any]:
    return {"pid": os.getpid(), "group": os.getpgrp(), "session": os.getsid(0)}


async def add_in_loop(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


async def think() -> AsyncIterator[Any]:
    yield "one "
    await asyncio.sleep(0)
    yield {"two": 2}


class Methods:
    @staticmethod
    def static() -> str:
        return "static"

    @classmethod
    def of_class(cls) -> str:
        return cls.__name__

    def of_object(self) -> str:
        return "object"


def decorated(function: Any) -> Any:
    import functools

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the handler itself was registered")

    return wrapper


registered: list[Any] = []


def register(function: Any) -> Any:
    registered.append(function)
    return function


@decorated
@register
def below() -> str:
    return "below"


class Credentials(BaseModel):
    user: str
    password: SecretStr = Field(alias="pass")
    keys: dict[int, SecretBytes] = {}
    since: Secret[datetime.date] | None = None


def secrets(token: SecretStr, login: Credentials, more: list[SecretStr]) -> dict[str, Any]:
    return {
        "token": token.get_secret_value(),
        "password": login.password.get_secret_value(),
        "keys": {str(k): v.get_secret_value().decode() for k, v in login.keys.items()},
        "since": login.since and login.since.get_secret_value().isoformat(),
        "more": [each.get_secret_value() for each in more],
    }


def named_secrets(token: str, credentials: Credentials, api_keys: list[str]) -> list[Any]:
    return [token, credentials.password.get_secret_value(), api_keys]


def typed(day: datetime.date, path: Path, tags: set[str], ratio: float, login: Credentials) -> str:
    return repr((day, path, sorted(tags), ratio, type(login).__name__))


def about(ctx: JobContext) -> list[Any]:
    return [
        ctx.job_id,
        ctx.type,
        ctx.attempt,
        ctx.max_attempts,
        ctx.session_id,
        dict(ctx.metadata),
        ctx.cancel_requested,
    ]


def say_all(ctx: JobContext) -> None:
    ctx.progress(1, "begun")
    ctx.step(1, 4, "first")
    ctx.progress(30)
    ctx.step(1, 4)
    ctx.log("opened", path="a", message="field")
    ctx.extend_timeout(60)
    ctx.log("x" * 100_000)
    ctx.emit("y" * 16_385)
    ctx.emit({"n": 1}, channel="steps")


async def command(ctx: JobContext) -> str:
    return (await ctx.run_command("sh -c 'echo out; echo err >&2'")).stdout


class Oops(Exception):
    def __init__(self, code: int, *, text: str) -> None:
        super().__init__(text)
        self.code = code

    status_code = 418


class LostConnection(ConnectionError):
    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def __str__(self) -> str:
        return f"no {self.host}:{self.port}"


def fail(kind: str) -> None:
    class Hidden(LookupError):
        pass

    errors: dict[str, Any] = {
        "value": lambda: ValueError("bad value"),
        "key": lambda: KeyError("missing"),
        "oops": lambda: Oops(3, text="well"),
        "lost": lambda: LostConnection("db", 5432),
        "hidden": lambda: Hidden("not importable"),
        "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        "group": lambda: ExceptionGroup("both", [ValueError("a"), KeyError("b")]),
        "retryable": lambda: RetryableError("busy", retry_after=7.5),
        "permanent": lambda: PermanentError("never"),
        "exit": lambda: SystemExit(3),
        "interrupt": lambda: KeyboardInterrupt("ctrl"),
        "memory": lambda: MemoryError(),
        "leaked": lambda: asyncio.CancelledError("own"),
    }
    raise errors[kind]()


async def fail_in_loop(kind: str) -> None:
    fail(kind)


class Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    @property
    def status_code(self) -> int:
        raise RuntimeError("no code")


def fail_hostile() -> None:
    raise Hostile


def return_bad(kind: str) -> Any:
    class Thing:
        pass

    bad: dict[str, Any] = {
        "object": {"a": [1, Thing()]},
        "number": {"n": 10**5_000},
        "lambda": lambda: 1,
        "large": "x" * 3_000,
    }
    return bad[kind]


def die(how: str) -> None:
    if how == "os._exit":
        os._exit(3)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "recursion":
        sys.setrecursionlimit(10**9)
        deeper: list[Any] = []
        for _ in range(10**6):
            deeper = [deeper]
        repr(deeper)
    elif how == "exit 0":
        os._exit(0)
    elif how == "abort":
        os.abort()


async def die_in_loop(how: str) -> None:
    die(how)


def exhaust_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    bytearray(1 << 32)


def close_pipe() -> str:
    os.closerange(3, 200)
    return "not sent"


def make_noise() -> str:
    print("noise on stdout")
    os.write(1, b"\0" * 100)
    os.write(2, b"noise on stderr\n")
    return sys.stdin.read()


def leave_fork() -> int:
    forked = os.fork()
    if forked == 0:
        time.sleep(600)
        os._exit(0)
    return forked


async def fork_and_run_on() -> str:
    forked = os.fork()
    if forked == 0:
        return "fork"
    os.waitpid(forked, 0)  # noqa: ASYNC222  # the loop is to do nothing meanwhile
    return "original"


def leave_thread() -> int:
    threading.Thread(target=time.sleep, args=(600,)).start()
    return os.getpid()


def leave_daemon_thread() -> int:
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return os.getpid()


async def leave_task() -> int:
    kept.append(asyncio.create_task(asyncio.sleep(600)))
    return os.getpid()


kept: list[Any] = []


async def use_thread() -> int:
    return await asyncio.to_thread(os.getpid)


def leave_session() -> int:
    return subprocess.Popen(["sleep", "600"], start_new_session=True).pid


def leave_session_then(how: str, ctx: JobContext) -> None:
    ctx.emit(str(subprocess.Popen(["sleep", "600"], start_new_session=True).pid))
    die(how)


def spin(ctx: JobContext) -> None:
    ctx.emit(str(os.getpid()))
    while True:
        pass


def hold_lock(ctx: JobContext) -> int:
    """Stay in one call that never gives the interpreter's lock back."""
    ctx.emit(str(os.getpid()))
    return sum(range(10**13))


def spin_without_a_lifeline(ctx: JobContext) -> None:
    """Leave nothing but the thread that reads to see the server's end, as on other systems."""
    for descriptor in range(3, 50):
        try:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.close(descriptor)
        except OSError:
            continue
    spin(ctx)


async def spin_in_loop(ctx: JobContext) -> None:
    spin(ctx)


async def spin_until_told(ctx: JobContext) -> str:
    ctx.emit("begun")
    while not ctx.cancel_requested:
        pass
    return "told"


def check_until_told(ctx: JobContext) -> None:
    ctx.emit("begun")
    while True:
        ctx.check_cancelled()


async def wait_until_cancelled(ctx: JobContext) -> None:
    ctx.emit("begun")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        ctx.log("cleaned up", requested=ctx.cancel_requested)
        raise


async def swallow(ctx: JobContext) -> str:
    ctx.emit("begun")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        return "in spite of it"
    return "not cancelled"


async def ignore(ctx: JobContext) -> None:
    ctx.emit(str(os.getpid()))
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass


async def run_for_ever(ctx: JobContext) -> None:
    await ctx.run_command("sh -c 'echo $$; trap : TERM; while :; do sleep 600; done'")


def flood(ctx: JobContext, count: int) -> None:
    for number in range(count):
        ctx.log(f"{number} " + "x" * 1_000)


def flood_from_threads(ctx: JobContext, count: int) -> None:
    def work() -> None:
        for number in range(count):
            ctx.emit(str(number))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def send_garbage(data: str) -> None:
    """Write to whatever socket is open, past all manners."""
    for descriptor in range(3, 50):
        try:
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                other = socket.socket(fileno=os.dup(descriptor))
                if other.family == socket.AF_UNIX and other.getpeername() == "":
                    other.sendall(data.encode("latin-1"))
                other.close()
        except OSError:
            continue
    time.sleep(600)


variable = 0


def count() -> int:
    global variable
    variable += 1
    return variable


def return_objects() -> list[object]:
    return [object()]
