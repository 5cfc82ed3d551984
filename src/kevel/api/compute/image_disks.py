"""The block devices that an image defines by its properties `block_device_mapping` and `bdm_v2`, as createImage does.

A server that is made of the image has them as if its request had named them, except those whose device name the request
uses itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from kevel.domain.errors import Invalid
from kevel.domain.images import MAPPING
from kevel.domain.server_disks import DISKS_MAX

#: Nova's default for the root device of an image that defines its devices in the older form.
_ROOT_DEVICE: Final = "vda"
_TRUE: Final = ("1", "t", "true", "on", "y", "yes")


def read_image_items(properties: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the image defines, as items of a request's block_device_mapping_v2. Raises Invalid for what is none."""
    text = properties.get(MAPPING)
    if not text:
        return []
    try:
        items = msgspec.json.decode(text, type=list[dict[str, Any]])
    except msgspec.DecodeError as error:
        raise Invalid(f"The image's property {MAPPING} has to be a list of objects, as JSON.") from error
    if len(items) > DISKS_MAX:
        raise Invalid(f"The image's property {MAPPING} has more than {DISKS_MAX} block devices.")
    if properties.get("bdm_v2", "").lower() not in _TRUE:
        root = strip_device(properties.get("root_device_name")) or _ROOT_DEVICE
        items = [_modernize(item, root) for item in items]
    # Whoever wrote it wrote down all keys, those without a value too.
    return [{key: value for key, value in item.items() if value is not None} for item in items]


def keep_undefined(items: Sequence[dict[str, Any]], asked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The image's items whose device names those of the request do not have."""
    names = {strip_device(item.get("device_name")) for item in asked} - {""}
    return [item for item in items if strip_device(item.get("device_name")) not in names]


def strip_device(name: object) -> str:
    """The name of a device without its directory; "" for none."""
    return name.removeprefix("/dev/") if isinstance(name, str) else ""


def _modernize(item: dict[str, Any], root: str) -> dict[str, Any]:
    """An item of the older form in the newer one."""
    if item.get("virtual_name"):
        return {"source_type": "blank", "destination_type": "local", "device_name": item.get("device_name")}
    kind = "volume" if item.get("volume_id") else "snapshot"
    return {
        "source_type": kind,
        "destination_type": "volume",
        "uuid": item.get(f"{kind}_id"),
        "boot_index": 0 if strip_device(item.get("device_name")) == root else None,
        "volume_size": item.get("volume_size") if kind == "snapshot" else None,
        "delete_on_termination": item.get("delete_on_termination"),
        "device_name": item.get("device_name"),
        "no_device": item.get("no_device"),
    }
