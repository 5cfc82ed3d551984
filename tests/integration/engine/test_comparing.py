"""The running engine compares records with reality by itself, and an operator's examination reaches every host."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from kevel.cli.config import Config
from kevel.cli.data_dir import DataDir
from kevel.cli.up import Kevel, find_admin, running
from kevel.control.hosts.comparison import Examination
from kevel.control.volumes.volumes import NewVolume
from kevel.domain.findings import FindingKind
from kevel.domain.limits import Limits
from kevel.hypervisor.base import DomainSpec
from kevel.hypervisor.sim import SimHypervisor

STRAY = DomainSpec(server_id="stray", memory_mib=64, vcpus=1, image_path=None, image_format="raw", root_bytes=0)


class World:
    def __init__(self, kevel: Kevel, host: SimHypervisor, volumes: Path) -> None:
        self.kevel, self.host, self.volumes = kevel, host, volumes

    async def until(self, reached: Callable[[Examination], bool]) -> Examination:
        """What is known once that is so."""
        async with asyncio.timeout(10):
            while not reached(known := await self.kevel.services.comparison.known()):
                await asyncio.sleep(0.02)
        return known


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="kv-") as name:
        directory = DataDir(Path(name))
        directory.open()
        host = SimHypervisor()
        limits = Limits(compare_every_s=0.1)
        async with running(Config(limits=limits), directory, "http://kevel", host) as kevel:
            yield World(kevel, host, Path(name) / "volumes")
        directory.close()


def has(kind: FindingKind) -> Callable[[Examination], bool]:
    return lambda known: kind in {one.kind for one in known.findings}


async def test_l3_the_storage_is_compared_at_the_start_and_then_periodically(world: World) -> None:
    known = await world.until(lambda known: any(one.subject == "storage:directory" for one in known.censuses))
    assert known.findings == ()
    stray = world.volumes / f"volume-{uuid.uuid4()}"
    stray.touch()
    await world.until(has(FindingKind.VOLUME_UNKNOWN))
    stray.unlink()
    await world.until(lambda known: known.findings == ())


async def test_l3_a_volume_whose_file_is_lost_is_found_and_its_deletion_ends_it(world: World) -> None:
    services = world.kevel.services
    admin = await services.runtime.store.read(find_admin)
    volume_id = (await services.volumes.create(admin, NewVolume(size_gib=1))).volume.id
    await made(lambda: services.volumes.get(admin, volume_id), "available")
    (world.volumes / f"volume-{volume_id}").unlink()
    known = await world.until(has(FindingKind.VOLUME_GONE))
    assert [one.volume_id for one in known.findings] == [volume_id]
    await services.volumes.delete(admin, volume_id, force=False)
    await world.until(lambda known: known.findings == ())


async def made(get: Callable[[], Awaitable[object]], status: str) -> None:
    async with asyncio.timeout(10):
        while getattr(await get(), "status", "") != status:
            await asyncio.sleep(0.01)


async def test_an_examination_has_the_host_take_its_census_now(world: World) -> None:
    await world.until(lambda known: any(one.subject == "host:local" for one in known.censuses))
    await world.host.define_server(STRAY)
    examined = await world.kevel.services.comparison.examine()
    assert [(one.kind, one.key) for one in examined.findings] == [(FindingKind.SERVER_UNKNOWN, "stray")]
    assert "stray" in world.host.servers, "it is left alone"
    (census,) = [one for one in examined.censuses if one.subject == "host:local"]
    assert (census.number, census.counted) == (1, {"servers": 1, "disks": 0})
    await world.host.undefine_server("stray")
    assert (await world.kevel.services.comparison.examine()).findings == ()
