"""What the storage really has, held against the records (L3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from kevel.control.attachments.paths import PathWorker
from kevel.control.copies.copies import Copies
from kevel.control.copies.snapshot_worker import SnapshotWorker
from kevel.control.hosts.comparison import Comparison
from kevel.control.runtime import Runtime
from kevel.control.secrets import Sealer
from kevel.control.volumes.worker import VolumeWorker
from kevel.domain.copies import stage_id
from kevel.domain.errors import StepRetry
from kevel.domain.findings import Finding, FindingKind, needs_person
from kevel.domain.ladder import Hands, Rung
from kevel.domain.limits import Limits
from kevel.domain.model import GIB, Snapshot
from kevel.runtime.reconciler import DONE
from kevel.storage.base import CopyWatch, Export, SnapshotFile, VolumeFile
from kevel.storage.sim import SimBackend
from kevel.store.attachments import load_path
from kevel.store.snapshots import change_snapshot, insert_snapshot
from kevel.store.transactions import Tx, Wake
from kevel.store.volumes import change_volume
from tests.integration.control.test_path_worker import SteppedClock
from tests.integration.stand import open_runtime
from tests.integration.store.life import Life
from tests.integration.store.rows import insert_ground
from tests.things import SECOND, T0

FILE = VolumeFile(volume_id="volume", size_bytes=GIB, format="raw")
#: Behind everything that tests let happen.
NOW = T0 + 80 * SECOND
EXPORT = Export(volume=FILE, path_id="path-a0", generation=1, host="here")


class Pool(SimBackend):
    """A pool that can be hung, and that lets something happen while it lists."""

    def __init__(self) -> None:
        super().__init__("sim", total_bytes=1 << 40)
        self.hung = asyncio.Event()
        self.hung.set()
        self.listings = 0
        self.refuses = False

    async def list_volumes(self) -> list[str]:
        self.listings += 1
        listed = await super().list_volumes()
        if self.refuses:
            raise StepRetry("The storage has gone fishing.")
        await self.hung.wait()
        return listed


class Stand:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.pool = Pool()
        self.comparison = Comparison(runtime, {"sim": self.pool})
        self.paths = PathWorker(runtime, {"sim": self.pool}, Sealer(bytes(64)), Limits())
        copies = Copies(runtime)
        self.volumes = VolumeWorker(runtime, {"sim": self.pool}, copies)
        self.snapshots = SnapshotWorker(runtime, {"sim": self.pool}, copies)
        self.woken: list[Wake] = []
        runtime.store.subscribe(self.woken.extend)

    async def live(self, *requests: str) -> None:
        await self.pool.create_volume(FILE)

        def run(tx: Tx) -> None:
            insert_ground(tx)
            life = Life(tx)
            for request in requests:
                getattr(life, request)()

        await self.runtime.store.write(run)
        self.woken.clear()

    async def compare(self) -> list[Finding]:
        await self.comparison.compare_storage()
        return [one for one in (await self.comparison.known()).findings if one.subject == "storage:sim"]

    async def kinds(self) -> list[FindingKind]:
        return [one.kind for one in await self.compare()]


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with open_runtime(tmp_path) as opened:
        clock = SteppedClock()
        clock.now = NOW
        made = Stand(Runtime(store=opened.store, clock=clock, ids=opened.ids, executor=opened.executor))
        yield made
        await made.comparison.close()


async def test_where_records_and_storage_agree_nothing_is_found_and_both_are_counted(stand: Stand) -> None:
    await stand.live("attach", "settle")
    await stand.pool.export_volume(EXPORT)
    assert await stand.compare() == []
    (census,) = (await stand.comparison.known()).censuses
    assert (census.subject, census.at, census.counted) == ("storage:sim", NOW, {"volumes": 1, "exports": 1})


async def test_l3_a_volume_that_no_record_names_raises_one_alarm_and_is_left_alone(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    await stand.live()
    stray = VolumeFile(volume_id="stray", size_bytes=GIB, format="raw")
    await stand.pool.create_volume(stray)
    await stand.compare()
    await stand.compare()
    (finding,) = await stand.compare()
    assert (finding.kind, finding.key) == (FindingKind.VOLUME_UNKNOWN, "stray")
    assert needs_person(finding)
    assert capsys.readouterr().out.count("unknown to the records") == 1
    assert stand.woken == []
    assert "stray" in stand.pool.volumes
    await stand.pool.delete_volume(stray)
    assert await stand.compare() == []


async def test_l3_a_volume_whose_data_is_gone_is_reported(stand: Stand) -> None:
    await stand.live()
    await stand.pool.delete_volume(FILE)
    (finding,) = await stand.compare()
    assert (finding.kind, finding.volume_id) == (FindingKind.VOLUME_GONE, "volume")
    assert needs_person(finding)


async def test_l3_what_is_left_of_a_deleted_volume_is_put_up_for_a_look_that_removes_it(stand: Stand) -> None:
    await stand.live()
    await stand.runtime.store.write(lambda tx: change_volume(tx, "volume", deleted_at=T0, live=None))
    assert await stand.kinds() == [FindingKind.VOLUME_LEFT]
    assert "volume" in stand.pool.volumes, "the listing itself removes nothing"
    assert stand.woken == [Wake("volume", "volume")]
    assert await stand.volumes.look("volume") is DONE
    assert stand.pool.volumes == {}
    assert await stand.compare() == []


async def test_l3_an_export_that_no_record_names_is_left_alone(stand: Stand) -> None:
    await stand.live()
    stand.pool.exports["stray-1"] = "elsewhere"
    assert await stand.kinds() == [FindingKind.EXPORT_UNKNOWN]
    assert stand.woken == []
    assert "stray-1" in stand.pool.exports


async def test_l3_an_export_behind_its_tombstone_is_put_up_for_a_look_that_revokes_it(stand: Stand) -> None:
    await stand.live("attach", "settle", "detach", "settle")
    stand.pool.exports["path-a0-1"] = "here"
    assert await stand.kinds() == [FindingKind.EXPORT_LEFT]
    assert stand.woken == [Wake("path", "path-a0")]
    assert await stand.paths.look("path-a0") is DONE
    assert stand.pool.exports == {}
    assert await stand.compare() == []


async def test_l3_an_export_that_is_gone_is_reported_and_its_host_looks_again(stand: Stand) -> None:
    await stand.live("attach", "settle")
    (finding,) = await stand.compare()
    assert (finding.kind, finding.attachment_id) == (FindingKind.EXPORT_MISSING, "a0")
    assert Wake("host", "here") in stand.woken
    path = await stand.runtime.store.read(load_path, "path-a0")
    assert path is not None
    assert path.rung is Rung.PLUGGED, "nothing is decided from a listing"


async def test_an_export_that_is_revoked_and_not_yet_recorded_so_is_on_its_way(stand: Stand) -> None:
    await stand.live("attach", "settle")

    def hand_back(tx: Tx) -> None:
        life = Life(tx)
        life.ids = ["a0"]
        life.detach()
        life.step()
        life.step()
        assert (life.path.rung, life.path.hands) == (Rung.EXPORTED, Hands.CONTROL)

    await stand.runtime.store.write(hand_back)
    assert await stand.compare() == []


async def test_what_comes_and_goes_while_the_storage_lists_is_no_difference(stand: Stand) -> None:
    await stand.live("attach")
    stand.pool.hung.clear()
    comparing = asyncio.create_task(stand.compare())
    while stand.pool.listings == 0:
        await asyncio.sleep(0.001)

    def change(tx: Tx) -> None:
        life = Life(tx)
        life.ids = ["a0"]
        life.settle()
        life.detach()
        life.settle()
        change_volume(tx, "volume", made=False)

    await stand.pool.delete_volume(FILE)
    await stand.runtime.store.write(change)
    stand.pool.hung.set()
    assert await comparing == []


async def test_what_is_deleted_and_revoked_while_the_storage_lists_is_not_left_behind(stand: Stand) -> None:
    await stand.live("attach", "settle")
    await stand.pool.export_volume(EXPORT)
    stand.pool.hung.clear()
    comparing = asyncio.create_task(stand.compare())
    while stand.pool.listings == 0:
        await asyncio.sleep(0.001)

    def end(tx: Tx) -> None:
        life = Life(tx)
        life.ids, life.at = ["a0"], NOW + SECOND
        life.detach()
        life.settle()
        change_volume(tx, "volume", deleted_at=NOW + SECOND, live=None)

    await stand.runtime.store.write(end)
    stand.pool.hung.set()
    assert await comparing == []


async def test_storage_that_does_not_answer_is_reported_and_not_asked_twice_at_once(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kevel.control.hosts.comparison.ANSWER_WAIT_S", 0.02)
    await stand.live()
    stand.pool.hung.clear()
    assert await stand.kinds() == [FindingKind.STORAGE_SILENT]
    assert await stand.kinds() == [FindingKind.STORAGE_SILENT]
    assert stand.pool.listings == 1
    stand.pool.hung.set()
    assert await stand.compare() == []


async def test_storage_that_refuses_to_list_is_reported(stand: Stand) -> None:
    await stand.live()
    stand.pool.refuses = True
    assert await stand.kinds() == [FindingKind.STORAGE_SILENT]
    stand.pool.refuses = False
    assert await stand.compare() == []


async def test_an_examination_names_the_hosts_that_have_not_answered(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kevel.control.hosts.comparison.ANSWER_WAIT_S", 0.05)
    await stand.live()
    examined = await stand.comparison.examine()
    assert [(one.subject, one.kind) for one in examined.findings] == [("host:here", FindingKind.HOST_SILENT)]


async def test_an_examination_finds_rows_that_were_changed_behind_the_journals_back(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kevel.control.hosts.comparison.ANSWER_WAIT_S", 0.05)
    await stand.live("attach", "settle")

    def kinds(findings: Iterable[Finding]) -> list[FindingKind]:
        return [one.kind for one in findings if one.subject == "records"]

    assert kinds((await stand.comparison.examine()).findings) == []

    def tamper(tx: Tx) -> None:
        tx.conn.exec_driver_sql("UPDATE paths SET rung = 3")

    await stand.runtime.store.write(tamper)
    assert kinds((await stand.comparison.examine()).findings) == [FindingKind.HISTORY_DIFFERS]


SNAPSHOT = SnapshotFile(snapshot_id="snapshot", size_bytes=GIB, format="raw")


async def keep_snapshot(stand: Stand) -> None:
    """A snapshot of the volume, in the records and in the pool."""
    await stand.live()
    await stand.pool.create_snapshot(SNAPSHOT, FILE, CopyWatch())
    row = Snapshot(
        id="snapshot",
        volume_id="volume",
        project_id="project",
        user_id="user",
        name="",
        description=None,
        size_gib=1,
        backend="sim",
        format="raw",
        metadata={},
        made=True,
        created_at=T0,
    )
    await stand.runtime.store.write(insert_snapshot, row)


async def test_snapshots_are_counted_and_a_missing_one_is_reported(stand: Stand) -> None:
    await keep_snapshot(stand)
    assert await stand.compare() == []
    (census,) = (await stand.comparison.known()).censuses
    assert census.counted["snapshots"] == 1
    await stand.pool.delete_snapshot(SNAPSHOT)
    (finding,) = await stand.compare()
    assert (finding.kind, finding.key, finding.volume_id) == (FindingKind.SNAPSHOT_GONE, "snapshot", "volume")
    assert needs_person(finding)


async def test_what_is_left_of_a_deleted_snapshot_is_removed(stand: Stand) -> None:
    await keep_snapshot(stand)
    await stand.runtime.store.write(lambda tx: change_snapshot(tx, "snapshot", deleted_at=T0, live=None))
    assert await stand.kinds() == [FindingKind.SNAPSHOT_LEFT]
    assert stand.woken == [Wake("snapshot", "snapshot")]
    assert await stand.snapshots.look("snapshot") is DONE
    assert stand.pool.snapshots == {}
    assert await stand.compare() == []


async def test_what_a_copy_has_left_on_its_way_is_removed(stand: Stand) -> None:
    await stand.live()
    stage = SnapshotFile(snapshot_id=stage_id("volume"), size_bytes=GIB, format="raw")
    await stand.pool.create_snapshot(stage, FILE, CopyWatch())
    assert await stand.kinds() == [FindingKind.SNAPSHOT_LEFT]
    assert stand.woken == [Wake("volume", "volume")]
    assert await stand.volumes.look("volume") is DONE
    assert stand.pool.snapshots == {}
    assert list(stand.pool.volumes) == ["volume"]


async def test_a_snapshot_that_no_record_names_is_left_alone(stand: Stand) -> None:
    await stand.live()
    stray = SnapshotFile(snapshot_id="stray", size_bytes=GIB, format="raw")
    await stand.pool.create_snapshot(stray, FILE, CopyWatch())
    (finding,) = await stand.compare()
    assert (finding.kind, finding.key) == (FindingKind.SNAPSHOT_UNKNOWN, "stray")
    assert stand.woken == []
    assert "stray" in stand.pool.snapshots
