"""The data plane's oracle: what lands where it should is fine, and each way of going wrong is seen."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kevel.domain.ladder import Rung
from kevel.domain.model import GIB
from kevel.hypervisor.base import DiskSpec, DomainSpec, PowerState, VolumeBus
from kevel.hypervisor.sim import SimServer
from kevel.storage.base import VolumeFile
from tests.simulation.blocks import PLACE, Blocks
from tests.simulation.faults import Faults
from tests.simulation.loop import SimLoop
from tests.simulation.world import World


class Stand:
    """Two hosts, one volume, and the rows that the oracle asks for."""

    def __init__(self) -> None:
        dice = random.Random(0)
        self.loop = SimLoop(dice, 1)
        free: frozenset[Rung] = frozenset()
        self.world = World(self.loop, dice, Faults(dice, {}), ["h1", "h2"], effect_free=free)
        self.blocks = Blocks(self.world, self.rows)
        self.claims: set[tuple[str, str]] = set()
        self.generations: dict[tuple[str, str], int] = {}
        self.deleted: set[str] = set()
        self.shared: set[str] = set()
        self.make_volume("v")

    def rows(self, sql: str) -> list[dict[str, Any]]:
        if "FROM claims" in sql:
            return [
                {"volume_id": volume, "holder": server, "shared": volume in self.shared}
                for volume, server in self.claims
            ]
        if "FROM paths" in sql:
            return [
                {"volume_id": volume, "server_id": server, "generation": number}
                for (volume, server), number in self.generations.items()
            ]
        return [{"volume_id": volume} for volume in self.deleted]

    def make_volume(self, volume: str, size_bytes: int = GIB) -> None:
        file = VolumeFile(volume_id=volume, size_bytes=size_bytes, format="raw")
        self.world.backend.volumes[volume] = file

    def plug(self, host: str, server: str, volume: str = "v", *, at: str | None = None, generation: int = 1) -> None:
        spec = DomainSpec(
            server_id=server,
            memory_mib=1,
            vcpus=1,
            image_path="",
            image_format="raw",
            root_bytes=0,
            kernel_path=None,
            initrd_path=None,
            cmdline="",
            volume_bus=next(iter(VolumeBus)),
        )
        disk = DiskSpec(
            alias=f"ua-{server}",
            serial=volume,
            source_path=PLACE + (at or volume),
            source_format="raw",
            size_bytes=GIB,
            target="sdb",
            unit=1,
        )
        servers = self.world.hosts[host].hypervisor.servers
        servers[server] = SimServer(spec=spec, power=PowerState.RUNNING, live={disk.alias: disk})
        self.claims.add((volume, server))
        self.generations[volume, server] = generation

    def unplug(self, host: str, server: str) -> None:
        self.world.hosts[host].hypervisor.servers[server].live = {}

    def release(self, server: str, volume: str = "v") -> None:
        self.claims.discard((volume, server))
        self.generations.pop((volume, server), None)


@pytest.fixture
def stand() -> Iterator[Stand]:
    made = Stand()
    made.blocks.write_all("set-up")
    yield made
    made.loop.close()


def test_one_holder_after_the_other_writes_and_nothing_is_wrong(stand: Stand) -> None:
    stand.plug("h1", "s1")
    stand.blocks.write_all("plug")
    stand.unplug("h1", "s1")
    stand.blocks.write_all("unplug")
    stand.release("s1")
    stand.plug("h2", "s2", generation=2)
    stand.blocks.write_all("plug")
    stand.unplug("h2", "s2")
    stand.release("s2")
    stand.deleted.add("v")
    del stand.world.backend.volumes["v"]
    stand.blocks.write_all("delete_volume")
    assert stand.blocks.writes == 2


def test_a_holder_that_writes_after_its_release_is_seen(stand: Stand) -> None:
    stand.plug("h1", "s1")
    stand.blocks.write_all("plug")
    stand.release("s1")
    with pytest.raises(AssertionError, match="which it has been released from"):
        stand.blocks.write_all("commit")


def test_a_block_that_lands_on_another_volume_is_seen(stand: Stand) -> None:
    stand.make_volume("other")
    stand.plug("h1", "s1", at="other")
    with pytest.raises(AssertionError, match="writes to volume other, which"):
        stand.blocks.write_all("plug")


def test_a_guest_that_opens_what_is_not_there_is_seen(stand: Stand) -> None:
    stand.plug("h1", "s1", at="nothing")
    with pytest.raises(AssertionError, match="opens nothing, which is not there"):
        stand.blocks.write_all("plug")


def test_an_older_holder_that_writes_over_a_newer_one_is_seen(stand: Stand) -> None:
    stand.plug("h1", "s1", generation=2)
    stand.blocks.write_all("plug")
    stand.unplug("h1", "s1")
    stand.release("s1")
    stand.plug("h2", "s2", generation=1)
    with pytest.raises(AssertionError, match="written over a newer holder's"):
        stand.blocks.write_all("plug")


def test_writes_of_several_holders_of_a_shared_volume_are_fine(stand: Stand) -> None:
    stand.shared.add("v")
    stand.plug("h1", "s1", generation=1)
    stand.plug("h2", "s2", generation=2)
    stand.blocks.write_all("plug")
    stand.unplug("h2", "s2")
    stand.release("s2")
    stand.blocks.write_all("commit")


@pytest.mark.parametrize("asked", [False, True])
def test_a_volume_that_goes_with_what_was_written_is_seen_unless_a_user_deleted_it(stand: Stand, asked: bool) -> None:
    stand.plug("h1", "s1")
    stand.blocks.write_all("plug")
    stand.unplug("h1", "s1")
    stand.deleted.update({"v"} if asked else ())
    del stand.world.backend.volumes["v"]
    if asked:
        stand.blocks.write_all("delete_volume")
        return
    with pytest.raises(AssertionError, match="is lost: v is gone"):
        stand.blocks.write_all("delete_volume")


def test_a_guest_that_keeps_a_deleted_volume_open_loses_its_writes_also_when_the_id_is_there_again(
    stand: Stand,
) -> None:
    stand.plug("h1", "s1")
    stand.blocks.write_all("plug")
    stand.deleted.add("v")
    del stand.world.backend.volumes["v"]
    stand.blocks._look_at_storage("delete_volume")
    stand.make_volume("v")
    with pytest.raises(AssertionError, match="its storage has been deleted"):
        stand.blocks.write_all("create_volume")


def test_a_volume_that_is_cut_off_and_a_disk_that_is_longer_than_its_volume_are_seen(stand: Stand) -> None:
    stand.plug("h1", "s1")
    stand.blocks.write_all("plug")
    stand.make_volume("v", GIB // 2)
    with pytest.raises(AssertionError, match="the end of v is cut off"):
        stand.blocks.write_all("grow_volume")
    stand.make_volume("v", GIB)
    server = stand.world.hosts["h1"].hypervisor.servers["s1"]
    server.live = {alias: msgspec.structs.replace(disk, size_bytes=2 * GIB) for alias, disk in server.live.items()}
    with pytest.raises(AssertionError, match="it is beyond the volume's"):
        stand.blocks.write_all("resize_disk")
