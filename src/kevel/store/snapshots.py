"""Snapshots: the rows, one and many, as their users see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Select, bindparam, func, insert, select, update

from kevel.domain.errors import NotFound
from kevel.domain.model import Actor, Operation, OperationKind, Snapshot, Subject
from kevel.domain.status import copy_status
from kevel.store.operations import OPERATION_COLUMNS, begin_operation, give_up_operation, running_operation
from kevel.store.pages import Listed, Page, list_page
from kevel.store.schema.base import LIVE
from kevel.store.schema.volumes import operations, snapshots
from kevel.store.transactions import Tx, as_struct, row_columns
from kevel.store.volume_lists import COMPARE, TimeFilter

SNAPSHOT_COLUMNS = row_columns(snapshots, Snapshot)
_SNAPSHOT = select(*SNAPSHOT_COLUMNS).where(snapshots.c.id == bindparam("of_id"))
_SNAPSHOTS = select(*SNAPSHOT_COLUMNS).where(snapshots.c.id.in_(bindparam("of_ids", expanding=True)))
_INSERT = insert(snapshots)
_OF_VOLUME = (
    select(*SNAPSHOT_COLUMNS)
    .where(snapshots.c.volume_id == bindparam("of_volume"), snapshots.c.live == LIVE)
    .order_by(snapshots.c.created_at, snapshots.c.id)
)
_RUNNING_OF = select(*OPERATION_COLUMNS).where(
    operations.c.subject == Subject.SNAPSHOT,
    operations.c.finished_at.is_(None),
    operations.c.subject_id.in_(bindparam("of_ids", expanding=True)),
)

#: What a list can be sorted by, by Cinder's names.
SORT_COLUMNS: Final[Mapping[str, ColumnElement[Any]]] = {
    "id": snapshots.c.id,
    "name": snapshots.c.name,
    "display_name": snapshots.c.name,
    "volume_id": snapshots.c.volume_id,
    "created_at": snapshots.c.created_at,
    "updated_at": func.coalesce(snapshots.c.updated_at, 0),
    "project_id": snapshots.c.project_id,
    "user_id": snapshots.c.user_id,
    "volume_size": snapshots.c.size_gib,
    "size": snapshots.c.size_gib,
    "description": func.coalesce(snapshots.c.description, ""),
    "display_description": func.coalesce(snapshots.c.description, ""),
}


class SnapshotView(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot with everything that is shown of it."""

    snapshot: Snapshot
    status: str
    #: Per cent of it that are there.
    progress: int


class SnapshotFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which snapshots; None: whatever."""

    #: None: of all projects.
    project_id: str | None
    ids: tuple[str, ...] | None = None
    name: str | None = None
    name_part: str | None = None
    volume_id: str | None = None
    size_gib: int | None = None
    user_id: str | None = None
    group_snapshot_id: str | None = None
    times: tuple[TimeFilter, ...] = ()
    status: str | None = None
    metadata: Mapping[str, str] | None = None

    def fits(self, view: SnapshotView) -> bool:
        """Does it match by what no column holds?"""
        if self.status is not None and view.status != self.status:
            return False
        return self.metadata is None or self.metadata.items() <= view.snapshot.metadata.items()


def load_snapshot(tx: Tx, snapshot_id: str) -> Snapshot | None:
    """The snapshot, tombstones included."""
    row = tx.execute(_SNAPSHOT, {"of_id": snapshot_id}).first()
    return None if row is None else as_struct(Snapshot, row)


def find_snapshot(tx: Tx, snapshot_id: str, actor: Actor) -> Snapshot:
    """The snapshot, if it exists for this actor; NotFound else (S9)."""
    found = load_snapshot(tx, snapshot_id)
    if found is None or found.deleted_at is not None or not (actor.is_admin or found.project_id == actor.project_id):
        raise NotFound(f"Snapshot {snapshot_id[:64]} could not be found.")
    return found


def live_snapshots(tx: Tx, volume_id: str) -> list[Snapshot]:
    """The volume's snapshots, oldest first."""
    return [as_struct(Snapshot, row) for row in tx.execute(_OF_VOLUME, {"of_volume": volume_id})]


def insert_snapshot(tx: Tx, snapshot: Snapshot) -> None:
    """Enter a new snapshot's row."""
    tx.execute(_INSERT, msgspec.structs.asdict(snapshot) | {"live": 1})


def change_snapshot(tx: Tx, snapshot_id: str, **changes: Any) -> None:
    """Write columns of the snapshot's row."""
    tx.execute(update(snapshots).where(snapshots.c.id == snapshot_id).values(**changes))


def snapshot_operation(tx: Tx, snapshot_id: str) -> Operation | None:
    """The operation that works on the snapshot now."""
    return running_operation(tx, Subject.SNAPSHOT, snapshot_id)


def begin_create_snapshot(tx: Tx, snapshot: Snapshot, *, request_id: str, at: int, deadline_at: int) -> None:
    """Enter a new snapshot and start to take it. The caller has looked at its volume; the schema guards its being."""
    insert_snapshot(tx, snapshot)
    begin_operation(
        tx,
        Subject.SNAPSHOT,
        snapshot.id,
        OperationKind.CREATING,
        volume_id=snapshot.volume_id,
        reads=snapshot.volume_id,
        actor="user",
        request_id=request_id,
        at=at,
        deadline_at=deadline_at,
    )


def begin_delete_snapshot(tx: Tx, snapshot: Snapshot, *, request_id: str, at: int, deadline_at: int) -> None:
    """Start to delete the snapshot. Creating that still runs is given up; deleting that runs is left to it."""
    running = snapshot_operation(tx, snapshot.id)
    if running is not None:
        if running.kind is OperationKind.DELETING:
            return
        give_up_operation(tx, running, actor="user", at=at)
    change_snapshot(tx, snapshot.id, fault=None, mask=None, progress_said=None, updated_at=at)
    begin_operation(
        tx,
        Subject.SNAPSHOT,
        snapshot.id,
        OperationKind.DELETING,
        volume_id=snapshot.volume_id,
        actor="user",
        request_id=request_id,
        at=at,
        deadline_at=deadline_at,
    )


def view_snapshots(tx: Tx, found: Sequence[Snapshot]) -> list[SnapshotView]:
    """The snapshots with all that is shown of them, in the same order."""
    if not found:
        return []
    rows = tx.execute(_RUNNING_OF, {"of_ids": [snapshot.id for snapshot in found]})
    running = {one.subject_id: one for one in (as_struct(Operation, row) for row in rows)}
    return [_view(snapshot, running.get(snapshot.id)) for snapshot in found]


def _view(snapshot: Snapshot, operation: Operation | None) -> SnapshotView:
    progress = 100 if snapshot.made else (0 if operation is None else operation.progress)
    return SnapshotView(snapshot=snapshot, status=copy_status(snapshot, operation), progress=progress)


def view_snapshot(tx: Tx, snapshot: Snapshot) -> SnapshotView:
    """One snapshot with all that is shown of it."""
    return view_snapshots(tx, [snapshot])[0]


def list_snapshots(tx: Tx, wanted: SnapshotFilter, page: Page) -> Listed[SnapshotView]:
    """One page of the live snapshots that match. Raises NotFound for a marker that is not among them."""
    ids = _narrow(select(snapshots.c.id).where(snapshots.c.live == LIVE), wanted)
    on_columns = wanted.status is None and wanted.metadata is None
    return list_page(tx, ids, page, SORT_COLUMNS, _load_some, keep=None if on_columns else wanted.fits)


def _load_some(tx: Tx, ids: Sequence[str]) -> list[SnapshotView]:
    found = {row.id: as_struct(Snapshot, row) for row in tx.execute(_SNAPSHOTS, {"of_ids": list(ids)})}
    return view_snapshots(tx, [found[snapshot_id] for snapshot_id in ids])


def _narrow(statement: Select[Any], wanted: SnapshotFilter) -> Select[Any]:
    equal = {
        snapshots.c.project_id: wanted.project_id,
        snapshots.c.name: wanted.name,
        snapshots.c.volume_id: wanted.volume_id,
        snapshots.c.size_gib: wanted.size_gib,
        snapshots.c.user_id: wanted.user_id,
        snapshots.c.group_snapshot_id: wanted.group_snapshot_id,
    }
    for column, value in equal.items():
        if value is not None:
            statement = statement.where(column == value)
    if wanted.ids is not None:
        statement = statement.where(snapshots.c.id.in_(wanted.ids))
    if wanted.name_part is not None:
        statement = statement.where(snapshots.c.name.icontains(wanted.name_part, autoescape=True))
    for one in wanted.times:
        compare: Callable[[Any, Any], Any] = COMPARE[one.comparison]
        statement = statement.where(compare(snapshots.c[one.column], one.at))
    return statement
