"""Plays all cases, in several processes, and counts what they came to."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tests.sweep.cases import Case, Outcome, bases, pairs, play, singles

#: Cases that one process is given at a time.
CHUNK = 8


@dataclass
class Row:
    """One operation in one place."""

    operation: str
    place: str
    points: int = 0
    cases: int = 0
    #: Cases after which something was left, unfinished or wrong.
    residue: int = 0


@dataclass
class Tally:
    """What a sweep came to."""

    depth: int
    #: One of so many cases was played.
    one_in: int
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    broken: list[Outcome] = field(default_factory=list)
    cpu_s: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one case."""
        case = outcome.case
        row = self.rows.setdefault((case.operation, case.place), Row(case.operation, case.place))
        row.cases += 1
        if not case.script:
            row.points = len(outcome.points)
        if outcome.error is not None:
            row.residue += 1
            self.broken.append(outcome)

    @property
    def cases(self) -> int:
        """How many cases were played."""
        return sum(row.cases for row in self.rows.values())


def sweep(
    depth: int,
    *,
    jobs: int,
    operations: Iterable[str] = (),
    one_in: int = 1,
    told: Callable[[int, int], None] = lambda done, known: None,
) -> Tally:
    """Play every case with up to `depth` faults (1 or 2); `one_in` N plays each N-th of the deepest ones.

    `told` hears how many cases are done, and how many are known so far.
    """
    wanted = set(operations)
    chosen = [case for case in bases() if not wanted or case.operation in wanted]
    tally = Tally(depth, one_in)
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        cases, known = chosen, len(chosen)
        for level in range(depth + 1):
            found: list[Case] = []
            for outcome, cpu_s in pool.imap_unordered(_play_timed, cases, chunksize=CHUNK):
                tally.add(outcome)
                tally.cpu_s += cpu_s
                if level < depth and outcome.error is None:
                    more = list(_deeper(outcome))
                    found += more[:: one_in if level + 1 == depth else 1]
                told(tally.cases, known + len(found))
            cases, known = found, known + len(found)
    return tally


def _deeper(outcome: Outcome) -> Iterator[Case]:
    return pairs(outcome) if outcome.case.script else singles(outcome)


def _play_timed(case: Case) -> tuple[Outcome, float]:
    started = time.process_time()
    outcome = play(case)
    return outcome, time.process_time() - started
