"""What a host's agent reports of its paths, taken into the records."""

from __future__ import annotations

from collections.abc import Container, Mapping

from kevel.domain.assignments import PathReport
from kevel.domain.ladder import HANDOVER, Goal, Hands, Rung, Step, next_step
from kevel.domain.model import Path
from kevel.store.actions import finish_action
from kevel.store.attachments import load_attachment, load_path
from kevel.store.hosts import current_epoch
from kevel.store.path_moves import give_up, move_path, note_error
from kevel.store.transactions import Tx
from kevel.store.volumes import load_volume


def apply_path_report(
    tx: Tx,
    host: str,
    epoch: int,
    report: PathReport,
    *,
    at: int,
    refusal_deadline_at: int,
    effect_free: Mapping[str, Container[Rung]],
) -> bool:
    """What a host's agent saw of one path. False: outdated, and nothing was changed (S6, S11).

    `effect_free` has the rungs without effects by back end; they are passed in this transaction.
    """
    path = load_path(tx, report.path_id)
    if path is None or path.host != host or current_epoch(tx, host) != epoch:
        return False
    if path.revision != report.revision or path.hands is not Hands.HOST:
        return False
    if (path.rung, path.hands) != (report.rung, report.hands) or path.plugged_bytes != report.plugged_bytes:
        _move_reported(tx, path, report, at, effect_free)
        path = load_path(tx, report.path_id)
        if path is None:
            raise AssertionError("a path's row is never deleted")
    if report.failure is not None:
        _note_failure(tx, path, report, at, refusal_deadline_at)
    return True


def _move_reported(tx: Tx, path: Path, report: PathReport, at: int, effect_free: Mapping[str, Container[Rung]]) -> None:
    rung = report.rung
    if report.hands is Hands.CONTROL:
        step = _free_step(tx, path, effect_free)
        rung = rung if step is None else step.rung
    move_path(
        tx,
        path,
        rung=rung,
        hands=report.hands,
        actor=f"host:{path.host}",
        at=at,
        plugged_bytes=report.plugged_bytes,
        took_us=report.took_us,
    )
    if report.plugged_bytes is not None and path.rung is Rung.PLUGGED:
        finish_action(tx, subject_id=path.id, action="extend_volume", at=at)


def _free_step(tx: Tx, path: Path, effect_free: Mapping[str, Container[Rung]]) -> Step | None:
    """The control plane's next step after a hand-back, where it needs no act outside the record."""
    attachment = load_attachment(tx, path.attachment_id)
    volume = load_volume(tx, path.volume_id)
    if attachment is None or volume is None or attachment.goal is not Goal.DETACHED:
        return None
    free = effect_free[volume.backend]
    return next_step(HANDOVER, Hands.CONTROL, Rung.RELEASED, free) if HANDOVER in free else None


def _note_failure(tx: Tx, path: Path, report: PathReport, at: int, refusal_deadline_at: int) -> None:
    """Keep the reason; a final failure may turn the attachment round, once for each request."""
    failure = report.failure
    attachment = load_attachment(tx, path.attachment_id)
    if failure is None or attachment is None:
        raise AssertionError(f"path {path.id} has no attachment, or its report no failure")
    actor = f"host:{path.host}"
    revision = report.goal_revision
    note_error(tx, path, attachment, failure.reason, final=failure.final, goal_revision=revision, actor=actor, at=at)
    if failure.final and revision == attachment.goal_revision:
        give_up(tx, attachment, failure.reason, at=at, actor=actor, deadline_at=refusal_deadline_at)
