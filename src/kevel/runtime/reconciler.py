"""The reconciler: looks at keys, one look at a time for each, until the look says that nothing is left to do.

A look gets only the key. It reads everything, acts, records, and returns one of three outcomes (a step that can never
succeed has been recorded by the look itself, so it is `DONE`). Wake-ups and events only put a key up for another look:
losing one costs time, since every owner also sweeps its rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from kevel.domain.errors import KevelError, StaleWrite
from kevel.runtime.ports import Ids

log = structlog.get_logger(__name__)


class Done:
    """Nothing left to do until somebody wakes the key."""


class Again:
    """Look again after a delay; not a failure."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s


class Retry:
    """A passing failure: look again with backoff."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


Outcome = Done | Again | Retry
DONE: Final = Done()

BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 15.0
#: Looks in a row that are repeated without a pause because the row had moved meanwhile.
STALE_AT_ONCE_MAX: Final = 10


class Reconciler:
    """Runs looks for keys, at most `parallel_max` at once and one at a time for each key.

    A key woken during its look is looked at again afterwards. An exception from a look is a bug in it: it is logged and
    retried with backoff, since a row must never be forgotten.
    """

    def __init__(self, name: str, look: Callable[[str], Awaitable[Outcome]], ids: Ids, *, parallel_max: int) -> None:
        self.name = name
        self._look = look
        self._ids = ids
        self._slots = asyncio.Semaphore(parallel_max)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._stale: dict[str, int] = {}
        self._closed = False

    def wake(self, key: str) -> None:
        """Put the key up for a look now."""
        if self._closed:
            return
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._running:
            self._again.add(key)
            return
        self._running[key] = asyncio.get_running_loop().create_task(self._run(key), name=f"{self.name}:{key}")

    def next_look_s(self, key: str) -> float | None:
        """Seconds until the key is looked at; 0 while it is, None when nothing is planned."""
        if key in self._running:
            return 0.0
        timer = self._timers.get(key)
        return None if timer is None else max(0.0, timer.when() - asyncio.get_running_loop().time())

    async def _run(self, key: str) -> None:
        again_after_s: float | None = None
        try:
            async with self._slots:
                again_after_s = await self._look_once(key)
        finally:
            del self._running[key]
        if key in self._again:
            self._again.discard(key)
            self.wake(key)
        elif again_after_s is not None and not self._closed:
            loop = asyncio.get_running_loop()
            self._timers[key] = loop.call_later(again_after_s, self._fire, key)

    async def _look_once(self, key: str) -> float | None:
        try:
            outcome = await self._look(key)
        except asyncio.CancelledError:
            raise
        except StaleWrite:
            # Somebody moved the row between our read and our write: decide anew at once, a few times.
            stale = self._stale.get(key, 0) + 1
            self._stale[key] = stale
            if stale <= STALE_AT_ONCE_MAX:
                self._again.add(key)
                return None
            outcome = Retry("the row moves faster than it can be looked at")
        except KevelError as error:
            # Kevel's own refusals: the store is short of space, the control plane silent, this agent outdated.
            log.warning("look put off", reconciler=self.name, key=key, reason=error.message)
            outcome = Retry(error.message)
        except Exception:
            log.exception("look failed", reconciler=self.name, key=key)
            outcome = Retry("internal error")
        else:
            self._stale.pop(key, None)
        if isinstance(outcome, Retry):
            failures = self._failures.get(key, 0) + 1
            self._failures[key] = failures
            delay_s: float = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 10))
            return delay_s * (0.75 + self._ids.jitter() / 2)
        self._failures.pop(key, None)
        return outcome.after_s if isinstance(outcome, Again) else None

    def _fire(self, key: str) -> None:
        self._timers.pop(key, None)
        self.wake(key)

    async def close(self) -> None:
        """Stop looking: cancel timers and running looks, and wait until they have ended."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
