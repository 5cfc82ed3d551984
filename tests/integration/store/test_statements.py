"""Statements run the same way whether SQLAlchemy runs them or their compiled form does."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, MultipleResultsFound, NoResultFound

from kevel.store import statements
from kevel.store.schema.base import Json, Number, Word
from kevel.store.transactions import Tx

#: The first run goes through SQLAlchemy; from the second on the compiled form runs.
RUNS = 3


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 2


things = Table(
    "things",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("colour", Word(Colour)),
    Column("level", Number(Level)),
    Column("extras", Json(dict[str, int] | None)),
    Column("flag", Boolean),
    Column("raw", LargeBinary),
    Column("made_by", Text, default="python"),
)
_INSERT = insert(things)
_ONE = select(things).where(things.c.id == bindparam("of_id"))
_SOME = select(things.c.id).where(things.c.id.in_(bindparam("ids", expanding=True))).order_by(things.c.id)
_RAISE = (
    update(things).where(things.c.id == bindparam("of_id")).values(level=bindparam("new")).returning(things.c.level)
)
_DELETE = delete(things).where(things.c.id == bindparam("of_id"))


@pytest.fixture
def tx(schema: Engine) -> Iterator[Tx]:
    with schema.connect() as conn:
        conn.exec_driver_sql("BEGIN")
        things.create(conn)
        yield Tx(conn)
        conn.exec_driver_sql("ROLLBACK")


def put(tx: Tx, name: str, **values: Any) -> None:
    row = {"colour": Colour.RED, "level": Level.HIGH, "extras": {"a": 1}, "flag": True, "raw": b"\0", "made_by": "us"}
    tx.execute(_INSERT, {"id": name} | row | values)


def test_values_come_back_as_they_went_in_on_every_run(tx: Tx) -> None:
    for run in range(RUNS):
        put(tx, f"thing-{run}")
        found = tx.execute(_ONE, {"of_id": f"thing-{run}"}).one()
        assert tuple(found) == (f"thing-{run}", Colour.RED, Level.HIGH, {"a": 1}, True, b"\0", "us")
        assert (found.colour, found.flag) == (Colour.RED, True)


def test_null_comes_back_as_none_on_every_run(tx: Tx) -> None:
    nothing = {"colour": None, "level": None, "extras": None, "flag": None, "raw": None}
    for run in range(RUNS):
        put(tx, f"thing-{run}", **nothing)
        assert tuple(tx.execute(_ONE, {"of_id": f"thing-{run}"}).one())[1:6] == (None,) * 5


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 8, 700])
def test_a_list_of_any_length_finds_what_it_names(tx: Tx, size: int) -> None:
    for number in range(size + 2):
        put(tx, f"{number:04}")
    wanted = [f"{number:04}" for number in range(size)]
    for _ in range(RUNS):
        assert tx.execute(_SOME, {"ids": wanted}).scalars().all() == wanted


def test_a_value_that_python_makes_is_made_on_every_run(tx: Tx) -> None:
    short = insert(things)
    for run in range(RUNS):
        tx.execute(short, {"id": f"thing-{run}"})
        assert tx.execute(_ONE, {"of_id": f"thing-{run}"}).one().made_by == "python"


def test_rows_met_and_rows_returned_are_told_on_every_run(tx: Tx) -> None:
    put(tx, "a", level=None)
    for _ in range(RUNS):
        assert tx.execute(_RAISE, {"of_id": "a", "new": Level.HIGH}).scalar_one() is Level.HIGH
        assert tx.execute(_DELETE, {"of_id": "nobody"}).rowcount == 0
    assert tx.execute(_DELETE, {"of_id": "a"}).rowcount == 1


def test_one_row_is_asked_for_and_none_or_two_are_refused_on_every_run(tx: Tx) -> None:
    put(tx, "a")
    put(tx, "b")
    every = select(things.c.id)
    for _ in range(RUNS):
        with pytest.raises(NoResultFound):
            tx.execute(_ONE, {"of_id": "nobody"}).one()
        with pytest.raises(MultipleResultsFound):
            tx.execute(every).scalar_one()
        assert tx.execute(_ONE, {"of_id": "nobody"}).first() is None
        assert tx.execute(_ONE, {"of_id": "nobody"}).scalar() is None


def test_a_refused_write_names_the_constraint_and_not_the_values(tx: Tx) -> None:
    put(tx, "secret-name")
    for _ in range(RUNS):
        tx.conn.exec_driver_sql("SAVEPOINT here")
        with pytest.raises(IntegrityError, match=r"things\.(id|things_pkey)") as refused:
            put(tx, "secret-name")
        tx.conn.exec_driver_sql("ROLLBACK TO here")
        assert "secret-name" not in str(refused.value)


def test_a_missing_value_is_an_error_and_not_null(tx: Tx) -> None:
    put(tx, "a")
    for _ in range(RUNS):
        tx.execute(_ONE, {"of_id": "a"})
    with pytest.raises(KeyError, match="of_id"):
        tx.execute(_ONE, {"of_idd": "a"})


def test_a_word_that_is_no_member_is_an_error(tx: Tx) -> None:
    put(tx, "a")
    tx.conn.exec_driver_sql("UPDATE things SET colour = 'mauve'")
    for _ in range(RUNS):
        with pytest.raises(ValueError, match="mauve"):
            tx.execute(_ONE, {"of_id": "a"})


def test_a_statement_made_for_one_call_leaves_nothing_behind(tx: Tx) -> None:
    before = len(statements._known)
    for number in range(20):
        tx.execute(select(func.count()).select_from(things).where(things.c.id == str(number)))
    assert len(statements._known) <= before + 1
