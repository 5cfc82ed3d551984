"""The hypervisor kit on the simulated host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kevel.hypervisor.sim import SimHypervisor
from tests.conformance.hypervisor import HypervisorKit, Rig, close_rig


class TestSim(HypervisorKit):
    """The same rules as for real guests."""

    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[Rig]:
        state = tmp_path / "sim.json"
        rig = Rig(SimHypervisor(state), tmp_path, make_driver=lambda: SimHypervisor(state))
        await rig.open()
        yield rig
        await close_rig(rig)
