"""The table of what may be done to a volume's server in each state, and what it comes to: with the data intact.

Every row is played against the whole engine with a simulated host. What is refused changes nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kevel.control.copies.snapshots import NewSnapshot
from kevel.control.servers.shelving import Place
from kevel.domain.errors import Conflict, Invalid, NotFound
from kevel.domain.flavors import Flavor
from kevel.domain.limits import Limits
from kevel.domain.model import BootKind
from kevel.domain.status import server_status, task_state
from tests.integration.engine.test_random_life import World, a_world

WAIT_S = 120.0
LIMITS = Limits(unplug_look_s=0.03, shutdown_grace_s=0.2, reboot_grace_s=0.2, sweep_every_s=0.5)
STAMP = b"what the guest wrote"
STAMP_AT = 4096
STATES = (
    "ACTIVE",
    "PAUSED",
    "SUSPENDED",
    "SHUTOFF",
    "RESCUE",
    "VERIFY_RESIZE",
    "ERROR",
    "SHELVED",
    "SHELVED_OFFLOADED",
)
#: The states in which each operation is accepted; in the others it is a Conflict (409).
ACCEPTED: dict[str, tuple[str, ...]] = {
    "attach": ("ACTIVE", "PAUSED", "SHUTOFF", "VERIFY_RESIZE", "SHELVED", "SHELVED_OFFLOADED"),
    # Unlike in Nova, from an error, too: there is always a way out.
    "detach": ("ACTIVE", "PAUSED", "SHUTOFF", "VERIFY_RESIZE", "ERROR", "SHELVED", "SHELVED_OFFLOADED"),
    "extend": STATES[:-1],
    "snapshot": STATES[:-1],
    "reboot soft": ("ACTIVE",),
    "reboot hard": ("ACTIVE", "PAUSED", "SUSPENDED", "SHUTOFF", "ERROR"),
    "unshelve": ("SHELVED", "SHELVED_OFFLOADED"),
    "delete": STATES,
}


class Row:
    """One server in one state with one volume that has data, and a free volume."""

    def __init__(self, world: World, data: Path, state: str, operation: str) -> None:
        self.world, self.data, self.state, self.operation = world, data, state, operation
        self.server = self.volume = self.other = self.snapshot = ""

    async def play(self) -> None:
        """Bring the server into the state, do the operation, and look what it came to."""
        await self._prepare()
        accepted = self.state in ACCEPTED[self.operation]
        if accepted:
            await self._ask()
        else:
            with pytest.raises(Invalid if self.operation in ("extend", "snapshot") else Conflict):
                await self._ask()
        await self._until(self._is_as_it_should_be if accepted else self._is_unchanged)
        for path in (self._file(self.volume), *([self._file(self.snapshot)] if self.snapshot else [])):
            with path.open("rb") as file:  # not the whole of it: it is a GiB
                file.seek(STAMP_AT)
                assert file.read(len(STAMP)) == STAMP, f"{self}: {path.name}"

    def __str__(self) -> str:
        return f"{self.operation} in {self.state}"

    async def _prepare(self) -> None:
        world, servers, actor = self.world, self.world.kevel.services.servers, self.world.actor
        self.server, self.volume, self.other = (
            await world.add_server("kind"),
            await world.add_volume(),
            await world.add_volume(),
        )
        await self._until(lambda: self._shows("ACTIVE"))
        await self._until(self._has_volumes({self.volume: "available", self.other: "available"}))
        with self._file(self.volume).open("r+b") as file:
            file.seek(STAMP_AT)
            file.write(STAMP)
        await world.attach(self.server, self.volume)
        await self._until(self._has_volumes({self.volume: "in-use"}))
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "PAUSED": lambda: servers.ask(actor, self.server, "pause"),
            "SUSPENDED": lambda: servers.ask(actor, self.server, "suspend"),
            "SHUTOFF": lambda: servers.ask(actor, self.server, "stop"),
            "RESCUE": lambda: servers.rescue(actor, self.server, None),
            "VERIFY_RESIZE": lambda: servers.resize(actor, self.server, "larger"),
            "ERROR": lambda: servers.reset_state(actor, self.server, "error"),
            "SHELVED": lambda: world.kevel.services.shelving.shelve(actor, self.server),
            "SHELVED_OFFLOADED": self._offload,
        }
        if self.state in ways:
            await ways[self.state]()
        await self._until(lambda: self._shows(self.state))
        assert await self._has_volumes({self.volume: self._held()})(), f"{self}: the volume stays attached"

    async def _offload(self) -> None:
        shelving = self.world.kevel.services.shelving
        await shelving.shelve(self.world.actor, self.server)
        await self._until(lambda: self._shows("SHELVED"))
        await shelving.offload(self.world.actor, self.server)

    def _held(self) -> str:
        """What a volume is that the server has."""
        return "reserved" if self.state == "SHELVED_OFFLOADED" else "in-use"

    async def _ask(self) -> None:
        services, actor = self.world.kevel.services, self.world.actor
        if self.operation == "attach":
            await self.world.attach(self.server, self.other)
        elif self.operation == "detach":
            await services.attachments.detach(actor, self.server, self.volume)
        elif self.operation == "extend":
            await services.volumes.extend(actor, self.volume, 2, in_use=True)
        elif self.operation == "snapshot":
            view = await services.snapshots.create(actor, NewSnapshot(volume_id=self.volume, in_use=True))
            self.snapshot = view.snapshot.id
        elif self.operation == "delete":
            await services.servers.delete(actor, self.server)
        elif self.operation == "unshelve":
            await services.shelving.unshelve(actor, self.server, Place())
        else:
            kind = BootKind.SOFT if self.operation == "reboot soft" else BootKind.HARD
            await services.servers.reboot(actor, self.server, kind)

    async def _is_as_it_should_be(self) -> bool:
        statuses = {self.volume: self._held(), self.other: "available"}
        state: str | None = self.state
        if self.operation == "attach":
            statuses[self.other] = "in-use"
        elif self.operation == "detach":
            statuses[self.volume] = "available"
        elif self.operation == "delete":
            statuses[self.volume], state = "available", None
        elif self.operation in ("reboot soft", "reboot hard", "unshelve"):
            state, statuses[self.volume] = "ACTIVE", "in-use"
        elif self.operation == "snapshot":
            services = self.world.kevel.services
            if (await services.snapshots.get(self.world.actor, self.snapshot)).status != "available":
                return False
        elif (await self.world.kevel.services.volumes.get(self.world.actor, self.volume)).volume.size_gib != 2:
            return False
        held = {volume for volume, status in statuses.items() if status != "available"}
        return await self._shows(state) and await self._has_volumes(statuses)() and self._guest_has(held)

    async def _is_unchanged(self) -> bool:
        statuses = {self.volume: self._held(), self.other: "available"}
        return await self._shows(self.state) and await self._has_volumes(statuses)() and self._guest_has({self.volume})

    def _guest_has(self, volumes: set[str]) -> bool:
        truth = self.world.host.servers.get(self.server)
        if truth is None:
            return self.operation == "delete" or self.state == "SHELVED_OFFLOADED"
        live = truth.saved if self.state == "SUSPENDED" and not truth.runs else truth.live
        defined = {disk.serial for disk in truth.persistent.values()}
        return defined == volumes and (not truth.runs or {disk.serial for disk in live.values()} == volumes)

    async def _shows(self, state: str | None) -> bool:
        try:
            server = (await self.world.kevel.services.servers.get(self.world.actor, self.server)).server
        except NotFound:
            return state is None
        return server_status(server) == state and task_state(server) is None

    def _has_volumes(self, statuses: dict[str, str]) -> Callable[[], Awaitable[bool]]:
        async def have() -> bool:
            return all([await self.world.volume_status(volume) == word for volume, word in statuses.items()])

        return have

    def _file(self, of_id: str) -> Path:
        (path,) = [path for path in self.data.rglob(f"*{of_id}*") if path.is_file() and path.stat().st_size > STAMP_AT]
        return path

    async def _until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        deadline = asyncio.get_running_loop().time() + WAIT_S
        while not await condition():
            assert asyncio.get_running_loop().time() < deadline, f"{self} never came about"
            await asyncio.sleep(0.1)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("state", STATES)
async def test_each_operation_in_each_state_ends_as_documented_with_the_data_intact(state: str) -> None:
    with tempfile.TemporaryDirectory(prefix="kv-") as name:
        async with a_world(Path(name), LIMITS, offload_shelved=False) as world:
            await world.make_flavors()
            larger = Flavor(
                id="larger",
                name="larger",
                vcpus=2,
                ram_mib=128,
                disk_gib=0,
                ephemeral_gib=0,
                swap_mib=0,
                is_public=True,
                description=None,
                extra_specs={},
            )
            await world.kevel.services.flavors.create(larger)
            await asyncio.gather(*(Row(world, Path(name), state, operation).play() for operation in ACCEPTED))
