"""Where a planted bug is looked for: each finder gives trials, and a trial that raises has found it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import count
from typing import Final, NamedTuple

from tests.simulation.faults import Fault
from tests.simulation.run import Run
from tests.sweep.cases import Case, bases, play, singles


class Trial(NamedTuple):
    """One attempt; `run` raises what the checks said."""

    #: Repeats it: a seed, or a case of the sweep.
    label: str
    run: Callable[[], None]


#: Trials in a fixed order, so that the number of them that a bug needs means something.
Finder = Callable[[], Iterator[Trial]]

#: In a storm each of so many faults strikes at each point with up to this chance.
STORM_FAULTS: Final = 3
STORM_CHANCE_MAX: Final = 0.2
#: What a storm has less of, since a run would be about nothing else.
STORM_RARE: Final = {Fault.HOST_DIES: 0.05, Fault.CUT: 0.1}


def simulate() -> Iterator[Trial]:
    """The simulator's seeds from 0 on."""
    for seed in count():
        yield Trial(f"seed {seed}", partial(play_seed, seed))


def storm() -> Iterator[Trial]:
    """The same seeds, each with a few faults only, and those often."""
    for seed in count():
        yield Trial(f"storm {seed}", partial(play_storm, seed))


def play_seed(seed: int) -> None:
    """One simulated run."""
    with closing(Run(seed)) as run:
        run.play()


def play_storm(seed: int) -> None:
    """One simulated run in which three faults strike often, and no other."""
    dice = random.Random(f"{seed} storm")
    with closing(Run(seed)) as run:
        faults = dice.sample(list(Fault), STORM_FAULTS)
        run.faults.chances = {fault: dice.random() * STORM_CHANCE_MAX * STORM_RARE.get(fault, 1.0) for fault in faults}
        run.play()


def sweep() -> Iterator[Trial]:
    """Each operation without a fault, then with each single fault, in an order that is shuffled once for all."""
    cases = bases()
    yield from map(_trial_of, cases)
    faulty = [case for base in cases for case in singles(play(base))]
    random.Random("planted").shuffle(faulty)
    yield from map(_trial_of, faulty)


def _trial_of(case: Case) -> Trial:
    return Trial(str(case), partial(play_case, case))


def play_case(case: Case) -> None:
    """One case of the sweep. Raises AssertionError with what broke."""
    outcome = play(case)
    if outcome.error is not None:
        raise AssertionError(outcome.error)


FINDERS: Final[Mapping[str, Finder]] = {"simulator": simulate, "sweep": sweep, "storm": storm}
