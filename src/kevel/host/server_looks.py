"""One look at one server of this host: bring it a step nearer to its goal, or follow what its guest did.

Which step that is stands in `kevel.domain.server_life`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import msgspec
import structlog

from kevel.domain.assignments import Failure, ServerAssignment, ServerReport
from kevel.domain.devices import volume_bus
from kevel.domain.encryption import Passphrase
from kevel.domain.errors import StepError, StepNever, StepRetry
from kevel.domain.model import GIB, BootKind, Reason, ServerGoal, ServerRung
from kevel.domain.rescues import RescuePlace
from kevel.domain.server_life import LEAVES_HOST, MOVES, next_move
from kevel.host.disk_waits import check_storage_servers, prove_exports
from kevel.host.state import HostState
from kevel.hypervisor.base import DomainSpec, PowerState, RescueSpec, ServerView, VolumeBus
from kevel.runtime.reconciler import DONE, Again, Outcome, Retry

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: How often a guest that was asked to shut down or reboot is looked at, besides events.
GUEST_LOOK_S: Final = 0.5

#: How often the storage is asked for that a guest waits for.
DISK_LOOK_S: Final = 1.0

#: What is true of a server whose guest the hypervisor shows so; with another power there is none.
_SEEN: Final = {
    PowerState.RUNNING: ServerRung.RUNNING,
    PowerState.PAUSED: ServerRung.PAUSED,
    PowerState.SUSPENDED: ServerRung.SUSPENDED,
}


class ServerLooks:
    """Looks at servers for `kevel.runtime.reconciler`. Forgetting what it remembers costs time only."""

    def __init__(self, state: HostState) -> None:
        self._state = state
        #: The goal revision for which the server has been brought to rest, by server.
        self._settled: dict[str, int] = {}
        #: When the guest was asked to shut down or reboot: (for which revision of the goal, microseconds).
        self._asked: dict[str, tuple[int, int]] = {}

    def forget(self, server_id: str) -> None:
        """The server is gone."""
        self._settled.pop(server_id, None)
        self._asked.pop(server_id, None)

    async def look(self, server_id: str) -> Outcome:
        """One look; see the port in `kevel.runtime.reconciler`."""
        if server_id in self._state.unsure:
            # Not every step is harmless when it is done once more: a reboot that has been recorded is over.
            return Retry("it is not known yet whether the last report was recorded")
        server = self._state.current_server(server_id)
        if server is None:
            return DONE
        try:
            if server.goal in LEAVES_HOST:
                return await self._remove(server)
            self._state.undefined.discard(server.id)
            if server.extras.doomed is not None:
                raise StepNever(server.extras.doomed.message)
            if server.shape < server.wanted_shape and server.rung >= ServerRung.DEFINED:
                return await self._reshape(server)
            if server.goal in (ServerGoal.STOPPED, ServerGoal.SHELVED):
                return await self._stop(server)
            return await self._bring_nearer(server)
        except StepError as error:
            return await self._fail(server, error)

    async def _reshape(self, server: ServerAssignment) -> Outcome:
        """End the guest, then make the domain anew; the goal says how it goes on from there."""
        if server.rung is not ServerRung.DEFINED:
            return await self._shut_down(server)
        started = self._state.clock.now_us()
        # An earlier start may have taken effect without having been recorded.
        await self._effect(server, self._state.hypervisor.power_off(server.id))
        await self._wait_for_disks(server)
        await self._effect(server, self._state.hypervisor.define_server(self._spec(server)))
        await self._moved(server, ServerRung.DEFINED, server.boot, started, shape=server.wanted_shape)
        return DONE

    async def _bring_nearer(self, server: ServerAssignment) -> Outcome:
        """One step towards a goal that needs a guest."""
        state, started = self._state, self._state.clock.now_us()
        is_above = server.rung > ServerRung.DEFINED
        if server.goal is ServerGoal.RUNNING and is_above and server.boot < server.wanted_boot:
            return await self._reboot(server)
        move = MOVES.get((server.goal, server.rung))
        if move is not None and is_above:
            return await self._change_guest(server, started)
        if move is None or move.act == "tell_end":
            if move is not None or server.id in state.suspect:
                state.suspect.discard(server.id)
                try:
                    return await self._follow(server)
                except BaseException:
                    state.suspect.add(server.id)  # nothing was learnt, or nobody was told
                    raise
            return DONE
        # The definition is made sure of first: whoever turned round here may have taken it away.
        await self._effect(server, state.hypervisor.define_server(self._spec(server)))
        if move.rung is ServerRung.DEFINED:
            await self._moved(server, move.rung, server.boot, started, shape=server.wanted_shape)
        else:
            await self._start(server)
            await self._moved(server, move.rung, server.wanted_boot, started, shape=server.wanted_shape)
        return DONE

    async def _change_guest(self, server: ServerAssignment, started: int) -> Outcome:
        """Pause, unpause, suspend or resume the guest, if there still is one."""
        view = await self._observe(server)
        if view is None or view.power not in _SEEN:
            await self._tell_end(server, view)
            return DONE
        # What is done and not recorded has to be found: whoever turns round here follows the guest first.
        self._state.suspect.add(server.id)
        rung = _SEEN[view.power]
        if (move := MOVES.get((server.goal, rung))) is not None:  # from where it really is
            await self._act(server, move.act)
            rung = move.rung
        if server.rung is ServerRung.SUSPENDED:
            self._state.suspect.update(self._state.paths_of[server.id])  # disks may have come meanwhile
        await self._moved(server, rung, server.boot, started)
        return DONE

    async def _act(self, server: ServerAssignment, act: str) -> None:
        hypervisor = self._state.hypervisor
        if act == "resume_guest":
            await check_storage_servers(self._state, server.id)
            await self._effect(server, hypervisor.resume_guest(server.id, self._disks(server.id)))
        elif act == "unpause_guest":
            await self._effect(server, hypervisor.unpause_guest(server.id))
        elif act == "pause_guest":
            await self._effect(server, hypervisor.pause_guest(server.id))
        elif act == "suspend_guest":
            await self._effect(server, hypervisor.suspend_guest(server.id))
        else:
            raise AssertionError(f"{act} is no change of a guest")

    async def _reboot(self, server: ServerAssignment) -> Outcome:
        state, now = self._state, self._state.clock.now_us()
        asked_for, asked_at = self._asked.get(server.id, (0, now))
        grace_s = state.limits.reboot_grace_s
        patient = server.boot_kind is BootKind.SOFT and not self._is_long_ago(server, asked_at, grace_s)
        if patient and asked_for != server.goal_revision:
            state.rebooted.discard(server.id)
            self._asked[server.id] = (server.goal_revision, now)
            try:
                await self._effect(server, state.hypervisor.ask_reboot(server.id))
            except StepRetry:
                self._asked[server.id] = (server.goal_revision, 0)
            return Again(GUEST_LOOK_S)
        if server.boot_kind is BootKind.SOFT and server.id in state.rebooted:
            await self._moved(server, ServerRung.RUNNING, server.wanted_boot, asked_at)
            state.rebooted.discard(server.id)
            return DONE
        if patient:
            return Again(GUEST_LOOK_S)
        await self._effect(server, state.hypervisor.power_off(server.id))
        await self._effect(server, state.hypervisor.define_server(self._spec(server)))
        await self._start(server)
        await self._moved(server, ServerRung.RUNNING, server.wanted_boot, now, shape=server.wanted_shape)
        return DONE

    async def _start(self, server: ServerAssignment) -> None:
        """Start the guest, with the volumes that it boots with in its definition: seen there, not taken for granted."""
        self._state.check_lease()
        await self._wait_for_disks(server)
        await check_storage_servers(self._state, server.id)
        # Of any other disk, nobody knows whose it is by now.
        strays = await self._effect(server, self._state.hypervisor.start_server(server.id, self._disks(server.id)))
        for alias in strays:
            log.warning("a disk that is not the server's was in its definition", server=server.id, disk=alias)

    async def _wait_for_disks(self, server: ServerAssignment) -> None:
        """Raise StepRetry until the volumes that the server boots with are in its definition, to stay there."""
        if not server.boot_disks:
            return
        view = await self._observe(server)
        paths = (self._state.paths.get(path_id) for path_id in self._state.paths_of[server.id])
        withheld = {path.alias for path in paths if path is not None and path.withheld}
        missing = {
            volume_id
            for alias, volume_id in server.boot_disks.items()
            if alias in withheld or view is None or view.persistent_disk(alias) is None
        }
        if missing:
            volumes = ", ".join(sorted(missing))
            raise StepRetry(f"The server is not started before it has its volumes; it still waits for {volumes}.")

    async def _stop(self, server: ServerAssignment) -> Outcome:
        state, now = self._state, self._state.clock.now_us()
        if server.rung is ServerRung.PLACED and server.launched:
            # Its definition was lost: without one, volumes could neither come nor go.
            await self._effect(server, state.hypervisor.define_server(self._spec(server)))
            await self._moved(server, ServerRung.DEFINED, server.boot, now, shape=server.wanted_shape)
            return DONE
        if not server.rung.has_process:
            if self._settled.get(server.id) != server.goal_revision or server.id in state.suspect:
                # A start may have taken effect without having been recorded.
                await self._effect(server, state.hypervisor.power_off(server.id))
                state.suspect.discard(server.id)
                self._settled[server.id] = server.goal_revision
            if server.rung is ServerRung.SUSPENDED:
                await self._moved(server, ServerRung.DEFINED, server.boot, now)
            return DONE
        return await self._shut_down(server)

    async def _shut_down(self, server: ServerAssignment) -> Outcome:
        """Have the guest shut itself down, or cut its power when it has had its time."""
        state, now = self._state, self._state.clock.now_us()
        asked_for, asked_at = self._asked.get(server.id, (0, now))
        hears = server.rung is ServerRung.RUNNING
        patient = hears and not self._is_long_ago(server, asked_at, state.limits.shutdown_grace_s)
        if patient and asked_for != server.goal_revision:
            self._asked[server.id] = (server.goal_revision, now)
            try:
                await self._effect(server, state.hypervisor.ask_shutdown(server.id))
            except StepRetry:
                self._asked[server.id] = (server.goal_revision, 0)
            return Again(GUEST_LOOK_S)
        view = await self._observe(server)
        if view is not None and view.runs:
            if patient:
                return Again(GUEST_LOOK_S)
            await self._effect(server, state.hypervisor.power_off(server.id))
        self._settled[server.id] = server.goal_revision
        await self._moved(server, ServerRung.DEFINED, server.boot, asked_at)
        return DONE

    def _is_long_ago(self, server: ServerAssignment, asked_at: int, grace_s: float) -> bool:
        """Has the guest had its time? Not an agent that dies again and again either may make it last for ever."""
        now = self._state.clock.now_us()
        requested_at = server.deadline_at - self._state.limits.server_timeout_s * 1e6
        return now - asked_at >= grace_s * 1e6 or now - requested_at >= 2 * grace_s * 1e6

    async def _remove(self, server: ServerAssignment) -> Outcome:
        if server.id not in self._state.undefined:
            started = self._state.clock.now_us()
            # Also behind a tombstone: a definition may have been made and never recorded.
            await self._effect(server, self._state.hypervisor.undefine_server(server.id))
            if server.rung > ServerRung.OFFLOADED:
                # Reported before it is remembered: a report that was lost is made again.
                await self._moved(server, ServerRung.PLACED, server.boot, started)
                self._state.undefined.add(server.id)
                self._state.wake_server(server.id)
        # Meanwhile it may have been placed here again.
        if server.rung <= ServerRung.OFFLOADED and self._state.servers.get(server.id) is server:
            self._state.forget_server(server.id)
            self.forget(server.id)
        return DONE

    async def _follow(self, server: ServerAssignment) -> Outcome:
        """A server that should have a guest and may not, or another one than is recorded: put it right, or tell."""
        view = await self._observe(server)
        if view is None or view.power not in _SEEN:
            await self._tell_end(server, view)
            return DONE
        seen = _SEEN[view.power]
        if server.rung < ServerRung.SUSPENDED:
            await self._moved(server, seen, server.boot, self._state.clock.now_us())
            return DONE
        if view.waits_for_disk and server.rung is ServerRung.RUNNING:
            return await self._let_go_on(server)
        if seen is not server.rung:
            # A change that was never recorded, or one that somebody made beside us.
            self._state.suspect.add(server.id)
            await self._act(server, MOVES[server.goal, seen].act)
            self._state.wake_server(server.id)
            return DONE
        for copy_id in set(view.copies).difference(self._state.copies):
            # Nobody's order (any more): it would keep its target open for ever.
            await self._effect(server, self._state.hypervisor.end_copy(server.id, copy_id))
        return DONE

    async def _let_go_on(self, server: ServerAssignment) -> Outcome:
        """Let a guest that a disk's error has stopped make its request again, once its volumes can be reached.

        However often it takes, it is no failure of the server's: nothing of the guest is lost meanwhile.
        """
        self._state.suspect.add(server.id)  # it may be stopped again at once, or by another disk
        try:
            await prove_exports(self._state, server.id)
        except StepError as error:
            log.warning("a guest waits for its disk", server=server.id, reason=error.message)
            return Again(DISK_LOOK_S)
        await self._act(server, "unpause_guest")
        return Again(GUEST_LOOK_S)

    async def _tell_end(self, server: ServerAssignment, view: ServerView | None) -> None:
        """There is no guest any more: tell what became of it."""
        if view is None:
            code, message, rung = "domain_gone", "The hypervisor no longer knows this server.", ServerRung.PLACED
        elif server.rung is ServerRung.SUSPENDED:
            code, message, rung = "memory_lost", "The suspended server's memory is gone.", ServerRung.DEFINED
        elif view.power is PowerState.CRASHED or view.stop_reason in ("crashed", "failed"):
            code, message, rung = "guest_crashed", "The server's guest process died.", ServerRung.DEFINED
        else:
            code, message, rung = "guest_ended", "The server's guest shut itself down.", ServerRung.DEFINED
        self._state.suspect.update(self._state.paths_of[server.id])
        now = self._state.clock.now_us()
        ended = Reason(code=code, message=message, at=now)
        await self._moved(server, rung, server.boot, now, ended=ended)

    async def _observe(self, server: ServerAssignment) -> ServerView | None:
        return await self._effect(server, self._state.hypervisor.observe_server(server.id))

    async def _effect(self, server: ServerAssignment, call: Coroutine[Any, Any, T]) -> T:
        return await self._state.effects.run(server.id, call)

    async def _moved(
        self,
        server: ServerAssignment,
        rung: ServerRung,
        boot: int,
        started: int,
        *,
        ended: Reason | None = None,
        shape: int | None = None,
    ) -> None:
        report = ServerReport(
            server_id=server.id,
            revision=server.revision,
            goal_revision=server.goal_revision,
            rung=rung,
            boot=boot,
            shape=shape,
            took_us=self._state.clock.now_us() - started,
            ended=ended,
        )
        moved = (rung, boot, shape or server.shape) != (server.rung, server.boot, server.shape)
        moved = moved or server.goal in LEAVES_HOST
        await self._state.report_server(report, moved=moved)
        self._asked.pop(server.id, None)

    async def _fail(self, server: ServerAssignment, error: StepError) -> Outcome:
        late = self._state.clock.now_us() > server.deadline_at
        final = isinstance(error, StepNever) or late
        if not final:
            return Retry(error.message)
        try:
            rung = await self._settle(server)
        except StepError as unsettled:
            return Retry(unsettled.message)  # the control plane's deadline bounds it
        reason = server.extras.doomed or Reason(
            code="server_failed", message=error.message, at=self._state.clock.now_us()
        )
        report = ServerReport(
            server_id=server.id,
            revision=server.revision,
            goal_revision=server.goal_revision,
            rung=rung,
            boot=server.boot,
            failure=Failure(reason=reason, final=True),
        )
        if rung is not server.rung:
            self._state.suspect.update(self._state.paths_of[server.id])
        await self._state.report_server(report, moved=rung is not server.rung)
        return Retry(error.message)

    async def _settle(self, server: ServerAssignment) -> ServerRung:
        """The rung on which a failure for good leaves the server: the last step may have taken effect unrecorded.

        The record keeps what it says then (S13), so it is made true, or told otherwise.
        """
        next_one = next_move(server.goal, server.rung, reshaping=server.shape < server.wanted_shape)
        is_under_way = next_one is not None or server.boot < server.wanted_boot
        if server.goal in LEAVES_HOST or not is_under_way:
            return server.rung
        if server.rung <= ServerRung.DEFINED:
            await self._effect(server, self._state.hypervisor.power_off(server.id))
            return server.rung
        view = await self._observe(server)
        return ServerRung.PLACED if view is None else _SEEN.get(view.power, ServerRung.DEFINED)

    def _disks(self, server_id: str) -> dict[str, Passphrase | None]:
        """The disks that the server may have, and what opens those that are encrypted."""
        state = self._state
        paths = {path_id: state.paths.get(path_id) for path_id in state.paths_of.get(server_id, ())}
        return {
            state.paths_of[server_id][path_id]: None if path is None else path.passphrase
            for path_id, path in paths.items()
        }

    def _spec(self, server: ServerAssignment) -> DomainSpec:
        image, flavor, rescue = server.image, server.flavor, server.extras.rescue
        shelf = server.extras.shelf
        # Of a server that comes back from the shelf, the root disk is made of what was kept of it, in its own format.
        root = image if shelf is None or shelf.root is None else {"file": shelf.root.file}
        booted = image if rescue is None else rescue
        properties = booted.get("properties") or {}
        specs = flavor.get("extra_specs") or {}
        return DomainSpec(
            server_id=server.id,
            memory_mib=int(flavor["ram_mib"]),
            vcpus=int(flavor["vcpus"]),
            image_path=self._find_file(root, "file"),
            image_format=image["disk_format"],
            root_bytes=int(flavor["disk_gib"]) * GIB,
            root_number=server.extras.root_number,
            rescue=None if rescue is None else self._rescue_spec(rescue),
            kernel_path=self._find_file(booted, "kernel_file"),
            initrd_path=self._find_file(booted, "ramdisk_file"),
            cmdline=properties.get("os_command_line", ""),
            volume_bus=VolumeBus(volume_bus(image)),
            traits={key: value for key, value in specs.items() if key.startswith("sim:")},
        )

    def _rescue_spec(self, rescue: dict[str, Any]) -> RescueSpec:
        path = self._find_file(rescue, "file")
        if path is None:
            raise StepNever("The rescue image has no file.")
        place = rescue.get("place")
        return RescueSpec(
            number=rescue["number"],
            image_path=path,
            image_format=rescue["disk_format"],
            place=None if place is None else msgspec.convert(place, RescuePlace),
        )

    def _find_file(self, image: dict[str, Any], name: str) -> str | None:
        file = image.get(name)
        return None if file is None else str(self._state.config.data_dir / file)
