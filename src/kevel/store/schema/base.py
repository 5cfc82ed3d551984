"""Metadata and column types that both SQLite and PostgreSQL understand."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, Dialect, Integer, MetaData, Text, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


#: What the column `live` holds on rows that are no tombstones. It stands in the statements as it is: for a value that
#: is bound later, SQLite would plan the statement anew each time before it takes an index "WHERE live = 1".
LIVE: Final = literal_column("1", Integer)

#: The key of a table whose rows the database numbers.
Counter: Final = BigInteger().with_variant(Integer(), "sqlite")

_ENCODER: Final = msgspec.json.Encoder()


@compiles(Integer, "postgresql")
def _name_integer(kind: Integer, compiler: Any, **options: Any) -> str:
    """SQLite's INTEGER has 64 bits, and what is compared with a column may need them: both engines answer alike."""
    return "BIGINT"


class _Known(dict[Any, Any]):
    """What an enum's members are in the database, or the other way round. NULL is None; anything else is a bug."""

    def __missing__(self, key: object) -> None:
        if key is not None:
            raise ValueError(f"{key!r} is no value of this column")


class Json(TypeDecorator[Any]):
    """A JSON value in a text column, read and written with msgspec; `decode_to` gives it a type."""

    impl = Text
    cache_ok = True

    def __init__(self, decode_to: Any = Any) -> None:
        super().__init__()
        self.decode_to = decode_to
        self._decoder = msgspec.json.Decoder(decode_to)

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str | None]:
        encode = _ENCODER.encode
        return lambda value: None if value is None else encode(value).decode()

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        decode = self._decoder.decode
        return lambda value: None if value is None else decode(value)


class Word(TypeDecorator[Any]):
    """A string enum as its value."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[enum.Enum]) -> None:
        super().__init__()
        self.kind = kind

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        return _Known((member, member.value) for member in self.kind).__getitem__

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        return _Known((member.value, member) for member in self.kind).__getitem__


class Number(TypeDecorator[Any]):
    """An integer enum as its number."""

    impl = Integer
    cache_ok = True

    def __init__(self, kind: type[enum.IntEnum]) -> None:
        super().__init__()
        self.kind = kind

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        return lambda value: None if value is None else int(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        return _Known((member.value, member) for member in self.kind).__getitem__
