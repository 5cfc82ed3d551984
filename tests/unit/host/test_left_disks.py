"""Disks that are no longer a server's: taken out behind their tombstones, and never started with."""

from __future__ import annotations

from kevel.domain.assignments import PathAssignment
from kevel.domain.errors import StepRetry
from kevel.domain.ladder import Hands, Rung
from kevel.domain.model import BootKind, ServerGoal, ServerRung
from kevel.host.agent import Agent
from kevel.host.server_looks import ServerLooks
from kevel.host.state import HostState
from kevel.hypervisor.base import DiskSpec
from tests.unit.host.world import ALIAS, World, assigned_path, quiet, until

LEFT = "5d0f3a0e-7a3c-4b8e-9d52-6f6e0c9d1c11"


def left_disk(alias: str = f"ua-{LEFT}") -> DiskSpec:
    return DiskSpec(
        alias=alias,
        serial="another volume",
        source_path="/fake/another volume",
        source_format="raw",
        size_bytes=1 << 30,
        target="sdc",
        unit=7,
    )


def tombstone() -> PathAssignment:
    return assigned_path(
        id="left", attachment_id=LEFT, rung=Rung.RELEASED, hands=Hands.CONTROL, connection_info=None, revision=9
    )


def leave(world: World, *, live: bool) -> None:
    """The hypervisor has a disk again that had been taken out."""
    disk, server = left_disk(), world.hypervisor.servers["server"]
    server.persistent[disk.alias] = disk
    if live:
        server.live[disk.alias] = disk


async def take_census(world: World) -> None:
    known = len(world.control.censuses)
    world.control.census_wanted += 1
    world.control.put(world.control.server)
    await until(lambda: len(world.control.censuses) > known)


async def test_a_disk_that_a_census_saw_and_whose_path_is_released_is_taken_out() -> None:
    world = World()
    async with world.running(unit=1):
        leave(world, live=True)
        await take_census(world)
        (stranger,) = world.control.censuses[-1].strangers
        assert (stranger.server_id, stranger.alias) == ("server", f"ua-{LEFT}")
        world.hypervisor.fail_next("unplug_disk", StepRetry("Busy."))
        reports = len(world.control.path_reports)
        world.control.put(tombstone())
        await until(lambda: not world.hypervisor.persistent(f"ua-{LEFT}"))
        assert not world.hypervisor.live(f"ua-{LEFT}")
        assert world.hypervisor.live(ALIAS), "the server's own disk stays"
        await take_census(world)
        assert world.control.censuses[-1].strangers == ()
        assert len(world.control.path_reports) == reports, "of what is released there is nothing to report"


async def test_a_guest_that_keeps_a_left_disk_is_asked_again_with_pauses() -> None:
    world = World()
    async with world.running(unit=1):
        leave(world, live=True)
        world.hypervisor.behave(unplug="refuse")
        await take_census(world)
        world.control.put(tombstone())
        await until(lambda: world.hypervisor.count("unplug_disk") >= 2)
        await quiet()
        assert world.hypervisor.count("unplug_disk") <= 3
        world.hypervisor.behave()
        await world.hypervisor.power_off("server")
        world.control.put(tombstone())
        await until(lambda: not world.hypervisor.persistent(f"ua-{LEFT}"))


async def test_a_path_that_is_released_as_it_should_be_costs_the_hypervisor_nothing() -> None:
    world = World()
    async with world.running(unit=1):
        asked = world.hypervisor.count("unplug_disk")
        world.control.put(tombstone())
        await quiet()
        assert world.hypervisor.count("unplug_disk") == asked


async def test_no_server_starts_with_a_disk_that_is_no_longer_its_own() -> None:
    world = World()
    async with world.running(unit=1):
        world.control.change_server(goal=ServerGoal.STOPPED)
        await until(lambda: world.control.server.rung is ServerRung.DEFINED)
        leave(world, live=False)
        world.control.change_server(goal=ServerGoal.RUNNING, wanted_boot=2)
        await until(lambda: world.control.server.rung is ServerRung.RUNNING)
        assert (world.hypervisor.live(), world.hypervisor.live(f"ua-{LEFT}")) == (True, False)
        assert not world.hypervisor.persistent(f"ua-{LEFT}")


async def test_a_hard_reboot_starts_with_the_servers_own_disks_only() -> None:
    world = World()
    async with world.running(unit=1):
        leave(world, live=True)
        world.control.change_server(wanted_boot=2, boot_kind=BootKind.HARD)
        await until(lambda: world.control.server.boot == 2)
        assert (world.hypervisor.live(), world.hypervisor.live(f"ua-{LEFT}")) == (True, False)


async def test_a_disk_whose_next_assignment_is_on_its_way_is_still_the_servers() -> None:
    world = World()
    async with world.running() as agent:
        world.hypervisor.hooks["plug_disk"] = [lambda: setattr(world.control, "poll_takes_s", 5.0)]
        await world.attach()
        await until(lambda: "path" not in agent_state(agent).paths)
        assert ServerLooks(agent_state(agent))._disks("server") == {ALIAS: None}


async def test_what_is_released_while_nobody_listened_is_not_the_servers_any_more() -> None:
    world = World()
    async with world.running(unit=1) as agent:
        del world.control.paths["path"]
        agent_state(agent).unsure.add("server")
        agent_state(agent).read_again.set()
        await until(lambda: not agent_state(agent).paths_of["server"])


def agent_state(agent: Agent) -> HostState:
    return agent._state
