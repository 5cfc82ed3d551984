"""Flavors: the use cases. Only admins change them; the API's policies see to that."""

from __future__ import annotations

import msgspec

from kevel.control.runtime import Runtime
from kevel.domain.errors import Conflict, NotFound, OverLimit
from kevel.domain.flavors import (
    ACCESS_MAX,
    FIRST_FLAVORS,
    FLAVORS_MAX,
    Flavor,
    check_description,
    check_extra_specs,
    check_flavor,
)
from kevel.domain.model import Actor
from kevel.store import flavors as rows
from kevel.store.transactions import Tx


class VisibleFlavors(msgspec.Struct, frozen=True):
    """What an actor sees."""

    flavors: list[Flavor]
    #: Ids of the private ones that the actor's project may use.
    granted: frozenset[str]


class Flavors:
    """Flavors by id. A private one exists only for admins, and for projects on its access list."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def bootstrap(self) -> None:
        """Enter the first flavors when there are none at all."""
        await self._runtime.store.write(_enter_first)

    async def list_visible(self, actor: Actor) -> VisibleFlavors:
        """Flavors by id: the public ones, those that the project may use, and for an admin the other ones too."""
        return await self._runtime.store.read(_list_visible, actor)

    async def get(self, actor: Actor, flavor_ref: str) -> Flavor:
        """The flavor of that id. Raises NotFound; a request that merely refers to it makes that a 400."""
        return await self._runtime.store.read(_load_visible, flavor_ref, actor)

    async def create(self, flavor: Flavor) -> Flavor:
        """Enter a flavor; an empty id gets a fresh one. Raises Invalid or Conflict."""
        if not flavor.id:
            flavor = msgspec.structs.replace(flavor, id=self._runtime.ids.uuid())
        check_flavor(flavor)
        await self._runtime.store.write(_create_flavor, flavor)
        return flavor

    async def describe(self, flavor_id: str, description: str | None) -> Flavor:
        """Change the description, the only thing about a flavor that changes."""
        check_description(description)
        return await self._runtime.store.write(_describe_flavor, flavor_id, description)

    async def delete(self, flavor_id: str) -> None:
        """Remove the flavor. Servers keep their copy of it."""
        await self._runtime.store.write(_delete_flavor, flavor_id)

    async def add_extra_specs(self, flavor_id: str, specs: dict[str, str]) -> Flavor:
        """Set these extra specs and leave the others."""
        return await self._runtime.store.write(_add_extra_specs, flavor_id, specs)

    async def remove_extra_spec(self, flavor_id: str, name: str) -> None:
        """Remove one extra spec. Raises NotFound when there is none such."""
        await self._runtime.store.write(_remove_extra_spec, flavor_id, name)

    async def list_access(self, flavor_id: str) -> list[str]:
        """Projects that may use a private flavor. Raises NotFound for a public one, which has no such list."""
        return await self._runtime.store.read(_list_access, flavor_id)

    async def add_access(self, flavor_id: str, project_id: str, *, private_only: bool) -> list[str]:
        """Let the project use the flavor; the whole list afterwards.

        Raises Conflict when it is on the list already, and with `private_only` for a public flavor.
        """
        return await self._runtime.store.write(_add_access, flavor_id, project_id, private_only=private_only)

    async def remove_access(self, flavor_id: str, project_id: str) -> list[str]:
        """Let the project use the flavor no more. Raises NotFound when it is not on the list."""
        return await self._runtime.store.write(_remove_access, flavor_id, project_id)


def _enter_first(tx: Tx) -> None:
    if not rows.list_flavors(tx):
        for flavor in FIRST_FLAVORS:
            rows.insert_flavor(tx, flavor)


def _list_visible(tx: Tx, actor: Actor) -> VisibleFlavors:
    granted = rows.list_granted(tx, actor.project_id)
    found = rows.list_flavors(tx)
    shown = [flavor for flavor in found if actor.is_admin or flavor.is_public or flavor.id in granted]
    return VisibleFlavors(shown, granted)


def _load_visible(tx: Tx, flavor_id: str, actor: Actor) -> Flavor:
    flavor = rows.load_flavor(tx, flavor_id)
    if flavor is None or not (
        actor.is_admin or flavor.is_public or actor.project_id in rows.list_access(tx, flavor_id)
    ):
        raise NotFound(f"Flavor {flavor_id[:255]} could not be found.")
    return flavor


def _load(tx: Tx, flavor_id: str) -> Flavor:
    flavor = rows.load_flavor(tx, flavor_id)
    if flavor is None:
        raise NotFound(f"Flavor {flavor_id[:255]} could not be found.")
    return flavor


def _list_access(tx: Tx, flavor_id: str) -> list[str]:
    if _load(tx, flavor_id).is_public:
        raise NotFound("Access list not available for public flavors.")
    return rows.list_access(tx, flavor_id)


def _add_access(tx: Tx, flavor_id: str, project_id: str, *, private_only: bool) -> list[str]:
    if _load(tx, flavor_id).is_public and private_only:
        raise Conflict("Can not add access to a public flavor.")
    known = rows.list_access(tx, flavor_id)
    if project_id in known:
        raise Conflict(f"Flavor access already exists for flavor {flavor_id} and project {project_id} combination.")
    if len(known) >= ACCESS_MAX:
        raise Conflict(f"Flavor {flavor_id} has {ACCESS_MAX} projects on its access list, which is the most.")
    rows.insert_access(tx, flavor_id, project_id)
    return rows.list_access(tx, flavor_id)


def _remove_access(tx: Tx, flavor_id: str, project_id: str) -> list[str]:
    _load(tx, flavor_id)
    if not rows.delete_access(tx, flavor_id, project_id):
        raise NotFound(f"Flavor access not found for {flavor_id} / {project_id[:255]} combination.")
    return rows.list_access(tx, flavor_id)


def _create_flavor(tx: Tx, flavor: Flavor) -> None:
    if len(rows.list_flavors(tx)) >= FLAVORS_MAX:
        raise OverLimit(f"There are {FLAVORS_MAX} flavors already, which is the most.")
    rows.insert_flavor(tx, flavor)


def _describe_flavor(tx: Tx, flavor_id: str, description: str | None) -> Flavor:
    flavor = msgspec.structs.replace(_load(tx, flavor_id), description=description)
    rows.update_flavor(tx, flavor)
    return flavor


def _delete_flavor(tx: Tx, flavor_id: str) -> None:
    _load(tx, flavor_id)
    rows.delete_flavor(tx, flavor_id)


def _add_extra_specs(tx: Tx, flavor_id: str, specs: dict[str, str]) -> Flavor:
    flavor = _load(tx, flavor_id)
    merged = {**flavor.extra_specs, **specs}
    check_extra_specs(merged)
    flavor = msgspec.structs.replace(flavor, extra_specs=merged)
    rows.update_flavor(tx, flavor)
    return flavor


def _remove_extra_spec(tx: Tx, flavor_id: str, name: str) -> None:
    flavor = _load(tx, flavor_id)
    if name not in flavor.extra_specs:
        raise NotFound(f"Flavor {flavor_id} has no extra specs with key {name[:255]}.")
    rest = {key: value for key, value in flavor.extra_specs.items() if key != name}
    rows.update_flavor(tx, msgspec.structs.replace(flavor, extra_specs=rest))
