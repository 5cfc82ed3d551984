"""`kevel up` with a real guest is killed twenty times under load; each time everything agrees again by itself.

A thousand times: `make torture KILLS=1000`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from kevel.domain.errors import KevelError
from tests.torture.disk import PlainDisk
from tests.torture.run import GUEST, KEVEL, Torture, plan_kills

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(600)]

KILLS = 20
SEED = 3
#: Long, since it ends the wait for what is stuck; that things are quick is not asserted here.
SETTLE_S = 120.0


@pytest.fixture(scope="module")
def torture() -> Iterator[Torture]:
    made = Torture(PlainDisk(), SEED, guests=1, settle_s=SETTLE_S)
    try:
        made.prepare()
        yield made
    finally:
        made.close()


def test_no_kill_under_load_leaves_a_difference(torture: Torture) -> None:
    plan = [kill for kill in plan_kills(random.Random(SEED), KILLS + 5, can_fail=False) if kill != GUEST]
    torture.run(plan[:KILLS])
    assert torture.score.kills.total() >= KILLS
    assert torture.score.requests["writing sessions"] > 0


def test_the_census_sees_what_no_record_names_and_what_is_missing(torture: Torture) -> None:
    """Last, since it breaks what the other test needs."""
    assert torture.census.find_differences() == []
    stray = torture.stand.volume_file("11111111-2222-3333-4444-555555555555")
    stray.touch()
    assert "11111111-2222-3333-4444-555555555555" in torture.census.find_differences()[0]
    stray.unlink()
    volume = torture.stand.cloud.create_volume("v", 1, 30.0)
    torture.stand.volume_file(volume).rename(stray)
    assert len(torture.census.find_differences()) == 2
    stray.rename(torture.stand.volume_file(volume))
    assert torture.census.find_differences() == []
    torture.stand.kill()
    with pytest.raises((KevelError, AssertionError)):
        torture.census.find_differences()
    assert KEVEL not in torture.stand.spent()
