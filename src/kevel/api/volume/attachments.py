"""Attachments as Cinder shows them. Servers' attachments are made and ended through the compute API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kevel.api.operations import Call, Reply
from kevel.api.volume.listing import cut_page, read_page, read_query, with_links
from kevel.api.volume.values import read_flag
from kevel.api.volume.views import show_attachment, show_attachment_summary
from kevel.domain.status import attachment_status
from kevel.store.attachments import AttachmentView


async def list_attachments(call: Call) -> Reply:
    """Attachments with their ids and status only."""
    return await _list(call, lambda view, _: show_attachment_summary(view))


async def list_details(call: Call) -> Reply:
    """Attachments with all that users see of them."""
    return await _list(call, lambda view, readonly: show_attachment(view, readonly=readonly))


async def show_one(call: Call) -> Reply:
    """One attachment."""
    view = await call.services.attachments.get(call.actor, call.path["attachment_id"])
    readonly = await call.services.volumes.readonly_among([view.attachment.volume_id])
    return Reply(body={"attachment": show_attachment(view, readonly=bool(readonly))})


async def _list(call: Call, show: Callable[[AttachmentView, bool], dict[str, Any]]) -> Reply:
    query = read_query(call)
    page = read_page(call, query)
    found = await call.services.attachments.list(call.actor, all_projects=read_flag(query, "all_tenants"))
    found = [view for view in reversed(found) if _matches(view, query)]
    shown, has_more = cut_page(found, [view.attachment.id for view in found], page)
    readonly = await call.services.volumes.readonly_among([view.attachment.volume_id for view in shown])
    rows = [show(view, view.attachment.volume_id in readonly) for view in shown]
    last_id = shown[-1].attachment.id if shown else ""
    return Reply(body=with_links(call, "attachments", rows, page=page, has_more=has_more, last_id=last_id))


def _matches(view: AttachmentView, query: dict[str, str]) -> bool:
    attachment = view.attachment
    status = query.get("status", query.get("attach_status"))
    server_id = query.get("instance_id", query.get("instance_uuid"))
    return (
        query.get("volume_id", attachment.volume_id) == attachment.volume_id
        and (server_id is None or server_id == attachment.server_id)
        and (status is None or status == attachment_status(attachment, view.paths))
    )
