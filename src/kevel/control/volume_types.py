"""Volume types: the use cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kevel.control.runtime import Runtime
from kevel.domain.errors import Conflict, Invalid, NotFound
from kevel.domain.model import Actor
from kevel.store import volume_types as rows
from kevel.store.quotas import clear_limits_of_type
from kevel.store.transactions import Tx
from kevel.store.volume_types import VolumeType

#: The type of a volume that names none. It is made at the first start, and neither deleted nor renamed.
DEFAULT_TYPE: Final = "standard"
#: Extra specs of one type.
SPECS_MAX: Final = 128
#: The extra spec that makes a type's volumes multiattach, and its value.
MULTIATTACH: Final = "multiattach"
MULTIATTACH_VALUE: Final = "<is> True"


class VolumeTypes:
    """Types of volumes; every caller sees public ones, an admin all."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def bootstrap(self) -> None:
        """Make the default type where it is missing."""
        runtime = self._runtime
        await runtime.store.write(_ensure_default, runtime.ids.uuid(), runtime.clock.now_us())

    async def list(self, actor: Actor) -> list[VolumeType]:
        """All types that the actor may use, newest first."""
        found = await self._runtime.store.read(rows.list_types)
        return [one for one in found if one.is_public or actor.is_admin]

    async def get(self, actor: Actor, type_id: str) -> VolumeType:
        """The type of that id; NotFound."""
        return await self._runtime.store.read(_find, type_id, actor)

    async def default(self) -> VolumeType:
        """The type of a volume that names none."""
        return await self._runtime.store.read(default_type)

    async def create(
        self, name: str, description: str | None, *, is_public: bool, extra_specs: dict[str, str]
    ) -> VolumeType:
        """A new type. Raises Conflict when the name is taken."""
        new = VolumeType(
            id=self._runtime.ids.uuid(),
            name=name,
            description=description,
            is_public=is_public,
            extra_specs=extra_specs,
            created_at=self._runtime.clock.now_us(),
            updated_at=None,
        )
        await self._runtime.store.write(_create, new)
        return new

    async def update(self, actor: Actor, type_id: str, changes: Mapping[str, Any]) -> VolumeType:
        """Change name, description or is_public."""
        return await self._runtime.store.write(_update, type_id, actor, dict(changes), self._runtime.clock.now_us())

    async def delete(self, actor: Actor, type_id: str) -> None:
        """Delete a type that no volume has."""
        await self._runtime.store.write(_delete, type_id, actor, self._runtime.clock.now_us())

    async def set_specs(self, actor: Actor, type_id: str, specs: Mapping[str, str]) -> VolumeType:
        """Add extra specs or give them new values. Volumes that exist stay as they are."""
        return await self._runtime.store.write(_set_specs, type_id, actor, dict(specs), self._runtime.clock.now_us())

    async def remove_spec(self, actor: Actor, type_id: str, key: str) -> None:
        """Remove one extra spec; NotFound."""
        await self._runtime.store.write(_remove_spec, type_id, actor, key, self._runtime.clock.now_us())


def default_type(tx: Tx) -> VolumeType:
    """The type of a volume that names none."""
    found = rows.load_type_named(tx, DEFAULT_TYPE)
    if found is None:
        raise AssertionError("the default volume type is made at the first start and never deleted")
    return found


def resolve_type(tx: Tx, ref: str | None, actor: Actor) -> VolumeType:
    """The type of that id or name, the default one for None; NotFound where there is none for this actor."""
    if ref is None:
        return default_type(tx)
    found = rows.load_type(tx, ref) or rows.load_type_named(tx, ref)
    if found is None or not (found.is_public or actor.is_admin):
        raise NotFound(f"Volume type {ref[:255]} could not be found.")
    return found


def _find(tx: Tx, type_id: str, actor: Actor) -> VolumeType:
    found = rows.load_type(tx, type_id)
    if found is None or not (found.is_public or actor.is_admin):
        raise NotFound(f"Volume type {type_id[:64]} could not be found.")
    return found


def _ensure_default(tx: Tx, type_id: str, at: int) -> None:
    if rows.load_type_named(tx, DEFAULT_TYPE) is None:
        new = VolumeType(
            id=type_id,
            name=DEFAULT_TYPE,
            description="Volumes for one server at a time",
            is_public=True,
            extra_specs={},
            created_at=at,
            updated_at=None,
        )
        rows.insert_type(tx, new)


def _create(tx: Tx, new: VolumeType) -> None:
    _check_specs(new.extra_specs)
    if rows.load_type_named(tx, new.name) is not None:
        raise Conflict(f"Volume type {new.name} already exists.")
    rows.insert_type(tx, new)


def _update(tx: Tx, type_id: str, actor: Actor, changes: dict[str, Any], at: int) -> VolumeType:
    found = _find(tx, type_id, actor)
    name = changes.get("name", found.name)
    if name != found.name:
        if found.name == DEFAULT_TYPE:
            raise Invalid(f"The volume type {DEFAULT_TYPE} is the default type and keeps its name.")
        if rows.load_type_named(tx, name) is not None:
            raise Conflict(f"Volume type {name} already exists.")
    rows.change_type(tx, type_id, **changes, updated_at=at)
    return _find(tx, type_id, actor)


def _delete(tx: Tx, type_id: str, actor: Actor, at: int) -> None:
    found = _find(tx, type_id, actor)
    if found.name == DEFAULT_TYPE:
        raise Invalid(f"The volume type {DEFAULT_TYPE} is the default type and cannot be deleted.")
    if rows.is_type_used(tx, type_id):
        raise Invalid(f"Volume type {found.name} is in use: there are volumes of it.")
    clear_limits_of_type(tx, type_id)
    rows.change_type(tx, type_id, deleted_at=at)


def _set_specs(tx: Tx, type_id: str, actor: Actor, specs: dict[str, str], at: int) -> VolumeType:
    found = _find(tx, type_id, actor)
    merged = found.extra_specs | specs
    _check_specs(merged)
    rows.change_type(tx, type_id, extra_specs=merged, updated_at=at)
    return msgspec.structs.replace(found, extra_specs=merged, updated_at=at)


def _remove_spec(tx: Tx, type_id: str, actor: Actor, key: str, at: int) -> None:
    found = _find(tx, type_id, actor)
    if key not in found.extra_specs:
        raise NotFound(f"Volume type {type_id} has no extra spec {key[:255]}.")
    left = {name: value for name, value in found.extra_specs.items() if name != key}
    rows.change_type(tx, type_id, extra_specs=left, updated_at=at)


def _check_specs(specs: Mapping[str, str]) -> None:
    if len(specs) > SPECS_MAX:
        raise Invalid(f"A volume type can have {SPECS_MAX} extra specs; these are {len(specs)}.")
    value = specs.get(MULTIATTACH)
    if value is not None and value.lower() not in (MULTIATTACH_VALUE.lower(), "<is> false"):
        raise Invalid(f"The extra spec {MULTIATTACH} has to be '{MULTIATTACH_VALUE}' or '<is> False'.")
