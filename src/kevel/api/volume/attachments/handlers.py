"""Attachments as Cinder's clients make, end and list them. Servers' own are ended through the compute API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kevel.api.operations import Call, Reply
from kevel.api.volume.attachments.bodies import NewModedFields
from kevel.api.volume.attachments.shapes import show_detail, show_summary
from kevel.api.volume.listing import read_query, read_scope
from kevel.api.volume.paging import page_reply, read_page
from kevel.control.attachments.external import Declared
from kevel.store.attachment_lists import SORT_COLUMNS, AttachmentFilter, AttachmentPage
from kevel.store.pages import Listed


async def list_attachments(call: Call) -> Reply:
    """Attachments with their ids and status only."""
    return await _list(call, lambda declared: show_summary(declared.view))


async def list_details(call: Call) -> Reply:
    """Attachments with all that the caller may see of them."""
    return await _list(call, lambda declared: show_detail(call, declared))


async def show_one(call: Call) -> Reply:
    """One attachment."""
    declared = await call.services.external.get(call.actor, call.path["attachment_id"])
    return Reply(body={"attachment": show_detail(call, declared)})


async def create_one(call: Call) -> Reply:
    """Claim a volume for a consumer, and with its connector let it in."""
    fields = call.body.attachment
    declared = await call.services.external.create(
        call.actor,
        fields.volume_uuid,
        instance_id=fields.instance_uuid,
        connector=fields.connector,
        mode=fields.mode if isinstance(fields, NewModedFields) else None,
    )
    return Reply(body={"attachment": show_detail(call, declared)})


async def update_one(call: Call) -> Reply:
    """Let the consumer in by its connector."""
    connector = call.body.attachment.connector
    declared = await call.services.external.update(call.actor, call.path["attachment_id"], connector)
    return Reply(body={"attachment": show_detail(call, declared)})


async def complete_one(call: Call) -> Reply:
    """The consumer has the volume."""
    await call.services.external.complete(call.actor, call.path["attachment_id"])
    return Reply()


async def delete_one(call: Call) -> Reply:
    """Let go; the volume's other attachments."""
    left = await call.services.external.delete(call.actor, call.path["attachment_id"])
    return Reply(body={"attachments": [show_summary(view) for view in left]})


async def _list(call: Call, show: Callable[[Declared], dict[str, Any]]) -> Reply:
    query = read_query(call)
    page = read_page(call, query, SORT_COLUMNS)
    wanted = AttachmentFilter(
        project_id=read_scope(call, query),
        volume_id=query.get("volume_id"),
        instance_id=query.get("instance_id", query.get("instance_uuid")),
        status=query.get("status", query.get("attach_status")),
    )
    (sort, down), *_ = page.sort
    wanted_page = AttachmentPage(limit=page.limit, sort=sort, down=down, marker=page.marker, offset=page.offset)
    found = await call.services.external.list(wanted, wanted_page)
    return page_reply(call, "attachments", Listed(rows=found, count=None), page, show)
