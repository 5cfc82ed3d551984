"""What managing takes and answers."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from kevel.api.answers import Answer, name_answer, name_list
from kevel.api.volume.bodies import Bool, Metadata, Text
from kevel.api.volume.snapshots.shapes import Snapshot


class VolumeFields(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a pool, and the volume that it is to be."""

    ref: dict[str, Any]
    host: Text | None = None
    name: Text | None = None
    description: Text | None = None
    volume_type: Text | None = None
    metadata: Metadata | None = None
    availability_zone: Text | None = None
    bootable: Bool | None = None


class ManageVolume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /os-volume-manage and /manageable_volumes."""

    volume: VolumeFields


class SnapshotFields(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a volume's pool, and the snapshot that it is to be."""

    ref: dict[str, Any]
    volume_id: Text
    name: Text | None = None
    description: Text | None = None
    metadata: Metadata | None = None


class ManageSnapshot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /os-snapshot-manage and /manageable_snapshots."""

    snapshot: SnapshotFields


class ManageableVolume(Answer, kw_only=True):
    """Something in a pool. What is UNSET stands in the detailed list."""

    reference: dict[str, str]
    size: int
    safe_to_manage: bool
    reason_not_safe: str | UnsetType | None = UNSET
    cinder_id: str | UnsetType | None = UNSET
    extra_info: UnsetType | None = UNSET


class ManageableSnapshot(ManageableVolume, kw_only=True):
    """The same, with what it is a snapshot of."""

    source_reference: dict[str, str]


MANAGED_SNAPSHOT: Final = name_answer("snapshot", Snapshot)
VOLUMES: Final = name_list("manageable-volumes", ManageableVolume)
SNAPSHOTS: Final = name_list("manageable-snapshots", ManageableSnapshot)
