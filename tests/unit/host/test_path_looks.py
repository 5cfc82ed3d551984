"""What an agent does with a path: climb, step down, and say why when it cannot (S3, S4, S7, L4)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from kevel.domain.encryption import Passphrase
from kevel.domain.errors import StepNever, StepRetry
from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.model import GIB, ServerGoal, ServerRung
from kevel.domain.tuning import NO_LIMITS, DiskTune
from kevel.hypervisor.base import DiskSpec, Event, EventKind, PowerState
from tests.unit.host.world import (
    ALIAS,
    LATER_S,
    LIMITS,
    SOON_S,
    World,
    after_us,
    assigned_path,
    assigned_server,
    quiet,
    until,
)

PLUGGED: dict[str, Any] = {"revision": 1}


async def test_a_path_climbs_one_rung_for_each_effect_and_the_guest_gets_the_whole_disk() -> None:
    world = World()
    async with world.running():
        await world.attach()
        assert world.control.rungs == [Rung.CONNECTED, Rung.PLUGGED]
        expected = DiskSpec(
            alias=ALIAS,
            serial="volume",
            source_path="/fake/volume",
            source_format="raw",
            size_bytes=GIB,
            target="sdb",
            unit=1,
        )
        server = world.hypervisor.servers["server"]
        assert server.live == server.persistent == {ALIAS: expected}
        assert world.control.path.plugged_bytes == GIB
        assert world.control.path_reports[-1].took_us is not None


async def test_rungs_without_an_effect_are_passed_in_one_report() -> None:
    world = World()
    async with world.running():
        await world.attach(effect_free=(Rung.EXPORTED, Rung.CONNECTED))
        assert world.control.rungs == [Rung.PLUGGED]
        world.detach()
        await until(lambda: world.control.path.hands is Hands.CONTROL)
        assert world.control.rungs == [Rung.PLUGGED, Rung.EXPORTED]


async def test_s4_a_path_steps_down_in_the_opposite_order_and_is_handed_back_when_nothing_is_left() -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.detach()
        await until(lambda: world.control.path.hands is Hands.CONTROL)
        assert world.control.rungs == [Rung.CONNECTED, Rung.PLUGGED, Rung.CONNECTED, Rung.EXPORTED]
        assert not world.hypervisor.live()
        assert not world.hypervisor.persistent()
        assert not world.connector.connected
        assert world.control.failures == []


async def test_a_stopped_servers_disk_is_in_its_definition_and_in_the_guest_after_its_start() -> None:
    world = World()
    world.control.put(assigned_server(goal=ServerGoal.STOPPED, rung=ServerRung.PLACED, launched=True))
    async with world.agent():
        await until(lambda: world.control.server.rung is ServerRung.DEFINED)
        await world.attach()
        assert (world.hypervisor.live(), world.hypervisor.persistent()) == (False, True)
        world.control.change_server(goal=ServerGoal.RUNNING, wanted_boot=2)
        await until(lambda: world.control.server.rung is ServerRung.RUNNING)
        assert world.hypervisor.live()


async def test_a_path_waits_for_its_server_to_have_a_definition() -> None:
    world = World()
    world.hypervisor.fail_next("define_server", StepRetry("Not yet."))
    world.control.put(assigned_path())
    world.control.put(assigned_server())
    async with world.agent():
        await until(lambda: world.control.path.rung is Rung.PLUGGED)
        assert world.hypervisor.calls[:2] == ["define_server", "define_server"], "the first of them failed"
        await until(world.hypervisor.live)


async def test_l4_a_guest_that_refuses_ends_the_request_with_the_disk_whole_and_is_reported_once() -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.hypervisor.behave(unplug="refuse")
        world.detach(within_s=SOON_S)
        await until(lambda: world.control.failures)
        assert world.control.failures == [("guest_refused", True)]
        assert world.hypervisor.count("unplug_disk") >= 2, "a silent guest is asked again: early in its boot it forgets"
        world.control.change_path(goal=Goal.ATTACHED, deadline_at=after_us(LATER_S))
        await quiet()
        assert world.control.failures == [("guest_refused", True)]
        assert world.control.path.rung is Rung.PLUGGED
        assert world.hypervisor.live()
        assert world.hypervisor.persistent(), "the definition is changed only after the guest has let go"


async def test_a_guest_that_is_asked_late_gets_its_time_before_it_counts_as_refusing() -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.hypervisor.behave(unplug="slow:0.02")
        world.detach(within_s=-1.0)
        await until(lambda: world.control.path.hands is Hands.CONTROL)
        assert world.control.failures == []


async def test_a_late_removal_lowers_the_rung_and_is_climbed_again() -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.hypervisor.behave(unplug="refuse")
        world.detach(within_s=SOON_S)
        await until(lambda: world.control.failures)
        world.control.change_path(goal=Goal.ATTACHED, deadline_at=after_us(LATER_S))
        await quiet(0.05)
        before = len(world.control.rungs)
        world.hypervisor._let_go("server", ALIAS)
        assert not world.hypervisor.live()
        await until(lambda: len(world.control.rungs) == before + 2)
        assert world.control.rungs[before:] == [Rung.CONNECTED, Rung.PLUGGED]
        assert world.hypervisor.live()


async def test_a_removal_whose_event_was_lost_is_found_when_the_refusal_is_taken_back() -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.hypervisor.behave(unplug="refuse")
        world.detach(within_s=SOON_S)
        await until(lambda: world.control.failures)
        world.hypervisor.servers["server"].live.clear()
        world.control.change_path(goal=Goal.ATTACHED, deadline_at=after_us(LATER_S))
        await until(world.hypervisor.live)
        await until(lambda: world.control.rungs[-2:] == [Rung.CONNECTED, Rung.PLUGGED])


async def test_a_guest_that_forgot_the_request_is_asked_again_and_lets_go() -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.hypervisor.behave(unplug="refuse")
        world.detach()
        await until(lambda: world.hypervisor.count("unplug_disk") == 1)
        world.hypervisor.behave()
        await until(lambda: world.control.path.hands is Hands.CONTROL)
        assert world.control.failures == []


async def test_a_slow_guest_is_waited_for_without_asking_at_every_look() -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.hypervisor.behave(unplug="slow:0.04")
        world.detach()
        await until(lambda: world.control.path.hands is Hands.CONTROL)
        asked = world.hypervisor.count("unplug_disk")
        assert asked <= 3, "once, after the answer, and perhaps once again"
        assert world.hypervisor.count("observe_server") >= 1


async def test_an_event_that_lies_about_a_removal_is_not_believed_nor_asked_about_for_ever() -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.hypervisor.behave(unplug="lie")
        world.detach(within_s=SOON_S)
        await until(lambda: world.control.failures)
        assert world.control.failures == [("guest_refused", True)]
        assert world.control.path.rung is Rung.PLUGGED
        assert world.hypervisor.live()
        assert world.hypervisor.count("unplug_disk") < 12, "about one question each 50 ms, not one for each event"


async def test_a_refused_plug_is_reported_as_final_and_once() -> None:
    world = World()
    async with world.running() as agent:
        world.hypervisor.behave(plug="refuse")
        world.control.put(assigned_path())
        await until(lambda: world.control.failures)
        for _ in range(3):
            agent._wake("server")
            await quiet(0.02)
        assert world.hypervisor.count("plug_disk") > 1, "it was tried again"
        assert world.control.failures == [("plug_failed", True)]
        assert world.control.path.rung is Rung.CONNECTED
        world.detach()
        await until(lambda: world.control.path.hands is Hands.CONTROL)
        assert not world.connector.connected, "rolling back is stepping down"


async def test_a_passing_failure_is_told_and_tried_again() -> None:
    world = World()
    async with world.running():
        world.hypervisor.fail_next("plug_disk", StepRetry("Busy."), StepRetry("Busy."))
        await world.attach()
        assert world.control.failures == [("plug_failed", False)], "the same news is told once"


async def test_a_new_attachment_past_its_deadline_fails_for_good() -> None:
    world = World()
    async with world.running():
        world.hypervisor.fail_next("plug_disk", *(StepRetry("Busy.") for _ in range(20)))
        world.control.put(assigned_path(deadline_at=after_us(0.1)))
        await until(lambda: ("plug_failed", True) in world.control.failures)


async def test_an_established_attachment_past_its_deadline_is_not_given_up() -> None:
    world = World()
    async with world.running():
        world.hypervisor.fail_next("plug_disk", StepRetry("Busy."))
        await world.attach(established=True, deadline_at=after_us(-1))
        assert world.control.failures == [("plug_failed", False)]


async def test_a_plug_that_runs_past_its_deadline_is_unknown_and_nothing_else_is_done_until_it_is_settled() -> None:
    world = World()
    async with world.running():
        pass
    end = asyncio.Event()
    async with world.agent(msgspec.structs.replace(LIMITS, effect_wait_s=0.05)):
        world.hypervisor.hooks["plug_disk"] = [end.wait]
        world.control.put(assigned_path())
        await until(lambda: world.control.failures)
        await quiet(0.3)
        assert world.control.path.rung is Rung.CONNECTED
        assert {code for code, _ in world.control.failures} == {"hypervisor_silent"}
        assert not any(final for _, final in world.control.failures), "a timeout means unknown"
        assert world.hypervisor.count("plug_disk") == 1
        end.set()
        await until(lambda: world.control.path.rung is Rung.PLUGGED)
        assert world.hypervisor.plugs_at_once_max == 1


async def test_a_server_deleted_with_a_refusing_guest_loses_its_domain_first_and_its_paths_follow() -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.hypervisor.behave(unplug="refuse", shutdown="refuse")
        world.control.change_server(goal=ServerGoal.DELETED)
        world.control.change_path(goal=Goal.DETACHED, goal_by="server", server_wanted=False)
        await until(lambda: world.control.path.hands is Hands.CONTROL)
        assert world.control.server.rung is ServerRung.PLACED
        assert world.hypervisor.servers == {}
        calls = world.hypervisor.calls
        assert "unplug_disk" not in calls[: calls.index("undefine_server")], "nothing waits for the guest"
        assert world.control.failures == []
        assert world.control.path.rung is Rung.EXPORTED


async def test_a_grown_volume_is_shown_to_the_guest_and_reported() -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.control.change_path(volume_bytes=2 * GIB)
        await until(lambda: world.control.path.plugged_bytes == 2 * GIB)
        assert world.hypervisor.servers["server"].live[ALIAS].size_bytes == 2 * GIB
        assert world.control.path.rung is Rung.PLUGGED


async def test_a_disk_has_its_limits_from_the_start_and_is_not_looked_at_for_them() -> None:
    world = World()
    async with world.running():
        await world.attach(tune=DiskTune(read_iops_sec=5))
        await quiet(0.05)
        assert world.hypervisor.servers["server"].live[ALIAS].tune == DiskTune(read_iops_sec=5)
        assert world.hypervisor.calls[-1] == "plug_disk"


@pytest.mark.parametrize("tune", [DiskTune(total_bytes_sec=9), NO_LIMITS], ids=["others", "none"])
async def test_limits_that_change_reach_the_guest_and_the_definition(tune: DiskTune) -> None:
    world = World()
    async with world.running():
        await world.attach(tune=DiskTune(read_iops_sec=5))
        world.hypervisor.fail_next("tune_disk", StepRetry("Busy."))
        world.control.put(msgspec.structs.replace(world.control.path, tune=tune))
        server = world.hypervisor.servers["server"]
        await until(lambda: server.live[ALIAS].tune == server.persistent[ALIAS].tune == tune)
        assert world.control.path.rung is Rung.PLUGGED


SEALED: dict[str, Any] = {"volume_format": "luks", "passphrase": Passphrase("of this volume")}


async def test_an_encrypted_volume_is_plugged_with_its_key_and_its_server_starts_with_it() -> None:
    world = World()
    async with world.running():
        await world.attach(**SEALED)
        assert world.hypervisor.servers["server"].live[ALIAS].source_format == "luks"
        world.control.change_server(goal=ServerGoal.STOPPED)
        await until(lambda: not world.hypervisor.live())
        world.control.change_server(goal=ServerGoal.RUNNING)
        await until(world.hypervisor.live)
        assert world.control.failures == []


async def test_a_volume_recorded_as_encrypted_is_never_plugged_without_its_key() -> None:
    world = World()
    async with world.running():
        world.control.put(assigned_path(rung=Rung.CONNECTED, volume_format="luks"))
        await until(lambda: world.control.failures)
        assert world.control.failures == [("plug_failed", True)]
        assert not world.hypervisor.live()
        assert not world.hypervisor.persistent()


async def test_a_disk_that_is_plugged_unopened_is_not_taken_for_the_encrypted_volume() -> None:
    world = World()
    async with world.running():
        await world.attach(**SEALED)
        server = world.hypervisor.servers["server"]
        server.live[ALIAS] = msgspec.structs.replace(server.live[ALIAS], source_format="raw")
        world.hypervisor._listener(Event(kind=EventKind.RECONNECTED, server_id=""))
        await until(lambda: world.control.failures)
        assert world.control.failures == [("plug_failed", True)]


async def test_limits_that_somebody_else_took_off_are_put_back_at_the_next_look() -> None:
    world = World()
    async with world.running():
        await world.attach(tune=DiskTune(read_iops_sec=5))
        server = world.hypervisor.servers["server"]
        server.persistent[ALIAS] = msgspec.structs.replace(server.persistent[ALIAS], tune=NO_LIMITS)
        world.hypervisor._listener(Event(kind=EventKind.RECONNECTED, server_id=""))
        await until(lambda: server.persistent[ALIAS].tune == DiskTune(read_iops_sec=5))


async def test_limits_that_changed_between_two_attempts_to_plug_are_put_right() -> None:
    world = World()
    async with world.running():
        world.control.put(assigned_path(rung=Rung.CONNECTED, tune=DiskTune(read_iops_sec=5)))
        world.control.lose_next = 1
        await until(world.hypervisor.live)
        world.control.put(msgspec.structs.replace(world.control.path, tune=NO_LIMITS))
        await until(lambda: world.hypervisor.servers["server"].live[ALIAS].tune == NO_LIMITS)


async def test_s7_a_lost_report_is_made_again_and_the_step_done_twice_equals_once() -> None:
    world = World()
    async with world.running():
        world.control.lose_next = 2
        await world.attach()
        assert world.control.rungs == [Rung.CONNECTED, Rung.PLUGGED]
        assert len(world.hypervisor.servers["server"].persistent) == 1
        world.control.lose_next = 1
        world.detach()
        await until(lambda: world.control.path.hands is Hands.CONTROL)


async def test_an_agent_whose_registration_was_carried_twice_registers_again_and_tells_what_nobody_heard() -> None:
    world = World()
    async with world.running():
        world.control.repeat_registration()
        await world.attach()
        assert world.control.epoch == 3
        assert world.control.rungs == [Rung.CONNECTED, Rung.PLUGGED]


async def test_a_lost_report_of_a_refusal_is_made_again() -> None:
    world = World()
    async with world.running():
        world.hypervisor.behave(plug="refuse")
        world.control.put(assigned_path(rung=Rung.CONNECTED))
        world.control.lose_next = 1
        await until(lambda: world.control.failures)
        assert world.control.failures == [("plug_failed", True)]


async def test_a_lost_report_of_a_lost_disk_is_made_again() -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.control.lose_next = 1
        world.hypervisor._let_go("server", ALIAS)
        await until(lambda: world.control.rungs[-2:] == [Rung.CONNECTED, Rung.PLUGGED])
        await until(lambda: len(world.control.rungs) == 4)
        assert world.hypervisor.live()


async def test_a_check_whose_look_failed_is_made_again() -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.hypervisor.fail_next("observe_server", *(StepRetry("Busy.") for _ in range(2)))
        world.hypervisor._let_go("server", ALIAS)
        await until(lambda: len(world.control.rungs) == 4)
        assert world.hypervisor.live()


async def test_s6_a_report_about_an_older_revision_changes_nothing_and_the_agent_goes_on_from_the_newer() -> None:
    world = World()
    async with world.running():
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            begun.set()
            await go_on.wait()

        world.hypervisor.hooks["plug_disk"] = [hold]
        world.control.put(assigned_path())
        await begun.wait()
        world.control.change_path(goal=Goal.DETACHED, revision=10, deadline_at=after_us(LATER_S))
        go_on.set()
        await until(lambda: world.control.path.hands is Hands.CONTROL)
        assert Rung.PLUGGED not in {report.rung for report in world.control.path_reports if report.revision == 10}
        assert not world.hypervisor.live(), "the disk that no record showed was taken out again"
        assert not world.hypervisor.persistent()


async def test_a_detach_behind_an_attach_only_turns_it_round() -> None:
    world = World()
    async with world.running():
        for round_ in range(5):
            world.control.put(assigned_path(revision=100 * (round_ + 1), goal_revision=100 * (round_ + 1)))
            await asyncio.sleep(0.001 * round_)
            world.detach()
            await until(lambda: world.control.path.hands is Hands.CONTROL)
            assert not world.hypervisor.live()
            assert not world.connector.connected
        assert world.control.failures == []


async def test_l6_a_new_agent_resumes_where_the_old_one_was_killed() -> None:
    world = World()
    async with world.running():
        world.hypervisor.fail_next("plug_disk", StepRetry("Busy."))
        world.control.put(assigned_path())
        await until(lambda: world.control.path.rung is Rung.CONNECTED)
    async with world.agent():
        await until(lambda: world.control.path.rung is Rung.PLUGGED)
        assert world.hypervisor.live()


async def test_a_new_agent_proves_every_disk_and_puts_back_what_is_not_there() -> None:
    world = World()
    async with world.running():
        world.hypervisor.behave(plug="lie")
        await world.attach()
        assert not world.hypervisor.live(), "the hypervisor said so, and it was not so"
        world.hypervisor.behave()
    async with world.agent():
        await until(world.hypervisor.live)
        await until(lambda: world.control.rungs[-2:] == [Rung.CONNECTED, Rung.PLUGGED])


async def test_s8_a_disk_that_is_not_the_volume_is_never_taken_for_it() -> None:
    world = World()
    async with world.running(**PLUGGED):
        pass
    server = world.hypervisor.servers["server"]
    server.live[ALIAS] = msgspec.structs.replace(server.live[ALIAS], source_path="/fake/another")
    async with world.agent():
        await until(lambda: world.control.failures)
        assert world.control.failures == [("plug_failed", True)]
        assert world.control.path.rung is Rung.PLUGGED
        assert server.live[ALIAS].source_path == "/fake/another", "it was left as it is"


async def test_a_path_that_stands_is_left_alone() -> None:
    world = World()
    async with world.running(**PLUGGED) as agent:
        before = len(world.hypervisor.calls)
        agent._wake("server")
        await quiet(0.05)
        assert len(world.hypervisor.calls) == before


async def test_after_a_reconnection_every_disk_is_looked_at_again() -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.hypervisor.servers["server"].live.clear()
        world.hypervisor._listener(Event(kind=EventKind.RECONNECTED, server_id=""))
        await until(world.hypervisor.live)


@pytest.mark.parametrize("error", [StepNever("No."), StepRetry("Not now.")])
async def test_a_disk_that_cannot_be_unplugged_keeps_its_rung_and_the_reason_is_told(error: Exception) -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.hypervisor.fail_next("unplug_disk", error)
        world.detach()
        await until(lambda: world.control.failures)
        assert world.control.failures == [("unplug_failed", isinstance(error, StepNever))]
        assert world.control.path.rung is Rung.PLUGGED


async def test_l3_a_disk_that_vanishes_silently_is_found_by_the_next_census_and_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kevel.host.agent.CENSUS_S", 0.05)
    world = World()
    async with world.running(effect_free=()):
        (guest,) = world.hypervisor.servers.values()
        assert guest.live
        guest.live.clear()
        await until(lambda: guest.live)
        await until(lambda: world.control.path.rung is Rung.PLUGGED)


async def test_l3_a_server_that_stops_silently_is_found_by_the_next_census(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kevel.host.agent.CENSUS_S", 0.05)
    world = World()
    async with world.running():
        (guest,) = world.hypervisor.servers.values()
        guest.power, guest.stop_reason = PowerState.SHUTOFF, "crashed"
        await until(lambda: world.control.server.rung is ServerRung.DEFINED)


async def test_a_withheld_disk_is_let_go_of_once_its_guest_has_ended_and_the_server_waits_for_it() -> None:
    world = World()
    async with world.running(**PLUGGED):
        world.control.change_path(withheld=True)
        await quiet()
        assert world.hypervisor.live(), "a guest that runs is not asked"
        assert world.hypervisor.count("unplug_disk") == 0
        world.control.change_server(wanted_shape=1, boot_disks={ALIAS: "volume"})
        await until(lambda: world.control.path.hands is Hands.CONTROL)
        assert world.control.rungs[-1] is Rung.EXPORTED
        assert not world.hypervisor.persistent()
        assert not world.connector.connected
        await quiet()
        assert (world.control.server.rung, world.control.server.shape) == (ServerRung.DEFINED, 0)
        again = {"hands": Hands.HOST, "withheld": False, "revision": world.control.path.revision + 1}
        world.control.change_path(**again)
        await until(lambda: world.control.server.rung is ServerRung.RUNNING)
        assert world.control.server.shape == 1
        assert world.hypervisor.live()


async def test_a_withheld_path_that_its_host_has_only_been_handed_goes_back_at_once() -> None:
    world = World()
    world.control.put(assigned_server(goal=ServerGoal.STOPPED, rung=ServerRung.DEFINED, launched=True))
    world.control.put(assigned_path(withheld=True))
    async with world.agent():
        await until(lambda: world.control.path.hands is Hands.CONTROL)
        assert world.control.path.rung is Rung.EXPORTED
        assert world.hypervisor.count("plug_disk") == 0
