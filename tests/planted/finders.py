"""Where a planted bug is looked for: each finder gives trials, and a trial that raises has found it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple

from tests.simulation.run import Run


class Trial(NamedTuple):
    """One attempt; `run` raises what the checks said."""

    #: Repeats it: a seed, or a case of the sweep.
    label: str
    run: Callable[[], None]


#: Trials in a fixed order, so that the number of them that a bug needs means something.
Finder = Callable[[], Iterator[Trial]]


def simulate() -> Iterator[Trial]:
    """The simulator's seeds from 0 on."""
    seed = 0
    while True:
        yield Trial(f"seed {seed}", partial(play_seed, seed))
        seed += 1


def play_seed(seed: int) -> None:
    """One simulated run."""
    run = Run(seed)
    try:
        run.play()
    finally:
        run.close()


FINDERS: Final[Mapping[str, Finder]] = {"simulator": simulate}
