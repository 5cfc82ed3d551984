"""One look at one path that this host holds: climb, step down, or make sure that it stands."""

from __future__ import annotations

from typing import Final

import structlog

from kevel.domain.assignments import Failure, PathAssignment, PathReport
from kevel.domain.errors import StepError, StepNever, StepRetry, StepUnknown
from kevel.domain.ladder import Goal, Hands, Rung, Step, next_step, target_rung
from kevel.domain.model import Reason, ServerRung
from kevel.domain.tuning import DiskTune
from kevel.host.disk_waits import check_storage_server, volume_file
from kevel.host.state import HostState
from kevel.hypervisor.base import DiskSpec, ServerView, VolumeBus
from kevel.runtime import failpoints
from kevel.runtime.reconciler import DONE, Again, Outcome, Retry
from kevel.storage.base import LocalDisk

log = structlog.get_logger(__name__)

#: How often a disk is asked for again whose guest has refused for good.
REFUSED_LOOK_S: Final = 15.0


class PathLooks:
    """Looks at paths for `kevel.runtime.reconciler`. Forgetting what it remembers costs time only."""

    def __init__(self, state: HostState) -> None:
        self._state = state
        #: When a guest was last asked to let go, by path (microseconds).
        self._asked: dict[str, int] = {}
        #: Paths of which an event said that the disk is gone, though it was there: events alone are not believed again.
        self._misled: set[str] = set()
        #: The goal revision for which a final failure has been reported, by path.
        self._given_up: dict[str, int] = {}
        self._last_told: dict[str, str] = {}
        #: The limits that the disk was plugged with or last seen to have, by path.
        self._tuned: dict[str, DiskTune] = {}
        #: Paths of volumes that were to take another's place, and that nothing fills any more.
        self._let_go: set[str] = set()

    async def look(self, path_id: str) -> Outcome:
        """One look; see the port in `kevel.runtime.reconciler`."""
        path = self._state.current_path(path_id)
        if path is None:
            if path_id in self._state.left:
                return await self._remove_left(self._state.left[path_id])
            if path_id not in self._state.paths:
                self._forget(path_id)
                self._tuned.pop(path_id, None)
                self._let_go.discard(path_id)
            return DONE
        server = self._state.servers.get(path.server_id)
        if path.server_wanted and (server is None or server.rung < ServerRung.DEFINED):
            return DONE  # the server's own look comes first, and wakes its paths
        if not path.server_wanted and path.server_id not in self._state.undefined:
            return DONE  # the domain goes first, so nothing waits for an unplug
        wanted, aside = path.server_wanted, path.aside
        target = target_rung(path.goal, server_wanted=wanted, withheld=path.withheld, aside=aside)
        if path.withheld and target is not Rung.RELEASED and (server is None or server.rung is not ServerRung.DEFINED):
            return DONE  # its guest ends first, and is not asked to let go
        step = next_step(path.rung, path.hands, target, path.effect_free)
        try:
            if step is None:
                return await self._check(path)
            return await (self._climb(path, step) if target > path.rung else self._step_down(path, step))
        except StepError as error:
            return await self._fail(path, error)

    async def _climb(self, path: PathAssignment, step: Step) -> Outcome:
        started = self._state.clock.now_us()
        self._state.check_lease()
        disk: LocalDisk | None = None
        for act in step.acts:
            if act == "connect_volume":
                disk = await self._connect(path)
            elif act == "plug_disk":
                disk = disk or await self._connect(path)
                spec = _disk_spec(path, disk)
                plug = self._state.hypervisor.plug_disk(path.server_id, spec)
                # An earlier attempt may have plugged it with other limits: those stay known, and are put right later.
                self._tuned.setdefault(path.id, path.tune)
                await self._state.effects.run(path.server_id, plug)
        plugged = path.volume_bytes if step.rung is Rung.PLUGGED else None
        await self._moved(path, step.rung, step.hands, started, plugged_bytes=plugged)
        return DONE

    async def _step_down(self, path: PathAssignment, step: Step) -> Outcome:
        asked = self._asked.get(path.id)
        started = asked or self._state.clock.now_us()
        if path.aside and path.server_wanted and path.id not in self._let_go:
            await self._stop_filling(path)
        for act in step.acts:
            if act == "unplug_disk" and not await self._unplug(path):
                if self._has_refused(path, asked):
                    return await self._refused(path)
                return Again(self._state.limits.unplug_look_s)
            if act == "disconnect_volume" and path.connection_info is not None:
                connector = self._state.connectors[path.connection_info["driver_volume_type"]]
                with failpoints.around(act):
                    await connector.disconnect_volume(volume_file(path), path.connection_info)
        self._tuned.pop(path.id, None)
        await self._moved(path, step.rung, step.hands, started, plugged_bytes=None)
        return DONE

    async def _stop_filling(self, path: PathAssignment) -> None:
        """A volume that waits for another's place may be being filled. Raises StepRetry when the guest has it now."""
        file = (await self._connect(path)).path
        if not await self._state.effects.run(path.server_id, self._state.hypervisor.end_swap(path.server_id, file)):
            raise StepRetry("The guest has this volume in another's place; which is whose is still to be recorded.")
        # A report of the next step may be lost, and the step done again: nothing may be connected then (S4).
        self._let_go.add(path.id)

    async def _remove_left(self, path: PathAssignment) -> Outcome:
        """Take out a disk that a released path has left: its tombstone proves that it was ours and is nobody's here."""
        asked = self._asked.get(path.id)
        try:
            gone = await self._unplug(path)
        except StepError as error:
            return Retry(error.message)
        if gone:
            self._state.left.pop(path.id, None)
            self._forget(path.id)
            return DONE
        return Again(REFUSED_LOOK_S if self._has_heard(asked) else self._state.limits.unplug_look_s)

    async def _unplug(self, path: PathAssignment) -> bool:
        """Ask, or look whether the guest has answered; True when the disk has been seen to be gone."""
        state, alias = self._state, path.alias
        now = state.clock.now_us()
        asked = self._asked.get(path.id)
        believed = alias in state.removed and path.id not in self._misled
        state.removed.discard(alias)
        if asked is not None and not believed and now - asked < state.limits.unplug_ask_again_s * 1e6:
            view = await state.effects.run(path.server_id, state.hypervisor.observe_server(path.server_id))
            if view is not None and view.live_disk(alias) is not None:
                return False
        else:
            self._asked[path.id] = now
        if path.server_wanted:
            await check_storage_server(state, path)
        gone = await state.effects.run(path.server_id, state.hypervisor.unplug_disk(path.server_id, alias))
        if believed and not gone:
            self._misled.add(path.id)
        return gone

    def _has_refused(self, path: PathAssignment, asked: int | None) -> bool:
        """Is the deadline over, and has the guest had its time? It may only just have been asked, if we heard late."""
        late = self._state.clock.now_us() > path.deadline_at
        return late and path.server_wanted and self._has_heard(asked)

    def _has_heard(self, asked: int | None) -> bool:
        """Has the guest had its time to answer?"""
        patience_us = self._state.limits.unplug_ask_again_s * 1e6
        return asked is not None and self._state.clock.now_us() - asked >= patience_us

    async def _check(self, path: PathAssignment) -> Outcome:
        """A path that stands where it should: is the disk really there, and does the guest know its size?"""
        suspect = self._state.suspect
        if path.aside or self._state.is_pivoting(path.id):
            return DONE
        if self._asked.pop(path.id, None) is not None:
            suspect.add(path.id)  # the guest was asked to let go, and may have heard
        known = path.plugged_bytes == path.volume_bytes and self._tuned.get(path.id) == path.tune
        if path.id not in suspect and known:
            return DONE
        suspect.discard(path.id)
        try:
            await self._compare(path)
        except BaseException:
            suspect.add(path.id)  # nothing was learnt, or nobody was told
            raise
        return DONE

    async def _compare(self, path: PathAssignment) -> None:
        state, alias = self._state, path.alias
        view = await state.effects.run(path.server_id, state.hypervisor.observe_server(path.server_id))
        started = state.clock.now_us()
        if view is None or not view.has_disk(alias):
            # A late answer to an old unplug, a guest that lost the disk, or a domain that is gone: the rung is lowered
            # to what is so, and climbed again once the server is there.
            self._tuned.pop(path.id, None)
            await self._moved(path, Rung.CONNECTED, Hands.HOST, started, plugged_bytes=None)
            return
        await self._prove(path, view)
        disks = (view.live_disk(alias), view.persistent_disk(alias))
        if any(disk is not None and disk.tune != path.tune for disk in disks):
            tune = state.hypervisor.tune_disk(path.server_id, alias, path.tune)
            await state.effects.run(path.server_id, tune)
        self._tuned[path.id] = path.tune
        if path.plugged_bytes != path.volume_bytes:
            resize = state.hypervisor.resize_disk(path.server_id, alias, path.volume_bytes)
            await state.effects.run(path.server_id, resize)
            await self._moved(path, path.rung, path.hands, started, plugged_bytes=path.volume_bytes)

    async def _prove(self, path: PathAssignment, view: ServerView | None) -> None:
        """The guest's disk is the volume still, by what the back end says of it now (S8). Raises StepNever."""
        expected = (await self._connect(path)).path
        for disks in () if view is None else (view.live, view.persistent):
            for disk in disks:
                seen = (disk.source_path, disk.serial, disk.encrypted)
                if disk.alias == path.alias and seen != (expected, path.serial, path.volume_format == "luks"):
                    if self._state.paths.get(path.id) is not path:
                        raise StepRetry("The disk was swapped while it was looked at.")
                    log.critical("wrong disk in a guest", path=path.id, volume=path.volume_id, server=path.server_id)
                    raise StepNever("The guest's disk is not this volume's; the disk was left as it is.")

    async def _connect(self, path: PathAssignment) -> LocalDisk:
        if path.connection_info is None:
            raise AssertionError(f"path {path.id} is exported without connection_info")
        connector = self._state.connectors[path.connection_info["driver_volume_type"]]
        try:
            with failpoints.around("connect_volume"):
                return await connector.connect_volume(volume_file(path), path.connection_info)
        except StepNever as error:
            if Rung.EXPORTED in path.effect_free:
                raise
            # An export that the storage has lost, with a process that died, is made again.
            raise StepRetry(error.message) from error

    async def _moved(
        self, path: PathAssignment, rung: Rung, hands: Hands, started: int, *, plugged_bytes: int | None
    ) -> None:
        self._forget(path.id)
        took_us = self._state.clock.now_us() - started
        report = PathReport(
            path_id=path.id,
            revision=path.revision,
            goal_revision=path.goal_revision,
            rung=rung,
            hands=hands,
            plugged_bytes=plugged_bytes,
            took_us=took_us,
        )
        await self._state.report_path(report, moved=True)
        server = self._state.servers.get(path.server_id)
        if rung is Rung.PLUGGED and server is not None and server.rung is ServerRung.DEFINED:
            self._state.wake_server(path.server_id)  # it may have waited for the disk

    async def _refused(self, path: PathAssignment) -> Outcome:
        message = "The guest has not released the disk, though it was asked several times; it may be busy, paused, or "
        message += "without a driver for hot-plug. The disk stays attached."
        if not path.established:
            message = message.replace("The disk stays attached.", "It is asked again, and at its next reboot.")
        await self._tell(path, "guest_refused", message, final=True)
        return Again(REFUSED_LOOK_S)

    async def _fail(self, path: PathAssignment, error: StepError) -> Outcome:
        climbing = path.goal is Goal.ATTACHED and path.server_wanted
        final = isinstance(error, StepNever)
        late = self._state.clock.now_us() > path.deadline_at
        if late and not path.established and climbing:
            final = True
        code = "plug_failed" if climbing else "unplug_failed"
        code = "hypervisor_silent" if isinstance(error, StepUnknown) else code
        await self._tell(path, code, error.message, final=final or (late and not climbing))
        return Again(REFUSED_LOOK_S) if final else Retry(error.message)

    async def _tell(self, path: PathAssignment, code: str, message: str, *, final: bool) -> None:
        """Report a failure, each once: what is known already is no news."""
        if final and self._given_up.get(path.id) == path.goal_revision:
            return
        if not final and self._last_told.get(path.id) == message:
            return
        reason = Reason(code=code, message=message, at=self._state.clock.now_us())
        report = PathReport(
            path_id=path.id,
            revision=path.revision,
            goal_revision=path.goal_revision,
            rung=path.rung,
            hands=path.hands,
            plugged_bytes=path.plugged_bytes,
            failure=Failure(reason=reason, final=final),
        )
        await self._state.report_path(report, moved=False)
        self._last_told[path.id] = message
        if final:
            self._given_up[path.id] = path.goal_revision

    def _forget(self, path_id: str) -> None:
        self._asked.pop(path_id, None)
        self._misled.discard(path_id)
        self._given_up.pop(path_id, None)
        self._last_told.pop(path_id, None)


def _disk_spec(path: PathAssignment, disk: LocalDisk) -> DiskSpec:
    return DiskSpec(
        alias=path.alias,
        serial=path.serial,
        source_path=disk.path,
        source_format=disk.format,
        size_bytes=disk.size_bytes,
        target=path.device.removeprefix("/dev/"),
        unit=path.unit,
        bus=VolumeBus(path.bus),
        read_only=path.read_only,
        shareable=path.shareable,
        tune=path.tune,
        passphrase=path.passphrase,
    )
