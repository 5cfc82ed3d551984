"""What projects may have: the use cases of quota sets and quota classes."""

from __future__ import annotations

from collections.abc import Mapping

from kevel.control.runtime import Runtime
from kevel.domain.errors import Forbidden, Invalid, NotFound
from kevel.domain.model import Actor
from kevel.domain.quotas import (
    RESOURCES,
    TYPED_RESOURCES,
    UNLIMITED,
    QuotaDefaults,
    QuotaKey,
    QuotaUsage,
)
from kevel.store import quotas as rows
from kevel.store.transactions import Tx
from kevel.store.volume_types import list_visible_types


class Quotas:
    """Limits by their names in the API: `volumes`, or `volumes_fast` for those of the type `fast`."""

    def __init__(self, runtime: Runtime, defaults: QuotaDefaults) -> None:
        self._runtime = runtime
        self._defaults = defaults

    async def bootstrap(self) -> None:
        """Let the configuration's defaults hold."""
        await self._runtime.store.write(rows.configure_defaults, self._defaults)

    async def show(self, actor: Actor, project_id: str) -> dict[str, QuotaUsage]:
        """Limits and usage of a project. Raises Forbidden for another project's, but to admins."""
        _check_owner(actor, project_id)
        return await self._runtime.store.read(_show, actor, project_id)

    async def show_defaults(self, actor: Actor, project_id: str) -> dict[str, int]:
        """What a project may have that has no limits of its own. Raises Forbidden as `show`."""
        _check_owner(actor, project_id)
        return await self._runtime.store.read(_show_defaults, actor)

    async def update(self, actor: Actor, project_id: str, limits: Mapping[str, int]) -> dict[str, QuotaUsage]:
        """Set some limits of a project. Raises Invalid for a name that is none, or less than what is in use."""
        return await self._runtime.store.write(_update, actor, project_id, dict(limits))

    async def clear(self, project_id: str) -> None:
        """Let the defaults hold for the project again."""
        await self._runtime.store.write(rows.clear_limits, "project", project_id, RESOURCES)

    async def show_class(self, actor: Actor, name: str) -> dict[str, int]:
        """The limits of the class `default`, the only one. Raises NotFound for another."""
        _check_class(name)
        return await self._runtime.store.read(_show_defaults, actor)

    async def update_class(self, actor: Actor, name: str, limits: Mapping[str, int]) -> dict[str, int]:
        """Set some limits for all projects that have none of their own."""
        _check_class(name)
        return await self._runtime.store.write(_update_class, actor, dict(limits))


def _check_owner(actor: Actor, project_id: str) -> None:
    if project_id != actor.project_id and not actor.is_admin:
        raise Forbidden("Policy does not allow another project's quota to be seen with the roles of this token.")


def _check_class(name: str) -> None:
    if name != rows.DEFAULT_CLASS:
        raise NotFound(f"Quota class {name[:64]} could not be found; there is only {rows.DEFAULT_CLASS}.")


def _keys(tx: Tx, actor: Actor) -> dict[str, QuotaKey]:
    """What is limited, by its name; the types among it are those that the actor may see."""
    keys = {resource: QuotaKey(resource) for resource in RESOURCES}
    for volume_type in list_visible_types(tx, actor):
        for resource in TYPED_RESOURCES:
            keys[f"{resource}_{volume_type.name}"] = QuotaKey(resource, volume_type.id)
    return keys


def _show(tx: Tx, actor: Actor, project_id: str) -> dict[str, QuotaUsage]:
    limits, counted = rows.limits_in_force(tx, project_id), rows.count_usage(tx, project_id)
    return {name: rows.show_usage(limits, counted, key) for name, key in _keys(tx, actor).items()}


def _show_defaults(tx: Tx, actor: Actor) -> dict[str, int]:
    limits = rows.default_limits(tx)
    return {name: limits.get(key, UNLIMITED) for name, key in _keys(tx, actor).items()}


def _read_limits(tx: Tx, actor: Actor, limits: Mapping[str, int]) -> dict[QuotaKey, int]:
    keys = _keys(tx, actor)
    unknown = sorted(limits.keys() - keys)
    if unknown:
        words = ", ".join(RESOURCES)
        raise Invalid(
            f"Nothing is limited by the name of {', '.join(unknown)[:200]}; there are {words}, and volumes, snapshots "
            "and gigabytes with an underscore and a volume type's name behind."
        )
    return {keys[name]: limit for name, limit in limits.items()}


def _update(tx: Tx, actor: Actor, project_id: str, limits: dict[str, int]) -> dict[str, QuotaUsage]:
    read = _read_limits(tx, actor, limits)
    counted = rows.count_usage(tx, project_id)
    for key, limit in read.items():
        if UNLIMITED < limit < counted.total(key):
            raise Invalid(
                f"Quota {key.resource} cannot be {limit}: project {project_id[:64]} has {counted.total(key)} already."
            )
    rows.set_limits(tx, "project", project_id, read)
    return _show(tx, actor, project_id)


def _update_class(tx: Tx, actor: Actor, limits: dict[str, int]) -> dict[str, int]:
    rows.set_limits(tx, "class", rows.DEFAULT_CLASS, _read_limits(tx, actor, limits))
    return _show_defaults(tx, actor)
