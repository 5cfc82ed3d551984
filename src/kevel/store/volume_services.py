"""What admins have said of the parts that serve block storage, and what lies in a pool."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import BindParameter, bindparam, delete, func, insert, select

from kevel.store.schema.base import LIVE
from kevel.store.schema.volume_services import volume_services
from kevel.store.schema.volumes import snapshots, volumes
from kevel.store.transactions import Tx, as_struct, row_columns

VOLUME: Final = "cinder-volume"
SCHEDULER: Final = "cinder-scheduler"
BACKUP: Final = "cinder-backup"


class ServiceWord(msgspec.Struct, frozen=True, kw_only=True):
    """An admin's word about one part; without one it is enabled."""

    #: "host", or "host@backend" for a pool.
    host: str
    binary: str
    disabled: bool = False
    disabled_reason: str | None = None
    frozen: bool = False
    changed_at: int


class ProjectShare(msgspec.Struct, frozen=True, kw_only=True):
    """What a project has in a pool."""

    volumes: int = 0
    volumes_gib: int = 0
    snapshots: int = 0
    snapshots_gib: int = 0


_ALL = select(*row_columns(volume_services, ServiceWord))
_OF_HOST: Final[BindParameter[Any]] = bindparam("of_host")
_ONE = _ALL.where(volume_services.c.host == _OF_HOST, volume_services.c.binary == bindparam("of_binary"))
_FROZEN = select(volume_services.c.host).where(volume_services.c.binary == VOLUME, volume_services.c.frozen.is_(True))
_DISABLED = select(volume_services.c.host).where(
    volume_services.c.binary == bindparam("of_binary"), volume_services.c.disabled.is_(True)
)
_FORGET = delete(volume_services).where(
    volume_services.c.host == _OF_HOST, volume_services.c.binary == bindparam("of_binary")
)
_VOLUMES = (
    select(volumes.c.project_id, func.count().label("number"), func.sum(volumes.c.size_gib).label("total_gib"))
    .where(volumes.c.backend == bindparam("of_backend"), volumes.c.live == LIVE)
    .group_by(volumes.c.project_id)
)
_SNAPSHOTS = (
    select(snapshots.c.project_id, func.count().label("number"), func.sum(snapshots.c.size_gib).label("total_gib"))
    .where(snapshots.c.backend == bindparam("of_backend"), snapshots.c.live == LIVE)
    .group_by(snapshots.c.project_id)
)


def list_words(tx: Tx) -> list[ServiceWord]:
    """All that has been said."""
    return [as_struct(ServiceWord, row) for row in tx.execute(_ALL)]


def load_word(tx: Tx, host: str, binary: str) -> ServiceWord | None:
    """What has been said of one part."""
    row = tx.execute(_ONE, {"of_host": host, "of_binary": binary}).first()
    return None if row is None else as_struct(ServiceWord, row)


def put_word(tx: Tx, word: ServiceWord) -> None:
    """Say this of the part, instead of what was said before."""
    tx.execute(_FORGET, {"of_host": word.host, "of_binary": word.binary})
    tx.execute(insert(volume_services), msgspec.structs.asdict(word))


def is_disabled(tx: Tx, binary: str) -> bool:
    """Has an admin disabled the part of that name? There is one of each."""
    return tx.execute(_DISABLED, {"of_binary": binary}).first() is not None


def is_frozen(tx: Tx, backend: str) -> bool:
    """Is a pool of that back end frozen?"""
    return any(host.rpartition("@")[2] == backend for host in tx.execute(_FROZEN).scalars())


def share_by_project(tx: Tx, backend: str) -> dict[str, ProjectShare]:
    """What each project has in the pool."""
    shares: dict[str, ProjectShare] = {}
    for row in tx.execute(_VOLUMES, {"of_backend": backend}):
        shares[row.project_id] = ProjectShare(volumes=int(row.number), volumes_gib=int(row.total_gib))
    for row in tx.execute(_SNAPSHOTS, {"of_backend": backend}):
        share = shares.get(row.project_id, ProjectShare())
        more = {"snapshots": int(row.number), "snapshots_gib": int(row.total_gib)}
        shares[row.project_id] = msgspec.structs.replace(share, **more)
    return shares
