"""A bounded share of the simulator's seeds; `python -m tests.simulation` runs as many as are wanted."""

from __future__ import annotations

import pytest

from tests.simulation.run import Run, replay


@pytest.mark.parametrize("seed", range(100))
def test_nothing_is_stuck_leaked_or_doubled(seed: int) -> None:
    error = replay(Run(seed))
    assert error is None, f"{error} (tell the story of it: python -m tests.simulation {seed} --story)"


@pytest.mark.parametrize("seed", [3, 71])
def test_a_seed_gives_the_same_run_each_time_with_and_without_its_story(seed: int) -> None:
    traces = []
    for story in (False, True):
        run = Run(seed, story=story)
        assert replay(run) is None
        traces.append((run.loop.trace, run.loop.steps, run.crashes, run.world.effects, run.faults.struck))
    assert traces[0] == traces[1]
