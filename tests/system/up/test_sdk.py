"""openstacksdk, as it is: a volume's life by the block storage proxy, and by the cloud layer with its waiting."""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack
import pytest
from openstack.exceptions import BadRequestException, NotFoundException

from kevel.cli.process import KevelProcess

# What the SDK warns of is its own affair.
pytestmark = [pytest.mark.timeout(200), pytest.mark.filterwarnings("ignore")]

WAIT_S = 60


@pytest.fixture(scope="module")
def cloud() -> Iterator[Any]:
    root = Path(tempfile.mkdtemp(prefix="kv-"))
    process = KevelProcess(root / "d", "--hypervisor", "sim")
    try:
        url = str(process.start().client.http.base_url).rstrip("/")
        connection = openstack.connect(
            auth_url=f"{url}/identity/v3",
            username="admin",
            password=(root / "d" / "admin-password").read_text().strip(),
            project_name="admin",
            user_domain_name="Default",
            project_domain_name="Default",
            region_name="RegionOne",
            load_yaml_config=False,
            load_envvars=False,
        )
        yield connection
        connection.close()
    finally:
        process.kill()
        shutil.rmtree(root, ignore_errors=True)


def test_the_proxy_leads_a_volume_through_its_life(cloud: Any) -> None:
    proxy = cloud.block_storage
    volume = proxy.create_volume(name="life", size=1, metadata={"a": "b"})
    volume = proxy.wait_for_status(volume, "available", wait=WAIT_S, interval=0.2)
    assert (volume.name, volume.size, volume.metadata) == ("life", 1, {"a": "b"})
    assert [one.id for one in proxy.volumes(details=True, name="life")] == [volume.id]
    proxy.extend_volume(volume, 2)
    for _ in range(WAIT_S * 5):  # the proxy's wait would believe the status it has seen already
        volume = proxy.get_volume(volume.id)
        if (volume.status, volume.size) == ("available", 2):
            break
        time.sleep(0.2)
    assert (volume.status, volume.size) == ("available", 2)
    snapshot = proxy.create_snapshot(volume_id=volume.id, name="shot")
    proxy.wait_for_status(snapshot, "available", wait=WAIT_S, interval=0.2)
    copy = proxy.create_volume(name="copy", snapshot_id=snapshot.id)
    assert proxy.wait_for_status(copy, "available", wait=WAIT_S, interval=0.2).size == 2
    with pytest.raises(BadRequestException):
        proxy.delete_volume(volume, ignore_missing=False)
    backup = proxy.create_backup(volume_id=volume.id, name="kept")
    proxy.wait_for_status(backup, "available", wait=WAIT_S, interval=0.2)
    for one, find, delete in (
        (backup, proxy.get_backup, proxy.delete_backup),
        (snapshot, proxy.get_snapshot, proxy.delete_snapshot),
        (copy, proxy.get_volume, proxy.delete_volume),
        (volume, proxy.get_volume, proxy.delete_volume),
    ):
        delete(one, ignore_missing=False)
        proxy.wait_for_delete(one, wait=WAIT_S, interval=0.2)
        with pytest.raises(NotFoundException):
            find(one.id)


def test_the_proxy_declares_an_attachment_for_a_host_of_its_own(cloud: Any) -> None:
    proxy = cloud.block_storage
    volume = proxy.wait_for_status(proxy.create_volume(name="metal", size=1), "available", wait=WAIT_S, interval=0.2)
    connector = {"host": "metal-1", "ip": "10.0.0.1"}
    made = proxy.create_attachment(volume, connector=connector, instance=str(uuid.uuid4()))
    proxy.complete_attachment(made)
    assert proxy.get_volume(volume.id).status == "in-use"
    assert [one.id for one in proxy.attachments()] == [made.id]
    proxy.delete_attachment(made)
    proxy.wait_for_status(volume, "available", wait=WAIT_S, interval=0.2)
    proxy.delete_volume(volume)


def test_the_cloud_layer_attaches_and_detaches_and_waits(cloud: Any) -> None:
    image, flavor = cloud.image.find_image("tiny"), cloud.compute.find_flavor("tiny")
    server = cloud.compute.create_server(name="s", image_id=image.id, flavor_id=flavor.id, networks="none")
    server = cloud.compute.wait_for_server(server, wait=WAIT_S)
    volume = cloud.create_volume(1, name="c", wait=True, timeout=WAIT_S)
    cloud.attach_volume(server, volume, wait=True, timeout=WAIT_S)
    volume = cloud.get_volume(volume.id)
    assert (volume.status, volume.attachments[0]["server_id"]) == ("in-use", server.id)
    snapshot = cloud.create_volume_snapshot(volume.id, name="of-c", force=True, wait=True, timeout=WAIT_S)
    cloud.detach_volume(server, volume, wait=True, timeout=WAIT_S)
    assert cloud.get_volume(volume.id).status == "available"
    assert cloud.delete_volume_snapshot(snapshot.id, wait=True, timeout=WAIT_S)
    assert cloud.delete_volume(volume.id, wait=True, timeout=WAIT_S)
    assert cloud.delete_server(server.id, wait=True, timeout=WAIT_S)


def test_the_cloud_layer_makes_servers_with_volumes(cloud: Any) -> None:
    image, flavor = cloud.image.find_image("tiny"), cloud.compute.find_flavor("tiny")
    data = cloud.create_volume(1, name="data", wait=True, timeout=WAIT_S)
    how = {"flavor": flavor.id, "auto_ip": False}  # its own waiting wants an address, and there are no networks
    server = cloud.create_server(
        "s", image=image.id, boot_from_volume=True, volume_size=1, terminate_volume=True, volumes=[data.id], **how
    )
    cloud.compute.wait_for_server(server, wait=WAIT_S)
    root, other = cloud.compute.get_server(server.id).attached_volumes
    assert (root["delete_on_termination"], other["id"]) == (True, data.id)
    assert {cloud.get_volume(one["id"]).status for one in (root, other)} == {"in-use"}
    assert cloud.delete_server(server.id, wait=True, timeout=WAIT_S)
    assert cloud.get_volume(data.id).status == "available"
    source = cloud.create_volume(1, name="source", image=image.id, wait=True, timeout=WAIT_S)
    server = cloud.create_server("t", boot_volume=source.id, **how)
    cloud.compute.wait_for_server(server, wait=WAIT_S)
    assert [one["id"] for one in cloud.compute.get_server(server.id).attached_volumes] == [source.id]
    assert cloud.delete_server(server.id, wait=True, timeout=WAIT_S)
    for volume in (data, source):
        assert cloud.delete_volume(volume.id, wait=True, timeout=WAIT_S)


def test_the_compute_proxy_leads_a_server_through_its_life_and_tells_of_it(cloud: Any) -> None:
    proxy = cloud.compute
    image, flavor = cloud.image.find_image("tiny"), proxy.find_flavor("tiny")
    server = proxy.create_server(name="p", image_id=image.id, flavor_id=flavor.id, networks="none")
    server = proxy.wait_for_server(server, wait=WAIT_S)
    for act, status in (
        (proxy.pause_server, "PAUSED"),
        (proxy.unpause_server, "ACTIVE"),
        (proxy.suspend_server, "SUSPENDED"),
        (proxy.resume_server, "ACTIVE"),
        (proxy.stop_server, "SHUTOFF"),
        (proxy.start_server, "ACTIVE"),
    ):
        act(server)
        server = proxy.wait_for_server(server, status=status, interval=0.2, wait=WAIT_S)
    assert proxy.get_server_console_output(server, length=5)["output"].count("simulated guest") == 4
    diagnostics = proxy.get_server_diagnostics(server)
    assert (diagnostics.num_cpus, diagnostics.num_disks, diagnostics.state) == (1, 1, "running")
    actions = list(proxy.server_actions(server))
    assert [one.action for one in actions] == ["start", "stop", "resume", "suspend", "unpause", "pause", "create"]
    assert proxy.get_server_action(actions[0].request_id, server).events[0]["result"] == "Success"
    volume = cloud.create_volume(1, name="p-data", wait=True, timeout=WAIT_S)
    made = proxy.create_volume_attachment(server, volume_id=volume.id, tag="t", delete_on_termination=True)
    cloud.block_storage.wait_for_status(cloud.get_volume(volume.id), "in-use", wait=WAIT_S, interval=0.2)
    (found,) = proxy.volume_attachments(server)
    assert (found.volume_id, found.tag, found.delete_on_termination) == (volume.id, "t", True)
    assert made.volume_id == volume.id
    proxy.update_volume_attachment(server, volume, volume_id=volume.id, delete_on_termination=False)
    assert proxy.get_volume_attachment(server, volume).delete_on_termination is False
    proxy.delete_volume_attachment(server, volume)
    cloud.block_storage.wait_for_status(cloud.get_volume(volume.id), "available", wait=WAIT_S, interval=0.2)
    assert list(proxy.migrations()) == list(proxy.server_migrations(server)) == list(proxy.aggregates()) == []
    assert [one.project_id for one in proxy.usages()] == [server.project_id]
    (host,) = proxy.hypervisors(details=True)
    assert " up " in host.uptime
    assert next(iter(proxy.availability_zones())).name == "nova"
    assert cloud.delete_server(server.id, wait=True, timeout=WAIT_S)
    assert cloud.delete_volume(volume.id, wait=True, timeout=WAIT_S)
