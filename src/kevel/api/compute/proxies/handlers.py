"""Volumes and snapshots of the compute API: the block storage API's use cases under Nova's older words."""

from __future__ import annotations

from typing import Any

from kevel.api.compute.proxies.shapes import NewSnapshotKeys, NewVolumeKeys
from kevel.api.compute.shapes import read_bool, read_count, show_time_us
from kevel.api.operations import Call, Reply
from kevel.control.copies.snapshots import NewSnapshot
from kevel.control.volumes.volumes import NewVolume
from kevel.domain.errors import Forbidden, Invalid, NotFound, OverLimit
from kevel.store.pages import Page
from kevel.store.snapshots import SnapshotFilter, SnapshotView
from kevel.store.volume_lists import VolumeFilter, VolumeView


async def list_volumes(call: Call) -> Reply:
    found = await call.services.volumes.list(VolumeFilter(project_id=call.actor.project_id), _read_page(call))
    return Reply(body={"volumes": [_show_volume(view) for view in found.rows]})


async def show_volume(call: Call) -> Reply:
    return Reply(body={"volume": _show_volume(await call.services.volumes.get(call.actor, call.path["volume_id"]))})


async def create_volume(call: Call) -> Reply:
    keys: NewVolumeKeys = call.body.volume
    new = NewVolume(
        size_gib=int(keys.size),
        name=keys.display_name or "",
        description=keys.display_description,
        type_ref=keys.volume_type or None,
        metadata=keys.metadata or {},
        snapshot_id=keys.snapshot_id or None,
        availability_zone=keys.availability_zone or None,
    )
    try:
        view = await call.services.volumes.create(call.actor, new)
    except NotFound as error:
        # The body names it, not the address.
        raise Invalid(error.message) from error
    except OverLimit as error:
        raise Forbidden(error.message) from error
    return Reply(body={"volume": _show_volume(view)})


async def delete_volume(call: Call) -> Reply:
    await call.services.volumes.delete(call.actor, call.path["volume_id"], force=False)
    return Reply()


async def list_snapshots(call: Call) -> Reply:
    found = await call.services.snapshots.list(SnapshotFilter(project_id=call.actor.project_id), _read_page(call))
    return Reply(body={"snapshots": [_show_snapshot(view) for view in found.rows]})


async def show_snapshot(call: Call) -> Reply:
    view = await call.services.snapshots.get(call.actor, call.path["snapshot_id"])
    return Reply(body={"snapshot": _show_snapshot(view)})


async def create_snapshot(call: Call) -> Reply:
    keys: NewSnapshotKeys = call.body.snapshot
    new = NewSnapshot(
        volume_id=keys.volume_id,
        name=keys.display_name or "",
        description=keys.display_description,
        in_use=read_bool("force", keys.force),
    )
    try:
        view = await call.services.snapshots.create(call.actor, new)
    except NotFound as error:
        raise Invalid(error.message) from error
    except OverLimit as error:
        raise Forbidden(error.message) from error
    return Reply(body={"snapshot": _show_snapshot(view)})


async def delete_snapshot(call: Call) -> Reply:
    await call.services.snapshots.delete(call.actor, call.path["snapshot_id"], force=False)
    return Reply()


def _read_page(call: Call) -> Page:
    query = dict(call.query_items)
    rows_max = call.services.servers.page_rows_max
    limit = min(read_count("limit", query["limit"]), rows_max) if "limit" in query else rows_max
    return Page(limit=limit, offset=read_count("offset", query["offset"]) if "offset" in query else 0)


def _show_volume(view: VolumeView) -> dict[str, Any]:
    volume = view.volume
    attached: list[dict[str, str]] = [
        {
            "id": volume.id,
            "volumeId": volume.id,
            "serverId": one.attachment.server_id or one.attachment.instance_id or "",
            "device": one.attachment.device or "",
        }
        for one in view.attached
    ]
    return {
        "id": volume.id,
        "status": view.status,
        "size": volume.size_gib,
        "availabilityZone": volume.availability_zone,
        "createdAt": show_time_us(volume.created_at),
        "attachments": attached or [{}],
        "displayName": volume.name,
        "displayDescription": volume.description,
        "volumeType": view.type_name,
        "snapshotId": volume.snapshot_id,
        "metadata": volume.metadata,
    }


def _show_snapshot(view: SnapshotView) -> dict[str, Any]:
    snapshot = view.snapshot
    return {
        "id": snapshot.id,
        "status": view.status,
        "size": snapshot.size_gib,
        "volumeId": snapshot.volume_id,
        "createdAt": show_time_us(snapshot.created_at),
        "displayName": snapshot.name,
        "displayDescription": snapshot.description,
    }
