"""The shrinker, the story and the loop: what a failing seed is looked at with."""

from __future__ import annotations

import random

import pytest

from tests.simulation import seeds
from tests.simulation.checks import Checker
from tests.simulation.faults import Fault, Faults, Kind, faults_at
from tests.simulation.loop import Deadlock, SimLoop, StepsExhausted
from tests.simulation.run import REQUESTS_EACH, USERS, Run, replay
from tests.simulation.shrink import minimize, shrink
from tests.simulation.story import print_story


def test_what_does_not_matter_is_left_out() -> None:
    tried = 0

    def fails(some: list[int]) -> bool:
        nonlocal tried
        tried += 1
        return {3, 31} <= set(some)

    assert minimize(list(range(40)), fails, [400]) == [3, 31]
    assert tried < 100


def test_shrinking_stops_after_so_many_runs() -> None:
    left = [5]
    minimize(list(range(1000)), lambda some: False, left)
    assert left == [0]


def test_a_failure_that_needs_nothing_shrinks_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_always(self: Checker) -> None:
        raise AssertionError("planted")

    monkeypatch.setattr(Checker, "check_journal", break_always)
    script, skipped = shrink(1)
    assert (script, len(skipped)) == ({}, USERS * REQUESTS_EACH)


def test_a_seed_that_does_not_fail_is_not_shrunk() -> None:
    with pytest.raises(AssertionError, match="seed 1 does not fail"):
        shrink(1)


def test_the_story_says_what_happened_and_what_broke(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert print_story(Run(5, story=True)) == 0
    told = capsys.readouterr().out
    for words in ("asks: attach", "plug_disk -> None", "no more faults", "nothing broke"):
        assert words in told

    def break_when_a_disk_is_unplugged(self: Checker, name: str) -> None:
        assert name != "unplug_disk", "planted"

    monkeypatch.setattr(Checker, "check_now", break_when_a_disk_is_unplugged)
    assert print_story(Run(5, story=True)) == 1
    told = capsys.readouterr().out
    assert "BROKEN at " in told
    assert "planted" in told
    assert "record" in told, "what the records say of the open attachments ends the story"


def test_the_script_of_a_seeds_own_faults_strikes_the_same_points() -> None:
    drawn = Run(8)
    assert replay(drawn) is None
    script = {point.number: fault for point, fault in drawn.faults.struck}
    first = drawn.faults.struck[0]
    scripted = Run(8, script=script)
    replay(scripted)
    assert scripted.faults.struck[0] == first


def test_nothing_to_do_is_a_failure() -> None:
    loop = SimLoop(random.Random(1), 100)
    with pytest.raises(Deadlock):
        loop.run_until_complete(loop.create_future())
    loop.close()


def test_a_run_that_never_ends_is_a_failure() -> None:
    loop = SimLoop(random.Random(1), 100)

    def again() -> None:
        loop.call_soon(again)

    loop.call_soon(again)
    with pytest.raises(StepsExhausted):
        loop.run_until_complete(loop.create_future())
    loop.close()


def test_a_look_is_never_refused_for_good_and_a_guest_may_ignore_what_it_is_asked() -> None:
    assert Fault.REFUSED_FOR_GOOD not in faults_at(Kind.EFFECT, "observe_server")
    assert Fault.IGNORED in faults_at(Kind.EFFECT, "unplug_disk")
    assert Fault.IGNORED not in faults_at(Kind.EFFECT, "plug_disk")


def test_every_fault_can_happen_somewhere() -> None:
    names = ("plug_disk", "unplug_disk")
    assert {fault for kind in Kind for name in names for fault in faults_at(kind, name)} == set(Fault)


def test_points_are_counted_only_while_faults_are_on() -> None:
    faults = Faults(random.Random(1), {0: Fault.LOST})
    assert faults.strike(Kind.MESSAGE, "report", "agent sim0") is None
    faults.on = True
    assert faults.strike(Kind.MESSAGE, "report", "agent sim0") is Fault.LOST
    assert [point.number for point in faults.points] == [0]


def test_seeds_are_played_in_several_processes_and_some_of_them_twice() -> None:
    played = list(seeds.play_seeds(0, 4, 2))
    assert sorted(one.seed for one in played) == [0, 1, 2, 3]
    assert [one.error for one in played] == [None] * 4
    assert all(one.operations > 0 for one in played)
