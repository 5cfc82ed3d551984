"""What actions on contents take and answer."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType

from kevel.api.answers import Answer, name_answer
from kevel.api.volume.bodies import Bool, PutMetadata, Text


class RevertTo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A snapshot."""

    snapshot_id: Text


class Revert(msgspec.Struct, frozen=True, kw_only=True):
    """revert."""

    revert: RevertTo


class ReimageWith(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An image."""

    image_id: Text
    reimage_reserved: Bool | None = None


class Reimage(msgspec.Struct, frozen=True, kw_only=True):
    """os-reimage."""

    reimage: ReimageWith = msgspec.field(name="os-reimage")


class UploadAs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The image that is made of a volume."""

    image_name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    force: Bool | None = None
    disk_format: Text | None = None
    container_format: Text | None = None


class UploadAsV31(UploadAs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same, with who may see it and whether it may be deleted (from 3.1)."""

    visibility: Text | None = None
    protected: Bool | None = None


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """os-volume_upload_image."""

    upload: UploadAs = msgspec.field(name="os-volume_upload_image")


class UploadV31(msgspec.Struct, frozen=True, kw_only=True):
    """os-volume_upload_image from 3.1."""

    upload: UploadAsV31 = msgspec.field(name="os-volume_upload_image")


class SetImageMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """os-set_image_metadata."""

    wanted: PutMetadata = msgspec.field(name="os-set_image_metadata")


class ImageMetadataKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key of an item."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class UnsetImageMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """os-unset_image_metadata."""

    unwanted: ImageMetadataKey = msgspec.field(name="os-unset_image_metadata")


class UploadedType(Answer, kw_only=True):
    """The type of a volume that is written out, as Cinder shows it there."""

    id: str
    name: str
    description: str | None
    is_public: bool
    extra_specs: dict[str, str]


class UploadReply(Answer, kw_only=True):
    """A volume that is written out as an image."""

    id: str
    updated_at: str | None
    status: str
    display_description: str | None
    size: int
    volume_type: UploadedType | None
    image_id: str
    container_format: str
    disk_format: str
    image_name: str
    visibility: str | UnsetType = UNSET
    protected: bool | UnsetType = UNSET


UPLOAD: Final = name_answer("os-volume_upload_image", UploadReply)
