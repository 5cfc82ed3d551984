"""The store as its callers see it: durable before it answers, fresh snapshots, and an honest end."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from kevel.domain.errors import KevelError, SetupError, Unavailable
from kevel.store import sqlite
from kevel.store.ballast import BALLAST_BYTES, Ballast
from kevel.store.batch import BATCH_JOBS_MAX, Batcher, CommitFailed, Job, StoreFull
from kevel.store.sqlite import SqliteStore, check_database, make_engine
from kevel.store.transactions import Tx, Wake

CREATE = "CREATE TABLE notes (word TEXT PRIMARY KEY, bytes BLOB)"


@pytest.fixture
async def notes(engine: Engine, tmp_path: Path, lost: list[BaseException]) -> AsyncIterator[SqliteStore]:
    with engine.connect() as conn:
        conn.exec_driver_sql(CREATE)
    store = SqliteStore(engine, Ballast(tmp_path / "ballast"), lost.append)
    yield store
    await store.close()


def put(tx: Tx, word: str) -> str:
    tx.execute(text("INSERT INTO notes (word) VALUES (:word)"), {"word": word})
    tx.wake("path", word)
    return word


def words(tx: Tx) -> list[str]:
    return list(tx.execute(text("SELECT word FROM notes ORDER BY rowid")).scalars())


def on_disk(path: Path) -> list[str]:
    with sqlite3.connect(path) as other:
        found = [word for (word,) in other.execute("SELECT word FROM notes ORDER BY rowid")]
    other.close()
    return found


class Gate:
    """Holds the writer inside a transaction until it is opened."""

    def __init__(self) -> None:
        self.entered, self._open = threading.Event(), threading.Event()

    def __call__(self, tx: Tx) -> None:
        self.entered.set()
        assert self._open.wait(10)

    async def is_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 10)

    def open(self) -> None:
        self._open.set()


def pragmas(tx: Tx) -> dict[str, object]:
    names = ("journal_mode", "synchronous", "foreign_keys", "query_only")
    return {name: tx.conn.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names}


async def test_s13_every_connection_is_durable_and_keeps_foreign_keys(notes: SqliteStore) -> None:
    full = 2
    written = await notes.write(pragmas)
    assert written == {"journal_mode": "wal", "synchronous": full, "foreign_keys": 1, "query_only": 0}
    at_once = await asyncio.gather(*(notes.read(pragmas) for _ in range(sqlite.READ_THREADS * 2)))
    for read in at_once:
        assert read == {"journal_mode": "wal", "synchronous": full, "foreign_keys": 1, "query_only": 1}


async def test_a_write_that_has_returned_is_committed(notes: SqliteStore, tmp_path: Path) -> None:
    assert await notes.write(put, "a") == "a"
    assert on_disk(tmp_path / "kevel.db") == ["a"]


async def test_writes_are_committed_in_the_order_in_which_they_were_asked_for(notes: SqliteStore) -> None:
    names = [f"{number:03}" for number in range(3 * BATCH_JOBS_MAX)]
    await asyncio.gather(*(notes.write(put, name) for name in names))
    assert await notes.read(words) == names


async def test_a_failed_write_raises_to_its_caller_alone_and_writes_nothing(notes: SqliteStore) -> None:
    def fail(tx: Tx) -> None:
        put(tx, "broken")
        raise KevelError("no")

    results = await asyncio.gather(
        notes.write(put, "a"), notes.write(fail), notes.write(put, "b"), return_exceptions=True
    )
    assert [str(result) for result in results] == ["a", "no", "b"]
    assert await notes.read(words) == ["a", "b"]


async def test_a_read_sees_one_snapshot_and_the_next_read_a_fresh_one(notes: SqliteStore) -> None:
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


async def test_a_point_read_sees_what_is_committed_and_cannot_write_either(notes: SqliteStore) -> None:
    await notes.write(put, "a")
    assert await notes.read_point(words) == ["a"]
    with pytest.raises(Exception, match="readonly"):
        await notes.read_point(put, "b")
    await notes.write(put, "c")
    assert await notes.read_point(words) == ["a", "c"]


async def test_a_read_cannot_write(notes: SqliteStore) -> None:
    with pytest.raises(Exception, match="readonly"):
        await notes.read(put, "a")
    assert await notes.read(words) == []


async def test_a_read_that_failed_leaves_the_next_one_a_fresh_snapshot(notes: SqliteStore) -> None:
    def fail(tx: Tx) -> None:
        words(tx)
        raise KevelError("no")

    for _ in range(sqlite.READ_THREADS):
        with pytest.raises(KevelError, match="no"):
            await notes.read(fail)
    await notes.write(put, "a")
    assert (
        await asyncio.gather(*(notes.read(words) for _ in range(sqlite.READ_THREADS))) == [["a"]] * sqlite.READ_THREADS
    )


async def test_wake_ups_come_after_the_commit_and_only_from_what_was_committed(
    notes: SqliteStore, tmp_path: Path
) -> None:
    heard: list[tuple[str, list[str]]] = []

    def hear(wakes: Sequence[Wake]) -> None:
        heard.extend((wake.key, on_disk(tmp_path / "kevel.db")) for wake in wakes)

    def fail(tx: Tx) -> None:
        tx.wake("path", "undone")
        raise KevelError("no")

    notes.subscribe(hear)
    await asyncio.gather(notes.write(put, "a"), notes.write(fail), return_exceptions=True)
    await notes.write(put, "b")
    assert heard == [("a", ["a"]), ("b", ["a", "b"])]


async def test_a_cancelled_waiter_neither_undoes_the_write_nor_disturbs_others(notes: SqliteStore) -> None:
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


async def test_s14_no_batch_is_larger_than_its_limit(notes: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run = Batcher.run

    def note_size(batcher: Batcher, jobs: Sequence[Job]) -> None:
        sizes.append(len(jobs))
        run(batcher, jobs)

    monkeypatch.setattr(Batcher, "run", note_size)
    gate = Gate()
    first = asyncio.ensure_future(notes.write(gate))
    await gate.is_entered()
    rest = [asyncio.ensure_future(notes.write(put, str(number))) for number in range(2 * BATCH_JOBS_MAX + 1)]
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(first, *rest)
    assert sizes == [1, BATCH_JOBS_MAX, BATCH_JOBS_MAX, 1]


async def test_s14_beyond_the_queues_limit_callers_are_told_to_come_back(
    notes: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "QUEUE_JOBS_MAX", 2)
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


async def test_closing_commits_what_is_queued_and_takes_no_more(engine: Engine, tmp_path: Path) -> None:
    with engine.connect() as conn:
        conn.exec_driver_sql(CREATE)
    lost: list[BaseException] = []
    store = SqliteStore(engine, Ballast(tmp_path / "ballast"), lost.append)
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
    assert on_disk(tmp_path / "kevel.db") == ["0", "1", "2", "3", "4"]
    assert lost == []


async def test_a_lost_commit_is_reported_once_and_leaves_nobody_waiting(
    notes: SqliteStore, lost: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(batcher: Batcher) -> None:
        raise CommitFailed

    gate = Gate()
    first = asyncio.ensure_future(notes.write(gate))
    await gate.is_entered()
    queued = [asyncio.ensure_future(notes.write(put, str(number))) for number in range(BATCH_JOBS_MAX + 1)]
    await asyncio.sleep(0)
    monkeypatch.setattr(Batcher, "_commit", fail)
    gate.open()
    results = await asyncio.wait_for(asyncio.gather(first, *queued, return_exceptions=True), 10)
    assert all(isinstance(result, KevelError) and "unknown" in result.message for result in results)
    assert [type(error) for error in lost] == [CommitFailed]
    with pytest.raises(KevelError, match="closed"):
        await notes.write(put, "late")


WRITE_UNTIL_KILLED = """
import asyncio, sys
from pathlib import Path
from sqlalchemy import text
from kevel.store.ballast import Ballast
from kevel.store.sqlite import SqliteStore, make_engine

def put(tx, word):
    tx.execute(text("INSERT INTO notes (word) VALUES (:word)"), {"word": word})

async def client(store, name):
    number = 0
    while True:
        await store.write(put, f"{name}-{number}")
        sys.stdout.write(f"{name}-{number}\\n")
        sys.stdout.flush()
        number += 1

async def main(path):
    engine = make_engine(path)
    with engine.connect() as conn:
        conn.exec_driver_sql(sys.argv[2])
    store = SqliteStore(engine, Ballast(path.with_name("ballast")), print)
    await asyncio.gather(*(client(store, name) for name in "abcdefgh"))

asyncio.run(main(Path(sys.argv[1])))
"""


def test_s13_a_killed_process_loses_no_acknowledged_write(tmp_path: Path) -> None:
    path = tmp_path / "kevel.db"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_UNTIL_KILLED, str(path), CREATE], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as output:
        acknowledged = [output.readline().strip() for _ in range(200)]
        os.kill(process.pid, signal.SIGKILL)
        # What stands behind the last line's end was not written whole, so it is no acknowledgement.
        acknowledged += output.read().split("\n")[:-1]
    assert process.wait() == -signal.SIGKILL
    engine = make_engine(path)
    check_database(engine, path)
    engine.dispose()
    found = on_disk(path)
    assert set(acknowledged) <= set(found)
    for name in "abcdefgh":
        mine = [word for word in found if word.startswith(name)]
        assert mine == [f"{name}-{number}" for number in range(len(mine))], "a client's writes are there without a gap"


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "kevel.db"
    path.write_bytes(b"my diary" * 1000)
    engine = make_engine(path)
    with pytest.raises(SetupError, match="left untouched"):
        check_database(engine, path)
    engine.dispose()
    assert path.read_bytes() == b"my diary" * 1000


def test_a_damaged_database_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "kevel.db"
    with engine.connect() as conn:
        conn.exec_driver_sql(CREATE)
        conn.exec_driver_sql("CREATE INDEX by_bytes ON notes (bytes)")
        conn.exec_driver_sql("BEGIN")
        conn.execute(text("INSERT INTO notes VALUES (:word, x'00')"), [{"word": str(number)} for number in range(2000)])
        conn.exec_driver_sql("COMMIT")
        conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    engine.dispose()
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(SetupError, match="untouched"):
        check_database(make_engine(path), path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    where = tmp_path / "disk"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(where)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


def put_bytes(tx: Tx, word: str, size_bytes: int) -> None:
    tx.execute(text("INSERT INTO notes VALUES (:word, zeroblob(:size))"), {"word": word, "size": size_bytes})


async def write_until_refused(store: SqliteStore, ballast: Ballast) -> tuple[int, int]:
    """How many writes went through while the ballast was held, and how many in all."""
    held = 0
    for written in range(100):
        try:
            await store.write(put_bytes, str(written), 200_000)
        except StoreFull:
            return held, written
        held += ballast.is_held()
    raise AssertionError("12 MiB hold no 20 MB")


async def test_on_a_full_disk_the_ballast_makes_room_then_callers_are_told_and_nothing_is_lost(
    small_disk: Path, lost: list[BaseException]
) -> None:
    engine = make_engine(small_disk / "kevel.db")
    with engine.connect() as conn:
        conn.exec_driver_sql(CREATE)
    others = small_disk / "somebody-elses"
    others.write_bytes(bytes(1_000_000))
    ballast = Ballast(small_disk / "ballast")
    assert ballast.fill()
    store = SqliteStore(engine, ballast, lost.append)
    try:
        held, written = await write_until_refused(store, ballast)
        assert 0 < held < written, "the ballast gave way, and writes went on"
        expected = [str(number) for number in range(written)]
        assert await store.read(words) == expected, "the refused write left nothing"
        assert not ballast.fill(), "there is no room for it now"
        assert (small_disk / "ballast").stat().st_size == 0
        others.unlink()
        await store.write(put, "small")
        assert await store.read(words) == [*expected, "small"], "with some space freed it goes on, without a restart"
    finally:
        await store.close()
    assert lost == []


def test_a_ballast_is_held_given_up_once_and_held_again(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast")
    assert not ballast.is_held()
    assert not ballast.give_up(), "there is nothing to give up yet"
    assert ballast.fill()
    assert ballast.is_held()
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= BALLAST_BYTES, "real blocks, not a hole"
    assert ballast.give_up()
    assert not ballast.is_held()
    assert not ballast.give_up()
    assert ballast.fill()
    assert ballast.is_held()
