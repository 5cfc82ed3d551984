"""Bring a database to this version's schema, with Alembic."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from kevel.domain.errors import SetupError

SCRIPTS: Final = Path(__file__).parent / "migrations"


def configure_alembic(conn: Connection | None = None) -> Config:
    """Alembic's configuration; it works on that connection, which the caller commits."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = conn
    return config


def newest_revision() -> str:
    """This version's schema."""
    return str(ScriptDirectory.from_config(configure_alembic()).get_current_head())


def read_revision(engine: Engine) -> str | None:
    """The database's schema; None where there is none."""
    with engine.connect() as conn:
        return MigrationContext.configure(conn).get_current_revision()


def upgrade_schema(engine: Engine) -> None:
    """Apply the migrations that the database lacks, in one transaction.

    Raises SetupError when the database was written by a newer Kevel.
    """
    config = configure_alembic()
    scripts = ScriptDirectory.from_config(config)
    with engine.connect() as conn:
        if engine.dialect.name == "sqlite":
            conn.exec_driver_sql("PRAGMA foreign_keys=OFF")
            conn.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            # Its caller holds the database's lock. A migration of many rows takes the time that it takes.
            conn.exec_driver_sql("BEGIN; SET LOCAL statement_timeout = 0")
        at = MigrationContext.configure(conn).get_current_revision()
        if at is not None and at not in {script.revision for script in scripts.walk_revisions()}:
            conn.rollback()
            raise SetupError(f"The database is at schema {at}, which this Kevel does not know: it needs a newer Kevel.")
        if at != scripts.get_current_head():
            config.attributes["connection"] = conn
            command.upgrade(config, "head")
        conn.commit()
