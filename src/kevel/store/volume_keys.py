"""Keys of encrypted volumes: sealed, and destroyed with the last volume that they open.

A volume that is made from another encrypted one, or from a snapshot of it, is a copy of its bytes, header and all: it
is opened by the same key.
"""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import bindparam, func, insert, select, update

from kevel.store.schema.base import LIVE
from kevel.store.schema.volumes import volume_keys, volumes
from kevel.store.transactions import Tx, as_struct, row_columns

#: In front of a key's id: what it is sealed under, so that it opens for no other.
KEY_SEAL: Final = "volume-key:"


class SealedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key's row."""

    id: str
    #: None: it is destroyed.
    sealed: bytes | None
    key_bits: int
    created_at: int
    destroyed_at: int | None


_COLUMNS = row_columns(volume_keys, SealedKey)
_INSERT = insert(volume_keys)
_ONE = select(*_COLUMNS).where(volume_keys.c.id == bindparam("of_id"))
_USERS = (
    select(func.count())
    .select_from(volumes)
    .where(volumes.c.encryption_key_id == bindparam("of_id"), volumes.c.live == LIVE)
)
_DESTROY = (
    update(volume_keys)
    .where(volume_keys.c.id == bindparam("of_id"))
    .values(sealed=None, destroyed_at=bindparam("new_at"))
)


def insert_key(tx: Tx, key: SealedKey) -> None:
    """Enter a key."""
    tx.execute(_INSERT, msgspec.structs.asdict(key))


def load_key(tx: Tx, key_id: str) -> SealedKey | None:
    """The key, destroyed or not."""
    row = tx.execute(_ONE, {"of_id": key_id}).first()
    return None if row is None else as_struct(SealedKey, row)


def destroy_unused_key(tx: Tx, key_id: str, *, at: int) -> None:
    """Destroy the key when no volume is left that it opens: then nothing reads what was stored in them."""
    if tx.execute(_USERS, {"of_id": key_id}).scalar_one() == 0:
        tx.execute(_DESTROY, {"of_id": key_id, "new_at": at})
