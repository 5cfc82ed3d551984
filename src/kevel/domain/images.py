"""Images: their formats, who may see them, and what their users may set."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from kevel.domain.errors import Forbidden, Invalid, OverLimit
from kevel.domain.model import Actor

#: What a volume keeps of its image, by Cinder's names, besides the image's properties.
ATTRIBUTES_OF_IMAGES: Final = frozenset(
    ["image_id", "image_name", "checksum", "container_format", "disk_format", "min_disk", "min_ram", "size"]
)
#: The property by which an image defines the block devices of its servers.
MAPPING: Final = "block_device_mapping"
PROPERTIES_MAX: Final = 128
PROPERTY_NAME_CHARS_MAX: Final = 255
PROPERTY_CHARS_MAX: Final = 4096
TAGS_MAX: Final = 128
TAG_CHARS_MAX: Final = 255
NUMBER_MAX: Final = 2**31 - 1


class ImageStatus(enum.Enum):
    """How far an image's bytes are."""

    #: The record exists and waits for its bytes.
    QUEUED = "queued"
    #: An upload is under way.
    SAVING = "saving"
    ACTIVE = "active"
    #: Complete, and nobody may read or use its bytes until it is active again.
    DEACTIVATED = "deactivated"
    #: A tombstone: nobody sees it, and its id is never used again.
    DELETED = "deleted"


class Visibility(enum.Enum):
    """Who sees an image besides its owner."""

    #: Everybody.
    PUBLIC = "public"
    #: Nobody.
    PRIVATE = "private"
    #: The members it was shared with: Kevel has no members, so nobody.
    SHARED = "shared"
    #: Everybody who asks for it by id or for community images; in nobody's list by default.
    COMMUNITY = "community"


class DiskFormat(enum.Enum):
    """What the uploader declares the bytes to be (S15). `ami` is a raw disk, `aki` a kernel, `ari` a ramdisk."""

    RAW = "raw"
    QCOW2 = "qcow2"
    AMI = "ami"
    AKI = "aki"
    ARI = "ari"


class ContainerFormat(enum.Enum):
    """What the bytes are packed in. The three others belong to the disk formats of the same names."""

    BARE = "bare"
    AMI = "ami"
    AKI = "aki"
    ARI = "ari"


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image's row. Times are microseconds since the epoch, UTC."""

    id: str
    name: str | None
    #: The owner.
    project_id: str
    status: ImageStatus
    visibility: Visibility
    disk_format: DiskFormat | None
    container_format: ContainerFormat | None
    size_bytes: int | None
    #: Size of the disk that a guest sees; None for kernels and ramdisks, and until the bytes are there.
    virtual_bytes: int | None
    md5: str | None
    sha512: str | None
    min_disk_gib: int
    min_ram_mib: int
    protected: bool
    hidden: bool
    properties: dict[str, str]
    #: Sorted, each once.
    tags: tuple[str, ...]
    file: str | None
    created_at: int
    updated_at: int


class ImageForServer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server is made of. Files are relative to the data directory."""

    id: str
    name: str | None
    #: "raw" or "qcow2": to be passed on, never probed (S15).
    disk_format: str
    #: None: the root disk is a volume.
    file: str | None
    #: Bytes.
    size: int
    #: Bytes of the disk that a guest sees.
    virtual_size: int
    min_disk_gib: int
    min_ram_mib: int
    kernel_file: str | None
    ramdisk_file: str | None
    properties: dict[str, str]
    #: The bus that was asked for the root disk, and so for all of the server's volumes; None: as the properties say.
    disk_bus: str | None = None


def may_see(actor: Actor, image: Image) -> bool:
    """May the actor see and boot the image?"""
    return may_change(actor, image) or image.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY)


def may_change(actor: Actor, image: Image) -> bool:
    """May the actor change, fill and delete the image?"""
    return actor.is_admin or image.project_id == actor.project_id


class Attribute(NamedTuple):
    """An attribute that users may set: the field behind it, its type, and what it may be, in words."""

    field: str
    kind: Any
    words: str


def _names(words: type[enum.Enum]) -> str:
    *head, last = (repr(word.value) for word in words)
    return f"{', '.join(head)} or {last}"


_NUMBER = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
_TAGS = list[Annotated[str, msgspec.Meta(min_length=1, max_length=TAG_CHARS_MAX)]]

#: Every attribute that users may set, by Glance's name for it. All others are read-only or custom properties.
ATTRIBUTES: Final[Mapping[str, Attribute]] = {
    "name": Attribute("name", Annotated[str, msgspec.Meta(max_length=255)] | None, "at most 255 characters, or null"),
    "visibility": Attribute("visibility", Visibility, _names(Visibility)),
    "disk_format": Attribute("disk_format", DiskFormat | None, f"{_names(DiskFormat)}, or null"),
    "container_format": Attribute("container_format", ContainerFormat | None, f"{_names(ContainerFormat)}, or null"),
    "min_disk": Attribute("min_disk_gib", _NUMBER, f"a whole number from 0 to {NUMBER_MAX}"),
    "min_ram": Attribute("min_ram_mib", _NUMBER, f"a whole number from 0 to {NUMBER_MAX}"),
    "protected": Attribute("protected", bool, "true or false"),
    "os_hidden": Attribute("hidden", bool, "true or false"),
    "tags": Attribute("tags", _TAGS, f"a list of texts of 1 to {TAG_CHARS_MAX} characters"),
    "owner": Attribute("project_id", Annotated[str, msgspec.Meta(min_length=1, max_length=255)], "a project's id"),
}

#: Attributes that only Kevel sets, and Glance's names for things that Kevel does not have.
READ_ONLY: Final = frozenset(
    [
        *("id", "status", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value"),
        *("created_at", "updated_at", "self", "file", "schema", "first", "next"),
        *("direct_url", "location", "locations", "stores", "links"),
    ]
)


def set_attribute(actor: Actor, image: Image, name: str, value: object) -> Image:
    """The image with one attribute or custom property set. Raises Invalid, Forbidden or OverLimit."""
    if name in READ_ONLY:
        raise Forbidden(f"Attribute '{name}' is read-only.")
    attribute = ATTRIBUTES.get(name)
    if attribute is None:
        return _set_property(image, name, value)
    try:
        wanted = msgspec.convert(value, attribute.kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"{name} has to be {attribute.words}.") from error
    if (check := _CHECKS.get(name)) is not None:
        wanted = check(actor, image, wanted)
    return msgspec.structs.replace(image, **{attribute.field: wanted})


def check_new_properties(properties: Mapping[str, str]) -> None:
    """Raise Invalid for properties that no image may have."""
    if len(properties) > PROPERTIES_MAX:
        raise Invalid(f"An image has at most {PROPERTIES_MAX} properties.")
    for name, value in properties.items():
        if not 0 < len(name) <= PROPERTY_NAME_CHARS_MAX or len(value) > PROPERTY_CHARS_MAX:
            raise Invalid(f"The property {name[:64]!r} is too long: {PROPERTY_NAME_CHARS_MAX} characters for its name.")


def remove_property(image: Image, name: str) -> Image:
    """The image without a custom property that it has. Raises Forbidden for an attribute that every image has."""
    if name in ATTRIBUTES or name in READ_ONLY:
        raise Forbidden(f"Attribute '{name}' cannot be removed.")
    rest = {key: value for key, value in image.properties.items() if key != name}
    return msgspec.structs.replace(image, properties=rest)


def check_formats(image: Image) -> None:
    """Raise Invalid when disk and container format contradict each other."""
    disk, container = image.disk_format, image.container_format
    if disk is None or container is None:
        return
    packed = disk.value if disk in (DiskFormat.AMI, DiskFormat.AKI, DiskFormat.ARI) else "bare"
    if container.value != packed:
        raise Invalid(
            f"The disk format {disk.value!r} goes with the container format {packed!r}, not with {container.value!r}."
        )


def _set_property(image: Image, name: str, value: object) -> Image:
    if not 0 < len(name) <= PROPERTY_NAME_CHARS_MAX:
        raise Invalid(f"The name of a property has to have 1 to {PROPERTY_NAME_CHARS_MAX} characters.")
    if not isinstance(value, str) or len(value) > PROPERTY_CHARS_MAX:
        raise Invalid(f"The property {name!r} has to be a text of at most {PROPERTY_CHARS_MAX} characters.")
    if name not in image.properties and len(image.properties) >= PROPERTIES_MAX:
        raise OverLimit(f"An image has at most {PROPERTIES_MAX} properties.")
    return msgspec.structs.replace(image, properties={**image.properties, name: value})


def _check_visibility(actor: Actor, image: Image, wanted: Visibility) -> Visibility:
    if wanted is Visibility.PUBLIC and image.visibility is not wanted and not actor.is_admin:
        raise Forbidden("Only an admin may make an image public.")
    return wanted


def _check_owner(actor: Actor, image: Image, wanted: str) -> str:
    if wanted != image.project_id and not actor.is_admin:
        raise Forbidden("Only an admin may give an image to another project.")
    return wanted


def _check_format(actor: Actor, image: Image, wanted: enum.Enum | None) -> enum.Enum | None:
    if image.status is not ImageStatus.QUEUED and wanted not in (image.disk_format, image.container_format):
        raise Forbidden("The format of an image can only be changed while it is queued.")
    return wanted


def _check_tags(actor: Actor, image: Image, wanted: list[str]) -> tuple[str, ...]:
    tags = tuple(sorted(set(wanted)))
    if len(tags) > TAGS_MAX:
        raise OverLimit(f"An image has at most {TAGS_MAX} tags.")
    return tags


#: What else holds for an attribute, beyond its type: raises, or returns the value to store.
_CHECKS: Final[Mapping[str, Callable[[Actor, Image, Any], Any]]] = {
    "visibility": _check_visibility,
    "owner": _check_owner,
    "disk_format": _check_format,
    "container_format": _check_format,
    "tags": _check_tags,
}
