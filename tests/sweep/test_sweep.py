"""Single faults, and some pairs; `make sweep` and `make sweep-pairs` play them all."""

from __future__ import annotations

import os
import random

import pytest

from tests.simulation.faults import Fault, Kind, faults_at
from tests.sweep.cases import Case, bases, pairs, play, singles
from tests.sweep.operations import OPERATIONS
from tests.sweep.sweep import Tally, sweep
from tests.sweep.track_record import markdown

#: What attachments live by: all of its single faults are played on every commit.
OF_ATTACHMENTS = (
    "attach",
    "detach",
    "detach behind attach",
    "hand over",
    "delete server, volume attached",
    "delete server, half attached",
    "delete volume",
    "stop",
    "start",
    "hard reboot",
    "extend, attached",
    "restart of everything",
)
#: Of all other operations, one in so many is; `make sweep` plays every one.
ONE_IN = 4
#: Pairs of faults that are tried of each operation.
PAIRS = 6


@pytest.mark.timeout(600)
@pytest.mark.parametrize("of_attachments", [True, False])
def test_no_fault_at_any_point_leaves_anything_behind(*, of_attachments: bool) -> None:
    wanted = [one.name for one in OPERATIONS if (one.name in OF_ATTACHMENTS) is of_attachments]
    tally = sweep(1, jobs=os.cpu_count() or 1, operations=wanted, one_in=1 if of_attachments else ONE_IN)
    assert {(row.operation, row.place) for row in tally.rows.values()} == {
        (one.operation, one.place) for one in bases() if one.operation in wanted
    }
    assert all(row.points for row in tally.rows.values()), "an operation that passes no point is not swept"
    assert not tally.broken, "\n".join(f"{one.case}: {one.error}" for one in tally.broken[:10])


@pytest.mark.parametrize("operation", [one.name for one in OPERATIONS])
def test_no_second_fault_during_the_recovery_leaves_anything_behind(operation: str) -> None:
    dice = random.Random(operation)
    place = dice.choice([case.place for case in bases()])
    clean = play(Case(operation, place))
    for _ in range(PAIRS):
        first = play(dice.choice(list(singles(clean))))
        assert first.error is None, f"{first.case}: {first.error}"
        more = list(pairs(first))
        if more:
            outcome = play(dice.choice(more))
            assert outcome.error is None, f"{outcome.case}: {outcome.error}"


def test_the_cases_are_every_fault_of_every_point() -> None:
    clean = play(Case("attach", "agent apart"))
    named = {point.name for point in clean.points}
    assert {"attach", "export_volume", "connect_volume", "plug_disk", "report", "answer to report"} <= named
    assert sum(1 for _ in singles(clean)) == sum(len(faults_at(point.kind, point.name)) for point in clean.points)


def test_a_script_strikes_where_it_says() -> None:
    clean = play(Case("attach", "one process"))
    point = next(point for point in clean.points if point.kind is Kind.EFFECT and point.name == "plug_disk")
    struck = play(Case("attach", "one process", ((point.number, Fault.CRASH_AFTER),)))
    assert struck.error is None
    assert len(struck.points) > len(clean.points), "the recovery passes points of its own"


def test_the_table_says_what_was_played() -> None:
    tally = Tally(1, 1)
    tally.add(play(Case("attach", "one process")))
    assert "| attach | one process |" in markdown(tally)
    assert "| **all** | | | **1** | **0** |" in markdown(tally)
