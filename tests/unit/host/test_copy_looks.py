"""What the agent does with orders to copy the disks of running guests."""

from __future__ import annotations

from typing import Any

import msgspec

from kevel.domain.assignments import CopyAssignment
from kevel.domain.copies import AT_REST, FAILED, TIMED_OUT, CopyState
from kevel.domain.errors import StepNever, StepRetry
from kevel.domain.ladder import Goal
from kevel.hypervisor.base import CopySpec, Event, EventKind
from tests.unit.host.world import ALIAS, LATER_S, World, after_us, quiet, until

SPEC = CopySpec(copy_id="copy", alias=ALIAS, serial="volume", target_path="/fake/target")


def order(**changes: Any) -> CopyAssignment:
    copy = CopyAssignment(
        id="copy",
        path_id="path",
        generation=1,
        server_id="server",
        attachment_id="attachment",
        serial="volume",
        volume_id="volume",
        target_path="/fake/target",
        state=CopyState.WANTED,
        live=True,
        revision=1,
        deadline_at=after_us(LATER_S),
    )
    return msgspec.structs.replace(copy, **changes)


async def ended(world: World) -> tuple[CopyState, str | None]:
    """How the agent says that the copy has ended."""
    await until(lambda: not world.control.copies["copy"].live)
    report = world.control.copy_reports[-1]
    return report.state, None if report.reason is None else report.reason.code


async def test_a_copy_is_made_and_told_with_its_size() -> None:
    world = World()
    async with world.running():
        await world.attach()
        world.control.put(order())
        assert await ended(world) == (CopyState.DONE, None)
        assert [report.state for report in world.control.copy_reports] == [CopyState.WANTED, CopyState.DONE]
        assert world.control.copy_reports[-1].total_bytes == world.control.path.volume_bytes
        assert world.hypervisor.servers["server"].copies == {}


async def test_a_volume_that_no_running_guest_has_is_left_to_whoever_ordered_its_copy() -> None:
    world = World()
    async with world.running():
        await world.attach()
        await world.hypervisor.power_off("server")
        world.control.put(order())
        assert await ended(world) == (CopyState.FAILED, AT_REST)


async def test_a_disk_that_is_detached_in_mid_copy_ends_the_copy() -> None:
    world = World()
    async with world.running():
        await world.attach()
        world.hypervisor.behave(copy="slow:60")
        world.control.put(order())
        await until(lambda: world.hypervisor.servers["server"].copies)
        world.control.change_path(goal=Goal.DETACHED)
        assert await ended(world) == (CopyState.FAILED, AT_REST)
        assert not world.hypervisor.live()


async def test_a_copy_that_cannot_be_made_fails_with_its_reason() -> None:
    world = World()
    async with world.running():
        await world.attach()
        world.hypervisor.fail_next("copy_disk", StepRetry("Busy."), StepNever("There is no space."))
        world.control.put(order())
        assert await ended(world) == (CopyState.FAILED, FAILED)
        reason = world.control.copy_reports[-1].reason
        assert reason is not None
        assert reason.message == "There is no space."


async def test_a_copy_past_its_deadline_is_stopped_and_told() -> None:
    world = World()
    async with world.running():
        await world.attach()
        world.hypervisor.behave(copy="slow:60")
        world.control.put(order(deadline_at=after_us(0.3)))
        assert await ended(world) == (CopyState.FAILED, TIMED_OUT)
        assert world.hypervisor.servers["server"].copies == {}


async def test_a_copy_that_nobody_wants_any_more_is_stopped() -> None:
    world = World()
    async with world.running():
        await world.attach()
        world.hypervisor.behave(copy="slow:60")
        world.control.put(order())
        await until(lambda: world.hypervisor.servers["server"].copies)
        world.control.put(order(state=CopyState.DROPPED, revision=2))
        assert await ended(world) == (CopyState.DROPPED, None)
        assert world.hypervisor.servers["server"].copies == {}


async def test_s6_a_copy_whose_end_nobody_heard_is_told_again_and_not_made_again() -> None:
    world = World()
    async with world.running():
        await world.attach()
        world.hypervisor.behave(copy="slow:0.2")
        world.control.put(order())
        await until(lambda: world.control.copy_reports)
        world.control.lose_next = 2
        assert await ended(world) == (CopyState.DONE, None)
        await quiet(0.05)
        assert world.control.lose_next == 0
        assert world.hypervisor.calls.count("copy_disk") <= 3, "begun, looked at, done"


async def test_a_new_agent_goes_on_with_the_copy_that_it_finds() -> None:
    world = World()
    async with world.running():
        await world.attach()
        world.hypervisor.behave(copy="slow:60")
        world.control.put(order())
        await until(lambda: world.hypervisor.servers["server"].copies)
        world.hypervisor.behave()
    async with world.agent():
        assert await ended(world) == (CopyState.DONE, None)


async def test_l3_a_copy_that_no_order_names_is_stopped() -> None:
    world = World()
    async with world.running():
        await world.attach()
        world.hypervisor.behave(copy="slow:60")
        await world.hypervisor.copy_disk("server", SPEC)
        world.hypervisor._listener(Event(kind=EventKind.RECONNECTED, server_id=""))
        await until(lambda: world.hypervisor.servers["server"].copies == {})


async def test_a_copy_that_fails_for_good_in_its_middle_is_ended_before_that_is_told() -> None:
    world = World()
    async with world.running():
        await world.attach()
        world.hypervisor.behave(copy="slow:60")
        world.control.put(order())
        await until(lambda: world.hypervisor.servers["server"].copies)
        world.hypervisor.fail_next("copy_disk", StepNever("There is no space."))
        assert await ended(world) == (CopyState.FAILED, FAILED)
        assert world.hypervisor.servers["server"].copies == {}
