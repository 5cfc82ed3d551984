"""What an agent does with a server: define, start, reboot, stop, remove, and follow what its guest does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kevel.domain.errors import StepNever, StepRetry
from kevel.domain.ladder import Hands, Rung
from kevel.domain.model import BootKind, Reason, ServerExtras, ServerGoal, ServerRung
from kevel.hypervisor.base import PowerState, RescueSpec
from tests.unit.host.world import ALIAS, LIMITS, World, after_us, assigned_path, assigned_server, quiet, until

STAYS = {
    ServerGoal.RUNNING: ServerRung.RUNNING,
    ServerGoal.PAUSED: ServerRung.PAUSED,
    ServerGoal.SUSPENDED: ServerRung.SUSPENDED,
}
SEEN = {
    ServerRung.RUNNING: PowerState.RUNNING,
    ServerRung.PAUSED: PowerState.PAUSED,
    ServerRung.SUSPENDED: PowerState.SUSPENDED,
}


async def make_true(world: World, rung: ServerRung) -> None:
    """Bring the guest there beside the agent."""
    hypervisor, seen = world.hypervisor, power(world)
    if seen is PowerState.PAUSED:
        await hypervisor.unpause_guest("server")
    elif seen is PowerState.SUSPENDED:
        await hypervisor.resume_guest("server", {})
    if rung is ServerRung.PAUSED:
        await hypervisor.pause_guest("server")
    elif rung is ServerRung.SUSPENDED:
        await hypervisor.suspend_guest("server")


def power(world: World) -> PowerState:
    return world.hypervisor.servers["server"].power


def ended(world: World) -> list[str]:
    """Codes of the ends that guests came to by themselves."""
    return [report.ended.code for report in world.control.server_reports if report.ended is not None]


def failures(world: World) -> list[Reason]:
    return [report.failure.reason for report in world.control.server_reports if report.failure is not None]


def reboot(world: World, kind: BootKind) -> None:
    world.control.change_server(wanted_boot=world.control.server.wanted_boot + 1, boot_kind=kind)


def has_booted(world: World) -> bool:
    return world.control.server.boot == world.control.server.wanted_boot


async def test_a_new_server_is_defined_and_started_each_recorded() -> None:
    world = World()
    async with world.running():
        assert [report.rung for report in world.control.server_reports] == [ServerRung.DEFINED, ServerRung.RUNNING]
        assert power(world) is PowerState.RUNNING
        assert world.control.server.boot == 1
        spec = world.hypervisor.servers["server"].spec
        assert (spec.image_path, spec.image_format) == ("/data/images/one", "raw")


async def test_a_guest_is_not_started_before_its_disks_are_plugged() -> None:
    world = World()
    world.control.put(assigned_server(boot_disks={ALIAS: "volume", "ua-other": "other"}))
    world.control.put(assigned_path(established=True))
    async with world.agent():
        await until(lambda: world.control.path.rung is Rung.PLUGGED)
        await quiet()
        assert power(world) is PowerState.SHUTOFF
        assert world.control.server.rung is ServerRung.DEFINED
        world.control.change_server(boot_disks={ALIAS: "volume"})
        await until(lambda: power(world) is PowerState.RUNNING)
        assert world.hypervisor.live()


async def test_a_server_whose_disks_never_come_fails_with_their_names() -> None:
    world = World()
    world.control.put(assigned_server(boot_disks={"ua-other": "other"}, deadline_at=after_us(0.2)))
    async with world.agent():
        await until(lambda: bool(failures(world)))
        assert "still waits for other" in failures(world)[0].message
        assert world.hypervisor.count("start_server") == 0


async def test_a_soft_reboot_is_done_when_the_guest_says_that_it_has_rebooted() -> None:
    world = World()
    async with world.running():
        reboot(world, BootKind.SOFT)
        await until(lambda: has_booted(world))
        assert world.hypervisor.count("ask_reboot") == 1
        assert world.hypervisor.count("power_off") == 0


@pytest.mark.parametrize("refusal", ["silent guest", "nobody answers"])
async def test_a_soft_reboot_that_the_guest_does_not_make_falls_back_to_a_hard_one(refusal: str) -> None:
    world = World()
    async with world.running():
        if refusal == "silent guest":
            world.hypervisor.behave(shutdown="refuse")
        else:
            world.hypervisor.fail_next("ask_reboot", StepRetry("Nobody in the guest answers."))
        reboot(world, BootKind.SOFT)
        await until(lambda: has_booted(world))
        assert world.hypervisor.count("ask_reboot") == 1
        assert world.hypervisor.count("power_off") == 1
        assert power(world) is PowerState.RUNNING


async def test_an_earlier_reboot_of_the_guests_own_is_not_taken_for_the_one_that_was_asked_for() -> None:
    world = World()
    async with world.running() as agent:
        agent._state.rebooted.add("server")
        world.hypervisor.behave(shutdown="refuse")
        reboot(world, BootKind.SOFT)
        await until(lambda: has_booted(world))
        assert world.hypervisor.count("power_off") == 1


async def test_a_hard_reboot_ends_the_guests_process_and_keeps_its_disks() -> None:
    world = World()
    async with world.running(revision=1):
        reboot(world, BootKind.HARD)
        await until(lambda: has_booted(world))
        assert world.hypervisor.servers["server"].boots == 2
        assert world.hypervisor.live()
        assert world.hypervisor.count("ask_reboot") == 0


async def test_a_reboot_that_was_recorded_is_not_made_again_though_nobody_answered() -> None:
    world = World()
    async with world.running(revision=1):
        world.control.lose_answer_next = 1
        world.control.poll_takes_s = 0.6  # longer than it takes to try again
        reboot(world, BootKind.HARD)
        await until(lambda: has_booted(world))
        world.control.change_server(goal=ServerGoal.STOPPED)
        await until(lambda: world.control.server.rung is ServerRung.DEFINED)
        assert world.hypervisor.servers["server"].boots == 2
        assert world.hypervisor.servers["server"].stop_reason == "shutdown"


async def test_a_stop_whose_agents_died_over_it_is_not_asked_of_the_guest_for_ever() -> None:
    world = World()
    world.control.put(assigned_server())
    limits = msgspec.structs.replace(LIMITS, shutdown_grace_s=20.0)
    async with world.agent(limits):
        await until(lambda: world.control.server.rung is ServerRung.RUNNING)
        world.hypervisor.behave(shutdown="refuse")
        world.control.change_server(goal=ServerGoal.STOPPED, deadline_at=after_us(limits.server_timeout_s - 45.0))
        await until(lambda: world.control.server.rung is ServerRung.DEFINED)
        assert world.hypervisor.servers["server"].stop_reason == "destroyed"


async def test_a_server_is_stopped_by_its_guest_where_that_answers() -> None:
    world = World()
    async with world.running():
        world.control.change_server(goal=ServerGoal.STOPPED)
        await until(lambda: world.control.server.rung is ServerRung.DEFINED)
        assert world.hypervisor.servers["server"].stop_reason == "shutdown"
        assert ended(world) == [], "it was asked to"


async def test_a_guest_that_does_not_shut_down_loses_its_power_after_the_grace() -> None:
    world = World()
    async with world.running():
        world.hypervisor.behave(shutdown="refuse")
        world.control.change_server(goal=ServerGoal.STOPPED)
        await until(lambda: world.control.server.rung is ServerRung.DEFINED)
        assert power(world) is PowerState.SHUTOFF
        assert world.hypervisor.servers["server"].stop_reason == "destroyed"


async def test_a_start_that_was_never_recorded_is_undone_when_the_server_is_to_be_stopped() -> None:
    world = World()
    async with world.running():
        pass
    world.control.change_server(goal=ServerGoal.STOPPED, rung=ServerRung.DEFINED)
    async with world.agent():
        await until(lambda: power(world) is PowerState.SHUTOFF)
        await quiet(0.05)
        assert world.control.server.rung is ServerRung.DEFINED


@pytest.mark.parametrize(
    ("event", "code", "rung"),
    [
        ("shutdown", "guest_ended", ServerRung.DEFINED),
        ("crash", "guest_crashed", ServerRung.DEFINED),
        ("lost", "domain_gone", ServerRung.PLACED),
    ],
)
async def test_a_guest_that_ends_by_itself_is_reported_with_the_reason(event: str, code: str, rung: ServerRung) -> None:
    world = World()
    async with world.running():
        if event == "shutdown":
            await world.hypervisor.ask_shutdown("server")
        elif event == "crash":
            world.hypervisor.crash_guest("server")
        else:
            world.hypervisor.crash_guest("server")
            world.hypervisor.servers.clear()
        await until(lambda: ended(world))
        assert ended(world) == [code]
        assert rung in [report.rung for report in world.control.server_reports if report.ended is not None]


async def test_a_lost_report_of_a_guests_end_is_made_again() -> None:
    world = World()
    async with world.running():
        world.control.lose_next = 1
        world.hypervisor.crash_guest("server")
        await until(lambda: ended(world))
        assert ended(world) == ["guest_crashed"]


async def test_a_look_at_a_guest_that_failed_is_made_again() -> None:
    world = World()
    async with world.running():
        world.hypervisor.fail_next("observe_server", StepRetry("Busy."))
        world.hypervisor.crash_guest("server")
        await until(lambda: ended(world) == ["guest_crashed"])


async def test_a_stopped_server_whose_definition_was_lost_gets_one_again() -> None:
    world = World()
    world.control.put(assigned_server(goal=ServerGoal.STOPPED, rung=ServerRung.PLACED, launched=True))
    async with world.agent():
        await until(lambda: world.control.server.rung is ServerRung.DEFINED)
        assert power(world) is PowerState.SHUTOFF


async def test_a_server_that_was_stopped_before_it_was_ever_made_stays_nothing() -> None:
    world = World()
    world.control.put(assigned_server(goal=ServerGoal.STOPPED, rung=ServerRung.PLACED))
    async with world.agent():
        await quiet(0.05)
        assert world.hypervisor.servers == {}
        assert world.control.server.rung is ServerRung.PLACED


async def test_a_deleted_server_leaves_nothing_and_its_tombstone_is_forgotten() -> None:
    world = World()
    async with world.running() as agent:
        world.control.change_server(goal=ServerGoal.DELETED)
        await until(lambda: world.control.server.rung is ServerRung.PLACED)
        assert world.hypervisor.servers == {}
        world.control.change_server(rung=ServerRung.GONE)
        await until(lambda: "server" not in agent._state.servers)
        await quiet(0.02)
        state = agent._state
        assert not state.undefined
        assert not state.reported
        assert not state.paths_of


async def test_l3_a_tombstone_removes_what_was_made_and_never_recorded() -> None:
    world = World()
    async with world.running() as agent:
        world.control.change_server(goal=ServerGoal.DELETED, rung=ServerRung.GONE)
        await until(lambda: not world.hypervisor.servers)
        await until(lambda: "server" not in agent._state.servers)
        assert world.control.server.rung is ServerRung.GONE


async def test_a_lost_report_of_a_removal_is_made_again() -> None:
    world = World()
    async with world.running():
        world.control.lose_next = 1
        world.control.change_server(goal=ServerGoal.DELETED)
        await until(lambda: world.control.server.rung is ServerRung.PLACED)


async def test_a_server_deleted_before_it_was_defined_is_reported_to_be_gone() -> None:
    world = World()
    world.control.put(assigned_server(goal=ServerGoal.DELETED, goal_revision=2))
    async with world.agent():
        await until(lambda: world.control.server_reports)
        assert world.control.server_reports[0].rung is ServerRung.PLACED
        assert world.control.server_reports[0].goal_revision == 2


async def test_a_start_that_will_not_succeed_is_reported_as_final_with_its_reason() -> None:
    world = World()
    world.hypervisor.fail_next("start_server", StepNever("The image is not bootable."))
    world.control.put(assigned_server())
    async with world.agent():
        await until(lambda: failures(world))
        assert failures(world)[0].message == "The image is not bootable."


@pytest.mark.parametrize(("deadline_s", "reported"), [(60, 0), (-1, 1)])
async def test_a_passing_failure_is_tried_again_and_reported_only_past_the_deadline(
    deadline_s: float, reported: int
) -> None:
    world = World()
    world.hypervisor.fail_next("define_server", StepRetry("Busy."))
    world.control.put(assigned_server(deadline_at=after_us(deadline_s)))
    async with world.agent():
        await until(lambda: world.control.server.rung is ServerRung.RUNNING)
        assert len(failures(world)) == reported


@pytest.mark.parametrize("hinder", [[], [StepNever("No."), StepRetry("Busy.")]], ids=["at once", "power off refused"])
async def test_s13_a_start_that_ends_for_good_leaves_no_guest_of_an_earlier_one(hinder: list[Exception]) -> None:
    world = World()
    async with world.running():
        pass
    world.control.server_reports.clear()
    world.control.change_server(rung=ServerRung.DEFINED)  # the start took effect, and its agent died before the report
    world.hypervisor.fail_next("start_server", *[StepNever("The image is not bootable.")] * 100)
    world.hypervisor.fail_next("power_off", *hinder)
    async with world.agent():
        await until(lambda: failures(world))
        first = next(one for one in world.control.server_reports if one.failure is not None)
        assert power(world) is PowerState.SHUTOFF
        assert first.rung is ServerRung.DEFINED
        assert failures(world)[0].message == "The image is not bootable."


async def test_s13_a_start_that_is_given_up_for_a_volume_ends_once_no_guest_is_seen_to_run() -> None:
    world = World()
    async with world.running():
        pass
    world.control.server_reports.clear()
    why = Reason(code="plug_failed", message="Volume one: No.", at=1)
    world.control.change_server(rung=ServerRung.DEFINED, extras=ServerExtras(doomed=why))
    async with world.agent():
        await until(lambda: failures(world))
        assert power(world) is PowerState.SHUTOFF
        assert failures(world)[0] == why
        assert world.hypervisor.count("start_server") == 1, "no other start"


@pytest.mark.parametrize(
    ("before", "goal", "act", "after"),
    [
        (ServerGoal.SUSPENDED, ServerGoal.RUNNING, "observe_server", ServerRung.RUNNING),
        (ServerGoal.PAUSED, ServerGoal.RUNNING, "observe_server", ServerRung.RUNNING),
        (ServerGoal.SUSPENDED, ServerGoal.PAUSED, "pause_guest", ServerRung.RUNNING),
        (ServerGoal.RUNNING, ServerGoal.PAUSED, "observe_server", ServerRung.PAUSED),
        (ServerGoal.RUNNING, ServerGoal.SUSPENDED, "observe_server", ServerRung.SUSPENDED),
    ],
)
async def test_s13_a_change_that_ends_for_good_is_reported_with_what_is_true_of_the_guest(
    before: ServerGoal, goal: ServerGoal, act: str, after: ServerRung
) -> None:
    world = World()
    async with world.running():
        world.control.change_server(goal=before)
        await until(lambda: world.control.server.rung is STAYS[before])
    world.control.server_reports.clear()
    world.control.change_server(goal=goal)
    if after is not world.control.server.rung and act == "observe_server":  # done and never recorded
        await make_true(world, after)
    world.hypervisor.fail_next(act, StepNever("No."))
    async with world.agent():
        await until(lambda: failures(world))
        first = next(one for one in world.control.server_reports if one.failure is not None)
        assert first.rung is after
        assert SEEN[after] is power(world)


async def test_a_reboot_whose_start_ends_for_good_is_reported_with_the_guest_gone() -> None:
    world = World()
    async with world.running(revision=1):
        world.hypervisor.fail_next("start_server", StepNever("The image is not bootable."))
        reboot(world, BootKind.HARD)
        await until(lambda: failures(world))
        first = next(one for one in world.control.server_reports if one.failure is not None)
        assert first.rung is ServerRung.DEFINED
        assert first.boot == 1


async def test_a_server_that_no_assignment_names_is_told_in_the_census_and_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kevel.host.agent.CENSUS_S", 0.05)
    world = World()
    async with world.running():
        pass
    world.control.servers.clear()
    before = len(world.control.censuses)
    async with world.agent():
        await until(lambda: len(world.control.censuses) > before + 1)
        assert [one.server_id for one in world.control.censuses[-1].strangers] == ["server"]
        assert power(world) is PowerState.RUNNING


async def test_what_is_let_go_of_while_the_host_is_listed_is_no_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    list_all = world.hypervisor.observe_all
    listed: list[int] = []

    async def list_slowly() -> Any:
        views = await list_all()
        if listed:
            world.detach()
            await until(lambda: world.control.path.hands is Hands.CONTROL)
            await quiet(0.05)
        listed.append(len(views))
        return views

    monkeypatch.setattr(world.hypervisor, "observe_all", list_slowly)
    async with world.running(volume_id="volume"):
        await until(lambda: listed)
        world.control.census_wanted = 1
        world.control.put(world.control.server)
        await until(lambda: world.control.censuses and world.control.censuses[-1].number == 1)
        assert not world.hypervisor.live()
        assert world.control.censuses[-1].strangers == ()


async def test_a_census_that_is_asked_for_is_taken_at_once_and_says_what_it_saw() -> None:
    world = World()
    async with world.running(volume_id="volume"):
        assert all(census.number == 0 for census in world.control.censuses)
        world.control.census_wanted = 7
        world.control.put(world.control.server)
        await until(lambda: any(census.number == 7 for census in world.control.censuses))
        census = world.control.censuses[-1]
        assert (census.servers, census.differing, census.strangers) == (1, (), ())
        (disk,) = census.disks
        assert (disk.path_id, disk.revision) == ("path", world.control.path.revision)
        assert (disk.live, disk.persistent) == (True, True)


async def test_an_assignment_that_comes_again_unchanged_is_looked_at_with_suspicion() -> None:
    world = World()
    async with world.running(volume_id="volume"):
        before = len(world.control.rungs)
        world.hypervisor.servers["server"].live.clear()
        world.hypervisor.servers["server"].persistent.clear()
        world.control.put(world.control.path)
        await until(lambda: world.hypervisor.live() and world.hypervisor.persistent())
        await until(lambda: len(world.control.rungs) == before + 2)


async def test_l5_a_hung_call_on_one_server_does_not_slow_another() -> None:
    world = World()
    hung: list[Any] = []

    async def hang() -> None:
        hung.append(1)
        await quiet(0.3)

    world.hypervisor.hooks["define_server"] = [hang]
    world.control.put(assigned_server())
    async with world.agent():
        await until(lambda: hung)
        world.control.put(assigned_server(id="other"))
        await until(lambda: world.control.servers["other"].rung is ServerRung.RUNNING)
        assert world.control.server.rung is ServerRung.PLACED, "the first is still hung"


@pytest.mark.parametrize(
    ("goal", "rung", "seen"),
    [
        (ServerGoal.PAUSED, ServerRung.PAUSED, PowerState.PAUSED),
        (ServerGoal.SUSPENDED, ServerRung.SUSPENDED, PowerState.SUSPENDED),
    ],
)
async def test_a_guest_is_paused_or_suspended_and_goes_on_with_its_disk(
    goal: ServerGoal, rung: ServerRung, seen: PowerState
) -> None:
    world = World()
    async with world.running(revision=1):
        world.control.change_server(goal=goal)
        await until(lambda: world.control.server.rung is rung)
        assert power(world) is seen
        world.control.change_server(goal=ServerGoal.RUNNING)
        await until(lambda: world.control.server.rung is ServerRung.RUNNING)
        await until(lambda: power(world) is PowerState.RUNNING)
        assert world.hypervisor.servers["server"].boots == 1
        assert world.hypervisor.live()
        assert world.control.server.boot == 1


@pytest.mark.parametrize("goal", [ServerGoal.PAUSED, ServerGoal.SUSPENDED])
async def test_a_change_of_a_guest_that_was_never_recorded_is_undone_when_nobody_wants_it_any_more(
    goal: ServerGoal,
) -> None:
    world = World()
    async with world.running(revision=1):
        world.control.lose_next = 1
        world.control.change_server(goal=goal)
        await until(lambda: power(world) is not PowerState.RUNNING)
        world.control.change_server(goal=ServerGoal.RUNNING)
        await until(lambda: power(world) is PowerState.RUNNING)
        await until(lambda: world.control.server.rung is ServerRung.RUNNING)
        assert world.hypervisor.servers["server"].boots == 1


async def test_a_guest_that_somebody_paused_beside_us_goes_on() -> None:
    world = World()
    async with world.running(revision=1):
        await world.hypervisor.pause_guest("server")
        await until(lambda: power(world) is PowerState.RUNNING)
        assert world.control.server.rung is ServerRung.RUNNING


@pytest.mark.parametrize(
    ("goal", "rung"), [(ServerGoal.PAUSED, ServerRung.PAUSED), (ServerGoal.SUSPENDED, ServerRung.SUSPENDED)]
)
@pytest.mark.parametrize("asked", [False, True], ids=["by itself", "when it was to go on"])
async def test_a_paused_or_suspended_guest_that_is_lost_is_reported(
    goal: ServerGoal, rung: ServerRung, asked: bool
) -> None:
    world = World()
    async with world.running(revision=1):
        world.control.change_server(goal=goal)
        await until(lambda: world.control.server.rung is rung)
        if asked:
            world.hypervisor.hooks["observe_server"] = [lambda: world.hypervisor._end("server", "crashed")]
            world.control.change_server(goal=ServerGoal.RUNNING)
        else:
            world.hypervisor._end("server", "crashed")
        await until(lambda: ended(world))
        assert ended(world) == ["memory_lost" if goal is ServerGoal.SUSPENDED else "guest_crashed"]
        assert world.hypervisor.servers["server"].boots == 1


async def test_a_hard_reboot_of_a_suspended_guest_begins_anew() -> None:
    world = World()
    async with world.running(revision=1):
        world.control.change_server(goal=ServerGoal.SUSPENDED)
        await until(lambda: world.control.server.rung is ServerRung.SUSPENDED)
        world.control.change_server(goal=ServerGoal.RUNNING, wanted_boot=2, boot_kind=BootKind.HARD)
        await until(lambda: has_booted(world))
        assert world.hypervisor.servers["server"].boots == 2
        assert world.hypervisor.live()
        assert world.hypervisor.count("resume_guest") == 0


@pytest.mark.parametrize("goal", [ServerGoal.PAUSED, ServerGoal.SUSPENDED])
async def test_a_paused_or_suspended_guest_that_is_to_be_stopped_is_not_asked(goal: ServerGoal) -> None:
    world = World()
    async with world.running(revision=1):
        world.control.change_server(goal=goal)
        await until(lambda: world.control.server.rung in (ServerRung.PAUSED, ServerRung.SUSPENDED))
        world.control.change_server(goal=ServerGoal.STOPPED)
        await until(lambda: world.control.server.rung is ServerRung.DEFINED)
        assert power(world) is PowerState.SHUTOFF
        assert world.hypervisor.persistent()


async def test_a_disk_that_came_to_a_suspended_guest_is_plugged_once_it_goes_on() -> None:
    world = World()
    async with world.running():
        world.control.change_server(goal=ServerGoal.SUSPENDED)
        await until(lambda: world.control.server.rung is ServerRung.SUSPENDED)
        world.control.put(assigned_path())
        await until(world.hypervisor.persistent)
        assert not world.hypervisor.live()
        world.control.change_server(goal=ServerGoal.RUNNING)
        await until(world.hypervisor.live)


@pytest.mark.parametrize("goal", [ServerGoal.RUNNING, ServerGoal.STOPPED])
async def test_a_server_that_is_to_have_another_shape_is_shut_down_and_made_anew_and_goes_on(goal: ServerGoal) -> None:
    world = World()
    async with world.running(revision=1):
        if goal is ServerGoal.STOPPED:
            world.control.change_server(goal=goal)
            await until(lambda: world.control.server.rung is ServerRung.DEFINED)
        boots = world.hypervisor.servers["server"].boots
        extras = ServerExtras(root_number=1, rescue={"number": 1, "disk_format": "raw", "file": "images/two"})
        flavor = world.control.server.flavor | {"ram_mib": 96}
        world.control.change_server(wanted_shape=1, extras=extras, flavor=flavor)
        await until(lambda: world.control.server.shape == 1)
        rung = ServerRung.RUNNING if goal is ServerGoal.RUNNING else ServerRung.DEFINED
        await until(lambda: world.control.server.rung is rung)
        made = world.hypervisor.servers["server"]
        assert (made.spec.memory_mib, made.spec.root_number) == (96, 1)
        assert made.spec.rescue == RescueSpec(number=1, image_path="/data/images/two", image_format="raw")
        assert made.boots == boots + (goal is ServerGoal.RUNNING)
        assert world.hypervisor.persistent()
        assert world.hypervisor.live() is (goal is ServerGoal.RUNNING)
        assert ended(world) == [], "it was asked to"


async def test_a_guest_that_does_not_shut_down_is_made_anew_all_the_same() -> None:
    world = World()
    async with world.running():
        world.hypervisor.behave(shutdown="refuse")
        world.control.change_server(wanted_shape=1)
        await until(lambda: world.control.server.shape == 1)
        await until(lambda: world.control.server.rung is ServerRung.RUNNING)
        assert world.hypervisor.servers["server"].boots == 2
