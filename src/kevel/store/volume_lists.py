"""Volumes as their users see them, one and many: rows, computed status, type's name, attachments.

A list runs in a few statements whatever its length. What no column holds (the status is computed) is matched on the
rows: the ids come in order first, then the rows chunk by chunk until the page is full.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Select, bindparam, select

from kevel.domain.errors import NotFound
from kevel.domain.model import Operation, Subject, Volume
from kevel.domain.status import has_volume, volume_status
from kevel.store.attachments import AttachmentView, open_of_volumes
from kevel.store.operations import OPERATION_COLUMNS
from kevel.store.schema.base import LIVE
from kevel.store.schema.volumes import operations, volume_types, volumes
from kevel.store.transactions import Tx, as_struct
from kevel.store.volume_types import type_names
from kevel.store.volumes import VOLUME_COLUMNS

#: Rows read together.
CHUNK_ROWS: Final = 500

#: More volumes than that are not asked for by their ids where there is another way.
IDS_MAX: Final = 50
_RUNNING: Final = select(*OPERATION_COLUMNS).where(
    operations.c.subject == Subject.VOLUME, operations.c.finished_at.is_(None)
)
_RUNNING_OF: Final = _RUNNING.where(operations.c.subject_id.in_(bindparam("of_volumes", expanding=True)))
_VOLUMES: Final = select(*VOLUME_COLUMNS).where(volumes.c.id.in_(bindparam("of_volumes", expanding=True)))

#: What a list can be sorted by, by Cinder's names; "status" is sorted by after it has been computed.
SORT_COLUMNS: Final[Mapping[str, ColumnElement[Any]]] = {
    "id": volumes.c.id,
    "name": volumes.c.name,
    "display_name": volumes.c.name,
    "size": volumes.c.size_gib,
    "bootable": volumes.c.bootable,
    "availability_zone": volumes.c.availability_zone,
    "created_at": volumes.c.created_at,
    "updated_at": volumes.c.updated_at,
    "user_id": volumes.c.user_id,
    "project_id": volumes.c.project_id,
}
SORT_KEYS: Final = frozenset({*SORT_COLUMNS, "status"})

#: Comparisons of times, by Cinder's words.
COMPARE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "eq": operator.eq,
    "neq": operator.ne,
}
COMPARISONS: Final = frozenset(COMPARE)


class VolumeView(msgspec.Struct, frozen=True, kw_only=True):
    """A volume with everything that is shown of it."""

    volume: Volume
    status: str
    type_name: str
    attachments: tuple[AttachmentView, ...]

    @property
    def attached(self) -> list[AttachmentView]:
        """The attachments that are complete (S3); an external one also while its client has begun to detach it."""
        return [view for view in self.attachments if has_volume(view.attachment, view.paths)]


class TimeFilter(msgspec.Struct, frozen=True, kw_only=True):
    """`created_at=gte:2026-01-01T00:00:00`, in microseconds since the epoch."""

    column: str
    comparison: str
    at: int


class VolumeFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which volumes; None: whatever."""

    #: None: of all projects.
    project_id: str | None
    ids: tuple[str, ...] | None = None
    name: str | None = None
    name_part: str | None = None
    availability_zone: str | None = None
    bootable: bool | None = None
    multiattach: bool | None = None
    size_gib: int | None = None
    user_id: str | None = None
    group_id: str | None = None
    type_ref: str | None = None
    times: tuple[TimeFilter, ...] = ()
    statuses: frozenset[str] | None = None
    metadata: Mapping[str, str] | None = None
    image_metadata: Mapping[str, str] | None = None

    @property
    def is_on_columns(self) -> bool:
        """Can the database find them all by itself?"""
        return self.statuses is None and self.metadata is None and self.image_metadata is None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a list, and in which order."""

    limit: int
    #: Cinder's names and whether downwards, the most important first.
    sort: tuple[tuple[str, bool], ...] = (("created_at", True), ("id", True))
    #: Id of the last volume of the page before.
    marker: str | None = None
    offset: int = 0
    with_count: bool = False


class VolumePage(msgspec.Struct, frozen=True, kw_only=True):
    """One page."""

    views: list[VolumeView]
    has_more: bool
    #: All that match, beyond the page too.
    count: int | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a project has in all."""

    count: int
    total_gib: int
    metadata: dict[str, list[str]]


def view_volumes(tx: Tx, found: Sequence[Volume]) -> list[VolumeView]:
    """The volumes with all that is shown of them, in the same order."""
    if not found:
        return []
    ids = [volume.id for volume in found]
    running: dict[str, Operation] = {}
    # For a long list all running operations are read, which are few, rather than those of a thousand ids.
    few = len(ids) <= IDS_MAX
    for row in tx.execute(_RUNNING_OF, {"of_volumes": ids}) if few else tx.execute(_RUNNING):
        operation = as_struct(Operation, row)
        running[operation.subject_id] = operation
    held = open_of_volumes(tx, ids)
    names = type_names(tx, {volume.volume_type_id for volume in found})
    views: list[VolumeView] = []
    for volume in found:
        attachments = tuple(held.get(volume.id, ()))
        status = volume_status(volume, running.get(volume.id), [(one.attachment, one.paths) for one in attachments])
        view = VolumeView(volume=volume, status=status, type_name=names[volume.volume_type_id], attachments=attachments)
        views.append(view)
    return views


def view_volume(tx: Tx, volume: Volume) -> VolumeView:
    """One volume with all that is shown of it."""
    return view_volumes(tx, [volume])[0]


def list_volumes(tx: Tx, wanted: VolumeFilter, page: Page) -> VolumePage:
    """One page of the live volumes that match. Raises NotFound for a marker that is not among them."""
    on_columns = wanted.is_on_columns
    if any(key == "status" for key, _ in page.sort):
        views: list[VolumeView] | None = _sorted_views(tx, wanted, page)
    elif on_columns and page.marker is None and not page.with_count:
        return _first_page(tx, wanted, page)
    else:
        views = None
    ids = _matching_ids(tx, wanted, page) if views is None else [view.volume.id for view in views]
    start = 0
    if page.marker is not None:
        if page.marker not in ids:
            raise NotFound(f"Volume {page.marker[:64]} could not be found; it was given as the marker of a list.")
        start = ids.index(page.marker) + 1
    matching = iter(views[start:]) if views is not None else _matching_views(tx, wanted, ids[start:])
    shown = list(islice(matching, page.offset, page.offset + page.limit + 1))
    count: int | None = None
    if page.with_count:
        count = len(ids) if on_columns or views is not None else sum(1 for _ in _matching_views(tx, wanted, ids))
    return VolumePage(views=shown[: page.limit], has_more=len(shown) > page.limit, count=count)


def _first_page(tx: Tx, wanted: VolumeFilter, page: Page) -> VolumePage:
    """The usual list: all that it asks for is in columns, and it begins at the beginning."""
    statement = _order(_narrow(select(*VOLUME_COLUMNS).where(volumes.c.live == LIVE), wanted), page)
    statement = statement.limit(page.limit + 1).offset(page.offset)
    found = [as_struct(Volume, row) for row in tx.execute(statement)]
    views = view_volumes(tx, found[: page.limit])
    return VolumePage(views=views, has_more=len(found) > page.limit, count=None)


def _sorted_views(tx: Tx, wanted: VolumeFilter, page: Page) -> list[VolumeView]:
    """All that match, in the order of the page; Python's sort is stable, so the least important key goes first."""
    unsorted = msgspec.structs.replace(page, sort=(("id", True),))
    views = list(_matching_views(tx, wanted, _matching_ids(tx, wanted, unsorted)))
    for key, down in reversed(page.sort):
        views.sort(key=lambda view: _sort_value(view, key), reverse=down)
    return views


def _sort_value(view: VolumeView, key: str) -> tuple[bool, Any]:
    value = view.status if key == "status" else getattr(view.volume, SORT_COLUMNS[key].key or key)
    return value is not None, value


def _matching_ids(tx: Tx, wanted: VolumeFilter, page: Page) -> list[str]:
    statement = _order(_narrow(select(volumes.c.id).where(volumes.c.live == LIVE), wanted), page)
    return list(tx.execute(statement).scalars())


def _order(statement: Select[Any], page: Page) -> Select[Any]:
    columns = ((SORT_COLUMNS[key], down) for key, down in page.sort)
    return statement.order_by(*(column.desc() if down else column.asc() for column, down in columns))


def _narrow(statement: Select[Any], wanted: VolumeFilter) -> Select[Any]:
    equal = {
        volumes.c.project_id: wanted.project_id,
        volumes.c.name: wanted.name,
        volumes.c.availability_zone: wanted.availability_zone,
        volumes.c.bootable: wanted.bootable,
        volumes.c.multiattach: wanted.multiattach,
        volumes.c.size_gib: wanted.size_gib,
        volumes.c.user_id: wanted.user_id,
        volumes.c.group_id: wanted.group_id,
    }
    for column, value in equal.items():
        if value is not None:
            statement = statement.where(column == value)
    if wanted.ids is not None:
        statement = statement.where(volumes.c.id.in_(wanted.ids))
    if wanted.name_part is not None:
        statement = statement.where(volumes.c.name.contains(wanted.name_part, autoescape=True))
    if wanted.type_ref is not None:
        types = select(volume_types.c.id).where(
            (volume_types.c.id == wanted.type_ref) | (volume_types.c.name == wanted.type_ref)
        )
        statement = statement.where(volumes.c.volume_type_id.in_(types))
    for one in wanted.times:
        statement = statement.where(COMPARE[one.comparison](volumes.c[one.column], one.at))
    return statement


def _matching_views(tx: Tx, wanted: VolumeFilter, ids: Sequence[str]) -> Iterator[VolumeView]:
    for at in range(0, len(ids), CHUNK_ROWS):
        chunk = ids[at : at + CHUNK_ROWS]
        rows = {row.id: row for row in tx.execute(_VOLUMES, {"of_volumes": chunk})}
        for view in view_volumes(tx, [as_struct(Volume, rows[volume_id]) for volume_id in chunk]):
            if wanted.statuses is not None and view.status not in wanted.statuses:
                continue
            if wanted.metadata is not None and not wanted.metadata.items() <= view.volume.metadata.items():
                continue
            known = view.volume.image_metadata or {}
            if wanted.image_metadata is not None and not wanted.image_metadata.items() <= known.items():
                continue
            yield view


def summarize(tx: Tx, wanted: VolumeFilter) -> Summary:
    """Number, size and metadata of the live volumes that match by their columns."""
    statement = _narrow(select(volumes.c.size_gib, volumes.c.metadata).where(volumes.c.live == LIVE), wanted)
    count, total_gib = 0, 0
    values: dict[str, set[str]] = {}
    for row in tx.execute(statement):
        count += 1
        total_gib += row.size_gib
        for key, value in row.metadata.items():
            values.setdefault(key, set()).add(value)
    return Summary(count=count, total_gib=total_gib, metadata={key: sorted(values[key]) for key in sorted(values)})


def readonly_among(tx: Tx, volume_ids: Collection[str]) -> frozenset[str]:
    """Those of the volumes that guests may only read."""
    found: set[str] = set()
    ids = list(volume_ids)
    for at in range(0, len(ids), CHUNK_ROWS):
        chunk = ids[at : at + CHUNK_ROWS]
        statement = select(volumes.c.id).where(volumes.c.id.in_(chunk), volumes.c.readonly.is_(True))
        found.update(tx.execute(statement).scalars())
    return frozenset(found)
