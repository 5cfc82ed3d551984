"""Plays many seeds, in several processes."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from typing import NamedTuple

from tests.simulation.run import Run, replay

#: One seed of so many runs twice, and must give the same trace.
TWICE_EACH = 100


class Played(NamedTuple):
    """What one seed came to."""

    seed: int
    error: str | None
    operations: int
    crashes: int
    faults: int
    simulated_s: float
    cpu_s: float


def play_seed(seed: int) -> Played:
    """Play one seed, some of them twice."""
    started = time.process_time()
    run = Run(seed)
    error = replay(run)
    if error is None and seed % TWICE_EACH == 0:
        again = Run(seed)
        replay(again)
        if (run.loop.trace, run.loop.steps) != (again.loop.trace, again.loop.steps):
            error = AssertionError("the same seed gave another run")
    cpu_s = time.process_time() - started
    text = None if error is None else f"{run.loop.time():.1f} s in, after {run.crashes} crashes: {error}"
    return Played(seed, text, run.operations, run.crashes, len(run.faults.struck), run.loop.time(), cpu_s)


def play_seeds(first: int, count: int, jobs: int) -> Iterator[Played]:
    """Play them, in so many processes."""
    seeds = range(first, first + count)
    if jobs == 1:
        yield from map(play_seed, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(play_seed, seeds, chunksize=5)
