"""The JSON bodies that the block storage API takes. Every key may be null, as the command line sends them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

Text = Annotated[str, msgspec.Meta(max_length=255)]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9_:. \-]+$")]
Metadata = dict[Key, Text]
Bool = bool | Text


class VolumeFields(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as it is asked for. What Kevel does not make volumes from is here to be refused by name."""

    size: int | str | None = None
    name: Text | None = None
    description: Text | None = None
    volume_type: Text | None = None
    metadata: Metadata | None = None
    availability_zone: Text | None = None
    multiattach: Bool | None = None
    snapshot_id: Text | None = None
    source_volid: Text | None = None
    image_ref: Text | None = msgspec.field(default=None, name="imageRef")
    image_id: Text | None = None
    backup_id: Text | None = None
    group_id: Text | None = None
    consistencygroup_id: Text | None = None


class KnownVolumeFields(VolumeFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same without other keys (from 3.53)."""


class CreateVolume(msgspec.Struct, frozen=True, kw_only=True):
    """POST /volumes until 3.52."""

    volume: VolumeFields
    scheduler_hints: dict[str, Any] | None = msgspec.field(default=None, name="OS-SCH-HNT:scheduler_hints")


class CreateKnownVolume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /volumes from 3.53."""

    volume: KnownVolumeFields
    scheduler_hints: dict[str, Any] | None = msgspec.field(default=None, name="OS-SCH-HNT:scheduler_hints")


class NameChanges(msgspec.Struct, frozen=True, kw_only=True):
    """How a volume or a snapshot is called from now on."""

    name: Text | msgspec.UnsetType | None = msgspec.UNSET
    description: Text | msgspec.UnsetType | None = msgspec.UNSET
    #: Older words for the same.
    display_name: Text | msgspec.UnsetType | None = msgspec.UNSET
    display_description: Text | msgspec.UnsetType | None = msgspec.UNSET


class VolumeChanges(NameChanges, frozen=True, kw_only=True):
    """What PUT may change."""

    metadata: Metadata | msgspec.UnsetType | None = msgspec.UNSET


class KnownVolumeChanges(VolumeChanges, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same without other keys (from 3.53)."""


class UpdateVolume(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /volumes/{id} until 3.52."""

    volume: VolumeChanges


class UpdateKnownVolume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /volumes/{id} from 3.53."""

    volume: KnownVolumeChanges


class PutMetadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST and PUT /volumes/{id}/metadata."""

    metadata: Metadata


class PutMetadataItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /volumes/{id}/metadata/{key}: one item, of that key."""

    meta: Metadata


class Status(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A status."""

    status: Text


class NewSize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A size in GiB."""

    new_size: int | str


class Extend(msgspec.Struct, frozen=True, kw_only=True):
    """os-extend."""

    extend: NewSize = msgspec.field(name="os-extend")


class HowExtended(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether it failed."""

    error: Bool | None = None


class CompleteExtend(msgspec.Struct, frozen=True, kw_only=True):
    """os-extend_volume_completion."""

    completion: HowExtended = msgspec.field(name="os-extend_volume_completion")


class Bootable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A flag."""

    bootable: Bool


class SetBootable(msgspec.Struct, frozen=True, kw_only=True):
    """os-set_bootable."""

    flag: Bootable = msgspec.field(name="os-set_bootable")


class Readonly(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A flag."""

    readonly: Bool


class SetReadonly(msgspec.Struct, frozen=True, kw_only=True):
    """os-update_readonly_flag."""

    flag: Readonly = msgspec.field(name="os-update_readonly_flag")


class Statuses(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At least one of them."""

    status: Text | None = None
    attach_status: Text | None = None
    migration_status: Text | None = None


class ResetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """os-reset_status."""

    reset: Statuses = msgspec.field(name="os-reset_status")
