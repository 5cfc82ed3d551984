"""The ladder, over every combination there is; and a small world in which its acts are done and its holders crash."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, pairwise, product
from typing import NamedTuple

import pytest

from kevel.domain.ladder import HANDOVER, MOVES, Goal, Hands, Rung, Step, next_step, target_rung

_ACTS = {move.act: move for move in MOVES}
_UP = {move.source: move for move in MOVES if move.target > move.source}
_DOWN = {move.source: move for move in MOVES if move.target < move.source}
_EFFECTS = (Rung.EXPORTED, Rung.CONNECTED, Rung.PLUGGED)
_FREE_SETS = tuple(
    frozenset(chosen) for chosen in chain.from_iterable(combinations(_EFFECTS, count) for count in range(4))
)
#: A guest's disk is an effect on every back end.
_REAL_FREE_SETS = tuple(free for free in _FREE_SETS if Rung.PLUGGED not in free)
_LEGAL = tuple(
    (rung, hands)
    for rung, hands in product(Rung, Hands)
    if not (hands is Hands.HOST and rung < HANDOVER) and not (hands is Hands.CONTROL and rung > HANDOVER)
)
_ILLEGAL = tuple(pair for pair in product(Rung, Hands) if pair not in _LEGAL)
each_back_end = pytest.mark.parametrize(
    "free", _REAL_FREE_SETS, ids=lambda free: "without " + (" and ".join(rung.name for rung in sorted(free)) or "gaps")
)
#: A path of five rungs, a hand-over and a turn back: no way is longer.
STEPS_MAX = 8


def every_case() -> Iterator[tuple[Rung, Hands, Rung, frozenset[Rung]]]:
    for (rung, hands), target, free in product(_LEGAL, Rung, _FREE_SETS):
        yield rung, hands, target, free


def way(rung: Rung, hands: Hands, target: Rung, free: frozenset[Rung]) -> list[tuple[Rung, Hands, Step]]:
    """All steps until nobody has anything to do."""
    steps: list[tuple[Rung, Hands, Step]] = []
    while (step := next_step(rung, hands, target, free)) is not None:
        steps.append((rung, hands, step))
        rung, hands = step.rung, step.hands
        assert len(steps) <= STEPS_MAX, "the way has no end"
    return steps


def test_the_table_has_one_move_up_and_one_down_between_neighbours_and_none_out_of_released() -> None:
    assert set(_UP) == set(Rung) - {Rung.RELEASED, Rung.PLUGGED}
    assert set(_DOWN) == set(Rung) - {Rung.RELEASED}
    assert len(_ACTS) == len(MOVES)
    assert all(abs(move.target - move.source) == 1 for move in MOVES)


def test_what_one_holder_does_the_same_holder_undoes() -> None:
    assert all(_DOWN[move.target].hands is move.hands for move in _UP.values())


def test_every_way_ends_at_its_target_from_every_rung_but_released() -> None:
    for rung, hands, target, free in every_case():
        steps = way(rung, hands, target, free)
        end = steps[-1][2].rung if steps else rung
        assert end is (Rung.RELEASED if rung is Rung.RELEASED else target), (rung, hands, target, free)


def test_released_is_the_end_whatever_is_wanted() -> None:
    for target, free in product(Rung, _FREE_SETS):
        assert next_step(Rung.RELEASED, Hands.CONTROL, target, free) is None


def test_a_path_is_always_in_hands_that_may_hold_its_rung() -> None:
    for case in every_case():
        assert all((step.rung, step.hands) in _LEGAL for _, _, step in way(*case)), case


def test_every_act_is_in_the_table_and_done_by_whom_the_table_names() -> None:
    for case in every_case():
        for _, hands, step in way(*case):
            assert step.acts, case
            assert {_ACTS[act].hands for act in step.acts} == {hands}, case


def test_a_step_records_at_most_one_effect() -> None:
    for rung, hands, target, free in every_case():
        for source, _, step in way(rung, hands, target, free):
            between = range(min(source, step.rung) + 1, max(source, step.rung) + 1)
            crossed = [Rung(number) for number in between if Rung(number) not in free and number > Rung.RESERVED]
            assert len(crossed) <= 1, (rung, hands, target, free, step)


def test_turning_up_does_the_current_rungs_act_again_before_the_next() -> None:
    for rung, hands, target, free in every_case():
        step = next_step(rung, hands, target, free)
        if step is None or target <= rung or _act_to(rung) is None:
            continue
        assert _ACTS[step.acts[0]].hands is hands
        redone = _ACTS[step.acts[0]].target is rung
        # The one act that a holder does not repeat is another holder's: the host on a rung that was exported for it.
        assert redone or (rung is HANDOVER and hands is Hands.HOST), (rung, hands, target, free)


def test_turning_down_undoes_what_may_be_above_the_record_first() -> None:
    for rung, hands, target, free in every_case():
        step = next_step(rung, hands, target, free)
        if step is None or target >= rung or rung is Rung.PLUGGED:
            continue
        first = _ACTS[step.acts[0]]
        above_is_mine = _UP[rung].hands is hands
        assert first.source > rung if above_is_mine else first.source is rung, (rung, hands, target, free)


def test_acts_of_a_step_follow_each_other_without_a_gap() -> None:
    for case in every_case():
        for _, _, step in way(*case):
            moves = [_ACTS[act] for act in step.acts]
            assert all(one.target is other.source for one, other in pairwise(moves)), case
            assert moves[-1].target is step.rung, case


@pytest.mark.parametrize(("rung", "hands"), _ILLEGAL)
def test_a_rung_in_the_wrong_hands_is_refused_whatever_is_wanted(rung: Rung, hands: Hands) -> None:
    for target, free in product(Rung, _FREE_SETS):
        with pytest.raises(AssertionError, match="cannot hold"):
            next_step(rung, hands, target, free)


def test_only_the_two_ends_of_the_ladder_are_ever_wanted() -> None:
    assert target_rung(Goal.ATTACHED, server_wanted=True) is Rung.PLUGGED
    assert target_rung(Goal.DETACHED, server_wanted=True) is Rung.RELEASED
    assert target_rung(Goal.ATTACHED, server_wanted=False) is Rung.RELEASED
    assert target_rung(Goal.DETACHED, server_wanted=False) is Rung.RELEASED
    assert target_rung(Goal.ATTACHED, server_wanted=True, withheld=True) is HANDOVER
    assert target_rung(Goal.DETACHED, server_wanted=True, withheld=True) is Rung.RELEASED
    assert target_rung(Goal.ATTACHED, server_wanted=False, withheld=True) is Rung.RELEASED


@each_back_end
@pytest.mark.parametrize(("rung", "hands"), [pair for pair in _LEGAL if pair[0] is not Rung.RELEASED])
def test_a_path_that_is_withheld_comes_to_the_control_plane_with_its_export_and_goes_back_to_the_host(
    rung: Rung, hands: Hands, free: frozenset[Rung]
) -> None:
    there = way(rung, hands, HANDOVER, free)
    at = (there[-1][2].rung, there[-1][2].hands) if there else (rung, hands)
    assert at == (HANDOVER, Hands.CONTROL)
    assert not any(act == "revoke_export" for _, _, step in there for act in step.acts), "its name is not made again"
    back = way(*at, Rung.PLUGGED, free)
    assert (back[-1][2].rung, back[-1][2].hands) == (Rung.PLUGGED, Hands.HOST)


def _act_to(rung: Rung) -> str | None:
    below = Rung(rung - 1) if rung else None
    return _UP[below].act if below in _UP else None


class World(NamedTuple):
    """One path: what is recorded, what is wanted, and the effects that are really there."""

    rung: Rung
    hands: Hands
    target: Rung
    there: frozenset[Rung]


def perform(there: frozenset[Rung], act: str, free: frozenset[Rung]) -> frozenset[Rung]:
    """The act on the real thing, idempotent; an effect-free act changes nothing."""
    move = _ACTS[act]
    if move.target > move.source:
        return there if move.target in free else there | {move.target}
    return there - {move.source}


def crashes(world: World, step: Step, free: frozenset[Rung]) -> Iterator[World]:
    """The world after the holder died before, between and after the acts, and always before the record."""
    there = world.there
    yield world
    for act in step.acts:
        there = perform(there, act, free)
        yield world._replace(there=there)


def look(world: World, free: frozenset[Rung]) -> World:
    """One undisturbed look by the holder; at the top, a disk that is not there lowers the rung (host/path_looks)."""
    step = next_step(world.rung, world.hands, world.target, free)
    if step is not None:
        *_, acted = crashes(world, step, free)
        return acted._replace(rung=step.rung, hands=step.hands)
    if world.rung is Rung.PLUGGED and Rung.PLUGGED not in world.there:
        return world._replace(rung=Rung.CONNECTED)
    return world


def followers(world: World, free: frozenset[Rung]) -> Iterator[World]:
    """All that can happen next: the goal turns, the holder dies anywhere in its step, or its look succeeds."""
    yield world._replace(target=Rung.RELEASED if world.target is Rung.PLUGGED else Rung.PLUGGED)
    step = next_step(world.rung, world.hands, world.target, free)
    if step is not None:
        yield from crashes(world, step, free)
    yield look(world, free)


def reachable(free: frozenset[Rung]) -> set[World]:
    start = World(Rung.RESERVED, Hands.CONTROL, Rung.PLUGGED, frozenset())
    seen, front = {start}, [start]
    while front:
        for world in followers(front.pop(), free):
            if world not in seen:
                seen.add(world)
                front.append(world)
    return seen


def assert_order(there: frozenset[Rung], free: frozenset[Rung]) -> None:
    """S4: no effect outlives one that it stands on: unplug, then disconnect, then revoke, then release."""
    real = [rung for rung in _EFFECTS if rung not in free]
    missing = [rung for rung in real if rung not in there]
    assert all(above not in there for gap in missing for above in real if above > gap), (there, free)


@pytest.mark.parametrize(
    "free", _REAL_FREE_SETS, ids=lambda free: "+".join(rung.name for rung in sorted(free)) or "all"
)
def test_from_every_crash_and_turn_the_world_comes_to_its_record_and_the_record_to_its_target(
    free: frozenset[Rung],
) -> None:
    worlds = reachable(free)
    assert len(worlds) > len(Rung), "crashes and turns lead to more worlds than an undisturbed climb"
    for world in worlds:
        at = world
        for _ in range(STEPS_MAX):
            at = look(at, free)
        if world.rung is Rung.RELEASED:
            assert at == world
            assert not world.there, "S3: released means that nothing is left"
            continue
        assert at.rung is world.target, world
        wanted = frozenset(_EFFECTS) - free if world.target is Rung.PLUGGED else frozenset()
        assert at.there == wanted, (world, at)


@pytest.mark.parametrize(
    "free", _REAL_FREE_SETS, ids=lambda free: "+".join(rung.name for rung in sorted(free)) or "all"
)
def test_s4_effects_go_in_the_opposite_order_from_every_crash_and_turn(free: frozenset[Rung]) -> None:
    for world in reachable(free):
        assert_order(world.there, free)
        assert world.rung is not Rung.RELEASED or not world.there


@pytest.mark.parametrize(
    "free", _REAL_FREE_SETS, ids=lambda free: "+".join(rung.name for rung in sorted(free)) or "all"
)
def test_at_most_one_effect_stands_above_the_record(free: frozenset[Rung]) -> None:
    for world in reachable(free):
        assert len([rung for rung in world.there if rung > world.rung]) <= 1, world


@pytest.mark.parametrize(
    "free", _REAL_FREE_SETS, ids=lambda free: "+".join(rung.name for rung in sorted(free)) or "all"
)
def test_nothing_is_left_on_the_host_when_it_hands_a_path_back(free: frozenset[Rung]) -> None:
    for world in reachable(free):
        if world.hands is Hands.CONTROL:
            assert not world.there & {Rung.CONNECTED, Rung.PLUGGED}, world
