"""The first start of all makes the database, keys, users and images; a kill in the middle of it costs time only."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kevel.cli.process import KevelProcess
from kevel.domain.errors import KevelError
from kevel.runtime import failpoints
from kevel.storage.marks import MARK_FILE

pytestmark = pytest.mark.timeout(120)

WAIT_S = 20.0


@pytest.fixture
def process() -> Iterator[KevelProcess]:
    root = Path(tempfile.mkdtemp(prefix="kv-"))
    made = KevelProcess(root, "--hypervisor", "sim")
    try:
        yield made
    finally:
        made.kill()
        shutil.rmtree(root, ignore_errors=True)
        made.log.unlink(missing_ok=True)


@pytest.mark.parametrize("commit", [1, 8, 14])
def test_a_first_start_that_is_killed_is_finished_by_the_next(process: KevelProcess, commit: int) -> None:
    with pytest.raises(KevelError, match="did not start"):
        process.start({failpoints.VARIABLE: f"commit.begin=kill@{commit}"})
    assert process.wait_end(WAIT_S) == -signal.SIGKILL
    process.kill()
    cloud = process.start()
    images = cloud.client.get("/image/v2/images")["images"]
    assert sorted(image["name"] for image in images) == ["tiny", "tiny-kernel", "tiny-ramdisk"]
    files = [path for path in (process.data / "images").iterdir() if path.name != MARK_FILE]
    assert {path.stat().st_size for path in files} == {one["size"] for one in images}
    server = cloud.create_server("s", image="tiny", flavor="tiny")
    cloud.wait_server(server, "ACTIVE", WAIT_S)
    volume = cloud.create_volume("v", 1, WAIT_S)
    cloud.attach(server, volume)
    cloud.wait_volume(volume, "in-use", WAIT_S)
