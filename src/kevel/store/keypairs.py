"""Key pairs' rows."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, insert, select

from kevel.domain.errors import Conflict
from kevel.domain.keypairs import Keypair
from kevel.store.schema.compute import keypairs
from kevel.store.transactions import Tx, as_struct, row_columns

_COLUMNS = row_columns(keypairs, Keypair)
_OF_USER = select(*_COLUMNS).where(keypairs.c.user_id == bindparam("of_user")).order_by(keypairs.c.name)
_ONE = select(*_COLUMNS).where(keypairs.c.user_id == bindparam("of_user"), keypairs.c.name == bindparam("of_name"))
_COUNT = select(func.count()).where(keypairs.c.user_id == bindparam("of_user"))
_INSERT = insert(keypairs)
_DELETE = delete(keypairs).where(keypairs.c.user_id == bindparam("of_user"), keypairs.c.name == bindparam("of_name"))


def list_keypairs(tx: Tx, user_id: str) -> list[Keypair]:
    """The user's pairs by name."""
    return [as_struct(Keypair, row) for row in tx.execute(_OF_USER, {"of_user": user_id})]


def load_keypair(tx: Tx, user_id: str, name: str) -> Keypair | None:
    """The user's pair of that name."""
    row = tx.execute(_ONE, {"of_user": user_id, "of_name": name}).first()
    return None if row is None else as_struct(Keypair, row)


def count_keypairs(tx: Tx, user_id: str) -> int:
    """How many pairs the user has."""
    return int(tx.execute(_COUNT, {"of_user": user_id}).scalar_one())


def insert_keypair(tx: Tx, new: Keypair) -> None:
    """Enter the pair. Raises Conflict when the user has one of that name."""
    if load_keypair(tx, new.user_id, new.name) is not None:
        raise Conflict(f"Key pair '{new.name}' already exists.")
    values = {name: getattr(new, name) for name in Keypair.__struct_fields__ if name != "id"}
    tx.execute(_INSERT, values)


def delete_keypair(tx: Tx, user_id: str, name: str) -> bool:
    """Remove the pair; False: there is none."""
    return tx.execute(_DELETE, {"of_user": user_id, "of_name": name}).rowcount > 0
