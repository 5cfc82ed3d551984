"""Long copies: a few at a time, each with its progress on record and an end that is bounded.

A copy's thread cannot be interrupted, only asked: a watch tells it to end when its operation was given up (its subject
is deleted) or has passed its deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from kevel.control.runtime import Runtime
from kevel.domain.errors import StepNever
from kevel.domain.model import Operation
from kevel.runtime.reconciler import Again
from kevel.storage.base import CopyWatch
from kevel.store.at_rest import Rest, look_at_rest
from kevel.store.operations import note_args, note_progress, running_operation
from kevel.store.transactions import Tx

log = structlog.get_logger(__name__)

#: Copies at a time: each holds a thread, and they share one disk.
COPIES_MAX: Final = 4
#: How often a copy's operation is looked at.
WATCH_S: Final = 1.0
#: When a copy that found no place, or whose volume is on its way to or from a guest, looks again.
WAIT_S: Final = 0.5
#: What the name of the record is under which an operation keeps how its volume stood when the copy began.
_STAMP: Final = "stamp"


class Copies:
    """Runs copies for workers. One for each process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._running = 0

    async def run(self, operation: Operation, copy: Callable[[CopyWatch], Awaitable[None]]) -> Again | None:
        """Run the copy; None: it is done. Raises what the copy raises."""
        if self._running >= COPIES_MAX:
            return Again(WAIT_S)
        self._running += 1
        watch = CopyWatch()
        watching = asyncio.create_task(self._watch(operation, watch), name=f"copy:{operation.id}")
        try:
            await copy(watch)
        finally:
            self._running -= 1
            # For a thread that nobody waits for any more.
            watch.stop("Kevel is stopping; the copy begins anew when it starts.")
            watching.cancel()
        return None

    async def settle(self, operation: Operation, volume_id: str, discard: Callable[[], Awaitable[None]]) -> Rest:
        """How the volume stands that is to be copied; at rest, that is on record from now on.

        What an earlier attempt has copied is discarded if somebody may have written in its middle.
        """
        rest = await self._runtime.store.read(look_at_rest, volume_id)
        before = operation.args.get(_STAMP)
        stamp = rest.stamp if rest.at_rest else None
        if before == stamp:
            return rest
        if before is not None:
            await discard()
        args = {key: value for key, value in operation.args.items() if key != _STAMP}
        await self._runtime.store.write(note_args, operation, args | ({_STAMP: stamp} if stamp is not None else {}))
        return rest

    async def _watch(self, operation: Operation, watch: CopyWatch) -> None:
        shown = operation.progress
        store = self._runtime.store
        while True:
            await asyncio.sleep(WATCH_S)
            now = await store.read(running_operation, operation.subject, operation.subject_id)
            if now is None or now.id != operation.id:
                watch.stop("The copy was given up.")
                return
            if self._runtime.clock.now_us() >= operation.deadline_at:
                watch.stop("The copy has not ended within its time.")
                return
            done = 100 * watch.done_bytes // watch.total_bytes if watch.total_bytes else 0
            if done > shown:
                shown = min(done, 99)
                await store.write(note_progress, operation, shown)


def still_at_rest(tx: Tx, operation: Operation, volume_id: str) -> bool:
    """Has nobody been able to write the volume since the copy began? To be asked in the transaction that counts it."""
    running = running_operation(tx, operation.subject, operation.subject_id)
    rest = look_at_rest(tx, volume_id)
    return running is not None and rest.at_rest and running.args.get(_STAMP) == rest.stamp


def check_rest(rest: Rest, what: str) -> Again | None:
    """None: its file may be copied; else when to look again. Raises StepNever for one that will never be at rest."""
    if rest.at_rest:
        return None
    if rest.foreign:
        raise StepNever(f"{what} is attached outside Kevel's own servers; it can be copied when it is detached.")
    return Again(WAIT_S)
