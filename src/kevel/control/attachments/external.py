"""Attachments that clients declare for what is no server of ours: the use cases of the attachments API.

Nothing is plugged for them. A consumer whose connector is given gets an export of its own, which is made and revoked
by the same worker and under the same rows as any other (S2, S4); what the client says of itself is stored beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kevel.control.attachments.attachments import export_of
from kevel.control.runtime import Runtime
from kevel.control.secrets import Sealer
from kevel.control.waits import AttachmentWaits
from kevel.domain.errors import Conflict, Invalid, NotFound, StorageFailed
from kevel.domain.external import CONNECTOR_BYTES_MAX, find_host, is_short, may_release, name_consumer
from kevel.domain.ladder import HANDOVER, Goal, Rung
from kevel.domain.limits import Limits
from kevel.domain.model import Actor, Attachment, Origin, Path, Reason, Stage, Subject, Volume
from kevel.domain.status import volume_status
from kevel.storage.base import Backend, ConnectionInfo
from kevel.store import attachments as rows
from kevel.store.attachment_lists import AttachmentFilter, AttachmentPage, list_attachments
from kevel.store.attachments import AttachmentView
from kevel.store.external_moves import (
    NewExternal,
    SealFree,
    add_path,
    cause_of,
    change_external,
    drop_path,
    end_external,
    give_up_export,
    open_external,
)
from kevel.store.operations import running_operation
from kevel.store.transactions import Tx
from kevel.store.volume_lists import load_volumes
from kevel.store.volumes import find_volume, load_volume

#: A connector that takes another's place waits for its release; so often it may find a third one there.
ROUNDS_MAX: Final = 4
#: Statuses in which a shared volume can have one consumer more.
SHARED_STATUSES: Final = frozenset({"in-use", "attaching", "detaching", "reserved"})

Connector = dict[str, Any]


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """An attachment as its owner may see it."""

    view: AttachmentView
    #: The volume's own flags.
    readonly: bool
    encrypted: bool
    #: Of an external attachment whose consumer is let in; None: there is nothing to tell.
    info: ConnectionInfo | None = None


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction has set going."""

    attachment_id: str
    #: The path whose export is wanted; None: nothing is.
    path_id: str | None = None
    #: A path whose release has to come first; then the request is begun again.
    waits_for: str | None = None


class External:
    """The use cases. Every check stands in the transaction that also writes (S9)."""

    def __init__(self, runtime: Runtime, backends: Mapping[str, Backend], sealer: Sealer, limits: Limits) -> None:
        self._runtime = runtime
        self._backends = backends
        self._sealer = sealer
        self._limits = limits
        self._waits = AttachmentWaits(runtime.store)

    async def create(
        self,
        actor: Actor,
        volume_id: str,
        *,
        instance_id: str | None,
        connector: Connector | None,
        mode: str | None,
    ) -> Declared:
        """Claim the volume, and with a connector let its consumer in: then this waits for the storage.

        Raises NotFound, Invalid, or StorageFailed when the storage does not; then nothing is left of it.
        """
        check_connector(connector)
        ids, at = self._runtime.ids, self._runtime.clock.now_us()
        new = NewExternal(
            attachment_id=ids.uuid(),
            claim_id=ids.uuid(),
            origin=Origin.ATTACHMENT,
            stage=Stage.ATTACHING if connector else Stage.RESERVED,
            instance_id=instance_id,
            consumer_host=(find_host(connector) or None) if connector else None,
            device=_mountpoint(connector),
            mode=mode or (_mode(connector) if connector else None),
            established=not connector,
            deadline_at=self.deadline(at),
        )
        begun = await self._runtime.store.write(self._create, actor, volume_id, new, connector, ids.uuid(), at)
        await self.await_export(begun)
        return await self.get(actor, begun.attachment_id)

    def _create(
        self,
        tx: Tx,
        actor: Actor,
        volume_id: str,
        new: NewExternal,
        connector: Connector | None,
        path_id: str,
        at: int,
    ) -> Begun:
        volume = find_volume(tx, volume_id, actor)
        check_claimable(tx, volume, instance_id=new.instance_id)
        if volume.readonly:
            new = msgspec.structs.replace(new, mode="ro")
        attachment = open_external(tx, new, volume, actor=actor, at=at)
        if not connector:
            return Begun(attachment_id=attachment.id)
        path = self.want_export(tx, attachment, volume, path_id, connector, actor=actor, at=at)
        return Begun(attachment_id=attachment.id, path_id=path.id)

    def want_export(
        self,
        tx: Tx,
        attachment: Attachment,
        volume: Volume,
        path_id: str,
        connector: Connector,
        *,
        actor: Actor,
        at: int,
    ) -> Path:
        """A path for the consumer. Raises Invalid when the host has the volume by another attachment."""
        host = find_host(connector)
        if not volume.multiattach:
            for other in rows.open_of_volume(tx, volume.id):
                hosts = {path.host for path in other.paths}
                if other.attachment.id != attachment.id and host in hosts:
                    raise Invalid(
                        f"Invalid volume: duplicate connectors detected on volume {volume.id}: host {host[:64]} is "
                        f"connected by attachment {other.attachment.id}."
                    )
        return add_path(
            tx, attachment, path_id, host, connector, actor=actor, at=at, seal_free=self._seal_free(volume, attachment)
        )

    def _seal_free(self, volume: Volume, attachment: Attachment) -> SealFree:
        """Makes the connection_info where the export has no effect: then it is there with the record."""
        if not self.is_free(volume):
            return None
        backend = self._backends[volume.backend]

        def seal(path: Path) -> bytes:
            return self._sealer.seal(path.id, backend.describe_export(export_of(volume, path, mode=attachment.mode)))

        return seal

    def is_free(self, volume: Volume) -> bool:
        """Has the export of this volume no effect outside the record?"""
        return HANDOVER in self._backends[volume.backend].effect_free

    def deadline(self, at: int) -> int:
        """By when the storage has to have answered a request of now."""
        return at + int(self._limits.export_wait_s * 1e6)

    async def await_export(self, begun: Begun) -> None:
        """Wait until the consumer is let in. Raises StorageFailed, or NotFound when it was deleted meanwhile."""
        if begun.path_id is None:
            return
        path_id, store = begun.path_id, self._runtime.store
        wait_s = self._limits.export_wait_s
        found = await self._waits.wait(
            begun.attachment_id, lambda: store.read_point(_look_at_export, begun.attachment_id, path_id), wait_s
        )
        if found is not None and found.exported:
            return
        if found is None:
            message = "the storage has not answered in time"
            await store.write(self._give_up, begun, message, self._runtime.clock.now_us())
        elif found.deleted:
            raise NotFound(f"Volume attachment {begun.attachment_id} could not be found: it was deleted meanwhile.")
        elif found.changed:
            raise Conflict(f"Volume attachment {begun.attachment_id} was changed by another request meanwhile.")
        else:
            message = found.message
        await self._await_release(begun.attachment_id, path_id)
        raise StorageFailed(f"Unable to connect attachment {begun.attachment_id}: {message}")

    def _give_up(self, tx: Tx, begun: Begun, message: str, at: int) -> None:
        """The request is answered now, so what it wanted is not pursued any longer."""
        attachment, path = rows.load_attachment(tx, begun.attachment_id), rows.load_path(tx, begun.path_id or "")
        if attachment is None or path is None or path.dropped or path.rung is Rung.EXPORTED:
            return
        volume = _volume_of(tx, attachment)
        give_up_export(
            tx,
            attachment,
            Reason(code="export_timeout", message=f"The export failed: {message}.", at=at),
            actor="control",
            at=at,
            deadline_at=self.deadline(at),
            free=self.is_free(volume),
        )

    async def _await_release(self, attachment_id: str, path_id: str) -> bool:
        store = self._runtime.store
        found = await self._waits.wait(
            attachment_id, lambda: store.read_point(_look_at_release, path_id), self._limits.export_wait_s
        )
        return found is not None

    async def update(self, actor: Actor, attachment_id: str, connector: Connector) -> Declared:
        """Let the attachment's consumer in by that connector; another one of it is shut out first.

        Raises NotFound, Invalid, Conflict (a server of ours, a volume in error), or StorageFailed; then the attachment
        is reserved again.
        """
        if not connector:
            raise Invalid("Invalid input for connector: it has to have at least one key.")
        check_connector(connector)
        for _ in range(ROUNDS_MAX):
            at, path_id = self._runtime.clock.now_us(), self._runtime.ids.uuid()
            begun = await self._runtime.store.write(self._update, actor, attachment_id, connector, path_id, at)
            if begun.waits_for is None:
                await self.await_export(begun)
                return await self.get(actor, attachment_id)
            if not await self._await_release(attachment_id, begun.waits_for):
                raise StorageFailed(f"The storage has not shut the old consumer of attachment {attachment_id} out yet.")
        raise Conflict(f"Volume attachment {attachment_id} is being changed by others; try again.")

    def _update(self, tx: Tx, actor: Actor, attachment_id: str, connector: Connector, path_id: str, at: int) -> Begun:
        view = find_external(tx, actor, attachment_id)
        attachment, path = view.attachment, view.path
        volume = _volume_of(tx, attachment)
        status = status_of(tx, volume)
        if status.startswith("error"):
            raise Conflict(f"Volume attachments cannot be updated while volume {volume.id} is in status {status}.")
        cause = cause_of(actor, at)
        if path is not None and (path.dropped or path.connector != connector):
            drop_path(tx, path, cause, free=self.is_free(volume))
            if not self.is_free(volume):
                return Begun(attachment_id=attachment.id, waits_for=path.id)
            path = None
        attachment = change_external(
            tx,
            attachment,
            cause,
            stage=Stage.ATTACHING,
            established=True,
            reason=None,
            consumer_host=find_host(connector) or None,
            device=_mountpoint(connector) or attachment.device,
            mode=attachment.mode or _mode(connector),
            attached_at=at,
            deadline_at=self.deadline(at),
        )
        if path is None:
            path = self.want_export(tx, attachment, volume, path_id, connector, actor=actor, at=at)
        return Begun(attachment_id=attachment.id, path_id=path.id)

    async def complete(self, actor: Actor, attachment_id: str) -> None:
        """The consumer has the volume, says its client. Asked again, it is so already."""
        await self._runtime.store.write(_complete, actor, attachment_id, self._runtime.clock.now_us())

    async def delete(self, actor: Actor, attachment_id: str) -> list[AttachmentView]:
        """Let go, and wait until the storage has shut the consumer out; the volume's other open attachments.

        Raises NotFound, Conflict for what only the compute API or another service may release, or StorageFailed when
        the storage does not answer in time: the release is still pursued then.
        """
        at, store = self._runtime.clock.now_us(), self._runtime.store
        attachment = await store.write(self._delete, actor, attachment_id, at)
        closed = await self._waits.wait(
            attachment_id, lambda: store.read_point(_look_at_end, attachment_id), self._limits.export_wait_s
        )
        if closed is None:
            raise StorageFailed(
                f"The storage has not confirmed yet that attachment {attachment_id} is released; that is still pursued."
            )
        return await store.read(rows.open_of_volume, attachment.volume_id)

    def _delete(self, tx: Tx, actor: Actor, attachment_id: str, at: int) -> Attachment:
        view = find_attachment(tx, actor, attachment_id)
        check_release(view, actor)
        volume = _volume_of(tx, view.attachment)
        self.end(tx, view.attachment, volume, actor=actor, at=at)
        return view.attachment

    def end(self, tx: Tx, attachment: Attachment, volume: Volume, *, actor: Actor, at: int) -> None:
        """Let an external attachment go."""
        deadline_at, free = self.deadline(at), self.is_free(volume)
        end_external(tx, attachment, cause_of(actor, at), deadline_at=deadline_at, free=free)

    async def get(self, actor: Actor, attachment_id: str) -> Declared:
        """An open attachment by its id, of a server of ours too."""
        return self._declare(*await self._runtime.store.read_point(_get, actor, attachment_id))

    async def list(self, wanted: AttachmentFilter, page: AttachmentPage) -> list[Declared]:
        """One page of open attachments; the caller has set the project."""
        found = await self._runtime.store.read(_list, wanted, page)
        return [self._declare(view, volume) for view, volume in found]

    def _declare(self, view: AttachmentView, volume: Volume) -> Declared:
        path = view.path
        info: ConnectionInfo | None = None
        if view.attachment.is_external and path is not None and path.connection_info is not None and not path.dropped:
            info = self._sealer.open(path.id, path.connection_info)
        encrypted = volume.encryption_key_id is not None
        return Declared(view=view, readonly=volume.readonly, encrypted=encrypted, info=info)


class _ExportSight(msgspec.Struct, frozen=True, kw_only=True):
    """Where a wanted export has come to."""

    exported: bool = False
    deleted: bool = False
    #: Another request has shut the consumer out again.
    changed: bool = False
    message: str = ""


def _look_at_export(tx: Tx, attachment_id: str, path_id: str) -> _ExportSight | None:
    attachment, path = rows.load_attachment(tx, attachment_id), rows.load_path(tx, path_id)
    if attachment is None or path is None:
        raise AssertionError("rows of attachments and paths are never deleted")
    if not path.dropped:
        return _ExportSight(exported=True) if path.rung is Rung.EXPORTED else None
    if attachment.goal is Goal.DETACHED and attachment.goal_by == "user":
        return _ExportSight(deleted=True)
    reason = attachment.reason
    return _ExportSight(changed=True) if reason is None else _ExportSight(message=reason.message)


def _look_at_release(tx: Tx, path_id: str) -> bool | None:
    path = rows.load_path(tx, path_id)
    return True if path is None or path.rung is Rung.RELEASED else None


def _look_at_end(tx: Tx, attachment_id: str) -> bool | None:
    attachment = rows.load_attachment(tx, attachment_id)
    return True if attachment is None or attachment.closed_at is not None else None


def _volume_of(tx: Tx, attachment: Attachment) -> Volume:
    volume = load_volume(tx, attachment.volume_id)
    if volume is None:
        raise AssertionError("a volume's row is never deleted")
    return volume


def _get(tx: Tx, actor: Actor, attachment_id: str) -> tuple[AttachmentView, Volume]:
    view = find_attachment(tx, actor, attachment_id)
    return view, _volume_of(tx, view.attachment)


def _list(tx: Tx, wanted: AttachmentFilter, page: AttachmentPage) -> list[tuple[AttachmentView, Volume]]:
    found = list_attachments(tx, wanted, page)
    volumes = load_volumes(tx, {view.attachment.volume_id for view in found})
    return [(view, volumes[view.attachment.volume_id]) for view in found]


def _complete(tx: Tx, actor: Actor, attachment_id: str, at: int) -> None:
    attachment = find_external(tx, actor, attachment_id).attachment
    if attachment.stage is Stage.ATTACHED:
        return
    attached_at = attachment.attached_at or at
    cause = cause_of(actor, at)
    change_external(tx, attachment, cause, stage=Stage.ATTACHED, established=True, attached_at=attached_at)


def find_attachment(tx: Tx, actor: Actor, attachment_id: str) -> AttachmentView:
    """The open attachment, if it exists for this actor; NotFound else (S9)."""
    attachment = rows.load_attachment(tx, attachment_id)
    seen = attachment is not None and (actor.is_admin or attachment.project_id == actor.project_id)
    if attachment is None or not seen or attachment.closed_at is not None:
        raise NotFound(f"Volume attachment {attachment_id[:64]} could not be found.")
    return AttachmentView(attachment=attachment, paths=rows.live_paths(tx, attachment.id))


def find_external(tx: Tx, actor: Actor, attachment_id: str) -> AttachmentView:
    """The same, external and not on its way out; Conflict else."""
    view = find_attachment(tx, actor, attachment_id)
    attachment = view.attachment
    if not attachment.is_external:
        raise Conflict(
            f"Volume attachment {attachment_id} belongs to instance {attachment.server_id}, to which Kevel itself "
            "attaches the volume; use the compute API."
        )
    if attachment.goal is Goal.DETACHED:
        raise Conflict(f"Volume attachment {attachment_id} is being deleted.")
    return view


def check_release(view: AttachmentView, actor: Actor) -> None:
    """Raises Conflict for what this caller may not take from its consumer."""
    attachment = view.attachment
    if may_release(attachment, view.paths, actor):
        return
    if not attachment.is_external:
        raise Conflict(
            f"Volume {attachment.volume_id} is attached to instance {attachment.server_id}, which uses it; detach it "
            "through the compute API."
        )
    raise Conflict(
        f"Volume {attachment.volume_id} was connected for instance {attachment.instance_id} by another service, and "
        "only that service may release it; detach it there."
    )


def status_of(tx: Tx, volume: Volume) -> str:
    """The volume's status now."""
    held = [(view.attachment, view.paths) for view in rows.open_of_volume(tx, volume.id)]
    return volume_status(volume, running_operation(tx, Subject.VOLUME, volume.id), held)


def check_claimable(tx: Tx, volume: Volume, *, instance_id: str | None = None) -> None:
    """Can the volume have this consumer? One that is free, one that is shared, or, for the move of an instance from
    host to host, one that the same instance holds already. Raises Invalid (400), and names the holder.
    """
    status = status_of(tx, volume)
    if status == "available" or (volume.multiattach and status in SHARED_STATUSES):
        return
    held = [view.attachment for view in rows.open_of_volume(tx, volume.id)]
    mine = instance_id is not None and any(
        one.instance_id == instance_id and one.goal is Goal.ATTACHED for one in held if one.is_external
    )
    if mine and status in ("in-use", "reserved"):
        return
    holder = f" It is held by {name_consumer(held[0])}." if held else ""
    wanted = "available or in-use" if volume.multiattach else "available"
    raise Invalid(
        f"Invalid volume: Volume {volume.id} status must be {wanted} to reserve, but the current status is {status}."
        f"{holder}"
    )


def check_connector(connector: Connector | None) -> None:
    """Raises Invalid for one that is too large to be a connector."""
    if connector and not is_short(connector):
        raise Invalid(f"Invalid input for connector: it may have {CONNECTOR_BYTES_MAX} bytes of JSON.")


def _mountpoint(connector: Connector | None) -> str | None:
    value = (connector or {}).get("mountpoint")
    return value[:255] if isinstance(value, str) and value else None


def _mode(connector: Connector) -> str:
    """Cinder's older way to ask for a mode."""
    return "ro" if connector.get("mode") == "ro" else "rw"
