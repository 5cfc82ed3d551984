"""How attachments are shown, and connection_info to those who may see it."""

from __future__ import annotations

from typing import Any

from kevel.api.operations import Call, Policy
from kevel.api.volume.values import show_time
from kevel.api.volume.views import attach_mode
from kevel.control.attachments.external import Declared
from kevel.domain.model import Attachment
from kevel.domain.status import attachment_status
from kevel.store.attachments import AttachmentView


def show_summary(view: AttachmentView) -> dict[str, Any]:
    """A line of the short list."""
    attachment = view.attachment
    return {
        "id": attachment.id,
        "status": attachment_status(attachment, view.paths),
        "instance": attachment.server_id or attachment.instance_id,
        "volume_id": attachment.volume_id,
    }


def show_detail(call: Call, declared: Declared) -> dict[str, Any]:
    """One attachment. What one of our own hosts connects by is for that host alone (S10): its connection_info is empty.

    An external consumer's is shown flat, as Cinder does, to whoever may also change it: a reader sees none, nor, where
    another service connected it for its user, anybody but that service and admins.
    """
    attachment = declared.view.attachment
    return show_summary(declared.view) | {
        "attached_at": show_time(attachment.attached_at) or "",
        "detached_at": show_time(attachment.closed_at) or "",
        "attach_mode": attach_mode(attachment, readonly=declared.readonly),
        "connection_info": _show_flat(declared) if may_see_info(call, attachment) else {},
    }


def may_see_info(call: Call, attachment: Attachment) -> bool:
    """May the caller see how the consumer connects?"""
    caller = call.caller
    mine = attachment.service_user_id in (None, caller.service_user_id)
    return caller.is_admin or (mine and caller.may(Policy.MEMBER))


def _show_flat(declared: Declared) -> dict[str, Any]:
    info, path = declared.info, declared.view.path
    if info is None or path is None:
        return {}
    return {
        **info["data"],
        **_options(declared),
        "driver_volume_type": info["driver_volume_type"],
        "attachment_id": declared.view.attachment.id,
        "enforce_multipath": _wants_multipath(declared),
    }


def show_connection(declared: Declared) -> dict[str, Any]:
    """connection_info as the old flow has it: the driver's keys in a dictionary of their own."""
    info = declared.info
    if info is None:
        return {}
    return {
        "driver_volume_type": info["driver_volume_type"],
        "data": {**info["data"], **_options(declared)},
        "enforce_multipath": _wants_multipath(declared),
    }


def _options(declared: Declared) -> dict[str, Any]:
    mode = attach_mode(declared.view.attachment, readonly=declared.readonly)
    return {
        "qos_specs": None,
        "access_mode": "ro" if mode == "ro" else "rw",
        "encrypted": declared.encrypted,
        "cacheable": False,
    }


def _wants_multipath(declared: Declared) -> bool:
    path = declared.view.path
    return path is not None and bool((path.connector or {}).get("enforce_multipath", False))
