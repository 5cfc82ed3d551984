"""Guests whose disks are served by somebody else: none is made to wait for a server that hangs, and all go on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kevel.domain.errors import StepNever
from kevel.domain.ladder import Hands, Rung
from kevel.domain.model import BootKind, ServerRung
from kevel.host import server_looks
from kevel.hypervisor.base import PowerState, ServerView
from tests.unit.host.world import World, quiet, until


async def test_a_guest_is_not_asked_for_a_disk_whose_server_hangs() -> None:
    world = World()
    async with world.running(revision=1):
        world.connector.silent = True
        world.detach()
        await until(lambda: bool(world.control.failures))
        assert world.control.path.rung is Rung.PLUGGED
        assert world.hypervisor.count("unplug_disk") == 0
        world.connector.silent = False
        await until(lambda: world.control.path.hands is Hands.CONTROL)


async def test_a_guest_is_not_started_while_the_server_of_its_disk_hangs() -> None:
    world = World()
    async with world.running(revision=1):
        world.connector.silent = True
        world.control.change_server(wanted_boot=world.control.server.wanted_boot + 1, boot_kind=BootKind.HARD)
        await until(lambda: world.hypervisor.count("power_off") > 0)
        starts = world.hypervisor.count("start_server")
        await quiet()
        assert world.hypervisor.count("start_server") == starts
        world.connector.silent = False
        await until(lambda: world.hypervisor.count("start_server") > starts)


async def test_a_guest_that_a_disks_error_stopped_goes_on_once_its_volume_is_reached_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_looks, "DISK_LOOK_S", 0.05)
    monkeypatch.setattr(server_looks, "GUEST_LOOK_S", 0.05)
    world = World()
    observe, connect = world.hypervisor.observe_server, world.connector.connect_volume
    reached = False

    async def observe_stopped(server_id: str) -> ServerView | None:
        view: ServerView | None = await observe(server_id)
        if view is None or view.power is not PowerState.PAUSED:
            return view
        return msgspec.structs.replace(view, waits_for_disk=True)

    async def connect_later(*args: Any) -> Any:
        if not reached:
            raise StepNever("The storage does not let this host reach the volume.")
        return await connect(*args)

    async with world.running(revision=1, effect_free=()):
        monkeypatch.setattr(world.hypervisor, "observe_server", observe_stopped)
        monkeypatch.setattr(world.connector, "connect_volume", connect_later)
        await world.hypervisor.pause_guest("server")
        await quiet()
        assert world.hypervisor.servers["server"].power is PowerState.PAUSED
        assert world.hypervisor.count("unpause_guest") == 0
        reached = True
        await until(lambda: world.hypervisor.servers["server"].power is PowerState.RUNNING)
        assert world.control.server.rung is ServerRung.RUNNING
        assert world.control.path.rung is Rung.PLUGGED
        assert not any(report.failure for report in world.control.server_reports)
        assert not any(one for one in world.control.path_reports if one.failure is not None and one.failure.final)
