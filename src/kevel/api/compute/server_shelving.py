"""The actions that shelve a server, and that let it run again, maybe elsewhere."""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from kevel.api.compute.server_bodies import Name
from kevel.api.compute.shapes import v
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.control.servers.shelving import Place
from kevel.domain.errors import Forbidden


class ZoneKeys(Struct, forbid_unknown_fields=True):
    """Where to, from 2.77 on."""

    availability_zone: Name


class ZoneBody(Struct, forbid_unknown_fields=True):
    """The action `unshelve` from 2.77 on."""

    unshelve: ZoneKeys | None


class PlaceKeys(Struct, forbid_unknown_fields=True):
    """Where to, from 2.91 on. A zone that is null: any from now on."""

    availability_zone: Name | UnsetType | None = UNSET
    host: Name | UnsetType = UNSET


class PlaceBody(Struct, forbid_unknown_fields=True):
    """The action `unshelve` from 2.91 on."""

    unshelve: PlaceKeys | None


async def shelve_server(call: Call) -> Reply:
    await call.services.shelving.shelve(call.actor, call.path["server_id"])
    return Reply()


async def offload_server(call: Call) -> Reply:
    await call.services.shelving.offload(call.actor, call.path["server_id"])
    return Reply()


async def unshelve_server(call: Call) -> Reply:
    await call.services.shelving.unshelve(call.actor, call.path["server_id"], _read_place(call))
    return Reply()


def _read_place(call: Call) -> Place:
    body: Any = call.body
    if isinstance(body, ZoneBody) and body.unshelve is not None:
        return Place(zone=body.unshelve.availability_zone)
    if not isinstance(body, PlaceBody) or body.unshelve is None:
        return Place()
    keys = body.unshelve
    if keys.host is not UNSET and not call.caller.is_admin:
        raise Forbidden("Policy does not allow a host to be chosen with the roles of this token.")
    return Place(zone=keys.availability_zone, host=None if keys.host is UNSET else keys.host)


_ACTION: Final = "/servers/{server_id}/action"

OPERATIONS: Final = (
    Operation(
        name="shelveServer",
        reply=None,
        method="POST",
        path=_ACTION,
        action="shelve",
        handler=shelve_server,
        policy=Policy.MEMBER,
        success=202,
        needs_space=True,
        errors=(403, 404, 409),
    ),
    Operation(
        name="shelveOffloadServer",
        reply=None,
        method="POST",
        path=_ACTION,
        action="shelveOffload",
        handler=offload_server,
        policy=Policy.ADMIN,
        success=202,
        errors=(403, 404, 409),
    ),
    Operation(
        name="unshelveServer",
        reply=None,
        method="POST",
        path=_ACTION,
        action="unshelve",
        handler=unshelve_server,
        policy=Policy.MEMBER,
        success=202,
        needs_space=True,
        errors=(404, 409),
        until=v(76),
    ),
    Operation(
        name="unshelveServerToZone",
        reply=None,
        method="POST",
        path=_ACTION,
        action="unshelve",
        handler=unshelve_server,
        policy=Policy.MEMBER,
        success=202,
        needs_space=True,
        errors=(400, 404, 409),
        body=ZoneBody,
        since=v(77),
        until=v(90),
    ),
    Operation(
        name="unshelveServerToHost",
        reply=None,
        method="POST",
        path=_ACTION,
        action="unshelve",
        handler=unshelve_server,
        policy=Policy.MEMBER,
        success=202,
        needs_space=True,
        errors=(400, 403, 404, 409),
        body=PlaceBody,
        since=v(91),
    ),
)
