"""A bounded share of the simulator's seeds; `python -m tests.simulation` runs as many as are wanted."""

from __future__ import annotations

import pytest

from tests.simulation.run import Run


@pytest.mark.parametrize("seed", range(100))
def test_nothing_is_stuck_leaked_or_doubled(seed: int) -> None:
    run = Run(seed)
    try:
        run.play()
    finally:
        run.close()


@pytest.mark.parametrize("seed", [3, 71])
def test_a_seed_gives_the_same_run_each_time(seed: int) -> None:
    traces = []
    for _ in range(2):
        run = Run(seed)
        run.play()
        run.close()
        traces.append((run.loop.trace, run.loop.steps, run.crashes, run.world.effects))
    assert traces[0] == traces[1]
