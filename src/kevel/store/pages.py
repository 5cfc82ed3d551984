"""One page of a list whose rows are small: ids in order first, then the rows chunk by chunk until the page is full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Generic, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Select

from kevel.domain.errors import NotFound
from kevel.store.transactions import Tx
from kevel.store.volume_lists import Page

T = TypeVar("T")

#: Rows read together.
CHUNK_ROWS: Final = 500


class Listed(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One page."""

    rows: list[T]
    has_more: bool
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
    """One page of what `ids` selects, sorted by `columns`.

    `load` reads the rows of some ids, in their order; `keep` matches what no column holds. Raises NotFound for a marker
    that is not in the list.
    """
    order = (columns[key].desc() if down else columns[key].asc() for key, down in page.sort)
    found = list(tx.execute(ids.order_by(*order)).scalars())
    start = 0
    if page.marker is not None:
        if page.marker not in found:
            raise NotFound(f"{page.marker[:64]} could not be found; it was given as the marker of a list.")
        start = found.index(page.marker) + 1
    rows = _matching(tx, found[start:], load, keep)
    shown = list(islice(rows, page.offset, page.offset + page.limit + 1))
    count: int | None = None
    if page.with_count:
        count = len(found) if keep is None else sum(1 for _ in _matching(tx, found, load, keep))
    return Listed(rows=shown[: page.limit], has_more=len(shown) > page.limit, count=count)


def _matching(
    tx: Tx, ids: Sequence[str], load: Callable[[Tx, Sequence[str]], Sequence[T]], keep: Callable[[T], bool] | None
) -> Iterator[T]:
    for at in range(0, len(ids), CHUNK_ROWS):
        for row in load(tx, ids[at : at + CHUNK_ROWS]):
            if keep is None or keep(row):
                yield row
