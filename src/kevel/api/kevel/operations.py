"""The table of /kevel/v1 and its handlers."""

from __future__ import annotations

from typing import Any

import msgspec

from kevel.api.operations import VERSIONS_PATH, Api, Call, ErrorStyle, Operation, Policy, Reply
from kevel.control.attachments import History
from kevel.domain.status import attachment_status


async def show_versions(call: Call) -> Reply:
    """The one version."""
    link = {"rel": "self", "href": call.base_url}
    return Reply(body={"versions": [{"id": "v1", "status": "CURRENT", "links": [link]}]})


async def show_attachment(call: Call) -> Reply:
    """An attachment, open or closed: what is wanted, where each path stands, and why."""
    return Reply(body={"attachment": attachment_view(await call.services.attachments.history(call.actor, _id(call)))})


async def show_journal(call: Call) -> Reply:
    """Every move of an attachment and its paths, oldest first."""
    found = await call.services.attachments.history(call.actor, _id(call))
    return Reply(body={"journal": [msgspec.to_builtins(entry) for entry in found.journal]})


async def list_server_attachments(call: Call) -> Reply:
    """Every attachment that the server has had, closed ones included, oldest first."""
    found = await call.services.attachments.histories(call.actor, call.path["server_id"])
    return Reply(body={"attachments": [attachment_view(one) for one in found]})


def attachment_view(history: History) -> dict[str, Any]:
    """The attachment as its owner may see it: no connection_info (S10)."""
    attachment = history.attachment
    return {
        "id": attachment.id,
        "volume_id": attachment.volume_id,
        "server_id": attachment.server_id,
        "status": attachment_status(attachment, history.paths),
        "goal": attachment.goal.value,
        "goal_by": attachment.goal_by,
        "goal_at": attachment.goal_at,
        "deadline_at": attachment.deadline_at,
        "established": attachment.established,
        "device": attachment.device,
        "reason": None if attachment.reason is None else msgspec.to_builtins(attachment.reason),
        "created_at": attachment.created_at,
        "attached_at": attachment.attached_at,
        "closed_at": attachment.closed_at,
        "paths": [
            {
                "id": path.id,
                "host": path.host,
                "generation": path.generation,
                "rung": path.rung.name.lower(),
                "hands": path.hands.value,
                "changed_at": path.changed_at,
                "last_error": None if path.last_error is None else msgspec.to_builtins(path.last_error),
            }
            for path in history.paths
        ],
    }


def _id(call: Call) -> str:
    return call.path["attachment_id"]


OPERATIONS = (
    Operation(
        name="show_versions",
        method="GET",
        path=VERSIONS_PATH,
        handler=show_versions,
        policy=Policy.PUBLIC,
        success=300,
    ),
    Operation(
        name="show_attachment",
        method="GET",
        path="/attachments/{attachment_id}",
        handler=show_attachment,
        policy=Policy.READER,
        errors=(404,),
    ),
    Operation(
        name="show_attachment_journal",
        method="GET",
        path="/attachments/{attachment_id}/journal",
        handler=show_journal,
        policy=Policy.READER,
        errors=(404,),
    ),
    Operation(
        name="list_server_attachments",
        method="GET",
        path="/servers/{server_id}/attachments",
        handler=list_server_attachments,
        policy=Policy.READER,
        errors=(404,),
    ),
)

API = Api(name="kevel", prefix="/kevel/v1", operations=OPERATIONS, error_style=ErrorStyle.COMPUTE)
