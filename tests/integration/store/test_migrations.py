"""Migrations lead to the tables of the code, in one transaction, and never touch a database of a newer Kevel."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from kevel.domain.errors import SetupError
from kevel.store.migrate import SCRIPTS, configure_alembic, upgrade_schema
from kevel.store.schema import metadata
from kevel.store.sqlite import make_engine
from kevel.store.transactions import Tx
from tests.integration.store.rows import insert_ground

ANEW = "the tables have changed: run scripts/make_migration.py (with --anew while Kevel has no release)"


@pytest.fixture
def declared(tmp_path: Path) -> Iterator[Engine]:
    """A database with the tables as the code declares them."""
    engine = make_engine(tmp_path / "declared.db")
    with engine.connect() as conn:
        metadata.create_all(conn)
        conn.commit()
    yield engine
    engine.dispose()


def definitions(engine: Engine) -> dict[str, set[str]]:
    """Each table's columns and constraints, and each index, as SQLite keeps them; their order says nothing."""
    found: dict[str, set[str]] = {}
    with engine.connect() as conn:
        for name, sql in conn.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")):
            if name != "alembic_version":
                found[name] = set(split_definition(str(sql)))
    return found


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


def test_the_upgraded_empty_database_has_the_tables_of_the_code(engine: Engine, declared: Engine) -> None:
    upgrade_schema(engine)
    with engine.connect() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == [], ANEW


def test_checks_and_partial_indexes_are_those_of_the_code_too(engine: Engine, declared: Engine) -> None:
    upgrade_schema(engine)
    upgraded, wanted = definitions(engine), definitions(declared)
    assert set(upgraded) == set(wanted), ANEW
    for name, parts in wanted.items():
        assert upgraded[name] == parts, f"{name}: {ANEW}"
    everything = " ".join(part for parts in wanted.values() for part in parts)
    assert everything.count("CHECK (") > 30, "this test sees CHECKs"
    assert "WHERE live = 1 AND NOT shared" in everything, "and the conditions of indexes"


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


def test_a_second_upgrade_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    upgrade_schema(engine)
    with engine.connect() as conn:
        conn.exec_driver_sql("BEGIN IMMEDIATE")
        insert_ground(Tx(conn))
        conn.exec_driver_sql("COMMIT")
    before = dump(tmp_path / "kevel.db")
    upgrade_schema(engine)
    assert dump(tmp_path / "kevel.db") == before


def test_a_database_of_a_newer_kevel_is_refused_and_left_alone(engine: Engine, tmp_path: Path) -> None:
    upgrade_schema(engine)
    with engine.connect() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = dump(tmp_path / "kevel.db")
    with pytest.raises(SetupError, match=r"9999.*newer Kevel"):
        upgrade_schema(engine)
    assert dump(tmp_path / "kevel.db") == before


def test_an_upgrade_that_fails_half_way_leaves_the_database_as_it_was(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade = command.upgrade

    def upgrade_and_fail(config: object, revision: str) -> None:
        upgrade(config, revision)  # type: ignore[arg-type]
        raise OSError("the power went")

    monkeypatch.setattr(command, "upgrade", upgrade_and_fail)
    with pytest.raises(OSError, match="power"):
        upgrade_schema(engine)
    assert dump(tmp_path / "kevel.db") == []
    monkeypatch.undo()
    upgrade_schema(engine)
    assert any("CREATE TABLE paths" in line for line in dump(tmp_path / "kevel.db"))


def test_after_an_upgrade_foreign_keys_are_enforced(engine: Engine) -> None:
    upgrade_schema(engine)
    with engine.connect() as conn:
        assert conn.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
        assert conn.exec_driver_sql("PRAGMA foreign_key_check").fetchall() == []


def dump(path: Path) -> list[str]:
    """The whole database as SQL, from another connection: only what is committed."""
    with sqlite3.connect(path) as other:
        lines = [line for line in other.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;")]
    other.close()
    return lines
