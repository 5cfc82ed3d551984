"""The switches fit the product, and a sample of them is found; `python -m tests.planted` hunts all of them."""

from __future__ import annotations

import pytest

from tests.planted.bugs import BUGS
from tests.planted.finders import FINDERS, play_seed
from tests.planted.hunt import hunt
from tests.planted.planting import Planting

#: Found within a few seeds each: one for each way in which the net can notice something.
SAMPLE = (
    "record_the_plug_before_acting",
    "release_before_the_unplug_is_seen",
    "ignore_the_goal_flip",
    "lose_connection_info_at_the_handover",
    "let_two_servers_claim_one_volume",
    "skip_the_export",
)
SEEDS_MAX = 40
PROBE_SEEDS_MAX = 150


@pytest.mark.parametrize("name", SAMPLE)
def test_a_planted_bug_is_found(name: str) -> None:
    done = hunt(BUGS[name], FINDERS, trials_max=SEEDS_MAX)
    assert not done.broken, done.broken
    assert done.found, f"missed in {done.trials} trials; the wrong code ran {done.bites} times"


def test_a_server_that_starts_with_a_disk_that_is_not_its_own_is_found() -> None:
    done = hunt(BUGS["start_with_whatever_is_defined"], {"blackout": FINDERS["blackout"]}, trials_max=SEEDS_MAX)
    assert not done.broken, done.broken
    assert done.found, f"missed in {done.trials} trials; the wrong code ran {done.bites} times"


@pytest.mark.parametrize("name", BUGS)
def test_what_a_switch_changes_is_there_and_is_put_back(name: str) -> None:
    with Planting() as planting:
        BUGS[name].plant(planting)
        assert planting.originals, "the switch changes nothing"
        for owner, attribute, original in planting.originals:
            assert vars(owner)[attribute] is not original, f"{attribute} is not changed"
    for owner, attribute, _ in planting.originals:
        first = next(original for each, named, original in planting.originals if (each, named) == (owner, attribute))
        assert vars(owner)[attribute] is first, f"{attribute} is not put back"


def test_the_simulator_reaches_all_that_switches_change() -> None:
    with Planting(probe=True) as probe:
        for bug in BUGS.values():
            bug.plant(probe)
        missing = list(probe.reached)
        for seed in range(PROBE_SEEDS_MAX):
            play_seed(seed)
            missing = [target for target, count in probe.reached.items() if count == 0]
            if not missing:
                break
    assert not missing, f"not reached in {PROBE_SEEDS_MAX} seeds: {missing}"


def test_every_bug_says_what_it_stands_for() -> None:
    assert len(BUGS) >= 30
    assert len({bug.stands_for for bug in BUGS.values()}) == len(BUGS)
