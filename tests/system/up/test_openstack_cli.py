"""The real `openstack` command, unmodified, against `kevel up` with a simulated host: the main job and around it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from kevel.cli.process import KevelProcess
from tests.openstack_command import Openstack, read_openrc

pytestmark = pytest.mark.timeout(300)


class Shell(Openstack):
    """`openstack` and `kevel` with the credentials that `kevel up` wrote."""

    def kevel(self, *words: str) -> str:
        """What the `kevel` command printed with the same credentials; it has to succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "kevel.cli.main", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**self.environment, "COLUMNS": "250"},
        )
        assert done.returncode == 0, f"kevel {' '.join(words)}: {done.stderr}"
        return done.stdout


@pytest.fixture
def public_key(tmp_path: Path) -> Path:
    """A file with a public key."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    path = tmp_path / "key.pub"
    path.write_bytes(key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH))
    return path


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    root = Path(tempfile.mkdtemp(prefix="kv-"))
    process = KevelProcess(root, "--hypervisor", "sim")
    shell = None
    try:
        process.start()
        shell = Shell(read_openrc(root))
        yield shell
    finally:
        if shell is not None:
            shell.close()
        process.kill()
        shutil.rmtree(root, ignore_errors=True)
        root.with_suffix(".log").unlink(missing_ok=True)


def test_servers_live_their_whole_life(shell: Shell) -> None:
    made = shell.json("server", "create", "--image", "tiny", "--flavor", "tiny", "--nic", "none", "--wait", "one")
    assert made["status"] == "ACTIVE"
    shell.run("server", "create", "--image", "tiny", "--flavor", "tiny", "--wait", "two")
    assert {row["Name"] for row in shell.json("server", "list")} == {"one", "two"}
    shell.run("server", "set", "--property", "colour=green", "one")
    assert shell.json("server", "show", "one")["properties"] == {"colour": "green"}
    shell.run("server", "unset", "--property", "colour", "one")
    assert shell.json("server", "show", "one")["properties"] == {}
    shell.run("server", "reboot", "--wait", "one")
    shell.run("server", "reboot", "--hard", "--wait", "one")
    shell.run("server", "stop", "one")
    events = shell.json("server", "event", "list", "one")
    assert {row["Action"] for row in events} >= {"create", "reboot", "stop"}
    shown = shell.json("server", "event", "show", "one", events[0]["Request ID"])
    assert shown["events"][0]["result"] in ("Success", None)
    shell.run("server", "delete", "--wait", "one", "two")
    assert shell.json("server", "list") == []


def test_servers_boot_from_volumes_and_are_made_with_others(shell: Shell) -> None:
    root = shell.json("volume", "create", "--image", "tiny", "--size", "1", "root")["id"]
    while shell.json("volume", "show", "root")["status"] != "available":
        time.sleep(0.2)
    shell.run("volume", "snapshot", "create", "--volume", "root", "shot")
    while shell.json("volume", "snapshot", "show", "shot")["status"] != "available":
        time.sleep(0.2)
    small = ("--flavor", "tiny", "--nic", "none", "--wait")
    made = shell.json("server", "create", "--volume", "root", *small, "by-volume")
    assert (made["status"], made["image"]) == ("ACTIVE", "N/A (booted from volume)")
    assert [one["id"] for one in made["volumes_attached"]] == [root]
    assert "root device" in shell.refused("server", "remove", "volume", "by-volume", "root")
    shell.run("server", "create", "--snapshot", "shot", *small, "by-snapshot")
    scratch = "source_type=blank,destination_type=volume,volume_size=1,delete_on_termination=true,tag=scratch"
    words = ("--image", "tiny", "--boot-from-volume", "2", "--block-device", scratch)
    shell.run("server", "create", *words, *small, "by-image")
    (first, second) = shell.json("server", "volume", "list", "by-image")
    assert (first["Device"], second["Tag"], second["Delete On Termination?"]) == ("/dev/sda", "scratch", True)
    assert shell.json("volume", "show", first["Volume ID"])["size"] == 2
    shell.run("volume", "create", "--size", "1", "more")
    device = f"uuid={shell.json('volume', 'show', 'more')['id']},source_type=volume,destination_type=volume"
    shell.run("server", "create", "--image", "tiny", "--block-device", device, *small, "besides")
    assert shell.json("volume", "show", "more")["status"] == "in-use"
    message = shell.refused("server", "create", "--volume", "root", *small, "no-more")
    assert "block device 0" in message
    assert "it is in-use" in message
    shell.run("server", "delete", "--wait", "by-volume", "by-snapshot", "by-image", "besides")
    left = {row["ID"]: row["Status"] for row in shell.json("volume", "list")}
    assert second["Volume ID"] not in left or left[second["Volume ID"]] == "deleting"
    assert left[root] == left[first["Volume ID"]] == "available"
    shell.run("volume", "snapshot", "delete", "shot")
    while shell.json("volume", "snapshot", "list"):
        time.sleep(0.2)
    shell.run("volume", "delete", *(one for one in left if one != second["Volume ID"]))


def test_attachments_are_declared_and_ended(shell: Shell) -> None:
    shell.run("server", "create", "--image", "tiny", "--flavor", "tiny", "--nic", "none", "named")
    shell.run("volume", "create", "--size", "1", "declared")
    shell.wait_status("volume", "show", "declared", status="available")
    made = shell.json("volume", "attachment", "create", "declared", "--server", "named")
    assert made["Status"] == "reserved"
    words = ("--host", "metal", "--initiator", "iqn.1993-08.org.debian:01:aa", "--mountpoint", "/dev/vdb")
    connected = shell.json("volume", "attachment", "set", made["ID"], *words)
    assert (connected["Status"], connected["Attach Mode"]) == ("attaching", "rw")
    shell.run("volume", "attachment", "complete", made["ID"])
    shown = shell.json("volume", "attachment", "show", made["ID"])
    assert (shown["Status"], shown["Properties"]["driver_volume_type"]) == ("attached", "file")
    assert "Kevel plugs nothing for it" in shell.kevel("attachment", "why", made["ID"])
    assert "(external" in shell.kevel("attachment", "list")
    shell.run("volume", "attachment", "delete", made["ID"])
    shell.run("volume", "delete", "declared")
    shell.run("server", "delete", "--wait", "named")


def test_volumes_attach_and_come_back(shell: Shell) -> None:
    shell.run("server", "create", "--image", "tiny", "--flavor", "tiny", "--nic", "none", "--wait", "s")
    created = shell.json("volume", "create", "--size", "1", "--description", "d", "--property", "k=v", "v")
    assert (created["size"], created["description"]) == (1, "d")
    shell.wait_status("volume", "show", "v", status="available")
    added = shell.json("server", "add", "volume", "--device", "/dev/sdq", "--tag", "data", "s", "v")
    assert (added["Device"], added["Tag"], added["Volume ID"]) == ("/dev/sdq", "data", created["id"])
    (row,) = shell.json("server", "volume", "list", "s")
    assert row["Volume ID"] == created["id"]
    shell.wait_status("volume", "show", "v", status="in-use")
    (attachment,) = shell.json("volume", "attachment", "list")
    assert attachment["Status"] == "attached"
    assert shell.json("volume", "attachment", "show", attachment["ID"])["Volume ID"] == created["id"]
    message = shell.refused("volume", "delete", "v")
    assert "Invalid volume" in message
    shell.run("server", "volume", "set", "--delete-on-termination", "s", "v")
    assert shell.json("server", "volume", "list", "s")[0]["Delete On Termination?"] is True
    shell.run("server", "volume", "set", "--preserve-on-termination", "s", "v")
    shell.run("server", "remove", "volume", "s", "v")
    shell.wait_status("volume", "show", "v", status="available")
    assert "not attached" in shell.refused("server", "remove", "volume", "s", "v")
    shell.run("volume", "create", "--size", "1", "gone-with-it")
    shell.wait_status("volume", "show", "gone-with-it", status="available")
    shell.run("server", "add", "volume", "--enable-delete-on-termination", "s", "gone-with-it")
    shell.wait_status("volume", "show", "gone-with-it", status="in-use")
    shell.run("server", "delete", "--wait", "s")
    shell.wait_gone("volume", "show", "gone-with-it")
    assert [row["Name"] for row in shell.json("volume", "list")] == ["v"]
    shell.run("volume", "delete", "v")
    shell.wait_gone("volume", "show", "v")


def test_volumes_are_made_changed_and_deleted(shell: Shell) -> None:
    shell.run("volume", "type", "create", "--description", "quick", "--property", "vendor:speed=high", "fast")
    assert shell.json("volume", "type", "show", "fast")["properties"] == {"vendor:speed": "high"}
    assert "fast" in {row["Name"] for row in shell.json("volume", "type", "list")}
    shell.run("volume", "create", "--size", "1", "--type", "fast", "w")
    shell.wait_status("volume", "show", "w", status="available")
    shell.run("volume", "set", "--name", "w2", "--description", "new", "--property", "a=b", "--size", "2", "w")
    shown = shell.wait_status("volume", "show", "w2", status="available")
    assert (shown["description"], shown["properties"], shown["type"]) == ("new", {"a": "b"}, "fast")
    assert shown["size"] == 2
    shell.run("volume", "unset", "--property", "a", "w2")
    assert shell.json("volume", "show", "w2")["properties"] == {}
    assert "in use" in shell.refused("volume", "type", "delete", "fast").lower()
    shell.run("volume", "delete", "w2")
    shell.wait_gone("volume", "show", "w2")
    shell.run("volume", "type", "delete", "fast")


def test_what_an_operator_looks_at(shell: Shell) -> None:
    (host,) = shell.json("hypervisor", "list")
    assert (host["State"], host["Hypervisor Type"]) == ("up", "SIM")
    services = shell.json("compute", "service", "list")
    assert [(row["Binary"], row["State"]) for row in services] == [("nova-compute", "up")]
    zones = shell.json("availability", "zone", "list")
    assert {row["Zone Name"] for row in zones} == {"nova"}
    limits = {row["Name"]: row["Value"] for row in shell.json("limits", "show", "--absolute")}
    assert limits["total_volumes_used"] == 0
    assert {row["Service Type"] for row in shell.json("endpoint", "list")} >= {"compute", "identity", "image"}


def test_what_belongs_to_servers_is_made_and_bounded(shell: Shell, public_key: Path) -> None:
    pair = shell.json("keypair", "create", "--public-key", str(public_key), "mine")
    assert pair["fingerprint"].count(":") == 15
    group = shell.json("server", "group", "create", "--policy", "anti-affinity", "apart")
    small = ("--image", "tiny", "--flavor", "tiny", "--nic", "none")
    words = ("--key-name", "mine", "--tag", "blue", "--hint", f"group={group['id']}", "--wait")
    made = shell.json("server", "create", *words, *small, "first")
    assert (made["key_name"], made["tags"]) == ("mine", ["blue"])
    assert shell.json("server", "group", "show", "apart")["members"] == [made["id"]]
    assert "anti-affinity" in shell.refused("server", "create", "--hint", f"group={group['id']}", *small, "second")
    assert [row["Name"] for row in shell.json("server", "list", "--tags", "blue")] == ["first"]
    shell.run("server", "set", "--tag", "red", "first")
    shell.run("server", "unset", "--tag", "blue", "first")
    assert shell.json("server", "show", "first")["tags"] == ["red"]
    shell.run("server", "delete", "--wait", "first")
    shell.run("server", "group", "delete", "apart")
    shell.run("keypair", "delete", "mine")
    assert shell.json("keypair", "list") == shell.json("server", "group", "list") == []


def test_an_operator_sets_quotas_and_flavors_and_disables_a_host(shell: Shell) -> None:
    small = ("--image", "tiny", "--nic", "none")
    shell.run("quota", "set", "--instances", "0", "admin")
    shown = {row["Resource"]: row["Limit"] for row in shell.json("quota", "show", "--compute", "admin")}
    assert shown["instances"] == 0
    assert "Quota exceeded for instances" in shell.refused("server", "create", *small, "--flavor", "tiny", "none")
    shell.run("quota", "delete", "--compute", "admin")
    shell.run("flavor", "create", "--private", "--ram", "64", "--disk", "0", "--vcpus", "1", "own")
    shell.run("flavor", "set", "--project", "admin", "own")
    assert shell.json("flavor", "show", "own")["access_project_ids"] != []
    shell.run("flavor", "unset", "--project", "admin", "own")
    shell.run("flavor", "delete", "own")
    (host,) = shell.json("compute", "service", "list")
    words = ("compute", "service", "set")
    shell.run(*words, "--disable", "--disable-reason", "new disks", host["Host"], host["Binary"])
    (host,) = shell.json("compute", "service", "list", "--long")
    assert (host["Status"], host["Disabled Reason"]) == ("disabled", "new disks")
    assert "disabled or not heard of" in shell.refused("server", "create", *small, "--flavor", "tiny", "none")
    shell.run(*words, "--enable", host["Host"], host["Binary"])
    assert shell.json("server", "list") == []


def test_two_projects_do_not_see_each_other(shell: Shell) -> None:
    bob = {"OS_USERNAME": "bob", "OS_PASSWORD": "pw-of-bob", "OS_PROJECT_NAME": "other"}
    shell.run("project", "create", "other")
    shell.run("user", "create", "--project", "other", "--password", "pw-of-bob", "bob")
    shell.run("role", "add", "--project", "other", "--user", "bob", "member")
    shell.run("volume", "create", "--size", "1", "secret-plans")
    shell.wait_status("volume", "show", "secret-plans", status="available")
    mine = shell.json("volume", "show", "secret-plans")["id"]
    with closing(Openstack({**shell.environment, **bob})) as bobs:
        assert bobs.json("volume", "list") == []
        assert "No Volume found" in bobs.refused("volume", "show", mine)
    shell.run("volume", "delete", "secret-plans")
