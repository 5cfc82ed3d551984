"""`block_device_mapping_v2` and Nova's older `block_device_mapping`: what a request says of a server's disks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from kevel.api.compute.image_disks import keep_undefined, read_image_items
from kevel.api.compute.shapes import UUID, read_bool, v
from kevel.api.operations import Call
from kevel.domain.devices import BUS_UNITS_MAX
from kevel.domain.errors import Invalid
from kevel.domain.server_disks import DISKS_MAX, DiskSource, NewDisk, check_boot_order, name_disk, refuse_disk

V2: Final = "block_device_mapping_v2"
V1: Final = "block_device_mapping"
_KEYS_V2: Final = frozenset(
    [
        *("source_type", "destination_type", "uuid", "volume_id", "snapshot_id", "image_id", "boot_index"),
        *("volume_size", "volume_type", "delete_on_termination", "device_name", "tag", "no_device"),
        *("disk_bus", "device_type", "guest_format", "connection_info"),
    ]
)
#: Buses that Nova knows; of which Kevel has those of BUS_UNITS_MAX, all volumes of a server on one.
_BUSES: Final = ("fdc", "ide", "sata", "scsi", "usb", "virtio", "xen", "lxc", "uml")
_DEVICE: Final = re.compile(r"[a-zA-Z0-9._/-]{1,255}")
_TAG: Final = re.compile(r"[^,/\x00-\x1f\x7f]{1,60}")
SIZE_GIB_MAX: Final = 2**31 - 1


class ServerDisks(NamedTuple):
    """What is said of a new server's disks."""

    #: Volumes.
    disks: tuple[NewDisk, ...]
    #: The bus that is asked for the root disk.
    root_bus: str | None


def read_disks(
    call: Call, sent: Mapping[str, Any], image_id: str, properties: Mapping[str, str] = MappingProxyType({})
) -> ServerDisks:
    """The volumes that a request, or its image, gives a new server. Raises Invalid; the message names the block device.

    `sent` is the request's server, `properties` are those of the image that it boots from. Without a volume of boot
    index 0 the image is the root disk, so there has to be one.
    """
    v1, v2 = sent.get(V1) or [], sent.get(V2) or []
    for name, items in ((V1, v1), (V2, v2)):
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise Invalid(f"Invalid input for server.{name}: it has to be a list of objects.")
        if len(items) > DISKS_MAX:
            raise Invalid(f"Invalid input for server.{name}: a server has at most {DISKS_MAX} of them.")
    if v1 and v2:
        raise Invalid("Using different block_device_mapping syntaxes is not allowed in the same request.")
    defined = read_image_items(properties)
    has_root = any(_is_root(item) for item in defined)
    if has_root:
        # Clients put the image itself in the first place of their list; what it defines is meant.
        v2 = [item for item in v2 if not (_is_root(item) and item.get("source_type") == DiskSource.IMAGE.value)]
    defined = keep_undefined(defined, v1 or v2)
    older = _read_v1(v1, has_root=bool(image_id) or has_root)
    needs_root = bool(sent.get(V2)) or not image_id
    disks = older + _read_v2(call, v2, defined, image_id, needs_root=needs_root and not v1)
    if not image_id and not any(disk.is_root for disk in disks):
        raise Invalid(
            "Invalid imageRef provided: a server needs an image, or a block device with boot_index 0 to boot from."
        )
    roots = (item for number, item in enumerate([*v2, *defined]) if _is_root(item) and not _is_none(number, item))
    return ServerDisks(disks, next((item.get("disk_bus") for item in roots), None))


def _is_root(item: dict[str, Any]) -> bool:
    return str(item.get("boot_index")) == "0"


def _read_v2(
    call: Call, items: list[dict[str, Any]], defined: list[dict[str, Any]], image_id: str, *, needs_root: bool
) -> tuple[NewDisk, ...]:
    """The volumes of a request's list, and behind them those that the image defines."""
    disks: list[NewDisk] = []
    boot_indexes: list[int] = []
    for of_image, (number, item) in [(False, one) for one in enumerate(items)] + [
        (True, one) for one in enumerate(defined)
    ]:
        if _is_none(number, item):
            continue  # it only takes away a device that the image defines
        disk, index = _read_item(None if of_image else call, number, item, image_id)
        if disk is not None:
            disks.append(disk)
        if index is not None:
            boot_indexes.append(index)
    if 0 not in boot_indexes and (items or defined):
        if needs_root and items:
            # Nova takes no list that leaves the root disk out, with an image or without.
            raise Invalid(
                "Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping "
                "combination is not valid: one block device has to have boot_index 0; the image itself can be given "
                "so, with source_type image and destination_type local."
            )
        boot_indexes.append(0)  # the image itself
    check_boot_order(boot_indexes)
    return tuple(disks)


def _read_item(
    call: Call | None, number: int, item: dict[str, Any], image_id: str
) -> tuple[NewDisk | None, int | None]:
    """The volume, if it is one and not the image's own root disk, and its place in the boot order.

    `call` is None for an item that the image defines, which no microversion bounds.
    """
    source, source_id, label = _read_source(name_disk(number, of_image=call is None), item)
    _check_keys(call, label, item)
    index = _read_index(label, item.get("boot_index"))
    target = item.get("destination_type") or _guess_target(source, index, source_id == image_id)
    if target == "local":
        if source is DiskSource.IMAGE and index == 0 and source_id == image_id:
            _check_local_root(label, item)
            return None, index
        raise refuse_disk(label, _why_not_local(source))
    if target != "volume":
        raise refuse_disk(label, f"destination_type has to be local or volume, not {str(target)[:64]!r}.")
    size_gib = _read_size(label, item.get("volume_size"))
    if size_gib is None and source in (DiskSource.IMAGE, DiskSource.BLANK):
        what = "Images with destination_type 'volume'" if source is DiskSource.IMAGE else "Blank volumes"
        raise refuse_disk(label, f"{what} need to have a non-zero size specified in volume_size.")
    type_ref = item.get("volume_type")
    if type_ref is not None and source is DiskSource.VOLUME:
        raise refuse_disk(label, "Specifying a volume_type with source_type=volume is not supported.")
    disk = NewDisk(
        number=number,
        of_image=call is None,
        source=source,
        source_id=source_id,
        boot_index=index,
        size_gib=None if source is DiskSource.VOLUME else size_gib,
        type_ref=type_ref,
        delete_on_termination=_read_flag(label, item, "delete_on_termination"),
        device=_read_device(label, item.get("device_name")),
        tag=item.get("tag"),
        bus=item.get("disk_bus"),
    )
    return disk, index


def _is_none(number: int, item: dict[str, Any]) -> bool:
    """Does the item only take away a device that an image defines?"""
    return _read_flag(f"block device {number}", item, "no_device")


def _read_flag(label: str, item: dict[str, Any], name: str) -> bool:
    """A boolean in any of Nova's spellings; null and a key that is not sent are false."""
    value = item.get(name)
    if value is None:
        return False
    if not isinstance(value, bool | int | str):
        raise refuse_disk(label, f"{name} has to be a boolean.")
    try:
        return read_bool(name, value)
    except Invalid as error:
        raise refuse_disk(label, error.message) from error


def _read_source(label: str, item: dict[str, Any]) -> tuple[DiskSource, str | None, str]:
    word = item.get("source_type")
    if word not in [source.value for source in DiskSource]:
        words = ", ".join(source.value for source in DiskSource)
        raise refuse_disk(label, f"Invalid source_type field: it has to be one of {words}.")
    source = DiskSource(word)
    source_id = item.get("uuid") or item.get(f"{source.value}_id")
    label = f"{label} ({source.value})"
    if source is DiskSource.BLANK:
        if source_id is not None:
            raise refuse_disk(label, "Invalid device UUID: a blank disk is made of nothing.")
        return source, None, label
    if source_id is None:
        raise refuse_disk(label, "Missing device UUID.")
    if not isinstance(source_id, str) or not UUID.fullmatch(source_id):
        raise refuse_disk(label, f"uuid {str(source_id)[:64]!r} is no {source.value}'s id.")
    return source, source_id, label


def _check_keys(call: Call | None, label: str, item: dict[str, Any]) -> None:
    for name in item:
        if name not in _KEYS_V2:
            raise refuse_disk(label, f"Additional properties are not allowed ({name[:64]!r} was unexpected).")
    # 2.32 brought tags, 2.33 lost them by a mistake, and 2.42 brought them back.
    if call is not None and "tag" in item and not (call.version == v(32) or call.version >= v(42)):
        raise refuse_disk(label, "Additional properties are not allowed ('tag' was unexpected; 2.42 has it).")
    if call is not None and "volume_type" in item and call.version < v(67):
        raise refuse_disk(label, "Additional properties are not allowed ('volume_type' was unexpected; 2.67 has it).")
    tag, type_ref = item.get("tag"), item.get("volume_type")
    if "tag" in item and (not isinstance(tag, str) or not _TAG.fullmatch(tag)):
        raise refuse_disk(label, "a tag has 1 to 60 characters, without commas, slashes and control characters.")
    if type_ref is not None and (not isinstance(type_ref, str) or not 0 < len(type_ref) <= 255):
        raise refuse_disk(label, "volume_type has to be a type's id or name.")
    _check_device_words(label, item)


def _check_device_words(label: str, item: dict[str, Any]) -> None:
    bus, kind, guest_format = item.get("disk_bus"), item.get("device_type"), item.get("guest_format")
    if bus is not None and bus not in _BUSES:
        raise refuse_disk(label, f"disk_bus has to be one of {', '.join(_BUSES)}, not {str(bus)[:64]!r}.")
    if bus is not None and bus not in BUS_UNITS_MAX:
        raise refuse_disk(label, f"disk_bus {bus} is not supported by this Kevel; it has {', '.join(BUS_UNITS_MAX)}.")
    if kind not in (None, "", "disk"):
        raise refuse_disk(label, f"device_type {str(kind)[:64]!r} is not supported by this Kevel: volumes are disks.")
    if guest_format not in (None, ""):
        raise refuse_disk(label, "guest_format is for disks that a host formats; this Kevel makes none.")


def _read_index(label: str, given: object) -> int | None:
    """A place in the boot order; None for "never", which Nova's clients write as null or a negative number."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | str) or not re.fullmatch(r"-?[0-9]{1,4}", str(given)):
        raise refuse_disk(label, f"boot_index has to be a number, not {str(given)[:64]!r}.")
    return None if int(given) < 0 else int(given)


def _read_size(label: str, given: object) -> int | None:
    if given is None or given == "":
        return None
    text = "" if isinstance(given, bool) else str(given)
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 0 < int(text) <= SIZE_GIB_MAX:
        raise refuse_disk(label, f"volume_size has to be a whole number of GiB from 1 up, not {str(given)[:64]!r}.")
    return int(text)


def _read_device(label: str, given: object) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str) or not _DEVICE.fullmatch(given):
        raise refuse_disk(label, f"device_name {str(given)[:64]!r} is invalid; it has to look like /dev/vdb.")
    return given if given.startswith("/dev/") else f"/dev/{given}"


def _guess_target(source: DiskSource, index: int | None, is_the_image: bool) -> str:
    """Where a disk goes when the request does not say."""
    if source is DiskSource.BLANK or (source is DiskSource.IMAGE and index == 0 and is_the_image):
        return "local"
    return "volume"


def _why_not_local(source: DiskSource) -> str:
    if source is DiskSource.IMAGE:
        return "Mapping image to local is not supported, except for imageRef itself with boot_index 0."
    if source is DiskSource.BLANK:
        return "flavors of this Kevel have no ephemeral and no swap disks; use destination_type volume."
    return f"a {source.value} can only be mapped with destination_type volume."


def _check_local_root(label: str, item: dict[str, Any]) -> None:
    """The `openstack` command always describes the root disk made of the image; nothing of it can be chosen."""
    for name, value in item.items():
        chosen = name in ("volume_size", "volume_type", "tag", "device_name") and value not in (None, "")
        if chosen:
            raise refuse_disk(
                label, f"{name}={str(value)[:64]!r} is not supported for the root disk made of the image."
            )
    if item.get("delete_on_termination") is not None and not _read_flag(label, item, "delete_on_termination"):
        raise refuse_disk(label, "a root disk on the host always goes with its server: delete_on_termination is true.")


def _read_v1(items: list[dict[str, Any]], *, has_root: bool) -> tuple[NewDisk, ...]:
    """Nova's older form: volumes and snapshots by device name; without another, the first one is the root disk."""
    disks: list[NewDisk] = []
    for number, item in enumerate(items):
        if _is_none(number, item):
            continue
        source = DiskSource.VOLUME if item.get("volume_id") else DiskSource.SNAPSHOT
        label = f"block device {number} ({source.value})"
        source_id = item.get(f"{source.value}_id")
        if item.get("virtual_name"):
            raise refuse_disk(label, _why_not_local(DiskSource.BLANK))
        if not isinstance(source_id, str) or not UUID.fullmatch(source_id):
            raise refuse_disk(label, "it has to have a volume_id or a snapshot_id.")
        size_gib = _read_size(label, item.get("volume_size"))
        disks.append(
            NewDisk(
                number=number,
                source=source,
                source_id=source_id,
                boot_index=None if has_root or disks else 0,
                size_gib=None if source is DiskSource.VOLUME else size_gib,
                delete_on_termination=_read_flag(label, item, "delete_on_termination"),
                device=_read_device(label, item.get("device_name")),
            )
        )
    return tuple(disks)
