"""A small crowd, for a short time, with every `make test`."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kevel.cli.process import KevelProcess
from tests.crowd.__main__ import run_crowd
from tests.crowd.audit import SLACK_US, find_unjust
from tests.crowd.users import Refusal

pytestmark = pytest.mark.timeout(200)


@pytest.fixture
def kevel() -> Iterator[KevelProcess]:
    root = Path(tempfile.mkdtemp(prefix="kv-"))
    process = KevelProcess(root / "d", "--hypervisor", "sim")
    try:
        yield process
    finally:
        process.kill()
        shutil.rmtree(root, ignore_errors=True)


def test_a_crowd_on_shared_volumes_meets_no_error_and_leaves_nothing(kevel: KevelProcess) -> None:
    shared, problems = run_crowd(kevel.start(), kevel.data / "kevel.db", users=40, seconds=10.0, seed=2)
    assert problems == []
    asked = {name.rpartition(" ")[0] for name in shared.answers}
    assert asked >= {"create", "attach", "detach", "extend", "delete", "snapshot", "delete snapshot"}


def test_a_refusal_counts_as_unjust_only_while_the_volume_was_available(kevel: KevelProcess) -> None:
    cloud = kevel.start()
    volume_id = cloud.create_volume("calm", 1, 30.0)
    time.sleep(2 * SLACK_US / 1e6)
    now = time.time_ns() // 1000
    refusal = Refusal("attach", volume_id, "", 400, "no", now, now)
    database = kevel.data / "kevel.db"
    assert len(list(find_unjust(database, [refusal]))) == 1
    while_created = refusal._replace(asked_at=now - 60_000_000)
    assert list(find_unjust(database, [while_created, refusal._replace(what="delete")])) == []
