"""The rows of groups (3.13)."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.operations import Version
from kevel.api.volume import rows
from kevel.api.volume.groups import handlers, shapes

_SINCE: Final = Version(3, 13)
_read = partial(rows.read, since=_SINCE)
_write = partial(rows.write, since=_SINCE)
_ONE: Final = "/groups/{group_id}"
_QUERY: Final = (
    *rows.PAGE_QUERY,
    "all_tenants",
    "project_id",
    "with_count",
    "list_volume",
    "status",
    *handlers.FILTERS,
)

GROUPS: Final = (
    _read(
        name="listGroups",
        reply=shapes.GROUPS,
        query_names=_QUERY,
        new_id="/groups/0/id",
        path="/groups",
        handler=handlers.list_groups,
        errors=(400, 404),
    ),
    _read(
        name="listGroupDetails",
        reply=shapes.GROUP_DETAILS,
        query_names=_QUERY,
        path="/groups/detail",
        handler=handlers.list_details,
        errors=(400, 404),
    ),
    _write(
        name="createGroup",
        reply=shapes.NEW_GROUP,
        needs_space=True,
        new_id="/group/id",
        method="POST",
        path="/groups",
        handler=handlers.create_group,
        success=202,
        errors=(400, 404, 413),
        body=shapes.CreateGroup,
    ),
    rows.write(
        name="copyGroup",
        reply=shapes.NEW_GROUP,
        new_id="/group/id",
        method="POST",
        path="/groups/action",
        action="create-from-src",
        handler=handlers.copy_group,
        success=202,
        errors=(400, 404, 413, 503),
        body=shapes.CopyGroup,
        since=Version(3, 14),
        needs_space=True,
    ),
    _read(
        name="showGroup",
        reply=shapes.GROUP,
        query_names=("list_volume",),
        path=_ONE,
        handler=handlers.show_group,
        errors=(400, 404),
    ),
    _write(
        name="updateGroup",
        reply=None,
        method="PUT",
        path=_ONE,
        handler=handlers.update_group,
        success=202,
        errors=(400, 404),
        body=shapes.UpdateGroup,
    ),
    _write(
        name="deleteGroup",
        reply=None,
        method="POST",
        path=f"{_ONE}/action",
        action="delete",
        handler=handlers.delete_group,
        success=202,
        errors=(400, 404),
        body=shapes.DeleteGroup,
    ),
    rows.admin(
        name="resetGroupStatus",
        reply=None,
        method="POST",
        path=f"{_ONE}/action",
        action="reset_status",
        handler=handlers.reset_status,
        success=202,
        errors=(400, 404),
        body=shapes.ResetStatus,
        since=Version(3, 20),
    ),
)
