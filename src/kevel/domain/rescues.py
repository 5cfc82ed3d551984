"""Where a rescued server has its rescue disk: Nova's stable device rescue, by the rescue image's properties."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from kevel.domain.errors import Invalid

DEVICE: Final = "hw_rescue_device"
BUS: Final = "hw_rescue_bus"


class RescueBus(enum.Enum):
    """How a rescue disk reaches the guest; it need not be the bus of the server's other disks."""

    SCSI = "scsi"
    VIRTIO = "virtio"
    SATA = "sata"
    USB = "usb"


class RescuePlace(msgspec.Struct, frozen=True, kw_only=True):
    """A rescue disk beside the server's own disks, each of which keeps its place; the guest boots from it."""

    bus: RescueBus
    #: The guest sees a CD-ROM, and cannot write it.
    is_cdrom: bool = False


def place_rescue_disk(properties: Mapping[str, str], bus: str, *, has_volume_root: bool) -> RescuePlace | None:
    """Where the rescue disk goes; None: it takes the root disk's place, which becomes the second.

    `bus` is that of the server's disks. A volume that is a root disk keeps its place always. Raises Invalid for what
    this Kevel has not.
    """
    if not has_volume_root and DEVICE not in properties and BUS not in properties:
        return None
    device = properties.get(DEVICE, "disk")
    if device not in ("disk", "cdrom"):
        raise Invalid(f"The rescue image's {DEVICE} is {device[:64]!r}; this Kevel has disk and cdrom.")
    is_cdrom = device == "cdrom"
    # A virtio-blk device cannot be a CD-ROM, so that one has a bus of its own.
    wanted = properties.get(BUS, "sata" if is_cdrom else bus)
    buses = [one.value for one in RescueBus if not (is_cdrom and one is RescueBus.VIRTIO)]
    if wanted not in buses:
        raise Invalid(
            f"The rescue image's {BUS} is {wanted[:64]!r}; for its {DEVICE}, {device}, this Kevel has "
            f"{', '.join(buses)}."
        )
    return RescuePlace(bus=RescueBus(wanted), is_cdrom=is_cdrom)
