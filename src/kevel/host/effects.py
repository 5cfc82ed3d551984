"""One effect at a time on a domain, also when a call has run past its deadline."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any, TypeVar

from kevel.domain.errors import StepUnknown
from kevel.runtime import failpoints

T = TypeVar("T")


class Effects:
    """Runs hypervisor calls, one at a time for each server.

    A call that runs past `wait_s` still counts as under way: its caller gets StepUnknown, and the server's next call
    waits until it is settled, that is, until the driver has ended it.
    """

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._overdue: set[asyncio.Task[Any]] = set()

    async def run(self, server_id: str, call: Coroutine[Any, Any, T]) -> T:
        """The call's result; StepUnknown when it, or an earlier one on the same server, is still under way."""
        lock = self._locks[server_id]
        try:
            await asyncio.wait_for(lock.acquire(), self._wait_s)
        except TimeoutError:
            call.close()
            raise StepUnknown("An earlier call to this server's hypervisor is still under way.") from None
        except BaseException:
            call.close()
            raise
        effect = getattr(call, "__name__", "")  # a coroutine of the port has the port's name for the act
        failpoints.begin(effect)
        task = asyncio.ensure_future(call)
        try:
            done, _ = await asyncio.wait({task}, timeout=self._wait_s)
        except BaseException:
            self._leave_running(task, lock)
            raise
        if not done:
            self._leave_running(task, lock)
            raise StepUnknown("The hypervisor has not answered yet; the call is still under way.")
        lock.release()
        result = task.result()
        failpoints.done(effect)
        return result

    def _leave_running(self, task: asyncio.Task[Any], lock: asyncio.Lock) -> None:
        self._overdue.add(task)

        def settle(ended: asyncio.Task[Any]) -> None:
            self._overdue.discard(ended)
            lock.release()
            if not ended.cancelled():
                ended.exception()  # retrieved: what it answered no longer matters, the next look will see what is so

        task.add_done_callback(settle)

    async def drain(self, wait_s: float) -> None:
        """Give overdue calls a last, bounded time to end."""
        if self._overdue:
            await asyncio.wait(set(self._overdue), timeout=wait_s)

    def forget(self, server_id: str) -> None:
        """Drop the lock of a server that is gone."""
        lock = self._locks.get(server_id)
        if lock is not None and not lock.locked():
            del self._locks[server_id]
