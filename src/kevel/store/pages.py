"""One page of a list, at a cost that grows with the page and not with what is beyond it.

The ids come in order, from behind the marker on, and the rows by their ids. What no column holds is matched on the
rows, chunk by chunk until the page is full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Generic, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Select, and_, func, or_

from kevel.domain.errors import NotFound
from kevel.store.transactions import Tx

T = TypeVar("T")

#: Rows read together where some of them may not match.
CHUNK_ROWS: Final = 500


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a list, and in which order."""

    limit: int
    #: Cinder's names and whether downwards, the most important first.
    sort: tuple[tuple[str, bool], ...] = (("created_at", True), ("id", True))
    #: Id of the last row of the page before.
    marker: str | None = None
    offset: int = 0
    with_count: bool = False


class Listed(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One page."""

    rows: list[T]
    #: All that match, beyond the page too; None unless the page asks for it.
    count: int | None


def list_page(
    tx: Tx,
    ids: Select[Any],
    page: Page,
    columns: Mapping[str, ColumnElement[Any]],
    load: Callable[[Tx, Sequence[str]], Sequence[T]],
    *,
    keep: Callable[[T], bool] | None = None,
) -> Listed[T]:
    """One page of what `ids` selects, sorted by `columns`, which are never NULL; "id" is one of them.

    `load` reads the rows of some ids, in their order; `keep` matches what no column holds. Raises NotFound for a marker
    that is not in the list.
    """
    last = None if page.marker is None else _find_marker(tx, ids, page, columns)
    skip = page.offset if keep is not None else 0
    rows = _walk(tx, ids, page, columns, load, last=last, keep=keep)
    shown = list(islice(rows, skip, skip + page.limit))
    count: int | None = None
    if page.with_count and keep is None:
        count = int(tx.execute(ids.with_only_columns(func.count())).scalar_one())
    elif page.with_count:
        count = sum(1 for _ in _walk(tx, ids, page, columns, load, last=None, keep=keep))
    return Listed(rows=shown, count=count)


def _find_marker(tx: Tx, ids: Select[Any], page: Page, columns: Mapping[str, ColumnElement[Any]]) -> tuple[Any, ...]:
    row = tx.execute(_with_keys(ids, page, columns).where(columns["id"] == page.marker)).first()
    if row is None:
        raise NotFound(f"{str(page.marker)[:64]} could not be found; it was given as the marker of a list.")
    return tuple(row)[1:]


def _with_keys(ids: Select[Any], page: Page, columns: Mapping[str, ColumnElement[Any]]) -> Select[Any]:
    """The ids with the values that they are sorted by."""
    keys = (columns[key].label(f"key_{number}") for number, (key, _) in enumerate(page.sort))
    return ids.with_only_columns(columns["id"], *keys)


def _walk(
    tx: Tx,
    ids: Select[Any],
    page: Page,
    columns: Mapping[str, ColumnElement[Any]],
    load: Callable[[Tx, Sequence[str]], Sequence[T]],
    *,
    last: tuple[Any, ...] | None,
    keep: Callable[[T], bool] | None,
) -> Iterator[T]:
    """What matches, in order, behind the values `last`: read as it is asked for."""
    chunk = max(page.limit, 1) if keep is None else CHUNK_ROWS
    offset = page.offset if keep is None else 0
    order = (columns[key].desc() if down else columns[key].asc() for key, down in page.sort)
    ordered = _with_keys(ids, page, columns).order_by(*order).limit(chunk)
    while True:
        statement = ordered if last is None else ordered.where(_behind(last, page, columns))
        found = tx.execute(statement.offset(offset))
        for row in load(tx, [one[0] for one in found]):
            if keep is None or keep(row):
                yield row
        if len(found) < chunk:
            return
        last, offset = tuple(found[-1])[1:], 0


def _behind(last: tuple[Any, ...], page: Page, columns: Mapping[str, ColumnElement[Any]]) -> ColumnElement[bool]:
    """What comes after those values in the page's order: where the first that differs is beyond."""
    cases: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for (key, down), value in zip(page.sort, last, strict=True):
        cases.append(and_(*same, columns[key] < value if down else columns[key] > value))
        same.append(columns[key] == value)
    (key, down), value = page.sort[0], last[0]
    # Follows from the cases; the database finds its place in an index by it.
    return and_(columns[key] <= value if down else columns[key] >= value, or_(*cases))
