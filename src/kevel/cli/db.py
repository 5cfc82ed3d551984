"""`kevel db`: the schema of Kevel's database, whether it is whole, and moving it to a server."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import URL, Engine

from kevel.cli.config import read_config
from kevel.cli.data_dir import DataDir
from kevel.cli.database import name_session
from kevel.domain.errors import SetupError
from kevel.store.migrate import newest_revision, read_revision, upgrade_schema
from kevel.store.postgres import check_server, make_postgres_engine, parse_url, show_url
from kevel.store.postgres_writer import PostgresWriter
from kevel.store.relocate import TableMoved, check_rows, count_rows, relocate
from kevel.store.sqlite import check_database, make_engine

#: The database is not at this version's schema.
EXIT_OLD: Final = 4

db_app = typer.Typer(no_args_is_help=True, help="The schema of Kevel's database, its state, and moving it to a server.")

DataOption = Annotated[str | None, typer.Option("--data", help="Data directory.")]
DatabaseOption = Annotated[
    str | None, typer.Option("--database", envvar="KEVEL_DATABASE", help="postgresql://USER@HOST/DATABASE.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file; flags win over it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@db_app.command()
def upgrade(
    data: DataOption = None, database: DatabaseOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Bring the database to this version's schema, in one transaction. Kevel must not run; it does so itself, too."""
    with _locked(*_choose(data, database, config)) as (engine, shown):
        before = read_revision(engine)
        upgrade_schema(engine)
    after = newest_revision()
    text = f"{shown}: schema {after}" + (" (no change)" if before == after else f" (was {before or 'empty'})")
    _print(as_json, {"database": shown, "before": before, "after": after}, text)


@db_app.command()
def check(
    data: DataOption = None, database: DatabaseOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Is the database whole, and at this version's schema? Changes nothing; Kevel may run meanwhile.

    The exit code is 0 when it is, 4 when it needs `kevel db upgrade`, and 3 when it cannot be used.
    """
    engine, shown, warnings = _look(*_choose(data, database, config))
    try:
        schema, newest = read_revision(engine), newest_revision()
        rows = check_rows(engine) if schema == newest else {}
    finally:
        engine.dispose()
    found = {"database": shown, "schema": schema, "newest": newest, "rows": rows, "warnings": warnings}
    lines = [f"{shown}: schema {schema or 'empty'}, newest {newest}", *(f"warning: {warning}" for warning in warnings)]
    lines += [f"  {name}: {count}" for name, count in rows.items() if count]
    if schema != newest:
        lines.append("It needs: kevel db upgrade")
    _print(as_json, found, "\n".join(lines))
    if schema != newest:
        raise typer.Exit(EXIT_OLD)


@db_app.command()
def move(
    source: Annotated[str, typer.Option("--from", help="sqlite:DATA-DIRECTORY")],
    target: Annotated[str, typer.Option("--to", help="postgresql://USER@HOST/DATABASE, empty.")],
    as_json: JsonOption = False,
) -> None:
    """Copy all records to an empty PostgreSQL database in one transaction, and compare counts and sums of each table.

    Kevel must not run. The SQLite file stays as it is, and its directory notes where the records are from now on.
    """
    data, url = _find_source(source), parse_url(target)
    with _locked(data, None) as (old, _), _locked(data, url) as (new, shown):
        if read_revision(old) != newest_revision():
            raise SetupError(
                f"{data.database} is at another version's schema; run: kevel db upgrade --data {data.root}"
            )
        upgrade_schema(new)
        moved = _relocate(old, new, quiet=as_json)
        data.write_records(shown)
    rows = sum(table.rows for table in moved)
    tables = [{"name": table.name, "rows": table.rows, "checksum": table.checksum} for table in moved]
    if as_json:
        Console().print_json(data={"from": str(data.database), "to": shown, "rows": rows, "tables": tables})
        return
    table = Table("table", "rows", "sum of both")
    for one in moved:
        if one.rows:
            table.add_row(one.name, str(one.rows), one.checksum[:16])
    Console().print(table)
    typer.echo(f"{rows} rows of {len(moved)} tables are in {shown}, and the same as in {data.database}.")
    typer.echo(f"Start Kevel with: kevel up --data {data.root} --database {shown}")


def _relocate(old: Engine, new: Engine, *, quiet: bool) -> list[TableMoved]:
    with Progress(console=Console(stderr=True), disable=quiet) as progress, new.connect() as conn:
        task = progress.add_task("copying", total=count_rows(old))

        def note_rows(name: str, count: int) -> None:
            progress.update(task, advance=count, description=f"copying {name}")

        driver: Any = conn.connection.driver_connection
        return relocate(old, driver, note_rows)


def _choose(data: str | None, database: str | None, config: Path | None) -> tuple[DataDir, URL | None]:
    settings = read_config(config)
    named = settings.database if database is None else database
    return DataDir(Path(data or settings.data)), parse_url(named) if named else None


def _find_source(source: str) -> DataDir:
    kind, _, rest = source.partition(":")
    path = Path(rest.removeprefix("//"))
    if kind != "sqlite" or not rest:
        raise SetupError(f"{source[:80]!r} cannot be moved; it has to look like sqlite:DATA-DIRECTORY.")
    return DataDir(path.parent if path.name == "kevel.db" else path)


@contextmanager
def _locked(data: DataDir, url: URL | None) -> Iterator[tuple[Engine, str]]:
    """The database, with nobody else working on it, and its name. Raises SetupError."""
    if url is None:
        _need_file(data)
        with closing(data):
            data.open()
            engine = make_engine(data.database)
            check_database(engine, data.database)
            yield engine, str(data.database)
            engine.dispose()
        return
    engine = make_postgres_engine(url, name_session())
    check_server(engine)
    writer = PostgresWriter(engine, secrets.token_hex(16))
    writer.lock()
    with closing(writer):
        yield engine, show_url(url)
    engine.dispose()


def _look(data: DataDir, url: URL | None) -> tuple[Engine, str, list[str]]:
    if url is not None:
        engine = make_postgres_engine(url, name_session())
        return engine, show_url(url), check_server(engine)
    _need_file(data)
    engine = make_engine(data.database)
    check_database(engine, data.database)
    return engine, str(data.database), []


def _need_file(data: DataDir) -> None:
    if data.records is not None:
        raise SetupError(f"The records of {data.root} are in {data.records}; name that with --database.")
    if not os.access(data.database, os.R_OK):
        raise SetupError(f"There is no database {data.database} to read; name its directory with --data.")


def _print(as_json: bool, found: dict[str, Any], text: str) -> None:
    if as_json:
        Console().print_json(data=found)
    else:
        typer.echo(text)
