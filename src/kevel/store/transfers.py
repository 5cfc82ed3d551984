"""Offers of volumes to other projects: the rows. A transfer is open while its volume's row names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, bindparam, func, insert, or_, select, update

from kevel.domain.model import Subject
from kevel.store.pages import Listed, Page, list_page
from kevel.store.schema.base import LIVE
from kevel.store.schema.transfers import transfers
from kevel.store.schema.volumes import operations, snapshots, volumes
from kevel.store.transactions import Tx, as_struct, row_columns


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """An offer of a volume; whoever knows its key may take the volume."""

    id: str
    volume_id: str
    #: Who offers.
    project_id: str
    name: str | None
    #: The volume's snapshots stay behind.
    no_snapshots: bool
    salt: str
    key_hash: str
    created_at: int


#: What a list can be sorted by, under Cinder's names.
SORT_COLUMNS: Final[Mapping[str, ColumnElement[Any]]] = {
    "id": transfers.c.id,
    "name": func.coalesce(transfers.c.name, ""),
    "display_name": func.coalesce(transfers.c.name, ""),
    "volume_id": transfers.c.volume_id,
    "created_at": transfers.c.created_at,
    "source_project_id": transfers.c.project_id,
}

_OPEN = select(*row_columns(transfers, Transfer)).join(volumes, volumes.c.transfer_id == transfers.c.id)
_ONE = _OPEN.where(transfers.c.id == bindparam("of_id"))
_SOME = _OPEN.where(transfers.c.id.in_(bindparam("of_ids", expanding=True)))
_INSERT = insert(transfers)
_SNAPSHOTS = (snapshots.c.volume_id == bindparam("of_volume"), snapshots.c.live == LIVE)
_BUSY = select(operations.c.subject_id).where(
    operations.c.subject == Subject.SNAPSHOT, operations.c.finished_at.is_(None)
)
_UNREADY = (
    select(snapshots.c.id)
    .where(
        *_SNAPSHOTS,
        or_(
            snapshots.c.made.is_(False),
            snapshots.c.fault.is_not(None),
            snapshots.c.mask.is_not(None),
            snapshots.c.id.in_(_BUSY),
        ),
    )
    .limit(1)
)
_SNAPSHOT_SIZES = select(snapshots.c.size_gib).where(*_SNAPSHOTS)
_MOVE_SNAPSHOTS = (
    update(snapshots)
    .where(*_SNAPSHOTS)
    .values(project_id=bindparam("new_project"), user_id=bindparam("new_user"), updated_at=bindparam("new_at"))
)


def insert_transfer(tx: Tx, transfer: Transfer) -> None:
    """Enter a new offer; it is open once the volume's row names it."""
    tx.execute(_INSERT, msgspec.structs.asdict(transfer))


def load_transfer(tx: Tx, transfer_id: str) -> Transfer | None:
    """The offer, if it is open."""
    row = tx.execute(_ONE, {"of_id": transfer_id}).first()
    return None if row is None else as_struct(Transfer, row)


def unready_snapshot(tx: Tx, volume_id: str) -> str | None:
    """Id of a snapshot of the volume that is not available."""
    snapshot_id: str | None = tx.execute(_UNREADY, {"of_volume": volume_id}).scalar()
    return snapshot_id


def snapshot_sizes(tx: Tx, volume_id: str) -> list[int]:
    """The sizes of the volume's snapshots, in GiB."""
    return [int(size) for size in tx.execute(_SNAPSHOT_SIZES, {"of_volume": volume_id}).scalars()]


def move_snapshots(tx: Tx, volume_id: str, *, project_id: str, user_id: str, at: int) -> None:
    """Give the volume's snapshots to that project and user."""
    values = {"of_volume": volume_id, "new_project": project_id, "new_user": user_id, "new_at": at}
    tx.execute(_MOVE_SNAPSHOTS, values)


def list_transfers(
    tx: Tx, project_id: str | None, page: Page, *, name: str | None = None, volume_id: str | None = None
) -> Listed[Transfer]:
    """One page of the open offers of a project (None: of all)."""
    ids = select(transfers.c.id).join(volumes, volumes.c.transfer_id == transfers.c.id)
    for column, value in (
        (transfers.c.project_id, project_id),
        (transfers.c.name, name),
        (transfers.c.volume_id, volume_id),
    ):
        if value is not None:
            ids = ids.where(column == value)
    return list_page(tx, ids, page, SORT_COLUMNS, _load_some)


def _load_some(tx: Tx, ids: Sequence[str]) -> list[Transfer]:
    found = {row.id: as_struct(Transfer, row) for row in tx.execute(_SOME, {"of_ids": list(ids)})}
    return [found[transfer_id] for transfer_id in ids]
