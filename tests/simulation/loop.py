"""An event loop whose order is drawn from a seed and whose time jumps: a run is repeated exactly by its seed."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import random
from typing import Any, cast

#: The process that a callback belongs to; 0 is the world itself. What belongs to a dead process is never run.
PROCESS: contextvars.ContextVar[int] = contextvars.ContextVar("PROCESS", default=0)


class Deadlock(AssertionError):
    """Nothing is ready and no timer is set, though the run has not ended."""


class StepsExhausted(AssertionError):
    """The run took more steps than a run may take."""


class SimLoop(asyncio.BaseEventLoop):
    """Runs one ready callback at a time, picked by the dice; time jumps only when nothing is ready."""

    def __init__(self, dice: random.Random, steps_max: int) -> None:
        super().__init__()
        self._dice = dice
        self._now = 0.0
        self.steps = 0
        self._steps_max = steps_max
        self.dead: set[int] = set()
        #: Tasks are kept to the end: a dropped one must not run its `finally` blocks when the collector finds it.
        self._kept: list[asyncio.Task[Any]] = []
        self._failure: BaseException | None = None
        self.set_task_factory(self._make_task)
        self.trace = 0

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **more)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._kept.append(task)
        return task

    def close(self) -> None:
        """End what was dropped, while its `finally` blocks can do no harm any more."""
        for task in self._kept:
            if not task.done():
                with contextlib.suppress(Exception):
                    cast("Any", task.get_coro()).close()
        super().close()

    def time(self) -> float:
        return self._now

    def call_exception_handler(self, context: Any) -> None:
        # A callback's own exception ends the run; that nobody looked at a future is what happens to the dead.
        if "handle" in context and self._failure is None:
            self._failure = context["exception"]

    def fail(self, text: str) -> None:
        """End the run: something has been seen where an exception would only be somebody's answer."""
        if self._failure is None:
            self._failure = AssertionError(text)

    def _write_to_self(self) -> None:
        return

    def _process_events(self, event_list: Any) -> None:
        return

    def _is_dead(self, handle: Any) -> bool:
        return handle._context.get(PROCESS) in self.dead

    def _run_once(self) -> None:
        ready = cast("Any", self)._ready
        timers = cast("Any", self)._scheduled
        while timers and (timers[0]._cancelled or self._is_dead(timers[0])):
            heapq.heappop(timers)._scheduled = False
        if not ready:
            if not timers:
                raise Deadlock(f"nothing to do at {self._now:.3f} s")
            self._now = max(self._now, timers[0]._when)
        while timers and timers[0]._when <= self._now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            ready.append(timer)
        at = self._dice.randrange(len(ready))
        ready.rotate(-at)
        handle = ready.popleft()
        ready.rotate(at)
        if handle._cancelled or self._is_dead(handle):
            return
        self.steps += 1
        if self.steps > self._steps_max:
            raise StepsExhausted(f"more than {self._steps_max} steps at {self._now:.3f} s")
        self.trace = (self.trace * 31 + at * 7 + int(self._now * 1e6)) % (1 << 61)
        handle._run()
        if self._failure is not None:
            raise self._failure
