"""Device names and unit numbers of a server's volumes."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Mapping
from typing import Any, Final

from kevel.domain.errors import Conflict, Invalid

#: Nova's rule for a requested device name.
DEVICE_PATTERN = r"^/dev/(x)?([a-z])?(d)?([a-z]+)[0-9]*$"
#: What Nova and Cinder store.
DEVICE_CHARACTERS_MAX = 255
_DEVICE = re.compile(DEVICE_PATTERN)

#: Unit 0 is the root disk; virtio-scsi takes units up to 16383, and PCI slots end long before.
UNIT_FIRST = 1


def disk_letters(index: int) -> str:
    """0 -> a, 25 -> z, 26 -> aa."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = string.ascii_lowercase[rest] + letters
    return letters


#: The units of each bus that a server's volumes can be on, the root disk's 0 not counted. Ports for hot-plugged
#: virtio-blk disks cannot be added later; 64 and more make a small guest boot slowly. A guest that scans all of
#: virtio-scsi's 16383 takes minutes. An AHCI controller has six ports.
BUS_UNITS_MAX: Final[Mapping[str, int]] = {"scsi": 255, "virtio": 28, "sata": 5}


def volume_bus(image: Mapping[str, Any]) -> str:
    """The bus of a server's volumes: what was asked for its root disk, else its image's hw_disk_bus, else "scsi"."""
    asked = str(image.get("disk_bus") or (image.get("properties") or {}).get("hw_disk_bus"))
    return asked if asked in BUS_UNITS_MAX else "scsi"


def check_scsi_model(image: Mapping[str, Any]) -> None:
    """Raise Invalid for an image whose guest has no driver for the SCSI controller that it would get."""
    model = (image.get("properties") or {}).get("hw_scsi_model", "virtio-scsi")
    if volume_bus(image) == "scsi" and model != "virtio-scsi":
        raise Invalid(
            f"The image's hw_scsi_model is {str(model)[:64]!r}, which this Kevel has not: it has virtio-scsi; with the "
            f"hw_disk_bus virtio or sata no SCSI controller is needed."
        )


def can_hotplug(image: Mapping[str, Any]) -> bool:
    """Can a running guest be given volumes, and let go of them?"""
    return volume_bus(image) != "sata"


def device_prefix(image: Mapping[str, Any]) -> str:
    """How the bus of a server's volumes begins its device names."""
    return "vd" if volume_bus(image) == "virtio" else "sd"


def choose_device(requested: str | None, *, prefix: str, taken: Collection[str], root_device: str) -> str:
    """The device name of a new attachment: the requested one, or the first free one.

    The name is a label, as in Nova: the guest finds the disk by its serial. Raises Invalid for an impossible name and
    Conflict for one that is taken.
    """
    if requested is None:
        index = 1
        while (name := f"/dev/{prefix}{disk_letters(index)}") in taken or name == root_device:
            index += 1
        return name
    if len(requested) > DEVICE_CHARACTERS_MAX or not _DEVICE.fullmatch(requested):
        raise Invalid(f"The supplied device path ({requested[:64]}) is invalid; it has to look like /dev/vdb.")
    if requested in taken or requested == root_device:
        raise Conflict(f"The supplied device path ({requested}) is in use.")
    return requested


def choose_unit(taken: Collection[int], *, units_max: int) -> int | None:
    """The lowest free unit number, or None when the bus is full."""
    return next((unit for unit in range(UNIT_FIRST, units_max + 1) if unit not in taken), None)
