"""Swapping an attached volume for another, with its contents, while the guest runs: the use cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kevel.control.attachments.attachments import (
    Attachments,
    check_attachable,
    check_reached,
    check_state,
    find_server,
)
from kevel.control.runtime import Runtime
from kevel.domain.errors import Conflict, Invalid, NotFound
from kevel.domain.ladder import Goal, Rung
from kevel.domain.limits import Limits
from kevel.domain.model import GIB, Actor, Attachment, Path, Server, Volume
from kevel.domain.status import is_complete
from kevel.domain.swaps import Swap, SwapState
from kevel.store.accounts import find_attachment
from kevel.store.attachments import live_paths, load_attachment
from kevel.store.hosts import load_host
from kevel.store.path_moves import NewAttachment, ask_detach
from kevel.store.swap_moves import open_swap
from kevel.store.swaps import newest_swap, running_swap
from kevel.store.transactions import Tx
from kevel.store.volumes import find_volume, load_volume, volume_operation

#: What each new row is called.
Ids = Mapping[str, str]
_NEW: Final = ("swap", "attachment", "claim", "path")


class Swaps:
    """The use cases. Every check stands in the transaction that also writes (S9)."""

    def __init__(self, runtime: Runtime, attachments: Attachments, limits: Limits) -> None:
        self._runtime = runtime
        self._attachments = attachments
        self._limits = limits

    async def swap(self, actor: Actor, attachment_id: str, volume_id: str) -> Swap:
        """Accept a swap: durable when this returns. Raises NotFound, Invalid (400) or Conflict."""
        ids = {name: self._runtime.ids.uuid() for name in _NEW}
        at = self._runtime.clock.now_us()
        return await self._runtime.store.write(self._swap, actor, attachment_id, volume_id, ids, at)

    async def find(self, actor: Actor, attachment_id: str) -> Swap:
        """The attachment's newest swap, running or over. Raises NotFound."""
        return await self._runtime.store.read(_find, actor, attachment_id)

    async def cancel(self, actor: Actor, attachment_id: str) -> None:
        """Give the running swap up: the attachment keeps its volume. Raises NotFound, or Conflict when it is late."""
        at = self._runtime.clock.now_us()
        deadline_at = at + int(self._limits.detach_timeout_s * 1e6)
        await self._runtime.store.write(_cancel, actor, attachment_id, at, deadline_at)

    def _swap(self, tx: Tx, actor: Actor, attachment_id: str, volume_id: str, ids: Ids, at: int) -> Swap:
        attachment = find_attachment(tx, attachment_id, actor)
        new = find_volume(tx, volume_id, actor)
        if new.project_id != attachment.project_id:
            raise NotFound(f"Volume {new.id} could not be found.")
        server, path = _check_attachment(tx, attachment, actor)
        old = load_volume(tx, attachment.volume_id)
        if old is None or attachment.device is None or attachment.unit is None:
            raise AssertionError(f"attachment {attachment.id} has no volume or no place")
        _check_volumes(tx, old, new, server)
        check_reached(load_host(tx, path.host), new)
        for volume in (old, new):
            if self._attachments.is_exported(volume):
                raise Conflict(
                    f"Volume {volume.id} is exported to its host by its pool; only volumes whose files a host opens "
                    "are swapped."
                )
        swap = Swap(
            id=ids["swap"],
            attachment_id=attachment.id,
            aside_id=ids["attachment"],
            server_id=server.id,
            host=path.host,
            old_volume_id=old.id,
            new_volume_id=new.id,
            state=SwapState.COPYING,
            revision=1,
            done_bytes=0,
            total_bytes=old.size_gib * GIB,
            reason=None,
            request_id=actor.request_id,
            created_at=at,
            deadline_at=self._limits.volume_deadline(at, copied_gib=old.size_gib),
            finished_at=None,
        )
        aside = NewAttachment(
            attachment_id=swap.aside_id,
            claim_id=ids["claim"],
            path_id=ids["path"],
            server_id=server.id,
            host=path.host,
            device=attachment.device,
            unit=attachment.unit,
            tag=None,
            delete_on_termination=False,
            deadline_at=swap.deadline_at,
            aside=True,
        )
        self._attachments.open(tx, aside, new, actor=actor, at=at)
        open_swap(tx, swap, actor=actor)
        return swap


def _check_attachment(tx: Tx, attachment: Attachment, actor: Actor) -> tuple[Server, Path]:
    """What is to be swapped is a whole disk of a running guest, and stays. Raises Conflict."""
    what = f"Attachment {attachment.id}"
    if attachment.is_external:
        raise Conflict(f"{what} was declared by a client; only volumes of Kevel's own servers are swapped.")
    running = running_swap(tx, attachment.id)
    if running is not None:
        raise Conflict(f"{what} is being swapped already, for volume {running.new_volume_id}.")
    if attachment.closed_at is not None or attachment.goal is not Goal.ATTACHED or attachment.aside:
        raise Conflict(f"{what} is not attached, or is being detached.")
    held = live_paths(tx, attachment.id)
    if attachment.server_id is None or not is_complete(attachment, held) or held[0].rung is not Rung.PLUGGED:
        raise Conflict(f"{what} is not complete yet; a swap needs an attached volume.")
    server = find_server(tx, attachment.server_id, actor)
    check_state(server, actor, "swap_volume")
    if not server.rung.has_process:
        raise Conflict(
            f"Instance {server.id} does not run. Its volume can be detached, and another one attached in its place."
        )
    return server, held[0]


def _check_volumes(tx: Tx, old: Volume, new: Volume, server: Server) -> None:
    """Raise Invalid for volumes that a guest cannot change between, and Conflict for what may pass."""
    if new.id == old.id:
        raise Invalid(f"Volume {new.id} cannot be swapped for itself.")
    check_attachable(tx, new, server.id)
    for volume in (old, new):
        why_not = None
        if volume.multiattach:
            why_not = "is multiattach"
        elif volume.encryption_key_id is not None:
            why_not = "is encrypted"
        elif volume.readonly:
            why_not = "is read-only"
        if why_not is not None:
            raise Invalid(f"Volume {volume.id} {why_not}; such a volume is not swapped.")
    if new.size_gib != old.size_gib:
        raise Invalid(
            f"Volume {new.id} has {new.size_gib} GiB and volume {old.id} {old.size_gib} GiB; a swap needs equal sizes. "
            "Extend the smaller one first."
        )
    operation = volume_operation(tx, old.id)
    if operation is not None:
        raise Conflict(f"Volume {old.id} is {operation.kind.value}; it can be swapped afterwards.")


def _find(tx: Tx, actor: Actor, attachment_id: str) -> Swap:
    swap = newest_swap(tx, find_attachment(tx, attachment_id, actor).id)
    if swap is None:
        raise NotFound(f"Attachment {attachment_id} has never been swapped.")
    return swap


def _cancel(tx: Tx, actor: Actor, attachment_id: str, at: int, deadline_at: int) -> None:
    swap = _find(tx, actor, attachment_id)
    aside = load_attachment(tx, swap.aside_id)
    if swap.state.is_over or aside is None:
        raise Conflict(f"The swap of attachment {attachment_id} is over: {swap.state.value}.")
    ask_detach(tx, aside, actor=actor, at=at, deadline_at=deadline_at)
