"""Records move from SQLite to PostgreSQL whole, proven before the commit, or not at all."""

# ruff: noqa: S608 - the statements are made of the tests' own names

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from kevel.cli.data_dir import DataDir
from kevel.cli.database import open_store
from kevel.cli.main import app
from kevel.domain.errors import SetupError
from kevel.store import postgres_writer
from kevel.store.postgres import QuietCursor
from kevel.store.relocate import TABLES, check_rows, relocate
from kevel.store.sqlite import make_engine
from tests.integration.store.test_schema import WORLD
from tests.integration.template import put_database
from tests.postgres import Server


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Engine]:
    """A data directory's database with a row in each table."""
    put_database(tmp_path / "kevel.db")
    engine = make_engine(tmp_path / "kevel.db")
    with engine.connect() as conn:
        conn.exec_driver_sql("BEGIN")
        for table, row in WORLD.items():
            names = ", ".join(f'"{name}"' for name in row)
            conn.execute(text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in row)})"), row)
        conn.exec_driver_sql("COMMIT")
    yield engine
    engine.dispose()


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    with server.database() as name:
        yield name


@pytest.fixture
def target(server: Server, database: str) -> Iterator[psycopg.Connection]:
    conninfo = f"host={server.directory} user=kevel dbname={database}"
    with psycopg.connect(conninfo, autocommit=True, cursor_factory=QuietCursor) as conn:
        yield conn


def change(engine: Engine, statement: str) -> None:
    with engine.connect() as conn:
        conn.exec_driver_sql("PRAGMA foreign_keys=OFF")
        conn.exec_driver_sql(statement)


def ignore(name: str, rows: int) -> None:
    pass


def is_empty(target: psycopg.Connection) -> bool:
    return not any(target.execute(f"SELECT 1 FROM {table.name}").fetchall() for table in TABLES)


def test_every_row_of_every_table_is_there_afterwards_and_new_ones_are_numbered_on(
    source: Engine, target: psycopg.Connection, server: Server, database: str
) -> None:
    change(source, "UPDATE findings SET id = 41")
    noted: dict[str, int] = {}

    def note(name: str, rows: int) -> None:
        noted[name] = noted.get(name, 0) + rows

    moved = relocate(source, target, note)
    assert {one.name: one.rows for one in moved} == {table.name: 1 for table in TABLES} == noted
    with source.connect() as conn:
        for table in TABLES:
            names = ", ".join(f'"{column.name}"' for column in table.columns)
            before = [tuple(row) for row in conn.exec_driver_sql(f"SELECT {names} FROM {table.name}")]
            assert server.execute(database, f"SELECT {names} FROM {table.name}") == before, table.name
    server.execute(
        database, "INSERT INTO findings (subject, kind, key, found_at) VALUES ('host:here', 'server_unknown', 'k', 1)"
    )
    assert server.execute(database, "SELECT max(id) FROM findings") == [(42,)]


def test_a_target_with_a_row_is_refused_and_keeps_it(
    source: Engine, target: psycopg.Connection, server: Server, database: str
) -> None:
    server.execute(database, "INSERT INTO roles (id, name, extra) VALUES ('r', 'mine', '{}')")
    with pytest.raises(SetupError, match="not empty: the table roles has rows"):
        relocate(source, target, ignore)
    assert server.execute(database, "SELECT id, name FROM roles") == [("r", "mine")]
    assert server.execute(database, "SELECT count(*) FROM volumes") == [(0,)]


def test_a_value_that_changes_on_the_way_is_noticed_and_nothing_stays(
    source: Engine, target: psycopg.Connection, server: Server, database: str
) -> None:
    server.execute(
        database,
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.size_gib := 7; RETURN NEW; END$$;"
        "CREATE TRIGGER spoil BEFORE INSERT ON volumes FOR EACH ROW EXECUTE FUNCTION spoil()",
    )
    with pytest.raises(SetupError, match="The table volumes differs after the copy: 1 rows"):
        relocate(source, target, ignore)
    assert is_empty(target)


def test_a_row_that_is_swallowed_is_noticed_too(
    source: Engine, target: psycopg.Connection, server: Server, database: str
) -> None:
    server.execute(database, "CREATE RULE swallow AS ON INSERT TO messages DO INSTEAD NOTHING")
    server.execute(
        database,
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;"
        "CREATE TRIGGER swallow BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION swallow()",
    )
    with pytest.raises(SetupError, match="The table messages"):
        relocate(source, target, ignore)
    assert is_empty(target)


def test_what_the_target_cannot_store_is_named_by_its_table_and_not_shown(
    source: Engine, target: psycopg.Connection
) -> None:
    change(source, "UPDATE messages SET text = 'secret' || char(0)")
    with pytest.raises(SetupError, match="The table messages could not be copied") as refused:
        relocate(source, target, ignore)
    assert "secret" not in str(refused.value)
    assert is_empty(target)


def test_a_source_whose_rows_refer_to_nothing_is_refused(source: Engine, target: psycopg.Connection) -> None:
    change(source, "DELETE FROM projects")
    with pytest.raises(SetupError, match="refers to a row of projects that is not there"):
        relocate(source, target, ignore)
    with pytest.raises(SetupError, match="refers to a row of projects"):
        check_rows(source)
    assert is_empty(target)


async def start_without(data: DataDir) -> None:
    """Start on the data directory, without a word of the server."""
    async with open_store("", data, lambda error: None):
        pass


def test_the_command_moves_once_and_afterwards_nobody_starts_on_the_old_records(
    source: Engine, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_writer, "LOCK_WAITS_S", ())
    runner = CliRunner()
    data = DataDir(tmp_path)
    with server.database("template0") as database:
        move = ["db", "move", "--from", f"sqlite:{tmp_path}", "--to", server.name(database), "--json"]
        data.open()
        refused = runner.invoke(app, move)
        data.close()
        assert "in use by another kevel" in str(refused.exception)
        moved = runner.invoke(app, move)
        assert moved.exit_code == 0, moved.output
        answer = json.loads(moved.stdout)
        assert (answer["rows"], len(answer["tables"])) == (len(TABLES), len(TABLES))
        assert "are in postgresql://kevel@/" in str(runner.invoke(app, move).exception)
        with pytest.raises(SetupError, match="are in postgresql://kevel@/"):
            asyncio.run(start_without(data))
        there = ["--data", str(tmp_path), "--database", server.name(database), "--json"]
        checked = json.loads(runner.invoke(app, ["db", "check", *there]).stdout)
        assert checked["rows"] == {table.name: 1 for table in TABLES} | {"writers": 0}
        upgraded = json.loads(runner.invoke(app, ["db", "upgrade", *there]).stdout)
        assert upgraded["before"] == upgraded["after"] == checked["newest"]


def test_an_empty_database_is_upgraded_and_one_without_tables_fails_its_check(server: Server, tmp_path: Path) -> None:
    runner = CliRunner()
    with server.database("template0") as database:
        there = ["--data", str(tmp_path), "--database", server.name(database)]
        assert runner.invoke(app, ["db", "check", *there]).exit_code == 4
        assert "(was empty)" in runner.invoke(app, ["db", "upgrade", *there]).stdout
        assert runner.invoke(app, ["db", "check", *there]).exit_code == 0
    assert "There is no database" in str(runner.invoke(app, ["db", "check", "--data", str(tmp_path)]).exception)
