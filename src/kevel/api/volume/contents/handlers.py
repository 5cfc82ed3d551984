"""Actions on what is in volumes: words in, a use case, words out."""

from __future__ import annotations

from typing import Any, Final

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.values import read_bool, show_time
from kevel.control.images.volume_images import NewImage
from kevel.domain.errors import Invalid

_VISIBILITY_SINCE: Final = Version(3, 1)


async def revert_volume(call: Call) -> Reply:
    """Put the contents of its latest snapshot in the place of a volume's."""
    await call.services.volume_contents.revert(call.actor, _id(call), call.body.revert.snapshot_id)
    return Reply()


async def reimage_volume(call: Call) -> Reply:
    """Put an image in the place of a volume's contents."""
    wanted = call.body.reimage
    if wanted.reimage_reserved is not None and read_bool(wanted.reimage_reserved, "reimage_reserved"):
        raise Invalid("Invalid input for reimage_reserved: Kevel reimages volumes that nobody has reserved.")
    await call.services.volume_contents.reimage(call.actor, _id(call), wanted.image_id)
    return Reply()


async def upload_volume(call: Call) -> Reply:
    """Write a volume out as an image."""
    wanted = call.body.upload
    shows_visibility = call.version >= _VISIBILITY_SINCE
    protected = getattr(wanted, "protected", None)
    new = NewImage(
        name=wanted.image_name,
        disk_format=wanted.disk_format or "raw",
        container_format=wanted.container_format or "bare",
        visibility=getattr(wanted, "visibility", None) or "private",
        protected=protected is not None and read_bool(protected, "protected"),
    )
    in_use = wanted.force is not None and read_bool(wanted.force, "force")
    view, image = await call.services.volume_contents.upload(call.actor, _id(call), new, in_use=in_use)
    volume = view.volume
    volume_type = await call.services.volume_types.of_volume(volume)
    shown: dict[str, Any] = {
        "id": volume.id,
        "updated_at": show_time(volume.updated_at),
        "status": view.status,
        "display_description": volume.description,
        "size": volume.size_gib,
        "volume_type": {
            "id": volume_type.id,
            "name": volume_type.name,
            "description": volume_type.description,
            "is_public": volume_type.is_public,
            "extra_specs": volume_type.extra_specs if call.caller.is_admin else {},
        },
        "image_id": image.id,
        "container_format": new.container_format,
        "disk_format": new.disk_format,
        "image_name": new.name,
    }
    if shows_visibility:
        shown |= {"visibility": new.visibility, "protected": new.protected}
    return Reply(body={"os-volume_upload_image": shown})


async def set_image_metadata(call: Call) -> Reply:
    """Set items of what is known of the image in a volume."""
    items = call.body.wanted.metadata
    metadata = await call.services.volume_contents.set_image_metadata(call.actor, _id(call), items)
    return Reply(body={"metadata": metadata})


async def unset_image_metadata(call: Call) -> Reply:
    """Remove an item of what is known of the image in a volume."""
    await call.services.volume_contents.unset_image_metadata(call.actor, _id(call), call.body.unwanted.key)
    return Reply()


async def show_image_metadata(call: Call) -> Reply:
    """What is known of the image in a volume."""
    return Reply(body={"metadata": await call.services.volume_contents.image_metadata(call.actor, _id(call))})


def _id(call: Call) -> str:
    return call.path["volume_id"]
