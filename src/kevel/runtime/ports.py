"""Clock, ids, randomness and threads, as ports: the simulator replaces them and nothing else.

Code outside this module does not ask the operating system for the time, an id or a thread.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Clock(Protocol):
    """Wall-clock time, for records. Waiting uses the event loop's own time."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        ...


class Ids(Protocol):
    """Fresh names."""

    def uuid(self) -> str:
        """A random uuid with dashes."""
        ...

    def secret(self) -> str:
        """256 bits nobody can guess, in hex: safe in URLs and shells, and none begins like an option of a command."""
        ...

    def jitter(self) -> float:
        """A number in [0, 1), to spread retries. Not for secrets."""
        ...


class Executor(Protocol):
    """Where blocking calls run."""

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call fn in a thread and wait for it. A cancelled wait does not stop the call."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1000


class SystemIds:
    """The operating system's randomness."""

    def uuid(self) -> str:
        return str(uuid.uuid4())

    def secret(self) -> str:
        return secrets.token_hex(32)

    def jitter(self) -> float:
        return random.random()


class ThreadExecutor:
    """A bounded pool of threads; calls beyond its size wait in line."""

    def __init__(self, name: str, threads_max: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=threads_max, thread_name_prefix=name)

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: fn(*args, **kwargs))

    def close(self) -> None:
        """Let running calls end; refuse new ones."""
        self._pool.shutdown(wait=True, cancel_futures=True)
