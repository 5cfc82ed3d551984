"""Servers: create, list, show, change, delete, and their actions and metadata."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kevel.api.compute import replies
from kevel.api.compute import server_bodies as bodies
from kevel.api.compute.server_lists import QUERY_NAMES, read_list
from kevel.api.compute.server_views import show_basics, show_name, show_server
from kevel.api.compute.shapes import next_link, v
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.domain.errors import Invalid, NotFound
from kevel.domain.model import Server


async def create_server(call: Call) -> Reply:
    reservation_only = bodies.wants_reservation(call)

    def answer(made: list[Server]) -> Reply:
        if reservation_only:
            return Reply(body={"reservation_id": made[0].extras.reservation_id})
        shown = {
            "id": made[0].id,
            "links": show_name(call, made[0])["links"],
            "OS-DCF:diskConfig": "AUTO" if made[0].extras.auto_disk else "MANUAL",
            "security_groups": [],
        }
        return Reply(body={"server": shown}, headers={"Location": f"{call.base_url}/servers/{made[0].id}"})

    properties = await call.services.servers.image_properties(call.actor, bodies.name_boot_image(call))
    new = bodies.read_new_server(call, properties)
    return answer(await call.services.servers.create(call.actor, new, once=call.once(answer)))


async def list_servers(call: Call) -> Reply:
    query, fits = read_list(call)
    found, more = await call.services.servers.list_page(query, fits)
    body: dict[str, object] = {"servers": [show_name(call, server) for server in found]}
    if more and found:
        body["servers_links"] = next_link(call, "servers", found[-1].id)
    return Reply(body=body)


async def list_servers_detail(call: Call) -> Reply:
    query, fits = read_list(call)
    found, more = await call.services.servers.list_views_page(query, fits)
    body: dict[str, object] = {"servers": [show_server(call, view) for view in found]}
    if more and found:
        body["servers_links"] = next_link(call, "servers/detail", found[-1].server.id)
    return Reply(body=body)


async def show_one(call: Call) -> Reply:
    view = await call.services.servers.get(call.actor, call.path["server_id"])
    return Reply(body={"server": show_server(call, view, shows_groups=True)})


async def update_server(call: Call) -> Reply:
    view = await call.services.servers.update(call.actor, call.path["server_id"], bodies.read_update(call))
    whole = call.version >= v(75)
    shown = show_server(call, view, shows_groups=True) if whole else show_basics(call, view.server)
    return Reply(body={"server": shown})


async def delete_server(call: Call) -> Reply:
    await call.services.servers.delete(call.actor, call.path["server_id"])
    return Reply()


async def lock_server(call: Call) -> Reply:
    keys = call.body.lock if isinstance(call.body, bodies.LockBody) else None
    reason = None if keys is None else keys.locked_reason
    await call.services.servers.lock(call.actor, call.path["server_id"], reason=reason)
    return Reply()


async def unlock_server(call: Call) -> Reply:
    await call.services.servers.unlock(call.actor, call.path["server_id"])
    return Reply()


async def list_metadata(call: Call) -> Reply:
    view = await call.services.servers.get(call.actor, call.path["server_id"])
    return Reply(body={"metadata": view.server.metadata})


async def merge_metadata(call: Call) -> Reply:
    body: bodies.MetadataBody = call.body
    return Reply(body={"metadata": await _change(call, lambda old: old | body.metadata)})


async def replace_metadata(call: Call) -> Reply:
    body: bodies.MetadataBody = call.body
    return Reply(body={"metadata": await _change(call, lambda old: body.metadata)})


async def show_meta(call: Call) -> Reply:
    view = await call.services.servers.get(call.actor, call.path["server_id"])
    key = call.path["key"]
    if key not in view.server.metadata:
        raise NotFound(f"Metadata item {key[:64]!r} was not found.")
    return Reply(body={"meta": {key: view.server.metadata[key]}})


async def set_meta(call: Call) -> Reply:
    body: bodies.MetaBody = call.body
    if call.path["key"] not in body.meta:
        raise Invalid("Request body and URI mismatch: the key of `meta` has to be the last part of the address.")
    await _change(call, lambda old: old | body.meta)
    return Reply(body={"meta": body.meta})


async def delete_meta(call: Call) -> Reply:
    key = call.path["key"]

    def without(old: dict[str, str]) -> dict[str, str]:
        if key not in old:
            raise NotFound(f"Metadata item {key[:64]!r} was not found.")
        return {name: value for name, value in old.items() if name != key}

    await _change(call, without)
    return Reply()


async def _change(call: Call, change: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, str]:
    return await call.services.servers.change_metadata(call.actor, call.path["server_id"], change)


async def list_addresses(call: Call) -> Reply:
    """Servers have no networks, so no addresses; the server has to exist."""
    await call.services.servers.get(call.actor, call.path["server_id"])
    return Reply(body={"addresses": {}})


_SERVERS: Final = "/servers"
_SERVER: Final = "/servers/{server_id}"
_ACTION: Final = "/servers/{server_id}/action"
_METADATA: Final = "/servers/{server_id}/metadata"
_META: Final = "/servers/{server_id}/metadata/{key}"

OPERATIONS: Final = (
    Operation(
        name="createServer",
        reply=replies.ACCEPTED,
        new_id="/server/id",
        needs_space=True,
        once=True,
        method="POST",
        path=_SERVERS,
        handler=create_server,
        policy=Policy.MEMBER,
        success=202,
        errors=(400, 403, 409),
        body=bodies.ServerBody,
    ),
    Operation(
        name="listServers",
        reply=replies.SERVERS,
        query_names=QUERY_NAMES,
        new_id="/servers/0/id",
        method="GET",
        path=_SERVERS,
        handler=list_servers,
        policy=Policy.READER,
        errors=(400, 403),
    ),
    Operation(
        name="listServersDetail",
        reply=replies.SERVER_DETAILS,
        query_names=QUERY_NAMES,
        method="GET",
        path="/servers/detail",
        handler=list_servers_detail,
        policy=Policy.READER,
        errors=(400, 403),
    ),
    Operation(
        name="showServer",
        reply=replies.SERVER,
        method="GET",
        path=_SERVER,
        handler=show_one,
        policy=Policy.READER,
        errors=(404,),
    ),
    Operation(
        name="updateServer",
        reply=replies.UPDATED,
        until=v(74),
        method="PUT",
        path=_SERVER,
        handler=update_server,
        policy=Policy.MEMBER,
        errors=(400, 404),
        body=bodies.UpdateBody,
    ),
    Operation(
        name="updateServerWhole",
        reply=replies.SERVER,
        method="PUT",
        path=_SERVER,
        handler=update_server,
        policy=Policy.MEMBER,
        errors=(400, 404),
        body=bodies.UpdateBody,
        since=v(75),
    ),
    Operation(
        name="deleteServer",
        reply=None,
        method="DELETE",
        path=_SERVER,
        handler=delete_server,
        policy=Policy.MEMBER,
        success=204,
        errors=(404, 409),
    ),
    Operation(
        name="lockServer",
        reply=None,
        method="POST",
        path=_ACTION,
        action="lock",
        handler=lock_server,
        policy=Policy.MEMBER,
        success=202,
        errors=(404,),
        until=v(72),
    ),
    Operation(
        name="lockServerWithReason",
        reply=None,
        method="POST",
        path=_ACTION,
        action="lock",
        handler=lock_server,
        policy=Policy.MEMBER,
        success=202,
        errors=(400, 404),
        body=bodies.LockBody,
        since=v(73),
    ),
    Operation(
        name="unlockServer",
        reply=None,
        method="POST",
        path=_ACTION,
        action="unlock",
        handler=unlock_server,
        policy=Policy.MEMBER,
        success=202,
        errors=(404,),
    ),
    Operation(
        name="listServerMetadata",
        reply=replies.METADATA,
        method="GET",
        path=_METADATA,
        handler=list_metadata,
        policy=Policy.READER,
        errors=(404,),
    ),
    Operation(
        name="mergeServerMetadata",
        reply=replies.METADATA,
        method="POST",
        path=_METADATA,
        handler=merge_metadata,
        policy=Policy.MEMBER,
        errors=(400, 404, 409),
        body=bodies.MetadataBody,
    ),
    Operation(
        name="replaceServerMetadata",
        reply=replies.METADATA,
        method="PUT",
        path=_METADATA,
        handler=replace_metadata,
        policy=Policy.MEMBER,
        errors=(400, 404, 409),
        body=bodies.MetadataBody,
    ),
    Operation(
        name="showServerMeta",
        reply=replies.META,
        method="GET",
        path=_META,
        handler=show_meta,
        policy=Policy.READER,
        errors=(404,),
    ),
    Operation(
        name="setServerMeta",
        reply=replies.META,
        method="PUT",
        path=_META,
        handler=set_meta,
        policy=Policy.MEMBER,
        errors=(400, 404, 409),
        body=bodies.MetaBody,
    ),
    Operation(
        name="deleteServerMeta",
        reply=None,
        method="DELETE",
        path=_META,
        handler=delete_meta,
        policy=Policy.MEMBER,
        success=204,
        errors=(404, 409),
    ),
    Operation(
        name="listServerAddresses",
        reply=replies.ADDRESSES,
        method="GET",
        path="/servers/{server_id}/ips",
        handler=list_addresses,
        policy=Policy.READER,
        errors=(404,),
    ),
)
