"""What snapshots take and answer."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType, field

from kevel.api.answers import Answer, name_answer, name_list
from kevel.api.volume.bodies import Bool, Metadata, NameChanges, Status, Text


class SnapshotFields(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot as it is asked for."""

    volume_id: Text | None
    name: Text | None = None
    description: Text | None = None
    #: Older words for the same.
    display_name: Text | None = None
    display_description: Text | None = None
    metadata: Metadata | None = None
    force: Bool | UnsetType | None = UNSET


class CreateSnapshot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /snapshots."""

    snapshot: SnapshotFields


class UpdateSnapshot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /snapshots/{id}."""

    snapshot: NameChanges


class ResetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """os-reset_status."""

    reset: Status = field(name="os-reset_status")


class StatusSaid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A status, and how far it is."""

    status: Text
    progress: Text | None = None


class SayStatus(msgspec.Struct, frozen=True, kw_only=True):
    """os-update_snapshot_status."""

    said: StatusSaid = field(name="os-update_snapshot_status")


class Snapshot(Answer, kw_only=True):
    """A snapshot in short. What is UNSET came with a microversion."""

    id: str
    status: str
    size: int
    volume_id: str
    name: str | None
    description: str | None
    created_at: str
    updated_at: str | None
    metadata: dict[str, str]
    group_snapshot_id: str | UnsetType | None = UNSET
    user_id: str | UnsetType = UNSET
    consumes_quota: bool | UnsetType = UNSET


class SnapshotDetail(Snapshot, kw_only=True):
    """A snapshot."""

    progress: str = field(name="os-extended-snapshot-attributes:progress")
    project_id: str = field(name="os-extended-snapshot-attributes:project_id")


SNAPSHOT: Final = name_answer("snapshot", Snapshot)
SNAPSHOT_DETAIL: Final = name_answer("snapshot", SnapshotDetail)
SNAPSHOTS: Final = name_list("snapshots", Snapshot, count=int)
SNAPSHOT_DETAILS: Final = name_list("snapshots", SnapshotDetail, count=int)
