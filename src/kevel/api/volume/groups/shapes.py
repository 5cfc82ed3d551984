"""What groups take and answer."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType

from kevel.api.answers import Answer, Link, name_answer
from kevel.api.volume.bodies import Bool, Status, Text

#: Ids of volumes, with commas between.
Ids = Annotated[str, msgspec.Meta(max_length=255)]


class GroupFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group as it is asked for."""

    group_type: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    volume_types: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=100)]
    name: Text | None = None
    description: Text | None = None
    availability_zone: Text | None = None


class CreateGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /groups."""

    group: GroupFields


class SourceFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of what a group is made: one of the two."""

    name: Text | None = None
    description: Text | None = None
    source_group_id: Text | None = None
    group_snapshot_id: Text | None = None


class CopyGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The action create-from-src of the list of groups."""

    source: SourceFields = msgspec.field(name="create-from-src")


class GroupChanges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What PUT may change; null changes nothing."""

    name: Text | None = None
    description: Text | None = None
    add_volumes: Ids | None = None
    remove_volumes: Ids | None = None


class UpdateGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /groups/{id}."""

    group: GroupChanges


class Deletion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Are the group's volumes to go with it?"""

    delete_volumes: Bool | None = msgspec.field(name="delete-volumes", default=None)


class DeleteGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The action delete."""

    delete: Deletion


class ResetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The action reset_status."""

    reset_status: Status


class GroupSummary(Answer, kw_only=True):
    """A line of the short list."""

    id: str
    name: str | None


class Group(GroupSummary, kw_only=True):
    """A group. What is UNSET came with a microversion, was not asked for, or is for admins."""

    status: str
    availability_zone: str
    created_at: str
    description: str | None
    group_type: str
    volume_types: list[str]
    group_snapshot_id: str | UnsetType | None = UNSET
    source_group_id: str | UnsetType | None = UNSET
    volumes: list[str] | UnsetType = UNSET
    replication_status: str | UnsetType = UNSET
    project_id: str | UnsetType = UNSET


GROUPS: Final = name_answer("groups", list[GroupSummary], group_links=list[Link], count=int)
GROUP_DETAILS: Final = name_answer("groups", list[Group], group_links=list[Link], count=int)
GROUP: Final = name_answer("group", Group)
NEW_GROUP: Final = name_answer("group", GroupSummary)
