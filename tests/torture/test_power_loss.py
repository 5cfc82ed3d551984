"""The power is cut under `kevel up`, or its disk is full: what was answered stays, and everything goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import httpx
import pytest

from kevel.cli.client import ApiError
from kevel.hypervisor.base import VolumeBus
from kevel.hypervisor.libvirt.domain_xml import parse_domain_xml
from tests.system.libvirt.conftest import make_rig, seed_probed
from tests.torture.disk import LossyDisk
from tests.torture.run import FULL, POWER, Torture
from tests.torture.stand import Stand

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(300)]

WAIT_S = 30.0


@pytest.fixture
def stand(make_disk: Callable[[], LossyDisk]) -> Iterator[Stand]:
    made = Stand(make_disk())
    try:
        yield made
    finally:
        made.close()


def cut_and_restart(stand: Stand) -> None:
    assert isinstance(stand.disk, LossyDisk)
    stand.disk.cut_power()
    stand.kill_everything()
    stand.disk.restore_power()
    stand.start()


def test_s13_what_was_answered_survives_a_power_cut_right_behind_the_answer(stand: Stand) -> None:
    stand.start()
    cut_and_restart(stand)  # the first start's own files: key, password, database, the tiny guest's images
    client = stand.cloud.client
    (tiny,) = client.get("/image/v2/images?name=tiny")["images"]
    assert len(client.http.get(f"/image/v2/images/{tiny['id']}/file").content) == tiny["size"]
    image = {"name": "mine", "disk_format": "raw", "container_format": "bare"}
    image_id = client.post("/image/v2/images", image)["id"]
    content = bytes(range(256)) * 4096
    stored = client.http.put(
        f"/image/v2/images/{image_id}/file", content=content, headers={"Content-Type": "application/octet-stream"}
    )
    assert stored.status_code == httpx.codes.NO_CONTENT
    volume = stand.cloud.create_volume("v", 1, WAIT_S)
    client.post("/volume/v3/volumes", {"volume": {"name": "just-accepted", "size": 1}})
    cut_and_restart(stand)
    client = stand.cloud.client
    assert client.http.get(f"/image/v2/images/{image_id}/file").content == content
    assert stand.volume_file(volume).stat().st_size == 1 << 30
    names = {one["name"]: one["id"] for one in client.get("/volume/v3/volumes")["volumes"]}
    assert names.keys() == {"v", "just-accepted"}
    stand.cloud.wait_volume(names["just-accepted"], "available", WAIT_S)


async def test_s4_a_disk_that_has_left_a_definition_is_not_back_after_a_power_cut(
    make_disk: Callable[[], LossyDisk],
) -> None:
    # The driver alone: Kevel's own syncs behind the answer often make the definition last as well.
    disk = make_disk()
    try:
        rig = make_rig(disk.root / "d", VolumeBus.SCSI)
        seed_probed(rig.directory)
        await rig.open()
        spec = rig.make_spec()
        await rig.hypervisor.define_server(spec)
        volume = rig.make_disk()
        await rig.hypervisor.plug_disk(spec.server_id, volume)
        os.sync()
        assert await rig.hypervisor.unplug_disk(spec.server_id, volume.alias)
        disk.cut_power()
        await rig.hypervisor.close()
        disk.restore_power()
        (definition,) = (rig.directory / "libvirt" / "etc" / "qemu").glob("kevel-*.xml")
        assert parse_domain_xml(definition.read_text()).disks == {}
    finally:
        disk.close()


def test_power_cuts_and_full_disks_under_load_leave_no_difference(make_disk: Callable[[], LossyDisk]) -> None:
    torture = Torture(make_disk(), seed=5, guests=0, settle_s=120.0)
    try:
        torture.prepare()
        torture.run([POWER, FULL])
    finally:
        torture.close()
    assert torture.score.kills[POWER] == 1


def test_on_a_full_disk_detaches_end_and_a_killed_kevel_starts_again(stand: Stand) -> None:
    stand.start()
    stand.furnish()
    assert isinstance(stand.disk, LossyDisk)
    server = stand.cloud.create_server("s", image="hollow", flavor="tiny")
    stand.cloud.wait_server(server, "ACTIVE", WAIT_S)
    first, second = (stand.cloud.create_volume(name, 1, WAIT_S) for name in ("first", "second"))
    for volume in (first, second):
        stand.cloud.attach(server, volume)
        stand.cloud.wait_volume(volume, "in-use", WAIT_S)
    stand.disk.fill()
    with pytest.raises(ApiError, match="is full"):
        stand.cloud.create_volume("third", 1, WAIT_S)
    stand.cloud.detach(server, first)
    stand.cloud.wait_volume(first, "available", WAIT_S)
    stand.kill()
    stand.start()
    assert stand.cloud.volume_status(second) == "in-use"
    stand.cloud.detach(server, second)
    stand.cloud.wait_volume(second, "available", WAIT_S)
