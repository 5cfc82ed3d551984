"""Under crashes, lost messages and late effects nothing is reported as unknown or lost that is only on its way."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest

from kevel.domain.findings import Finding, FindingKind, describe_finding
from kevel.store.accounts import Account, AccountFilter
from tests.simulation.processes import ControlProcess
from tests.simulation.run import Run
from tests.simulation.users import USER, Request, draw_request

#: What faults of the simulator really bring about, and Kevel puts right: guests that end, hosts that lose power,
#: storage that refuses for a while.
REAL = {
    FindingKind.SERVER_STOPPED,
    FindingKind.SERVER_RUNS,
    FindingKind.SERVER_LEFT,
    FindingKind.DISK_MISSING,
    FindingKind.DISK_LEFT,
    FindingKind.STORAGE_SILENT,
}
SEEDS = range(500, 508)


@pytest.mark.parametrize("seed", SEEDS)
def test_l3_no_alarm_is_false_whatever_fails_in_the_middle(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    alarms: list[Finding] = []

    def hear(new: Iterable[Finding]) -> None:
        alarms.extend(new)

    monkeypatch.setattr("kevel.control.hosts.hosts.raise_alarms", hear)
    monkeypatch.setattr("kevel.control.hosts.comparison.raise_alarms", hear)
    run = Run(seed)
    try:
        run.play()
    finally:
        run.close()
    assert [describe_finding(one) for one in alarms if one.kind not in REAL] == []


async def ask_everything(process: ControlProcess, dice: random.Random) -> list[Account]:
    """Read what every attachment says of itself, have some looked at again, and now and then examine everything."""
    explaining = process.workers.explaining
    rows, _ = await explaining.accounts(AccountFilter(project_id=None, closed=True, limit=100))
    found = [await explaining.account(USER, one.attachment.id) for one in rows]
    for account in found:
        assert account.explanation.why.endswith(".")
        layers = 2 if account.attachment.is_external else 5
        assert all(len(one.layers) == layers for one in account.paths)
        if account.attachment.closed_at is None and dice.random() < 0.5:
            await explaining.retry(USER, account.attachment.id)
    if dice.random() < 0.2:
        await process.workers.comparison.examine()
    return found


@pytest.mark.parametrize("seed", [600, 601, 602, 604])
def test_asking_why_and_asking_for_a_look_break_nothing_whatever_else_fails(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Account] = []

    async def ask(process: ControlProcess, dice: random.Random) -> None:
        asked.extend(await ask_everything(process, dice))

    def draw(dice: random.Random, servers: Sequence[str], volumes: Sequence[str]) -> Request:
        if dice.random() < 0.7:
            return draw_request(dice, servers, volumes)
        return Request("ask why", "", "", lambda process: ask(process, dice))

    monkeypatch.setattr("tests.simulation.run.draw_request", draw)
    run = Run(seed)
    try:
        run.play()
    finally:
        run.close()
    assert asked
