"""The ground truth: storage and hypervisor of a simulated host, and calls that start, take effect and answer apart."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from kevel.domain.errors import StepRetry, StepUnknown
from kevel.domain.ladder import Rung
from kevel.hypervisor.base import DiskSpec, DomainSpec, Event, HostFacts, ServerView
from kevel.hypervisor.sim import SimHypervisor
from kevel.storage.base import Capacity, ConnectionInfo, Export, LocalDisk, VolumeFile
from kevel.storage.sim import SimBackend, SimConnector
from tests.simulation.loop import SimLoop

T = TypeVar("T")


class Chances:
    """How likely each fault is at each call; all 0 once faults have stopped."""

    def __init__(self) -> None:
        self.crash_around_effect = 0.0
        self.refused_for_now = 0.0
        self.lost_reply = 0.0
        self.slow = 0.0
        self.event_lost = 0.0
        self.event_late = 0.0

    def stop(self) -> None:
        """No more faults."""
        for name in vars(self):
            setattr(self, name, 0.0)


class World:
    """What really exists. It outlives every process of Kevel."""

    def __init__(self, loop: SimLoop, dice: random.Random, *, effect_free: frozenset[Rung]) -> None:
        self.loop = loop
        self.dice = dice
        self.chances = Chances()
        self.host = SimHypervisor()
        self.backend = SimBackend("sim", total_bytes=1 << 50, effect_free=effect_free)
        self.connector = SimConnector(self.backend)
        #: Ends the running process; set by the run.
        self.crash: Callable[[], None] = lambda: None
        #: Called after each effect, with its name.
        self.after_effect: Callable[[str], None] = lambda name: None
        self.effects = 0
        #: Hypervisor calls whose effect may still land although their process is dead.
        self._in_flight: set[asyncio.Handle] = set()

    def make_call(self, name: str, effect: Callable[[], Coroutine[Any, Any, T]], world: Context) -> asyncio.Future[T]:
        """Start a call: its effect lands later, whoever may have died meanwhile, and its answer later still."""
        reply: asyncio.Future[T] = self.loop.create_future()
        chances, dice = self.chances, self.dice
        wait_s = dice.random() * 0.01
        if dice.random() < chances.slow:
            wait_s += dice.random() * 60.0
        outcome = dice.random()

        def land() -> None:
            self._in_flight.discard(handle)
            if outcome < chances.refused_for_now:
                settle(None, StepRetry(f"{name}: simulated refusal"))
                return
            if dice.random() < chances.crash_around_effect:
                self.crash()
            error: BaseException | None = None
            result: Any = None
            try:
                result = run_at_once(effect())
            except Exception as caught:  # noqa: BLE001 - it is the call's answer
                error = caught
            self.effects += 1
            self.after_effect(name)
            if dice.random() < chances.crash_around_effect:
                self.crash()
            if dice.random() < chances.lost_reply:
                error = StepUnknown(f"{name}: simulated lost reply")
            settle(result, error)

        def settle(result: Any, error: BaseException | None) -> None:
            def answer() -> None:
                if reply.done():
                    return
                if error is not None:
                    reply.set_exception(error)
                else:
                    reply.set_result(result)

            self.loop.call_later(dice.random() * 0.005, answer, context=world)

        handle = self.loop.call_later(wait_s, land, context=world)
        self._in_flight.add(handle)
        return reply

    async def settle_calls(self) -> None:
        """Wait until no call of a dead process can take effect any more: its issuer dies, some before, some after."""
        for handle in list(self._in_flight):
            if self.dice.random() < 0.5:
                handle.cancel()
                self._in_flight.discard(handle)
        while self._in_flight:
            await asyncio.sleep(0.05)


def run_at_once(coro: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        coro.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coro.close()
    raise AssertionError("an effect of the ground truth must not wait")


class SimDriver:
    """The hypervisor port as one process of Kevel has it."""

    def __init__(self, world: World, outside: Context) -> None:
        self._world = world
        self._outside = outside
        self._loop = world.loop

    async def open(self, listener: Callable[[Event], None]) -> HostFacts:
        await self._world.settle_calls()
        world = self._world
        loop = self._loop

        def hear(event: Event) -> None:
            if world.dice.random() < world.chances.event_lost:
                return
            late = world.dice.random() < world.chances.event_late
            loop.call_later(world.dice.random() * (20.0 if late else 0.01), listener, event, context=inside)

        from contextvars import copy_context  # noqa: PLC0415

        inside = copy_context()
        return await world.host.open(hear)

    async def close(self) -> None:
        return

    async def _call(self, name: str, effect: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._world.make_call(name, effect, self._outside)

    async def define_server(self, spec: DomainSpec) -> None:
        await self._call("define_server", lambda: self._world.host.define_server(spec))

    async def start_server(self, server_id: str) -> None:
        await self._call("start_server", lambda: self._world.host.start_server(server_id))

    async def ask_shutdown(self, server_id: str) -> None:
        await self._call("ask_shutdown", lambda: self._world.host.ask_shutdown(server_id))

    async def ask_reboot(self, server_id: str) -> None:
        await self._call("ask_reboot", lambda: self._world.host.ask_reboot(server_id))

    async def power_off(self, server_id: str) -> None:
        await self._call("power_off", lambda: self._world.host.power_off(server_id))

    async def undefine_server(self, server_id: str) -> None:
        await self._call("undefine_server", lambda: self._world.host.undefine_server(server_id))

    async def observe_server(self, server_id: str) -> ServerView | None:
        return await self._call("observe_server", lambda: self._world.host.observe_server(server_id))

    async def observe_all(self) -> list[ServerView]:
        return await self._call("observe_all", self._world.host.observe_all)

    async def plug_disk(self, server_id: str, disk: DiskSpec) -> None:
        await self._call("plug_disk", lambda: self._world.host.plug_disk(server_id, disk))

    async def unplug_disk(self, server_id: str, alias: str) -> bool:
        return await self._call("unplug_disk", lambda: self._world.host.unplug_disk(server_id, alias))

    async def resize_disk(self, server_id: str, alias: str, size_bytes: int) -> None:
        await self._call("resize_disk", lambda: self._world.host.resize_disk(server_id, alias, size_bytes))


class SimPool:
    """The back end's port, and the connector's, as one process of Kevel has them."""

    def __init__(self, world: World, outside: Context) -> None:
        self._world = world
        self._outside = outside
        self._truth = world.backend
        self.name = world.backend.name
        self.volume_format = world.backend.volume_format
        self.effect_free = world.backend.effect_free
        self.can_revoke = True

    async def _call(self, name: str, effect: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._world.make_call(name, effect, self._outside)

    async def open(self) -> None:
        return

    async def create_volume(self, volume: VolumeFile) -> None:
        await self._call("create_volume", lambda: self._truth.create_volume(volume))

    async def grow_volume(self, volume: VolumeFile) -> None:
        await self._call("grow_volume", lambda: self._truth.grow_volume(volume))

    async def delete_volume(self, volume: VolumeFile) -> None:
        await self._call("delete_volume", lambda: self._truth.delete_volume(volume))

    async def list_volumes(self) -> list[str]:
        return await self._call("list_volumes", self._truth.list_volumes)

    async def capacity(self) -> Capacity:
        return await self._truth.capacity()

    def describe_export(self, export: Export) -> ConnectionInfo:
        return self._truth.describe_export(export)

    async def export_volume(self, export: Export) -> ConnectionInfo:
        return await self._call("export_volume", lambda: self._truth.export_volume(export))

    async def revoke_export(self, export: Export) -> None:
        await self._call("revoke_export", lambda: self._truth.revoke_export(export))

    async def connect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> LocalDisk:
        return await self._call("connect_volume", lambda: self._world.connector.connect_volume(volume, info))

    async def disconnect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> None:
        await self._call("disconnect_volume", lambda: self._world.connector.disconnect_volume(volume, info))
