"""Bugs of the control plane: the worker on its rungs, the use cases, what volumes are in the middle of."""

from __future__ import annotations

from typing import Any

from msgspec import structs
from sqlalchemy.exc import OperationalError

from kevel.control.attachments.attachments import export_of, find_server
from kevel.domain.errors import Conflict, StepError, StepUnknown
from kevel.domain.ladder import Goal, Hands, Rung, Step
from kevel.runtime.reconciler import DONE
from kevel.store import attachments as rows
from kevel.store.hosts import touch_host
from kevel.store.path_moves import move_path, set_goal
from tests.planted.planting import Bug, Planting, bug

WORKER = "kevel.control.attachments.paths:PathWorker."


@bug("the export is announced and never made: connection_info is stored, the storage does not let the host in")
def skip_the_export(planting: Planting) -> None:
    def make(act: Any) -> Any:
        async def announce(worker: Any, step: Step, sight: Any, backend: Any) -> Any:
            if "export_volume" in step.acts and Rung.EXPORTED not in backend.effect_free:
                planting.bite()
                return backend.describe_export(export_of(sight.volume, sight.path))
            return await act(worker, step, sight, backend)

        return announce

    def make_none_again(again: Any) -> Any:
        async def leave(worker: Any, sight: Any, backend: Any) -> Any:
            return DONE

        return leave

    planting.replace(WORKER + "_act", make)
    # What is never made would be missed there, and made.
    planting.replace(WORKER + "_export_again", make_none_again)


@bug("the claim is released although an export may exist that was never recorded")
def forget_an_unrecorded_export(planting: Planting) -> None:
    def make(step_down: Any) -> Any:
        def forget(rung: Rung, hands: Hands, target: Rung, effect_free: Any) -> Step:
            step: Step = step_down(rung, hands, target, effect_free)
            if hands is Hands.CONTROL and rung is Rung.RESERVED:
                planting.bite()
                return Step(step.acts[1:], step.rung, step.hands)
            return step

        return forget

    planting.replace("kevel.domain.ladder:_step_down", make)


@bug("the release is recorded first and the export revoked afterwards; a crash in between leaves the host let in")
def record_the_release_before_the_revoke(planting: Planting) -> None:
    def make(act: Any) -> Any:
        async def record_first(worker: Any, step: Step, sight: Any, backend: Any) -> Any:
            if "revoke_export" not in step.acts:
                return await act(worker, step, sight, backend)
            planting.bite()
            at = worker._runtime.clock.now_us()
            more = {"rung": step.rung, "hands": step.hands, "actor": "control", "at": at}
            await worker._runtime.store.write(move_path, sight.path, **more)
            return await act(worker, step, sight, backend)

        return record_first

    planting.replace(WORKER + "_act", make)


@bug("facts 1, gap 7: what storage says to a revoke is logged and ignored; the export stays, the record goes")
def ignore_a_failed_revoke(planting: Planting) -> None:
    def make(act: Any) -> Any:
        async def ignore(worker: Any, step: Step, sight: Any, backend: Any) -> Any:
            try:
                return await act(worker, step, sight, backend)
            except StepError:
                if "revoke_export" not in step.acts:
                    raise
                planting.bite()
                return None

        return ignore

    planting.replace(WORKER + "_act", make)


@bug("facts 1, gap 6: the reply to an export is lost, it counts as failed, and the attachment goes without a revoke")
def forget_the_export_when_its_reply_is_lost(planting: Planting) -> None:
    def make(act: Any) -> Any:
        async def forget(worker: Any, step: Step, sight: Any, backend: Any) -> Any:
            try:
                return await act(worker, step, sight, backend)
            except StepUnknown:
                if "export_volume" not in step.acts:
                    raise
                planting.bite()
                await worker._runtime.store.write(_drop, sight.path.id, worker._runtime.clock.now_us())
                raise

        return forget

    planting.replace(WORKER + "_act", make)


def _drop(tx: Any, path_id: str, at: int, rung: Rung = Rung.RELEASED) -> None:
    """What Nova's handlers do: delete the record, whatever there is."""
    path = rows.load_path(tx, path_id)
    attachment = None if path is None else rows.load_attachment(tx, path.attachment_id)
    if path is None or attachment is None or path.rung is Rung.RELEASED:
        return
    if attachment.goal is Goal.ATTACHED:
        more: dict[str, Any] = {"request_id": attachment.goal_request_id, "actor": "control", "reason": None}
        set_goal(tx, attachment, Goal.DETACHED, by="rollback", at=at, deadline_at=at + 60_000_000, **more)
    move_path(tx, path, rung=rung, hands=Hands.CONTROL, actor="control", at=at)


@bug("error point 1 (measured): the save after the first row fails; the row stays, and nobody goes on with it")
def abandon_a_row_after_a_failed_save(planting: Planting) -> None:
    def make(look: Any) -> Any:
        async def abandon(worker: Any, path_id: str) -> Any:
            abandoned: set[str] = vars(worker).setdefault("planted", set())
            if path_id in abandoned:
                return DONE
            try:
                return await look(worker, path_id)
            except OperationalError:
                planting.bite()
                abandoned.add(path_id)
                return DONE

        return abandon

    planting.replace(WORKER + "look", make)


@bug("error point 3 (measured): the save after the reservation fails; its row is destroyed, the storage is not told")
def destroy_a_row_after_a_failed_save(planting: Planting) -> None:
    def make(look: Any) -> Any:
        async def destroy(worker: Any, path_id: str) -> Any:
            try:
                return await look(worker, path_id)
            except OperationalError:
                planting.bite()
                await worker._runtime.store.write(_drop, path_id, worker._runtime.clock.now_us())
                return DONE

        return destroy

    planting.replace(WORKER + "look", make)


@bug("error point 10 (measured): the save after `complete` fails; the attachment is deleted, the guest keeps the disk")
def delete_the_attachment_after_complete(planting: Planting) -> None:
    def make(report: Any) -> Any:
        async def complete(hosts: Any, host: str, epoch: int, servers: Any, paths: Any, *more: Any) -> Any:
            answer = await report(hosts, host, epoch, servers, paths, *more)
            runtime = hosts._runtime
            for path in paths:
                if path.rung is Rung.PLUGGED and path.failure is None:
                    try:
                        await runtime.store.write(touch_host, host, runtime.clock.now_us())
                    except OperationalError:
                        planting.bite()
                        await runtime.store.write(_drop, path.path_id, runtime.clock.now_us(), Rung.EXPORTED)
            return answer

        return complete

    planting.replace("kevel.control.hosts.hosts:Hosts.report", make)


@bug("no way out (facts A.2, E.1): a detach in the middle of an attach is refused with 409")
def refuse_a_detach_in_the_middle(planting: Planting) -> None:
    def make(detach: Any) -> Any:
        def refuse(tx: Any, server_id: str, volume_id: str, actor: Any, *more: Any) -> Any:
            find_server(tx, server_id, actor)
            attachment = rows.find_open(tx, server_id=server_id, volume_id=volume_id)
            if attachment is not None and not attachment.established:
                planting.bite()
                raise Conflict(f"Volume {volume_id} is attaching; it has to be in-use to be detached.")
            return detach(tx, server_id, volume_id, actor, *more)

        return refuse

    planting.replace("kevel.control.attachments.attachments:_detach", make)


@bug("E.1: every error of storage is ignored in a delete, so that the delete succeeds")
def ignore_storage_in_a_delete(planting: Planting) -> None:
    def make(act: Any) -> Any:
        async def ignore(worker: Any, volume: Any, operation: Any) -> None:
            try:
                await act(worker, volume, operation)
            except StepError:
                if operation.kind.value != "deleting":
                    raise
                planting.bite()

        return ignore

    planting.replace("kevel.control.volumes.worker:VolumeWorker._act", make)


@bug("a volume is deleted while somebody holds it: the check that no attachment is open is left out")
def delete_a_volume_that_is_held(planting: Planting) -> None:
    def make(view_volume: Any) -> Any:
        def hide(tx: Any, volume: Any) -> Any:
            view = view_volume(tx, volume)
            if view.attachments:
                planting.bite()
            return structs.replace(view, attachments=(), status="available")

        return hide

    planting.replace("kevel.control.volumes.volumes:view_volume", make, everywhere=False)


@bug("a name is exported again that was revoked: the path's generation does not count")
def export_under_the_volumes_own_name(planting: Planting) -> None:
    def make(export: Any) -> Any:
        def same(volume: Any, path: Any, **more: Any) -> Any:
            planting.bite()
            return structs.replace(export(volume, path, **more), path_id=volume.id, generation=1)

        return same

    planting.replace("kevel.control.attachments.attachments:export_of", make)


BUGS = tuple(value for value in list(vars().values()) if isinstance(value, Bug))
