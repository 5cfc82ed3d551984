"""The volumes that servers are made with: claimed, or made, in the transaction that makes the server.

An attachment given at boot is an ordinary one whose goal stands from that transaction on: nobody else can have the
volume from then on, its path waits until the volume is made, and the host starts the guest once every disk is plugged.
It is established at once: a failure never gives it away, the server shows it and keeps the volume until it is deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from kevel.control.attachments.attachments import Attachments, check_attachable
from kevel.control.pools.pools import PoolRoom
from kevel.control.servers.choosing_hosts import reaches
from kevel.control.volumes.volumes import NewVolume, Volumes, enter_volume
from kevel.domain.devices import BUS_UNITS_MAX, choose_device, choose_unit, device_prefix, volume_bus
from kevel.domain.errors import CallerError, Forbidden, OverLimit, Unavailable
from kevel.domain.limits import Limits
from kevel.domain.model import Actor, Server, Volume
from kevel.domain.server_disks import DiskSource, NewDisk, refuse_disk
from kevel.runtime.ports import Ids
from kevel.store.hosts import load_host
from kevel.store.path_moves import NewAttachment
from kevel.store.snapshots import find_snapshot
from kevel.store.transactions import Tx
from kevel.store.volume_keys import SealedKey
from kevel.store.volumes import find_volume

#: Unit of the root disk on the bus of volumes.
ROOT_UNIT = 0


class DiskIds(msgspec.Struct, frozen=True, kw_only=True):
    """Drawn for one disk of one server."""

    volume_id: str
    attachment_id: str
    claim_id: str
    path_id: str
    key: SealedKey | None


class ServerDisks:
    """What the making of a server needs of volumes and attachments."""

    def __init__(self, volumes: Volumes, attachments: Attachments, ids: Ids, limits: Limits) -> None:
        self._volumes = volumes
        self._attachments = attachments
        self._ids = ids
        self._limits = limits

    async def measure(self, disks: Sequence[NewDisk]) -> tuple[PoolRoom, ...]:
        """The room of the pools, if volumes are to be made. Raises Unavailable."""
        if all(disk.source is DiskSource.VOLUME for disk in disks):
            return ()
        return await self._volumes.pools.measure_all()

    def draw_ids(self, disks: Sequence[NewDisk], at: int) -> list[DiskIds]:
        """Ids for the disks of one server."""
        uuid = self._ids.uuid
        return [
            DiskIds(
                volume_id=uuid(),
                attachment_id=uuid(),
                claim_id=uuid(),
                path_id=uuid(),
                key=None if disk.source is DiskSource.VOLUME else self._volumes.draw_key(at),
            )
            for disk in disks
        ]

    def enter_volumes(
        self,
        tx: Tx,
        actor: Actor,
        server_id: str,
        disks: Sequence[NewDisk],
        ids: Sequence[DiskIds],
        rooms: Sequence[PoolRoom],
        at: int,
    ) -> list[Volume]:
        """The disks' volumes, those that the server is made with for the first time entered.

        Raises Invalid, and Forbidden for a quota, as Nova does; the message names the block device.
        """
        volumes: list[Volume] = []
        for disk, drawn in zip(disks, ids, strict=True):
            with _naming(disk):
                if disk.source is DiskSource.VOLUME:
                    volume = _find(tx, disk, actor, server_id)
                else:
                    volume = self._make(tx, disk, drawn, actor, server_id, rooms, at)
                if any(volume.id == other.id for other in volumes):
                    raise refuse_disk(disk.label, "the volume is given twice.")
                if disk.is_root and disk.source is not DiskSource.BLANK and not volume.bootable:
                    raise refuse_disk(disk.label, f"volume {volume.id} is not bootable.")
            volumes.append(volume)
        return volumes

    def _make(
        self, tx: Tx, disk: NewDisk, drawn: DiskIds, actor: Actor, server_id: str, rooms: Sequence[PoolRoom], at: int
    ) -> Volume:
        new = NewVolume(
            size_gib=disk.size_gib,
            snapshot_id=disk.source_id if disk.source is DiskSource.SNAPSHOT else None,
            image_id=disk.source_id if disk.source is DiskSource.IMAGE else None,
            name=f"{server_id}-blank-vol" if disk.source is DiskSource.BLANK else "",
            type_ref=disk.type_ref,
        )
        zone = self._volumes.pools.availability_zone
        view = enter_volume(
            tx, actor, new, rooms, volume_id=drawn.volume_id, availability_zone=zone, at=at, key=drawn.key
        )
        if view.volume.fault is not None:
            raise refuse_disk(disk.label, view.volume.fault.message)
        return view.volume

    def deadline(self, disks: Sequence[NewDisk], volumes: Sequence[Volume], at: int) -> int:
        """When the slowest of the volumes should have been made; `at` when none is to be."""
        made = [volume for disk, volume in zip(disks, volumes, strict=True) if disk.source is not DiskSource.VOLUME]
        return max((self._limits.volume_deadline(at, copied_gib=volume.size_gib) for volume in made), default=at)

    def attach(
        self,
        tx: Tx,
        actor: Actor,
        server: Server,
        disks: Sequence[NewDisk],
        volumes: Sequence[Volume],
        ids: Sequence[DiskIds],
    ) -> None:
        """Claim the volumes for the server, which has been entered."""
        prefix = device_prefix(server.image)
        root_device = f"/dev/{prefix}a"
        bus = volume_bus(server.image)
        units_max = min(int(load_host(tx, server.host).facts["max_volumes"]), BUS_UNITS_MAX[bus])
        units, devices = {ROOT_UNIT}, {root_device}
        for disk, volume, drawn in zip(disks, volumes, ids, strict=True):
            with _naming(disk):
                if disk.bus not in (None, bus):
                    raise refuse_disk(disk.label, f"the server's volumes are on the bus {bus}, as its root disk is.")
                unit: int | None = ROOT_UNIT
                device = root_device
                if not disk.is_root:
                    unit = choose_unit(units, units_max=units_max)
                    device = choose_device(disk.device, prefix=prefix, taken=devices, root_device=root_device)
                if unit is None:
                    raise Forbidden(f"a server can have {units_max} {bus} volumes besides its root disk.")
                new = NewAttachment(
                    attachment_id=drawn.attachment_id,
                    claim_id=drawn.claim_id,
                    path_id=drawn.path_id,
                    server_id=server.id,
                    host=server.host,
                    device=device,
                    unit=unit,
                    tag=disk.tag,
                    delete_on_termination=disk.delete_on_termination,
                    deadline_at=server.deadline_at,
                    given_at_boot=True,
                    boot_index=disk.boot_index,
                )
                self._attachments.open(tx, new, volume, actor=actor, at=server.created_at)
            units.add(unit)
            devices.add(device)


def pools_of(tx: Tx, actor: Actor, disks: Sequence[NewDisk]) -> frozenset[str]:
    """The pools that the server's host has to reach, whatever becomes of the volumes that are made with it."""
    pools: set[str] = set()
    for disk in disks:
        with _naming(disk):
            if disk.source is DiskSource.VOLUME:
                pools.add(find_volume(tx, disk.source_id or "", actor).backend)
            elif disk.source is DiskSource.SNAPSHOT:
                pools.add(find_snapshot(tx, disk.source_id or "", actor).backend)
    return frozenset(pools)


def rooms_near(tx: Tx, host: str, rooms: Sequence[PoolRoom]) -> list[PoolRoom]:
    """The pools that the host reaches."""
    known = load_host(tx, host)
    return [room for room in rooms if reaches(known, (room.backend,))]


@contextmanager
def _naming(disk: NewDisk) -> Iterator[None]:
    """Say which of the request's block devices was wrong, with the codes that Nova has for it."""
    try:
        yield
    except Unavailable:
        raise
    except (Forbidden, OverLimit) as error:
        raise Forbidden(f"Block Device Mapping is Invalid: {disk.label}: {error.message}") from error
    except CallerError as error:
        if disk.label in error.message:
            raise
        raise refuse_disk(disk.label, error.message) from error


def _find(tx: Tx, disk: NewDisk, actor: Actor, server_id: str) -> Volume:
    volume = find_volume(tx, disk.source_id or "", actor)
    if volume.project_id != actor.project_id:
        raise refuse_disk(disk.label, "it could not be found in the server's project.")
    check_attachable(tx, volume, server_id)
    return volume
