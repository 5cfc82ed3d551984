"""The rows of group types (3.11)."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.operations import Version
from kevel.api.volume import rows
from kevel.api.volume.bodies import Key, Text
from kevel.api.volume.group_types import handlers, shapes

_SINCE: Final = Version(3, 11)
_read = partial(rows.read, since=_SINCE)
_admin = partial(rows.admin, since=_SINCE)
_ONE: Final = "/group_types/{group_type_id}"
_SPEC: Final = f"{_ONE}/group_specs/{{key}}"

GROUP_TYPES: Final = (
    _read(
        name="listGroupTypes",
        reply=shapes.GROUP_TYPES,
        query_names=("is_public", *rows.PAGE_QUERY),
        new_id="/group_types/0/id",
        path="/group_types",
        handler=handlers.list_group_types,
        errors=(400, 404),
    ),
    _read(name="showGroupType", reply=shapes.GROUP_TYPE, path=_ONE, handler=handlers.show_group_type, errors=(404,)),
    _admin(
        name="createGroupType",
        reply=shapes.GROUP_TYPE,
        needs_space=True,
        new_id="/group_type/id",
        method="POST",
        path="/group_types",
        handler=handlers.create_group_type,
        success=202,
        errors=(400, 409),
        body=shapes.CreateGroupType,
    ),
    _admin(
        name="updateGroupType",
        reply=shapes.GROUP_TYPE,
        method="PUT",
        path=_ONE,
        handler=handlers.update_group_type,
        errors=(400, 404, 409),
        body=shapes.UpdateGroupType,
    ),
    _admin(
        name="deleteGroupType",
        reply=None,
        method="DELETE",
        path=_ONE,
        handler=handlers.delete_group_type,
        success=202,
        errors=(400, 404),
    ),
    _admin(
        name="listGroupSpecs",
        reply=shapes.GROUP_SPECS,
        method="GET",
        path=f"{_ONE}/group_specs",
        handler=handlers.list_specs,
        errors=(404,),
    ),
    _admin(
        name="putGroupSpecs",
        reply=shapes.GROUP_SPECS,
        method="POST",
        path=f"{_ONE}/group_specs",
        handler=handlers.put_specs,
        success=202,
        errors=(400, 404),
        body=shapes.PutGroupSpecs,
    ),
    _admin(
        name="showGroupSpec",
        reply=dict[str, str],
        method="GET",
        path=_SPEC,
        handler=handlers.show_spec,
        errors=(404,),
    ),
    _admin(
        name="putGroupSpec",
        reply=dict[str, str],
        method="PUT",
        path=_SPEC,
        handler=handlers.put_spec,
        errors=(400, 404),
        body=dict[Key, Text],
    ),
    _admin(
        name="removeGroupSpec",
        reply=None,
        method="DELETE",
        path=_SPEC,
        handler=handlers.remove_spec,
        success=202,
        errors=(404,),
    ),
)
