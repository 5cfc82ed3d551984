"""The rows of snapshots."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.operations import Operation, Policy
from kevel.api.volume import bodies, replies
from kevel.api.volume.rows import PAGE_QUERY, read, write
from kevel.api.volume.snapshots import handlers, shapes

_QUERY: Final = (
    *PAGE_QUERY,
    "all_tenants",
    "with_count",
    "project_id",
    "id",
    "name",
    "display_name",
    "name~",
    "status",
    "metadata",
    "volume_id",
    "volume_size",
    "user_id",
    "group_snapshot_id",
    "created_at",
    "updated_at",
    "consumes_quota",
)
_ONE: Final = "/snapshots/{snapshot_id}"
_act = partial(
    Operation,
    method="POST",
    path=f"{_ONE}/action",
    success=202,
    errors=(400, 404),
    reply=None,
)

SNAPSHOTS: Final = (
    write(
        name="createSnapshot",
        reply=shapes.SNAPSHOT,
        new_id="/snapshot/id",
        needs_space=True,
        once=True,
        method="POST",
        path="/snapshots",
        handler=handlers.create_snapshot,
        success=202,
        errors=(400, 404, 413),
        body=shapes.CreateSnapshot,
    ),
    read(
        name="listSnapshots",
        reply=shapes.SNAPSHOTS,
        query_names=_QUERY,
        path="/snapshots",
        handler=handlers.list_snapshots,
        errors=(400, 404),
    ),
    read(
        name="listSnapshotDetails",
        reply=shapes.SNAPSHOT_DETAILS,
        query_names=_QUERY,
        path="/snapshots/detail",
        handler=handlers.list_details,
        errors=(400, 404),
    ),
    read(
        name="showSnapshot",
        reply=shapes.SNAPSHOT_DETAIL,
        path=_ONE,
        handler=handlers.show_snapshot,
        errors=(404,),
    ),
    write(
        name="updateSnapshot",
        reply=shapes.SNAPSHOT,
        method="PUT",
        path=_ONE,
        handler=handlers.update_snapshot,
        errors=(400, 404),
        body=shapes.UpdateSnapshot,
    ),
    write(
        name="deleteSnapshot",
        reply=None,
        method="DELETE",
        path=_ONE,
        handler=handlers.delete_snapshot,
        success=202,
        errors=(400, 404),
    ),
    read(
        name="listSnapshotMetadata",
        reply=replies.METADATA,
        path=f"{_ONE}/metadata",
        handler=handlers.list_metadata,
        errors=(404,),
    ),
    write(
        name="addSnapshotMetadata",
        reply=replies.METADATA,
        method="POST",
        path=f"{_ONE}/metadata",
        handler=handlers.add_metadata,
        errors=(400, 404, 413),
        body=bodies.PutMetadata,
    ),
    write(
        name="replaceSnapshotMetadata",
        reply=replies.METADATA,
        method="PUT",
        path=f"{_ONE}/metadata",
        handler=handlers.replace_metadata,
        errors=(400, 404, 413),
        body=bodies.PutMetadata,
    ),
    read(
        name="showSnapshotMetadataItem",
        reply=replies.META,
        path=f"{_ONE}/metadata/{{key}}",
        handler=handlers.show_metadata_item,
        errors=(404,),
    ),
    write(
        name="putSnapshotMetadataItem",
        reply=replies.META,
        method="PUT",
        path=f"{_ONE}/metadata/{{key}}",
        handler=handlers.put_metadata_item,
        errors=(400, 404, 413),
        body=bodies.PutMetadataItem,
    ),
    write(
        name="removeSnapshotMetadataItem",
        reply=None,
        method="DELETE",
        path=f"{_ONE}/metadata/{{key}}",
        handler=handlers.remove_metadata_item,
        errors=(404,),
    ),
    _act(
        name="resetSnapshotStatus",
        action="os-reset_status",
        handler=handlers.reset_status,
        body=shapes.ResetStatus,
        policy=Policy.ADMIN,
    ),
    _act(
        name="forceDeleteSnapshot",
        action="os-force_delete",
        handler=handlers.force_delete_snapshot,
        policy=Policy.ADMIN,
        errors=(404,),
    ),
    _act(
        name="saySnapshotStatus",
        action="os-update_snapshot_status",
        handler=handlers.say_status,
        body=shapes.SayStatus,
        policy=Policy.MEMBER,
    ),
)
