"""Qualities of service that volume types share: the rows."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, update

from kevel.store.hosts import raise_version
from kevel.store.schema.attachments import paths
from kevel.store.schema.base import LIVE
from kevel.store.schema.volume_types import qos_specs
from kevel.store.schema.volumes import volume_types, volumes
from kevel.store.transactions import Tx, as_struct, row_columns

#: Whose specs reach guests' disks.
FRONT_END: Final = ("front-end", "both")


class QosSpecs(msgspec.Struct, frozen=True, kw_only=True):
    """A set of qualities, and who keeps to them: "front-end", "back-end" or "both"."""

    id: str
    name: str
    consumer: str
    specs: dict[str, str]
    created_at: int
    updated_at: int | None


_COLUMNS = row_columns(qos_specs, QosSpecs)
_ALL = select(*_COLUMNS).order_by(qos_specs.c.created_at.desc(), qos_specs.c.id)
_COUNT = select(func.count()).select_from(qos_specs)
_BY_ID = select(*_COLUMNS).where(qos_specs.c.id == bindparam("of_id"))
_BY_NAME = select(*_COLUMNS).where(qos_specs.c.name == bindparam("of_name"))
_DELETE = delete(qos_specs).where(qos_specs.c.id == bindparam("of_id"))
_FRONT_END = (
    select(qos_specs.c.specs)
    .join(volume_types, volume_types.c.qos_specs_id == qos_specs.c.id)
    .where(volume_types.c.id == bindparam("of_type"), qos_specs.c.consumer.in_(FRONT_END))
)
_OF_TYPE = select(volumes.c.id).where(volumes.c.volume_type_id == bindparam("of_type"), volumes.c.live == LIVE)
_HOSTS = select(paths.c.agent).distinct().where(paths.c.volume_id.in_(_OF_TYPE), paths.c.live == LIVE)
_HOSTS = _HOSTS.where(paths.c.agent.is_not(None))
_STAMP = (
    update(paths)
    .where(paths.c.volume_id.in_(_OF_TYPE), paths.c.live == LIVE, paths.c.agent == bindparam("of_host"))
    .values(host_version=bindparam("new_host_version"))
)


def list_qos_specs(tx: Tx) -> list[QosSpecs]:
    """All specs, newest first."""
    return [as_struct(QosSpecs, row) for row in tx.execute(_ALL)]


def count_qos_specs(tx: Tx) -> int:
    """How many there are."""
    return int(tx.execute(_COUNT).scalar_one())


def load_qos_specs(tx: Tx, specs_id: str) -> QosSpecs | None:
    """The specs of that id."""
    row = tx.execute(_BY_ID, {"of_id": specs_id}).first()
    return None if row is None else as_struct(QosSpecs, row)


def load_qos_specs_named(tx: Tx, name: str) -> QosSpecs | None:
    """The specs of that name."""
    row = tx.execute(_BY_NAME, {"of_name": name}).first()
    return None if row is None else as_struct(QosSpecs, row)


def insert_qos_specs(tx: Tx, new: QosSpecs) -> None:
    """Enter new specs. Raises IntegrityError (one_qos_specs_of_that_name) when the name is taken."""
    tx.execute(insert(qos_specs), msgspec.structs.asdict(new))


def change_qos_specs(tx: Tx, specs_id: str, **changes: Any) -> None:
    """Write columns of the row."""
    tx.execute(update(qos_specs).where(qos_specs.c.id == specs_id).values(**changes))


def delete_qos_specs(tx: Tx, specs_id: str) -> None:
    """Remove specs that no type refers to; the schema refuses others."""
    tx.execute(_DELETE, {"of_id": specs_id})


def front_end_limits(tx: Tx, volume_type_id: str) -> dict[str, str]:
    """What guests' disks of volumes of the type are held to; empty: to nothing."""
    found: dict[str, str] | None = tx.execute(_FRONT_END, {"of_type": volume_type_id}).scalar()
    return found or {}


def tell_hosts_of_type(tx: Tx, volume_type_id: str) -> None:
    """Have the agents of all hosts look at their paths to volumes of the type: what holds for them has changed."""
    for host in tx.execute(_HOSTS, {"of_type": volume_type_id}).scalars():
        values = {"of_type": volume_type_id, "of_host": host, "new_host_version": raise_version(tx, host)}
        tx.execute(_STAMP, values)
