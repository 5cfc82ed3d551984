"""Where a planted bug is looked for: each finder gives trials, and a trial that raises has found it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import count
from typing import Final, NamedTuple

from kevel.domain.model import BootKind
from tests.simulation.faults import Fault
from tests.simulation.run import Run, Setting
from tests.simulation.users import attach, detach, reboot
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
STORM_RARE: Final[Mapping[Fault, float]] = {Fault.HOST_DIES: 0.05, Fault.CUT: 0.1}

#: Detaches that a stubborn user asks for, and the longest pause between two of them: longer than a detach's deadline.
QUARREL_REQUESTS: Final = 8
QUARREL_PAUSE_S_MAX: Final = 90.0

#: How long nobody hears well.
DEAF_S: Final = 10.0

#: How long a hard reboot takes at the most, and what everything gets to come back after a loss of power.
REBOOT_S: Final = 0.1
BLACKOUT_S: Final = 5.0


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


def quarrel() -> Iterator[Trial]:
    """A user who asks again and again, a guest that never lets go, and a network that is slow to tell either."""
    for seed in count():
        yield Trial(f"quarrel {seed}", partial(play_quarrel, seed))


def play_quarrel(seed: int) -> None:
    """One such run."""
    setting = Setting(random.Random(f"{seed} quarrel"))
    setting.apart, setting.hosts, setting.lost_host = True, ["sim0"], False
    with closing(Run(seed, setting=setting)) as run:
        run.faults.chances = {Fault.LOST: 0.1, Fault.LATE: 0.1, Fault.REPEATED: 0.1}
        run.play_out(_quarrel(run, random.Random(f"{seed} user")))


async def _quarrel(run: Run, user: random.Random) -> None:
    await run.furnish([{"sim:unplug": "refuse"}], 1)
    (server,), (volume,) = run.servers, run.volumes
    await run.ask(attach(server, volume))
    await run.until(run.checker.find_unfinished)
    run.faults.on = True
    for _ in range(QUARREL_REQUESTS):
        await run.ask(detach(server, volume))
        await asyncio.sleep(user.random() * QUARREL_PAUSE_S_MAX)
    run.faults.on = False
    run.network.heal()
    await run.until(run.checker.find_unfinished)
    run.checker.check_journal()


def deafness() -> Iterator[Trial]:
    """Guests die, and half of the events and messages that tell of it are lost."""
    for seed in count():
        yield Trial(f"deafness {seed}", partial(play_deafness, seed))


def play_deafness(seed: int) -> None:
    """One such run."""
    setting = Setting(random.Random(f"{seed} deafness"))
    setting.lost_host = False
    with closing(Run(seed, setting=setting)) as run:
        run.faults.chances = {Fault.LOST: 0.5}
        run.play_out(_deafness(run))


async def _deafness(run: Run) -> None:
    await run.furnish([{}, {}], 1)
    await run.ask(attach(run.servers[0], run.volumes[0]))
    await run.until(run.checker.find_unfinished)
    run.faults.on = True
    for host in run.world.hosts.values():
        for server in run.servers:
            host.hypervisor.crash_guest(server)
    await asyncio.sleep(DEAF_S)
    run.faults.on = False
    await run.until(run.checker.find_unfinished)
    run.checker.check_journal()


def blackout() -> Iterator[Trial]:
    """A host loses power while a server starts whose volume has gone to another one."""
    for seed in count():
        yield Trial(f"blackout {seed}", partial(play_blackout, seed))


def play_blackout(seed: int) -> None:
    """One such run."""
    setting = Setting(random.Random(f"{seed} blackout"))
    setting.lost_host, setting.forgetful = False, True
    with closing(Run(seed, setting=setting)) as run:
        run.faults.chances = {}
        run.play_out(_blackout(run, random.Random(f"{seed} night")))


async def _blackout(run: Run, night: random.Random) -> None:
    await run.furnish([{}, {}], 1)
    first, second = run.servers
    for request in (attach(first, run.volumes[0]), detach(first, run.volumes[0]), attach(second, run.volumes[0])):
        await run.ask(request)
        await run.until(run.checker.find_unfinished)
    await run.ask(reboot(first, BootKind.HARD))
    await asyncio.sleep(night.random() * REBOOT_S)
    for host in run.world.hosts:
        run.lose_power(host)
    await asyncio.sleep(BLACKOUT_S)
    for server in run.servers:
        await run.ask(reboot(server, BootKind.HARD))
    await run.until(run.checker.find_unfinished)
    await run.release()
    run.checker.check_journal()


FINDERS: Final[Mapping[str, Finder]] = {
    "simulator": simulate,
    "sweep": sweep,
    "storm": storm,
    "quarrel": quarrel,
    "deafness": deafness,
    "blackout": blackout,
}
