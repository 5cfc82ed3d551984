"""Volumes as their users see them, one and many: rows, computed status, type's name, attachments.

A list runs in a few statements whatever its length, and begins behind its marker. What no column holds (the status is
computed) is matched on the rows, which are read in order, chunk by chunk, until the page is full.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Select, and_, bindparam, exists, func, or_, select

from kevel.domain.errors import NotFound
from kevel.domain.model import Operation, Subject, Volume
from kevel.domain.pool_moves import POOL_MOVES
from kevel.domain.status import has_volume, volume_status
from kevel.store.attachments import AttachmentView, open_of_volumes
from kevel.store.operations import OPERATION_COLUMNS
from kevel.store.pages import CHUNK_ROWS, Listed, Page
from kevel.store.pool_moves import moving_volumes
from kevel.store.schema.attachments import claims
from kevel.store.schema.base import LIVE
from kevel.store.schema.volumes import operations, volume_types, volumes
from kevel.store.transactions import Tx, as_struct
from kevel.store.volume_types import type_names
from kevel.store.volumes import VOLUME_COLUMNS

#: More volumes than that are not asked for by their ids where there is another way.
IDS_MAX: Final = 50
_VOLUMES: Final = select(*VOLUME_COLUMNS).where(volumes.c.id.in_(bindparam("of_volumes", expanding=True)))
_RUNNING: Final = select(*OPERATION_COLUMNS).where(
    operations.c.subject == Subject.VOLUME, operations.c.finished_at.is_(None)
)
_RUNNING_OF: Final = _RUNNING.where(operations.c.subject_id.in_(bindparam("of_volumes", expanding=True)))

#: A time that is not set sorts before all others, on every database.
NEVER: Final = 0
#: What a list can be sorted by, by Cinder's names; "status" is sorted by after it has been computed.
SORT_COLUMNS: Final[Mapping[str, ColumnElement[Any]]] = {
    "id": volumes.c.id,
    "name": volumes.c.name,
    "display_name": volumes.c.name,
    "size": volumes.c.size_gib,
    "bootable": volumes.c.bootable,
    "availability_zone": volumes.c.availability_zone,
    "created_at": volumes.c.created_at,
    "updated_at": func.coalesce(volumes.c.updated_at, NEVER),
    "user_id": volumes.c.user_id,
    "project_id": volumes.c.project_id,
}
SORT_KEYS: Final = frozenset({*SORT_COLUMNS, "status"})
#: The rows' names for them, where they differ.
SORT_FIELDS: Final = {"display_name": "name", "size": "size_gib"}
#: Statuses that come from attachments.
ATTACHED: Final = frozenset({"in-use", "attaching", "detaching", "reserved"})

#: Cinder's word for a move to another pool that is under way.
MOVING: Final = "migrating"

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
    is_moving: bool = False

    @property
    def migration_status(self) -> str | None:
        """Cinder's word for the volume's move to another pool: the one that is under way, else the last."""
        return MOVING if self.is_moving else self.volume.migration_status

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
    migration_status: str | None = None
    times: tuple[TimeFilter, ...] = ()
    statuses: frozenset[str] | None = None
    metadata: Mapping[str, str] | None = None
    image_metadata: Mapping[str, str] | None = None

    @property
    def is_on_columns(self) -> bool:
        """Can the database find them all by itself?"""
        return self.statuses is None and self.metadata is None and self.image_metadata is None


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
        found_one = as_struct(Operation, row)
        running[found_one.subject_id] = found_one
    held = open_of_volumes(tx, ids)
    names = type_names(tx, {volume.volume_type_id for volume in found})
    views: list[VolumeView] = []
    for volume in found:
        attachments = tuple(held.get(volume.id, ()))
        operation = running.get(volume.id)
        view = VolumeView(
            volume=volume,
            status=volume_status(volume, operation, [(one.attachment, one.paths) for one in attachments]),
            type_name=names[volume.volume_type_id],
            attachments=attachments,
            is_moving=operation is not None and operation.kind in POOL_MOVES,
        )
        views.append(view)
    return views


def view_volume(tx: Tx, volume: Volume) -> VolumeView:
    """One volume with all that is shown of it."""
    return view_volumes(tx, [volume])[0]


def list_volumes(tx: Tx, wanted: VolumeFilter, page: Page) -> Listed[VolumeView]:
    """One page of the live volumes that match. Raises NotFound for a marker that is not among them.

    What it costs grows with the page, not with the rows beyond it; a sort by status has to see all rows.
    """
    if any(key == "status" for key, _ in page.sort):
        return _sorted_page(tx, wanted, page)
    last = None if page.marker is None else _find_marker(tx, wanted, page.marker)
    skip = 0 if wanted.is_on_columns else page.offset
    shown = list(islice(_walk(tx, wanted, page, last), skip, skip + page.limit))
    count: int | None = None
    if page.with_count:
        count = _count(tx, wanted, page)
    return Listed(rows=shown, count=count)


def _sorted_page(tx: Tx, wanted: VolumeFilter, page: Page) -> Listed[VolumeView]:
    views = _sorted_views(tx, wanted, page)
    start = page.offset
    if page.marker is not None:
        ids = [view.volume.id for view in views]
        if page.marker not in ids:
            raise _no_marker(page.marker)
        start += ids.index(page.marker) + 1
    count = len(views) if page.with_count else None
    return Listed(rows=views[start : start + page.limit], count=count)


def _find_marker(tx: Tx, wanted: VolumeFilter, marker: str) -> Volume:
    statement = _narrow(select(*VOLUME_COLUMNS).where(volumes.c.live == LIVE), wanted).where(volumes.c.id == marker)
    row = tx.execute(statement).first()
    if row is None:
        raise _no_marker(marker)
    return as_struct(Volume, row)


def _no_marker(marker: str) -> NotFound:
    return NotFound(f"Volume {marker[:64]} could not be found; it was given as the marker of a list.")


def _count(tx: Tx, wanted: VolumeFilter, page: Page) -> int:
    """All that match, beyond the page too."""
    if wanted.is_on_columns:
        statement = select(func.count()).select_from(volumes).where(volumes.c.live == LIVE)
        return int(tx.execute(_narrow(statement, wanted)).scalar_one())
    return sum(1 for _ in _walk(tx, wanted, msgspec.structs.replace(page, offset=0), None))


def _walk(tx: Tx, wanted: VolumeFilter, page: Page, last: Volume | None) -> Iterator[VolumeView]:
    """What matches, in order, behind the volume `last`: read as it is asked for."""
    exact = wanted.is_on_columns
    chunk = max(page.limit, 1) if exact else CHUNK_ROWS
    offset = page.offset if exact else 0
    while True:
        statement = _order(_narrow(select(*VOLUME_COLUMNS).where(volumes.c.live == LIVE), wanted), page)
        if last is not None:
            statement = statement.where(_behind(last, page.sort))
        found = [as_struct(Volume, row) for row in tx.execute(statement.limit(chunk).offset(offset))]
        for view in view_volumes(tx, found):
            if _matches(view, wanted):
                yield view
        if len(found) < chunk:
            return
        last, offset = found[-1], 0


def _behind(last: Volume, sort: Sequence[tuple[str, bool]]) -> ColumnElement[bool]:
    """What comes after the volume in that order: where the first column that differs is beyond its own."""
    cases: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for key, down in sort:
        column, value = SORT_COLUMNS[key], _sort_value(last, key)
        cases.append(and_(*same, column < value if down else column > value))
        same.append(column == value)
    key, down = sort[0]
    column, value = SORT_COLUMNS[key], _sort_value(last, key)
    # Follows from the cases; the database finds its place in an index by it.
    return and_(column <= value if down else column >= value, or_(*cases))


def _sorted_views(tx: Tx, wanted: VolumeFilter, page: Page) -> list[VolumeView]:
    """All that match, in the order of the page; Python's sort is stable, so the least important key goes first."""
    unsorted = msgspec.structs.replace(page, sort=(("id", True),), limit=CHUNK_ROWS, offset=0)
    views = list(_walk(tx, wanted, unsorted, None))
    for key, down in reversed(page.sort):
        views.sort(key=lambda view: view.status if key == "status" else _sort_value(view.volume, key), reverse=down)
    return views


def _sort_value(volume: Volume, key: str) -> Any:
    value = getattr(volume, SORT_FIELDS.get(key, key))
    return NEVER if value is None else value


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
        statement = statement.where(volumes.c.name.icontains(wanted.name_part, autoescape=True))
    if wanted.type_ref is not None:
        types = select(volume_types.c.id).where(
            (volume_types.c.id == wanted.type_ref) | (volume_types.c.name == wanted.type_ref)
        )
        statement = statement.where(volumes.c.volume_type_id.in_(types))
    if wanted.migration_status == MOVING:
        statement = statement.where(volumes.c.id.in_(moving_volumes()))
    elif wanted.migration_status is not None:
        statement = statement.where(volumes.c.migration_status == wanted.migration_status)
    if wanted.statuses is not None:
        statement = statement.where(_may_have(wanted.statuses))
    for one in wanted.times:
        statement = statement.where(COMPARE[one.comparison](volumes.c[one.column], one.at))
    return statement


def _matches(view: VolumeView, wanted: VolumeFilter) -> bool:
    """Does it match by what no column holds?"""
    if wanted.statuses is not None and view.status not in wanted.statuses:
        return False
    if wanted.metadata is not None and not wanted.metadata.items() <= view.volume.metadata.items():
        return False
    known = view.volume.image_metadata or {}
    return wanted.image_metadata is None or wanted.image_metadata.items() <= known.items()


def _may_have(statuses: frozenset[str]) -> ColumnElement[bool]:
    """Every volume whose status may be among these, and as few others as columns and indexes can tell."""
    held = exists().where(claims.c.volume_id == volumes.c.id, claims.c.live == LIVE)
    cases: list[ColumnElement[bool]] = [volumes.c.mask.in_(sorted(statuses))]
    if "available" in statuses:
        cases.append(and_(volumes.c.mask.is_(None), volumes.c.fault.is_(None), ~held))
    if not ATTACHED.isdisjoint(statuses):
        cases.append(held)
    if not statuses <= ATTACHED | {"available"}:
        busy = select(operations.c.subject_id).where(
            operations.c.subject == Subject.VOLUME, operations.c.finished_at.is_(None)
        )
        cases += [volumes.c.id.in_(busy), volumes.c.fault.is_not(None), volumes.c.transfer_id.is_not(None)]
    return or_(*cases)


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


def load_volumes(tx: Tx, volume_ids: Collection[str]) -> dict[str, Volume]:
    """The volumes by their ids, tombstones included."""
    found: dict[str, Volume] = {}
    ids = sorted(volume_ids)
    for at in range(0, len(ids), CHUNK_ROWS):
        for row in tx.execute(_VOLUMES, {"of_volumes": ids[at : at + CHUNK_ROWS]}):
            found[row.id] = as_struct(Volume, row)
    return found
