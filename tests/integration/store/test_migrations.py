"""Migrations lead to the tables of the code, in one transaction, and never touch a database of a newer Kevel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError

from kevel.domain.errors import SetupError
from kevel.store.migrate import SCRIPTS, configure_alembic, upgrade_schema
from kevel.store.postgres import make_postgres_engine
from kevel.store.schema import metadata
from kevel.store.sqlite import make_engine
from kevel.store.transactions import Tx
from tests.integration.store.rows import insert_ground
from tests.postgres import Server

ANEW = "the tables have changed: run scripts/make_migration.py (with --anew while Kevel has no release)"


@pytest.fixture
def declared(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A database with the tables as the code declares them."""
    with ExitStack() as stack:
        if kind == "sqlite":
            engine = make_engine(tmp_path / "declared.db")
        else:
            server: Server = request.getfixturevalue("server")
            engine = make_postgres_engine(server.url(stack.enter_context(server.database("template0"))))
        with engine.connect() as conn:
            metadata.create_all(conn)
            conn.commit()
        yield engine
        engine.dispose()


def definitions(engine: Engine) -> dict[str, set[str]]:
    """Each table's columns and constraints, and each index, as the database keeps them; their order says nothing."""
    found: dict[str, set[str]] = {}
    with engine.connect() as conn:
        if engine.dialect.name == "sqlite":
            for name, sql in conn.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")):
                found[name] = set(split_definition(str(sql)))
        else:
            for name, part in conn.execute(text(POSTGRES_DEFINITIONS)):
                found.setdefault(name, set()).add(part)
    found.pop("alembic_version", None)
    return {name: parts for name, parts in found.items() if not name.startswith("alembic")}


POSTGRES_DEFINITIONS = """
SELECT conrelid::regclass::text, conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT table_name, concat_ws(' ', column_name, data_type, is_nullable, column_default)
FROM information_schema.columns WHERE table_schema = 'public'
"""


def split_definition(sql: str) -> Iterator[str]:
    """The parts between the commas of the outermost parentheses; an index is one part."""
    sql = re.sub(r"\s+", " ", sql).replace('"', "").strip()
    if not sql.startswith("CREATE TABLE"):
        yield sql
        return
    head, _, body = sql.partition("(")
    yield head.strip()
    part, depth = "", 0
    for letter in body.rstrip()[:-1]:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            yield part.strip()
            part = ""
        else:
            part += letter
    yield part.strip()


def test_the_upgraded_empty_database_has_the_tables_of_the_code(tmp_path: Path) -> None:
    # On SQLite only: to read PostgreSQL's catalog, Alembic needs 32-bit numbers, which Kevel does not have there. The
    # next test reads both catalogs itself.
    engine = make_engine(tmp_path / "kevel.db")
    upgrade_schema(engine)
    with engine.connect() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == [], ANEW


def test_checks_and_partial_indexes_are_those_of_the_code_too(kind: str, engine: Engine, declared: Engine) -> None:
    upgrade_schema(engine)
    upgraded, wanted = definitions(engine), definitions(declared)
    assert set(upgraded) == set(wanted), ANEW
    for name, parts in wanted.items():
        assert upgraded[name] == parts, f"{name}: {ANEW}"
    everything = " ".join(part for parts in wanted.values() for part in parts)
    assert everything.count("CHECK (") > 30, "this test sees CHECKs"
    condition = "WHERE ((live = 1) AND (NOT shared))" if kind == "postgresql" else "WHERE live = 1 AND NOT shared"
    assert condition in everything, "and the conditions of indexes"


def test_a_migration_is_frozen_it_reads_nothing_of_the_code(declared: Engine) -> None:
    files = sorted((SCRIPTS / "versions").glob("*.py"))
    assert files
    for file in files:
        assert "kevel" not in file.read_text(), f"{file.name} would change when the code does"


def test_there_is_one_line_of_migrations_with_one_end() -> None:
    scripts = ScriptDirectory.from_config(configure_alembic())
    assert len(scripts.get_heads()) == 1
    line = [script.revision for script in scripts.walk_revisions()]
    assert line == [f"{number:04}" for number in range(len(line), 0, -1)]


def test_a_second_upgrade_changes_nothing(engine: Engine) -> None:
    upgrade_schema(engine)
    with engine.connect() as conn:
        conn.exec_driver_sql("BEGIN")
        insert_ground(Tx(conn))
        conn.exec_driver_sql("COMMIT")
    before = dump(engine)
    upgrade_schema(engine)
    assert dump(engine) == before


def test_a_database_of_a_newer_kevel_is_refused_and_left_alone(engine: Engine) -> None:
    upgrade_schema(engine)
    with engine.connect() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = dump(engine)
    with pytest.raises(SetupError, match=r"9999.*newer Kevel"):
        upgrade_schema(engine)
    assert dump(engine) == before


def test_an_upgrade_that_fails_half_way_leaves_the_database_as_it_was(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade = command.upgrade

    def upgrade_and_fail(config: object, revision: str) -> None:
        upgrade(config, revision)  # type: ignore[arg-type]
        raise OSError("the power went")

    monkeypatch.setattr(command, "upgrade", upgrade_and_fail)
    with pytest.raises(OSError, match="power"):
        upgrade_schema(engine)
    assert dump(engine) == []
    monkeypatch.undo()
    upgrade_schema(engine)
    assert any("CREATE TABLE paths" in line for line in dump(engine))


def test_after_an_upgrade_foreign_keys_are_enforced(engine: Engine) -> None:
    upgrade_schema(engine)
    with engine.connect() as conn:
        with pytest.raises(IntegrityError):
            conn.exec_driver_sql("INSERT INTO server_group_members (server_id, group_id) VALUES ('none', 'none')")
        if engine.dialect.name == "sqlite":
            assert conn.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
            assert conn.exec_driver_sql("PRAGMA foreign_key_check").fetchall() == []


def dump(engine: Engine) -> list[str]:
    """The whole database, from another connection: only what is committed."""
    tables = definitions(engine)
    lines = [f"CREATE TABLE {name}: {sorted(parts)}" for name, parts in sorted(tables.items())]
    with engine.connect() as conn:
        there = {*metadata.tables, "alembic_version"} & set(inspect(conn).get_table_names())
        for name in sorted(there):
            lines += [f"{name}: {tuple(row)}" for row in conn.exec_driver_sql(f"SELECT * FROM {name}")]  # noqa: S608
    return lines
