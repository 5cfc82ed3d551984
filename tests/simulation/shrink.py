"""Makes a failing run small: leaves out the faults and the requests that do not matter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from tests.simulation.faults import Fault
from tests.simulation.run import REQUESTS_EACH, USERS, Run, replay

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")

#: Runs that may be spent on one failure.
RUNS_MAX: Final = 400


def shrink(seed: int) -> tuple[dict[int, Fault], frozenset[int]]:
    """Faults by point, and the numbers of requests to leave out, with which the seed still fails.

    Raises AssertionError when the seed does not fail at all.
    """
    run = Run(seed)
    assert replay(run) is not None, f"seed {seed} does not fail"
    faults = [(point.number, fault) for point, fault in run.faults.struck]
    requests = list(range(USERS * REQUESTS_EACH))

    def fails(kept: Sequence[tuple[int, Fault]], asked: Sequence[int]) -> bool:
        skip = frozenset(range(USERS * REQUESTS_EACH)).difference(asked)
        return replay(Run(seed, script=dict(kept), skip=skip)) is not None

    left = [RUNS_MAX]
    for _ in range(2):
        requests = minimize(requests, partial(fails, faults), left)
        faults = minimize(faults, partial(_swapped, fails, requests), left)
    return dict(faults), frozenset(range(USERS * REQUESTS_EACH)).difference(requests)


def _swapped(fails: Callable[[A, B], bool], second: B, first: A) -> bool:
    return fails(first, second)


def minimize(items: list[T], fails: Callable[[list[T]], bool], left: list[int]) -> list[T]:
    """A shorter list that still fails: parts are left out, halves first, then ever smaller ones. `left` counts down."""
    size = math.ceil(len(items) / 2)
    while size >= 1 and items:
        at = 0
        while at < len(items) and left[0] > 0:
            left[0] -= 1
            fewer = items[:at] + items[at + size :]
            if fails(fewer):
                items = fewer
            else:
                at += size
        size = size // 2
    return items
