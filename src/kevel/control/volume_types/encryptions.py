"""How volumes of a type are encrypted: the use cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kevel.control.runtime import Runtime
from kevel.control.volume_types.types import find_type
from kevel.domain.errors import Invalid, NotFound
from kevel.domain.model import Actor
from kevel.store import volume_types as rows
from kevel.store.transactions import Tx
from kevel.store.volume_types import TypeEncryption


class TypeEncryptions:
    """The encryption of a type is made, changed and deleted only while no volume has that type."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def get(self, actor: Actor, type_id: str) -> TypeEncryption | None:
        """The type's encryption, None where it has none. Raises NotFound for an unknown type."""
        return await self._runtime.store.read(_get, actor, type_id)

    async def create(self, actor: Actor, type_id: str, fields: Mapping[str, Any]) -> TypeEncryption:
        """Encrypt volumes of the type from now on. Raises Invalid where it has an encryption already."""
        at, encryption_id = self._runtime.clock.now_us(), self._runtime.ids.uuid()
        new = TypeEncryption(id=encryption_id, volume_type_id=type_id, created_at=at, updated_at=None, **fields)
        await self._runtime.store.write(_create, actor, new)
        return new

    async def update(self, actor: Actor, type_id: str, encryption_id: str, changes: Mapping[str, Any]) -> None:
        """Change what is given. Raises NotFound where the type has no encryption of that id."""
        at = self._runtime.clock.now_us()
        await self._runtime.store.write(_update, actor, type_id, encryption_id, dict(changes), at)

    async def delete(self, actor: Actor, type_id: str, encryption_id: str) -> None:
        """Encrypt volumes of the type no more. Raises NotFound as `update`."""
        await self._runtime.store.write(_delete, actor, type_id, encryption_id)


def _get(tx: Tx, actor: Actor, type_id: str) -> TypeEncryption | None:
    return rows.load_encryption(tx, find_type(tx, type_id, actor).id)


def _check_unused(tx: Tx, actor: Actor, type_id: str) -> None:
    found = find_type(tx, type_id, actor)
    if rows.is_type_used(tx, type_id):
        raise Invalid(f"Volume type {found.name} is in use, so its encryption cannot change; make another type.")


def _create(tx: Tx, actor: Actor, new: TypeEncryption) -> None:
    _check_unused(tx, actor, new.volume_type_id)
    if rows.load_encryption(tx, new.volume_type_id) is not None:
        raise Invalid(f"Volume type {new.volume_type_id} has an encryption already; change or delete that one.")
    rows.put_encryption(tx, new)


def _find(tx: Tx, actor: Actor, type_id: str, encryption_id: str) -> TypeEncryption:
    _check_unused(tx, actor, type_id)
    found = rows.load_encryption(tx, type_id)
    if found is None or found.id != encryption_id:
        raise NotFound(f"Volume type {type_id} has no encryption {encryption_id[:64]}.")
    return found


def _update(tx: Tx, actor: Actor, type_id: str, encryption_id: str, changes: dict[str, Any], at: int) -> None:
    found = _find(tx, actor, type_id, encryption_id)
    rows.put_encryption(tx, msgspec.structs.replace(found, **changes, updated_at=at))


def _delete(tx: Tx, actor: Actor, type_id: str, encryption_id: str) -> None:
    _find(tx, actor, type_id, encryption_id)
    rows.forget_encryption(tx, type_id)
