"""What only a server can do: end sessions, go away, lose the answer to a COMMIT, or be taken over by another Kevel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from kevel.cli.config import Config
from kevel.cli.data_dir import DataDir
from kevel.cli.database import open_store
from kevel.domain.errors import Invalid, KevelError, NotFound, SetupError
from kevel.store import postgres_store, postgres_writer
from kevel.store.postgres import (
    DatabaseSlow,
    DatabaseUnreachable,
    check_server,
    make_postgres_engine,
    parse_url,
)
from kevel.store.postgres_store import PostgresStore
from kevel.store.postgres_writer import PostgresWriter, Superseded
from kevel.store.transactions import Tx
from kevel.store.volumes import used_backends
from tests.integration.store.notes import PostgresPlace, put, words
from tests.postgres import Server, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of these tests' own: they kill it, and others have sessions on theirs."""
    with running_server() as server:
        yield server


@pytest.fixture
async def notes(pg: PostgresPlace, lost: list[BaseException]) -> AsyncIterator[PostgresStore]:
    store = pg.open(lost.append)
    yield store
    await store.close()


def end_sessions(pg: PostgresPlace) -> None:
    """End all sessions on the database, as an administrator may."""
    ending = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{pg.database}'"  # noqa: S608
    pg.server.execute("postgres", ending)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kevel waits a moment for a server that is away, and no 20 s."""
    for module in (postgres_store, postgres_writer):
        monkeypatch.setattr(module, "OUTAGE_WAITS_S", (0.01, 0.02))


async def test_sessions_that_an_administrator_ends_are_opened_again_and_nobody_notices(
    notes: PostgresStore, pg: PostgresPlace, lost: list[BaseException]
) -> None:
    await notes.write(put, "a")
    assert await notes.read(words) == ["a"]
    end_sessions(pg)
    await asyncio.gather(notes.write(put, "b"), notes.write(put, "c"))
    assert await notes.read(words) == pg.look() == ["a", "b", "c"]
    assert lost == []


async def test_s13_a_killed_server_loses_no_acknowledged_write_and_makes_none_twice(
    notes: PostgresStore, pg: PostgresPlace, lost: list[BaseException]
) -> None:
    acknowledged: list[str] = []

    async def client(name: str) -> None:
        for number in range(60):
            word = await notes.write(put, f"{name}-{number}")
            acknowledged.append(word)

    clients = asyncio.gather(*(client(name) for name in "abcd"))
    while len(acknowledged) < 40:
        await asyncio.sleep(0.002)
    await asyncio.to_thread(pg.server.kill)
    await asyncio.to_thread(pg.server.start)
    await clients
    assert sorted(pg.look()) == sorted(acknowledged), "a word that is written twice breaks a rule of the table"
    assert len(acknowledged) == 240
    assert lost == []


async def test_a_commit_whose_answer_was_lost_is_looked_for_and_not_made_again(
    notes: PostgresStore, pg: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    heard: list[str] = []
    commit = PostgresWriter.commit

    def commit_and_lose(writer: PostgresWriter) -> None:
        monkeypatch.setattr(PostgresWriter, "commit", commit)
        writer.driver.execute("COMMIT")
        writer.driver.close()
        raise psycopg.OperationalError("the connection is lost")

    def write(tx: Tx) -> str:
        runs.append("run")
        return put(tx, "a")

    notes.subscribe(lambda wakes: heard.extend(wake.key for wake in wakes))
    monkeypatch.setattr(PostgresWriter, "commit", commit_and_lose)
    assert await notes.write(write) == "a"
    assert (runs, heard, pg.look()) == (["run"], ["a"], ["a"])
    await notes.write(put, "b")
    assert pg.look() == ["a", "b"]


async def test_a_commit_that_the_server_never_made_is_made_again(
    notes: PostgresStore, pg: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    commit = PostgresWriter.commit

    def lose(writer: PostgresWriter) -> None:
        monkeypatch.setattr(PostgresWriter, "commit", commit)
        end_sessions(pg)
        commit(writer)

    def write(tx: Tx) -> str:
        runs.append("run")
        return put(tx, "a")

    monkeypatch.setattr(PostgresWriter, "commit", lose)
    assert await notes.write(write) == "a"
    assert (runs, pg.look()) == (["run", "run"], ["a"])


@pytest.mark.usefixtures("impatient")
async def test_a_commit_that_cannot_be_settled_ends_the_store(
    pg: PostgresPlace, server: Server, lost: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = pg.open(lost.append)

    def lose(writer: PostgresWriter) -> None:
        server.stop()
        writer.driver.execute("COMMIT")

    monkeypatch.setattr(PostgresWriter, "commit", lose)
    try:
        with pytest.raises(KevelError, match="unknown"):
            await notes.write(put, "a")
        with pytest.raises(KevelError, match="closed"):
            await notes.write(put, "b")
        await notes.close()
    finally:
        server.start()
    assert len(lost) == 1


@pytest.mark.usefixtures("impatient")
async def test_while_the_server_is_away_callers_are_told_so_and_afterwards_all_is_well(
    notes: PostgresStore, pg: PostgresPlace, lost: list[BaseException]
) -> None:
    await notes.write(put, "a")
    await notes.read(words)
    await asyncio.to_thread(pg.server.stop, "fast")
    try:
        for _ in range(2):
            with pytest.raises(DatabaseUnreachable, match="nothing was changed"):
                await notes.write(put, "b")
            with pytest.raises(DatabaseUnreachable):
                await notes.read(words)
    finally:
        await asyncio.to_thread(pg.server.start)
    await notes.write(put, "c")
    assert await notes.read(words) == ["a", "c"]
    assert lost == []


async def test_a_second_kevel_on_the_database_is_refused_with_the_name_of_the_first(
    notes: PostgresStore, pg: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_writer, "LOCK_WAITS_S", (0.01,))
    second = PostgresWriter(make_postgres_engine(pg.server.url(pg.database)), "second")
    with pytest.raises(SetupError, match=r"in use by another kevel \(kevel of a test\)"):
        second.lock()
    await notes.write(put, "a")
    await notes.close()
    second.lock()
    second.close()


async def test_whoever_was_cut_off_and_replaced_writes_no_more_and_stops(
    notes: PostgresStore, pg: PostgresPlace, lost: list[BaseException]
) -> None:
    await notes.write(put, "a")
    end_sessions(pg)  # the first one does not know yet
    second = PostgresStore(pg.engine, pg.writer(), lost.append)
    await second.write(put, "b")
    with pytest.raises(KevelError):
        await notes.write(put, "c")
    assert [type(error) for error in lost] == [Superseded]
    await second.write(put, "d")
    await second.close()
    assert pg.look() == ["a", "b", "d"]


def test_a_session_that_the_server_still_believes_in_is_ended_by_its_own_process(pg: PostgresPlace) -> None:
    writer = pg.writer()
    old, writer._conn = writer._conn, None
    assert old is not None
    assert writer.reopen() is False
    writer.begin()
    writer.commit()
    with pytest.raises(Exception, match=r"terminat|closed"):
        old.exec_driver_sql("SELECT 1")
    old.close()
    writer.close()


async def test_what_met_another_sessions_write_is_run_again(notes: PostgresStore, pg: PostgresPlace) -> None:
    await notes.write(put, "a")
    runs: list[list[str]] = []

    def rename(tx: Tx) -> None:
        runs.append(words(tx))
        if len(runs) == 1:
            pg.server.execute(pg.database, "UPDATE notes SET word = word || '!'")
        tx.execute(text("UPDATE notes SET word = word || '?'"))

    await notes.write(rename)
    assert runs == [["a"], ["a!"]]
    assert pg.look() == ["a!?"]


async def test_a_statement_that_takes_too_long_is_refused_and_the_others_of_its_batch_are_not(
    notes: PostgresStore, pg: PostgresPlace
) -> None:
    def sleep(tx: Tx) -> None:
        put(tx, "slow")
        tx.execute(text("SET LOCAL statement_timeout = 50"))
        tx.execute(text("SELECT pg_sleep(10)"))

    results = await asyncio.gather(
        notes.write(put, "a"), notes.write(sleep), notes.write(put, "b"), return_exceptions=True
    )
    assert [results[0], results[2]] == ["a", "b"]
    assert isinstance(results[1], DatabaseSlow)
    assert pg.look() == ["a", "b"]


async def test_a_nul_character_is_refused_and_found_nowhere(notes: PostgresStore) -> None:
    def find(tx: Tx, word: str) -> object:
        return tx.execute(text("SELECT word FROM notes WHERE word = :word"), {"word": word}).scalar()

    with pytest.raises(Invalid, match="NUL"):
        await notes.write(put, "a\x00b")
    with pytest.raises(NotFound):
        await notes.read(find, "a\x00b")
    assert await notes.read(words) == []


async def test_the_second_start_finds_what_the_first_one_left_and_a_third_beside_it_is_refused(
    pg: PostgresPlace, tmp_path: Path, lost: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_writer, "LOCK_WAITS_S", (0.01,))
    name, data = pg.server.name(pg.database), DataDir(tmp_path)
    for _ in range(2):
        async with open_store(name, data, lost.append) as opened:
            assert await opened.store.read(used_backends) == set()
            assert opened.has_space()
            with pytest.raises(SetupError, match="in use by another kevel"):
                async with open_store(name, data, lost.append):
                    pass
    assert lost == []
    assert [path.name for path in tmp_path.iterdir()] == ["records"], "nothing of SQLite's is made"
    with pytest.raises(SetupError, match=f"are in postgresql://kevel@/{pg.database}"):
        async with open_store("", data, lost.append):
            pass


PASSWORD = "aEgRpJ7k"


@pytest.mark.parametrize("url", ["mysql://u:{}@h/d", "postgresql://u:{}@h:port/d", "{}", "postgresql://u:{}@h"])
def test_s10_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(SetupError, match="has to look like postgresql://") as refused:
        parse_url(url.format(PASSWORD))
    assert PASSWORD not in str(refused.value)


def test_s10_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Path) -> None:
    name = f"postgresql://kevel:{PASSWORD}@/kevel?host={tmp_path}"
    with pytest.raises(SetupError, match=r"kevel:\*\*\*@/kevel.*cannot be used") as refused:
        check_server(make_postgres_engine(parse_url(name)))
    assert PASSWORD not in str(refused.value)
    assert refused.value.__cause__ is None
    assert PASSWORD not in f"{Config(database=name)!r} {Config(database=name)}"


def test_a_database_that_sorts_or_encodes_otherwise_is_refused_with_the_command_that_makes_one(server: Server) -> None:
    server.execute("postgres", "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        with pytest.raises(SetupError, match=r"CREATE DATABASE latin TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"):
            check_server(make_postgres_engine(server.url("latin")))
    finally:
        server.execute("postgres", "DROP DATABASE latin WITH (FORCE)")


def test_a_server_that_may_lose_what_it_confirmed_is_told_of(pg: PostgresPlace) -> None:
    warnings = check_server(pg.engine)  # the tests' own server runs without fsync, since nobody will miss it
    assert [warning.split()[0] for warning in warnings] == ["fsync", "full_page_writes"]
