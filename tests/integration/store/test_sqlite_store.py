"""The store as its callers see it: durable before it answers, fresh snapshots, and an honest end."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from kevel.domain.errors import SetupError
from kevel.store import sqlite
from kevel.store.ballast import BALLAST_BYTES, Ballast
from kevel.store.batch import StoreFull
from kevel.store.sqlite import SqliteStore, check_database, make_engine
from kevel.store.transactions import Tx

CREATE = "CREATE TABLE notes (word TEXT PRIMARY KEY, bytes BLOB)"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """SQLite is what these tests are about."""
    engine = make_engine(tmp_path / "kevel.db")
    yield engine
    engine.dispose()


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
