"""The types of the block storage API's answers."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import UNSET, UnsetType, field

from kevel.api.answers import Answer, Link, name_answer, name_list

MigrationStatus = Literal["migrating", "success", "error"]
AttachmentStatus = Literal["reserved", "attaching", "attached", "detaching", "detached"]


class VolumeSummary(Answer, kw_only=True):
    """A line of the short list."""

    id: str
    name: str
    links: list[Link]


class VolumeAttachment(Answer, kw_only=True):
    """An attachment inside its volume."""

    id: str
    attachment_id: str
    volume_id: str
    server_id: str | None
    host_name: str | None
    device: str | None
    attached_at: str | None


class Volume(Answer, kw_only=True):
    """A volume. What is UNSET came with a microversion, or is for admins."""

    id: str
    status: str
    size: int
    availability_zone: str
    created_at: str
    updated_at: str | None
    name: str
    description: str | None
    volume_type: str | None
    snapshot_id: str | None
    source_volid: str | None
    metadata: dict[str, str]
    links: list[Link]
    user_id: str
    bootable: Literal["true", "false"]
    encrypted: bool
    replication_status: None
    consistencygroup_id: None
    multiattach: bool
    attachments: list[VolumeAttachment]
    tenant_id: str | UnsetType = field(name="os-vol-tenant-attr:tenant_id", default=UNSET)
    group_id: str | UnsetType | None = UNSET
    provider_id: UnsetType | None = UNSET
    shared_targets: bool | UnsetType = UNSET
    service_uuid: UnsetType | None = UNSET
    cluster_name: UnsetType | None = UNSET
    consumes_quota: bool | UnsetType = UNSET
    volume_type_id: str | UnsetType | None = UNSET
    encryption_key_id: str | UnsetType = UNSET
    volume_image_metadata: dict[str, str] | UnsetType = UNSET
    migration_status: MigrationStatus | UnsetType | None = UNSET
    host: str | UnsetType | None = field(name="os-vol-host-attr:host", default=UNSET)
    migstat: MigrationStatus | UnsetType | None = field(name="os-vol-mig-status-attr:migstat", default=UNSET)
    name_id: UnsetType | None = field(name="os-vol-mig-status-attr:name_id", default=UNSET)


class Summary(Answer, kw_only=True):
    """Number and size of all volumes."""

    total_count: int
    total_size: int
    metadata: dict[str, list[str]] | UnsetType = UNSET


class AttachmentSummary(Answer, kw_only=True):
    """A line of the short list."""

    id: str
    status: AttachmentStatus
    instance: str | None
    volume_id: str


class Attachment(AttachmentSummary, kw_only=True):
    """One attachment."""

    attached_at: str
    detached_at: str
    attach_mode: Literal["ro", "rw", "null"]
    connection_info: dict[str, Any]


class Message(Answer, kw_only=True):
    """Why an accepted request failed."""

    id: str
    event_id: str
    user_message: str
    message_level: Literal["ERROR"]
    created_at: str
    guaranteed_until: str
    request_id: str
    resource_type: str
    resource_uuid: str
    links: list[Link]


class State(Answer, kw_only=True):
    """Is it usable?"""

    available: bool


class Zone(Answer, kw_only=True):
    """An availability zone."""

    zone_name: str = field(name="zoneName")
    zone_state: State = field(name="zoneState")


class Version(Answer, kw_only=True):
    """A version of the API."""

    id: str
    status: str
    version: str
    min_version: str
    updated: str
    links: list[Link]
    media_types: list[dict[str, str]] = field(name="media-types")


class EncryptionKey(Answer, kw_only=True):
    """How a volume is encrypted; of one that is not, only that it has no key."""

    encryption_key_id: str | None
    provider: str | UnsetType = UNSET
    cipher: str | UnsetType | None = UNSET
    key_size: int | UnsetType | None = UNSET
    control_location: str | UnsetType = UNSET


VERSIONS: Final = name_answer("versions", list[Version])
ZONES: Final = name_answer("availabilityZoneInfo", list[Zone])
VOLUMES: Final = name_list("volumes", VolumeSummary, count=int)
VOLUME_DETAILS: Final = name_list("volumes", Volume, count=int)
VOLUME: Final = name_answer("volume", Volume)
SUMMARY: Final = name_answer("volume-summary", Summary)
METADATA: Final = name_answer("metadata", dict[str, str])
META: Final = name_answer("meta", dict[str, str])
ATTACHMENTS: Final = name_list("attachments", AttachmentSummary)
ATTACHMENT_DETAILS: Final = name_list("attachments", Attachment)
ATTACHMENT: Final = name_answer("attachment", Attachment)
CONNECTION: Final = name_answer("connection_info", dict[str, Any])
MESSAGES: Final = name_list("messages", Message)
MESSAGE: Final = name_answer("message", Message)
