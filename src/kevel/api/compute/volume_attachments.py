"""Volumes in servers: os-volume_attachments, at every microversion."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType, field

from kevel.api.compute import replies
from kevel.api.compute.shapes import UUID, read_bool, read_count, refuse_newer_keys, refuse_unknown_query, v
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.domain.errors import Conflict, Forbidden, Invalid
from kevel.domain.status import vm_state
from kevel.store.attachments import AttachmentView

Tag = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[^,/\x00-\x1f\x7f]*\Z")]


class AttachKeys(Struct, forbid_unknown_fields=True):
    """What to attach."""

    volume_id: str = field(name="volumeId")
    device: str | None = None
    tag: Tag | UnsetType = UNSET
    delete_on_termination: bool | str | int | UnsetType = UNSET


class AttachBody(Struct, forbid_unknown_fields=True):
    """The body of a POST."""

    keys: AttachKeys = field(name="volumeAttachment")


class SwapKeys(Struct, forbid_unknown_fields=True):
    """Before 2.85 a PUT could only exchange one volume for another."""

    volume_id: str = field(name="volumeId")


class SwapBody(Struct, forbid_unknown_fields=True):
    """The body of a PUT before 2.85."""

    keys: SwapKeys = field(name="volumeAttachment")


class UpdateKeys(Struct, forbid_unknown_fields=True):
    """What a GET shows, sent back: all but delete_on_termination has to be as it is."""

    volume_id: str = field(name="volumeId")
    id: str | UnsetType = UNSET
    server_id: str | UnsetType = field(name="serverId", default=UNSET)
    device: str | UnsetType | None = UNSET
    tag: str | UnsetType | None = UNSET
    delete_on_termination: bool | str | int | UnsetType = UNSET


class UpdateBody(Struct, forbid_unknown_fields=True):
    """The body of a PUT from 2.85 on."""

    keys: UpdateKeys = field(name="volumeAttachment")


#: Keys of a POST that came later than 2.1, by the minor version.
_SINCE: Final = {"tag": 49, "delete_on_termination": 79}


async def list_attachments(call: Call) -> Reply:
    if call.version >= v(75):
        refuse_unknown_query(call, ("limit", "offset"))
    query = dict(call.query_items)
    rows_max = call.services.servers.page_rows_max
    limit = min(read_count("limit", query["limit"]), rows_max) if "limit" in query else rows_max
    offset = read_count("offset", query["offset"]) if "offset" in query else 0
    views = await call.services.attachments.of_server(call.actor, call.path["server_id"])
    return Reply(body={"volumeAttachments": [show_attachment(call, view) for view in views[offset : offset + limit]]})


async def show_one(call: Call) -> Reply:
    _check_query(call)
    return Reply(body={"volumeAttachment": show_attachment(call, await _find(call))})


async def attach_volume(call: Call) -> Reply:
    _check_query(call)
    keys: AttachKeys = call.body.keys
    _check_volume_id(keys.volume_id)
    sent = [name for name in _SINCE if getattr(keys, name) is not UNSET]
    refuse_newer_keys(call, "volumeAttachment", sent, _SINCE)
    await _refuse_shelved(call, "attach_volume")
    if call.version < v(60):
        await _refuse_shared(call, keys.volume_id)
    deletes = keys.delete_on_termination

    def answer(view: AttachmentView) -> Reply:
        # Nova forgot the change of 2.89 in this answer: it keeps `id`, and clients rely on it.
        return Reply() if call.version >= v(101) else Reply(body={"volumeAttachment": _show_to_89(call, view)})

    view = await call.services.attachments.attach(
        call.actor,
        call.path["server_id"],
        keys.volume_id,
        device=keys.device,
        tag=None if keys.tag is UNSET else keys.tag,
        delete_on_termination=False if deletes is UNSET else read_bool("delete_on_termination", deletes),
        once=call.once(answer),
    )
    return answer(view)


async def swap_volume(call: Call) -> Reply:
    keys: SwapKeys = call.body.keys
    _check_volume_id(keys.volume_id)
    await call.services.servers.refuse_swap(call.actor, call.path["server_id"], call.path["volume_id"], keys.volume_id)
    raise AssertionError("a swap is always refused")


async def update_attachment(call: Call) -> Reply:
    _check_query(call)
    keys: UpdateKeys = call.body.keys
    _check_volume_id(keys.volume_id)
    server_id, volume_id = call.path["server_id"], call.path["volume_id"]
    _check_immutable(call, keys, await _find(call))
    if keys.volume_id != volume_id:
        if not call.caller.may(Policy.SERVICE):
            raise Forbidden("Policy does not allow volumes to be exchanged with the roles of this token.")
        await call.services.servers.refuse_swap(call.actor, server_id, volume_id, keys.volume_id)
    if keys.delete_on_termination is not UNSET:
        deletes = read_bool("delete_on_termination", keys.delete_on_termination)
        await call.services.attachments.update(call.actor, server_id, volume_id, delete_on_termination=deletes)
    return Reply()


async def detach_volume(call: Call) -> Reply:
    _check_query(call)
    await _refuse_shelved(call, "detach_volume")
    await call.services.attachments.detach(call.actor, call.path["server_id"], call.path["volume_id"])
    return Reply()


def show_attachment(call: Call, view: AttachmentView) -> dict[str, Any]:
    """An attachment in lists and by itself."""
    if call.version < v(89):
        return _show_to_89(call, view)
    one = view.attachment
    return {
        "serverId": one.server_id,
        "volumeId": one.volume_id,
        "device": one.device,
        "tag": one.tag,
        "delete_on_termination": one.delete_on_termination,
        "attachment_id": one.id,
        "bdm_uuid": one.id,
    }


def _show_to_89(call: Call, view: AttachmentView) -> dict[str, Any]:
    one = view.attachment
    shown: dict[str, Any] = {
        "id": one.volume_id,
        "serverId": one.server_id,
        "volumeId": one.volume_id,
        "device": one.device,
    }
    if call.version >= v(70):
        shown["tag"] = one.tag
    if call.version >= v(79):
        shown["delete_on_termination"] = one.delete_on_termination
    return shown


async def _refuse_shared(call: Call, volume_id: str) -> None:
    """Clients of before 2.60 do not know that a volume may be in several servers."""
    if (await call.services.volumes.get(call.actor, volume_id)).volume.multiattach:
        raise Invalid("Multiattach volumes are only supported starting with compute API version 2.60.")


async def _refuse_shelved(call: Call, operation: str) -> None:
    """Clients of before 2.20 do not know that a shelved server can be given volumes, or lose them."""
    if call.version >= v(20):
        return
    view = await call.services.servers.get(call.actor, call.path["server_id"])
    state = vm_state(view.server)
    if state in ("shelved", "shelved_offloaded"):
        raise Conflict(f"Cannot '{operation}' instance {view.server.id} while it is in vm_state {state}")


async def _find(call: Call) -> AttachmentView:
    return await call.services.attachments.find(call.actor, call.path["server_id"], call.path["volume_id"])


def _check_query(call: Call) -> None:
    if call.version >= v(102):
        refuse_unknown_query(call, ())


def _check_volume_id(volume_id: str) -> None:
    if not UUID.fullmatch(volume_id):
        raise Invalid(f"Invalid input for volumeAttachment.volumeId: {volume_id[:64]!r} is no volume's id.")


def _check_immutable(call: Call, keys: UpdateKeys, view: AttachmentView) -> None:
    one = view.attachment
    stored = {"id": one.volume_id, "server_id": one.server_id, "device": one.device, "tag": one.tag}
    for name, value in stored.items():
        sent = getattr(keys, name)
        if sent is not UNSET and sent != value:
            shown = "serverId" if name == "server_id" else name
            raise Invalid(f"The {shown} of a volume attachment is not mutable: it is {value!r}.")


_LIST: Final = "/servers/{server_id}/os-volume_attachments"
_ONE: Final = "/servers/{server_id}/os-volume_attachments/{volume_id}"

OPERATIONS: Final = (
    Operation(
        name="listVolumeAttachments",
        reply=replies.ATTACHMENTS,
        query_names=("limit", "offset"),
        new_id="/volumeAttachments/0/volumeId",
        method="GET",
        path=_LIST,
        handler=list_attachments,
        policy=Policy.READER,
        errors=(400, 404),
    ),
    Operation(
        name="showVolumeAttachment",
        reply=replies.ATTACHMENT,
        method="GET",
        path=_ONE,
        handler=show_one,
        policy=Policy.READER,
        errors=(400, 404),
    ),
    Operation(
        name="attachVolume",
        reply=replies.ATTACHMENT,
        until=v(100),
        needs_space=True,
        once=True,
        method="POST",
        path=_LIST,
        handler=attach_volume,
        policy=Policy.MEMBER,
        errors=(400, 403, 404, 409),
        body=AttachBody,
    ),
    Operation(
        name="attachVolumeLater",
        reply=None,
        needs_space=True,
        once=True,
        method="POST",
        path=_LIST,
        handler=attach_volume,
        policy=Policy.MEMBER,
        success=202,
        errors=(400, 403, 404, 409),
        body=AttachBody,
        since=v(101),
    ),
    Operation(
        name="swapVolume",
        reply=None,
        method="PUT",
        path=_ONE,
        handler=swap_volume,
        policy=Policy.SERVICE,
        success=202,
        errors=(400, 404, 409),
        body=SwapBody,
        until=v(84),
    ),
    Operation(
        name="updateVolumeAttachment",
        reply=None,
        method="PUT",
        path=_ONE,
        handler=update_attachment,
        policy=Policy.MEMBER,
        success=202,
        errors=(400, 403, 404, 409),
        body=UpdateBody,
        since=v(85),
    ),
    Operation(
        name="detachVolume",
        reply=None,
        method="DELETE",
        path=_ONE,
        handler=detach_volume,
        policy=Policy.MEMBER,
        success=202,
        errors=(400, 404, 409),
    ),
)
