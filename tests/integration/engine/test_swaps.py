"""Another volume in an attached one's place: by the whole engine with a simulated host and real files, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from kevel.api.kevel import API
from kevel.control.volumes.volumes import NewVolume
from kevel.domain.errors import Conflict
from kevel.hypervisor.sim import SimHypervisor
from kevel.storage.directory import DirectoryBackend
from kevel.store.attachments import open_of_volume
from kevel.store.schema.volumes import volumes
from kevel.store.transactions import Tx
from tests.integration.engine.test_random_life import World, a_world
from tests.integration.engine.test_servers_with_volumes import until, until_status
from tests.integration.stand import make_app, make_client

NOBODYS = "00000000-0000-4000-8000-000000000000"
STAMP = b"what the guest wrote"
CALLERS = ("admin", "reader", "other")


class Stand:
    """A running server with an attached volume that has data, and a free volume; and /kevel/v1 before them."""

    def __init__(self, world: World, data: Path) -> None:
        self.world, self.data = world, data
        self.server = self.old = self.new = self.attachment = ""
        self.clients: dict[str, httpx.AsyncClient] = {}

    async def prepare(self) -> None:
        world = self.world
        self.server, self.old, self.new = (
            await world.add_server("kind"),
            await world.add_volume(),
            await world.add_volume(),
        )
        await until_status(world, self.server, "ACTIVE")
        await self.until_volumes({self.old: "available", self.new: "available"})
        with self.file(self.old).open("r+b") as file:
            file.write(STAMP)
        self.attachment = await self.attach(self.old)

    async def attach(self, volume: str) -> str:
        await self.world.attach(self.server, volume)
        await self.until_volumes({volume: "in-use"})
        (view,) = await self.world.kevel.services.runtime.store.read(open_of_volume, volume)
        return view.attachment.id

    def file(self, volume: str) -> Path:
        return self.data / "volumes" / f"volume-{volume}"

    async def until_volumes(self, statuses: Mapping[str, str]) -> None:
        async def have() -> bool:
            return all([await self.world.volume_status(volume) == word for volume, word in statuses.items()])

        await until(have)

    async def call(
        self, method: str, status: int, body: Any = None, caller: str = "admin", of: str | None = None
    ) -> Any:
        path = f"/attachments/{of or self.attachment}/swap"
        answer = await self.clients[caller].request(method, path, json=body)
        assert answer.status_code == status, answer.text
        found = answer.json() if answer.content else {}
        return found["swap"] if status < 300 and found else found

    async def ask(self, status: int = 202, volume: str | None = None, **more: Any) -> Any:
        return await self.call("POST", status, {"volume_id": volume or self.new}, **more)

    async def until_state(self, *states: str) -> dict[str, Any]:
        shown: dict[str, Any] = {}

        async def is_so() -> bool:
            shown.update(await self.call("GET", 200))
            return shown["state"] in states

        await until(is_so)
        return shown

    async def change_volume(self, volume: str, **changes: Any) -> None:
        def change(tx: Tx) -> None:
            tx.conn.execute(volumes.update().where(volumes.c.id == volume).values(**changes))

        await self.world.kevel.services.runtime.store.write(change)

    def disks(self) -> tuple[str, str]:
        """The file behind the server's one disk: in the guest, and in the definition."""
        truth = self.world.host.servers[self.server]
        (live,), (persistent,) = truth.live.values(), truth.persistent.values()
        assert live.alias == persistent.alias == f"ua-{self.attachment}"
        return Path(live.source_path).name, Path(persistent.source_path).name

    async def listed(self) -> list[str]:
        """The volumes that the compute API shows in the server."""
        services = self.world.kevel.services
        return [one.attachment.volume_id for one in await services.attachments.of_server(self.world.actor, self.server)]

    async def assert_kept(self) -> None:
        """The server has its own volume, and the other one is free."""
        await self.until_volumes({self.old: "in-use", self.new: "available"})
        assert self.disks() == (f"volume-{self.old}", f"volume-{self.old}")
        assert await self.listed() == [self.old]
        assert not self.world.host.servers[self.server].swaps


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(a_world(tmp_path))
        await world.make_flavors()
        stand = Stand(world, tmp_path)
        await stand.prepare()
        app = make_app(API, world.kevel.services.runtime, swaps=world.kevel.services.swaps)
        for name in CALLERS:
            stand.clients[name] = await stack.enter_async_context(make_client(app, name))
        yield stand


def slow(stand: Stand) -> None:
    stand.world.host.temper(stand.server, {"sim:swap": "slow:3600"})


async def test_the_attachment_is_the_new_volumes_with_the_data_and_the_old_one_is_available(stand: Stand) -> None:
    asked = await stand.ask()
    assert (asked["state"], asked["old_volume_id"], asked["new_volume_id"]) == ("copying", stand.old, stand.new)
    shown = await stand.until_state("swapped")
    assert shown["id"] == asked["id"]
    assert shown["done_bytes"] == shown["total_bytes"] == 1 << 30
    assert await stand.listed() == [stand.new]
    await stand.until_volumes({stand.old: "available", stand.new: "in-use"})
    assert stand.disks() == (f"volume-{stand.new}", f"volume-{stand.new}")
    with stand.file(stand.new).open("rb") as file:
        assert file.read(len(STAMP)) == STAMP
    account = await stand.world.kevel.services.explaining.account(stand.world.actor, stand.attachment)
    assert (account.attachment.volume_id, account.attachment.serial) == (stand.new, stand.old)
    _, actions = await stand.world.kevel.services.servers.actions(stand.world.actor, stand.server, deleted=False)
    (action,) = [action for action in actions if action.action == "swap_volume"]
    assert action.result == "Success"
    # The guest knows the disk by the old volume's id, and can have no second one of that.
    with pytest.raises(Conflict, match="swapped out"):
        await stand.world.attach(stand.server, stand.old)
    # Back again, then out.
    await stand.ask(volume=stand.old)
    await stand.until_volumes({stand.old: "in-use", stand.new: "available"})
    await stand.world.kevel.services.attachments.detach(stand.world.actor, stand.server, stand.old)
    await stand.until_volumes({stand.old: "available", stand.new: "available"})
    assert not stand.world.host.servers[stand.server].persistent


async def test_a_swap_under_way_is_shown_and_cancelled_and_the_attachment_keeps_its_volume(stand: Stand) -> None:
    slow(stand)
    await stand.ask()
    await stand.until_volumes({stand.old: "in-use", stand.new: "attaching"})

    async def is_filling() -> bool:
        return bool((await stand.call("GET", 200, caller="admin"))["done_bytes"])

    await until(is_filling)
    assert await stand.listed() == [stand.old]
    await stand.ask(409)
    await stand.call("DELETE", 202)
    assert (await stand.call("GET", 200))["state"] == "cancelled"
    await stand.assert_kept()
    await stand.call("DELETE", 409)
    stand.world.host.soothe(stand.server)
    await stand.ask()
    await stand.until_volumes({stand.old: "available", stand.new: "in-use"})


@pytest.mark.parametrize("end", ["detach", "stop", "crash", "delete", "refuse"])
async def test_what_ends_the_disk_or_its_guest_ends_the_swap(stand: Stand, end: str) -> None:
    services, actor = stand.world.kevel.services, stand.world.actor
    slow(stand)
    await stand.ask()
    await stand.until_volumes({stand.new: "attaching"})
    if end == "detach":
        await services.attachments.detach(actor, stand.server, stand.old)
    elif end == "stop":
        await services.servers.ask(actor, stand.server, "stop")
    elif end == "crash":
        stand.world.host.crash_guest(stand.server)
    elif end == "delete":
        await services.servers.delete(actor, stand.server)
    else:
        stand.world.host.temper(stand.server, {"sim:swap": "refuse"})
    shown = await stand.until_state("failed", "cancelled")
    assert (shown["reason"] is None) is (end == "detach")
    kept = "available" if end in ("detach", "delete") else "in-use"
    await stand.until_volumes({stand.old: kept, stand.new: "available"})
    if end in ("stop", "crash"):
        await until_status(stand.world, stand.server, "SHUTOFF")
        assert (await stand.ask(409))["conflictingRequest"]["message"].startswith("Instance")


async def test_what_cannot_be_swapped_is_refused_with_the_reason_and_changes_nothing(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, actor = stand.world.kevel.services, stand.world.actor
    larger = (await services.volumes.create(actor, NewVolume(size_gib=2))).volume.id
    await stand.until_volumes({larger: "available"})
    for volume, words in ((larger, "equal sizes"), (stand.old, "itself")):
        assert words in (await stand.ask(400, volume))["badRequest"]["message"]
    await stand.call("POST", 400, {"volume": stand.new})
    for changes, words in (({"multiattach": True}, "multiattach"), ({"readonly": True}, "read-only")):
        await stand.change_volume(stand.new, **changes)
        assert words in (await stand.ask(400))["badRequest"]["message"]
        await stand.change_volume(stand.new, **dict.fromkeys(changes, False))
    with monkeypatch.context() as patch:
        patch.setattr(DirectoryBackend, "protocol", "nbd")
        assert "exported" in (await stand.ask(409))["conflictingRequest"]["message"]
    await stand.ask(404, NOBODYS)
    await stand.ask(404, of=NOBODYS)
    await stand.ask(404, caller="other")
    await stand.ask(403, caller="reader")
    for method in ("GET", "DELETE"):
        await stand.call(method, 404)
        await stand.call(method, 404, caller="other")
    await stand.assert_kept()


async def test_a_change_over_whose_answer_is_lost_is_found_and_recorded(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change over takes effect, and nobody hears of it for a while."""
    taken = asyncio.Event()
    swap_disk = SimHypervisor.swap_disk

    async def lose_answer(self: SimHypervisor, server_id: str, swap: Any, *, pivot: bool) -> Any:
        view = await swap_disk(self, server_id, swap, pivot=pivot)
        if pivot and not taken.is_set():
            taken.set()
            raise ConnectionError("the answer was lost")
        return view

    monkeypatch.setattr(SimHypervisor, "swap_disk", lose_answer)
    await stand.ask()
    await asyncio.wait_for(taken.wait(), 20)
    if (await stand.call("GET", 200))["state"] == "pivoting":
        await stand.call("DELETE", 409)  # too late, and said so
    await stand.until_state("swapped")
    await stand.until_volumes({stand.old: "available", stand.new: "in-use"})
    assert stand.disks() == (f"volume-{stand.new}", f"volume-{stand.new}")
