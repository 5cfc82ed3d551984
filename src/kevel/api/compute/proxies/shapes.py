"""What the operations on volumes and snapshots of the compute API take and answer."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct, field

from kevel.api.answers import Answer, name_answer, name_list

Text = Annotated[str, Meta(max_length=255, pattern=r"^[^\x00]*\Z")]
Size = Annotated[int, Meta(ge=1, le=2**31 - 1)] | Annotated[str, Meta(pattern=r"^0{0,9}[1-9][0-9]{0,8}\Z")]
Force = bool | Annotated[str, Meta(max_length=8)]


class NewVolumeKeys(Struct, forbid_unknown_fields=True):
    """A volume to be made."""

    size: Size
    display_name: Text | None = None
    display_description: Text | None = None
    volume_type: Text | None = None
    metadata: dict[Text, Text] | None = None
    snapshot_id: Text | None = None
    availability_zone: Text | None = None


class VolumeBody(Struct, forbid_unknown_fields=True):
    """Body of POST /os-volumes."""

    volume: NewVolumeKeys


class NewSnapshotKeys(Struct, forbid_unknown_fields=True):
    """A snapshot to be taken."""

    volume_id: Text
    display_name: Text | None = None
    display_description: Text | None = None
    force: Force = False


class SnapshotBody(Struct, forbid_unknown_fields=True):
    """Body of POST /os-snapshots."""

    snapshot: NewSnapshotKeys


class Volume(Answer, kw_only=True):
    """A volume. Without an attachment, Nova shows one that is empty."""

    id: str
    status: str
    size: int
    availability_zone: str = field(name="availabilityZone")
    created_at: str | None = field(name="createdAt")
    attachments: list[dict[str, str]]
    display_name: str | None = field(name="displayName")
    display_description: str | None = field(name="displayDescription")
    volume_type: str | None = field(name="volumeType")
    snapshot_id: str | None = field(name="snapshotId")
    metadata: dict[str, Any]


class Snapshot(Answer, kw_only=True):
    """A snapshot."""

    id: str
    status: str
    size: int
    volume_id: str = field(name="volumeId")
    created_at: str | None = field(name="createdAt")
    display_name: str | None = field(name="displayName")
    display_description: str | None = field(name="displayDescription")


VOLUME: Final = name_answer("volume", Volume)
VOLUMES: Final = name_list("volumes", Volume)
SNAPSHOT: Final = name_answer("snapshot", Snapshot)
SNAPSHOTS: Final = name_list("snapshots", Snapshot)
