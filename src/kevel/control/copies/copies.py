"""Long copies: a few at a time, each with its progress on record and an end that is bounded.

A copy's thread cannot be interrupted, only asked: a watch tells it to end when its operation was given up (its subject
is deleted) or has passed its deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from kevel.control.runtime import Runtime
from kevel.domain.copies import AT_REST, CopyState
from kevel.domain.errors import StaleWrite, StepNever
from kevel.domain.model import Operation
from kevel.runtime import failpoints
from kevel.runtime.reconciler import Again
from kevel.storage.base import Backend, CopyWatch, SnapshotFile
from kevel.store.at_rest import LivePath, Rest, look_at_rest
from kevel.store.attachments import load_path
from kevel.store.copies import drop_copy, load_copy, open_copies, order_copy
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
#: The same for the order to a host's agent, and for a copy by it that is whole.
COPY: Final = "copy"
COPIED: Final = "copied"
#: How often an agent's copy is asked after, besides its reports.
LIVE_LOOK_S: Final = 2.0


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
        args = _without(operation, _STAMP) | ({_STAMP: stamp} if stamp is not None else {})
        await self._runtime.store.write(note_args, operation, args)
        return rest

    @staticmethod
    def is_settled(operation: Operation) -> bool:
        """Is it on record how the volume stood when its copy began? Then what is there of a copy is this one's."""
        return _STAMP in operation.args

    async def begin_live(self, operation: Operation, backend: Backend, rest: Rest, target: SnapshotFile) -> Again:
        """Order the host's agent to copy a volume that one running guest has plugged into the target."""
        runtime = self._runtime
        with failpoints.around("make_target"):
            path = await backend.make_target(target)
        copy_id, at = runtime.ids.uuid(), runtime.clock.now_us()
        await runtime.store.write(_order, operation, rest.live[0], copy_id, path, at)
        return Again(LIVE_LOOK_S)

    async def follow_live(self, operation: Operation, backend: Backend, target: SnapshotFile) -> Again | None:
        """How the ordered copy goes; None: it is whole. Raises StepNever when the agent could not make it."""
        store = self._runtime.store
        copy = await store.read(load_copy, str(operation.args[COPY]))
        if copy is not None and copy.state is CopyState.WANTED:
            if copy.total_bytes:
                percent = min(99, 100 * copy.done_bytes // copy.total_bytes)
                await store.write(note_progress, operation, percent)
            return Again(LIVE_LOOK_S)
        if copy is not None and copy.state is CopyState.DONE:
            with failpoints.around("seal_target"):
                await backend.seal_target(target, CopyWatch())
            await store.write(note_args, operation, operation.args | {COPIED: True})
            return None
        if copy is not None and copy.reason is not None and copy.reason.code != AT_REST:
            raise StepNever(copy.reason.message)
        # No running guest has it any more: the back end can copy it by itself.
        await store.write(note_args, operation, _without(operation, COPY))
        return Again(WAIT_S)

    async def drop_live(self, subject_id: str) -> bool:
        """Have agents stop to copy for the subject. False: one has not yet."""
        return await self._runtime.store.write(_drop, subject_id, self._runtime.clock.now_us())

    async def _watch(self, operation: Operation, watch: CopyWatch) -> None:
        try:
            await self._look_after(operation, watch)
        except Exception:  # whatever it is, nobody would see the copy's deadline pass
            log.exception("copy not watched", operation=operation.id)
            watch.stop("The copy could not be watched; it is begun anew.")

    async def _look_after(self, operation: Operation, watch: CopyWatch) -> None:
        shown = operation.progress
        store = self._runtime.store
        while True:
            await asyncio.sleep(WATCH_S)
            now = await store.read(running_operation, operation.subject, operation.subject_id)
            if now is None or now.id != operation.id:
                watch.stop("The copy was given up.")
                return
            if self._runtime.clock.now_us() >= now.deadline_at:
                watch.stop("The copy has not ended within its time.")
                return
            done = 100 * watch.done_bytes // watch.total_bytes if watch.total_bytes else 0
            if done > shown:
                shown = min(done, 99)
                await store.write(note_progress, operation, shown)


def copy_counts(tx: Tx, operation: Operation, volume_id: str) -> bool:
    """Are these the volume's contents at one time? To be asked in the transaction that counts the copy.

    So it is when a host's agent took them from a running guest, or when nobody could write since the copy began.
    """
    running = running_operation(tx, operation.subject, operation.subject_id)
    if running is None or running.id != operation.id:
        return False
    if COPIED in running.args:
        return True
    rest = look_at_rest(tx, volume_id)
    return rest.at_rest and running.args.get(_STAMP) == rest.stamp


def _order(tx: Tx, operation: Operation, live: LivePath, copy_id: str, target_path: str, at: int) -> None:
    path = load_path(tx, live.path_id)
    if path is None:
        raise StaleWrite
    order_copy(
        tx,
        copy_id=copy_id,
        subject=operation.subject,
        subject_id=operation.subject_id,
        path=path,
        target_path=target_path,
        at=at,
        deadline_at=operation.deadline_at,
    )
    note_args(tx, operation, _without(operation, _STAMP) | {COPY: copy_id})


def _drop(tx: Tx, subject_id: str, at: int) -> bool:
    left = open_copies(tx, subject_id)
    for copy_id in left:
        drop_copy(tx, copy_id, at=at)
    return not left


def _without(operation: Operation, *names: str) -> dict[str, Any]:
    return {key: value for key, value in operation.args.items() if key not in names}


def check_rest(rest: Rest, what: str) -> Again | None:
    """None: its file may be copied; else when to look again. Raises StepNever for one that cannot be copied."""
    if rest.at_rest:
        return None
    if rest.foreign:
        raise StepNever(f"{what} is attached outside Kevel's own servers; it can be copied when it is detached.")
    if len(rest.live) > 1:
        raise StepNever(f"{what} is in use by {len(rest.live)} running servers; it can be copied when one has it.")
    return Again(WAIT_S)
