"""What a host's agent saw, held against the records: what differs is found, what nobody names is left alone (L3)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kevel.control.hosts.hosts import Hosts
from kevel.control.runtime import Runtime
from kevel.control.secrets import Sealer
from kevel.domain.assignments import Assignments, DiskSight, HostCensus, ServerSight, Stranger
from kevel.domain.findings import Finding, FindingKind, describe_finding, describe_remedy, needs_person
from kevel.domain.ladder import Rung
from kevel.domain.limits import Limits
from kevel.domain.model import ServerGoal
from kevel.domain.placement import HOST_SILENT_S
from kevel.storage.sim import SimBackend
from kevel.store.attachments import load_path
from kevel.store.censuses import list_findings, load_census, want_censuses
from kevel.store.hosts import register_host
from kevel.store.servers import load_server
from kevel.store.transactions import Tx
from tests.integration.control.test_path_worker import SteppedClock
from tests.integration.stand import open_runtime
from tests.integration.store.life import Life
from tests.integration.store.rows import insert_ground
from tests.things import SECOND, T0

HOST = "here"


class Stand:
    """Records of one server and one attachment, and an agent's words."""

    def __init__(self, runtime: Runtime, clock: SteppedClock) -> None:
        self.runtime, self.clock = runtime, clock
        self.censuses = 0
        backend = SimBackend("sim", total_bytes=1 << 40)
        self.hosts = Hosts(runtime, {"sim": backend}, Sealer(bytes(64)), Limits())

    async def live(self, *requests: str) -> None:
        def run(tx: Tx) -> None:
            insert_ground(tx)
            life = Life(tx)
            for request in requests:
                getattr(life, request)()

        await self.runtime.store.write(run)

    async def see(self, epoch: int = 1, **seen: Any) -> None:
        self.censuses += 1
        whole: dict[str, Any] = {
            "sequence": self.censuses,
            "number": 0,
            "servers": 1,
            "disks": (),
            "differing": (),
            "strangers": (),
        }
        await self.hosts.take_census(HOST, epoch, HostCensus(**(whole | seen)))

    async def see_disk(self, *, live: bool | None, persistent: bool, revision: int | None = None) -> None:
        path = await self.path()
        sight = DiskSight(path_id=path.id, revision=revision or path.revision, live=live, persistent=persistent)
        await self.see(disks=(sight,))

    async def path(self) -> Any:
        return await self.runtime.store.read(load_path, "path-a0")

    async def seen(self) -> DiskSight | None:
        def read(tx: Tx) -> Any:
            return tx.conn.exec_driver_sql("SELECT seen FROM paths").scalar_one()

        return await self.runtime.store.read(read)

    async def findings(self) -> list[Finding]:
        return await self.runtime.store.read(list_findings, self.clock.now)

    async def kinds(self) -> list[FindingKind]:
        return [one.kind for one in await self.findings()]


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    clock = SteppedClock()
    async with open_runtime(tmp_path) as opened:
        runtime = Runtime(store=opened.store, clock=clock, ids=opened.ids, executor=opened.executor)
        yield Stand(runtime, clock)


def load_version(tx: Tx) -> int:
    return int(tx.conn.exec_driver_sql("SELECT version FROM hosts WHERE name = 'here'").scalar_one())


PLUGGED = ("attach", "settle")


async def test_a_host_that_agrees_has_no_findings_and_its_sights_are_kept(stand: Stand) -> None:
    await stand.live(*PLUGGED)
    await stand.see_disk(live=True, persistent=True)
    assert await stand.findings() == []
    assert '"live":true' in str(await stand.seen())
    census = await stand.runtime.store.read(load_census, "host:here")
    assert census is not None
    assert (census.at, census.counted) == (T0, {"servers": 1, "disks": 1})


async def test_a_disk_that_the_guest_lacks_is_found_until_it_is_back(stand: Stand) -> None:
    await stand.live(*PLUGGED)
    await stand.see_disk(live=False, persistent=True)
    (finding,) = await stand.findings()
    assert (finding.kind, finding.attachment_id) == (FindingKind.DISK_MISSING, "a0")
    assert not needs_person(finding), "the agent puts it back"
    stand.clock.now += 30 * SECOND
    await stand.see_disk(live=False, persistent=True)
    assert await stand.findings() == [finding], "the same as before, found when it was found"
    await stand.see_disk(live=True, persistent=True)
    assert await stand.findings() == []


async def test_a_disk_of_a_guest_that_does_not_run_has_to_be_in_its_definition_only(stand: Stand) -> None:
    await stand.live(*PLUGGED)
    await stand.see_disk(live=None, persistent=True)
    assert await stand.findings() == []
    await stand.see_disk(live=None, persistent=False)
    assert await stand.kinds() == [FindingKind.DISK_MISSING]


async def test_a_sight_of_a_path_that_has_moved_since_says_nothing(stand: Stand) -> None:
    await stand.live(*PLUGGED)
    await stand.see_disk(live=False, persistent=False, revision=(await stand.path()).revision - 1)
    assert await stand.findings() == []
    assert await stand.seen() is None


async def test_a_disk_on_its_way_out_is_no_difference(stand: Stand) -> None:
    await stand.live(*PLUGGED, "detach")
    await stand.see_disk(live=False, persistent=True)
    assert await stand.findings() == []


async def test_s6_s11_a_census_of_an_earlier_agent_changes_nothing(stand: Stand) -> None:
    await stand.live(*PLUGGED)
    await stand.runtime.store.write(register_host, name=HOST, availability_zone="nova", facts={}, at=T0)
    await stand.see(epoch=1, strangers=(Stranger(server_id="stray"),))
    assert await stand.findings() == []
    await stand.see(epoch=2, strangers=(Stranger(server_id="stray"),))
    assert await stand.kinds() == [FindingKind.SERVER_UNKNOWN]


async def test_s6_a_census_that_arrives_behind_a_newer_one_changes_nothing(stand: Stand) -> None:
    await stand.live()
    await stand.see(sequence=7)
    for sequence in (6, 7):
        await stand.see(sequence=sequence, strangers=(Stranger(server_id="stray"),))
        assert await stand.findings() == []
    await stand.see(sequence=8, strangers=(Stranger(server_id="stray"),))
    assert await stand.kinds() == [FindingKind.SERVER_UNKNOWN]
    await stand.runtime.store.write(register_host, name=HOST, availability_zone="nova", facts={}, at=T0)
    await stand.see(epoch=2, sequence=1)
    assert await stand.findings() == [], "a new agent counts from one"


async def test_an_unknown_server_on_the_host_raises_an_alarm_and_is_left_alone(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    await stand.live()
    strangers = (Stranger(server_id="stray"), Stranger(server_id="stray", alias="ua-x"))
    for _ in range(3):
        await stand.see(strangers=strangers)
    logged = capsys.readouterr().out
    assert logged.count("unknown to the records") == 1
    (finding,) = await stand.findings()
    assert needs_person(finding)
    assert describe_finding(finding) == "Host here has a server stray that no record names."
    assert "never removes" in describe_remedy(finding)


async def test_an_unknown_disk_in_a_known_server_raises_an_alarm(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    await stand.live(*PLUGGED)
    await stand.see(strangers=(Stranger(server_id="server", alias="ua-nobody"),))
    (finding,) = await stand.findings()
    assert (finding.kind, finding.key) == (FindingKind.DISK_UNKNOWN, "server/ua-nobody")
    assert "unknown to the records" in capsys.readouterr().out


async def test_what_is_known_to_the_records_and_not_yet_to_the_agent_is_no_stranger(stand: Stand) -> None:
    await stand.live(*PLUGGED)
    await stand.see(strangers=(Stranger(server_id="server"), Stranger(server_id="server", alias="ua-a0")))
    assert await stand.findings() == []


async def test_a_disk_left_behind_its_tombstone_is_assigned_once_more(stand: Stand) -> None:
    await stand.live(*PLUGGED, "detach", "settle")
    version = (await stand.hosts.changes(HOST, 0)).version
    for _ in range(2):
        await stand.see(strangers=(Stranger(server_id="server", alias="ua-a0"),))
        again: Assignments = await stand.hosts.changes(HOST, version)
        version = again.version
        assert [(one.id, one.rung, one.alias) for one in again.paths] == [("path-a0", Rung.RELEASED, "ua-a0")]
    (finding,) = await stand.findings()
    assert (finding.kind, finding.volume_id) == (FindingKind.DISK_LEFT, "volume")
    assert not needs_person(finding), "the agent takes it out"
    await stand.see()
    assert await stand.findings() == []


async def test_a_disk_of_a_closed_attachment_that_had_no_path_on_this_host_is_left_alone(stand: Stand) -> None:
    await stand.live(*PLUGGED, "detach", "settle")

    def move(tx: Tx) -> None:
        register_host(tx, name="there", availability_zone="nova", facts={}, at=T0)
        tx.conn.exec_driver_sql("UPDATE paths SET host = 'there', agent = 'there'")

    await stand.runtime.store.write(move)
    version = (await stand.hosts.changes(HOST, 0)).version
    await stand.see(strangers=(Stranger(server_id="server", alias="ua-a0"),))
    assert await stand.kinds() == [FindingKind.DISK_UNKNOWN]
    assert (await stand.runtime.store.read(load_version)) == version


async def test_of_a_deleted_server_that_is_still_there_its_disks_are_no_findings_of_their_own(stand: Stand) -> None:
    await stand.live(*PLUGGED, "delete_server", "host_removed_server", "settle")
    await stand.see(strangers=(Stranger(server_id="server"), Stranger(server_id="server", alias="ua-a0")))
    assert await stand.kinds() == [FindingKind.SERVER_LEFT]


async def test_a_server_left_behind_its_tombstone_is_assigned_once_more(stand: Stand) -> None:
    await stand.live("delete_server", "host_removed_server")
    server = await stand.runtime.store.read(load_server, "server")
    assert server is not None
    assert server.deleted_at is not None
    version = (await stand.hosts.changes(HOST, 0)).version
    await stand.see(strangers=(Stranger(server_id="server"),))
    again: Assignments = await stand.hosts.changes(HOST, version)
    assert [(one.id, one.goal) for one in again.servers] == [("server", ServerGoal.DELETED)]
    assert await stand.kinds() == [FindingKind.SERVER_LEFT]
    await stand.see()
    assert await stand.findings() == []


async def test_a_server_that_stopped_by_itself_is_found_unless_it_has_moved_since(stand: Stand) -> None:
    await stand.live()
    server = await stand.runtime.store.read(load_server, "server")
    assert server is not None
    await stand.see(differing=(ServerSight(server_id="server", revision=server.revision, runs=False),))
    assert await stand.kinds() == [FindingKind.SERVER_STOPPED]
    await stand.see(differing=(ServerSight(server_id="server", revision=server.revision - 1, runs=False),))
    assert await stand.findings() == []


async def test_a_host_that_has_not_been_heard_of_is_silent(stand: Stand) -> None:
    await stand.live()
    assert await stand.findings() == []
    stand.clock.now += int((HOST_SILENT_S + 1) * 1e6)
    (finding,) = await stand.findings()
    assert (finding.kind, describe_finding(finding)) == (FindingKind.HOST_SILENT, "Host here does not answer.")


async def test_an_attachment_past_its_deadline_is_found_until_it_is_where_it_should_be(stand: Stand) -> None:
    await stand.live("attach")
    assert await stand.findings() == []
    stand.clock.now += 3600 * SECOND
    assert await stand.kinds() == [FindingKind.HOST_SILENT, FindingKind.OVERDUE]


async def test_a_census_that_is_asked_for_wakes_the_agent_with_its_number(stand: Stand) -> None:
    await stand.live()
    first = await stand.hosts.changes(HOST, 0)
    assert first.census_wanted == 0
    assert await stand.runtime.store.write(want_censuses) == {HOST: 1}
    assert (await stand.hosts.changes(HOST, first.version)).census_wanted == 1
    await stand.see(number=1)
    census = await stand.runtime.store.read(load_census, "host:here")
    assert census is not None
    assert census.number == 1
