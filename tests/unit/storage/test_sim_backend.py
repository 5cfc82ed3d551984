"""The back end in memory keeps the rules of all back ends."""

from __future__ import annotations

import pytest

from kevel.storage.base import LocalDisk
from kevel.storage.sim import SimBackend, SimConnector
from tests.conformance.storage import MIB, PoolUnderTest, StorageKit


class TestSim(StorageKit):
    @pytest.fixture
    def pool(self) -> PoolUnderTest:
        backend = SimBackend("sim", total_bytes=1024 * MIB)

        def read(disk: LocalDisk, length: int) -> bytes:
            return backend.contents.get(disk.path.removeprefix("/sim/volume-"), b"").ljust(length, b"\0")[:length]

        def write(disk: LocalDisk, byte: int, length: int) -> None:
            backend.contents[disk.path.removeprefix("/sim/volume-")] = bytes([byte]) * length

        return PoolUnderTest(backend, SimConnector(backend), read, write, 2048 * MIB)
