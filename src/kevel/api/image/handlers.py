"""What each operation of the image API does: words in, a use case, words out."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from kevel.api.image.listing import select_page
from kevel.api.image.views import IMAGE_SCHEMA, IMAGES_SCHEMA, show_image
from kevel.api.operations import Call, Reply
from kevel.control.images.images import Change
from kevel.domain.errors import Invalid, Unsupported

#: Steps of one patch.
PATCH_STEPS_MAX: Final = 256
PATCH_TYPE: Final = "application/openstack-images-v2.1-json-patch"
BYTES_TYPE: Final = "application/octet-stream"
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_BYTES: Final = re.compile(r"\d{1,18}", re.ASCII)


class PatchStep(msgspec.Struct, frozen=True):
    """One step of a JSON patch (RFC 6902); `path` is a JSON pointer of one level."""

    op: str
    path: str
    value: Any = msgspec.UNSET


async def list_versions(call: Call) -> Reply:
    """The versions of this API, in the shape that clients discover it by."""
    link = {"rel": "self", "href": f"{call.base_url}/"}
    return Reply(body={"versions": [{"id": "v2.7", "status": "CURRENT", "links": [link]}]})


async def list_images(call: Call) -> Reply:
    """A page of the images that the caller may see."""
    actor = call.actor
    page = select_page(await call.services.images.list_visible(actor), actor, call.query_items)
    body: dict[str, Any] = {"images": [show_image(image) for image in page.images], "first": page.first}
    body["schema"] = "/v2/schemas/images"
    if page.next is not None:
        body["next"] = page.next
    return Reply(body=body)


async def create_image(call: Call) -> Reply:
    """An image without bytes."""
    values = dict(call.body)
    image_id = values.pop("id", None)
    if image_id is not None and not (isinstance(image_id, str) and _UUID.fullmatch(image_id)):
        raise Invalid("id has to be a uuid in lower case, with dashes.")
    image = await call.services.images.create(call.actor, image_id, values)
    return Reply(body=show_image(image), headers={"Location": f"{call.base_url}/images/{image.id}"})


async def show_one(call: Call) -> Reply:
    """One image."""
    return Reply(body=show_image(await call.services.images.show(call.actor, call.path["image_id"])))


async def patch_image(call: Call) -> Reply:
    """Change attributes and custom properties, all of the steps or none."""
    media_type = _media_type(call)
    if media_type != PATCH_TYPE:
        raise Unsupported(f"The content type of a patch has to be {PATCH_TYPE}.")
    if len(call.body) > PATCH_STEPS_MAX:
        raise Invalid(f"A patch has at most {PATCH_STEPS_MAX} steps.")
    changes = [_read_step(step) for step in call.body]
    return Reply(body=show_image(await call.services.images.change(call.actor, call.path["image_id"], changes)))


async def delete_image(call: Call) -> Reply:
    """Delete an image."""
    await call.services.images.delete(call.actor, call.path["image_id"])
    return Reply()


async def deactivate_image(call: Call) -> Reply:
    """Shut an image's bytes off from use."""
    await call.services.images.set_active(call.actor, call.path["image_id"], active=False)
    return Reply()


async def reactivate_image(call: Call) -> Reply:
    """Open them again."""
    await call.services.images.set_active(call.actor, call.path["image_id"], active=True)
    return Reply()


async def upload_file(call: Call) -> Reply:
    """Take an image's bytes as they come."""
    if _media_type(call) != BYTES_TYPE:
        raise Unsupported(f"The content type of an image's bytes has to be {BYTES_TYPE}.")
    headers = call.request.headers
    declared = headers.get("x-openstack-image-size", headers.get("content-length"))
    if declared is not None and not _BYTES.fullmatch(declared):
        raise Invalid("X-OpenStack-Image-Size has to be a number of bytes.")
    await call.services.images.upload(
        call.actor,
        call.path["image_id"],
        call.request.stream(),
        None if declared is None else int(declared),
    )
    return Reply()


async def download_file(call: Call) -> Reply:
    """Send an image's bytes."""
    image, stream = await call.services.images.download(call.actor, call.path["image_id"])
    if stream is None:
        return Reply(status=204)
    headers = {"Content-Length": str(image.size_bytes), "Content-MD5": image.md5 or ""}
    return Reply(stream=stream, headers=headers, media_type=BYTES_TYPE)


async def add_tag(call: Call) -> Reply:
    """Put a tag on an image."""
    await call.services.images.add_tag(call.actor, call.path["image_id"], call.path["tag"])
    return Reply()


async def remove_tag(call: Call) -> Reply:
    """Take a tag off an image."""
    await call.services.images.remove_tag(call.actor, call.path["image_id"], call.path["tag"])
    return Reply()


async def show_image_schema(call: Call) -> Reply:
    """The JSON schema of an image."""
    return Reply(body=IMAGE_SCHEMA)


async def show_images_schema(call: Call) -> Reply:
    """The JSON schema of a list of images."""
    return Reply(body=IMAGES_SCHEMA)


def _media_type(call: Call) -> str:
    return call.request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _read_step(step: PatchStep) -> Change:
    if step.op not in ("add", "replace", "remove"):
        raise Invalid(f"A step of a patch is add, replace or remove, not {step.op[:32]!r}.")
    if not step.path.startswith("/") or "/" in step.path[1:] or len(step.path) == 1:
        raise Invalid(f"The path of a step has to be like /name, not {step.path[:64]!r}: images have no deeper levels.")
    if step.op != "remove" and step.value is msgspec.UNSET:
        raise Invalid(f"The step that is to {step.op} {step.path[:64]} needs a value.")
    # The order matters: "~01" stands for "~1", not for "/".
    name = step.path[1:].replace("~1", "/").replace("~0", "~")
    return Change(step.op, name, None if step.op == "remove" else step.value)
