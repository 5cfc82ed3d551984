"""What was asked of a server, and how it ended: os-instance-actions."""

from __future__ import annotations

from typing import Any, Final

from kevel.api.compute import replies
from kevel.api.compute.shapes import (
    host_id,
    next_link,
    read_count,
    read_time,
    refuse_unknown_query,
    show_time_us,
    v,
)
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.domain.errors import Invalid, NotFound
from kevel.domain.model import Server
from kevel.store.actions import Action


async def list_actions(call: Call) -> Reply:
    server_id = call.path["server_id"]
    _, actions = await call.services.servers.actions(call.actor, server_id, deleted=call.version >= v(21))
    body: dict[str, Any] = {}
    if call.version >= v(58):
        actions, more = _page(call, actions)
        if more:
            body["links"] = next_link(call, f"servers/{server_id}/os-instance-actions", actions[-1].request_id)
    body["instanceActions"] = [_show(call, action) for action in actions]
    return Reply(body=body)


async def show_action(call: Call) -> Reply:
    server, actions = await call.services.servers.actions(
        call.actor, call.path["server_id"], deleted=call.version >= v(21)
    )
    found = [action for action in actions if action.request_id == call.path["request_id"]]
    if not found:
        raise NotFound(f"Action for request_id {call.path['request_id'][:64]} on instance {server.id} not found.")
    shown = _show(call, found[-1])
    # Before 2.51 events were for admins.
    if call.caller.is_admin or call.version >= v(51):
        shown["events"] = [_show_event(call, server, action) for action in found if action.event is not None]
    return Reply(body={"instanceAction": shown})


def _show(call: Call, action: Action) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "action": action.action,
        "instance_uuid": action.server_id,
        "request_id": action.request_id,
        "user_id": action.user_id,
        "project_id": action.project_id,
        "start_time": show_time_us(action.started_at),
        "message": action.message,
    }
    if call.version >= v(58):
        shown["updated_at"] = show_time_us(action.updated_at or action.started_at)
    return shown


def _show_event(call: Call, server: Server, action: Action) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "event": action.event,
        "start_time": show_time_us(action.started_at),
        "finish_time": show_time_us(action.finished_at),
        "result": action.result,
    }
    if call.caller.is_admin:
        shown["traceback"] = None
    if call.version >= v(62):
        shown["hostId"] = host_id(server.project_id, action.host) if action.host else ""
        if call.caller.is_admin:
            shown["host"] = action.host
    if call.version >= v(84):
        shown["details"] = action.details
    return shown


def _page(call: Call, actions: list[Action]) -> tuple[list[Action], bool]:
    """The actions that the query asks for, newest first, and whether there are more."""
    known = ("limit", "marker", "changes-since") + (("changes-before",) if call.version >= v(66) else ())
    refuse_unknown_query(call, known)
    query = dict(call.query_items)
    since = read_time("changes-since", query["changes-since"]) if "changes-since" in query else None
    before = read_time("changes-before", query["changes-before"]) if "changes-before" in query else None
    if since is not None and before is not None and since > before:
        raise Invalid("The value of changes-since must be less than or equal to changes-before.")
    at = {id(action): action.updated_at or action.started_at for action in actions}
    actions = [one for one in actions if since is None or at[id(one)] >= since]
    actions = [one for one in actions if before is None or at[id(one)] <= before]
    if "marker" in query:
        ids = [action.request_id for action in actions]
        if query["marker"] not in ids:
            raise Invalid(f"marker [{query['marker'][:64]}] not found")
        actions = actions[ids.index(query["marker"]) + 1 :]
    rows_max = call.services.servers.page_rows_max
    limit = min(read_count("limit", query["limit"]), rows_max) if "limit" in query else rows_max
    return actions[:limit], len(actions) > limit > 0


_LIST: Final = "/servers/{server_id}/os-instance-actions"

OPERATIONS: Final = (
    Operation(
        name="listInstanceActions",
        reply=replies.ACTIONS,
        query_names=("limit", "marker", "changes-since", "changes-before"),
        new_id="/instanceActions/0/request_id",
        method="GET",
        path=_LIST,
        handler=list_actions,
        policy=Policy.READER,
        errors=(400, 404),
    ),
    Operation(
        name="showInstanceAction",
        reply=replies.ACTION,
        method="GET",
        path=f"{_LIST}/{{request_id}}",
        handler=show_action,
        policy=Policy.READER,
        errors=(404,),
    ),
)
