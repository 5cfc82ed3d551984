"""The hunt for one planted bug: trials until one says what is wrong, or until the bounds are reached."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from tests.planted.bugs import BUGS
from tests.planted.finders import FINDERS, Finder, Trial
from tests.planted.planting import Bug, Planting

#: The aim of `make planted`: a bug that needs more is a hole in the net.
TRIALS_MAX: Final = 10_000
CPU_S_MAX: Final = 300.0
SAID_CHARS_MAX: Final = 400


class Hunt(msgspec.Struct, frozen=True, kw_only=True):
    """How the hunt for one bug ended."""

    bug: str
    stands_for: str
    #: What found it; "" when nothing did.
    finder: str = ""
    #: The trial that found it.
    trial: str = ""
    #: What the checks said, shortened.
    said: str = ""
    #: Trials that were run, the last included, over all finders.
    trials: int
    cpu_s: float
    #: How often the wrong code ran.
    bites: int
    #: Trials that fail without the bug too, and so say nothing of it.
    unfit: int = 0
    #: The switch itself does not work: why. Then nothing was shown.
    broken: str = ""

    @property
    def found(self) -> bool:
        """The checks noticed, and the switch was in order."""
        return bool(self.finder) and not self.broken


def hunt(
    bug: Bug, finders: Mapping[str, Finder], *, trials_max: int = TRIALS_MAX, cpu_s_max: float = CPU_S_MAX
) -> Hunt:
    """Plant the bug and let each finder in turn look for it, within an equal share of the bounds."""
    started = time.process_time()
    trials = bites = unfit = 0
    for number, (name, finder) in enumerate(finders.items(), start=1):
        until = started + cpu_s_max * number / len(finders)
        for trial in islice(finder(), trials_max):
            said, planting = _try(bug, trial)
            trials, bites = trials + 1, bites + planting.bites
            broken = _find_break(planting)
            if said and not broken and (not planting.bites or _run(trial)):
                unfit += 1
            elif said or broken:
                found = {"finder": name, "trial": trial.label, "said": said, "broken": broken}
                return _end(bug, started, {"trials": trials, "bites": bites, "unfit": unfit, **found})
            if time.process_time() > until:
                break
    return _end(bug, started, {"trials": trials, "bites": bites, "unfit": unfit})


def hunt_named(name: str, finders: Sequence[str], trials_max: int, cpu_s_max: float) -> Hunt:
    """The hunt for the bug of that name with the finders of those names; for processes of their own."""
    chosen = {each: FINDERS[each] for each in finders}
    return hunt(BUGS[name], chosen, trials_max=trials_max, cpu_s_max=cpu_s_max)


def _end(bug: Bug, started: float, rest: dict[str, Any]) -> Hunt:
    return Hunt(bug=bug.name, stands_for=bug.stands_for, cpu_s=time.process_time() - started, **rest)


def _try(bug: Bug, trial: Trial) -> tuple[str, Planting]:
    """What the checks said of one trial with the bug in."""
    with Planting() as planting:
        bug.plant(planting)
        return _run(trial), planting


def _run(trial: Trial) -> str:
    try:
        trial.run()
    except AssertionError as error:
        return str(error)[:SAID_CHARS_MAX] or "an assertion without words"
    except Exception as error:  # noqa: BLE001 - an answer that no user should get is a finding too
        return f"{type(error).__name__}: {error}".partition("\n")[0][:SAID_CHARS_MAX]
    return ""


def _find_break(planting: Planting) -> str:
    """Why nothing that the trial said can be believed; "" when it can."""
    if not planting.broken:
        return ""
    error = planting.broken[0]
    return f"the switch itself raised {type(error).__name__}: {error}"
