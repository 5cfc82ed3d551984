"""Copies of a real `kevel up` that is killed when one is made and not yet recorded."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kevel.cli.client import Cloud
from kevel.cli.process import KevelProcess
from kevel.runtime import failpoints
from kevel.storage.marks import MARK_FILE

MakeKevel = Callable[..., KevelProcess]
SIM = ("--hypervisor", "sim")
WAIT_S = 30.0
BYTES = b"kept" * 1000


def status(cloud: Cloud, path: str, name: str | None) -> str:
    shown: dict[str, Any] = cloud.client.get(path)
    return str((shown if name is None else shown[name])["status"])


def wait(cloud: Cloud, path: str, name: str | None, wanted: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while (seen := status(cloud, path, name)) != wanted:
        assert time.monotonic() < deadline, f"{path} is {seen}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    "point",
    [
        "create_snapshot.done",
        "create_volume_from.done",
        "rewrite_volume.done",
        "write_image.done",
    ],
)
def test_a_kevel_that_is_killed_around_a_copy_ends_it_when_it_is_back(kevel: MakeKevel, data: Path, point: str) -> None:
    process = kevel(*SIM)
    cloud = process.start({failpoints.VARIABLE: f"{point}=kill"})
    volume_id = cloud.create_volume("v", 1, WAIT_S)
    file = data / "volumes" / f"volume-{volume_id}"
    with file.open("r+b") as opened:
        opened.write(BYTES)
    waited: tuple[str, str | None, str] = (f"/volume/v3/volumes/{volume_id}", "volume", "available")
    action = f"/volume/v3/volumes/{volume_id}/action"
    if point == "write_image.done":
        answer = cloud.client.post(action, {"os-volume_upload_image": {"image_name": "out"}})
        waited = (f"/image/v2/images/{answer['os-volume_upload_image']['image_id']}", None, "active")
    elif point == "create_volume_from.done":
        made = cloud.client.post("/volume/v3/volumes", {"volume": {"source_volid": volume_id}})["volume"]["id"]
        waited = (f"/volume/v3/volumes/{made}", "volume", "available")
        file = data / "volumes" / f"volume-{made}"
    else:
        made = cloud.client.post("/volume/v3/snapshots", {"snapshot": {"volume_id": volume_id}})["snapshot"]["id"]
        snapshot = f"/volume/v3/snapshots/{made}"
        if point == "rewrite_volume.done":
            wait(cloud, snapshot, "snapshot", "available")
            with file.open("r+b") as opened:
                opened.write(b"lost" * 1000)
            cloud.client.post(action, {"revert": {"snapshot_id": made}})
        else:
            waited = (snapshot, "snapshot", "available")
    assert process.wait_end(WAIT_S) == -9
    process.kill()
    cloud = process.start()
    wait(cloud, *waited)
    cloud.wait_volume(volume_id, "available", WAIT_S)
    assert file.read_bytes()[: len(BYTES)] == BYTES
    left = [name for name in list_files(data / "volumes") if name.startswith(".")]
    assert left == [], "no half-made file is left"


def list_files(pool: Path) -> list[str]:
    """What is in a pool's directory besides the mark by which agents know it."""
    return [path.name for path in pool.iterdir() if path.name != MARK_FILE]


def test_a_kevel_that_is_killed_behind_a_move_finds_the_old_file_when_it_is_back(kevel: MakeKevel, data: Path) -> None:
    config, there = data.with_suffix(".toml"), data.with_suffix(".pool")
    config.write_text(f'[limits]\ncompare_every_s = 0.2\n[[pools]]\nname = "second"\ndirectory = "{there}"\n')
    process = kevel(*SIM, "--config", str(config))
    try:
        # The first removal makes sure that nothing is in the other pool.
        cloud = process.start({failpoints.VARIABLE: "delete_volume.begin=kill@2"})
        volume_id = cloud.create_volume("v", 1, WAIT_S)
        name, path = f"volume-{volume_id}", f"/volume/v3/volumes/{volume_id}"
        with (data / "volumes" / name).open("r+b") as opened:
            opened.write(BYTES)
        host = cloud.client.get(path)["volume"]["os-vol-host-attr:host"].replace("directory", "second")
        cloud.client.post(f"{path}/action", {"os-migrate_volume": {"host": host}})
        assert process.wait_end(WAIT_S) == -9
        process.kill()
        cloud = process.start()
        cloud.wait_volume(volume_id, "available", WAIT_S)
        assert cloud.client.get(path)["volume"]["migration_status"] == "success"
        with (there / name).open("rb") as opened:
            assert opened.read(len(BYTES)) == BYTES
        deadline = time.monotonic() + WAIT_S
        while list_files(data / "volumes"):  # a comparison has to find it
            assert time.monotonic() < deadline, "the old file is still there"
            time.sleep(0.05)
    finally:
        process.kill()
        config.unlink()
        shutil.rmtree(there, ignore_errors=True)
