"""Backups of a real `kevel up` that is killed around what it does for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kevel.cli.client import ApiError, Cloud
from kevel.cli.process import KevelProcess
from kevel.runtime import failpoints

MakeKevel = Callable[..., KevelProcess]
SIM = ("--hypervisor", "sim")
WAIT_S = 30.0
BYTES = b"kept" * 1000


def backup_status(cloud: Cloud, backup_id: str) -> str:
    try:
        return str(cloud.client.get(f"/volume/v3/backups/{backup_id}")["backup"]["status"])
    except ApiError as error:
        if error.status == 404:
            return "gone"
        raise


def wait_backup(cloud: Cloud, backup_id: str, wanted: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while (seen := backup_status(cloud, backup_id)) != wanted:
        assert time.monotonic() < deadline, f"the backup is {seen}"
        time.sleep(0.05)


def back_up(cloud: Cloud, volume_id: str) -> str:
    made = cloud.client.post("/volume/v3/backups", {"backup": {"volume_id": volume_id}})
    return str(made["backup"]["id"])


@pytest.mark.parametrize(("act", "moment"), [("create", "done"), ("restore", "done"), ("delete", "begin")])
def test_a_kevel_that_is_killed_around_a_backups_act_ends_it_when_it_is_back(
    kevel: MakeKevel, data: Path, act: str, moment: str
) -> None:
    process = kevel(*SIM)
    cloud = process.start({failpoints.VARIABLE: f"{act}_backup.{moment}=kill"})
    volume_id = cloud.create_volume("v", 1, WAIT_S)
    file = data / "volumes" / f"volume-{volume_id}"
    with file.open("r+b") as opened:
        opened.write(BYTES)
    backup_id = back_up(cloud, volume_id)
    if act != "create":
        wait_backup(cloud, backup_id, "available")
    if act == "restore":
        with file.open("r+b") as opened:
            opened.write(b"lost" * 1000)
        cloud.client.post(f"/volume/v3/backups/{backup_id}/restore", {"restore": {"volume_id": volume_id}})
    if act == "delete":
        cloud.client.delete(f"/volume/v3/backups/{backup_id}")
    assert process.wait_end(WAIT_S) == -9
    process.kill()
    cloud = process.start()
    wait_backup(cloud, backup_id, "gone" if act == "delete" else "available")
    cloud.wait_volume(volume_id, "available", WAIT_S)
    assert file.read_bytes()[: len(BYTES)] == BYTES
    names = {path.name for path in (data / "backups").iterdir()}
    assert names == (set() if act == "delete" else {f"backup-{backup_id}"})
