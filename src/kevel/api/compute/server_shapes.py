"""The actions that make a server's domain anew: rescue, rebuild, resize, and what ends them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType, field

from kevel.api.compute import replies
from kevel.api.compute.server_bodies import (
    Description,
    DiskConfig,
    Hostname,
    Metadata,
    Name,
    read_hostname,
    refuse_without_effect,
    sent_keys,
)
from kevel.api.compute.server_views import show_basics, show_server
from kevel.api.compute.shapes import UUID, refuse_newer_keys, v
from kevel.api.operations import Call, Handler, Operation, Policy, Reply
from kevel.control.servers.records import check_name
from kevel.domain.errors import Invalid

#: What may be sent and has no effect: nothing here hands a password to a guest.
Password = str | None | UnsetType


class RescueKeys(Struct, forbid_unknown_fields=True):
    """With what a server is rescued."""

    image: str | UnsetType = field(name="rescue_image_ref", default=UNSET)
    admin_password: Password = field(name="adminPass", default=UNSET)


class RescueBody(Struct, forbid_unknown_fields=True):
    """The action `rescue`."""

    rescue: RescueKeys | None


class RebuildKeys(Struct, forbid_unknown_fields=True):
    """Every key that Nova's `rebuild` may have. UNSET: not sent."""

    image: str = field(name="imageRef")
    name: Name | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    admin_password: Password = field(name="adminPass", default=UNSET)
    preserve_ephemeral: Any = UNSET
    disk_config: DiskConfig | UnsetType = field(name="OS-DCF:diskConfig", default=UNSET)
    access_v4: Any = field(name="accessIPv4", default=UNSET)
    access_v6: Any = field(name="accessIPv6", default=UNSET)
    personality: Any = UNSET
    key_name: Any = UNSET
    user_data: Any = UNSET
    trusted_image_certificates: Any = UNSET
    hostname: Hostname | UnsetType = UNSET


class RebuildBody(Struct, forbid_unknown_fields=True):
    """The action `rebuild`."""

    rebuild: RebuildKeys


class ResizeKeys(Struct, forbid_unknown_fields=True):
    """What a server is to become."""

    flavor: Annotated[str, Meta(min_length=1, max_length=255)] | int = field(name="flavorRef")
    disk_config: DiskConfig | UnsetType = field(name="OS-DCF:diskConfig", default=UNSET)


class ResizeBody(Struct, forbid_unknown_fields=True):
    """The action `resize`."""

    resize: ResizeKeys


_SINCE: Final = {
    "description": 19,
    "key_name": 54,
    "user_data": 57,
    "trusted_image_certificates": 63,
    "hostname": 90,
}


async def rescue_server(call: Call) -> Reply:
    body: RescueBody = call.body
    image_id = None if body.rescue is None or body.rescue.image is UNSET else _read_id("rescue_image_ref", body.rescue)
    await call.services.servers.rescue(
        call.actor, call.path["server_id"], image_id, takes_volume_root=call.version >= v(87)
    )
    return Reply(body={})


def _read_id(name: str, keys: RescueKeys | RebuildKeys) -> str:
    value = str(keys.image)
    if not UUID.fullmatch(value):
        raise Invalid(f"Invalid input for {name}: {value[:64]!r} is no image's id.")
    return value


async def rebuild_server(call: Call) -> Reply:
    body: RebuildBody = call.body
    keys, version = body.rebuild, call.version
    sent = sent_keys(keys)
    refuse_newer_keys(call, "rebuild", sent, _SINCE)
    if "personality" in sent and version >= v(57):
        raise Invalid("Invalid input for rebuild: 'personality' was removed with microversion 2.57.")
    refuse_without_effect(sent)
    if keys.preserve_ephemeral is not UNSET and keys.preserve_ephemeral not in (False, None):
        raise Invalid("Invalid input for rebuild.preserve_ephemeral: servers of this Kevel have no ephemeral disks.")
    if any(address not in (UNSET, None, "") for address in (keys.access_v4, keys.access_v6)):
        raise Invalid("Invalid input for rebuild: accessIPv4 and accessIPv6 are changed by PUT.")
    if keys.key_name is not UNSET and keys.key_name is not None:
        raise Invalid("Invalid input for rebuild.key_name: it can be taken away (null), and not be exchanged here.")
    if keys.name is not UNSET:
        check_name(keys.name)
    view = await call.services.servers.rebuild(
        call.actor,
        call.path["server_id"],
        _read_id("imageRef", keys),
        name=None if keys.name is UNSET else keys.name,
        description=keys.description,
        metadata=None if keys.metadata is UNSET else keys.metadata,
        drops_key=keys.key_name is None,
        hostname=None if keys.hostname is UNSET else read_hostname(call, keys.hostname),
        auto_disk=None if keys.disk_config is UNSET else keys.disk_config == "AUTO",
        reimages=version >= v(93),
    )
    whole = version >= v(75)
    shown = show_server(call, view, shows_groups=True) if whole else show_basics(call, view.server)
    if version >= v(54):
        shown["key_name"] = view.server.key_name
    if version >= v(57):
        shown["user_data"] = None
        shown.pop("OS-EXT-SRV-ATTR:user_data", None)  # in this answer it stands under its plain name alone
    return Reply(body={"server": shown}, headers={"Location": f"{call.base_url}/servers/{view.server.id}"})


async def resize_server(call: Call) -> Reply:
    body: ResizeBody = call.body
    keys = body.resize
    auto_disk = None if keys.disk_config is UNSET else keys.disk_config == "AUTO"
    await call.services.servers.resize(call.actor, call.path["server_id"], str(keys.flavor), auto_disk=auto_disk)
    return Reply()


async def confirm_resize(call: Call) -> Reply:
    await call.services.servers.confirm_resize(call.actor, call.path["server_id"])
    return Reply()


def _ending(action: str) -> Handler:
    async def end(call: Call) -> Reply:
        await call.services.servers.change_shape(call.actor, call.path["server_id"], action)
        return Reply()

    return end


_ACTION: Final = "/servers/{server_id}/action"

OPERATIONS: Final = (
    Operation(
        name="rescueServer",
        reply=replies.NOTHING,
        method="POST",
        path=_ACTION,
        action="rescue",
        handler=rescue_server,
        policy=Policy.MEMBER,
        needs_space=True,
        errors=(400, 404, 409),
        body=RescueBody,
    ),
    Operation(
        name="unrescueServer",
        reply=None,
        method="POST",
        path=_ACTION,
        action="unrescue",
        handler=_ending("unrescue"),
        policy=Policy.MEMBER,
        success=202,
        errors=(404, 409),
    ),
    Operation(
        name="rebuildServer",
        reply=replies.REBUILT,
        method="POST",
        path=_ACTION,
        action="rebuild",
        handler=rebuild_server,
        policy=Policy.MEMBER,
        success=202,
        needs_space=True,
        errors=(400, 403, 404, 409),
        body=RebuildBody,
        until=v(74),
    ),
    Operation(
        name="rebuildServerWhole",
        reply=replies.REBUILT_WHOLE,
        method="POST",
        path=_ACTION,
        action="rebuild",
        handler=rebuild_server,
        policy=Policy.MEMBER,
        success=202,
        needs_space=True,
        errors=(400, 403, 404, 409),
        body=RebuildBody,
        since=v(75),
    ),
    Operation(
        name="resizeServer",
        reply=None,
        method="POST",
        path=_ACTION,
        action="resize",
        handler=resize_server,
        policy=Policy.MEMBER,
        success=202,
        needs_space=True,
        errors=(400, 403, 404, 409),
        body=ResizeBody,
    ),
    Operation(
        name="confirmResizeServer",
        reply=None,
        method="POST",
        path=_ACTION,
        action="confirmResize",
        handler=confirm_resize,
        policy=Policy.MEMBER,
        success=204,
        errors=(404, 409),
    ),
    Operation(
        name="revertResizeServer",
        reply=None,
        method="POST",
        path=_ACTION,
        action="revertResize",
        handler=_ending("revertResize"),
        policy=Policy.MEMBER,
        success=202,
        errors=(404, 409),
    ),
)
