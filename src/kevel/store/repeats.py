"""Requests that take effect once: the answer is written in the very transaction that has the effect.

So there is no moment at which one is there without the other: whoever asks again under the same key, after whatever
crash, either is the first or gets the first one's answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, Final, Generic, ParamSpec, TypeVar

import msgspec
from sqlalchemy import bindparam, delete, insert, select

from kevel.domain.errors import KeyReused, Repeated
from kevel.store.schema.repeats import kept_answers
from kevel.store.transactions import Tx, as_struct, row_columns

P = ParamSpec("P")
T = TypeVar("T")

#: How long an answer is kept.
KEPT_S: Final = 86_400
#: Answers of before that are removed by one request.
REMOVED_MAX: Final = 100


class Repeat(msgspec.Struct, frozen=True, kw_only=True):
    """A request that carries a key."""

    project_id: str
    key: str
    fingerprint: str
    at: int


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the first request was answered."""

    headers: dict[str, str]
    body: str | None


@dataclass(frozen=True, kw_only=True)
class Once(Generic[T]):
    """A request that carries a key, and how its answer is made of what its transaction returns: a pure function."""

    repeat: Repeat
    answer: Callable[[T], KeptAnswer]


_COLUMNS = row_columns(kept_answers, KeptAnswer)
_OF_KEY = (
    kept_answers.c.project_id == bindparam("of_project"),
    kept_answers.c.key == bindparam("of_key"),
)
_FIND = select(*_COLUMNS, kept_answers.c.fingerprint).where(*_OF_KEY, kept_answers.c.created_at >= bindparam("since"))
_INSERT = insert(kept_answers)
_REPLACE = delete(kept_answers).where(*_OF_KEY)
_EXPIRED = (
    select(kept_answers.c.id)
    .where(kept_answers.c.created_at < bindparam("since"))
    .order_by(kept_answers.c.created_at)
    .limit(bindparam("rows_max"))
)
_REMOVE = delete(kept_answers).where(kept_answers.c.id.in_(_EXPIRED))


def find_answer(tx: Tx, repeat: Repeat) -> KeptAnswer | None:
    """What the request was answered when it was made first; None: it is the first one.

    Raises KeyReused when the key stands for another request.
    """
    values = {"of_project": repeat.project_id, "of_key": repeat.key, "since": _since(repeat)}
    row = tx.execute(_FIND, values).first()
    if row is None:
        return None
    *columns, fingerprint = row
    if fingerprint != repeat.fingerprint:
        raise KeyReused(
            f"The idempotency key {repeat.key[:64]!r} stands for another request of the last {KEPT_S // 3600} hours; "
            "take a new key for a new request."
        )
    return as_struct(KeptAnswer, columns)


def once_only(once: Once[T] | None, fn: Callable[Concatenate[Tx, P], T]) -> Callable[Concatenate[Tx, P], T]:
    """The transaction function as one that takes effect once, and keeps its answer; as it is for None.

    It raises Repeated when the request has been carried out already, and KeyReused as `find_answer` does.
    """
    if once is None:
        return fn

    def carry_once(tx: Tx, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if find_answer(tx, once.repeat) is not None:
            raise Repeated
        result = fn(tx, *args, **kwargs)
        _keep_answer(tx, once.repeat, once.answer(result))
        return result

    return carry_once


def _keep_answer(tx: Tx, repeat: Repeat, answer: KeptAnswer) -> None:
    tx.execute(_REMOVE, {"since": _since(repeat), "rows_max": REMOVED_MAX})
    tx.execute(_REPLACE, {"of_project": repeat.project_id, "of_key": repeat.key})  # one that is out of date
    values = {"project_id": repeat.project_id, "key": repeat.key, "fingerprint": repeat.fingerprint}
    tx.execute(_INSERT, values | {"headers": answer.headers, "body": answer.body, "created_at": repeat.at})


def _since(repeat: Repeat) -> int:
    return repeat.at - KEPT_S * 1_000_000
