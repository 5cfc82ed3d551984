"""Server groups at every microversion."""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET

from kevel.api.compute.groups.shapes import NewGroup, OldGroup, SoftGroup
from kevel.api.compute.shapes import read_count, refuse_unknown_query, v
from kevel.api.operations import Call, Reply
from kevel.domain.errors import Forbidden, Invalid
from kevel.domain.server_groups import GroupPolicy
from kevel.store.server_groups import GroupView

SOFT: Final = v(15)
#: From here on a group has one policy, with rules.
RULES: Final = v(64)
_OWNERS: Final = v(13)


async def list_groups(call: Call) -> Reply:
    if call.version >= v(75):
        refuse_unknown_query(call, ("all_projects", "limit", "offset"))
    query = dict(call.query_items)
    everywhere = "all_projects" in query
    if everywhere and not call.caller.is_admin:
        raise Forbidden("Policy does not allow all_projects to be listed with the roles of this token.")
    rows_max = call.services.servers.page_rows_max
    limit = min(read_count("limit", query["limit"]), rows_max) if "limit" in query else rows_max
    offset = read_count("offset", query["offset"]) if "offset" in query else 0
    found = await call.services.server_groups.list(call.actor, everywhere=everywhere)
    return Reply(body={"server_groups": [_show(call, view) for view in found[offset : offset + limit]]})


async def show_group(call: Call) -> Reply:
    return Reply(
        body={"server_group": _show(call, await call.services.server_groups.get(call.actor, call.path["group_id"]))}
    )


async def create_group(call: Call) -> Reply:
    keys: OldGroup | SoftGroup | NewGroup = call.body.server_group
    if keys.name != keys.name.strip():
        raise Invalid("Invalid input for server_group.name: it has a space at an end.")
    policy, per_host_max = _read_policy(keys)
    view = await call.services.server_groups.create(call.actor, keys.name, policy, per_host_max)
    return Reply(body={"server_group": _show(call, view)})


async def delete_group(call: Call) -> Reply:
    await call.services.server_groups.delete(call.actor, call.path["group_id"])
    return Reply()


def _read_policy(keys: OldGroup | SoftGroup | NewGroup) -> tuple[GroupPolicy, int | None]:
    if not isinstance(keys, NewGroup):
        return GroupPolicy(keys.policies[0]), None
    policy = GroupPolicy(keys.policy)
    if keys.rules is UNSET or keys.rules.per_host_max is UNSET:
        return policy, None
    if policy is not GroupPolicy.ANTI_AFFINITY:
        raise Invalid("Only anti-affinity policy supports rules.")
    return policy, int(keys.rules.per_host_max)


def _show(call: Call, view: GroupView) -> dict[str, Any]:
    group = view.group
    shown: dict[str, Any] = {"id": group.id, "name": group.name, "members": view.members}
    if call.version >= RULES:
        rules = {} if group.per_host_max is None else {"max_server_per_host": group.per_host_max}
        shown |= {"policy": group.policy.value, "rules": rules}
    else:
        shown |= {"policies": [group.policy.value], "metadata": {}}
    if call.version >= _OWNERS:
        shown |= {"project_id": group.project_id, "user_id": group.user_id}
    return shown
