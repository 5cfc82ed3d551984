"""What the agent answers when the control plane asks for a look."""

from __future__ import annotations

import asyncio

from kevel.domain.errors import StepRetry
from kevel.domain.questions import (
    ConsoleTail,
    Failed,
    HostUsage,
    MeasureHost,
    MeasureServer,
    Nothing,
    ReadConsole,
    ServerUsage,
)
from kevel.host.answers import ANSWERS_MAX
from tests.unit.host.world import World, until


async def test_an_agent_tells_what_it_sees() -> None:
    world = World()
    async with world.running(unit=1):
        world.control.ask(ReadConsole("server"), MeasureServer("server"), MeasureHost(), MeasureServer("nobody"))
        await until(lambda: len(world.control.answers) == 4)
    console, usage, host, nobody = (
        one.sight for one in sorted(world.control.answers, key=lambda answer: answer.question_id)
    )
    assert isinstance(console, ConsoleTail)
    assert console.data.count(b"\n") == 12
    assert isinstance(usage, ServerUsage)
    assert len(usage.disks) == 2
    assert isinstance(host, HostUsage)
    assert nobody == Nothing()


async def test_a_look_that_fails_is_told_in_the_drivers_words_and_a_fault_of_ours_in_none() -> None:
    world = World()
    async with world.running(unit=1):
        world.hypervisor.fail_next("read_console", StepRetry("The log cannot be read."), ValueError("secret"))
        for told in ("The log cannot be read.", "The host could not look."):
            world.control.answers.clear()
            world.control.ask(ReadConsole("server"))
            await until(lambda: bool(world.control.answers))
            (answer,) = world.control.answers
            assert answer.sight == Failed(told)


async def test_a_look_beyond_the_bound_is_refused_and_work_goes_on_meanwhile() -> None:
    world, gate = World(), asyncio.Event()
    async with world.running(unit=1):
        world.hypervisor.hooks["read_console"] = [gate.wait] * ANSWERS_MAX
        world.control.ask(*[ReadConsole("server")] * (ANSWERS_MAX + 1))
        await until(lambda: bool(world.control.answers))
        (refused,) = world.control.answers
        assert isinstance(refused.sight, Failed)
        world.control.change_path(goal=world.control.path.goal)
        gate.set()
        await until(lambda: len(world.control.answers) == ANSWERS_MAX + 1)
