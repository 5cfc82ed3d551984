"""Flavors: the use cases. Only admins change them; the API's policies see to that."""

from __future__ import annotations

import msgspec

from kevel.control.runtime import Runtime
from kevel.domain.errors import NotFound, OverLimit
from kevel.domain.flavors import (
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


class Flavors:
    """Flavors by id. A private flavor does not exist for anybody but an admin."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def bootstrap(self) -> None:
        """Enter the first flavors when there are none at all."""
        await self._runtime.store.write(_enter_first)

    async def list_visible(self, actor: Actor) -> list[Flavor]:
        """Flavors by id: the public ones, and for an admin the private ones too."""
        found = await self._runtime.store.read(rows.list_flavors)
        return [flavor for flavor in found if actor.is_admin or flavor.is_public]

    async def get(self, actor: Actor, flavor_ref: str) -> Flavor:
        """The flavor of that id. Raises NotFound; a request that merely refers to it makes that a 400."""
        return await self._runtime.store.read(_load_visible, flavor_ref, is_admin=actor.is_admin)

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


def _enter_first(tx: Tx) -> None:
    if not rows.list_flavors(tx):
        for flavor in FIRST_FLAVORS:
            rows.insert_flavor(tx, flavor)


def _load_visible(tx: Tx, flavor_id: str, *, is_admin: bool) -> Flavor:
    flavor = rows.load_flavor(tx, flavor_id)
    if flavor is None or not (is_admin or flavor.is_public):
        raise NotFound(f"Flavor {flavor_id[:255]} could not be found.")
    return flavor


def _create_flavor(tx: Tx, flavor: Flavor) -> None:
    if len(rows.list_flavors(tx)) >= FLAVORS_MAX:
        raise OverLimit(f"There are {FLAVORS_MAX} flavors already, which is the most.")
    rows.insert_flavor(tx, flavor)


def _describe_flavor(tx: Tx, flavor_id: str, description: str | None) -> Flavor:
    flavor = msgspec.structs.replace(_load_visible(tx, flavor_id, is_admin=True), description=description)
    rows.update_flavor(tx, flavor)
    return flavor


def _delete_flavor(tx: Tx, flavor_id: str) -> None:
    _load_visible(tx, flavor_id, is_admin=True)
    rows.delete_flavor(tx, flavor_id)


def _add_extra_specs(tx: Tx, flavor_id: str, specs: dict[str, str]) -> Flavor:
    flavor = _load_visible(tx, flavor_id, is_admin=True)
    merged = {**flavor.extra_specs, **specs}
    check_extra_specs(merged)
    flavor = msgspec.structs.replace(flavor, extra_specs=merged)
    rows.update_flavor(tx, flavor)
    return flavor


def _remove_extra_spec(tx: Tx, flavor_id: str, name: str) -> None:
    flavor = _load_visible(tx, flavor_id, is_admin=True)
    if name not in flavor.extra_specs:
        raise NotFound(f"Flavor {flavor_id} has no extra specs with key {name[:255]}.")
    rest = {key: value for key, value in flavor.extra_specs.items() if key != name}
    rows.update_flavor(tx, msgspec.structs.replace(flavor, extra_specs=rest))
