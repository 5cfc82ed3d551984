"""Any store as its callers see it: durable before it answers, fresh snapshots, and an honest end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from kevel.domain.errors import KevelError, Unavailable
from kevel.store import threaded
from kevel.store.batch import BATCH_JOBS_MAX, CommitFailed, Job
from kevel.store.threaded import ThreadedStore
from kevel.store.transactions import Tx, Wake
from tests.integration.store.notes import Gate, Place, put, words


@pytest.fixture
async def notes(place: Place, lost: list[BaseException]) -> AsyncIterator[ThreadedStore]:
    store = place.open(lost.append)
    yield store
    await store.close()


async def test_a_write_that_has_returned_is_committed(notes: ThreadedStore, place: Place) -> None:
    assert await notes.write(put, "a") == "a"
    assert place.look() == ["a"]


async def test_writes_are_committed_in_the_order_in_which_they_were_asked_for(notes: ThreadedStore) -> None:
    names = [f"{number:03}" for number in range(3 * BATCH_JOBS_MAX)]
    await asyncio.gather(*(notes.write(put, name) for name in names))
    assert await notes.read(words) == names


async def test_a_failed_write_raises_to_its_caller_alone_and_writes_nothing(notes: ThreadedStore) -> None:
    def fail(tx: Tx) -> None:
        put(tx, "broken")
        raise KevelError("no")

    results = await asyncio.gather(
        notes.write(put, "a"), notes.write(fail), notes.write(put, "b"), return_exceptions=True
    )
    assert [str(result) for result in results] == ["a", "no", "b"]
    assert await notes.read(words) == ["a", "b"]


async def test_a_read_sees_one_snapshot_and_the_next_read_a_fresh_one(notes: ThreadedStore) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def read_twice(tx: Tx) -> tuple[list[str], list[str]]:
        first = words(tx)
        begun.set()
        assert go_on.wait(10)
        return first, words(tx)

    reading = asyncio.ensure_future(notes.read(read_twice))
    assert await asyncio.to_thread(begun.wait, 10)
    await notes.write(put, "a")
    go_on.set()
    assert await reading == ([], [])
    assert await notes.read(words) == ["a"]


async def test_a_point_read_sees_what_is_committed_and_cannot_write_either(notes: ThreadedStore, place: Place) -> None:
    await notes.write(put, "a")
    assert await notes.read_point(words) == ["a"]
    with pytest.raises(Exception, match=place.refusal):
        await notes.read_point(put, "b")
    await notes.write(put, "c")
    assert await notes.read_point(words) == ["a", "c"]


async def test_a_read_cannot_write(notes: ThreadedStore, place: Place) -> None:
    with pytest.raises(Exception, match=place.refusal):
        await notes.read(put, "a")
    assert await notes.read(words) == []


async def test_a_read_that_failed_leaves_the_next_one_a_fresh_snapshot(notes: ThreadedStore, place: Place) -> None:
    def fail(tx: Tx) -> None:
        words(tx)
        raise KevelError("no")

    for _ in range(place.read_threads):
        with pytest.raises(KevelError, match="no"):
            await notes.read(fail)
    await notes.write(put, "a")
    assert await asyncio.gather(*(notes.read(words) for _ in range(place.read_threads))) == [["a"]] * place.read_threads


async def test_wake_ups_come_after_the_commit_and_only_from_what_was_committed(
    notes: ThreadedStore, place: Place
) -> None:
    heard: list[tuple[str, list[str]]] = []

    def hear(wakes: Sequence[Wake]) -> None:
        heard.extend((wake.key, place.look()) for wake in wakes)

    def fail(tx: Tx) -> None:
        tx.wake("path", "undone")
        raise KevelError("no")

    notes.subscribe(hear)
    await asyncio.gather(notes.write(put, "a"), notes.write(fail), return_exceptions=True)
    await notes.write(put, "b")
    assert heard == [("a", ["a"]), ("b", ["a", "b"])]


async def test_a_cancelled_waiter_neither_undoes_the_write_nor_disturbs_others(notes: ThreadedStore) -> None:
    gate = Gate()
    holding = asyncio.ensure_future(notes.write(gate))
    await gate.is_entered()
    cancelled, other = asyncio.ensure_future(notes.write(put, "a")), asyncio.ensure_future(notes.write(put, "b"))
    await asyncio.sleep(0)
    cancelled.cancel()
    gate.open()
    assert await other == "b"
    await holding
    assert cancelled.cancelled()
    assert await notes.read(words) == ["a", "b"]


async def test_s14_no_batch_is_larger_than_its_limit(
    notes: ThreadedStore, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    run = place.batcher.run

    def note_size(batcher: object, jobs: Sequence[Job]) -> None:
        sizes.append(len(jobs))
        run(batcher, jobs)

    monkeypatch.setattr(place.batcher, "run", note_size)
    gate = Gate()
    first = asyncio.ensure_future(notes.write(gate))
    await gate.is_entered()
    rest = [asyncio.ensure_future(notes.write(put, str(number))) for number in range(2 * BATCH_JOBS_MAX + 1)]
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(first, *rest)
    assert sizes == [1, BATCH_JOBS_MAX, BATCH_JOBS_MAX, 1]


async def test_s14_beyond_the_queues_limit_callers_are_told_to_come_back(
    notes: ThreadedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threaded, "QUEUE_JOBS_MAX", 2)
    gate = Gate()
    first = asyncio.ensure_future(notes.write(gate))
    await gate.is_entered()
    queued = [asyncio.ensure_future(notes.write(put, word)) for word in ("a", "b")]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="try again later"):
        await notes.write(put, "c")
    gate.open()
    await asyncio.gather(first, *queued)
    await notes.write(put, "d")
    assert await notes.read(words) == ["a", "b", "d"]


async def test_closing_commits_what_is_queued_and_takes_no_more(place: Place, lost: list[BaseException]) -> None:
    store = place.open(lost.append)
    gate = Gate()
    holding = asyncio.ensure_future(store.write(gate))
    await gate.is_entered()
    queued = [asyncio.ensure_future(store.write(put, str(number))) for number in range(5)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    with pytest.raises(KevelError, match="closed"):
        await store.write(put, "late")
    gate.open()
    await closing
    assert [task.result() for task in queued] == ["0", "1", "2", "3", "4"]
    assert holding.done()
    assert place.look() == ["0", "1", "2", "3", "4"]
    assert lost == []


async def test_a_lost_commit_is_reported_once_and_leaves_nobody_waiting(
    notes: ThreadedStore, place: Place, lost: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(batcher: object) -> None:
        raise CommitFailed

    gate = Gate()
    first = asyncio.ensure_future(notes.write(gate))
    await gate.is_entered()
    queued = [asyncio.ensure_future(notes.write(put, str(number))) for number in range(BATCH_JOBS_MAX + 1)]
    await asyncio.sleep(0)
    monkeypatch.setattr(place.batcher, "_commit", fail)
    gate.open()
    results = await asyncio.wait_for(asyncio.gather(first, *queued, return_exceptions=True), 10)
    assert all(isinstance(result, KevelError) and "unknown" in result.message for result in results)
    assert [type(error) for error in lost] == [CommitFailed]
    with pytest.raises(KevelError, match="closed"):
        await notes.write(put, "late")
