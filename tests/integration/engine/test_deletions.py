"""What becomes of a server's volume when the server is deleted: a table, played by the whole engine."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from kevel.control.copies.snapshots import NewSnapshot
from kevel.control.servers.servers import NewServer
from kevel.control.volumes.volumes import NewVolume
from kevel.domain.errors import NotFound, StepRetry
from kevel.domain.model import Reason
from kevel.domain.server_disks import DiskSource, NewDisk
from kevel.domain.status import server_status
from kevel.store.volumes import change_volume
from tests.integration.engine.test_random_life import World, a_world
from tests.integration.engine.test_states import LIMITS

WAIT_S: Final = 60.0
#: By what the volume is to its server: the volume's status when the server is gone, and the same of one that was to go
#: with it. None: it is gone, too.
ENDS: Final[dict[str, tuple[str | None, str | None]]] = {
    "attached": ("available", None),
    "attached to a stopped server": ("available", None),
    "attached to a suspended server": ("available", None),
    "attached to a server in error": ("available", None),
    "attached, its guest refuses to let go": ("available", None),
    "attached, its host does not answer for a while": ("available", None),
    "half attached": ("available", None),
    "half attached, its host refuses it": ("available", None),
    "half detached": ("available", None),
    "the root disk": ("available", None),
    "beside a root disk": ("available", None),
    "made for the server": ("available", None),
    "made for a server that is deleted at once": ("available", None),
    "shared with another server": ("in-use", "in-use"),
    "set to error by an admin": ("error", None),
    "failed to grow": ("error_extending", None),
    # What its users could not delete either stays.
    "with a snapshot": ("available", "available"),
}


class Row:
    """One server and its volume, which is to go with it or not."""

    def __init__(self, world: World, kind: str, away: set[str], *, goes: bool) -> None:
        self.world, self.kind, self.away, self.goes = world, kind, away, goes
        self.server = self.volume = self.other = ""

    def __str__(self) -> str:
        return f"{self.kind}, {'to go' if self.goes else 'to stay'}"

    async def play(self) -> None:
        """Prepare the server, delete it, and look what became of the volume."""
        servers, actor = self.world.kevel.services.servers, self.world.actor
        await (self._boot() if self.kind in _BOOTED else self._attach())
        await self._disturb()
        await servers.delete(actor, self.server)
        if self.server in self.away:
            for _ in range(10):
                assert await self._status() == "detaching", f"{self}: the host may still have it"
                await asyncio.sleep(0.05)
            self.away.discard(self.server)
        await self.until(self._server_is_gone)
        assert self.server not in self.world.host.servers
        ends = ENDS[self.kind][self.goes]
        await self.until(lambda: self._has(ends))
        if self.other:
            await servers.delete(actor, self.other)
            last = None if self.goes else "available"  # it goes with the last of its servers
            await self.until(lambda: self._has(last))

    async def _boot(self) -> None:
        """A server that is made with the volume."""
        source, number = DiskSource.BLANK, 0
        if self.kind in ("the root disk", "beside a root disk"):
            self.volume, source = await self._make_volume(), DiskSource.VOLUME
            number = 1 if self.kind == "beside a root disk" else 0
        disk = NewDisk(
            number=number,
            source=source,
            source_id=self.volume or None,
            boot_index=None if number else 0,
            size_gib=None if self.volume else 1,
            delete_on_termination=self.goes,
        )
        root = NewDisk(number=0, source=DiskSource.BLANK, source_id=None, boot_index=0, size_gib=1)
        new = NewServer(
            name="booted",
            description=None,
            flavor="kind",
            image_id="",
            metadata={},
            disks=(root, disk) if number else (disk,),
        )
        (server,) = await self.world.kevel.services.servers.create(self.world.actor, new)
        self.server = server.id
        views = await self.world.kevel.services.attachments.of_server(self.world.actor, server.id)
        self.volume = views[number].attachment.volume_id
        if "at once" not in self.kind:
            await self.until(lambda: self._shows("ACTIVE"))

    async def _attach(self) -> None:
        services, actor = self.world.kevel.services, self.world.actor
        self.server, self.volume = await self.world.add_server("kind"), await self._make_volume()
        await self.until(lambda: self._shows("ACTIVE"))
        if self.kind == "half attached":
            self.world.host.temper(self.server, {"sim:plug": "slow:0.3"})
        elif self.kind == "half attached, its host refuses it":
            self.world.host.temper(self.server, {"sim:plug": "refuse"})
        await services.attachments.attach(
            actor, self.server, self.volume, device=None, tag=None, delete_on_termination=self.goes
        )
        if self.kind == "shared with another server":
            self.other = other = await self.world.add_server("kind")
            await self.until(lambda: self._shows("ACTIVE", other))
            await services.attachments.attach(
                actor, self.other, self.volume, device=None, tag=None, delete_on_termination=self.goes
            )
        if not self.kind.startswith("half attached"):
            await self.until(lambda: self._has("in-use"))

    async def _disturb(self) -> None:
        """What happens before the deletion."""
        services, actor, server, volume = self.world.kevel.services, self.world.actor, self.server, self.volume
        words = {"a stopped server": ("stop", "SHUTOFF"), "a suspended server": ("suspend", "SUSPENDED")}
        for end, (action, status) in words.items():
            if self.kind.endswith(end):
                await services.servers.ask(actor, server, action)
                await self.until(lambda status=status: self._shows(status))  # type: ignore[misc]
        if self.kind.endswith("server in error"):
            await services.servers.reset_state(actor, server, "error")
        elif self.kind.endswith("refuses to let go") or self.kind == "half detached":
            self.world.host.temper(server, {"sim:unplug": "slow:0.3" if self.kind == "half detached" else "refuse"})
            await services.attachments.detach(actor, server, volume)
        elif self.kind.endswith("does not answer for a while"):
            self.away.add(server)
        elif self.kind == "set to error by an admin":
            await services.volumes.reset_status(actor, volume, "error", None)
        elif self.kind == "failed to grow":
            fault = Reason(code="extending_failed", message="There was no space.", at=1)
            await services.runtime.store.write(lambda tx: change_volume(tx, volume, fault=fault))
        elif self.kind == "with a snapshot":
            await services.snapshots.create(actor, NewSnapshot(volume_id=volume, in_use=True))

    async def _make_volume(self) -> str:
        view = await self.world.kevel.services.volumes.create(self.world.actor, NewVolume(size_gib=1))
        self.volume = volume = view.volume.id
        await self.until(lambda: self._has("available"))
        changes = {"bootable": True, "multiattach": self.kind.startswith("shared")}
        await self.world.kevel.services.runtime.store.write(lambda tx: change_volume(tx, volume, **changes))
        return volume

    async def _shows(self, status: str, server: str | None = None) -> bool:
        view = await self.world.kevel.services.servers.get(self.world.actor, server or self.server)
        return server_status(view.server) == status

    async def _server_is_gone(self) -> bool:
        try:
            await self.world.kevel.services.servers.get(self.world.actor, self.server)
        except NotFound:
            return True
        return False

    async def _status(self) -> str | None:
        try:
            return await self.world.volume_status(self.volume)
        except NotFound:
            return None

    async def _has(self, status: str | None) -> bool:
        return await self._status() == status

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        deadline = asyncio.get_running_loop().time() + WAIT_S
        while not await condition():
            now = asyncio.get_running_loop().time()
            assert now < deadline, f"{self} never came about: the volume is {await self._status()}"
            await asyncio.sleep(0.05)


_BOOTED: Final = (
    "the root disk",
    "beside a root disk",
    "made for the server",
    "made for a server that is deleted at once",
)


@pytest.mark.timeout(120)
async def test_a_volume_ends_as_documented_whatever_it_is_to_the_server_that_is_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(prefix="kv-") as name:
        async with a_world(Path(name), LIMITS) as world:
            await world.make_flavors()
            away: set[str] = set()
            undefine = world.host.undefine_server

            async def undefine_if_there(server_id: str) -> None:
                if server_id in away:
                    raise StepRetry("The host does not answer.")
                await undefine(server_id)

            monkeypatch.setattr(world.host, "undefine_server", undefine_if_there)
            rows = [Row(world, kind, away, goes=goes) for kind in ENDS for goes in (False, True)]
            await asyncio.gather(*(row.play() for row in rows))
            await rows[0].until(lambda: no_servers(world))


async def no_servers(world: World) -> bool:
    return not world.host.servers
