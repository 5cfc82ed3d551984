"""Attach, detach and look: the use cases of attachments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kevel.control.runtime import Runtime
from kevel.control.secrets import Sealer
from kevel.domain.devices import BUS_UNITS_MAX, can_hotplug, choose_device, choose_unit, device_prefix, volume_bus
from kevel.domain.errors import Conflict, Forbidden, Invalid, NotFound, StaleWrite
from kevel.domain.external import name_consumer
from kevel.domain.ladder import HANDOVER, Goal
from kevel.domain.limits import Limits
from kevel.domain.model import GIB, Actor, Attachment, Path, Server, ServerGoal, ServerRung, Volume
from kevel.domain.status import task_state, vm_state, volume_status
from kevel.storage.base import Backend, Export, VolumeFile
from kevel.store import attachments as rows
from kevel.store.attachments import AttachmentView
from kevel.store.hosts import Host, load_host
from kevel.store.path_moves import (
    NewAttachment,
    ask_detach,
    open_attachment,
    open_path,
    set_delete_on_termination,
)
from kevel.store.repeats import Once, once_only
from kevel.store.servers import load_server
from kevel.store.transactions import Tx
from kevel.store.volumes import find_volume, volume_operation

#: A compare-and-set that meets a newer row is decided anew, this often.
RERUNS_MAX: Final = 5
#: Server states in which volumes may come and go (facts: Nova's decorator on attach_volume and detach_volume).
_STATES: Final = ("active", "stopped", "paused", "resized", "soft-delete", "shelved", "shelved_offloaded")


class AttachRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asks for, and the ids drawn for it."""

    server_id: str
    volume_id: str
    device: str | None
    tag: str | None
    delete_on_termination: bool
    attachment_id: str
    claim_id: str
    path_id: str
    deadline_at: int


class Attachments:
    """The use cases. Every check stands in the transaction that also writes (S9)."""

    def __init__(self, runtime: Runtime, backends: Mapping[str, Backend], sealer: Sealer, limits: Limits) -> None:
        self._runtime = runtime
        self._backends = backends
        self._sealer = sealer
        self._limits = limits

    def is_exported(self, volume: Volume) -> bool:
        """Do hosts reach the volume over a network, and open no file?"""
        return self._backends[volume.backend].protocol == "nbd"

    async def attach(
        self,
        actor: Actor,
        server_id: str,
        volume_id: str,
        *,
        device: str | None,
        tag: str | None,
        delete_on_termination: bool,
        once: Once[AttachmentView] | None = None,
    ) -> AttachmentView:
        """Accept an attach: durable when this returns. Raises NotFound, Invalid (400), Forbidden or Conflict."""
        ids, at = self._runtime.ids, self._runtime.clock.now_us()
        request = AttachRequest(
            server_id=server_id,
            volume_id=volume_id,
            device=device,
            tag=tag,
            delete_on_termination=delete_on_termination,
            attachment_id=ids.uuid(),
            claim_id=ids.uuid(),
            path_id=ids.uuid(),
            deadline_at=at + int(self._limits.attach_timeout_s * 1e6),
        )
        return await self._runtime.store.write(once_only(once, self._attach), request, actor, at)

    def _attach(self, tx: Tx, request: AttachRequest, actor: Actor, at: int) -> AttachmentView:
        server = find_server(tx, request.server_id, actor)
        check_state(server, actor, "attach_volume")
        _check_hotplug(server, "given to")
        volume = find_volume(tx, request.volume_id, actor)
        if volume.project_id != server.project_id:
            raise NotFound(f"Volume {volume.id} could not be found.")
        check_attachable(tx, volume, server.id)
        parked = server.rung is ServerRung.OFFLOADED
        if parked:
            _check_parkable(server, volume, request.tag)
        taken = rows.open_of_server(tx, server.id)
        if any(one.serial == volume.id for one in taken):
            raise Conflict(
                f"The guest of instance {server.id} knows another disk by the id of volume {volume.id}, which was "
                "swapped out of it; it cannot have two disks of one id."
            )
        prefix = device_prefix(server.image)
        host = load_host(tx, server.host)
        if not parked:
            check_reached(host, volume)
        units = {one.unit for one in taken if one.unit is not None}
        units_max = min(int(host.facts["max_volumes"]), BUS_UNITS_MAX[volume_bus(server.image)])
        unit = choose_unit(units, units_max=units_max)
        if unit is None:
            raise Forbidden(f"Server {server.id} has {len(taken)} volumes, the most that its bus can hold.")
        devices = {one.device for one in taken if one.device is not None}
        name = choose_device(request.device, prefix=prefix, taken=devices, root_device=f"/dev/{prefix}a")
        new = NewAttachment(
            attachment_id=request.attachment_id,
            claim_id=request.claim_id,
            path_id=request.path_id,
            server_id=server.id,
            host=server.host,
            device=name,
            unit=unit,
            tag=request.tag,
            delete_on_termination=request.delete_on_termination,
            deadline_at=request.deadline_at,
            parked=parked,
        )
        return self.open(tx, new, volume, actor=actor, at=at)

    def open(self, tx: Tx, new: NewAttachment, volume: Volume, *, actor: Actor, at: int) -> AttachmentView:
        """Claim the volume for the server; an export that has no effect is passed at once, if there is a volume yet."""
        free = volume.made and HANDOVER in self._backends[volume.backend].effect_free
        attachment = open_attachment(
            tx, new, volume, actor=actor, at=at, seal_export=self._seal_export if free else None
        )
        return AttachmentView(attachment=attachment, paths=rows.live_paths(tx, attachment.id))

    def give_path(
        self, tx: Tx, attachment: Attachment, volume: Volume, path_id: str, host: str, *, actor: Actor, at: int
    ) -> None:
        """Let a server that is to run again have its volume on its host."""
        free = volume.made and HANDOVER in self._backends[volume.backend].effect_free
        seal_export = self._seal_export if free else None
        open_path(tx, attachment, volume, path_id, host, actor=actor, at=at, seal_export=seal_export)

    def _seal_export(self, volume: Volume, path: Path) -> bytes:
        info = self._backends[volume.backend].describe_export(export_of(volume, path))
        return self._sealer.seal(path.id, info)

    async def detach(self, actor: Actor, server_id: str, volume_id: str) -> None:
        """Accept a detach, also in the middle of an attach, and again while one is under way (L2)."""
        at = self._runtime.clock.now_us()
        deadline_at = at + int(self._limits.detach_timeout_s * 1e6)
        for _ in range(RERUNS_MAX):
            try:
                return await self._runtime.store.write(_detach, server_id, volume_id, actor, at, deadline_at)
            except StaleWrite:
                continue
        raise Conflict(f"Volume {volume_id} is being changed by others; try again.")

    async def update(self, actor: Actor, server_id: str, volume_id: str, *, delete_on_termination: bool) -> None:
        """Change whether the volume goes with the server."""
        await self._runtime.store.write(_update, server_id, volume_id, actor, delete_on_termination)

    async def of_server(self, actor: Actor, server_id: str) -> list[AttachmentView]:
        """The server's open attachments, oldest first."""
        return await self._runtime.store.read(_of_server, server_id, actor)

    async def find(self, actor: Actor, server_id: str, volume_id: str) -> AttachmentView:
        """The open attachment of that volume in that server."""
        return await self._runtime.store.read_point(_find, server_id, volume_id, actor)


def check_reached(host: Host, volume: Volume) -> None:
    """Raise Conflict when the host does not reach the volume's pool."""
    if host.reach is not None and volume.backend not in host.reach.pools:
        raise Conflict(
            f"Volume {volume.id} lies in the storage pool {volume.backend}, which the server's host {host.name} does "
            "not reach."
        )


def export_of(volume: Volume, path: Path, *, mode: str | None = None) -> Export:
    """The export that a path stands for; its names come from ids. `mode` "ro": its consumer may only read."""
    read_only = volume.readonly or mode == "ro"
    file = VolumeFile(volume_id=volume.id, size_bytes=volume.size_gib * GIB, format=volume.format)
    return Export(volume=file, path_id=path.id, generation=path.generation, host=path.host, read_only=read_only)


def find_server(tx: Tx, server_id: str, actor: Actor) -> Server:
    """The server, if it exists for this actor; NotFound else (S9)."""
    server = load_server(tx, server_id)
    if server is None or server.deleted_at is not None or not _may_see(server.project_id, actor):
        raise NotFound(f"Instance {server_id} could not be found.")
    return server


def _may_see(project_id: str, actor: Actor) -> bool:
    return actor.is_admin or project_id == actor.project_id


def check_state(server: Server, actor: Actor, operation: str) -> None:
    """Nova's rule for volume operations: unlocked, a state that allows it, nothing else under way (409)."""
    if server.locked and not actor.is_admin:
        raise Conflict(f"Instance {server.id} is locked")
    state, task = vm_state(server), task_state(server)
    # L2: where Nova leaves no way out of an error, a volume can still be taken back.
    if state not in _STATES and not (state == "error" and operation == "detach_volume"):
        raise Conflict(f"Cannot '{operation}' instance {server.id} while it is in vm_state {state}")
    if task is not None:
        raise Conflict(f"Cannot '{operation}' instance {server.id} while it is in task_state {task}")


def _check_parkable(server: Server, volume: Volume, tag: str | None) -> None:
    """Raise Invalid for what Nova gives to no server that has left its host."""
    if tag is not None:
        raise Invalid(f"Attaching volume {volume.id} with a tag is not supported for shelved instance {server.id}.")
    if volume.multiattach:
        raise Invalid(f"Attaching multiattach volume {volume.id} is not supported for shelved instance {server.id}.")


def _check_hotplug(server: Server, verb: str) -> None:
    """Raise Conflict for what no running guest can take part in, rather than fail at it later on."""
    if server.rung > ServerRung.DEFINED and not can_hotplug(server.image):
        raise Conflict(
            f"The volumes of instance {server.id} are SATA disks, and such a disk cannot be {verb} a running guest; "
            "stop the instance first."
        )


def check_attachable(tx: Tx, volume: Volume, server_id: str) -> None:
    """A volume that is free, or shared and in use elsewhere; else 400, with the holder named."""
    views = rows.open_of_volume(tx, volume.id)
    holders = [name_consumer(view.attachment) for view in views]
    if any(view.attachment.server_id == server_id for view in views):
        raise Invalid(f"Invalid volume: volume {volume.id} is already attached to instance {server_id}.")
    status = volume_status(volume, volume_operation(tx, volume.id), [(view.attachment, view.paths) for view in views])
    shared = volume.multiattach and status in ("in-use", "attaching", "detaching", "reserved")
    if status == "available" or shared:
        return
    held = f" It is held by {holders[0]}." if holders else ""
    raise Invalid(f"Invalid volume: volume {volume.id} status must be available, but it is {status}.{held}")


def _detach(tx: Tx, server_id: str, volume_id: str, actor: Actor, at: int, deadline_at: int) -> None:
    server = find_server(tx, server_id, actor)
    attachment = rows.find_open(tx, server_id=server_id, volume_id=volume_id)
    if attachment is None:
        raise NotFound(f"Volume {volume_id} is not attached to instance {server_id}.")
    if attachment.boot_index == 0:
        raise Invalid(f"Cannot detach a root device volume: {volume_id}.")
    if server.goal is ServerGoal.DELETED:
        return  # the server's deletion detaches it, and asks the guest for nothing
    if attachment.goal is Goal.ATTACHED:
        check_state(server, actor, "detach_volume")
        _check_hotplug(server, "taken from")
    ask_detach(tx, attachment, actor=actor, at=at, deadline_at=deadline_at)


def _update(tx: Tx, server_id: str, volume_id: str, actor: Actor, delete_on_termination: bool) -> None:
    view = _find(tx, server_id, volume_id, actor)
    set_delete_on_termination(tx, view.attachment.id, delete_on_termination)


def _of_server(tx: Tx, server_id: str, actor: Actor) -> list[AttachmentView]:
    find_server(tx, server_id, actor)
    return rows.with_paths(tx, rows.open_of_server(tx, server_id))


def _find(tx: Tx, server_id: str, volume_id: str, actor: Actor) -> AttachmentView:
    find_server(tx, server_id, actor)
    attachment = rows.find_open(tx, server_id=server_id, volume_id=volume_id)
    if attachment is None:
        raise NotFound(f"Volume {volume_id} is not attached to instance {server_id}.")
    return AttachmentView(attachment=attachment, paths=rows.live_paths(tx, attachment.id))
