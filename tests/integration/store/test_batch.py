"""The batcher by itself: what is committed together, what is undone alone, and what a job learns of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from kevel.store.batch import Batcher, CommitFailed, Job, StoreBusy, StoreFull
from kevel.store.sqlite import make_engine
from kevel.store.transactions import Tx, Wake

Write = Callable[[Tx], object]
PAGE_BYTES = 4096


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """SQLite is what these tests are about."""
    engine = make_engine(tmp_path / "kevel.db")
    yield engine
    engine.dispose()


@pytest.fixture
def writing(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as conn:
        conn.exec_driver_sql("CREATE TABLE notes (word TEXT PRIMARY KEY CHECK (word <> ''))")
        yield conn


def never_room() -> bool:
    return False


def put(word: str, result: object = None) -> Write:
    def write(tx: Tx) -> object:
        tx.execute(text("INSERT INTO notes VALUES (:word)"), {"word": word})
        tx.wake("path", word)
        return result

    return write


def put_then_raise(word: str, error: Exception) -> Write:
    def write(tx: Tx) -> object:
        put(word)(tx)
        raise error

    return write


def break_sql(tx: Tx) -> object:
    return tx.execute(text("INSERT INTO no_such_table VALUES (1)"))


def committed(path: Path) -> list[str]:
    """What another process reads: only what is committed."""
    with sqlite3.connect(path) as other:
        words = [word for (word,) in other.execute("SELECT word FROM notes ORDER BY rowid")]
    other.close()
    return words


def run(conn: Connection, *writes: Write, free_space: Callable[[], bool] = never_room) -> list[Job]:
    jobs = [Job(write) for write in writes]
    Batcher(conn, free_space).run(jobs)
    return jobs


def test_jobs_are_committed_in_order_and_each_has_its_own_result_and_wakes(writing: Connection, tmp_path: Path) -> None:
    jobs = run(writing, put("a", 1), put("b", 2), put("c", 3))
    assert committed(tmp_path / "kevel.db") == ["a", "b", "c"]
    assert [job.result for job in jobs] == [1, 2, 3]
    assert [job.wakes for job in jobs] == [[Wake("path", "a")], [Wake("path", "b")], [Wake("path", "c")]]


def test_a_batch_is_one_transaction(writing: Connection, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def look(tx: Tx) -> object:
        seen.append(committed(tmp_path / "kevel.db"))
        return None

    run(writing, put("a"), look, put("b"))
    assert seen == [[]], "nothing of the batch is visible outside before all of it is"


def test_a_later_job_sees_what_an_earlier_one_wrote(writing: Connection) -> None:
    def count(tx: Tx) -> object:
        return tx.execute(text("SELECT count(*) FROM notes")).scalar_one()

    assert run(writing, put("a"), count)[1].result == 1


def test_an_application_error_undoes_its_own_job_and_no_other(writing: Connection, tmp_path: Path) -> None:
    error = ValueError("no")
    before, broken, after = run(writing, put("a"), put_then_raise("b", error), put("c"))
    assert committed(tmp_path / "kevel.db") == ["a", "c"]
    assert broken.error is error
    assert (broken.result, broken.wakes) == (None, []), "what was undone wakes nobody"
    assert before.error is after.error is None


@pytest.mark.parametrize("word", ["a", ""])
def test_a_constraint_error_undoes_its_own_job_and_no_other(writing: Connection, tmp_path: Path, word: str) -> None:
    def write(tx: Tx) -> object:
        put("first")(tx)
        return put(word)(tx)

    _, broken, _ = run(writing, put("a"), write, put("c"))
    assert committed(tmp_path / "kevel.db") == ["a", "c"]
    assert isinstance(broken.error, IntegrityError)
    assert broken.wakes == []


def test_another_database_error_discards_the_batch_and_the_jobs_run_one_by_one(
    writing: Connection, tmp_path: Path
) -> None:
    runs: list[str] = []

    def note(word: str) -> Write:
        def write(tx: Tx) -> object:
            runs.append(word)
            return put(word, word)(tx)

        return write

    jobs = run(writing, note("a"), break_sql, note("b"))
    assert runs == ["a", "a", "b"], "the first ran in the batch, and all alone afterwards"
    assert committed(tmp_path / "kevel.db") == ["a", "b"]
    assert [job.result for job in jobs] == ["a", None, "b"]
    assert isinstance(jobs[1].error, OperationalError)
    assert [job.wakes for job in jobs] == [[Wake("path", "a")], [], [Wake("path", "b")]], "one wake-up for one commit"


def test_after_any_error_the_next_batch_starts_clean(writing: Connection, tmp_path: Path) -> None:
    batcher = Batcher(writing, never_room)
    batcher.run([Job(break_sql)])
    batcher.run([Job(put_then_raise("x", ValueError()))])
    job = Job(put("a"))
    batcher.run([job])
    assert job.error is None
    assert committed(tmp_path / "kevel.db") == ["a"]


def fill_with(size_bytes: int) -> Write:
    def write(tx: Tx) -> object:
        tx.execute(text("INSERT INTO notes VALUES (:word)"), {"word": "x" * size_bytes})
        return "written"

    return write


def limit_pages(conn: Connection, more: int) -> None:
    pages = int(conn.exec_driver_sql("PRAGMA page_count").scalar_one())
    conn.exec_driver_sql(f"PRAGMA max_page_count={pages + more}").fetchall()


def test_on_a_full_disk_space_is_freed_and_the_write_goes_through(writing: Connection) -> None:
    limit_pages(writing, 2)
    freed: list[bool] = []

    def free_space() -> bool:
        freed.append(True)
        limit_pages(writing, 100)
        return True

    (job,) = run(writing, fill_with(20 * PAGE_BYTES), free_space=free_space)
    assert (job.result, job.error) == ("written", None)
    assert freed == [True]


def test_on_a_full_disk_without_spare_space_the_caller_is_told_and_small_writes_still_go_through(
    writing: Connection, tmp_path: Path
) -> None:
    limit_pages(writing, 3)
    small, big, last = run(writing, put("a"), fill_with(20 * PAGE_BYTES), put("b"))
    assert isinstance(big.error, StoreFull)
    assert big.error.status == 503
    assert small.error is last.error is None
    assert committed(tmp_path / "kevel.db") == ["a", "b"]


def test_space_that_was_freed_in_vain_is_asked_for_only_once(writing: Connection) -> None:
    limit_pages(writing, 2)
    asked: list[bool] = []

    def free_space() -> bool:
        asked.append(True)
        return True

    (job,) = run(writing, fill_with(20 * PAGE_BYTES), free_space=free_space)
    assert isinstance(job.error, StoreFull)
    assert asked == [True]


def test_a_database_held_by_another_program_refuses_the_batch_and_works_again_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "kevel.db"
    engine = make_engine(path)
    other = sqlite3.connect(path, isolation_level=None)
    with engine.connect() as conn:
        conn.exec_driver_sql("CREATE TABLE notes (word TEXT)")
        conn.exec_driver_sql("PRAGMA busy_timeout=20").fetchall()
        other.execute("BEGIN IMMEDIATE")
        refused = run(conn, put("a"), put("b"))
        assert [type(job.error) for job in refused] == [StoreBusy, StoreBusy]
        other.execute("ROLLBACK")
        (job,) = run(conn, put("c"))
        assert job.error is None
    other.close()
    engine.dispose()
    assert committed(path) == ["c"]


class FailingDisk:
    """SQLite's connection on a disk that fails in the next COMMIT, as SQLite tells of it."""

    def __init__(self, real: sqlite3.Connection, message: str) -> None:
        self._real = real
        self._failures = [sqlite3.OperationalError(message)]

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def execute(self, sql: str) -> sqlite3.Cursor:
        if sql == "COMMIT" and self._failures:
            raise self._failures.pop()
        return self._real.execute(sql)


def run_on_failing_disk(conn: Connection, message: str, *writes: Write) -> list[Job]:
    batcher = Batcher(conn, never_room)
    batcher._sql = cast("sqlite3.Connection", FailingDisk(batcher._sql, message))
    jobs = [Job(write) for write in writes]
    batcher.run(jobs)
    return jobs


def test_a_commit_that_fails_for_another_reason_ends_the_store(writing: Connection) -> None:
    with pytest.raises(CommitFailed):
        run_on_failing_disk(writing, "disk I/O error", put("a"))


def test_a_commit_that_finds_the_disk_full_is_undone_and_made_again(writing: Connection, tmp_path: Path) -> None:
    jobs = run_on_failing_disk(writing, "database or disk is full", put("a", 1), put("b", 2))
    assert [(job.result, job.error) for job in jobs] == [(1, None), (2, None)]
    assert committed(tmp_path / "kevel.db") == ["a", "b"]


def test_a_database_error_a_job_is_told_of_is_never_an_outcome_of_another(writing: Connection) -> None:
    jobs = run(writing, break_sql, put("a"), break_sql)
    assert [isinstance(job.error, DBAPIError) for job in jobs] == [True, False, True]
