"""Volume types, who may use them, whose default they are, and how their volumes are encrypted."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec
from sqlalchemy import BindParameter, bindparam, delete, func, insert, select, update

from kevel.domain.model import Actor
from kevel.store.pool_moves import is_given
from kevel.store.schema.base import LIVE
from kevel.store.schema.volume_types import default_types, type_access, type_encryptions
from kevel.store.schema.volumes import volume_types, volumes
from kevel.store.transactions import Tx, as_struct, row_columns


class VolumeType(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of volume that users choose by name."""

    id: str
    name: str
    description: str | None
    is_public: bool
    extra_specs: dict[str, str]
    qos_specs_id: str | None = None
    created_at: int
    updated_at: int | None

    @property
    def multiattach(self) -> bool:
        """Are volumes of this type made for several servers at once?"""
        return self.extra_specs.get("multiattach", "").lower() == "<is> true"


class TypeEncryption(msgspec.Struct, frozen=True, kw_only=True):
    """How volumes of a type are encrypted."""

    id: str
    volume_type_id: str
    #: "luks" and its older names; the words are the operator's.
    provider: str
    control_location: str
    cipher: str | None
    #: Bits.
    key_size: int | None
    created_at: int
    updated_at: int | None


_COLUMNS = row_columns(volume_types, VolumeType)
_LIVE: Final = select(*_COLUMNS).where(volume_types.c.deleted_at.is_(None))
_ALL = _LIVE.order_by(volume_types.c.created_at.desc(), volume_types.c.id)
_COUNT = select(func.count()).where(volume_types.c.deleted_at.is_(None))
_BY_ID = _LIVE.where(volume_types.c.id == bindparam("of_id"))
_BY_NAME = _LIVE.where(volume_types.c.name == bindparam("of_name"))
_OF_QOS = _ALL.where(volume_types.c.qos_specs_id == bindparam("of_specs"))
_NAMES = select(volume_types.c.id, volume_types.c.name).where(
    volume_types.c.id.in_(bindparam("of_types", expanding=True))
)
_USED = select(volumes.c.id).where(volumes.c.volume_type_id == bindparam("of_type"), volumes.c.live == LIVE).limit(1)

_OF_TYPE: Final[BindParameter[Any]] = bindparam("of_type")
_ACCESS = select(type_access.c.project_id).where(type_access.c.volume_type_id == _OF_TYPE).order_by("project_id")
_MAY_USE = select(type_access.c.volume_type_id).where(type_access.c.project_id == bindparam("of_project"))
_CLOSE_ONE = delete(type_access).where(
    type_access.c.volume_type_id == _OF_TYPE, type_access.c.project_id == bindparam("of_project")
)
_CLOSE_ALL = delete(type_access).where(type_access.c.volume_type_id == _OF_TYPE)
_DEFAULTS = select(default_types).order_by(default_types.c.project_id)
_DEFAULT = select(default_types.c.volume_type_id).where(default_types.c.project_id == bindparam("of_project"))
_DEFAULT_OF = select(default_types.c.project_id).where(default_types.c.volume_type_id == _OF_TYPE).limit(1)
_UNSET_DEFAULT = delete(default_types).where(default_types.c.project_id == bindparam("of_project"))
_ENCRYPTION = select(*row_columns(type_encryptions, TypeEncryption)).where(
    type_encryptions.c.volume_type_id == _OF_TYPE
)
_FORGET_ENCRYPTION = delete(type_encryptions).where(type_encryptions.c.volume_type_id == _OF_TYPE)


def list_types(tx: Tx) -> list[VolumeType]:
    """All types, newest first."""
    return [as_struct(VolumeType, row) for row in tx.execute(_ALL)]


def list_visible_types(tx: Tx, actor: Actor) -> list[VolumeType]:
    """The types that the actor may use, newest first: an admin all."""
    found = list_types(tx)
    if actor.is_admin:
        return found
    open_to = set(tx.execute(_MAY_USE, {"of_project": actor.project_id}).scalars())
    return [one for one in found if one.is_public or one.id in open_to]


def is_visible(tx: Tx, volume_type: VolumeType, actor: Actor) -> bool:
    """May the actor use the type?"""
    if volume_type.is_public or actor.is_admin:
        return True
    return volume_type.id in tx.execute(_MAY_USE, {"of_project": actor.project_id}).scalars()


def list_types_of_qos(tx: Tx, qos_specs_id: str) -> list[VolumeType]:
    """The types that the specs are associated with."""
    return [as_struct(VolumeType, row) for row in tx.execute(_OF_QOS, {"of_specs": qos_specs_id})]


def count_types(tx: Tx) -> int:
    """How many types there are."""
    return int(tx.execute(_COUNT).scalar_one())


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
    """Write columns of the type's row."""
    tx.execute(update(volume_types).where(volume_types.c.id == type_id).values(**changes))


def bury_type(tx: Tx, type_id: str, at: int) -> None:
    """Make the type a tombstone, with nothing left that belongs to it."""
    tx.execute(_CLOSE_ALL, {"of_type": type_id})
    tx.execute(_FORGET_ENCRYPTION, {"of_type": type_id})
    change_type(tx, type_id, qos_specs_id=None, deleted_at=at)


def is_type_used(tx: Tx, type_id: str) -> bool:
    """Is there a live volume of that type, or one that is about to get it?"""
    return tx.execute(_USED, {"of_type": type_id}).first() is not None or is_given(tx, type_id)


def type_names(tx: Tx, type_ids: Collection[str]) -> dict[str, str]:
    """Names by id."""
    return {row.id: row.name for row in tx.execute(_NAMES, {"of_types": list(type_ids)})}


def list_access(tx: Tx, type_id: str) -> list[str]:
    """The projects that may use a private type."""
    return list(tx.execute(_ACCESS, {"of_type": type_id}).scalars())


def open_type(tx: Tx, type_id: str, project_id: str) -> None:
    """Let the project use the type. Raises IntegrityError when it may already."""
    tx.execute(insert(type_access), {"volume_type_id": type_id, "project_id": project_id})


def close_type(tx: Tx, type_id: str, project_id: str) -> bool:
    """Let the project use the type no more; False: it could not anyway."""
    return tx.execute(_CLOSE_ONE, {"of_type": type_id, "of_project": project_id}).rowcount == 1


def list_default_types(tx: Tx) -> dict[str, str]:
    """The ids of projects' own default types, by project."""
    return {row.project_id: row.volume_type_id for row in tx.execute(_DEFAULTS)}


def load_default_type(tx: Tx, project_id: str) -> VolumeType | None:
    """The project's own default type."""
    type_id = tx.execute(_DEFAULT, {"of_project": project_id}).scalar()
    return None if type_id is None else load_type(tx, type_id)


def set_default_type(tx: Tx, project_id: str, type_id: str) -> None:
    """Make it the type of the project's volumes that name none."""
    unset_default_type(tx, project_id)
    tx.execute(insert(default_types), {"project_id": project_id, "volume_type_id": type_id})


def unset_default_type(tx: Tx, project_id: str) -> None:
    """The project has no default type of its own."""
    tx.execute(_UNSET_DEFAULT, {"of_project": project_id})


def is_default_type(tx: Tx, type_id: str) -> bool:
    """Is it some project's own default?"""
    return tx.execute(_DEFAULT_OF, {"of_type": type_id}).first() is not None


def load_encryption(tx: Tx, type_id: str) -> TypeEncryption | None:
    """How volumes of the type are encrypted; None: they are not."""
    row = tx.execute(_ENCRYPTION, {"of_type": type_id}).first()
    return None if row is None else as_struct(TypeEncryption, row)


def put_encryption(tx: Tx, encryption: TypeEncryption) -> None:
    """Say how volumes of the type are encrypted, instead of what was said before."""
    forget_encryption(tx, encryption.volume_type_id)
    tx.execute(insert(type_encryptions), msgspec.structs.asdict(encryption))


def forget_encryption(tx: Tx, type_id: str) -> None:
    """Volumes of the type are not encrypted."""
    tx.execute(_FORGET_ENCRYPTION, {"of_type": type_id})
