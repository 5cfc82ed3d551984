"""The statuses users see, computed; none is stored, so none can disagree with the rows it speaks of."""

from __future__ import annotations

from collections.abc import Sequence

from kevel.domain.ladder import Goal, Rung
from kevel.domain.model import (
    Attachment,
    Backup,
    BootKind,
    Operation,
    OperationKind,
    Path,
    Reason,
    Server,
    ServerGoal,
    ServerRung,
    Snapshot,
    Stage,
    Volume,
)
from kevel.domain.server_life import MOVES

#: Cinder's words for a fault, by the code that `control/volumes/worker.py` keeps for the operation that failed.
_FAULT_STATUS = {
    f"{OperationKind.CREATING.value}_failed": "error",
    f"{OperationKind.DELETING.value}_failed": "error_deleting",
    f"{OperationKind.EXTENDING.value}_failed": "error_extending",
    f"{OperationKind.RESTORING_BACKUP.value}_failed": "error_restoring",
    f"{OperationKind.DOWNLOADING.value}_failed": "error",
    f"{OperationKind.REVERTING.value}_failed": "error",
}

#: Operations on volumes for whose time Cinder has a status by another name.
_MEANWHILE = {OperationKind.MIGRATING: "maintenance"}

_DELETING_FAILED = f"{OperationKind.DELETING.value}_failed"

#: Nova's status words, by vm_state.
_SERVER_STATUS = {
    "deleted": "DELETED",
    "error": "ERROR",
    "building": "BUILD",
    "active": "ACTIVE",
    "paused": "PAUSED",
    "suspended": "SUSPENDED",
    "rescued": "RESCUE",
    "resized": "VERIFY_RESIZE",
    "shelved": "SHELVED",
    "shelved_offloaded": "SHELVED_OFFLOADED",
    "stopped": "SHUTOFF",
}
#: And by the task that is under way.
_TASK_STATUS = {
    "rebooting": "REBOOT",
    "rebooting_hard": "HARD_REBOOT",
    "rebuilding": "REBUILD",
    "resize_migrating": "RESIZE",
    "resize_reverting": "REVERT_RESIZE",
}
#: Nova's vm_state by what is true of the server; below these it is stopped.
_VM_STATES = {ServerRung.RUNNING: "active", ServerRung.PAUSED: "paused", ServerRung.SUSPENDED: "suspended"}
#: Nova's numbers: 1 running, 3 paused, 4 shut down, 0 nothing there.
_POWER_STATES = {
    ServerRung.RUNNING: 1,
    ServerRung.PAUSED: 3,
    ServerRung.SUSPENDED: 4,
    ServerRung.DEFINED: 4,
    ServerRung.OFFLOADED: 4,
}
#: The task of a shelved server that is to run again.
UNSHELVING = "unshelving"
#: The code of a server's fault that an admin has put over its state (os-resetState): it hides and blocks.
RESET_BY_ADMIN = "reset_by_admin"

#: Which attachment speaks for a volume that has several.
_PRECEDENCE = ("in-use", "attaching", "detaching", "reserved")


def is_complete(attachment: Attachment, paths: Sequence[Path]) -> bool:
    """The guest has the disk, as far as the record goes: live if it runs, else in its definition (S3)."""
    if attachment.goal is Goal.ATTACHED:
        for path in paths:  # a plain loop: a list of a thousand asks a thousand times
            if path.rung is Rung.PLUGGED:
                return True
    return False


def attachment_status(attachment: Attachment, paths: Sequence[Path]) -> str:
    """Cinder's word for an attachment: reserved, attaching, attached, detaching or detached.

    One of ours is without a path while its server is shelved and has no host. As in Nova it is reserved then if the
    server had the volume when it left its host, and attached if it has been given to the server since.
    """
    if attachment.closed_at is not None:
        return "detached"
    if attachment.goal is Goal.DETACHED:
        return "detaching"
    if attachment.stage is not None:
        return attachment.stage.value
    if is_complete(attachment, paths):
        return "attached"
    if paths:
        return "attaching"
    return "reserved" if attachment.attached_at is None else "attached"


def has_volume(attachment: Attachment, paths: Sequence[Path]) -> bool:
    """Has its consumer the volume, as far as is known? A detach that a client has only begun changes nothing yet."""
    if attachment.stage is Stage.DETACHING:
        return attachment.goal is Goal.ATTACHED
    return attachment_status(attachment, paths) == "attached"


def volume_status(
    volume: Volume, operation: Operation | None, attachments: Sequence[tuple[Attachment, Sequence[Path]]]
) -> str:
    """Cinder's word for a volume: mask, running operation, offer, fault, attachments, else available; in that order."""
    if volume.deleted_at is not None:
        return "deleted"
    if volume.mask is not None:
        return volume.mask
    if operation is not None and operation.finished_at is None:
        return _MEANWHILE.get(operation.kind, operation.kind.value)
    if volume.transfer_id is not None:
        return "awaiting-transfer"
    if volume.fault is not None:
        return _FAULT_STATUS.get(volume.fault.code, "error")
    words = {attachment_status(attachment, paths) for attachment, paths in attachments if attachment.closed_at is None}
    words = {"in-use" if word == "attached" else word for word in words}
    return next((word for word in _PRECEDENCE if word in words), "available")


def group_status(
    *, is_deleting: bool, mask: str | None, is_copy: bool, members: Sequence[tuple[bool, Reason | None]]
) -> str:
    """Cinder's word for a group of volumes or of snapshots, by its members: whether each is made, and its fault.

    `is_copy`: its members were made with it, so that it is not there before they are.
    """
    if is_deleting:
        failed = any(fault is not None and fault.code == _DELETING_FAILED for _, fault in members)
        return "error_deleting" if failed else "deleting"
    if mask is not None:
        return mask
    unmade = [fault for made, fault in members if not made] if is_copy else []
    if any(fault is not None for fault in unmade):
        return "error"
    return "creating" if unmade else "available"


def copy_status(one: Snapshot | Backup, operation: Operation | None) -> str:
    """Cinder's word for a snapshot or a backup: mask, then running operation, then fault, then available."""
    if one.deleted_at is not None:
        return "deleted"
    if one.mask is not None:
        return one.mask
    if operation is not None and operation.finished_at is None:
        return operation.kind.value
    if one.fault is not None:
        return _FAULT_STATUS.get(one.fault.code, "error")
    return "available"


def is_failed(server: Server) -> bool:
    """Is the server in error: by its failure to run, or because an admin said so?"""
    if server.fault is None:
        return False
    return server.rung not in _VM_STATES or server.fault.code == RESET_BY_ADMIN


def vm_state(server: Server) -> str:
    """Nova's vm_state."""
    if server.deleted_at is not None:
        return "deleted"
    if is_failed(server):
        return "error"
    if server.launched_at is None:
        return "building"
    if server.extras.rescued:
        return "rescued"
    if _is_shelved(server):
        return "shelved_offloaded" if _is_offloaded(server) else "shelved"
    if server.extras.old_flavor is not None and task_state(server) is None:
        return "resized"
    return _VM_STATES.get(server.rung, "stopped")


def _is_shelved(server: Server) -> bool:
    """Is its root disk kept? Also while it leaves its host, and until it runs again."""
    shelf = server.extras.shelf
    if shelf is None or not shelf.kept:
        return False
    return server.goal in (ServerGoal.SHELVED, ServerGoal.OFFLOADED) or server.extras.task == UNSHELVING


def _is_offloaded(server: Server) -> bool:
    """Of a shelved one: has it left its host, and does not run yet on another?"""
    shelf = server.extras.shelf
    is_back = server.goal is ServerGoal.RUNNING and shelf is not None and shelf.left
    return server.rung is ServerRung.OFFLOADED or is_back


def task_state(server: Server) -> str | None:
    """Nova's task_state: what is still to be done, None when the server is as it was asked to be."""
    if server.deleted_at is not None:
        return None
    if server.goal is ServerGoal.DELETED:
        return "deleting"
    if is_failed(server):
        return None
    if server.launched_at is None:
        return "spawning"
    if server.is_reshaping:
        return server.extras.task
    if server.extras.imaging is not None:
        return "image_snapshot"
    shelf = server.extras.shelf
    if server.goal is ServerGoal.SHELVED and server.rung is ServerRung.DEFINED and shelf is not None and not shelf.kept:
        return "shelving_image_uploading"
    if server.goal is ServerGoal.RUNNING and server.rung in _VM_STATES and server.boot < server.wanted_boot:
        return "rebooting" if server.boot_kind is BootKind.SOFT else "rebooting_hard"
    move = MOVES.get((server.goal, server.rung))
    return None if move is None else server.extras.task or move.task


def server_status(server: Server) -> str:
    """Nova's status word."""
    state, task = vm_state(server), task_state(server)
    return _SERVER_STATUS[state] if task is None else _TASK_STATUS.get(task, _SERVER_STATUS[state])


def power_state(server: Server) -> int:
    """Nova's power_state number."""
    return _POWER_STATES.get(server.rung, 0)
