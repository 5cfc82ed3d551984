"""An admin's word over a volume's status (os-reset_status): it hides and blocks, and makes nothing so."""

from __future__ import annotations

from typing import Final

import msgspec

from kevel.domain.errors import Invalid
from kevel.domain.ladder import Goal
from kevel.domain.model import Actor
from kevel.domain.status import volume_status
from kevel.store.external_moves import cause_of, end_external
from kevel.store.journal import note_volume
from kevel.store.transactions import Tx
from kevel.store.volume_lists import VolumeView, view_volume
from kevel.store.volumes import change_volume, find_volume, volume_operation

#: Words that an admin may put over a volume's status. Each of them blocks; none frees anything.
MASKS: Final = frozenset({"creating", "error", "error_deleting", "attaching", "detaching", "maintenance"})


def status_beneath(view: VolumeView) -> str:
    """The status without mask, fault and operation: what is true of the volume's attachments."""
    plain = msgspec.structs.replace(view.volume, mask=None, fault=None)
    return volume_status(plain, None, [(one.attachment, one.paths) for one in view.attachments])


def reset_status(
    tx: Tx,
    actor: Actor,
    volume_id: str,
    *,
    status: str | None,
    attach_status: str | None,
    forgets_move: bool,
    at: int,
    free: bool,
    deadline_at: int,
) -> None:
    """Put a word over the status, or take word and fault away where the word asked for is the truth; and end external
    attachments where "detached" is asked for. Raises Invalid for what would be a lie.
    """
    view = view_volume(tx, find_volume(tx, volume_id, actor))
    if attach_status == "detached" and all(one.attachment.is_external for one in view.attachments):
        for one in view.attachments:
            end_external(tx, one.attachment, cause_of(actor, at), deadline_at=deadline_at, free=free)
        view = view_volume(tx, find_volume(tx, volume_id, actor))
    held = "attached" if view.attachments else "detached"
    ending = all(one.attachment.goal is Goal.DETACHED for one in view.attachments)
    if attach_status not in (None, held) and not (attach_status == "detached" and ending):
        raise Invalid(
            f"Invalid volume: volume {volume_id} is {held}, and a reset changes no attachment; detach or attach it."
        )
    if forgets_move:
        if view.is_moving:
            raise Invalid(f"Invalid volume: volume {volume_id} is moving to another pool; wait for the end of that.")
        change_volume(tx, volume_id, migration_status=None, updated_at=at)
    if status is None:
        return
    if status in MASKS:
        mask: str | None = status
    else:
        _check_truth(tx, view, status)
        mask = None
        change_volume(tx, volume_id, fault=None)
    change_volume(tx, volume_id, mask=mask, updated_at=at)
    note_volume(tx, actor, view.volume, "mask", view.status, status, at)


def _check_truth(tx: Tx, view: VolumeView, status: str) -> None:
    """A word that promises something has to be true: a reset takes mask and fault away, and makes nothing so."""
    if status not in ("available", "in-use"):
        words = ", ".join(sorted({*MASKS, "available", "in-use"}))
        raise Invalid(f"Invalid input received: a volume's status can be reset to {words}, not to '{status[:64]}'.")
    operation = volume_operation(tx, view.volume.id)
    truth = operation.kind.value if operation is not None else status_beneath(view)
    ending = truth == "detaching" and all(
        one.attachment.is_external and one.attachment.goal is Goal.DETACHED for one in view.attachments
    )
    # What ends by itself is as good as ended: the status shows it until then.
    if truth != status and not (status == "available" and ending):
        raise Invalid(f"Invalid volume: volume {view.volume.id} is {truth} and cannot be declared {status}.")
    if not view.volume.made:
        raise Invalid(f"Invalid volume: volume {view.volume.id} was never made; delete it and create another one.")
