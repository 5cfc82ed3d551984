"""The rows of actions on contents."""

from __future__ import annotations

from typing import Final

from kevel.api.operations import Policy, Version
from kevel.api.volume import replies
from kevel.api.volume.contents import handlers, shapes
from kevel.api.volume.rows import act

CONTENTS: Final = (
    act(
        name="revertVolume",
        action="revert",
        handler=handlers.revert_volume,
        body=shapes.Revert,
        errors=(400, 404, 409),
        since=Version(3, 40),
    ),
    act(
        name="reimageVolume",
        needs_space=True,
        action="os-reimage",
        handler=handlers.reimage_volume,
        body=shapes.Reimage,
        errors=(400, 404, 409),
        since=Version(3, 68),
    ),
    act(
        name="uploadVolume",
        needs_space=True,
        action="os-volume_upload_image",
        handler=handlers.upload_volume,
        body=shapes.Upload,
        reply=shapes.UPLOAD,
        errors=(400, 404, 413),
        until=Version(3, 0),
    ),
    act(
        name="uploadVisibleVolume",
        needs_space=True,
        action="os-volume_upload_image",
        handler=handlers.upload_volume,
        body=shapes.UploadV31,
        reply=shapes.UPLOAD,
        errors=(400, 404, 413),
        since=Version(3, 1),
    ),
    act(
        name="setImageMetadata",
        action="os-set_image_metadata",
        handler=handlers.set_image_metadata,
        body=shapes.SetImageMetadata,
        success=200,
        reply=replies.METADATA,
        errors=(400, 404, 413),
    ),
    act(
        name="unsetImageMetadata",
        action="os-unset_image_metadata",
        handler=handlers.unset_image_metadata,
        body=shapes.UnsetImageMetadata,
        success=200,
    ),
    act(
        name="showImageMetadata",
        action="os-show_image_metadata",
        handler=handlers.show_image_metadata,
        success=200,
        reply=replies.METADATA,
        errors=(404,),
        policy=Policy.READER,
    ),
)
