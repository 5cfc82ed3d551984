"""What a new volume is made from: nothing, a snapshot, another volume, an image or a backup."""

from __future__ import annotations

from typing import Any

import msgspec

from kevel.control.copies.snapshots import check_copyable
from kevel.control.images.volume_images import find_image_source
from kevel.domain.errors import Invalid
from kevel.domain.model import Actor, Backup
from kevel.store.backups import find_restorable
from kevel.store.snapshots import find_snapshot, view_snapshot
from kevel.store.transactions import Tx
from kevel.store.volume_lists import view_volume
from kevel.store.volume_types import load_type
from kevel.store.volumes import find_volume, load_volume


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a volume takes over from its source."""

    size_gib: int
    #: The type that it gets when none is asked for.
    volume_type_id: str | None = None
    #: The back end where the source lies, if it is copied there; None: any.
    backend: str | None = None
    snapshot_id: str | None = None
    source_volume_id: str | None = None
    #: The backup that is restored into it, with what it keeps of its volume.
    backup: Backup | None = None
    description: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    bootable: bool = False
    image_metadata: dict[str, str] | None = None
    #: What opens the source, if it is encrypted.
    encryption_key_id: str | None = None
    #: As `kevel.store.operations.begin_operation` has them.
    reads: str | None = None
    args: dict[str, Any] = msgspec.field(default_factory=dict)


def find_origin(
    tx: Tx,
    actor: Actor,
    *,
    size_gib: int | None,
    snapshot_id: str | None,
    source_volume_id: str | None,
    image_id: str | None,
    backup_id: str | None = None,
) -> Origin:
    """What the volume is made from. Raises NotFound or Invalid when nothing can be made of it, or not in that size."""
    given = [name for name in (snapshot_id, source_volume_id, image_id, backup_id) if name is not None]
    if len(given) > 1:
        raise Invalid(
            "Invalid input received: a volume is made from one of snapshot_id, source_volid, imageRef and backup_id."
        )
    if snapshot_id is not None:
        return _from_snapshot(tx, actor, snapshot_id, size_gib)
    if source_volume_id is not None:
        return _from_volume(tx, actor, source_volume_id, size_gib)
    if backup_id is not None:
        return _from_backup(tx, actor, backup_id, size_gib)
    if size_gib is None:
        raise Invalid("Invalid input for size: nothing; it has to be a whole number of GiB.")
    if image_id is None:
        return Origin(size_gib=size_gib)
    image = find_image_source(tx, actor, image_id, size_gib)
    return Origin(
        size_gib=size_gib,
        bootable=True,
        image_metadata=image.metadata,
        reads=image.file,
        args={"source": "image", "size_bytes": image.size_bytes, "format": image.format},
    )


def _from_snapshot(tx: Tx, actor: Actor, snapshot_id: str, size_gib: int | None) -> Origin:
    view = view_snapshot(tx, find_snapshot(tx, snapshot_id, actor))
    snapshot = view.snapshot
    if view.status != "available":
        raise Invalid(
            f"Invalid snapshot: snapshot {snapshot.id} is {view.status}; for a volume to be made from it, it has to be "
            "available."
        )
    _check_size(size_gib, snapshot.size_gib, "snapshot")
    volume = load_volume(tx, snapshot.volume_id)
    return Origin(
        size_gib=size_gib or snapshot.size_gib,
        volume_type_id=None if volume is None else volume.volume_type_id,
        backend=snapshot.backend,
        snapshot_id=snapshot.id,
        encryption_key_id=None if volume is None else volume.encryption_key_id,
        bootable=snapshot.bootable,
        image_metadata=snapshot.image_metadata,
        reads=snapshot.id,
        args={"source": "snapshot"},
    )


def _from_volume(tx: Tx, actor: Actor, volume_id: str, size_gib: int | None) -> Origin:
    view = view_volume(tx, find_volume(tx, volume_id, actor))
    volume = view.volume
    if view.status not in ("available", "in-use"):
        raise Invalid(
            f"Invalid volume: volume {volume.id} is {view.status}; for another one to be made from it, it has to be "
            "available or in-use."
        )
    _check_size(size_gib, volume.size_gib, "original volume")
    check_copyable(tx, volume.id)
    return Origin(
        size_gib=size_gib or volume.size_gib,
        volume_type_id=volume.volume_type_id,
        backend=volume.backend,
        source_volume_id=volume.id,
        encryption_key_id=volume.encryption_key_id,
        bootable=volume.bootable,
        image_metadata=volume.image_metadata,
        reads=volume.id,
        args={"source": "volume"},
    )


def _from_backup(tx: Tx, actor: Actor, backup_id: str, size_gib: int | None) -> Origin:
    backup = find_restorable(tx, backup_id, actor, size_gib)
    kept = backup.volume
    is_known = load_type(tx, kept.volume_type_id) is not None
    return Origin(
        size_gib=size_gib or backup.size_gib,
        volume_type_id=kept.volume_type_id if is_known else None,
        backup=backup,
        description=kept.description,
        metadata=kept.metadata,
    )


def _check_size(size_gib: int | None, least_gib: int, what: str) -> None:
    if size_gib is not None and size_gib < least_gib:
        raise Invalid(
            f"Invalid input received: Volume size '{size_gib}'GB cannot be smaller than the {what} size {least_gib}GB. "
            f"They must be >= {what} size."
        )
