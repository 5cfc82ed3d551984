"""Servers that are made with volumes, by the whole engine with a simulated host and real files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from kevel.control.servers.servers import NewServer
from kevel.control.volumes.volumes import NewVolume
from kevel.domain.errors import NotFound
from kevel.domain.model import BootKind
from kevel.domain.server_disks import DiskSource, NewDisk
from kevel.domain.status import server_status
from tests.integration.engine.test_random_life import SETTLE_S, World, a_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as world:
        await world.make_flavors()
        yield world


async def make_server(world: World, temper: str, *disks: NewDisk) -> str:
    new = NewServer(name=temper, description=None, flavor=temper, image_id="", metadata={}, disks=disks)
    (server,) = await world.kevel.services.servers.create(world.actor, new)
    world.servers.append(server.id)
    return server.id


async def find_image(world: World) -> str:
    images = await world.kevel.services.images.list_visible(world.actor)
    return next(image.id for image in images if image.name == "tiny")


async def until(reached: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(SETTLE_S):
        while not await reached():
            await asyncio.sleep(0.02)


async def until_status(world: World, server_id: str, status: str) -> None:
    async def has_it() -> bool:
        return server_status((await world.kevel.services.servers.get(world.actor, server_id)).server) == status

    await until(has_it)


async def until_gone(ask: Callable[[], Awaitable[object]]) -> None:
    async def is_gone() -> bool:
        try:
            await ask()
        except NotFound:
            return True
        return False

    await until(is_gone)


def of_image(image_id: str) -> NewDisk:
    """The root disk, a volume that goes with its server."""
    return NewDisk(
        number=0,
        source=DiskSource.IMAGE,
        source_id=image_id,
        boot_index=0,
        size_gib=1,
        delete_on_termination=True,
    )


async def test_a_server_gets_a_volume_of_an_image_an_empty_one_and_one_that_was_there(world: World) -> None:
    services, actor = world.kevel.services, world.actor
    kept = (await services.volumes.create(actor, NewVolume(size_gib=1))).volume.id

    async def is_made() -> bool:
        return await world.volume_status(kept) == "available"

    await until(is_made)
    server_id = await make_server(
        world,
        "kind",
        of_image(await find_image(world)),
        NewDisk(number=1, source=DiskSource.BLANK, source_id=None, boot_index=None, size_gib=1),
        NewDisk(number=2, source=DiskSource.VOLUME, source_id=kept, boot_index=None),
    )
    await until_status(world, server_id, "ACTIVE")
    truth = world.host.servers[server_id]
    assert sorted(disk.unit for disk in truth.live.values()) == [0, 1, 2]
    assert truth.spec.image_path is None
    assert truth.spec.kernel_path is not None, "the volume keeps what its image says of kernels"
    root, blank, other = (view.attachment for view in await services.attachments.of_server(actor, server_id))
    assert (root.boot_index, other.volume_id) == (0, kept)
    statuses = {await world.volume_status(one.volume_id) for one in (root, blank, other)}
    assert statuses == {"in-use"}
    await services.servers.delete(actor, server_id)
    await until_gone(lambda: services.servers.get(actor, server_id))
    await until_gone(lambda: services.volumes.get(actor, root.volume_id))
    assert {await world.volume_status(one) for one in (blank.volume_id, kept)} == {"available"}
    assert not world.host.servers


async def test_a_server_whose_volume_its_host_refuses_fails_and_a_hard_reboot_tries_again(world: World) -> None:
    services, actor = world.kevel.services, world.actor
    server_id = await make_server(world, "full", of_image(await find_image(world)))
    await until_status(world, server_id, "ERROR")
    (view,) = await services.attachments.of_server(actor, server_id)
    fault = (await services.servers.get(actor, server_id)).server.fault
    assert fault is not None
    assert fault.message == f"Volume {view.attachment.volume_id}: The simulated guest takes no more disks."
    world.host.soothe(server_id)
    await services.servers.reboot(actor, server_id, BootKind.HARD)
    await until_status(world, server_id, "ACTIVE")
    assert await world.volume_status(view.attachment.volume_id) == "in-use"
    await services.servers.delete(actor, server_id)
    await until_gone(lambda: services.volumes.get(actor, view.attachment.volume_id))


async def test_a_server_is_rebuilt_with_its_root_volume_made_of_another_image(world: World) -> None:
    services, actor = world.kevel.services, world.actor
    image_id = await find_image(world)
    server_id = await make_server(world, "kind", of_image(image_id))
    await until_status(world, server_id, "ACTIVE")
    (view,) = await services.attachments.of_server(actor, server_id)
    root, truth = view.attachment.volume_id, world.host.servers[server_id]
    (disk,) = truth.live.values()
    first = read_start(disk.source_path)
    with Path(disk.source_path).open("r+b") as file:
        file.write(b"what the guest wrote".ljust(512))
    assert read_start(disk.source_path) != first
    await rebuild(world, server_id, image_id)
    assert await world.volume_status(root) in ("downloading", "in-use")
    await until_status(world, server_id, "ACTIVE")
    assert await world.volume_status(root) == "in-use"
    assert read_start(disk.source_path) == first
    assert [disk.serial for disk in truth.live.values()] == [root]
    assert truth.boots == 2


async def test_a_stopped_server_is_rebuilt_and_stays_so(world: World) -> None:
    services, actor = world.kevel.services, world.actor
    server_id = await make_server(world, "kind", of_image(await find_image(world)))
    await until_status(world, server_id, "ACTIVE")
    await services.servers.ask(actor, server_id, "stop")
    await until_status(world, server_id, "SHUTOFF")
    await rebuild(world, server_id, await find_image(world))
    await until_status(world, server_id, "SHUTOFF")
    (view,) = await services.attachments.of_server(actor, server_id)
    assert await world.volume_status(view.attachment.volume_id) == "in-use"
    truth = world.host.servers[server_id]
    assert (len(truth.persistent), truth.boots) == (1, 1)


async def test_a_server_that_is_deleted_in_its_rebuild_takes_its_volume_along(world: World) -> None:
    services, actor = world.kevel.services, world.actor
    server_id = await make_server(world, "kind", of_image(await find_image(world)))
    await until_status(world, server_id, "ACTIVE")
    (view,) = await services.attachments.of_server(actor, server_id)
    await rebuild(world, server_id, await find_image(world))
    await services.servers.delete(actor, server_id)
    await until_gone(lambda: services.servers.get(actor, server_id))
    await until_gone(lambda: services.volumes.get(actor, view.attachment.volume_id))


def read_start(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(512)


async def rebuild(world: World, server_id: str, image_id: str) -> None:
    await world.kevel.services.servers.rebuild(
        world.actor,
        server_id,
        image_id,
        name=None,
        description=None,
        metadata=None,
        drops_key=False,
        hostname=None,
        auto_disk=None,
        reimages=True,
    )
