"""The rows of the attachments API."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.operations import Version
from kevel.api.volume import replies
from kevel.api.volume.attachments import bodies, handlers
from kevel.api.volume.rows import PAGE_QUERY, read, write

QUERY: Final = (
    *PAGE_QUERY,
    "all_tenants",
    "project_id",
    "status",
    "attach_status",
    "instance_id",
    "instance_uuid",
    "volume_id",
)
_SINCE: Final = Version(3, 27)
_create = partial(
    write,
    reply=replies.ATTACHMENT,
    new_id="/attachment/id",
    needs_space=True,
    method="POST",
    path="/attachments",
    handler=handlers.create_one,
    errors=(400, 404, 409, 500),
)

ATTACHMENTS: Final = (
    read(
        name="listAttachments",
        reply=replies.ATTACHMENTS,
        query_names=QUERY,
        new_id="/attachments/0/id",
        path="/attachments",
        handler=handlers.list_attachments,
        errors=(400, 404),
        since=_SINCE,
    ),
    read(
        name="listAttachmentDetails",
        reply=replies.ATTACHMENT_DETAILS,
        query_names=QUERY,
        path="/attachments/detail",
        handler=handlers.list_details,
        errors=(400, 404),
        since=_SINCE,
    ),
    read(
        name="showAttachment",
        reply=replies.ATTACHMENT,
        path="/attachments/{attachment_id}",
        handler=handlers.show_one,
        errors=(404,),
        since=_SINCE,
    ),
    _create(name="createAttachment", body=bodies.CreateAttachment, since=_SINCE, until=Version(3, 53)),
    _create(name="createModedAttachment", body=bodies.CreateModedAttachment, since=Version(3, 54)),
    write(
        name="updateAttachment",
        reply=replies.ATTACHMENT,
        method="PUT",
        path="/attachments/{attachment_id}",
        handler=handlers.update_one,
        body=bodies.UpdateAttachment,
        errors=(400, 404, 409, 500),
        since=_SINCE,
    ),
    write(
        name="deleteAttachment",
        reply=replies.ATTACHMENTS,
        method="DELETE",
        path="/attachments/{attachment_id}",
        handler=handlers.delete_one,
        errors=(404, 409, 500),
        since=_SINCE,
    ),
    write(
        name="completeAttachment",
        reply=None,
        method="POST",
        path="/attachments/{attachment_id}/action",
        action="os-complete",
        handler=handlers.complete_one,
        success=204,
        errors=(404, 409),
        since=Version(3, 44),
    ),
)
