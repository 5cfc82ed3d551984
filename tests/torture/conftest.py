"""Disks whose power can be cut, where this user may mount one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.torture.disk import LossyDisk, can_make_lossy_disks

DISK_MIB = 384


@pytest.fixture(scope="session")
def needs_mount() -> None:
    """Skip where this user cannot mount a file system of its own."""
    if not can_make_lossy_disks():
        pytest.skip("cutting the power and filling a disk need root and mount")


@pytest.fixture
def make_disk(needs_mount: None) -> Iterator[Callable[[], LossyDisk]]:
    """Makes small disks; who makes one closes it, or leaves it to this."""
    made: list[LossyDisk] = []

    def make() -> LossyDisk:
        made.append(LossyDisk(DISK_MIB))
        return made[-1]

    yield make
    for disk in made:
        if disk.root.exists():
            disk.close()
