"""Under crashes, lost messages and late effects nothing is reported as unknown or lost that is only on its way."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from kevel.domain.findings import Finding, FindingKind, describe_finding
from tests.simulation.run import Run

#: What faults of the simulator really bring about, and Kevel puts right: guests that end, hosts that lose power,
#: storage that refuses for a while.
REAL = {
    FindingKind.SERVER_STOPPED,
    FindingKind.SERVER_RUNS,
    FindingKind.SERVER_LEFT,
    FindingKind.DISK_MISSING,
    FindingKind.STORAGE_SILENT,
}
SEEDS = range(500, 512)


@pytest.mark.parametrize("seed", SEEDS)
def test_l3_no_alarm_is_false_whatever_fails_in_the_middle(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    alarms: list[Finding] = []

    def hear(new: Iterable[Finding]) -> None:
        alarms.extend(new)

    monkeypatch.setattr("kevel.control.hosts.raise_alarms", hear)
    monkeypatch.setattr("kevel.control.comparison.raise_alarms", hear)
    run = Run(seed)
    try:
        run.play()
    finally:
        run.close()
    assert [describe_finding(one) for one in alarms if one.kind not in REAL] == []
