"""Groups of servers: the use cases."""

from __future__ import annotations

from kevel.control.runtime import Runtime
from kevel.domain.errors import Forbidden, Invalid, NotFound
from kevel.domain.model import Actor
from kevel.domain.quotas import UNLIMITED
from kevel.domain.server_groups import GroupPolicy, ServerGroup
from kevel.store import server_groups as rows
from kevel.store.server_groups import GroupView
from kevel.store.server_quotas import check_server_limit, server_limits
from kevel.store.transactions import Tx


class ServerGroups:
    """A project's groups; a server joins one when it is made, and never leaves it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def list(self, actor: Actor, *, everywhere: bool) -> list[GroupView]:
        """The groups of the actor's project; `everywhere` (admins): of all projects."""
        return await self._runtime.store.read(rows.list_groups, None if everywhere else actor.project_id)

    async def get(self, actor: Actor, group_id: str) -> GroupView:
        """One group. Raises NotFound."""
        return await self._runtime.store.read(_view, group_id, actor)

    async def create(self, actor: Actor, name: str, policy: GroupPolicy, per_host_max: int | None) -> GroupView:
        """A new group. Raises Forbidden at the quota."""
        group = ServerGroup(
            id=self._runtime.ids.uuid(),
            project_id=actor.project_id,
            user_id=actor.user_id,
            name=name,
            policy=policy,
            per_host_max=per_host_max,
            created_at=self._runtime.clock.now_us(),
        )
        await self._runtime.store.write(_create, actor, group)
        return GroupView(group=group, members=[])

    async def delete(self, actor: Actor, group_id: str) -> None:
        """Remove the group; its servers stay where they are. Raises NotFound."""
        await self._runtime.store.write(_delete, group_id, actor)


def find_group(tx: Tx, group_id: str, actor: Actor) -> ServerGroup:
    """The group of that id in the actor's project (an admin's: in any). Raises NotFound."""
    group = rows.load_group(tx, group_id)
    if group is None or not (actor.is_admin or group.project_id == actor.project_id):
        raise NotFound(f"Instance group {group_id[:255]} could not be found.")
    return group


def find_hinted_group(tx: Tx, group_id: str, actor: Actor) -> ServerGroup:
    """The group that a request to make servers names. Raises Invalid: the body names it, not the address."""
    try:
        return find_group(tx, group_id, actor)
    except NotFound as error:
        raise Invalid(error.message) from error


def check_members(tx: Tx, actor: Actor, group: ServerGroup, more: int) -> None:
    """Raise Forbidden if so many more servers would be too many for one group."""
    number = rows.count_by_host(tx, group.id).total() + more
    check_server_limit(tx, actor, "server_group_members", number, "Quota exceeded, too many servers in group")


def _view(tx: Tx, group_id: str, actor: Actor) -> GroupView:
    return rows.view_group(tx, find_group(tx, group_id, actor))


def _create(tx: Tx, actor: Actor, group: ServerGroup) -> None:
    limit = server_limits(tx, actor.project_id)["server_groups"]
    if limit != UNLIMITED and rows.count_groups(tx, actor.project_id) >= limit:
        raise Forbidden(f"Quota exceeded, too many server groups: {limit} are allowed.")
    rows.insert_group(tx, group)


def _delete(tx: Tx, group_id: str, actor: Actor) -> None:
    rows.delete_group(tx, find_group(tx, group_id, actor).id)
