"""The whole engine with a simulated host, under random requests and unhelpful guests: nothing is stuck at the end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from kevel.cli.config import Config
from kevel.cli.data_dir import DataDir
from kevel.cli.up import Kevel, find_admin, running
from kevel.control.servers.servers import NewServer
from kevel.control.volumes.volumes import NewVolume
from kevel.domain.errors import CallerError
from kevel.domain.flavors import Flavor
from kevel.domain.limits import Limits
from kevel.domain.model import Actor, BootKind
from kevel.domain.status import server_status, task_state
from kevel.hypervisor.sim import SimHypervisor
from kevel.store.attachments import open_of_volume

LIMITS = Limits(
    attach_timeout_s=1.0,
    detach_timeout_s=0.5,
    unplug_ask_again_s=0.1,
    unplug_look_s=0.03,
    shutdown_grace_s=0.2,
    reboot_grace_s=0.2,
    effect_wait_s=0.3,
    sweep_every_s=0.5,
)
SETTLE_S = 20.0
#: How the guests of each flavor behave.
TEMPERS: dict[str, dict[str, str]] = {
    "kind": {},
    "refuses": {"sim:unplug": "refuse"},
    "lies": {"sim:unplug": "lie"},
    "slow": {"sim:unplug": "slow:0.2", "sim:plug": "slow:0.4"},
    "full": {"sim:plug": "refuse"},
    "deaf": {"sim:shutdown": "refuse"},
}


class World:
    """One Kevel in this process, and the ground truth of its host."""

    def __init__(self, kevel: Kevel, host: SimHypervisor, actor: Actor) -> None:
        self.kevel = kevel
        self.host = host
        self.actor = actor
        self.servers: list[str] = []
        self.volumes: list[str] = []

    async def make_flavors(self) -> None:
        for name, specs in TEMPERS.items():
            flavor = Flavor(
                id=name,
                name=name,
                vcpus=1,
                ram_mib=96,
                disk_gib=0,
                ephemeral_gib=0,
                swap_mib=0,
                is_public=True,
                description=None,
                extra_specs=specs,
            )
            await self.kevel.services.flavors.create(flavor)

    async def add_server(self, temper: str) -> str:
        (image_id,) = [
            image.id for image in await self.kevel.services.images.list_visible(self.actor) if image.name == "tiny"
        ]
        new = NewServer(name=temper, description=None, flavor=temper, image_id=image_id, metadata={})
        (server,) = await self.kevel.services.servers.create(self.actor, new)
        self.servers.append(server.id)
        return server.id

    async def add_volume(self) -> str:
        view = await self.kevel.services.volumes.create(self.actor, NewVolume(size_gib=1))
        self.volumes.append(view.volume.id)
        return view.volume.id

    async def attach(self, server: str, volume: str) -> None:
        await self.kevel.services.attachments.attach(
            self.actor, server, volume, device=None, tag=None, delete_on_termination=False
        )

    async def volume_status(self, volume: str) -> str:
        return (await self.kevel.services.volumes.get(self.actor, volume)).status


@contextlib.asynccontextmanager
async def a_world(data: Path, limits: Limits = LIMITS, *, offload_shelved: bool = True) -> AsyncIterator[World]:
    host = SimHypervisor(data / "sim.json")
    directory = DataDir(data)
    directory.open()
    try:
        async with running(
            Config(limits=limits, offload_shelved=offload_shelved), directory, "http://kevel", host
        ) as kevel:
            yield World(kevel, host, await kevel.services.runtime.store.read(find_admin))
    finally:
        directory.close()


async def random_request(world: World, dice: random.Random) -> None:
    """One request of a user; refusals are fine, anything else is not."""
    services, actor = world.kevel.services, world.actor
    server, volume = dice.choice(world.servers), dice.choice(world.volumes)
    requests: list[Callable[[], Awaitable[object]]] = [
        lambda: world.attach(server, volume),
        lambda: world.attach(server, volume),
        lambda: world.attach(server, volume),
        lambda: services.attachments.detach(actor, server, volume),
        lambda: services.attachments.detach(actor, server, volume),
        lambda: services.servers.ask(actor, server, "stop"),
        lambda: services.servers.ask(actor, server, "start"),
        lambda: services.servers.reboot(actor, server, dice.choice(list(BootKind))),
        lambda: services.volumes.extend(actor, volume, dice.randint(2, 4), in_use=True),
    ]
    if dice.random() < 0.02:
        requests = [lambda: services.servers.delete(actor, server)]
    if dice.random() < 0.03:
        world.host.crash_guest(server)
    with contextlib.suppress(CallerError):
        await dice.choice(requests)()


async def settle(world: World) -> None:
    """Ask every volume back, and wait until nothing is under way any more."""
    deadline = asyncio.get_running_loop().time() + SETTLE_S
    while True:
        for volume in world.volumes:
            for view in await world.kevel.services.runtime.store.read(open_of_volume, volume):
                if view.attachment.server_id is not None:
                    with contextlib.suppress(CallerError):
                        await world.kevel.services.attachments.detach(
                            world.actor, view.attachment.server_id, view.attachment.volume_id
                        )
        statuses = [await world.volume_status(volume) for volume in world.volumes]
        if all(status == "available" for status in statuses):
            return
        assert asyncio.get_running_loop().time() < deadline, f"stuck: {statuses}"
        await asyncio.sleep(0.1)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_asked_everything_ends_and_records_match_the_host(seed: int) -> None:
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kv-") as name:
        async with a_world(Path(name)) as world:
            await world.make_flavors()
            for temper in TEMPERS:
                await world.add_server(temper)
            for _ in range(6):
                await world.add_volume()
            for _ in range(250):
                await random_request(world, dice)
                if dice.random() < 0.4:
                    await asyncio.sleep(dice.random() * 0.05)
            # Guests that refuse let go at the latest when they are gone.
            for server in world.servers:
                world.host.soothe(server)
            await settle(world)
            await assert_host_agrees(world)
            for server in world.servers:
                with contextlib.suppress(CallerError):
                    await world.kevel.services.servers.delete(world.actor, server)
            await wait_until(lambda: not world.host.servers)


async def assert_host_agrees(world: World) -> None:
    """Servers are as recorded, at rest, and no guest has a disk."""

    async def at_rest() -> bool:
        for server_id in world.servers:
            try:
                server = (await world.kevel.services.servers.get(world.actor, server_id)).server
            except CallerError:
                if server_id in world.host.servers:
                    return False
                continue
            truth = world.host.servers.get(server_id)
            if task_state(server) is not None or truth is None or truth.live or truth.persistent:
                return False
            if (server_status(server) == "ACTIVE") != (truth.power.value == "running"):
                return False
        return True

    deadline = asyncio.get_running_loop().time() + SETTLE_S
    while not await at_rest():
        assert asyncio.get_running_loop().time() < deadline, "records and host never agreed"
        await asyncio.sleep(0.05)


async def wait_until(condition: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + SETTLE_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
