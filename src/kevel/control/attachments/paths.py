"""The worker that moves paths on the rungs that the control plane holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import structlog

from kevel.control.attachments.attachments import export_of
from kevel.control.runtime import Runtime
from kevel.control.secrets import Sealer
from kevel.domain.errors import StaleWrite, StepNever, StepRetry, StepUnknown
from kevel.domain.ladder import Goal, Hands, Rung, Step, external_target, next_step, target_rung
from kevel.domain.limits import Limits
from kevel.domain.model import Attachment, Path, Reason, Volume
from kevel.domain.server_life import LEAVES_HOST
from kevel.runtime import failpoints
from kevel.runtime.reconciler import DONE, Again, Outcome, Retry
from kevel.storage.base import Backend, ConnectionInfo, Export
from kevel.store.attachments import load_attachment, load_path, paths_in_control
from kevel.store.external_moves import give_up_export
from kevel.store.path_moves import give_up, keep_waiting, move_path, note_error
from kevel.store.servers import load_server
from kevel.store.transactions import Tx
from kevel.store.volumes import is_withheld, load_volume

log = structlog.get_logger(__name__)

ACTOR: Final = "control"


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """All that a look reads of a path, in one snapshot."""

    path: Path
    attachment: Attachment
    volume: Volume
    server_wanted: bool
    #: The volume's contents are being replaced.
    withheld: bool


class PathWorker:
    """Looks at paths for `kevel.runtime.reconciler`."""

    def __init__(self, runtime: Runtime, backends: Mapping[str, Backend], sealer: Sealer, limits: Limits) -> None:
        self._runtime = runtime
        self._backends = backends
        self._sealer = sealer
        self._limits = limits

    async def unfinished(self) -> list[str]:
        """Paths that the control plane holds: looked at after a start and by every sweep."""
        return await self._runtime.store.read(paths_in_control)

    async def look(self, path_id: str) -> Outcome:
        """Make the next step of one path, if it is the control plane's."""
        sight = await self._runtime.store.read_point(_see, path_id)
        path = sight.path
        backend = self._backends[sight.volume.backend]
        if path.rung is Rung.RELEASED:
            return await self._revoke_again(sight, backend)
        step = next_step(path.rung, path.hands, _target(sight), backend.effect_free)
        if step is None and sight.attachment.is_external and path.rung is Rung.EXPORTED:
            return await self._export_again(sight, backend)
        if path.hands is Hands.HOST:
            return await self._export_again(sight, backend)
        if step is None:
            return DONE
        if _climbs(sight) and not sight.volume.made:
            return DONE  # a server is made with a volume that is being made: its worker wakes the path
        started = self._runtime.clock.now_us()
        try:
            info = await self._act(step, sight, backend)
        except StepNever as error:
            return await self._refused(sight, error.message)
        except (StepRetry, StepUnknown) as error:
            return await self._try_later(sight, error.message)
        took_us = self._runtime.clock.now_us() - started
        sealed = None if info is None else self._sealer.seal(path.id, info)
        await self._runtime.store.write(
            move_path,
            path,
            rung=step.rung,
            hands=step.hands,
            actor=ACTOR,
            at=self._runtime.clock.now_us(),
            connection_info=sealed,
            took_us=took_us,
        )
        is_there = sight.attachment.is_external and step.rung is Rung.EXPORTED
        return DONE if step.rung is Rung.RELEASED or is_there else Again(0)

    async def _export_again(self, sight: Sight, backend: Backend) -> Outcome:
        """A path that is not the control plane's to move is looked at because the storage lacks its export.

        Nobody revokes that meanwhile: the path would have to come back first, and then be looked at here.
        """
        if Rung.EXPORTED in backend.effect_free:
            return DONE
        try:
            await backend.export_volume(_export(sight))
        except StepNever as error:
            await self._note(sight, error.message)
            return DONE
        except (StepRetry, StepUnknown) as error:
            await self._note(sight, error.message)
            return Retry(error.message)
        return DONE

    async def _revoke_again(self, sight: Sight, backend: Backend) -> Outcome:
        """A tombstone is looked at because the storage still lists its export, which a late call may have made."""
        if Rung.EXPORTED in backend.effect_free:
            return DONE
        try:
            await backend.revoke_export(_export(sight))
        except StepNever as error:
            log.warning("export left behind", path=sight.path.id, reason=error.message)
        except (StepRetry, StepUnknown) as error:
            return Retry(error.message)
        return DONE

    async def _act(self, step: Step, sight: Sight, backend: Backend) -> ConnectionInfo | None:
        export = _export(sight)
        info: ConnectionInfo | None = None
        for act in step.acts:
            if act == "export_volume":
                with failpoints.around(act):
                    info = await backend.export_volume(export)
            elif act == "revoke_export":
                with failpoints.around(act):
                    await backend.revoke_export(export)
            elif act != "release_claim":
                raise AssertionError(f"{act} is not the control plane's")
        return info

    async def _refused(self, sight: Sight, message: str) -> Outcome:
        if _climbs(sight):
            await self._give_up(sight, "export_refused", message)
            return DONE
        # Only a guest's refusal turns a detach round. Here the disk is gone, and the export's name may be revoked.
        at = self._runtime.clock.now_us()
        reason = Reason(code="revoke_refused", message=message, at=at)
        await self._runtime.store.write(keep_waiting, sight.attachment, reason, at=at)
        return Retry(message)

    async def _try_later(self, sight: Sight, message: str) -> Outcome:
        if _climbs(sight) and self._runtime.clock.now_us() > sight.attachment.deadline_at:
            await self._give_up(sight, "export_timeout", message)
        else:
            await self._note(sight, message)
        return Retry(message)

    async def _note(self, sight: Sight, message: str) -> None:
        """Keep why the last step failed, where the user can read it; the same again is no news."""
        known = sight.path.last_error
        if known is not None and known.message == message:
            return
        at = self._runtime.clock.now_us()
        code = "export_failed" if _climbs(sight) else "revoke_failed"
        reason = Reason(code=code, message=message, at=at)
        await self._runtime.store.write(_note_error, sight.path, reason, at)

    async def _give_up(self, sight: Sight, code: str, message: str) -> None:
        at = self._runtime.clock.now_us()
        reason = Reason(code=code, message=message, at=at)
        deadline_at = at + int(self._limits.detach_timeout_s * 1e6)
        store, attachment = self._runtime.store, sight.attachment
        if attachment.is_external:
            await store.write(
                give_up_export, attachment, reason, actor=ACTOR, at=at, deadline_at=deadline_at, free=False
            )
        else:
            await store.write(give_up, attachment, reason, at=at, actor=ACTOR, deadline_at=deadline_at)


def _target(sight: Sight) -> Rung:
    if sight.attachment.is_external:
        return external_target(dropped=sight.path.dropped)
    goal, aside = sight.attachment.goal, sight.attachment.aside
    return target_rung(goal, server_wanted=sight.server_wanted, withheld=sight.withheld, aside=aside)


def _climbs(sight: Sight) -> bool:
    return sight.attachment.goal is Goal.ATTACHED and sight.server_wanted and not sight.path.dropped


def _export(sight: Sight) -> Export:
    return export_of(sight.volume, sight.path, mode=sight.attachment.mode)


def _note_error(tx: Tx, seen: Path, reason: Reason, at: int) -> None:
    path, attachment = load_path(tx, seen.id), load_attachment(tx, seen.attachment_id)
    if path is None or attachment is None or path.revision != seen.revision:
        raise StaleWrite
    revision = attachment.goal_revision
    note_error(tx, path, attachment, reason, final=False, goal_revision=revision, actor=ACTOR, at=at)


def _see(tx: Tx, path_id: str) -> Sight:
    path = load_path(tx, path_id)
    if path is None:
        raise AssertionError(f"path {path_id} has no row")
    attachment = load_attachment(tx, path.attachment_id)
    volume = load_volume(tx, path.volume_id)
    server = None if path.server_id is None else load_server(tx, path.server_id)
    if attachment is None or volume is None:
        raise AssertionError(f"path {path_id} has no attachment or volume")
    wanted = server is None or server.goal not in LEAVES_HOST
    withheld = is_withheld(tx, volume.id)
    return Sight(path=path, attachment=attachment, volume=volume, server_wanted=wanted, withheld=withheld)
