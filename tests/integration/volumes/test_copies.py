"""Long copies: their progress is told, their number and their time are bounded, and a crash costs a repetition."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from kevel.control.copies import copies
from kevel.domain.errors import StepRetry, Unavailable
from kevel.runtime.reconciler import Again, Retry
from kevel.storage.base import CopyWatch, SnapshotFile, Source, VolumeFile
from kevel.store.transactions import Tx
from tests.integration.volumes.conftest import Pool, World, message


async def ask_snapshot(world: World) -> str:
    """A snapshot that has been asked for and not yet been looked at."""
    answer = await world.ask_snapshot(await world.make())
    snapshot_id: str = answer.json()["snapshot"]["id"]
    return snapshot_id


def end_time(tx: Tx) -> None:
    tx.execute(text("UPDATE operations SET deadline_at = 1 WHERE finished_at IS NULL"), {})


class SlowPool:
    """Copies that go on until they are told to end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = asyncio.Event()
        self.running = 0
        slow = self

        async def create(self: Pool, snapshot: SnapshotFile, source: VolumeFile, watch: CopyWatch) -> None:
            watch.total_bytes, watch.done_bytes = 200, 84
            slow.running += 1
            slow.begun.set()
            while True:
                watch.check()
                await asyncio.sleep(0.005)

        monkeypatch.setattr(Pool, "create_snapshot", create)
        monkeypatch.setattr(copies, "WATCH_S", 0.01)


async def test_progress_is_shown_while_a_copy_goes_on_and_a_delete_ends_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowPool(monkeypatch)
    snapshot_id = await ask_snapshot(world)
    look = asyncio.create_task(world.snapshot_worker.look(snapshot_id))
    await slow.begun.wait()
    while True:
        shown = await world.get(f"/snapshots/{snapshot_id}", "snapshot")
        if shown["os-extended-snapshot-attributes:progress"] == "42%":
            break
        await asyncio.sleep(0.01)
    await world.call("POST", f"/snapshots/{snapshot_id}/action", {"os-force_delete": {}}, caller="admin")
    async with asyncio.timeout(20):
        await look
    await world.settle_all()
    message(await world.call("GET", f"/snapshots/{snapshot_id}"), 404)


async def test_a_copy_that_takes_too_long_ends_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowPool(monkeypatch)
    snapshot_id = await ask_snapshot(world)
    look = asyncio.create_task(world.snapshot_worker.look(snapshot_id))
    await slow.begun.wait()
    await world.runtime.store.write(end_time)
    async with asyncio.timeout(20):
        await look
    # What had been read of its deadline before was an older one.
    await world.settle_all()
    assert await world.snapshot_status(snapshot_id) == "error"
    (told,) = await world.get("/messages", "messages")
    assert told["user_message"] == "create snapshot: The copy has not ended within its time."


async def test_a_copy_that_cannot_be_watched_ends_and_is_begun_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowPool(monkeypatch)
    snapshot_id = await ask_snapshot(world)

    def fail(tx: Tx, *_: object) -> None:
        raise Unavailable("Too many changes are waiting to be stored already.")

    monkeypatch.setattr(copies, "note_progress", fail)
    look = asyncio.create_task(world.snapshot_worker.look(snapshot_id))
    await slow.begun.wait()
    async with asyncio.timeout(20):
        assert isinstance(await look, Retry)


async def test_few_copies_run_at_a_time_and_the_next_one_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowPool(monkeypatch)
    volume_ids = [await world.make() for _ in range(copies.COPIES_MAX + 1)]
    ids = [(await world.ask_snapshot(volume_id)).json()["snapshot"]["id"] for volume_id in volume_ids]
    looks = [asyncio.create_task(world.snapshot_worker.look(one)) for one in ids[:-1]]
    async with asyncio.timeout(20):
        while slow.running < copies.COPIES_MAX:
            await asyncio.sleep(0.01)
    assert isinstance(await world.snapshot_worker.look(ids[-1]), Again)
    assert slow.running == copies.COPIES_MAX
    for look in looks:
        look.cancel()
    await asyncio.gather(*looks, return_exceptions=True)


async def test_a_crash_between_a_copy_and_its_record_costs_a_repetition(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    real = Pool.create_volume_from

    async def crash_once(self: Pool, volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        await real(self, volume, source, watch)
        made.append(volume.volume_id)
        if len(made) == 1:
            raise StepRetry("the process died here")

    monkeypatch.setattr(Pool, "create_volume_from", crash_once)
    source = await world.make()
    world.write(source, b"words")
    copy = (await world.ask(source_volid=source)).json()["volume"]["id"]
    await world.worker.look(copy)
    assert await world.status(copy) == "creating"
    await world.settle()
    assert made == [copy, copy]
    assert await world.status(copy) == "available"
    assert world.read(copy, 5) == b"words"
