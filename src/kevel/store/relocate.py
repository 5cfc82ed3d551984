"""Copy a whole SQLite database into an empty PostgreSQL one, in one transaction that proves itself before it ends."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql
from sqlalchemy import Boolean, Connection, Engine, Table
from sqlalchemy.exc import DBAPIError

from kevel.domain.errors import SetupError
from kevel.store.schema import metadata
from kevel.store.schema.writers import writers

#: Rows that are read from SQLite at a time.
ROWS_AT_A_TIME: Final = 500
_MODULUS: Final = 1 << 256
#: The tables that move, parents first. Who writes to a database stays with it.
TABLES: Final = tuple(table for table in metadata.sorted_tables if table is not writers)


class TableMoved(msgspec.Struct, frozen=True, kw_only=True):
    """What of one table is in both databases."""

    name: str
    rows: int
    #: Of all values of all rows, in whatever order the rows are.
    checksum: str


class _Sum:
    """Counts rows, and adds up their hashes: so neither database has to sort them."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._sum = 0
        self.rows = 0

    def add(self, row: Sequence[Any]) -> None:
        """Take a row in. Types that only one database has come to the same here."""
        digest = hashlib.sha256(repr(tuple(_plain(value) for value in row)).encode("utf-8", "surrogatepass"))
        self._sum = (self._sum + int.from_bytes(digest.digest(), "big")) % _MODULUS
        self.rows += 1

    def result(self) -> TableMoved:
        """What came in so far."""
        return TableMoved(name=self._table.name, rows=self.rows, checksum=f"{self._sum:064x}")


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


def count_rows(source: Engine) -> int:
    """How many rows there are to move."""
    with source.connect() as conn:
        counts = (conn.exec_driver_sql(f'SELECT count(*) FROM "{table.name}"').scalar_one() for table in TABLES)  # noqa: S608
        return sum(counts)


def relocate(
    source: Engine, target: psycopg.Connection[Any], note_rows: Callable[[str, int], None]
) -> list[TableMoved]:
    """Copy all rows, compare what is in both, and commit. `target` has the schema, empty, and nobody else writes to it.

    `note_rows` hears of a table's name and of how many rows more of it have been copied. Raises SetupError when the
    databases are not as they have to be, or differ in the end; the target is empty then, as before.
    """
    with source.connect() as conn:
        conn.exec_driver_sql("BEGIN")
        try:
            _check_source(conn)
            target.execute("BEGIN")
            try:
                target.execute("SET LOCAL statement_timeout = 0")
                _check_empty(target)
                moved = [_copy_table(conn, target, table, note_rows) for table in TABLES]
                for table, wanted in zip(TABLES, moved, strict=True):
                    _number_on(target, table)
                    _compare(target, table, wanted)
            except BaseException:
                if not target.closed:
                    target.execute("ROLLBACK")
                raise
        finally:
            conn.exec_driver_sql("ROLLBACK")
    _commit(target)
    return moved


def _commit(target: psycopg.Connection[Any]) -> None:
    try:
        target.execute("COMMIT")
    except psycopg.Error:
        raise SetupError(
            "The answer to the COMMIT was lost. Move again: if the target is refused as not empty, the move had taken "
            "place whole; `kevel db check` counts its rows."
        ) from None


def _check_source(conn: Connection) -> None:
    verdict = conn.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
    if verdict != "ok":
        raise SetupError(f"The database to move is damaged ({verdict}); restore it from a backup.")
    broken = conn.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken is not None:
        raise SetupError(f"A row of the table {broken[0]} refers to a row of {broken[2]} that is not there.")


def _check_empty(target: psycopg.Connection[Any]) -> None:
    for table in TABLES:
        found = target.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(table.name))).fetchone()
        if found is not None:
            raise SetupError(
                f"The database to move to is not empty: the table {table.name} has rows. Nothing was changed; move to "
                "an empty one."
            )


def _copy_table(
    conn: Connection, target: psycopg.Connection[Any], table: Table, note_rows: Callable[[str, int], None]
) -> TableMoved:
    """One COPY, so that the rows of a table may refer to each other in any order."""
    total = _Sum(table)
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    copying = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), names)
    try:
        with target.cursor() as cursor, cursor.copy(copying) as copy:
            for rows in _read_rows(conn, table):
                for row in rows:
                    copy.write_row(row)
                    total.add(row)
                note_rows(table.name, len(rows))
    except psycopg.Error as error:
        raise SetupError(
            f"The table {table.name} could not be copied ({type(error).__name__}); nothing was changed."
        ) from None
    return total.result()


def _read_rows(conn: Connection, table: Table) -> Iterator[list[tuple[Any, ...]]]:
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    booleans = {at for at, column in enumerate(table.columns) if isinstance(column.type, Boolean)}
    found = conn.exec_driver_sql(f'SELECT {names} FROM "{table.name}"')  # noqa: S608 - our own names
    while rows := found.fetchmany(ROWS_AT_A_TIME):
        yield [_with_booleans(row, booleans) for row in rows]


def _with_booleans(row: Iterable[Any], booleans: set[int]) -> tuple[Any, ...]:
    return tuple(bool(value) if at in booleans and value is not None else value for at, value in enumerate(row))


def _number_on(target: psycopg.Connection[Any], table: Table) -> None:
    """The next row's number comes after those that were copied."""
    counted = table.autoincrement_column
    if counted is None:
        return
    statement = sql.SQL(
        "SELECT setval(pg_get_serial_sequence({name}, {column}), max({key})) FROM {table} HAVING max({key}) IS NOT NULL"
    )
    target.execute(
        statement.format(
            name=sql.Literal(table.name),
            column=sql.Literal(counted.name),
            key=sql.Identifier(counted.name),
            table=sql.Identifier(table.name),
        )
    )


def _compare(target: psycopg.Connection[Any], table: Table, wanted: TableMoved) -> None:
    total = _Sum(table)
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    with target.cursor() as cursor:
        for row in cursor.stream(sql.SQL("SELECT {} FROM {}").format(names, sql.Identifier(table.name))):
            total.add(row)
    found = total.result()
    if found != wanted:
        raise SetupError(
            f"The table {table.name} differs after the copy: {wanted.rows} rows with the sum {wanted.checksum[:16]} "
            f"became {found.rows} with {found.checksum[:16]}. Nothing was changed."
        )


def check_rows(engine: Engine) -> dict[str, int]:
    """How many rows each table has, those of SQLite checked whole. Raises SetupError for damage."""
    try:
        with engine.connect() as conn:
            if engine.dialect.name == "sqlite":
                _check_source(conn)
            names = [table.name for table in metadata.sorted_tables]
            return {name: int(conn.exec_driver_sql(f'SELECT count(*) FROM "{name}"').scalar_one()) for name in names}  # noqa: S608
    except DBAPIError as error:
        raise SetupError(f"The database cannot be read: {str(error.orig)[:300]}") from None
