"""Where a rescued server has its rescue disk."""

from __future__ import annotations

import pytest

from kevel.domain.errors import Invalid
from kevel.domain.rescues import RescueBus, RescuePlace, place_rescue_disk


@pytest.mark.parametrize(
    ("properties", "bus", "has_volume_root", "place"),
    [
        ({}, "scsi", False, None),
        ({}, "virtio", True, RescuePlace(bus=RescueBus.VIRTIO)),
        ({"hw_rescue_device": "disk"}, "sata", False, RescuePlace(bus=RescueBus.SATA)),
        ({"hw_rescue_bus": "usb"}, "scsi", False, RescuePlace(bus=RescueBus.USB)),
        ({"hw_rescue_bus": "virtio"}, "scsi", True, RescuePlace(bus=RescueBus.VIRTIO)),
        ({"hw_rescue_device": "cdrom"}, "virtio", False, RescuePlace(bus=RescueBus.SATA, is_cdrom=True)),
        (
            {"hw_rescue_device": "cdrom", "hw_rescue_bus": "scsi"},
            "virtio",
            True,
            RescuePlace(bus=RescueBus.SCSI, is_cdrom=True),
        ),
    ],
)
def test_a_rescue_disk_has_its_images_place_or_that_of_the_root_disk_of_the_servers_own(
    properties: dict[str, str], bus: str, has_volume_root: bool, place: RescuePlace | None
) -> None:
    assert place_rescue_disk(properties, bus, has_volume_root=has_volume_root) == place


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"hw_rescue_device": "floppy"}, "disk and cdrom"),
        ({"hw_rescue_bus": "ide"}, "scsi, virtio, sata, usb"),
        ({"hw_rescue_bus": "virtio", "hw_rescue_device": "cdrom"}, "scsi, sata, usb"),
    ],
)
def test_what_kevel_has_not_is_refused_with_what_it_has(properties: dict[str, str], words: str) -> None:
    with pytest.raises(Invalid) as caught:
        place_rescue_disk(properties, "scsi", has_volume_root=False)
    assert words in caught.value.message
