"""Bugs of the host's agent: what it does out of turn, forgets, believes or says too early."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from kevel.domain.errors import StepRetry, StepUnknown
from kevel.domain.ladder import Goal, Hands, Rung, Step
from kevel.domain.model import ServerRung
from kevel.host.disk_waits import volume_file
from kevel.runtime.reconciler import DONE
from tests.planted.planting import Bug, Planting, bug

LOOKS = "kevel.host.path_looks:PathLooks."
STATE = "kevel.host.state:HostState."


@bug("a step down undoes only what is recorded; an effect whose record was lost stays")
def forget_the_rung_above_going_down(planting: Planting) -> None:
    def make(highest_effect: Any) -> Any:
        def forget(rung: Rung, effect_free: Any) -> Rung:
            if highest_effect(rung, effect_free) is not rung:
                planting.bite()
            return rung

        return forget

    planting.replace("kevel.domain.ladder:_highest_effect", make)


@bug("the recorded rung is trusted upwards; the connection went with the host's power, and nobody makes it again")
def forget_the_current_rung_going_up(planting: Planting) -> None:
    def make(connect: Any) -> Any:
        disks: dict[tuple[str, int], Any] = {}  # kept on the host's disk: it outlives the agent's life

        async def remember(looks: Any, path: Any) -> Any:
            key = (path.id, path.volume_bytes)
            if key not in disks:
                disks[key] = await connect(looks, path)
            elif path.rung >= Rung.CONNECTED:
                planting.bite()
            return disks[key]

        return remember

    planting.replace(LOOKS + "_connect", make)


def _memory(looks: Any) -> dict[Any, Any]:
    """What a bug remembers in one life of the agent."""
    memory: dict[Any, Any] = vars(looks).setdefault("planted", {})
    return memory


@bug("the record says `plugged` before the hypervisor was asked; a crash in between leaves in-use without a disk")
def record_the_plug_before_acting(planting: Planting) -> None:
    def make(climb: Any) -> Any:
        async def record_first(looks: Any, path: Any, step: Step) -> Any:
            if step.rung is Rung.PLUGGED:
                planting.bite()
                started = looks._state.clock.now_us()
                await looks._moved(path, step.rung, step.hands, started, plugged_bytes=path.volume_bytes)
            return await climb(looks, path, step)

        return record_first

    planting.replace(LOOKS + "_climb", make)


@bug("the unplug's request is taken for its completion (Nova 1882521): the row goes while the guest has the disk")
def release_before_the_unplug_is_seen(planting: Planting) -> None:
    def make(unplug: Any) -> Any:
        async def believe(looks: Any, path: Any) -> bool:
            if not await unplug(looks, path):
                planting.bite()
            return True

        return believe

    planting.replace(LOOKS + "_unplug", make)


@bug("facts 1, gap 1 (Nova 1960401): after a timeout the row goes `as nobody will pick it up`; the host still does")
def take_a_timeout_for_a_failure(planting: Planting) -> None:
    def make(climb: Any) -> Any:
        async def give_back(looks: Any, path: Any, step: Step) -> Any:
            try:
                return await climb(looks, path, step)
            except StepUnknown:
                planting.bite()
                started = looks._state.clock.now_us()
                await looks._moved(path, Rung.EXPORTED, Hands.CONTROL, started, plugged_bytes=None)
                return DONE

        return give_back

    planting.replace(LOOKS + "_climb", make)


@bug("a lost answer to an unplug is read as success, and the volume is given free")
def free_on_a_lost_reply(planting: Planting) -> None:
    def make(unplug: Any) -> Any:
        async def believe(looks: Any, path: Any) -> bool:
            try:
                return bool(await unplug(looks, path))
            except StepUnknown:
                planting.bite()
                return True

        return believe

    planting.replace(LOOKS + "_unplug", make)


@bug("a refused unplug is logged and ignored (Cinder's remove_export, facts 1, gap 7)")
def go_on_after_a_refused_unplug(planting: Planting) -> None:
    def make(unplug: Any) -> Any:
        async def ignore(looks: Any, path: Any) -> bool:
            try:
                return bool(await unplug(looks, path))
            except StepRetry:
                planting.bite()
                return True

        return ignore

    planting.replace(LOOKS + "_unplug", make)


@bug("a look beside a call that is still under way sees no disk, and that is taken for proof")
def take_an_early_absence_for_proof(planting: Planting) -> None:
    def make(unplug: Any) -> Any:
        async def look_beside(looks: Any, path: Any) -> bool:
            state = looks._state
            view = await state.hypervisor.observe_server(path.server_id)
            if view is None or path.alias not in {disk.alias for disk in (*view.live, *view.persistent)}:
                if state.effects._locks[path.server_id].locked():
                    planting.bite()
                return True
            return bool(await unplug(looks, path))

        return look_beside

    planting.replace(LOOKS + "_unplug", make)


@bug("a call that ran past its deadline is forgotten; the next one runs beside it")
def forget_an_overdue_call(planting: Planting) -> None:
    def make(leave_running: Any) -> Any:
        def forget(effects: Any, task: asyncio.Task[Any], lock: asyncio.Lock) -> None:
            planting.bite()
            task.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception() and None)
            lock.release()

        return forget

    planting.replace("kevel.host.effects:Effects._leave_running", make)


@bug("the volume is handed back for its export to be revoked while the guest still has the disk")
def hand_back_before_the_unplug(planting: Planting) -> None:
    def make(step_down: Any) -> Any:
        def hurry(rung: Rung, hands: Hands, target: Rung, effect_free: Any) -> Step:
            if hands is Hands.HOST and rung is Rung.PLUGGED:
                planting.bite()
                return Step(("disconnect_volume",), Rung.EXPORTED, Hands.CONTROL)
            step: Step = step_down(rung, hands, target, effect_free)
            return step

        return hurry

    planting.replace("kevel.domain.ladder:_step_down", make)


@bug("the host's connection is cut before the guest has let go (libvirt driver: disconnect, then detach)")
def disconnect_before_the_unplug(planting: Planting) -> None:
    def make(step_down: Any) -> Any:
        async def cut_first(looks: Any, path: Any, step: Step) -> Any:
            if path.rung is Rung.PLUGGED and path.connection_info is not None:
                planting.bite()
                connector = looks._state.connectors[path.connection_info["driver_volume_type"]]
                await connector.disconnect_volume(volume_file(path), path.connection_info)
            return await step_down(looks, path, step)

        return cut_first

    planting.replace(LOOKS + "_step_down", make)


@bug("the agent keeps the assignment it has while the path's revision is the same, and never hears of a new goal")
def ignore_the_goal_flip(planting: Planting) -> None:
    def make(take: Any) -> Any:
        def keep(agent: Any, found: Any, **more: Any) -> None:
            known, paths = agent._state.paths, []
            for path in found.paths:
                old = known.get(path.id)
                if old is not None and old.revision == path.revision and path.hands is Hands.HOST:
                    if old.goal is not path.goal:
                        planting.bite()
                    paths.append(old)
                else:
                    paths.append(path)
            take(agent, msgspec.structs.replace(found, paths=tuple(paths)), **more)

        return keep

    planting.replace("kevel.host.agent:Agent._take", make)


@bug(
    "the agent acts on an assignment that it has already reported as done",
    unseen="harmless: acts look first, and the report of the second one is outdated",
)
def act_on_an_outdated_assignment(planting: Planting) -> None:
    def make(report_path: Any) -> Any:
        async def keep(state: Any, report: Any, *, moved: bool) -> None:
            await report_path(state, report, moved=False)
            if moved:
                planting.bite()

        return keep

    planting.replace(STATE + "report_path", make)


@bug("a report is ticked off before it is sent; when it is lost nobody sends it again")
def tick_a_report_off_before_it_is_taken(planting: Planting) -> None:
    def make(report_path: Any) -> Any:
        async def tick_first(state: Any, report: Any, *, moved: bool) -> None:
            if moved:
                planting.bite()
                state.reported[report.path_id] = report.revision
            await report_path(state, report, moved=moved)

        return tick_first

    planting.replace(STATE + "report_path", make)


@bug("a server's removal is remembered before it is told; when the report is lost the delete never ends")
def remember_a_removal_before_it_is_told(planting: Planting) -> None:
    def make(remove: Any) -> Any:
        async def remember_first(looks: Any, server: Any) -> Any:
            if server.id not in looks._state.undefined:
                await looks._effect(server, looks._state.hypervisor.undefine_server(server.id))
                planting.bite()
                looks._state.undefined.add(server.id)
                if server.rung is not ServerRung.GONE:
                    await looks._moved(server, ServerRung.PLACED, server.boot, looks._state.clock.now_us())
                    looks._state.wake_server(server.id)
            return await remove(looks, server)

        return remember_first

    planting.replace("kevel.host.server_looks:ServerLooks._remove", make)


@bug("a removal event is believed without a look; a late or false one frees a disk that the guest has")
def believe_a_removal_event(planting: Planting) -> None:
    def make(unplug: Any) -> Any:
        async def believe(looks: Any, path: Any) -> bool:
            if path.alias in looks._state.removed:
                planting.bite()
                looks._state.removed.discard(path.alias)
                return True
            return bool(await unplug(looks, path))

        return believe

    planting.replace(LOOKS + "_unplug", make)


@bug("facts 1, gap 9: nothing compares records with the hypervisor, neither on a schedule nor after a restart")
def take_no_census(planting: Planting) -> None:
    def make(compare: Any) -> Any:
        def skip(agent: Any, *seen: Any) -> None:
            planting.bite()

        return skip

    planting.replace("kevel.host.agent:Agent._compare", make)


@bug("an agent that starts again, or whose hypervisor did, believes that all is as it was")
def suspect_nothing_after_a_restart(planting: Planting) -> None:
    def make(take: Any) -> Any:
        def trust(agent: Any, found: Any, *, first: bool, **rest: Any) -> None:
            if first:
                planting.bite()
            take(agent, found, first=False, **rest)

        return trust

    def deafen(hear: Any) -> Any:
        def ignore(agent: Any, event: Any) -> None:
            if event.kind.value != "reconnected":
                hear(agent, event)

        return ignore

    planting.replace("kevel.host.agent:Agent._take", make)
    planting.replace("kevel.host.agent:Agent.hear", deafen)
    take_no_census.plant(planting)


@bug("the new size is recorded and answered before the guest has it (Nova: a warning in the log, facts A.15)")
def record_the_size_before_the_guest_has_it(planting: Planting) -> None:
    def make(compare: Any) -> Any:
        async def record(looks: Any, path: Any) -> None:
            if path.plugged_bytes != path.volume_bytes:
                planting.bite()
                started = looks._state.clock.now_us()
                await looks._moved(path, path.rung, path.hands, started, plugged_bytes=path.volume_bytes)
                return
            await compare(looks, path)

        return record

    planting.replace(LOOKS + "_compare", make)


@bug("Nova 2112187: a guest gets the disk that is remembered under a name, which is another volume's by now")
def plug_the_volume_remembered_for_the_device(planting: Planting) -> None:
    def make(connect: Any) -> Any:
        async def remember(looks: Any, path: Any) -> Any:
            disk = await connect(looks, path)
            before = _memory(looks).setdefault((path.server_id, path.device), disk)
            if before.path != disk.path:
                planting.bite()
            return before

        return remember

    planting.replace(LOOKS + "_connect", make)


@bug("the server is recorded as stopped before its guest has ended")
def record_the_stop_before_the_guest_ends(planting: Planting) -> None:
    def make(stop: Any) -> Any:
        async def record(looks: Any, server: Any) -> Any:
            if server.rung is ServerRung.RUNNING:
                planting.bite()
                looks._settled[server.id] = server.goal_revision
                await looks._moved(server, ServerRung.DEFINED, server.boot, looks._state.clock.now_us())
                return DONE
            return await stop(looks, server)

        return record

    planting.replace("kevel.host.server_looks:ServerLooks._stop", make)


@bug(
    "what was made for a deleted server and never recorded stays: the agent forgets a tombstone unseen",
    unseen="the simulator takes no domain away behind Kevel's back, and makes servers only before faults begin",
)
def leave_what_a_tombstone_finds(planting: Planting) -> None:
    def make(remove: Any) -> Any:
        async def forget(looks: Any, server: Any) -> Any:
            if server.rung is ServerRung.GONE:
                planting.bite()
                looks._state.forget_server(server.id)
                looks.forget(server.id)
                return DONE
            return await remove(looks, server)

        return forget

    planting.replace("kevel.host.server_looks:ServerLooks._remove", make)


@bug("a connection's secret stands in the reason that the user reads (OSSN-0085, OSSA-2019-003)")
def tell_a_secret_in_a_reason(planting: Planting) -> None:
    def make(tell: Any) -> Any:
        async def blab(looks: Any, path: Any, code: str, message: str, *, final: bool) -> None:
            planting.bite()
            await tell(looks, path, code, f"{message} ({path.connection_info})", final=final)

        return blab

    planting.replace(LOOKS + "_tell", make)


@bug("error point 7 (measured): the save after the plug fails, and the host is disconnected under the guest's disk")
def disconnect_after_a_failed_save(planting: Planting) -> None:
    def make(moved: Any) -> Any:
        async def roll_back(looks: Any, path: Any, rung: Rung, hands: Hands, started: int, **more: Any) -> None:
            try:
                await moved(looks, path, rung, hands, started, **more)
            except Exception:
                if rung is Rung.PLUGGED and path.rung is not Rung.PLUGGED:
                    planting.bite()
                    connector = looks._state.connectors[path.connection_info["driver_volume_type"]]
                    await connector.disconnect_volume(volume_file(path), path.connection_info)
                    await moved(looks, path, Rung.EXPORTED, Hands.CONTROL, started, plugged_bytes=None)
                    return
                raise

        return roll_back

    planting.replace(LOOKS + "_moved", make)


@bug("error point 8 (measured): the save after the plug fails, and the attachment is deleted; the guest keeps the disk")
def give_back_after_a_failed_save(planting: Planting) -> None:
    def make(moved: Any) -> Any:
        async def roll_back(looks: Any, path: Any, rung: Rung, hands: Hands, started: int, **more: Any) -> None:
            try:
                await moved(looks, path, rung, hands, started, **more)
            except Exception:
                if rung is not Rung.PLUGGED or path.goal is not Goal.ATTACHED:
                    raise
                planting.bite()
                await moved(looks, path, Rung.EXPORTED, Hands.CONTROL, started, plugged_bytes=None)

        return roll_back

    planting.replace(LOOKS + "_moved", make)


class _Everything(dict[str, None]):
    """Every disk is the server's."""

    def __contains__(self, alias: object) -> bool:
        return True


@bug("a definition is believed at a start, though a loss of power has brought back a disk that was taken out of it")
def start_with_whatever_is_defined(planting: Planting) -> None:
    def make(disks: Any) -> Any:
        def believe(looks: Any, server_id: str) -> Any:
            planting.bite()
            return _Everything(disks(looks, server_id))

        return believe

    planting.replace("kevel.host.server_looks:ServerLooks._disks", make)


@bug("a start that fails for good is told without a look: the guest of an earlier one, never recorded, runs on")
def tell_a_failed_start_without_a_look(planting: Planting) -> None:
    def make(settle: Any) -> Any:
        async def trust(looks: Any, server: Any) -> Any:
            planting.bite()
            return server.rung

        return trust

    planting.replace("kevel.host.server_looks:ServerLooks._settle", make)


@bug("a disk behind its path's tombstone is found and left to people, who do not come")
def leave_a_disk_behind_its_tombstone(planting: Planting) -> None:
    def make(remove_left: Any) -> Any:
        async def leave(looks: Any, path: Any) -> Any:
            planting.bite()
            return DONE

        return leave

    planting.replace(LOOKS + "_remove_left", make)


BUGS = tuple(value for value in list(vars().values()) if isinstance(value, Bug))
