"""One case: an operation in a world, with faults at chosen points, and what must be true afterwards."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tests.simulation.faults import Fault, Point, faults_at
from tests.simulation.run import FREE, Run, Setting
from tests.sweep.operations import OPERATIONS, Operation, Scene

SEED = 1
#: Where the processes run: everything in one, or the control plane and an agent apart.
PLACES = ("one process", "agent apart")


class Case(NamedTuple):
    """What is played: the operation, where, and the faults by point."""

    operation: str
    place: str
    script: tuple[tuple[int, Fault], ...] = ()

    def __str__(self) -> str:
        faults = ", ".join(f"{fault.value} at point {number}" for number, fault in self.script) or "no fault"
        return f"{self.operation}, {self.place}: {faults}"


class Outcome(NamedTuple):
    """What it came to: the points that it passed until everything was at rest, and what broke."""

    case: Case
    points: tuple[Point, ...]
    error: str | None


def make_run(case: Case, *, story: bool = False) -> Run:
    """The world of a case."""
    setting = Setting(random.Random(SEED))
    setting.apart = case.place == PLACES[1]
    setting.hosts = ["sim0"]
    setting.effect_free = FREE[0]
    setting.lost_host = False
    setting.forgetful = True
    return Run(SEED, script=dict(case.script), setting=setting, story=story)


def play(case: Case, run: Run | None = None) -> Outcome:
    """Play a case to its end."""
    run = run or make_run(case)
    operation = next(one for one in OPERATIONS if one.name == case.operation)
    points: list[Point] = []
    error: str | None = None
    with contextlib.closing(run):
        try:
            run.play_out(_scenario(run, operation, points))
        except AssertionError as broken:
            error = str(broken)
    return Outcome(case, tuple(points), error)


async def _scenario(run: Run, operation: Operation, points: list[Point]) -> None:
    await run.furnish([{}, {}], 1)
    scene = Scene(run)
    for step in operation.prepare:
        await step(scene)
        await run.until(run.checker.find_unfinished)
    run.faults.on = True
    run.tell("sweep", f"{operation.name}")
    await operation.ask(scene)
    await run.until(run.checker.find_unfinished)
    run.faults.on = False
    points += run.faults.points
    run.network.heal()
    run.tell("sweep", "the same again")
    await operation.again(scene)
    await run.until(lambda: operation.missing_again(scene))
    run.tell("sweep", "the opposite")
    await operation.opposite(scene)
    await run.until(lambda: operation.missing_opposite(scene))
    await run.release()
    run.checker.check_journal()
    await run.clear()


def singles(base: Outcome) -> Iterator[Case]:
    """Every fault at every point that the operation passes."""
    yield from _with_one_more(base, after=-1)


def pairs(first: Outcome) -> Iterator[Case]:
    """Every second fault at every point that comes after the first one, until everything is at rest again."""
    yield from _with_one_more(first, after=first.case.script[-1][0])


def _with_one_more(outcome: Outcome, *, after: int) -> Iterator[Case]:
    case = outcome.case
    for point in outcome.points:
        if point.number > after:
            for fault in faults_at(point.kind, point.name):
                yield case._replace(script=(*case.script, (point.number, fault)))


def bases() -> list[Case]:
    """Each operation in each place, without a fault."""
    return [Case(operation.name, place) for operation in OPERATIONS for place in PLACES]


def describe(points: tuple[Point, ...]) -> Mapping[str, int]:
    """How often each kind of point occurs."""
    found: dict[str, int] = {}
    for point in points:
        found[f"{point.kind.value} {point.name}"] = found.get(f"{point.kind.value} {point.name}", 0) + 1
    return found
