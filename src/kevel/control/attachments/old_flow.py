"""Cinder's old flow: the actions of volumes by which a client claims, connects and declares attachments step by step.

They are external attachments like those of the attachments API, in the same rows. What Cinder keeps as a bare word on
the volume, a reservation, is an attachment that nobody has given a name yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from kevel.control.attachments.external import (
    SHARED_STATUSES,
    Begun,
    Connector,
    External,
    check_claimable,
    check_connector,
    check_release,
    find_attachment,
    status_of,
)
from kevel.control.runtime import Runtime
from kevel.domain.errors import Invalid
from kevel.domain.external import find_host, is_old_flow, is_reservation, name_consumer
from kevel.domain.ladder import Goal
from kevel.domain.model import Actor, Attachment, Origin, Stage, Volume
from kevel.store import attachments as rows
from kevel.store.attachments import AttachmentView
from kevel.store.external_moves import (
    NewExternal,
    cause_of,
    change_external,
    drop_path,
    hold_as,
    open_external,
)
from kevel.store.journal import note_volume
from kevel.store.transactions import Tx
from kevel.store.volumes import change_volume, find_volume

#: The mask under which Cinder lets nobody attach or detach.
MAINTENANCE: Final = "maintenance"


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of the use that it makes of a volume (os-attach)."""

    mountpoint: str
    mode: str
    #: One of the two is given.
    instance_id: str | None
    host: str | None


class OldFlow:
    """The use cases. What a volume's attachments are is read in the transaction that changes them."""

    def __init__(self, runtime: Runtime, external: External) -> None:
        self._runtime = runtime
        self._external = external

    async def reserve(self, actor: Actor, volume_id: str) -> None:
        """Claim the volume for nobody in particular. Raises Invalid when it is not free."""
        at = self._runtime.clock.now_us()
        new = self._new(Origin.RESERVE, Stage.ATTACHING, at)
        await self._runtime.store.write(self._reserve, actor, volume_id, new, at)

    def _new(self, origin: Origin, stage: Stage, at: int, *, established: bool = True) -> NewExternal:
        ids = self._runtime.ids
        return NewExternal(
            attachment_id=ids.uuid(),
            claim_id=ids.uuid(),
            origin=origin,
            stage=stage,
            established=established,
            deadline_at=self._external.deadline(at),
        )

    def _reserve(self, tx: Tx, actor: Actor, volume_id: str, new: NewExternal, at: int) -> None:
        volume = find_volume(tx, volume_id, actor)
        check_claimable(tx, volume)
        open_external(tx, new, volume, actor=actor, at=at)

    async def unreserve(self, actor: Actor, volume_id: str) -> None:
        """Give a reservation up; without one, nothing is to be done."""
        await self._change(self._unreserve, actor, volume_id)

    def _unreserve(self, tx: Tx, actor: Actor, volume_id: str, at: int) -> None:
        volume = find_volume(tx, volume_id, actor)
        reserved = _reservations(tx, volume)
        if reserved:
            newest = max(reserved, key=lambda view: (not view.paths, view.attachment.created_at))
            self._external.end(tx, newest.attachment, volume, actor=actor, at=at)

    async def begin_detaching(self, actor: Actor, volume_id: str) -> None:
        """The client begins to detach. Of several attachments it does not say which, so nothing shows it then."""
        await self._change(self._begin_detaching, actor, volume_id)

    def _begin_detaching(self, tx: Tx, actor: Actor, volume_id: str, at: int) -> None:
        volume = find_volume(tx, volume_id, actor)
        views = rows.open_of_volume(tx, volume.id)
        status = status_of(tx, volume)
        attached = [view.attachment for view in views if view.attachment.stage is Stage.ATTACHED]
        attached = [one for one in attached if one.goal is Goal.ATTACHED]
        if status != "in-use" or not attached:
            held = f" It is held by {name_consumer(views[0].attachment)}." if views else ""
            raise Invalid(
                "Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be "
                f"'attached' to detach, as its client has declared it; volume {volume.id} is {status}.{held}"
            )
        if len(attached) == 1:
            change_external(tx, attached[0], cause_of(actor, at), stage=Stage.DETACHING)

    async def roll_detaching(self, actor: Actor, volume_id: str) -> None:
        """The client gives its detaching up; without one, nothing is to be done."""
        await self._change(self._roll_detaching, actor, volume_id)

    def _roll_detaching(self, tx: Tx, actor: Actor, volume_id: str, at: int) -> None:
        volume = find_volume(tx, volume_id, actor)
        for view in rows.open_of_volume(tx, volume.id):
            if view.attachment.stage is Stage.DETACHING and view.attachment.goal is Goal.ATTACHED:
                change_external(tx, view.attachment, cause_of(actor, at), stage=Stage.ATTACHED)

    async def attach(self, actor: Actor, volume_id: str, use: Use) -> None:
        """The client has attached the volume: a reservation gets its name, or there is an attachment more.

        Raises Invalid when the volume is not free, or read-only and `use` would write.
        """
        at = self._runtime.clock.now_us()
        new = msgspec.structs.replace(
            self._new(Origin.ATTACH, Stage.ATTACHED, at),
            instance_id=use.instance_id,
            consumer_host=use.host,
            device=use.mountpoint,
            mode=use.mode,
        )
        await self._runtime.store.write(_attach, actor, volume_id, use, new, at)

    async def detach(self, actor: Actor, volume_id: str, attachment_id: str | None) -> None:
        """The client has detached the volume. Raises NotFound, Invalid (which of several?), or Conflict for what the
        caller may not release.
        """
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(self._detach, actor, volume_id, attachment_id, at)

    def _detach(self, tx: Tx, actor: Actor, volume_id: str, attachment_id: str | None, at: int) -> None:
        volume = find_volume(tx, volume_id, actor)
        _check_maintenance(volume, "detached")
        view = _choose(tx, volume, actor, attachment_id)
        reserved = _reservations(tx, volume)
        if view is not None:
            check_release(view, actor)
            self._external.end(tx, view.attachment, volume, actor=actor, at=at)
            # What was connected beside it, under no name, was connected for it.
            reserved = [] if volume.multiattach else reserved
        for one in reserved:
            self._external.end(tx, one.attachment, volume, actor=actor, at=at)

    async def force_detach(self, actor: Actor, volume_id: str, attachment_id: str | None) -> None:
        """The same for an admin, who also takes back the word that was put over the volume's status.

        What a server of ours uses stays: Conflict. There a detach through the compute API is the way.
        """
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(self._force_detach, actor, volume_id, attachment_id, at)

    def _force_detach(self, tx: Tx, actor: Actor, volume_id: str, attachment_id: str | None, at: int) -> None:
        self._detach(tx, actor, volume_id, attachment_id, at)
        volume = find_volume(tx, volume_id, actor)
        if volume.mask is not None:
            _unmask(tx, volume, actor, at)

    async def initialize_connection(self, actor: Actor, volume_id: str, connector: Connector) -> str:
        """Let the connector's host in, and wait until it is so; the id of the attachment that it is for.

        Without a reservation it makes one itself. Raises Invalid when somebody else holds the volume, or StorageFailed.
        """
        check_connector(connector)
        at = self._runtime.clock.now_us()
        new = self._new(Origin.CONNECTION, Stage.ATTACHING, at, established=False)
        begun = await self._runtime.store.write(
            self._initialize, actor, volume_id, connector, new, self._runtime.ids.uuid(), at
        )
        await self._external.await_export(begun)
        return begun.attachment_id

    def _initialize(
        self, tx: Tx, actor: Actor, volume_id: str, connector: Connector, new: NewExternal, path_id: str, at: int
    ) -> Begun:
        volume = find_volume(tx, volume_id, actor)
        _check_maintenance(volume, "connected")
        mine = [view for view in rows.open_of_volume(tx, volume.id) if is_old_flow(view.attachment)]
        for view in mine:
            if view.path is not None and view.path.connector == connector and not view.path.dropped:
                return Begun(attachment_id=view.attachment.id, path_id=view.path.id)
        idle = [view.attachment for view in mine if not view.paths]
        deadline_at = self._external.deadline(at)
        if idle:
            attachment = change_external(tx, idle[-1], cause_of(actor, at), deadline_at=deadline_at, reason=None)
        elif mine and not volume.multiattach:
            # An instance that moves to another host is connected there under the claim that it has.
            attachment = open_external(tx, new, volume, actor=actor, at=at, beside=mine[0].attachment)
        else:
            check_claimable(tx, volume)
            attachment = open_external(tx, new, volume, actor=actor, at=at)
        path = self._external.want_export(tx, attachment, volume, path_id, connector, actor=actor, at=at)
        return Begun(attachment_id=attachment.id, path_id=path.id)

    async def terminate_connection(self, actor: Actor, volume_id: str, connector: Any) -> None:
        """Shut the connector's host out, or every host that the old flow has let in when it names none.

        Raises Conflict when a server of ours uses the volume, or another service's instance.
        """
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(self._terminate, actor, volume_id, connector, at)

    def _terminate(self, tx: Tx, actor: Actor, volume_id: str, connector: Any, at: int) -> None:
        volume = find_volume(tx, volume_id, actor)
        host = find_host(connector) if isinstance(connector, dict) else ""
        views = rows.open_of_volume(tx, volume.id)
        matching = [view for view in views if is_old_flow(view.attachment) and _is_connected(view, host)]
        if not matching:
            for view in views:
                check_release(view, actor)
            return
        for view in matching:
            check_release(view, actor)
            if view.attachment.origin is Origin.CONNECTION and view.attachment.stage is Stage.ATTACHING:
                self._external.end(tx, view.attachment, volume, actor=actor, at=at)
            elif view.path is not None:
                drop_path(tx, view.path, cause_of(actor, at), free=self._external.is_free(volume))

    async def _change(self, change: Callable[[Tx, Actor, str, int], None], actor: Actor, volume_id: str) -> None:
        await self._runtime.store.write(change, actor, volume_id, self._runtime.clock.now_us())


def _reservations(tx: Tx, volume: Volume) -> list[AttachmentView]:
    return [view for view in rows.open_of_volume(tx, volume.id) if is_reservation(view.attachment)]


def _check_maintenance(volume: Volume, what: str) -> None:
    if volume.mask == MAINTENANCE:
        raise Invalid(f"Invalid volume: Volume {volume.id} cannot be {what} in maintenance mode.")


def _is_connected(view: AttachmentView, host: str) -> bool:
    return view.path is not None and not view.path.dropped and host in ("", view.path.host)


def _attach(tx: Tx, actor: Actor, volume_id: str, use: Use, new: NewExternal, at: int) -> None:
    volume = find_volume(tx, volume_id, actor)
    _check_maintenance(volume, "attached")
    if volume.readonly and use.mode != "ro":
        raise Invalid(f"Invalid volume: volume {volume.id} is read-only and cannot be attached in mode {use.mode}.")
    views = [view for view in rows.open_of_volume(tx, volume.id) if view.attachment.goal is Goal.ATTACHED]
    same = next((view.attachment for view in views if _is_of(view.attachment, use)), None)
    reserved = [view for view in views if is_reservation(view.attachment)]
    status = status_of(tx, volume)
    adoptable = status == "attaching" or (volume.multiattach and status in SHARED_STATUSES)
    if same is None and reserved and adoptable:
        # The one whose consumer is let in already; else the oldest.
        reserved.sort(key=lambda view: (not view.paths, view.attachment.created_at))
        same = reserved[0].attachment
        hold_as(tx, same, instance_id=use.instance_id, host=use.host)
    if same is None:
        check_claimable(tx, volume)
        open_external(tx, new, volume, actor=actor, at=at)
        return
    change_external(
        tx,
        same,
        cause_of(actor, at),
        stage=Stage.ATTACHED,
        instance_id=use.instance_id,
        consumer_host=use.host or same.consumer_host,
        device=use.mountpoint,
        mode=use.mode,
        established=True,
        attached_at=same.attached_at or at,
    )


def _is_of(attachment: Attachment, use: Use) -> bool:
    if not attachment.is_external:
        return False
    if use.instance_id is not None:
        return attachment.instance_id == use.instance_id
    return attachment.instance_id is None and attachment.consumer_host == use.host


def _choose(tx: Tx, volume: Volume, actor: Actor, attachment_id: str | None) -> AttachmentView | None:
    """Which attachment is to end; None: there is none, but perhaps reservations."""
    if attachment_id is not None:
        view = find_attachment(tx, actor, attachment_id)
        if view.attachment.volume_id != volume.id:
            raise Invalid(f"Invalid input: attachment {attachment_id[:64]} is not one of volume {volume.id}.")
        return view
    views = [view for view in rows.open_of_volume(tx, volume.id) if not is_reservation(view.attachment)]
    views = [view for view in views if view.attachment.goal is Goal.ATTACHED or not view.attachment.is_external]
    if len(views) > 1:
        raise Invalid(
            f"Invalid volume: Detach volume failed: volume {volume.id} has {len(views)} attachments, and no "
            "attachment_id was provided."
        )
    return views[0] if views else None


def _unmask(tx: Tx, volume: Volume, actor: Actor, at: int) -> None:
    change_volume(tx, volume.id, mask=None, updated_at=at)
    note_volume(tx, actor, volume, "mask", str(volume.mask), "none", at)
