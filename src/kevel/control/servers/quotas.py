"""What projects and their users may have of servers: the use cases of the compute API's quota sets and classes."""

from __future__ import annotations

from collections.abc import Mapping

from kevel.control.runtime import Runtime
from kevel.domain.errors import Forbidden, Invalid, NotFound
from kevel.domain.model import Actor
from kevel.domain.quotas import SERVER_RESOURCES, UNLIMITED, QuotaKey, QuotaUsage
from kevel.store import quotas as rows
from kevel.store.server_quotas import pick_limits, server_limits, server_usage
from kevel.store.transactions import Tx


class ServerQuotas:
    """Limits by Nova's names. A user may have limits of his own in a project, never above the project's."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def show(self, actor: Actor, project_id: str, user_id: str | None = None) -> dict[str, QuotaUsage]:
        """Limits and usage of a project, or of a user in it. Raises Forbidden for another project's, but to admins."""
        if project_id != actor.project_id and not actor.is_admin:
            raise Forbidden("Policy does not allow another project's quota to be seen with the roles of this token.")
        return await self._runtime.store.read(_show, project_id, user_id)

    async def show_defaults(self) -> dict[str, int]:
        """What a project may have that has no limits of its own."""
        return await self._runtime.store.read(_show_defaults)

    async def update(
        self, project_id: str, user_id: str | None, limits: Mapping[str, int], *, force: bool
    ) -> dict[str, QuotaUsage]:
        """Set some limits of a project, or of a user in it.

        Raises Invalid for less than is in use (but with `force`), and for more than the user's project has.
        """
        return await self._runtime.store.write(_update, project_id, user_id, dict(limits), force=force)

    async def clear(self, project_id: str, user_id: str | None) -> None:
        """Let the defaults hold for the project and all its users again, or the project's limits for the user."""
        await self._runtime.store.write(_clear, project_id, user_id)

    async def show_class(self, name: str) -> dict[str, int]:
        """The limits of the class `default`, the only one. Raises NotFound for another."""
        _check_class(name)
        return await self.show_defaults()

    async def update_class(self, name: str, limits: Mapping[str, int]) -> dict[str, int]:
        """Set some limits for all projects that have none of their own."""
        _check_class(name)
        return await self._runtime.store.write(_update_class, dict(limits))


def _check_class(name: str) -> None:
    if name != rows.DEFAULT_CLASS:
        raise NotFound(f"Quota class {name[:64]} could not be found; there is only {rows.DEFAULT_CLASS}.")


def _show(tx: Tx, project_id: str, user_id: str | None) -> dict[str, QuotaUsage]:
    limits, used = server_limits(tx, project_id, user_id), server_usage(tx, project_id, user_id)
    return {name: QuotaUsage(limit=limits[name], in_use=used[name], reserved=0) for name in SERVER_RESOURCES}


def _show_defaults(tx: Tx) -> dict[str, int]:
    return pick_limits(rows.default_limits(tx))


def _update(
    tx: Tx, project_id: str, user_id: str | None, limits: dict[str, int], *, force: bool
) -> dict[str, QuotaUsage]:
    used, above = server_usage(tx, project_id, user_id), server_limits(tx, project_id)
    for name, limit in limits.items():
        if not force and UNLIMITED < limit < used[name]:
            raise Invalid(
                f"Quota limit {limit} for {name} must be greater than or equal to already used and reserved "
                f"{used[name]}."
            )
        if user_id is not None and above[name] != UNLIMITED and not UNLIMITED < limit <= above[name]:
            raise Invalid(f"Quota limit {limit} for {name} must be less than or equal to {above[name]}.")
    kind: rows.OwnerKind = "project" if user_id is None else "user"
    owner = project_id if user_id is None else rows.name_member(project_id, user_id)
    rows.set_limits(tx, kind, owner, {QuotaKey(name): limit for name, limit in limits.items()})
    return _show(tx, project_id, user_id)


def _clear(tx: Tx, project_id: str, user_id: str | None) -> None:
    if user_id is not None:
        rows.clear_limits(tx, "user", rows.name_member(project_id, user_id), SERVER_RESOURCES)
        return
    rows.clear_limits(tx, "project", project_id, SERVER_RESOURCES)
    rows.clear_limits_of_users(tx, project_id)


def _update_class(tx: Tx, limits: dict[str, int]) -> dict[str, int]:
    rows.set_limits(tx, "class", rows.DEFAULT_CLASS, {QuotaKey(name): limit for name, limit in limits.items()})
    return _show_defaults(tx)
