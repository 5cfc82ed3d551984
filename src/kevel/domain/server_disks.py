"""The volumes that a server is made with, as they are asked for, and the rules that need no records."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import msgspec

from kevel.domain.errors import Invalid

#: Volumes in one request for a server.
DISKS_MAX: Final = 256


class DiskSource(enum.Enum):
    """What a disk is made of."""

    IMAGE = "image"
    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    BLANK = "blank"


class NewDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A volume that a server is to be made with: one that exists, or one that is made for it."""

    #: Its place among the request's block devices, or its image's, from 0.
    number: int
    #: The image defines it.
    of_image: bool = False
    source: DiskSource
    #: None for a blank one, and for nothing else.
    source_id: str | None
    #: 0 is the root disk; None: the server does not boot from it.
    boot_index: int | None
    #: None: its source's.
    size_gib: int | None = None
    #: Id or name of the type of the volume that is made; None: its source's, or the default.
    type_ref: str | None = None
    delete_on_termination: bool = False
    device: str | None = None
    tag: str | None = None
    #: The bus that is asked for; None: the server's.
    bus: str | None = None

    @property
    def label(self) -> str:
        """Which of the block devices it is, for people."""
        what = self.source.value if self.source_id is None else f"{self.source.value} {self.source_id[:64]}"
        return f"{name_disk(self.number, of_image=self.of_image)} ({what})"

    @property
    def is_root(self) -> bool:
        """Is it the root disk?"""
        return self.boot_index == 0


def name_disk(number: int, *, of_image: bool) -> str:
    """Which of a request's block devices, or of its image's, for people."""
    return f"block device {number} of the image" if of_image else f"block device {number}"


def refuse_disk(label: str, why: str) -> Invalid:
    """The error for a block device that cannot be had so."""
    return Invalid(f"Block Device Mapping is Invalid: {label}: {why}")


def check_boot_order(boot_indexes: Sequence[int]) -> None:
    """Raise Invalid unless the indexes, of which there may be none, are 0, 1, 2 and so on, each once."""
    if sorted(boot_indexes) != list(range(len(boot_indexes))):
        given = ", ".join(str(index) for index in sorted(boot_indexes))
        raise Invalid(
            "Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping "
            f"combination is not valid: the boot indexes have to be 0, 1, 2 and so on, each once; they are {given}."
        )
