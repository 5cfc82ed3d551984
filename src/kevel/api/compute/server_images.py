"""The action that makes an image of a server."""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, Struct, UnsetType

from kevel.api.compute import replies
from kevel.api.compute.server_bodies import Metadata, Name
from kevel.api.compute.shapes import bookmark_base, v
from kevel.api.operations import Call, Operation, Policy, Reply


class CreateImageKeys(Struct, forbid_unknown_fields=True):
    """What the image is called, and what is known of it."""

    name: Name
    metadata: Metadata | UnsetType = UNSET


class CreateImageBody(Struct, forbid_unknown_fields=True, rename={"keys": "createImage"}):
    """The action `createImage`."""

    keys: CreateImageKeys


async def create_image(call: Call) -> Reply:
    keys: CreateImageKeys = call.body.keys
    metadata = {} if keys.metadata is UNSET else keys.metadata
    image_id = await call.services.imaging.create_image(call.actor, call.path["server_id"], keys.name, metadata)
    if call.version >= v(45):
        return Reply(body={"image_id": image_id})
    return Reply(headers={"Location": f"{bookmark_base(call)}/images/{image_id}"})


_ACTION: Final = "/servers/{server_id}/action"

OPERATIONS: Final = (
    Operation(
        name="createImageOfServer",
        reply=None,
        method="POST",
        path=_ACTION,
        action="createImage",
        handler=create_image,
        policy=Policy.MEMBER,
        success=202,
        needs_space=True,
        errors=(400, 403, 404, 409),
        body=CreateImageBody,
        until=v(44),
    ),
    Operation(
        name="createImageOfServerById",
        reply=replies.IMAGE_ID,
        method="POST",
        path=_ACTION,
        action="createImage",
        handler=create_image,
        policy=Policy.MEMBER,
        success=202,
        needs_space=True,
        errors=(400, 403, 404, 409),
        body=CreateImageBody,
        since=v(45),
    ),
)
