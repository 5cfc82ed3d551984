"""The rows of group snapshots (3.14)."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.operations import Version
from kevel.api.volume import rows
from kevel.api.volume.group_snapshots import handlers, shapes
from kevel.api.volume.groups.shapes import ResetStatus

_SINCE: Final = Version(3, 14)
_read = partial(rows.read, since=_SINCE)
_write = partial(rows.write, since=_SINCE)
_ONE: Final = "/group_snapshots/{group_snapshot_id}"
_QUERY: Final = (*rows.PAGE_QUERY, "all_tenants", "project_id", "with_count", "status", *handlers.FILTERS)

GROUP_SNAPSHOTS: Final = (
    _read(
        name="listGroupSnapshots",
        reply=shapes.GROUP_SNAPSHOTS,
        query_names=_QUERY,
        new_id="/group_snapshots/0/id",
        path="/group_snapshots",
        handler=handlers.list_group_snapshots,
        errors=(400, 404),
    ),
    _read(
        name="listGroupSnapshotDetails",
        reply=shapes.GROUP_SNAPSHOT_DETAILS,
        query_names=_QUERY,
        path="/group_snapshots/detail",
        handler=handlers.list_details,
        errors=(400, 404),
    ),
    _write(
        name="createGroupSnapshot",
        reply=shapes.NEW_GROUP_SNAPSHOT,
        new_id="/group_snapshot/id",
        needs_space=True,
        method="POST",
        path="/group_snapshots",
        handler=handlers.create_group_snapshot,
        success=202,
        errors=(400, 404, 413),
        body=shapes.CreateGroupSnapshot,
    ),
    _read(
        name="showGroupSnapshot",
        reply=shapes.GROUP_SNAPSHOT,
        path=_ONE,
        handler=handlers.show_group_snapshot,
        errors=(404,),
    ),
    _write(
        name="deleteGroupSnapshot",
        reply=None,
        method="DELETE",
        path=_ONE,
        handler=handlers.delete_group_snapshot,
        success=202,
        errors=(400, 404),
    ),
    rows.admin(
        name="resetGroupSnapshotStatus",
        reply=None,
        method="POST",
        path=f"{_ONE}/action",
        action="reset_status",
        handler=handlers.reset_status,
        success=202,
        errors=(400, 404),
        body=ResetStatus,
        since=Version(3, 19),
    ),
)
