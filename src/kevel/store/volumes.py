"""Volumes and their operations: reading, making and changing."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from kevel.domain.model import Operation, Volume
from kevel.store.schema.volumes import operations, volumes
from kevel.store.transactions import Tx, as_struct, row_columns

VOLUME_COLUMNS = row_columns(volumes, Volume)
OPERATION_COLUMNS = row_columns(operations, Operation)
_VOLUME = select(*VOLUME_COLUMNS).where(volumes.c.id == bindparam("of_id"))
_RUNNING = select(*OPERATION_COLUMNS).where(
    operations.c.volume_id == bindparam("of_volume"), operations.c.finished_at.is_(None)
)


def load_volume(tx: Tx, volume_id: str) -> Volume | None:
    """The volume, tombstones included."""
    row = tx.execute(_VOLUME, {"of_id": volume_id}).first()
    return None if row is None else as_struct(Volume, row)


def running_operation(tx: Tx, volume_id: str) -> Operation | None:
    """The operation that works on the volume now."""
    row = tx.execute(_RUNNING, {"of_volume": volume_id}).first()
    return None if row is None else as_struct(Operation, row)
