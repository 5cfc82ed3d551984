"""The pools through which volumes have moved: where something may have been left of them, and what is on its way."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Select, bindparam, select

from kevel.domain.model import OperationKind
from kevel.domain.pool_moves import PoolMove, read_move
from kevel.store.schema.volumes import IS_POOL_MOVE, operations, volumes
from kevel.store.transactions import Tx

_OF_VOLUME = select(operations.c.args).where(operations.c.subject_id == bindparam("of_volume"), IS_POOL_MOVE)
_RUNNING = (
    select(volumes.c.project_id, volumes.c.size_gib, operations.c.args)
    .join(volumes, volumes.c.id == operations.c.subject_id)
    .where(operations.c.finished_at.is_(None), IS_POOL_MOVE)
)
_RETYPING = select(operations.c.args).where(
    operations.c.finished_at.is_(None), operations.c.kind == OperationKind.RETYPING
)


def pools_passed(tx: Tx, volume_id: str) -> frozenset[str]:
    """All pools that a move of the volume has begun or ended in, whatever became of it."""
    moves = [read_move(args) for args in tx.execute(_OF_VOLUME, {"of_volume": volume_id}).scalars()]
    return frozenset(pool for move in moves for pool in (move.from_pool, move.to_pool))


def running_moves(tx: Tx) -> Iterator[tuple[str, int, PoolMove]]:
    """The project and the size in GiB of each volume that is moving, and where it goes."""
    for row in tx.execute(_RUNNING):
        yield row.project_id, row.size_gib, read_move(row.args)


def moving_volumes() -> Select[str]:
    """The ids of the volumes that are moving, for a statement."""
    return select(operations.c.subject_id).where(operations.c.finished_at.is_(None), IS_POOL_MOVE)


def is_given(tx: Tx, volume_type_id: str) -> bool:
    """Is some volume about to get that type?"""
    moves = (read_move(args) for args in tx.execute(_RETYPING).scalars())
    return any(move.volume_type_id == volume_type_id for move in moves)
