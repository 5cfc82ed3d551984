"""The back end in memory keeps the rules of all back ends."""

from __future__ import annotations

import pytest

from kevel.storage.sim import SimBackend, SimConnector
from tests.conformance.storage import MIB, PoolUnderTest, StorageKit


class TestSim(StorageKit):
    @pytest.fixture
    def pool(self) -> PoolUnderTest:
        backend = SimBackend("sim", total_bytes=1024 * MIB)
        return PoolUnderTest(backend, SimConnector(backend), lambda _, length: bytes(length), 2048 * MIB)
