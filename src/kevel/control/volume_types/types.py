"""Volume types: the use cases. What is checked is checked inside the transaction that writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from kevel.control.runtime import Runtime
from kevel.domain.errors import Conflict, Invalid, NotFound, OverLimit
from kevel.domain.model import Actor, Volume
from kevel.domain.type_specs import check_specs
from kevel.store import volume_types as rows
from kevel.store.quotas import clear_limits_of_type
from kevel.store.transactions import Tx
from kevel.store.volume_types import VolumeType

#: The type of a volume that names none. It is made at the first start, and neither deleted nor renamed.
DEFAULT_TYPE: Final = "standard"
#: Types of one Kevel. Lists of types are read whole.
TYPES_MAX: Final = 1000
#: Projects that may use one private type, and projects with a default type of their own.
ACCESS_MAX: Final = 10_000


class VolumeTypes:
    """Types of volumes: users see public ones and those that are open to their project, an admin all."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def bootstrap(self) -> None:
        """Make the default type where it is missing."""
        runtime = self._runtime
        await runtime.store.write(_ensure_default, runtime.ids.uuid(), runtime.clock.now_us())

    async def list(self, actor: Actor) -> list[VolumeType]:
        """All types that the actor may use, newest first."""
        return await self._runtime.store.read(rows.list_visible_types, actor)

    async def get(self, actor: Actor, type_id: str) -> VolumeType:
        """The type of that id; NotFound."""
        return await self._runtime.store.read(find_type, type_id, actor)

    async def of_volume(self, volume: Volume) -> VolumeType:
        """The type of a volume, whether or not the volume's project may make more of it."""
        return await self._runtime.store.read(_type_of, volume)

    async def default(self, actor: Actor) -> VolumeType:
        """The type of the actor's volumes that name none."""
        return await self._runtime.store.read(default_type, actor.project_id)

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
        """Add extra specs or give them new values. Raises Invalid while there are volumes of the type."""
        return await self._runtime.store.write(_set_specs, type_id, actor, dict(specs), self._runtime.clock.now_us())

    async def remove_spec(self, actor: Actor, type_id: str, key: str) -> None:
        """Remove one extra spec; NotFound. Raises Invalid while there are volumes of the type."""
        await self._runtime.store.write(_remove_spec, type_id, actor, key, self._runtime.clock.now_us())

    async def list_access(self, actor: Actor, type_id: str) -> Sequence[str]:
        """The projects that may use a private type. Raises NotFound for a public one, which has no such list."""
        return await self._runtime.store.read(_list_access, type_id, actor)

    async def add_access(self, actor: Actor, type_id: str, project_id: str) -> None:
        """Let the project use a private type. Raises Conflict when it may already."""
        await self._runtime.store.write(_add_access, type_id, actor, project_id)

    async def remove_access(self, actor: Actor, type_id: str, project_id: str) -> None:
        """Let the project use a private type no more; its volumes stay. Raises NotFound when it could not anyway."""
        await self._runtime.store.write(_remove_access, type_id, actor, project_id)

    async def list_defaults(self) -> dict[str, str]:
        """The ids of projects' own default types, by project."""
        return await self._runtime.store.read(rows.list_default_types)

    async def get_default(self, project_id: str) -> str:
        """The id of the project's own default type; NotFound where it has none."""
        found = await self._runtime.store.read(rows.load_default_type, project_id)
        if found is None:
            raise NotFound(f"Project {project_id[:64]} has no default volume type of its own.")
        return found.id

    async def set_default(self, actor: Actor, project_id: str, type_ref: str) -> str:
        """Make a type the project's default, which lets the project use it; its id. Invalid for an unknown one."""
        return await self._runtime.store.write(_set_default, actor, project_id, type_ref)

    async def unset_default(self, project_id: str) -> None:
        """The project has the default of all again."""
        await self._runtime.store.write(rows.unset_default_type, project_id)


def default_type(tx: Tx, project_id: str) -> VolumeType:
    """The type of the project's volumes that name none."""
    found = rows.load_default_type(tx, project_id) or rows.load_type_named(tx, DEFAULT_TYPE)
    if found is None:
        raise AssertionError("the default volume type is made at the first start and never deleted")
    return found


def resolve_type(tx: Tx, ref: str | None, actor: Actor) -> VolumeType:
    """The type of that id or name, the default one for None; NotFound where there is none for this actor."""
    if ref is None:
        return default_type(tx, actor.project_id)
    found = rows.load_type(tx, ref) or rows.load_type_named(tx, ref)
    if found is None or not rows.is_visible(tx, found, actor):
        raise NotFound(f"Volume type {ref[:255]} could not be found.")
    return found


def find_type(tx: Tx, type_id: str, actor: Actor) -> VolumeType:
    """The type of that id; NotFound where there is none for this actor."""
    found = rows.load_type(tx, type_id)
    if found is None or not rows.is_visible(tx, found, actor):
        raise NotFound(f"Volume type {type_id[:64]} could not be found.")
    return found


def _type_of(tx: Tx, volume: Volume) -> VolumeType:
    found = rows.load_type(tx, volume.volume_type_id)
    if found is None:
        raise AssertionError("a type that a volume has is not deleted")
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
    check_specs(new.extra_specs)
    if rows.load_type_named(tx, new.name) is not None:
        raise Conflict(f"Volume type {new.name} already exists.")
    if rows.count_types(tx) >= TYPES_MAX:
        raise OverLimit(f"There can be {TYPES_MAX} volume types; delete one before making another.")
    rows.insert_type(tx, new)


def _update(tx: Tx, type_id: str, actor: Actor, changes: dict[str, Any], at: int) -> VolumeType:
    found = find_type(tx, type_id, actor)
    name = changes.get("name", found.name)
    if name != found.name:
        if found.name == DEFAULT_TYPE:
            raise Invalid(f"The volume type {DEFAULT_TYPE} is the default type and keeps its name.")
        if rows.load_type_named(tx, name) is not None:
            raise Conflict(f"Volume type {name} already exists.")
    rows.change_type(tx, type_id, **changes, updated_at=at)
    return find_type(tx, type_id, actor)


def _delete(tx: Tx, type_id: str, actor: Actor, at: int) -> None:
    found = find_type(tx, type_id, actor)
    if found.name == DEFAULT_TYPE:
        raise Invalid(f"The volume type {DEFAULT_TYPE} is the default type and cannot be deleted.")
    if rows.is_default_type(tx, type_id):
        raise Invalid(f"Volume type {found.name} is the default of a project and cannot be deleted; unset that first.")
    if rows.is_type_used(tx, type_id):
        raise Invalid(f"Volume type {found.name} is in use: there are volumes of it.")
    clear_limits_of_type(tx, type_id)
    rows.bury_type(tx, type_id, at)


def _find_unused(tx: Tx, type_id: str, actor: Actor) -> VolumeType:
    """The type, whose meaning may change. That of volumes that exist may not, as in Cinder."""
    found = find_type(tx, type_id, actor)
    if rows.is_type_used(tx, type_id):
        raise Invalid(f"Volume type {found.name} is in use, so its extra specs cannot change; make another type.")
    return found


def _set_specs(tx: Tx, type_id: str, actor: Actor, specs: dict[str, str], at: int) -> VolumeType:
    found = _find_unused(tx, type_id, actor)
    merged = found.extra_specs | specs
    check_specs(merged)
    rows.change_type(tx, type_id, extra_specs=merged, updated_at=at)
    return msgspec.structs.replace(found, extra_specs=merged, updated_at=at)


def _remove_spec(tx: Tx, type_id: str, actor: Actor, key: str, at: int) -> None:
    found = _find_unused(tx, type_id, actor)
    if key not in found.extra_specs:
        raise NotFound(f"Volume type {type_id} has no extra spec {key[:255]}.")
    left = {name: value for name, value in found.extra_specs.items() if name != key}
    rows.change_type(tx, type_id, extra_specs=left, updated_at=at)


def _list_access(tx: Tx, type_id: str, actor: Actor) -> list[str]:
    found = find_type(tx, type_id, actor)
    if found.is_public:
        raise NotFound(f"Volume type {found.id} is public; there is no list of those who may use it.")
    return rows.list_access(tx, type_id)


def _find_private(tx: Tx, type_id: str, actor: Actor) -> VolumeType:
    found = find_type(tx, type_id, actor)
    if found.is_public:
        raise Invalid(f"Volume type {found.name} is public: every project may use it.")
    return found


def _add_access(tx: Tx, type_id: str, actor: Actor, project_id: str) -> None:
    found = _find_private(tx, type_id, actor)
    known = rows.list_access(tx, type_id)
    if project_id in known:
        raise Conflict(f"Project {project_id[:64]} may use the volume type {found.name} already.")
    if len(known) >= ACCESS_MAX:
        raise Invalid(f"{ACCESS_MAX} projects may use the volume type {found.name}, and no more; make it public.")
    rows.open_type(tx, type_id, project_id)


def _remove_access(tx: Tx, type_id: str, actor: Actor, project_id: str) -> None:
    found = _find_private(tx, type_id, actor)
    if not rows.close_type(tx, type_id, project_id):
        raise NotFound(f"Project {project_id[:64]} has no access to the volume type {found.name}.")


def _set_default(tx: Tx, actor: Actor, project_id: str, type_ref: str) -> str:
    found = rows.load_type(tx, type_ref) or rows.load_type_named(tx, type_ref)
    if found is None or not rows.is_visible(tx, found, actor):
        raise Invalid(f"Volume type {type_ref[:255]} could not be found, so it cannot be a default.")
    if len(rows.list_default_types(tx).keys() - {project_id}) >= ACCESS_MAX:
        raise Invalid(f"{ACCESS_MAX} projects can have a default type of their own; unset one before setting another.")
    rows.set_default_type(tx, project_id, found.id)
    return found.id
