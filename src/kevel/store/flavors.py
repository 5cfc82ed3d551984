"""Flavor rows."""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update

from kevel.domain.errors import Conflict
from kevel.domain.flavors import Flavor
from kevel.store.schema.compute import flavor_access
from kevel.store.schema.servers import flavors
from kevel.store.transactions import Tx, as_struct, row_columns

_COLUMNS = row_columns(flavors, Flavor)
_FLAVOR = select(*_COLUMNS).where(flavors.c.id == bindparam("of_id"))
_NAMED = select(flavors.c.id).where(flavors.c.name == bindparam("of_name"))
_ACCESS = (
    select(flavor_access.c.project_id)
    .where(flavor_access.c.flavor_id == bindparam("of_flavor"))
    .order_by(flavor_access.c.project_id)
)
_GRANTED = select(flavor_access.c.flavor_id).where(flavor_access.c.project_id == bindparam("of_project"))
_GRANT = insert(flavor_access)
_CLOSE = delete(flavor_access).where(flavor_access.c.flavor_id == bindparam("of_flavor"))
_REVOKE = _CLOSE.where(flavor_access.c.project_id == bindparam("of_project"))
_ALL = select(*_COLUMNS).order_by(flavors.c.id)


def load_flavor(tx: Tx, flavor_id: str) -> Flavor | None:
    """The flavor of that id."""
    row = tx.execute(_FLAVOR, {"of_id": flavor_id}).first()
    return None if row is None else as_struct(Flavor, row)


def list_flavors(tx: Tx) -> list[Flavor]:
    """All flavors by id, private ones included."""
    return [as_struct(Flavor, row) for row in tx.execute(_ALL)]


def insert_flavor(tx: Tx, flavor: Flavor) -> None:
    """Enter a new flavor. Raises Conflict when its id or its name is taken."""
    if load_flavor(tx, flavor.id) is not None:
        raise Conflict(f"Flavor with ID {flavor.id} already exists.")
    if tx.execute(_NAMED, {"of_name": flavor.name}).first() is not None:
        raise Conflict(f"Flavor with name {flavor.name} already exists.")
    tx.execute(insert(flavors), msgspec.structs.asdict(flavor))


def update_flavor(tx: Tx, flavor: Flavor) -> None:
    """Write what may change of a flavor; the transaction has read it."""
    statement = update(flavors).where(flavors.c.id == flavor.id)
    tx.execute(statement.values(description=flavor.description, extra_specs=flavor.extra_specs))


def delete_flavor(tx: Tx, flavor_id: str) -> None:
    """Remove the flavor. Servers keep their copy of it."""
    tx.execute(_CLOSE, {"of_flavor": flavor_id})
    tx.execute(delete(flavors).where(flavors.c.id == flavor_id))


def list_access(tx: Tx, flavor_id: str) -> list[str]:
    """Projects on the flavor's access list."""
    return list(tx.execute(_ACCESS, {"of_flavor": flavor_id}).scalars())


def list_granted(tx: Tx, project_id: str) -> frozenset[str]:
    """Ids of flavors on whose access lists the project is."""
    return frozenset(tx.execute(_GRANTED, {"of_project": project_id}).scalars())


def insert_access(tx: Tx, flavor_id: str, project_id: str) -> None:
    """Put the project on the list, on which it is not."""
    tx.execute(_GRANT, {"flavor_id": flavor_id, "project_id": project_id})


def delete_access(tx: Tx, flavor_id: str, project_id: str) -> bool:
    """Take the project off the list; False: it is not there."""
    return tx.execute(_REVOKE, {"of_flavor": flavor_id, "of_project": project_id}).rowcount > 0
