"""Types of groups: the use cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kevel.control.runtime import Runtime
from kevel.domain.errors import Conflict, Invalid, NotFound
from kevel.domain.model import Actor
from kevel.store import group_types as rows
from kevel.store.group_types import GroupType
from kevel.store.pages import Listed, Page
from kevel.store.transactions import Tx

#: Specs of one type.
SPECS_MAX: Final = 128


class GroupTypes:
    """Types of groups; every caller sees public ones, an admin all."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def list(self, page: Page, *, is_public: bool | None) -> Listed[GroupType]:
        """One page of the types; `is_public` None: of all."""
        return await self._runtime.store.read(rows.list_group_types, page, is_public=is_public)

    async def get(self, actor: Actor, type_id: str) -> GroupType:
        """The type of that id; NotFound."""
        return await self._runtime.store.read_point(_find, type_id, actor)

    async def create(
        self, name: str, description: str | None, *, is_public: bool, group_specs: dict[str, str]
    ) -> GroupType:
        """A new type. Raises Conflict when the name is taken."""
        new = GroupType(
            id=self._runtime.ids.uuid(),
            name=name,
            description=description,
            is_public=is_public,
            group_specs=group_specs,
            created_at=self._runtime.clock.now_us(),
            updated_at=None,
        )
        await self._runtime.store.write(_create, new)
        return new

    async def update(self, actor: Actor, type_id: str, changes: Mapping[str, Any]) -> GroupType:
        """Change name, description or is_public."""
        return await self._runtime.store.write(_update, type_id, actor, dict(changes), self._runtime.clock.now_us())

    async def delete(self, actor: Actor, type_id: str) -> None:
        """Delete a type that no group has."""
        await self._runtime.store.write(_delete, type_id, actor, self._runtime.clock.now_us())

    async def set_specs(self, actor: Actor, type_id: str, specs: Mapping[str, str]) -> None:
        """Add specs or give them new values."""
        await self._runtime.store.write(_set_specs, type_id, actor, dict(specs), self._runtime.clock.now_us())

    async def remove_spec(self, actor: Actor, type_id: str, key: str) -> None:
        """Remove one spec; NotFound."""
        await self._runtime.store.write(_remove_spec, type_id, actor, key, self._runtime.clock.now_us())


def resolve_group_type(tx: Tx, ref: str, actor: Actor) -> GroupType:
    """The type of that id or name; NotFound where there is none for this actor."""
    found = rows.load_group_type(tx, ref) or rows.load_group_type_named(tx, ref)
    if found is None or not (found.is_public or actor.is_admin):
        raise NotFound(f"Group type {ref[:255]} could not be found.")
    return found


def _find(tx: Tx, type_id: str, actor: Actor) -> GroupType:
    found = rows.load_group_type(tx, type_id)
    if found is None or not (found.is_public or actor.is_admin):
        raise NotFound(f"Group type {type_id[:64]} could not be found.")
    return found


def _create(tx: Tx, new: GroupType) -> None:
    _check_specs(new.group_specs)
    if rows.load_group_type_named(tx, new.name) is not None:
        raise Conflict(f"Group type {new.name} already exists.")
    rows.insert_group_type(tx, new)


def _update(tx: Tx, type_id: str, actor: Actor, changes: dict[str, Any], at: int) -> GroupType:
    found = _find(tx, type_id, actor)
    name = changes.get("name", found.name)
    if name != found.name and rows.load_group_type_named(tx, name) is not None:
        raise Conflict(f"Group type {name} already exists.")
    rows.change_group_type(tx, type_id, **changes, updated_at=at)
    return _find(tx, type_id, actor)


def _delete(tx: Tx, type_id: str, actor: Actor, at: int) -> None:
    found = _find(tx, type_id, actor)
    if rows.is_group_type_used(tx, type_id):
        raise Invalid(f"Group type {found.name} is in use: there are groups of it.")
    rows.change_group_type(tx, type_id, deleted_at=at)


def _set_specs(tx: Tx, type_id: str, actor: Actor, specs: dict[str, str], at: int) -> None:
    merged = _find(tx, type_id, actor).group_specs | specs
    _check_specs(merged)
    rows.change_group_type(tx, type_id, group_specs=merged, updated_at=at)


def _remove_spec(tx: Tx, type_id: str, actor: Actor, key: str, at: int) -> None:
    found = _find(tx, type_id, actor)
    if key not in found.group_specs:
        raise NotFound(f"Group type {type_id} has no spec {key[:255]}.")
    left = {name: value for name, value in found.group_specs.items() if name != key}
    rows.change_group_type(tx, type_id, group_specs=left, updated_at=at)


def _check_specs(specs: Mapping[str, str]) -> None:
    if len(specs) > SPECS_MAX:
        raise Invalid(f"A group type can have {SPECS_MAX} specs; these are {len(specs)}.")
    if any("\0" in text for pair in specs.items() for text in pair):
        raise Invalid("Invalid input for group_specs: a text cannot have NUL in it.")
