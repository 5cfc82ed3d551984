"""Statements compiled once, and run on the driver's own connection.

Running a compiled statement through SQLAlchemy costs five to ten times what SQLite takes for it: the statement's cache
key, its parameters, a result object that can stream. Kevel's statements stand at the top of their modules and are
small, so their text, the order of their parameters and the conversions of their types are worked out once; what they
find is read whole. A statement that is made anew for each call gains nothing by that, and goes through SQLAlchemy.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Delete, Dialect, Executable, Insert, Select, Update
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound
from sqlalchemy.types import TypeEngine

Convert = Callable[[Any], Any]
Values = Mapping[str, Any]

#: What PostgreSQL calls a double.
FLOAT8_OID: Final = 701


class Cursor(Protocol):
    """As much of a driver's cursor as is used here."""

    @property
    def rowcount(self) -> int: ...

    def fetchall(self) -> list[Any]: ...


class Driver(Protocol):
    """As much of a driver's connection as is used here: `sqlite3`'s and psycopg's."""

    def execute(self, text: Any, given: Any = ..., /) -> Cursor: ...


class Rows(list[Any]):
    """What a statement found, all of it."""

    __slots__ = ("rowcount",)

    def __init__(self, rows: Iterable[Any] = (), rowcount: int = -1) -> None:
        super().__init__(rows)
        #: Rows that an UPDATE or DELETE met.
        self.rowcount = rowcount

    def first(self) -> Any:
        """The first row, or None."""
        return self[0] if self else None

    def one(self) -> Any:
        """The only row. Raises NoResultFound or MultipleResultsFound."""
        if not self:
            raise NoResultFound("no row was found where one was required")
        if len(self) > 1:
            raise MultipleResultsFound("several rows were found where one was required")
        return self[0]

    def all(self) -> Sequence[Any]:
        """All rows, for those who like to say so."""
        return self

    def scalars(self) -> Rows:
        """The first column of each row."""
        return Rows(row[0] for row in self)

    def scalar(self) -> Any:
        """The first column of the first row, or None."""
        return self[0][0] if self else None

    def scalar_one(self) -> Any:
        """The first column of the only row. Raises NoResultFound or MultipleResultsFound."""
        return self.one()[0]


class Parameter(NamedTuple):
    """One mark of the text, or, where `listed`, as many as its value has items."""

    #: The name of the caller's value; None for a value of the statement's own.
    key: str | None
    #: That value, converted.
    constant: Any
    convert: Convert | None
    listed: bool
    #: What stands in `IN (...)` for an empty list.
    nothing: str


class Compiled(NamedTuple):
    """A statement for one set of parameters' names, and one kind of database."""

    text: str
    #: How the driver marks a parameter in the text.
    mark: str
    dialect: Dialect
    parameters: tuple[Parameter, ...]
    #: Makes a row of the driver's tuple; None for a statement that finds nothing.
    make_row: Callable[[Sequence[Any]], Any] | None
    #: Columns whose values are converted.
    converts: tuple[tuple[int, Convert], ...]

    def run(self, sql: Driver, values: Values) -> Rows:
        """Run it. Raises SQLAlchemy's errors, which never carry the parameters (S10)."""
        text, given = self.fill(values)
        try:
            cursor = sql.execute(text, given)
            found = cursor.fetchall() if self.make_row is not None else ()
        except self.dialect.loaded_dbapi.Error as error:
            raise translate_error(error, text, self.dialect) from error
        if self.make_row is None:
            return Rows((), cursor.rowcount)
        if not self.converts:
            return Rows(map(self.make_row, found), cursor.rowcount)
        rows = Rows((), cursor.rowcount)
        for row in found:
            cells = list(row)
            for at, convert in self.converts:
                cells[at] = convert(cells[at])
            rows.append(self.make_row(cells))
        return rows

    def fill(self, values: Values) -> tuple[str, list[Any]]:
        """The text and what its marks stand for. Raises KeyError when a value is missing."""
        text = self.text
        given: list[Any] = []
        for key, constant, convert, listed, nothing in self.parameters:
            if key is None:
                given.append(constant)
            elif listed:
                items = _pad(values[key] if convert is None else [convert(item) for item in values[key]])
                marks = ", ".join([self.mark] * len(items)) if items else nothing
                text = text.replace(f"__[POSTCOMPILE_{key}]", marks)
                given += items
            else:
                given.append(values[key] if convert is None else convert(values[key]))
        return text, given


def _pad(items: Sequence[Any]) -> list[Any]:
    """The items and their last one again, up to a power of two: so few texts arise that the driver keeps them all."""
    padded = list(items)
    if padded:
        padded += padded[-1:] * ((1 << (len(padded) - 1).bit_length()) - len(padded))
    return padded


def translate_error(error: Exception, text: str, dialect: Dialect) -> DBAPIError:
    """The driver's error as SQLAlchemy's of the same name."""
    base: type[Exception] = dialect.loaded_dbapi.Error
    translated = DBAPIError.instance(text, None, error, base, hide_parameters=True, dialect=dialect)
    assert isinstance(translated, DBAPIError), "the driver raised it"
    return translated


#: By statement, kind of database and names of the values. None: SQLAlchemy has to run it, since it does more than the
#: text says.
_known: WeakKeyDictionary[Executable, dict[tuple[str, ...], Compiled | None]] = WeakKeyDictionary()


def run_statement(conn: Connection, sql: Driver, statement: Executable, values: Values) -> Rows:
    """Run one statement. `sql` is the driver's connection under `conn`."""
    compiled = _find_compiled(statement, values, conn.dialect)
    if compiled is not None:
        return compiled.run(sql, values)
    result = conn.execute(statement, values or None)
    rowcount = result.rowcount
    return Rows(result.all() if result.returns_rows else (), rowcount)


def _find_compiled(statement: Executable, values: Values, dialect: Dialect) -> Compiled | None:
    """The compiled form, from the second run of the same statement object on: that one is here to stay."""
    forms = _known.get(statement)
    if forms is None:
        _known[statement] = {}
        return None
    form = (dialect.name, *values)
    if form in forms:
        return forms[form]
    compiled = _compile(statement, tuple(values), dialect)
    # Threads may do this at the same time; they come to the same.
    forms[form] = compiled
    return compiled


def _compile(statement: Executable, names: tuple[str, ...], dialect: Dialect) -> Compiled | None:
    if not isinstance(statement, Select | Insert | Update | Delete):
        return None
    sql = statement.compile(dialect=dialect, column_keys=list(names))
    if sql.positiontup is None:
        return None
    if sql.insert_prefetch or sql.update_prefetch or sql.literal_execute_params:
        return None  # values that Python makes, or a text that depends on the values
    if any(f"(__[POSTCOMPILE_{bind.key}])" not in sql.string or not bind.required for bind in sql.post_compile_params):
        return None
    parameters: list[Parameter] = []
    for name in sql.positiontup:
        bind = sql.binds[name]
        convert = _binder(bind.type, dialect)
        if bind.required or bind.key in names:
            listed = bind in sql.post_compile_params
            nothing = _name_nothing(bind.type, dialect) if listed else ""
            parameters.append(Parameter(bind.key, None, convert, listed, nothing))
        else:
            constant = bind.effective_value
            constant = constant if convert is None else convert(constant)
            parameters.append(Parameter(None, constant, None, listed=False, nothing=""))
    columns = list(statement.exported_columns)
    converters = [_reader(column.type, dialect) for column in columns]
    fields = " ".join(column.key or "_" for column in columns)
    row_type: Any = namedtuple("Row", fields, rename=True)  # type: ignore[misc]  # noqa: PYI024 - fields of the statement
    return Compiled(
        text=sql.string,
        mark="?" if dialect.paramstyle == "qmark" else "%s",
        dialect=dialect,
        parameters=tuple(parameters),
        make_row=row_type._make if columns else None,
        converts=tuple((at, convert) for at, convert in enumerate(converters) if convert is not None),
    )


def _name_nothing(kind: TypeEngine[Any], dialect: Dialect) -> str:
    """No row, of that type: PostgreSQL compares nothing with a NULL of another one."""
    named = kind.dialect_impl(dialect).compile(dialect=dialect)
    return f"SELECT CAST(NULL AS {named}) WHERE 1 = 0"


def _binder(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _reader(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    # What the driver says of the column matters for numbers only, and those of Kevel with a fraction are doubles.
    return kind.dialect_impl(dialect).result_processor(dialect, FLOAT8_OID)
