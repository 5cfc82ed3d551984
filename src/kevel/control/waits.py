"""Requests that are answered once an attachment is where they want it, or after a bounded wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from kevel.store.transactions import Store, Wake

T = TypeVar("T")


class AttachmentWaits:
    """Hears of every line in attachments' journals."""

    def __init__(self, store: Store) -> None:
        self._waiters: dict[str, set[asyncio.Event]] = {}
        store.subscribe(self._hear)

    def _hear(self, wakes: Sequence[Wake]) -> None:
        for wake in wakes:
            if wake.kind == "attachment":
                for waiter in self._waiters.get(wake.key, ()):
                    waiter.set()

    async def wait(self, attachment_id: str, look: Callable[[], Awaitable[T | None]], wait_s: float) -> T | None:
        """What `look` finds, asked now and after each move of the attachment; None: nothing within `wait_s`."""
        waiter = asyncio.Event()
        waiters = self._waiters.setdefault(attachment_id, set())
        waiters.add(waiter)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    while (found := await look()) is None:
                        await waiter.wait()
                        waiter.clear()
                    return found
            return None
        finally:
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(attachment_id, None)
