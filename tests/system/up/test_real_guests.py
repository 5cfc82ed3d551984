"""`kevel up` with real QEMU guests: attach, detach, and what happens when somebody is killed or refuses."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kevel.cli.client import ApiError, Cloud
from kevel.cli.console import GuestConsole
from kevel.cli.process import KevelProcess, processes_of

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(240)]

BOOT_S = 120.0
WAIT_S = 30.0
#: Long enough for a guest that answers, short enough to wait out one that does not.
CONFIG = "[limits]\ndetach_timeout_s = 6.0\nunplug_ask_again_s = 1.0\nshutdown_grace_s = 10.0\n"
#: A guest without ACPI never answers an unplug.
DEAF = "console=ttyS0 quiet acpi=off"


class Stand:
    """One Kevel on one data directory, its guests, and their consoles."""

    def __init__(self, data: Path, configured: str = CONFIG) -> None:
        self.data = data
        config = data / "kevel.toml"
        config.write_text(configured)
        self.process = KevelProcess(data, "--config", str(config))
        self.cloud: Cloud = self.process.start()

    def restart(self) -> None:
        self.cloud = self.process.start()

    def boot(self, name: str, image: str = "tiny") -> str:
        server_id = self.cloud.create_server(name, image=image, flavor="tiny")
        self.cloud.wait_server(server_id, "ACTIVE", BOOT_S)
        with self.console(server_id) as console:
            console.wait_ready(BOOT_S)
        return server_id

    def ask_boot_from_volume(self, name: str, *others: dict[str, Any]) -> str:
        """Ask for a server whose root disk is a volume made of the tiny image; it has the others besides."""
        (tiny,) = self.cloud.client.get("/image/v2/images?name=tiny")["images"]
        root = {"uuid": tiny["id"], "source_type": "image", "destination_type": "volume", "volume_size": 1}
        root |= {"boot_index": 0, "delete_on_termination": True}
        server: dict[str, Any] = {"name": name, "imageRef": "", "flavorRef": "tiny", "networks": "none"}
        server["block_device_mapping_v2"] = [root, *others]
        return str(self.cloud.client.post("/compute/v2.1/servers", {"server": server})["server"]["id"])

    def boot_from_volume(self, name: str, *others: dict[str, Any]) -> str:
        """The same, with its guest running."""
        server_id = self.ask_boot_from_volume(name, *others)
        self.cloud.wait_server(server_id, "ACTIVE", BOOT_S)
        with self.console(server_id) as console:
            console.wait_ready(BOOT_S)
        return server_id

    def volumes_of(self, server_id: str) -> list[str]:
        """The volumes of a server, the root first."""
        return [one["id"] for one in self.cloud.server(server_id)["os-extended-volumes:volumes_attached"]]

    def console(self, server_id: str) -> GuestConsole:
        return GuestConsole(self.data / "servers" / server_id / "console.sock")

    def disks(self, server_id: str) -> dict[str, str]:
        """The disks that the guest itself sees: device names by serial. After a boot the names are as it likes."""
        with self.console(server_id) as console:
            lines = console.run("disks").output.splitlines()
        return {words[2]: Path("/dev", words[0]).as_posix() for line in lines if len(words := line.split()) == 3}

    def find_device(self, server_id: str, volume_id: str) -> str:
        """The volume's device in the guest, which looks for a disk that it has been given in its own time."""
        self.wait_serial(server_id, volume_id, there=True)
        return self.disks(server_id)[volume_id]

    def write(self, server_id: str, volume_id: str, text: str) -> None:
        """Have the guest write the text to the beginning of its disk."""
        device = self.find_device(server_id, volume_id)
        with self.console(server_id) as console:
            assert console.run(f"echo {text} | dd of={device} bs=512 conv=sync,fsync").code == 0

    def read(self, server_id: str, volume_id: str, length: int) -> str:
        """What the guest finds at the beginning of its disk."""
        device = self.find_device(server_id, volume_id)
        with self.console(server_id) as console:
            return console.run(f"head -c {length} {device}").output.strip()

    def wait_serial(self, server_id: str, volume_id: str, *, there: bool) -> None:
        deadline = time.monotonic() + WAIT_S
        while (volume_id in self.disks(server_id)) is not there:
            assert time.monotonic() < deadline, f"{volume_id} there={not there} in {server_id}"
            time.sleep(0.1)

    def wait_booted_with(self, server_id: str, volume_id: str) -> None:
        """After a boot: the guest answers, and sees the volume."""
        with self.console(server_id) as console:
            console.wait_ready(BOOT_S)
        self.wait_serial(server_id, volume_id, there=True)

    def attach(self, server_id: str, volume_id: str) -> None:
        self.cloud.attach(server_id, volume_id)
        self.cloud.wait_volume(volume_id, "in-use", WAIT_S)

    def detach(self, server_id: str, volume_id: str) -> None:
        self.cloud.detach(server_id, volume_id)
        self.cloud.wait_volume(volume_id, "available", WAIT_S)

    def act(self, server_id: str, body: dict[str, Any]) -> None:
        self.cloud.client.post(f"/compute/v2.1/servers/{server_id}/action", body)

    def make_image(self, name: str, **properties: str) -> None:
        """An image that boots the tiny guest's kernel with properties of its own."""
        (tiny,) = self.cloud.client.get("/image/v2/images?name=tiny")["images"]
        kept = {key: tiny[key] for key in ("kernel_id", "ramdisk_id")}
        image = {"name": name, "disk_format": "raw", "container_format": "bare", **kept, **properties}
        image_id = self.cloud.client.post("/image/v2/images", image)["id"]
        client = self.cloud.client.http
        answer = client.put(
            f"/image/v2/images/{image_id}/file",
            content=bytes(1 << 20),
            headers={"Content-Type": "application/octet-stream"},
        )
        assert answer.status_code == httpx.codes.NO_CONTENT, answer.text

    def definition(self, server_id: str) -> str:
        """The server's persistent definition, as libvirt keeps it."""
        return (self.data / "libvirt" / "etc" / "qemu" / f"kevel-{server_id}.xml").read_text()

    def guest_pid(self, server_id: str) -> int:
        (pid,) = [
            pid
            for pid in processes_of(self.data)
            if b"qemu" in Path(f"/proc/{pid}/cmdline").read_bytes()[:64]
            and server_id.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        return pid


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    root = Path(tempfile.mkdtemp(prefix="kv-"))
    try:
        one = Stand(root)
        yield one
        one.process.kill()
    finally:
        for pid in processes_of(root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(root, ignore_errors=True)
        root.with_suffix(".log").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def server(stand: Stand) -> str:
    """A guest that most tests share; each leaves it running, without volumes."""
    return stand.boot("shared")


@pytest.fixture
def volume(stand: Stand) -> str:
    return stand.cloud.create_volume("v", 1, WAIT_S)


def test_the_guest_sees_the_volume_under_its_whole_id_and_keeps_its_data(
    stand: Stand, server: str, volume: str
) -> None:
    stand.attach(server, volume)
    stand.wait_serial(server, volume, there=True)
    stand.detach(server, volume)
    stand.wait_serial(server, volume, there=False)


def test_what_the_guest_says_and_does_is_told(stand: Stand, server: str, volume: str) -> None:
    stand.attach(server, volume)
    stand.write(server, volume, "stamp")
    with stand.console(server) as console:
        assert console.run("echo said-$((40 + 2))").code == 0
    api, path = stand.cloud.client, f"/compute/v2.1/servers/{server}"
    output = api.post(f"{path}/action", {"os-getConsoleOutput": {"length": 20}})["output"]
    assert "said-42" in output
    assert output.count("\n") < 20
    shown = api.get(f"{path}/diagnostics")
    assert shown["cpu_details"][0]["time"] > 0
    assert shown["memory_details"] == {"maximum": 96, "used": 96}
    (root, added) = shown["disk_details"]
    assert root["read_bytes"] > 0
    assert 512 <= added["write_bytes"] <= 8192
    assert added["write_requests"] >= 1
    stand.detach(server, volume)


def test_a_detach_right_behind_an_attach_always_ends_available(stand: Stand, server: str, volume: str) -> None:
    for _ in range(10):
        stand.cloud.attach(server, volume)
        stand.detach(server, volume)
    stand.wait_serial(server, volume, there=False)


@pytest.mark.parametrize("round_number", range(3))
def test_a_kill_in_the_middle_of_an_attach_costs_time_only(
    stand: Stand, server: str, volume: str, round_number: int
) -> None:
    stand.cloud.attach(server, volume)
    time.sleep(random.Random(round_number).random() * 0.04)
    stand.process.kill()
    stand.restart()
    stand.cloud.wait_volume(volume, "in-use", WAIT_S)
    stand.wait_serial(server, volume, there=True)
    stand.detach(server, volume)
    stand.wait_serial(server, volume, there=False)


@pytest.mark.parametrize("round_number", range(3))
def test_a_kill_in_the_middle_of_a_detach_costs_time_only(
    stand: Stand, server: str, volume: str, round_number: int
) -> None:
    stand.attach(server, volume)
    stand.cloud.detach(server, volume)
    time.sleep(random.Random(round_number).random() * 0.1)
    stand.process.kill()
    stand.restart()
    stand.cloud.wait_volume(volume, "available", WAIT_S)
    stand.wait_serial(server, volume, there=False)


def test_guests_and_attachments_outlive_a_clean_stop(stand: Stand, server: str, volume: str) -> None:
    stand.attach(server, volume)
    pid = stand.guest_pid(server)
    stand.process.stop()
    assert Path(f"/proc/{pid}").exists()
    stand.restart()
    assert stand.cloud.server(server)["status"] == "ACTIVE"
    assert stand.cloud.volume_status(volume) == "in-use"
    assert volume in stand.disks(server)
    stand.detach(server, volume)


def test_a_volume_stays_through_stop_start_and_reboots(stand: Stand, server: str, volume: str) -> None:
    stand.attach(server, volume)
    stand.act(server, {"os-stop": None})
    stand.cloud.wait_server(server, "SHUTOFF", WAIT_S)
    assert stand.cloud.volume_status(volume) == "in-use"
    stand.act(server, {"os-start": None})
    stand.cloud.wait_server(server, "ACTIVE", BOOT_S)
    stand.wait_booted_with(server, volume)
    for kind in ("SOFT", "HARD"):
        stand.act(server, {"reboot": {"type": kind}})
        stand.cloud.wait_server(server, "ACTIVE", BOOT_S)
        stand.wait_booted_with(server, volume)
    stand.detach(server, volume)
    stand.wait_serial(server, volume, there=False)


def test_a_guest_that_boots_from_a_volume_is_rescued_beside_it_and_rebuilt(stand: Stand) -> None:
    cloud, server = stand.cloud, stand.boot_from_volume("mended")
    (root,) = stand.volumes_of(server)
    stand.write(server, root, "broken")
    stand.make_image("mender", hw_rescue_bus="virtio", os_command_line="console=ttyS0 panic=-1 quiet")
    (mender,) = cloud.client.get("/image/v2/images?name=mender")["images"]
    (tiny,) = cloud.client.get("/image/v2/images?name=tiny")["images"]
    stand.act(server, {"rescue": {"rescue_image_ref": mender["id"]}})
    cloud.wait_server(server, "RESCUE", BOOT_S)
    stand.wait_booted_with(server, root)
    assert stand.disks(server)[root].startswith("/dev/sd"), "the rescue disk is on another bus"
    assert stand.read(server, root, 6) == "broken"
    stand.act(server, {"unrescue": None})
    cloud.wait_server(server, "ACTIVE", BOOT_S)
    stand.wait_booted_with(server, root)
    answer = cloud.client.http.post(
        f"/compute/v2.1/servers/{server}/action",
        json={"rebuild": {"imageRef": tiny["id"]}},
        headers={"OpenStack-API-Version": "compute 2.93"},
    )
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    cloud.wait_server(server, "ACTIVE", BOOT_S)
    stand.wait_booted_with(server, root)
    assert cloud.volume_status(root) == "in-use"
    assert stand.read(server, root, 6) != "broken", "it is the image again"
    cloud.delete_server(server, WAIT_S)


def test_attach_and_detach_of_a_stopped_server_change_its_definition(stand: Stand, server: str, volume: str) -> None:
    stand.act(server, {"os-stop": None})
    stand.cloud.wait_server(server, "SHUTOFF", WAIT_S)
    stand.attach(server, volume)
    stand.act(server, {"os-start": None})
    stand.cloud.wait_server(server, "ACTIVE", BOOT_S)
    stand.wait_booted_with(server, volume)
    stand.detach(server, volume)


def test_a_guest_boots_from_a_volume_and_finds_its_data_again_after_a_hard_reboot(stand: Stand, volume: str) -> None:
    data = {"uuid": volume, "source_type": "volume", "destination_type": "volume", "boot_index": -1}
    server = stand.boot_from_volume("from-volume", data)
    root, more = stand.volumes_of(server)
    assert more == volume
    for one in (root, volume):
        stand.wait_serial(server, one, there=True)
    assert stand.disks(server).keys() == {root, volume}
    assert {stand.cloud.volume_status(one) for one in (root, more)} == {"in-use"}
    for one in (root, more):
        stand.write(server, one, one)
    stand.act(server, {"reboot": {"type": "HARD"}})
    stand.cloud.wait_server(server, "ACTIVE", BOOT_S)
    stand.wait_booted_with(server, root)
    stand.wait_serial(server, volume, there=True)
    for one in (root, more):
        assert stand.read(server, one, len(one)) == one
    with pytest.raises(ApiError, match="root device"):
        stand.cloud.detach(server, root)
    stand.cloud.delete_server(server, WAIT_S)
    stand.cloud.wait_volume(volume, "available", WAIT_S)
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(ApiError):
            stand.cloud.volume_status(root)
            time.sleep(0.1)
            continue
        break
    else:
        pytest.fail("the root volume did not go with its server")


def test_a_kill_while_a_server_with_volumes_is_made_costs_time_only(stand: Stand, volume: str) -> None:
    data = {"uuid": volume, "source_type": "volume", "destination_type": "volume", "boot_index": -1}
    server = stand.ask_boot_from_volume("killed-over", data)
    time.sleep(random.Random(1).random() * 0.3)
    stand.process.kill()
    stand.restart()
    stand.cloud.wait_server(server, "ACTIVE", BOOT_S)
    root, more = stand.volumes_of(server)
    with stand.console(server) as console:
        console.wait_ready(BOOT_S)
    for one in (root, more):
        stand.wait_serial(server, one, there=True)
    assert stand.disks(server).keys() == {root, volume}
    assert {stand.cloud.volume_status(one) for one in (root, more)} == {"in-use"}
    stand.cloud.delete_server(server, WAIT_S)
    stand.cloud.wait_volume(volume, "available", WAIT_S)


def test_a_volume_grows_under_a_running_guest(stand: Stand, server: str, volume: str) -> None:
    stand.attach(server, volume)
    stand.cloud.client.post(f"/volume/v3/volumes/{volume}/action", {"os-extend": {"new_size": 2}})
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with stand.console(server) as console:
            lines = [line.split() for line in console.run("disks").output.splitlines()]
        if any(words[2:] == [volume] and int(words[1]) == 2 << 30 for words in lines):
            break
        time.sleep(0.2)
    else:
        pytest.fail("the guest never saw the new size")
    stand.detach(server, volume)


def test_a_snapshot_of_a_volume_in_use_has_what_the_guest_had_written(stand: Stand, server: str, volume: str) -> None:
    cloud = stand.cloud
    stand.attach(server, volume)
    stand.wait_serial(server, volume, there=True)
    stand.write(server, volume, "before-the-snapshot")
    body = {"snapshot": {"volume_id": volume, "name": "live", "force": True}}
    snapshot_id = cloud.client.post("/volume/v3/snapshots", body)["snapshot"]["id"]
    deadline = time.monotonic() + WAIT_S
    while (shown := cloud.client.get(f"/volume/v3/snapshots/{snapshot_id}")["snapshot"])["status"] != "available":
        assert shown["status"] == "creating", shown
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with (stand.data / "volumes" / f"snapshot-{snapshot_id}").open("rb") as file:
        assert file.read(19) == b"before-the-snapshot"
    stand.write(server, volume, "after-the-snapshot")
    stand.detach(server, volume)
    cloud.client.delete(f"/volume/v3/snapshots/{snapshot_id}")


#: Writes a number that grows, again and again, until its file is removed.
COUNT = (
    "(touch /tmp/go; i=0; while test -e /tmp/go; do i=$((i+1)); printf '%08d' $i > /tmp/number; "
    "dd if=/tmp/number of={device} bs=512 conv=notrunc,sync,fsync; done) >/dev/null 2>&1 &"
)


def swap(stand: Stand, server: str, new: str) -> str:
    """Ask for a swap of the server's one volume; the attachment's path."""
    (attachment,) = (one for one in stand.cloud.histories(server) if one["closed_at"] is None)
    path = f"/kevel/v1/attachments/{attachment['id']}/swap"
    assert stand.cloud.client.post(path, {"volume_id": new})["swap"]["state"] == "copying"
    return path


def wait_swapped(stand: Stand, path: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while (shown := stand.cloud.client.get(path)["swap"])["state"] != "swapped":
        assert shown["state"] in ("copying", "pivoting"), shown
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)


@pytest.mark.parametrize("kill", [None, 1, 2])
def test_a_guest_goes_on_writing_while_its_volume_is_swapped_whoever_is_killed_meanwhile(
    stand: Stand, server: str, volume: str, kill: int | None
) -> None:
    stand.attach(server, volume)
    stand.wait_serial(server, volume, there=True)
    device = stand.find_device(server, volume)
    new = stand.cloud.create_volume("new", 1, WAIT_S)
    with stand.console(server) as console:
        fill = f"dd if=/dev/urandom of={device} bs=1M count=8 seek=16 conv=fsync 2>/dev/null"
        assert console.run(fill).code == 0
        console.run(COUNT.format(device=device))
    path = swap(stand, server, new)
    if kill is not None:
        time.sleep(random.Random(kill).random() * 0.6)
        stand.process.kill()
        stand.restart()
    wait_swapped(stand, path)
    assert stand.volumes_of(server) == [new]
    stand.cloud.wait_volume(volume, "available", WAIT_S)
    stand.cloud.wait_volume(new, "in-use", WAIT_S)
    definition = stand.definition(server)
    assert f"volume-{new}'" in definition
    assert f"volume-{volume}'" not in definition
    files = [stand.data / "volumes" / f"volume-{one}" for one in (volume, new)]
    with files[0].open("rb") as old_file:
        left = int(old_file.read(8))
    time.sleep(0.3)
    with stand.console(server) as console:
        console.run("rm /tmp/go; sleep 0.3; sync")
        last = int(console.run(f"head -c 8 {device}").output)
    with files[0].open("rb") as old_file, files[1].open("rb") as new_file:
        assert int(old_file.read(8)) == left, "the old volume is nobody's any more"
        assert int(new_file.read(8)) == last > left
        for file in (old_file, new_file):
            file.seek(16 << 20)
        assert old_file.read(8 << 20) == new_file.read(8 << 20)
    stand.detach(server, new)
    with pytest.raises(ApiError):
        stand.cloud.client.delete(path)


def test_an_encrypted_volume_with_limits_lives_through_a_kill_and_a_restart_of_its_guest(
    stand: Stand, server: str
) -> None:
    client = stand.cloud.client
    type_id = client.post("/volume/v3/types", {"volume_type": {"name": "sealed"}})["volume_type"]["id"]
    encryption = {"provider": "luks", "control_location": "front-end", "cipher": "aes-xts-plain64", "key_size": 256}
    client.post(f"/volume/v3/types/{type_id}/encryption", {"encryption": encryption})
    specs = {"qos_specs": {"name": "slow", "consumer": "front-end", "total_iops_sec": "500"}}
    specs_id = client.post("/volume/v3/qos-specs", specs)["qos_specs"]["id"]
    answer = client.http.get(f"/volume/v3/qos-specs/{specs_id}/associate?vol_type_id={type_id}")
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    body = {"volume": {"name": "secret", "size": 1, "volume_type": "sealed"}}
    volume = str(client.post("/volume/v3/volumes", body)["volume"]["id"])
    stand.cloud.wait_volume(volume, "available", WAIT_S)
    stand.attach(server, volume)
    stand.wait_serial(server, volume, there=True)
    stand.write(server, volume, "for-the-guest-alone")
    with (stand.data / "volumes" / f"volume-{volume}").open("rb") as file:
        assert b"for-the-guest-alone" not in file.read(8 << 20)
    assert "<total_iops_sec>500<" in stand.definition(server)

    stand.process.kill()
    stand.restart()
    stand.act(server, {"os-stop": None})
    stand.cloud.wait_server(server, "SHUTOFF", WAIT_S)
    stand.act(server, {"os-start": None})
    stand.cloud.wait_server(server, "ACTIVE", WAIT_S)
    stand.wait_booted_with(server, volume)
    assert stand.read(server, volume, 19) == "for-the-guest-alone"
    stand.detach(server, volume)
    stand.cloud.delete_volume(volume)


def test_a_guest_that_refuses_keeps_the_disk_and_the_user_reads_why(stand: Stand) -> None:
    stand.make_image("deaf", hw_disk_bus="virtio", os_command_line=DEAF)
    server = stand.boot("deaf", image="deaf")
    volume = stand.cloud.create_volume("wanted", 1, WAIT_S)
    stand.attach(server, volume)
    stand.cloud.detach(server, volume)
    assert stand.cloud.volume_status(volume) == "detaching"
    stand.cloud.wait_volume(volume, "in-use", WAIT_S)
    (history,) = stand.cloud.histories(server)
    assert history["reason"]["code"] == "guest_refused"
    assert history["goal"] == "attached"
    actions = stand.cloud.client.get(f"/compute/v2.1/servers/{server}/os-instance-actions")["instanceActions"]
    detach = next(action for action in actions if action["action"] == "detach_volume")
    shown = stand.cloud.client.get(f"/compute/v2.1/servers/{server}/os-instance-actions/{detach['request_id']}")
    (event,) = shown["instanceAction"]["events"]
    assert event["result"] == "Error"
    # Its next hard reboot completes the pending unplug at the latest; the attachment is wanted again, and stays.
    stand.act(server, {"reboot": {"type": "HARD"}})
    stand.cloud.wait_server(server, "ACTIVE", BOOT_S)
    stand.cloud.wait_volume(volume, "in-use", WAIT_S)
    stand.cloud.delete_server(server, WAIT_S)
    stand.cloud.wait_volume(volume, "available", WAIT_S)


def test_a_guest_that_dies_leaves_a_stopped_server_with_its_volume(stand: Stand, server: str, volume: str) -> None:
    stand.attach(server, volume)
    os.kill(stand.guest_pid(server), signal.SIGKILL)
    stand.cloud.wait_server(server, "SHUTOFF", WAIT_S)
    assert stand.cloud.volume_status(volume) == "in-use"
    stand.act(server, {"os-start": None})
    stand.cloud.wait_server(server, "ACTIVE", BOOT_S)
    stand.wait_booted_with(server, volume)
    stand.detach(server, volume)


def test_a_hung_guest_takes_neither_the_api_nor_the_stop_with_it(stand: Stand, server: str, volume: str) -> None:
    pid = stand.guest_pid(server)
    os.kill(pid, signal.SIGSTOP)
    try:
        stand.cloud.attach(server, volume)
        time.sleep(1.0)
        assert stand.cloud.volume_status(volume) == "attaching"
        other = stand.cloud.create_volume("meanwhile", 1, WAIT_S)
        stand.cloud.delete_volume(other)
        started = time.monotonic()
        stand.process.stop()
        assert time.monotonic() - started < WAIT_S
    finally:
        os.kill(pid, signal.SIGCONT)
    stand.restart()
    stand.cloud.wait_volume(volume, "in-use", WAIT_S)
    stand.wait_serial(server, volume, there=True)
    stand.detach(server, volume)


def test_deleting_a_server_frees_its_volumes_and_leaves_nothing(stand: Stand, volume: str) -> None:
    server = stand.boot("short-lived")
    stand.attach(server, volume)
    with pytest.raises(ApiError) as refused:
        stand.cloud.delete_volume(volume)
    assert refused.value.status == 400
    stand.cloud.delete_server(server, WAIT_S)
    stand.cloud.wait_volume(volume, "available", WAIT_S)
    assert not (stand.data / "servers" / server).exists()
    stand.cloud.delete_volume(volume)
    deadline = time.monotonic() + WAIT_S
    while (stand.data / "volumes" / f"volume-{volume}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_volume_stays_in_its_guest_with_its_data_through_every_change_of_its_server(stand: Stand) -> None:
    cloud, server_id = stand.cloud, stand.boot("changing")
    larger = {"id": "larger", "name": "larger", "ram": 128, "disk": 1, "vcpus": 1}
    cloud.client.post("/compute/v2.1/flavors", {"flavor": larger})
    (tiny,) = cloud.client.get("/image/v2/images?name=tiny")["images"]
    volume_id = cloud.create_volume("kept", 1, WAIT_S)
    stand.attach(server_id, volume_id)
    stand.wait_serial(server_id, volume_id, there=True)
    stand.write(server_id, volume_id, "kept")

    def change(body: dict[str, Any], status: str) -> None:
        stand.act(server_id, body)
        cloud.wait_server(server_id, status, BOOT_S)
        assert cloud.volume_status(volume_id) == "in-use"

    pid = stand.guest_pid(server_id)
    change({"pause": None}, "PAUSED")
    change({"unpause": None}, "ACTIVE")
    change({"suspend": None}, "SUSPENDED")
    assert not Path(f"/proc/{pid}").exists()
    change({"resume": None}, "ACTIVE")
    assert stand.guest_pid(server_id) != pid
    assert stand.read(server_id, volume_id, 4) == "kept", "it goes on where it was, without a boot"
    for body, status in (
        ({"rescue": None}, "RESCUE"),
        ({"unrescue": None}, "ACTIVE"),
        ({"rebuild": {"imageRef": tiny["id"]}}, "ACTIVE"),
        ({"resize": {"flavorRef": "larger"}}, "VERIFY_RESIZE"),
    ):
        change(body, status)
        stand.wait_booted_with(server_id, volume_id)
        assert stand.read(server_id, volume_id, 4) == "kept"
    change({"confirmResize": None}, "ACTIVE")
    assert [disk.name for disk in (stand.data / "servers" / server_id).glob("r*.raw")] == ["root-3.raw"]
    stand.detach(server_id, volume_id)
