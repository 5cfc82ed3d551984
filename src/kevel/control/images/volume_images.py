"""Where volumes meet images: what a volume is made from, what is known of it, and images made of volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kevel.domain.errors import Invalid, NotFound, OverLimit
from kevel.domain.images import (
    ATTRIBUTES_OF_IMAGES,
    ContainerFormat,
    DiskFormat,
    Image,
    ImageStatus,
    Visibility,
    may_see,
)
from kevel.domain.model import GIB, Actor, Volume
from kevel.domain.qcow2 import parse_qcow2
from kevel.storage.image_files import WrittenBytes
from kevel.store import images as rows
from kevel.store.transactions import Tx

#: Items of what is known of the image in a volume.
IMAGE_METADATA_MAX: Final = 128
#: Disk formats that volumes are made from and written as, and what they are to a back end.
_FORMATS: Final = {DiskFormat.RAW: "raw", DiskFormat.AMI: "raw", DiskFormat.QCOW2: "qcow2"}


class ImageSource(msgspec.Struct, frozen=True, kw_only=True):
    """An image that a volume can be made from."""

    #: Relative to the data directory.
    file: str
    format: str
    #: What a guest sees of it.
    size_bytes: int
    #: What is known of the image, in Cinder's words.
    metadata: dict[str, str]


class NewImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image as it is asked for when a volume is written out."""

    name: str
    disk_format: str = "raw"
    container_format: str = "bare"
    visibility: str = "private"
    protected: bool = False


def find_image_source(tx: Tx, actor: Actor, image_id: str, size_gib: int) -> ImageSource:
    """The image that a volume of that size is made from. Raises Invalid when none can be."""
    image = rows.load_image(tx, image_id)
    if image is None or not may_see(actor, image):
        raise Invalid(f"Invalid image identifier or unable to access requested image: {image_id[:64]}.")
    if image.status is not ImageStatus.ACTIVE:
        raise Invalid(f"Invalid input received: image {image.id} is {image.status.value}; it has to be active.")
    image_format = None if image.disk_format is None else _FORMATS.get(image.disk_format)
    if image_format is None or image.file is None or image.virtual_bytes is None:
        raise Invalid(f"Invalid input received: image {image.id} is no disk; no volume can be made from it.")
    if image.virtual_bytes > size_gib * GIB:
        raise Invalid(
            f"Invalid input received: image {image.id} needs {-(-image.virtual_bytes // GIB)} GiB; a volume of "
            f"{size_gib} GiB is too small for it."
        )
    if image.min_disk_gib > size_gib:
        raise Invalid(
            f"Invalid input received: volume size {size_gib}GB cannot be smaller than the image minDisk size "
            f"{image.min_disk_gib}GB."
        )
    return ImageSource(
        file=image.file, format=image_format, size_bytes=image.virtual_bytes, metadata=_describe_image(image)
    )


def _describe_image(image: Image) -> dict[str, str]:
    known = {
        "image_id": image.id,
        "image_name": image.name or "",
        "checksum": image.md5 or "",
        "container_format": "" if image.container_format is None else image.container_format.value,
        "disk_format": "" if image.disk_format is None else image.disk_format.value,
        "min_disk": str(image.min_disk_gib),
        "min_ram": str(image.min_ram_mib),
        "size": str(image.size_bytes),
    }
    return {key: value[:255] for key, value in (image.properties | known).items()}


def change_image_metadata(known: Mapping[str, str] | None, items: Mapping[str, str]) -> dict[str, str]:
    """What is known of the image, with items set. Raises OverLimit."""
    merged = dict(known or {}) | dict(items)
    if len(merged) > IMAGE_METADATA_MAX:
        raise OverLimit(f"A volume can have {IMAGE_METADATA_MAX} items of image metadata; these are {len(merged)}.")
    return merged


def remove_image_metadata(volume: Volume, key: str) -> dict[str, str]:
    """What is known of the image, without an item. Raises NotFound."""
    known = dict(volume.image_metadata or {})
    if key not in known:
        raise NotFound(f"Volume {volume.id} has no image metadata with key {key[:255]}.")
    del known[key]
    return known


def enter_image(
    tx: Tx, actor: Actor, volume: Volume, new: NewImage, *, image_id: str, file: str, images_max: int, at: int
) -> Image:
    """Enter the image that the volume is written out as; its file is named before it is made (S2)."""
    try:
        disk_format, visibility = DiskFormat(new.disk_format), Visibility(new.visibility)
    except ValueError as error:
        formats, words = ", ".join(one.value for one in _FORMATS), ", ".join(one.value for one in Visibility)
        raise Invalid(
            f"Invalid input received: disk_format has to be one of {formats}, and visibility one of {words}."
        ) from error
    if disk_format not in (DiskFormat.RAW, DiskFormat.QCOW2) or new.container_format != "bare":
        raise Invalid("Invalid input received: a volume is written out as raw or qcow2, in the container bare.")
    if visibility is Visibility.PUBLIC and not actor.is_admin:
        raise Invalid("Invalid input received: only an admin may make an image public.")
    if rows.count_images(tx, actor.project_id) >= images_max:
        raise OverLimit(f"The project has {images_max} images already, which is the most.")
    known = volume.image_metadata or {}
    image = Image(
        id=image_id,
        name=new.name,
        project_id=actor.project_id,
        status=ImageStatus.SAVING,
        visibility=visibility,
        disk_format=disk_format,
        container_format=ContainerFormat.BARE,
        size_bytes=None,
        virtual_bytes=None,
        md5=None,
        sha512=None,
        min_disk_gib=_number(known.get("min_disk")),
        min_ram_mib=_number(known.get("min_ram")),
        protected=new.protected,
        hidden=False,
        properties={key: value for key, value in known.items() if key not in ATTRIBUTES_OF_IMAGES},
        tags=(),
        file=file,
        created_at=at,
        updated_at=at,
    )
    rows.insert_image(tx, image)
    return image


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() and len(text) < 9 else 0


def fill_image(tx: Tx, image_id: str, file: str, written: WrittenBytes, at: int) -> bool:
    """The image has its bytes. False: somebody has deleted it meanwhile."""
    image = rows.load_image(tx, image_id)
    if image is None or image.status is not ImageStatus.SAVING or image.file != file:
        return False
    virtual_bytes = written.size_bytes
    if image.disk_format is DiskFormat.QCOW2:
        virtual_bytes = parse_qcow2(written.head, written.size_bytes).virtual_bytes
    filled = msgspec.structs.replace(
        image,
        status=ImageStatus.ACTIVE,
        size_bytes=written.size_bytes,
        virtual_bytes=virtual_bytes,
        md5=written.md5,
        sha512=written.sha512,
        updated_at=at,
    )
    rows.update_image(tx, filled)
    return True


def drop_image(tx: Tx, image_id: str, file: str, at: int) -> None:
    """The image could not be written: nothing is left of it but a tombstone."""
    image = rows.load_image(tx, image_id)
    if image is not None and image.status is ImageStatus.SAVING and image.file == file:
        rows.update_image(tx, msgspec.structs.replace(image, status=ImageStatus.DELETED, updated_at=at))
