"""The table of the image API v2, which has no microversions."""

from __future__ import annotations

from typing import Any, Final

from kevel.api.image import handlers
from kevel.api.image.handlers import PatchStep
from kevel.api.operations import VERSIONS_PATH, Api, ErrorStyle, Operation, Policy

OPERATIONS: Final = (
    Operation(
        name="listVersions",
        method="GET",
        path=VERSIONS_PATH,
        handler=handlers.list_versions,
        policy=Policy.PUBLIC,
        success=300,
    ),
    Operation(
        name="showVersion",
        method="GET",
        path="/",
        handler=handlers.list_versions,
        policy=Policy.PUBLIC,
        success=300,
    ),
    Operation(
        name="listImages",
        method="GET",
        path="/images",
        handler=handlers.list_images,
        policy=Policy.READER,
        errors=(400,),
    ),
    Operation(
        name="createImage",
        needs_space=True,
        method="POST",
        path="/images",
        handler=handlers.create_image,
        policy=Policy.MEMBER,
        success=201,
        errors=(400, 409, 413, 415),
        body=dict[str, Any],
    ),
    Operation(
        name="showImage",
        method="GET",
        path="/images/{image_id}",
        handler=handlers.show_one,
        policy=Policy.READER,
        errors=(404,),
    ),
    Operation(
        name="updateImage",
        method="PATCH",
        path="/images/{image_id}",
        handler=handlers.patch_image,
        policy=Policy.MEMBER,
        errors=(400, 404, 409, 413, 415),
        body=list[PatchStep],
    ),
    Operation(
        name="deleteImage",
        method="DELETE",
        path="/images/{image_id}",
        handler=handlers.delete_image,
        policy=Policy.MEMBER,
        success=204,
        errors=(404, 409),
    ),
    Operation(
        name="uploadImageFile",
        needs_space=True,
        method="PUT",
        path="/images/{image_id}/file",
        handler=handlers.upload_file,
        policy=Policy.MEMBER,
        success=204,
        errors=(400, 404, 408, 409, 413, 415, 503),
        streams=True,
    ),
    Operation(
        name="downloadImageFile",
        method="GET",
        path="/images/{image_id}/file",
        handler=handlers.download_file,
        policy=Policy.MEMBER,
        errors=(404, 503),
    ),
    Operation(
        name="addImageTag",
        method="PUT",
        path="/images/{image_id}/tags/{tag}",
        handler=handlers.add_tag,
        policy=Policy.MEMBER,
        success=204,
        errors=(400, 404, 413),
    ),
    Operation(
        name="removeImageTag",
        method="DELETE",
        path="/images/{image_id}/tags/{tag}",
        handler=handlers.remove_tag,
        policy=Policy.MEMBER,
        success=204,
        errors=(404,),
    ),
    Operation(
        name="showImageSchema",
        method="GET",
        path="/schemas/image",
        handler=handlers.show_image_schema,
        policy=Policy.READER,
    ),
    Operation(
        name="showImagesSchema",
        method="GET",
        path="/schemas/images",
        handler=handlers.show_images_schema,
        policy=Policy.READER,
    ),
)

#: Glance answers errors as text; JSON in Keystone's shape is what clients read a message from.
API: Final = Api(name="image", prefix="/image/v2", operations=OPERATIONS, error_style=ErrorStyle.IDENTITY)
