"""The worker of images that are made of servers' root disks, and of those that have served their purpose and go."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import structlog

from kevel.control.copies.copies import COPIED, COPY, LIVE_LOOK_S, WAIT_S
from kevel.control.images.server_images import FORMAT, SERVER
from kevel.control.images.volume_images import fill_image
from kevel.control.operations.failures import note_retry
from kevel.control.runtime import Runtime
from kevel.domain.copies import CopyState
from kevel.domain.errors import NotFound, StaleWrite, StepError, StepNever
from kevel.domain.images import ImageStatus
from kevel.domain.model import Operation, OperationKind, Reason, Server, ServerGoal, ServerRung, Subject
from kevel.runtime import failpoints
from kevel.runtime.reconciler import DONE, Again, Outcome
from kevel.storage.image_files import ImageFiles, WrittenBytes
from kevel.store.copies import drop_copy, load_copy, open_copies, order_root_copy
from kevel.store.images import discard_image, forget_file, load_image
from kevel.store.operations import finish_operation, is_read, note_args, note_progress, running_operation, unfinished
from kevel.store.server_rows import end_imaging, fail_shelving, keep_shelved
from kevel.store.servers import load_server
from kevel.store.transactions import Tx

log = structlog.get_logger(__name__)

ACTOR: Final = "control"
_UNWANTED: Final = "The server does not wait for its image any more."


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """All that a look reads, in one snapshot."""

    operation: Operation | None
    #: It waits for its bytes still.
    saving: bool
    #: Of which it is made, if that waits for it.
    server: Server | None


class ImageWorker:
    """Looks at images for `kevel.runtime.reconciler`."""

    def __init__(self, runtime: Runtime, images: ImageFiles) -> None:
        self._runtime = runtime
        self._images = images

    async def unfinished(self) -> list[str]:
        """Images in the middle of something: looked at after a start and by every sweep."""
        return await self._runtime.store.read(unfinished, Subject.IMAGE)

    async def look(self, image_id: str) -> Outcome:
        """Carry out the image's running operation, if there is one."""
        sight = await self._runtime.store.read_point(_see, image_id)
        operation = sight.operation
        if operation is None:
            return DONE
        started = self._runtime.clock.now_us()
        try:
            if operation.kind is OperationKind.DELETING:
                return await self._delete(operation)
            again = await self._copy(operation, sight)
            if again is not None:
                if started >= operation.deadline_at:
                    raise StepNever("The server's root disk was not copied in its time.")
                return again
            written = await self._take_written(operation)
        except StepError as error:
            return await self._note_failure(operation, error)
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(_complete, operation, written, at, at - started)
        return DONE

    async def _copy(self, operation: Operation, sight: Sight) -> Again | None:
        """Have the server's host copy its root disk; None: it has."""
        store, server = self._runtime.store, sight.server
        if server is None or not sight.saving:
            raise StepNever(_UNWANTED)
        if COPIED in operation.args:
            return None
        if COPY in operation.args:
            return await self._follow(operation)
        is_still = server.rung is ServerRung.DEFINED
        if not (is_still if server.goal is ServerGoal.SHELVED else server.rung >= ServerRung.DEFINED):
            return Again(WAIT_S)  # a report that it has come so far wakes this
        with failpoints.around("make_part"):
            path = await self._runtime.executor.run(self._images.make_part, str(operation.args["file"]))
        if operation.args[FORMAT] is None:
            return None
        copy_id, at = self._runtime.ids.uuid(), self._runtime.clock.now_us()
        await store.write(_order, operation, copy_id, path, at)
        return Again(LIVE_LOOK_S)

    async def _follow(self, operation: Operation) -> Again | None:
        store = self._runtime.store
        copy = await store.read(load_copy, str(operation.args[COPY]))
        if copy is None or copy.state is CopyState.DROPPED:
            raise StepNever(_UNWANTED)
        if copy.state is CopyState.WANTED:
            if copy.total_bytes:
                await store.write(note_progress, operation, min(99, 100 * copy.done_bytes // copy.total_bytes))
            return Again(LIVE_LOOK_S)
        if copy.state is CopyState.FAILED:
            raise StepNever("The root disk could not be copied." if copy.reason is None else copy.reason.message)
        await store.write(note_args, operation, operation.args | {COPIED: True})
        return None

    async def _take_written(self, operation: Operation) -> WrittenBytes:
        name = str(operation.args["file"])
        try:
            with failpoints.around("take_written"):
                return await self._runtime.executor.run(self._images.take_written, name)
        except NotFound as error:
            raise StepNever(error.message) from error

    async def _delete(self, operation: Operation) -> Outcome:
        """Remove the file of an image that is a tombstone, when nobody writes or reads it any more."""
        store, at = self._runtime.store, self._runtime.clock.now_us()
        file = str(operation.args["file"])
        if not await store.write(_is_let_go, operation.subject_id, file, at):
            return Again(WAIT_S)
        with failpoints.around("remove_image"):
            await self._runtime.executor.run(self._images.remove_file, file)
        await store.write(_forget, operation, file, at)
        return DONE

    async def _note_failure(self, operation: Operation, error: StepError) -> Outcome:
        if operation.kind is OperationKind.DELETING:
            return await note_retry(self._runtime, operation, error)  # nobody else would remove the file
        at = self._runtime.clock.now_us()
        if isinstance(error, StepNever) or at >= operation.deadline_at:
            await self._runtime.store.write(_fail, operation, error.message, at)
            return DONE
        return await note_retry(self._runtime, operation, error)


def _see(tx: Tx, image_id: str) -> Sight:
    operation = running_operation(tx, Subject.IMAGE, image_id)
    if operation is None:
        return Sight(operation=None, saving=False, server=None)
    image = load_image(tx, image_id)
    saving = image is not None and image.status is ImageStatus.SAVING
    return Sight(operation=operation, saving=saving, server=_find_server(tx, operation))


def _find_server(tx: Tx, operation: Operation) -> Server | None:
    """The server that waits for the image; None: none does (any more)."""
    server = load_server(tx, str(operation.args.get(SERVER, "")))
    if server is None or server.goal is ServerGoal.DELETED:
        return None
    shelf = server.extras.shelf
    shelved = server.goal is ServerGoal.SHELVED and shelf is not None and shelf.root is not None
    if shelved and shelf is not None and shelf.root is not None and shelf.root.image_id == operation.subject_id:
        return server
    return server if server.extras.imaging == operation.subject_id else None


def _order(tx: Tx, operation: Operation, copy_id: str, target_path: str, at: int) -> None:
    server = _find_server(tx, operation)
    if server is None or server.rung < ServerRung.DEFINED:
        raise StaleWrite
    args: dict[str, Any] = operation.args | {COPY: copy_id}
    note_args(tx, operation, args)
    order_root_copy(
        tx,
        copy_id=copy_id,
        subject=operation.subject,
        subject_id=operation.subject_id,
        server=server,
        target_path=target_path,
        image_format=str(operation.args[FORMAT]),
        at=at,
        deadline_at=operation.deadline_at,
    )


def _complete(tx: Tx, operation: Operation, written: WrittenBytes, at: int, took_us: int) -> None:
    server = _find_server(tx, operation)
    image_id, file = operation.subject_id, str(operation.args["file"])
    if server is None or not fill_image(tx, image_id, file, written, at):
        _fail(tx, operation, _UNWANTED, at)
        return
    finish_operation(tx, operation, actor=ACTOR, at=at, took_us=took_us)
    if server.extras.imaging == image_id:
        end_imaging(tx, server, at=at)
    else:
        keep_shelved(tx, server, actor=ACTOR, at=at)


def _fail(tx: Tx, operation: Operation, message: str, at: int) -> None:
    """Nothing is left of the image, and the server that waited for it is as it was, or shows why it is not shelved."""
    reason = Reason(code="image_failed", message=message, at=at)
    finish_operation(tx, operation, actor=ACTOR, at=at, error=reason)
    server = _find_server(tx, operation)
    discard_image(tx, operation.subject_id, request_id=operation.request_id, at=at)
    if server is not None and server.extras.imaging == operation.subject_id:
        end_imaging(tx, server, at=at, error=message)
    elif server is not None:
        fail_shelving(tx, server, reason, actor=ACTOR, at=at)
    log.warning("image not made", image_id=operation.subject_id, reason=message)


def _is_let_go(tx: Tx, image_id: str, file: str, at: int) -> bool:
    left = open_copies(tx, image_id)
    for copy_id in left:
        drop_copy(tx, copy_id, at=at)
    return not left and not is_read(tx, file)


def _forget(tx: Tx, operation: Operation, file: str, at: int) -> None:
    forget_file(tx, file)
    finish_operation(tx, operation, actor=ACTOR, at=at)
