"""What a transaction function gets: the connection, and a place for its wake-ups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar, cast

import msgspec
from sqlalchemy import Connection, Executable, Row, Table

from kevel.store.statements import Driver, Rows, run_statement

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


class Wake(NamedTuple):
    """Somebody should look at a key soon. `kind` names a reconciler ("path", "volume", "server") or "host"."""

    kind: str
    key: str


class Tx:
    """One transaction. Its wake-ups are published after the commit, and never when it is undone."""

    __slots__ = ("_sql", "conn", "wakes")

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self._sql = cast("Driver", conn.connection.driver_connection)
        self.wakes: list[Wake] = []

    def execute(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Rows:
        """Run one statement, and read all that it finds."""
        return run_statement(self.conn, self._sql, statement, values or {})

    def wake(self, kind: str, key: str) -> None:
        """Ask for a look at the key once this transaction is committed."""
        self.wakes.append(Wake(kind, key))


Transaction = Callable[Concatenate[Tx, P], T]


class Store(Protocol):
    """Where rows live. Transactions are serial on every engine."""

    async def read(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a reading transaction on a fresh snapshot."""
        ...

    async def read_point(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `read`, for functions that meet a few rows by their keys: a store may answer without a thread."""
        ...

    async def write(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a writing transaction; when this returns it is durable (power loss included).

        Raises what fn raised; then nothing of it was written.
        """
        ...

    def subscribe(self, listener: Callable[[Sequence[Wake]], None]) -> None:
        """Hear of wake-ups after each commit, on the event loop."""
        ...


def row_columns(table: Table, struct: type[S]) -> tuple[Any, ...]:
    """The table's columns in the order of the struct's fields; a missing one is an AttributeError at import."""
    return tuple(table.c[name] for name in struct.__struct_fields__)


def as_struct(struct: type[S], row: Row[Any] | Sequence[Any]) -> S:
    """A row of `row_columns` as its struct."""
    return struct(**dict(zip(struct.__struct_fields__, row, strict=True)))
