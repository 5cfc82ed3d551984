"""What group snapshots take and answer."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from kevel.api.answers import Answer, Link, name_answer
from kevel.api.volume.bodies import Text


class GroupSnapshotFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group snapshot as it is asked for."""

    group_id: Text
    name: Text | None = None
    description: Text | None = None


class CreateGroupSnapshot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /group_snapshots."""

    group_snapshot: GroupSnapshotFields


class GroupSnapshotSummary(Answer, kw_only=True):
    """A line of the short list."""

    id: str
    name: str | None


class NewGroupSnapshot(GroupSnapshotSummary, kw_only=True):
    """The answer to its making."""

    group_type_id: str


class GroupSnapshot(NewGroupSnapshot, kw_only=True):
    """A group snapshot. The project (3.58) is for admins."""

    group_id: str
    status: str
    created_at: str
    description: str | None
    project_id: str | UnsetType = UNSET


GROUP_SNAPSHOTS: Final = name_answer(
    "group_snapshots", list[GroupSnapshotSummary], group_snapshot_links=list[Link], count=int
)
GROUP_SNAPSHOT_DETAILS: Final = name_answer(
    "group_snapshots", list[GroupSnapshot], group_snapshot_links=list[Link], count=int
)
GROUP_SNAPSHOT: Final = name_answer("group_snapshot", GroupSnapshot)
NEW_GROUP_SNAPSHOT: Final = name_answer("group_snapshot", NewGroupSnapshot)
