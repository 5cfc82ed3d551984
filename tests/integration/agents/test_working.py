"""Agents on a loopback socket do what the agent inside Kevel does; what they cannot reach they are not given."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from kevel.domain.agents import Dismissed
from kevel.domain.assignments import ServerReport
from kevel.domain.errors import Conflict, NotFound
from kevel.domain.model import ServerRung
from kevel.storage.marks import MARK_FILE
from kevel.store.hosts import load_host
from tests.integration.agents.conftest import Stand, until


async def test_a_volume_goes_from_one_joined_host_to_another(stand: Stand) -> None:
    first, second = await stand.add("first"), await stand.add("second")
    volume = await stand.make_volume()
    for host in (first, second):
        server = await stand.make_server(host=host.name)
        await stand.until_server(server, "ACTIVE")
        await stand.attach(server, volume)
        await stand.until_volume(volume, "in-use")
        (view,) = await host.hypervisor.observe_all()
        assert (view.server_id, view.live[0].serial) == (server, volume)
        await stand.services.attachments.detach(stand.actor, server, volume)
        await stand.until_volume(volume, "available")
        assert not (await host.hypervisor.observe_all())[0].live


async def test_a_started_again_agent_finds_what_is_its_own(stand: Stand) -> None:
    host, volume = await stand.add("first"), await stand.make_volume()
    server = await stand.make_server(host="first")
    await stand.until_server(server, "ACTIVE")
    await host.stop()
    await stand.attach(server, volume)
    await host.start()
    await stand.until_volume(volume, "in-use")


async def test_reports_that_come_together_go_together(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    host = await stand.add("first")
    server = await stand.make_server(host="first")
    await stand.until_server(server, "ACTIVE")
    sizes: list[int] = []
    take = stand.services.hosts.take_reports

    async def count(name: str, epoch: int, servers: Any, paths: Any) -> tuple[str, ...]:
        sizes.append(len(servers) + len(paths))
        return await take(name, epoch, servers, paths)

    monkeypatch.setattr(stand.services.hosts, "take_reports", count)
    control = host.control
    assert control is not None
    epoch = (await stand.services.runtime.store.read(load_host, "first")).epoch
    outdated = ServerReport(server_id=server, revision=0, goal_revision=0, rung=ServerRung.RUNNING, boot=0)
    nobodys = msgspec.structs.replace(outdated, server_id="nobodys")
    told = [control.report("first", epoch, (one,), ()) for one in (outdated, nobodys) * 20]
    answers = await asyncio.gather(*told, return_exceptions=True)
    assert sum(sizes) == 40
    assert len(sizes) <= 3
    # Each hears of its own.
    assert [type(one) for one in answers] == [type(None), NotFound] * 20


async def test_what_only_the_host_can_tell_is_asked_of_its_agent(stand: Stand) -> None:
    await stand.add("first")
    server = await stand.make_server(host="first")
    await stand.until_server(server, "ACTIVE")
    reading = await stand.services.readings.measure_server(stand.actor, server)
    assert (reading.host.name, len(reading.usage.cpu_times_ns)) == ("first", 1)


async def test_a_second_agent_of_a_host_ends_the_first(stand: Stand) -> None:
    host = await stand.add("first")
    first = host.control
    assert first is not None
    second = await host.start()
    with pytest.raises(Dismissed, match="taken this one's place"):
        async with asyncio.timeout(10):
            raise await first.dismissed
    assert not second.dismissed.done()


async def test_an_agent_in_another_place_does_not_get_a_host_that_has_servers(stand: Stand) -> None:
    host = await stand.add("first")
    server = await stand.make_server(host="first")
    await stand.until_server(server, "ACTIVE")
    await host.stop()
    async with stand.speaking(await stand.credential("first")) as speaker:
        body = {"place": "elsewhere", "instance": "i", "availability_zone": "nova", "facts": {}}
        answer = await speaker.ask("register", body | {"reach": {"images": True, "pools": []}})
    assert answer.status_code == 409
    assert "in another place" in answer.text


async def test_a_host_gets_no_volume_of_a_pool_that_it_does_not_reach(stand: Stand) -> None:
    host, volume = await stand.add("far"), await stand.make_volume()
    server = await stand.make_server(host="far")
    await stand.until_server(server, "ACTIVE")
    await host.stop()
    mark = stand.root / "kevel/volumes" / MARK_FILE
    kept = mark.read_text()
    mark.write_text("another directory")
    await host.start()
    with pytest.raises(Conflict, match="which the server's host far does not reach"):
        await stand.attach(server, volume)
    with pytest.raises(Conflict, match="1 out of reach of the storage pool directory"):
        await stand.make_server(volume, host="far")
    mark.write_text(kept)
    await host.stop()
    await host.start()
    await stand.attach(server, volume)
    await stand.until_volume(volume, "in-use")


async def test_what_a_host_reaches_is_told_when_it_changes(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kevel.host.reach.LOOK_S", 0.05)
    await stand.add("far")
    mark = stand.root / "kevel/images" / MARK_FILE
    mark.unlink()

    async def is_told() -> bool:
        host = await stand.services.runtime.store.read(load_host, "far")
        return host.reach is not None and not host.reach.images

    await until(is_told)
    with pytest.raises(Conflict, match="1 out of reach of the images"):
        await stand.make_server(host="far")


async def test_without_a_lease_nothing_is_plugged(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    host, volume = await stand.add("first"), await stand.make_volume()
    server = await stand.make_server(host="first")
    await stand.until_server(server, "ACTIVE")
    monkeypatch.setattr("kevel.host.remote.LEASE_S", -1.0)
    await stand.attach(server, volume)
    await asyncio.sleep(0.3)
    assert not (await host.hypervisor.observe_all())[0].live
    monkeypatch.setattr("kevel.host.remote.LEASE_S", 75.0)
    await stand.until_volume(volume, "in-use")


async def test_a_revoked_host_gets_nothing_new_and_what_waits_for_it_says_so(stand: Stand) -> None:
    await stand.add("first")
    volume, server = await stand.make_volume(), await stand.make_server(host="first")
    await stand.until_server(server, "ACTIVE")
    await stand.services.fleet.revoke("first")
    await stand.attach(server, volume)
    (account,) = await stand.services.explaining.accounts_of_server(stand.actor, server)
    assert "waits for host first, which does not answer" in account.explanation.why
    with pytest.raises(Conflict, match="1 disabled or not heard of"):
        await stand.make_server(host="first")
    views = {view.host.name: view.up for view in await stand.services.servers.list_hosts()}
    assert views == {"first": False, "local": True}
