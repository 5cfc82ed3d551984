"""Volume types."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, select, update

from kevel.store.schema.base import LIVE
from kevel.store.schema.volumes import volume_types, volumes
from kevel.store.transactions import Tx, as_struct, row_columns


class VolumeType(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of volume that users choose by name."""

    id: str
    name: str
    description: str | None
    is_public: bool
    extra_specs: dict[str, str]
    created_at: int
    updated_at: int | None

    @property
    def multiattach(self) -> bool:
        """Are volumes of this type made for several servers at once?"""
        return self.extra_specs.get("multiattach", "").lower() == "<is> true"


_COLUMNS = row_columns(volume_types, VolumeType)
_LIVE = select(*_COLUMNS).where(volume_types.c.deleted_at.is_(None))
_ALL = _LIVE.order_by(volume_types.c.created_at.desc(), volume_types.c.id)
_BY_ID = _LIVE.where(volume_types.c.id == bindparam("of_id"))
_BY_NAME = _LIVE.where(volume_types.c.name == bindparam("of_name"))
_NAMES = select(volume_types.c.id, volume_types.c.name).where(
    volume_types.c.id.in_(bindparam("of_types", expanding=True))
)
_USED = select(volumes.c.id).where(volumes.c.volume_type_id == bindparam("of_type"), volumes.c.live == LIVE).limit(1)


def list_types(tx: Tx) -> list[VolumeType]:
    """All types, newest first."""
    return [as_struct(VolumeType, row) for row in tx.execute(_ALL)]


def load_type(tx: Tx, type_id: str) -> VolumeType | None:
    """The type of that id."""
    row = tx.execute(_BY_ID, {"of_id": type_id}).first()
    return None if row is None else as_struct(VolumeType, row)


def load_type_named(tx: Tx, name: str) -> VolumeType | None:
    """The type of that name."""
    row = tx.execute(_BY_NAME, {"of_name": name}).first()
    return None if row is None else as_struct(VolumeType, row)


def insert_type(tx: Tx, volume_type: VolumeType) -> None:
    """Enter a new type. Raises IntegrityError (one_type_of_that_name) when the name is taken."""
    tx.execute(insert(volume_types), msgspec.structs.asdict(volume_type))


def change_type(tx: Tx, type_id: str, **changes: Any) -> None:
    """Write columns of the type's row; `deleted_at` among them deletes it."""
    tx.execute(update(volume_types).where(volume_types.c.id == type_id).values(**changes))


def is_type_used(tx: Tx, type_id: str) -> bool:
    """Is there a live volume of that type?"""
    return tx.execute(_USED, {"of_type": type_id}).first() is not None


def type_names(tx: Tx, type_ids: Collection[str]) -> dict[str, str]:
    """Names by id."""
    return {row.id: row.name for row in tx.execute(_NAMES, {"of_types": list(type_ids)})}
