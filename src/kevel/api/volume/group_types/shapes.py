"""What group types take and answer."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType

from kevel.api.answers import Answer, Link, name_answer
from kevel.api.volume.bodies import Bool, Key, Text

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class NewGroupTypeFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group type as it is asked for."""

    name: Name
    description: Text | None = None
    is_public: Bool | None = None
    group_specs: dict[Key, Text] | None = None


class CreateGroupType(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /group_types."""

    group_type: NewGroupTypeFields


class GroupTypeChanges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What PUT may change; null changes nothing."""

    name: Text | None = None
    description: Text | None = None
    is_public: Bool | None = None


class UpdateGroupType(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /group_types/{id}."""

    group_type: GroupTypeChanges


class PutGroupSpecs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /group_types/{id}/group_specs."""

    group_specs: dict[Key, Text]


class GroupType(Answer, kw_only=True):
    """A group type. Its specs are for admins."""

    id: str
    name: str
    description: str | None
    is_public: bool
    group_specs: dict[str, str] | UnsetType = UNSET


GROUP_TYPES: Final = name_answer("group_types", list[GroupType], group_type_links=list[Link], count=int)
GROUP_TYPE: Final = name_answer("group_type", GroupType)
GROUP_SPECS: Final = name_answer("group_specs", dict[str, str])
