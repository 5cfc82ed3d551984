"""How an image looks in answers, and the JSON schemas that describe it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from kevel.domain.images import (
    NUMBER_MAX,
    PROPERTY_CHARS_MAX,
    TAG_CHARS_MAX,
    ContainerFormat,
    DiskFormat,
    Image,
    ImageStatus,
    Visibility,
)


def show_time(at_us: int) -> str:
    """Microseconds since the epoch as the image API writes a time, in whole seconds."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def show_image(image: Image) -> dict[str, Any]:
    """The image as an answer; custom properties stand beside its attributes."""
    path = f"/v2/images/{image.id}"
    return {
        **image.properties,
        "id": image.id,
        "name": image.name,
        "status": image.status.value,
        "visibility": image.visibility.value,
        "owner": image.project_id,
        "disk_format": None if image.disk_format is None else image.disk_format.value,
        "container_format": None if image.container_format is None else image.container_format.value,
        "size": image.size_bytes,
        "virtual_size": image.virtual_bytes,
        "checksum": image.md5,
        "os_hash_algo": None if image.sha512 is None else "sha512",
        "os_hash_value": image.sha512,
        "min_disk": image.min_disk_gib,
        "min_ram": image.min_ram_mib,
        "protected": image.protected,
        "os_hidden": image.hidden,
        "tags": list(image.tags),
        "created_at": show_time(image.created_at),
        "updated_at": show_time(image.updated_at),
        "self": path,
        "file": f"{path}/file",
        "schema": "/v2/schemas/image",
    }


def _text(
    words: str, *, nullable: bool = False, read_only: bool = False, chars_max: int | None = None
) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": ["null", "string"] if nullable else "string", "description": words}
    return schema | _limits(read_only, "maxLength", chars_max)


def _number(words: str, *, nullable: bool = False, read_only: bool = False, most: int | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": ["null", "integer"] if nullable else "integer",
        "description": words,
        "minimum": 0,
    }
    return schema | _limits(read_only, "maximum", most)


def _limits(read_only: bool, name: str, value: int | None) -> dict[str, Any]:
    return ({"readOnly": True} if read_only else {}) | ({} if value is None else {name: value})


#: The JSON schema of one image.
IMAGE_SCHEMA: Final[dict[str, Any]] = {
    "name": "image",
    "properties": {
        "id": _text("Its id, a uuid; may be chosen when it is created") | {"pattern": "^[0-9a-f-]{36}$"},
        "name": _text("A name for people", nullable=True, chars_max=255),
        "status": _text("How far its bytes are", read_only=True)
        | {"enum": [status.value for status in ImageStatus if status is not ImageStatus.DELETED]},
        "visibility": _text("Who sees it besides its owner") | {"enum": [one.value for one in Visibility]},
        "owner": _text("The project that owns it", chars_max=255),
        "disk_format": _text("What its bytes are", nullable=True)
        | {"enum": [None, *(one.value for one in DiskFormat)]},
        "container_format": _text("What its bytes are packed in", nullable=True)
        | {"enum": [None, *(one.value for one in ContainerFormat)]},
        "size": _number("Size of its bytes", nullable=True, read_only=True),
        "virtual_size": _number("Size of the disk that a guest sees, in bytes", nullable=True, read_only=True),
        "checksum": _text("MD5 of its bytes, to find damage", nullable=True, read_only=True),
        "os_hash_algo": _text("Name of the secure hash of its bytes", nullable=True, read_only=True),
        "os_hash_value": _text("Secure hash of its bytes", nullable=True, read_only=True),
        "min_disk": _number("Disk that a server needs, in GiB", most=NUMBER_MAX),
        "min_ram": _number("Memory that a server needs, in MiB", most=NUMBER_MAX),
        "protected": {"type": "boolean", "description": "It cannot be deleted"},
        "os_hidden": {"type": "boolean", "description": "Lists leave it out by default"},
        "tags": {
            "type": "array",
            "description": "Words to find it by",
            "items": {"type": "string", "minLength": 1, "maxLength": TAG_CHARS_MAX},
        },
        "created_at": _text("When it was created, UTC", read_only=True),
        "updated_at": _text("When it was last changed, UTC", read_only=True),
        "self": _text("Its own address", read_only=True),
        "file": _text("Where its bytes are", read_only=True),
        "schema": _text("Where this schema is", read_only=True),
    },
    "additionalProperties": {"type": "string", "maxLength": PROPERTY_CHARS_MAX},
    "links": [
        {"rel": "self", "href": "{self}"},
        {"rel": "enclosure", "href": "{file}"},
        {"rel": "describedby", "href": "{schema}"},
    ],
}

#: The JSON schema of a list of images.
IMAGES_SCHEMA: Final[dict[str, Any]] = {
    "name": "images",
    "properties": {
        "images": {"type": "array", "items": IMAGE_SCHEMA},
        "first": {"type": "string"},
        "next": {"type": "string"},
        "schema": {"type": "string"},
    },
    "links": [
        {"rel": "first", "href": "{first}"},
        {"rel": "next", "href": "{next}"},
        {"rel": "describedby", "href": "{schema}"},
    ],
}
