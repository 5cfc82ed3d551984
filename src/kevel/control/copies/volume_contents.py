"""What users do with the contents of volumes that exist: revert, reimage, write out, say what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kevel.control.copies.snapshots import check_copyable
from kevel.control.images.volume_images import (
    ImageSource,
    NewImage,
    change_image_metadata,
    enter_image,
    find_image_source,
    remove_image_metadata,
)
from kevel.control.runtime import Runtime
from kevel.control.volume_types.keys import refuse_encrypted
from kevel.domain.errors import Conflict, Invalid
from kevel.domain.images import Image
from kevel.domain.limits import Limits
from kevel.domain.model import REBUILDS, Actor, OperationKind, Subject, Volume
from kevel.storage.image_files import ImageFiles
from kevel.store.operations import begin_operation
from kevel.store.snapshots import live_snapshots, view_snapshot
from kevel.store.transactions import Tx
from kevel.store.volume_lists import VolumeView, view_volume
from kevel.store.volumes import change_volume, find_volume, volume_operation


class VolumeContents:
    """The use cases. Each check stands in the transaction that also writes."""

    def __init__(self, runtime: Runtime, images: ImageFiles, limits: Limits) -> None:
        self._runtime = runtime
        self._images = images
        self._limits = limits

    async def revert(self, actor: Actor, volume_id: str, snapshot_id: str) -> None:
        """Start to put the contents of its latest snapshot in the place of the volume's."""
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(_revert, actor, volume_id, snapshot_id, limits=self._limits, at=at)

    async def reimage(self, actor: Actor, volume_id: str, image_id: str) -> None:
        """Start to put an image in the place of the volume's contents."""
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(_reimage, actor, volume_id, image_id, limits=self._limits, at=at)

    async def upload(self, actor: Actor, volume_id: str, new: NewImage, *, in_use: bool) -> tuple[VolumeView, Image]:
        """Start to write the volume out as an image; `in_use`: an attached one too."""
        runtime = self._runtime
        at = runtime.clock.now_us()
        image_id, file = runtime.ids.uuid(), self._images.name_file(runtime.ids.uuid())
        return await runtime.store.write(
            _upload, actor, volume_id, new, in_use=in_use, image_id=image_id, file=file, limits=self._limits, at=at
        )

    async def image_metadata(self, actor: Actor, volume_id: str) -> dict[str, str]:
        """What is known of the image in the volume."""
        return await self._runtime.store.read_point(_image_metadata, actor, volume_id)

    async def set_image_metadata(self, actor: Actor, volume_id: str, items: Mapping[str, str]) -> dict[str, str]:
        """Set items of what is known of the image; all of them afterwards."""
        at = self._runtime.clock.now_us()
        return await self._runtime.store.write(_set_image_metadata, actor, volume_id, dict(items), at)

    async def unset_image_metadata(self, actor: Actor, volume_id: str, key: str) -> None:
        """Remove an item of what is known of the image; NotFound."""
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(_unset_image_metadata, actor, volume_id, key, at)


def _find(tx: Tx, actor: Actor, volume_id: str) -> VolumeView:
    return view_volume(tx, find_volume(tx, volume_id, actor))


def _begin(
    tx: Tx,
    actor: Actor,
    view: VolumeView,
    kind: OperationKind,
    *,
    reads: str | None,
    args: dict[str, Any],
    limits: Limits,
    at: int,
) -> None:
    volume = view.volume
    begin_operation(
        tx,
        Subject.VOLUME,
        volume.id,
        kind,
        volume_id=volume.id,
        reads=reads,
        actor="user",
        request_id=actor.request_id,
        at=at,
        deadline_at=limits.volume_deadline(at, copied_gib=volume.size_gib),
        args=args,
    )


def _revert(tx: Tx, actor: Actor, volume_id: str, snapshot_id: str, *, limits: Limits, at: int) -> None:
    view = _find(tx, actor, volume_id)
    snapshots = live_snapshots(tx, volume_id)
    if not snapshots:
        raise Invalid(f"Volume {volume_id} has no snapshots.")
    latest = snapshots[-1]
    if latest.id != snapshot_id:
        raise Invalid(f"Specified snapshot {snapshot_id[:64]} is not the latest one of volume {volume_id}.")
    if latest.size_gib != view.volume.size_gib:
        raise Invalid(
            f"Can't revert volume {volume_id} to its latest snapshot {latest.id}. The volume size must be equal to the "
            "snapshot size."
        )
    if view.status != "available" or view.attachments:
        raise Conflict(f"Invalid volume: volume {volume_id} is {view.status}; to be reverted it has to be available.")
    status = view_snapshot(tx, latest).status
    if status != "available":
        raise Conflict(f"Invalid snapshot: snapshot {latest.id} is {status}; it has to be available.")
    _begin(tx, actor, view, OperationKind.REVERTING, reads=latest.id, args={"source": "snapshot"}, limits=limits, at=at)


def _reimage(tx: Tx, actor: Actor, volume_id: str, image_id: str, *, limits: Limits, at: int) -> None:
    view = _find(tx, actor, volume_id)
    if len(view.attachments) > 1:
        raise Conflict(f"Volume {volume_id} has {len(view.attachments)} attachments; it cannot be reimaged.")
    if view.status not in ("available", "error") or view.attachments or volume_operation(tx, volume_id) is not None:
        raise Invalid(
            f"Invalid volume: volume {volume_id} is {view.status}; to be reimaged it has to be available or error."
        )
    deadline_at = limits.volume_deadline(at, copied_gib=view.volume.size_gib)
    begin_reimage(tx, actor, view.volume, image_id, at=at, deadline_at=deadline_at)


def begin_reimage(
    tx: Tx, actor: Actor, volume: Volume, image_id: str, *, at: int, deadline_at: int, server_id: str | None = None
) -> ImageSource:
    """Start to put an image in the place of the contents of a volume with which nothing else is being done.

    While that lasts, no host has the volume (`kevel.domain.ladder.target_rung`). `server_id` is the server for whose
    rebuild it is, and which fails with it: the caller sets its attachment's goal anew, so that its host lets go.
    Raises Invalid for a volume or an image with which it cannot be.
    """
    if not volume.made:
        raise Invalid(f"Invalid volume: volume {volume.id} was never made; delete it and create another one.")
    refuse_encrypted(volume, "reimaged")
    image = find_image_source(tx, actor, image_id, volume.size_gib)
    change_volume(tx, volume.id, fault=None, mask=None, updated_at=at)
    begin_operation(
        tx,
        Subject.VOLUME,
        volume.id,
        OperationKind.DOWNLOADING,
        volume_id=volume.id,
        reads=image.file,
        actor="user",
        request_id=actor.request_id,
        at=at,
        deadline_at=deadline_at,
        args={
            "source": "image",
            "size_bytes": image.size_bytes,
            "format": image.format,
            "image_metadata": image.metadata,
            REBUILDS: server_id,
        },
    )
    return image


def _upload(
    tx: Tx,
    actor: Actor,
    volume_id: str,
    new: NewImage,
    *,
    in_use: bool,
    image_id: str,
    file: str,
    limits: Limits,
    at: int,
) -> tuple[VolumeView, Image]:
    view = _find(tx, actor, volume_id)
    allowed = ("available", "in-use") if in_use else ("available",)
    if view.status not in allowed:
        raise Invalid(
            f"Invalid volume: Volume {volume_id} status must be {' or '.join(allowed)}, but current status is: "
            f"{view.status}."
        )
    refuse_encrypted(view.volume, "written out as an image")
    check_copyable(tx, volume_id)
    image = enter_image(
        tx,
        actor,
        view.volume,
        new,
        image_id=image_id,
        file=file,
        images_max=limits.images_per_project_max,
        at=at,
    )
    args = {"image_id": image.id, "file": file, "format": new.disk_format}
    _begin(tx, actor, view, OperationKind.UPLOADING, reads=None, args=args, limits=limits, at=at)
    return _find(tx, actor, volume_id), image


def _image_metadata(tx: Tx, actor: Actor, volume_id: str) -> dict[str, str]:
    return find_volume(tx, volume_id, actor).image_metadata or {}


def _set_image_metadata(tx: Tx, actor: Actor, volume_id: str, items: dict[str, str], at: int) -> dict[str, str]:
    merged = change_image_metadata(find_volume(tx, volume_id, actor).image_metadata, items)
    change_volume(tx, volume_id, image_metadata=merged, updated_at=at)
    return merged


def _unset_image_metadata(tx: Tx, actor: Actor, volume_id: str, key: str, at: int) -> None:
    left = remove_image_metadata(find_volume(tx, volume_id, actor), key)
    change_volume(tx, volume_id, image_metadata=left or None, updated_at=at)
