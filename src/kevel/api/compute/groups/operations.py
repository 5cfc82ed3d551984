"""The rows of server groups."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.compute.groups import handlers, shapes
from kevel.api.compute.shapes import v
from kevel.api.operations import Operation, Policy

_GROUPS: Final = "/os-server-groups"
_GROUP: Final = "/os-server-groups/{group_id}"
_create = partial(
    Operation,
    reply=shapes.GROUP,
    needs_space=True,
    new_id="/server_group/id",
    method="POST",
    path=_GROUPS,
    handler=handlers.create_group,
    policy=Policy.MEMBER,
    errors=(400, 403),
)

GROUPS: Final = (
    Operation(
        name="listServerGroups",
        reply=shapes.GROUPS,
        query_names=("all_projects", "limit", "offset"),
        method="GET",
        path=_GROUPS,
        handler=handlers.list_groups,
        policy=Policy.READER,
        errors=(400, 403),
    ),
    Operation(
        name="showServerGroup",
        reply=shapes.GROUP,
        method="GET",
        path=_GROUP,
        handler=handlers.show_group,
        policy=Policy.READER,
        errors=(404,),
    ),
    _create(name="createServerGroup", body=shapes.OldBody, until=v(14)),
    _create(name="createSoftServerGroup", body=shapes.SoftBody, since=handlers.SOFT, until=v(63)),
    _create(name="createServerGroupWithRules", body=shapes.GroupBody, since=handlers.RULES),
    Operation(
        name="deleteServerGroup",
        reply=None,
        method="DELETE",
        path=_GROUP,
        handler=handlers.delete_group,
        policy=Policy.MEMBER,
        success=204,
        errors=(404,),
    ),
)
