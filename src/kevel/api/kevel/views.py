"""What users may see of attachments and comparisons: never connection_info (S10)."""

from __future__ import annotations

from typing import Any

import msgspec

from kevel.control.attachments.explaining import NextLook
from kevel.control.hosts.comparison import Examination
from kevel.domain.findings import Finding, describe_finding, describe_remedy, needs_person
from kevel.domain.model import Attachment, Path, Reason
from kevel.domain.status import attachment_status
from kevel.domain.swaps import Swap
from kevel.store.accounts import Account


def show_account(account: Account, next_look: NextLook, now: int, *, layers: bool = True) -> dict[str, Any]:
    """An attachment as its owner may see it; without `layers` as in lists."""
    attachment, explanation = account.attachment, account.explanation
    return {
        "id": attachment.id,
        "volume_id": attachment.volume_id,
        "server_id": attachment.server_id,
        "project_id": attachment.project_id,
        "status": attachment_status(attachment, [one.path for one in account.paths]),
        "goal": attachment.goal.value,
        "goal_by": attachment.goal_by,
        "goal_at": attachment.goal_at,
        "goal_request_id": attachment.goal_request_id,
        "deadline_at": attachment.deadline_at,
        "established": attachment.established,
        "device": attachment.device,
        "external": _show_external(attachment),
        "reason": _show_reason(attachment.reason),
        "created_at": attachment.created_at,
        "attached_at": attachment.attached_at,
        "closed_at": attachment.closed_at,
        "why": explanation.why,
        "waits_for": explanation.waits_for,
        "since": explanation.since,
        "finished": explanation.is_finished,
        "overdue": explanation.waits_for not in ("nobody", "client") and now > attachment.deadline_at,
        "next_try_at": next_look.at,
        "next_try_within_s": next_look.within_s,
        "paths": [
            _show_path(one.path) | ({"layers": msgspec.to_builtins(one.layers)} if layers else {})
            for one in account.paths
        ],
    }


def _show_external(attachment: Attachment) -> dict[str, Any] | None:
    if attachment.origin is None:
        return None
    return {
        "origin": attachment.origin.value,
        "instance_id": attachment.instance_id,
        "host": attachment.consumer_host,
        "mode": attachment.mode,
    }


def _show_path(path: Path) -> dict[str, Any]:
    return {
        "id": path.id,
        "host": path.host,
        "generation": path.generation,
        "rung": path.rung.name.lower(),
        "hands": path.hands.value,
        "changed_at": path.changed_at,
        "last_error": _show_reason(path.last_error),
    }


def _show_reason(reason: Reason | None) -> dict[str, Any] | None:
    return None if reason is None else msgspec.to_builtins(reason)


def show_swap_row(swap: Swap) -> dict[str, Any]:
    """A swap as its owner may see it."""
    return {
        "id": swap.id,
        "attachment_id": swap.attachment_id,
        "server_id": swap.server_id,
        "old_volume_id": swap.old_volume_id,
        "new_volume_id": swap.new_volume_id,
        "state": swap.state.value,
        "done_bytes": swap.done_bytes,
        "total_bytes": swap.total_bytes,
        "reason": _show_reason(swap.reason),
        "created_at": swap.created_at,
        "deadline_at": swap.deadline_at,
        "finished_at": swap.finished_at,
    }


def show_examination(examination: Examination) -> dict[str, Any]:
    """What comparisons found, with words."""
    return {
        "at": examination.at,
        "censuses": [{"subject": one.subject, "at": one.at, "counted": one.counted} for one in examination.censuses],
        "findings": [_show_finding(one) for one in examination.findings],
        "needs_person": any(needs_person(one) for one in examination.findings),
    }


def _show_finding(finding: Finding) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(finding)
    return shown | {
        "text": describe_finding(finding),
        "remedy": describe_remedy(finding),
        "needs_person": needs_person(finding),
    }
