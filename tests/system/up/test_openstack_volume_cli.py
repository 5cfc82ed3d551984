"""Every `openstack volume`, `snapshot`, `backup`, ... subcommand whose API Kevel has, as it is, against `kevel up`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import pytest

from kevel.cli.process import KevelProcess
from tests.openstack_command import READY_S, Openstack, read_openrc

pytestmark = pytest.mark.timeout(600)

#: Subcommands of APIs that Kevel does not have (docs/compatibility.md), or that are there for one of them.
NOT_THERE: Final = {
    "block_storage_cleanup": "workers of clusters",
    "block_storage_cluster_list": "clusters",
    "block_storage_cluster_set": "clusters",
    "block_storage_cluster_show": "clusters",
    "consistency_group_add_volume": "consistency groups, which groups have replaced",
    "consistency_group_create": "consistency groups",
    "consistency_group_delete": "consistency groups",
    "consistency_group_list": "consistency groups",
    "consistency_group_remove_volume": "consistency groups",
    "consistency_group_set": "consistency groups",
    "consistency_group_show": "consistency groups",
    "consistency_group_snapshot_create": "consistency groups",
    "consistency_group_snapshot_delete": "consistency groups",
    "consistency_group_snapshot_list": "consistency groups",
    "consistency_group_snapshot_show": "consistency groups",
    "volume_group_failover": "replication",
    "volume_host_failover": "replication",
    "volume_host_set": "replication",
}


class Shell(Openstack):
    """`openstack` with the credentials that `kevel up` wrote."""

    def __init__(self, data: Path) -> None:
        super().__init__(read_openrc(data))

    def json_newer(self, *words: str) -> Any:
        """In a process of its own, with a microversion: these commands ask for none by themselves."""
        openstack = str(Path(sys.executable).with_name("openstack"))
        command = [openstack, "--os-volume-api-version", "3.71", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=self.environment, timeout=READY_S
        )
        assert done.returncode == 0, f"openstack {' '.join(words)}: {done.stderr}"
        self.note(words)
        return json.loads(done.stdout or "null")


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    root = Path(tempfile.mkdtemp(prefix="kv-"))
    config = root / "c.toml"
    config.write_text(f'[[pools]]\nname = "second"\ndirectory = "{root / "second"}"\n')
    process = KevelProcess(root / "d", "--hypervisor", "sim", "--config", str(config))
    shell = None
    try:
        process.start()
        shell = Shell(root / "d")
        yield shell
    finally:
        if shell is not None:
            shell.close()
        process.kill()
        shutil.rmtree(root, ignore_errors=True)


def test_volumes(shell: Shell) -> None:
    made = shell.json("volume", "create", "--size", "1", "--property", "a=b", "--description", "first", "one")
    assert (made["name"], made["size"], made["status"]) == ("one", 1, "creating")
    shown = shell.wait_status("volume", "show", "one", status="available")
    assert shown["properties"] == {"a": "b"}
    shell.run("volume", "set", "--name", "uno", "--property", "c=d", "--bootable", "--size", "2", "one")
    shown = shell.wait_status("volume", "show", "uno", status="available")
    assert (shown["size"], shown["bootable"], shown["properties"]) == (2, True, {"a": "b", "c": "d"})
    shell.run("volume", "set", "--image-property", "os=none", "--read-only", "uno")
    shell.run("volume", "unset", "--property", "a", "--image-property", "os", "uno")
    shown = shell.json("volume", "show", "uno")
    assert shown["properties"] == {"c": "d", "readonly": "True"}
    shell.run("volume", "set", "--read-write", "--state", "available", "uno")
    assert [row["Name"] for row in shell.json("volume", "list", "--long")] == ["uno"]
    assert shell.json("volume", "summary")["Total Count"] == 1
    assert "none" in shell.refused("volume", "show", "none")
    shell.run("volume", "create", "--source", "uno", "copy")
    assert shell.wait_status("volume", "show", "copy", status="available")["size"] == 2
    assert shell.json("limits", "show", "--absolute")
    shell.run("volume", "delete", "copy")
    shell.wait_gone("volume", "show", "copy")


def test_snapshots(shell: Shell) -> None:
    shell.run("volume", "snapshot", "create", "--volume", "uno", "--property", "x=y", "shot")
    shown = shell.wait_status("volume", "snapshot", "show", "shot", status="available")
    assert (shown["size"], shown["properties"]) == (2, {"x": "y"})
    shell.run("volume", "snapshot", "set", "--name", "view", "--property", "z=1", "shot")
    shell.run("volume", "snapshot", "unset", "--property", "x", "view")
    assert shell.json("volume", "snapshot", "show", "view")["properties"] == {"z": "1"}
    assert [row["Name"] for row in shell.json("volume", "snapshot", "list")] == ["view"]
    shell.run("volume", "create", "--snapshot", "view", "from-view")
    shell.wait_status("volume", "show", "from-view", status="available")
    shell.run("volume", "revert", "view")
    shell.wait_status("volume", "show", "uno", status="available")
    assert "snapshot" in shell.refused("volume", "delete", "uno")
    shell.run("volume", "snapshot", "delete", "view")
    shell.wait_gone("volume", "snapshot", "show", "view")


def test_backups(shell: Shell) -> None:
    shell.run("volume", "backup", "create", "--name", "safe", "--description", "first", "uno")
    shown = shell.wait_status("volume", "backup", "show", "safe", status="available")
    assert shown["size"] == 2
    shell.run("volume", "backup", "set", "--name", "kept", "--property", "k=v", "safe")
    shell.run("volume", "backup", "unset", "--property", "k", "kept")
    shell.run("volume", "backup", "create", "--name", "more", "--incremental", "uno")
    assert shell.wait_status("volume", "backup", "show", "more", status="available")["is_incremental"] is True
    assert {row["Name"] for row in shell.json("volume", "backup", "list")} == {"kept", "more"}
    shell.run("volume", "backup", "restore", "more", "restored")
    shell.wait_status("volume", "show", "restored", status="available")
    record = shell.json("volume", "backup", "record", "export", "kept")
    assert "delete them first" in shell.refused("volume", "backup", "delete", "kept")
    for name in ("more", "kept"):
        shell.run("volume", "backup", "delete", name)
        shell.wait_gone("volume", "backup", "show", name)
    # The record names a backup whose bytes are deleted: nothing is imported.
    service, url = record["backup_service"], record["backup_url"]
    assert shell.refused("volume", "backup", "record", "import", service, url)


def test_transfers(shell: Shell) -> None:
    offer = shell.json("volume", "transfer", "request", "create", "--name", "gift", "from-view")
    assert shell.json("volume", "show", "from-view")["status"] == "awaiting-transfer"
    assert shell.json("volume", "transfer", "request", "show", "gift")["volume_id"] == offer["volume_id"]
    assert [row["Name"] for row in shell.json("volume", "transfer", "request", "list")] == ["gift"]
    assert shell.refused("volume", "transfer", "request", "accept", offer["id"], "--auth-key", "wrong")
    shell.run("volume", "transfer", "request", "accept", offer["id"], "--auth-key", offer["auth_key"])
    again = shell.json("volume", "transfer", "request", "create", "--name", "again", "from-view")
    shell.run("volume", "transfer", "request", "delete", again["id"])
    assert shell.json("volume", "show", "from-view")["status"] == "available"


def test_types_and_qos(shell: Shell) -> None:
    shell.run("volume", "type", "create", "--private", "--property", "a=b", "quick")
    shell.run("volume", "type", "set", "--description", "fast", "--property", "c=d", "--project", "admin", "quick")
    shell.run("volume", "type", "unset", "--property", "a", "--project", "admin", "quick")
    shown = shell.json("volume", "type", "show", "quick")
    assert (shown["properties"], shown["description"], shown["is_public"]) == ({"c": "d"}, "fast", False)
    assert "quick" in {row["Name"] for row in shell.json("volume", "type", "list", "--long")}
    shell.run("volume", "qos", "create", "--consumer", "front-end", "--property", "total_iops_sec=100", "slow")
    shell.run("volume", "qos", "set", "--property", "total_bytes_sec=1000000", "slow")
    shell.run("volume", "qos", "unset", "--property", "total_bytes_sec", "slow")
    shell.run("volume", "qos", "associate", "slow", "quick")
    shown = shell.json("volume", "qos", "show", "slow")
    assert (shown["consumer"], shown["properties"]) == ("front-end", {"total_iops_sec": "100"})
    assert [row["Name"] for row in shell.json("volume", "qos", "list")] == ["slow"]
    shell.run("volume", "qos", "disassociate", "--volume-type", "quick", "slow")
    shell.run("volume", "qos", "delete", "slow")
    shell.run("volume", "type", "delete", "quick")


def test_moves_between_pools(shell: Shell) -> None:
    at = "os-vol-host-attr:host"
    shell.run("volume", "create", "--size", "1", "nomad")
    home = shell.wait_status("volume", "show", "nomad", status="available")[at]
    there = home.replace("directory", "second")
    shell.run("volume", "migrate", "--host", there, "--lock-volume", "nomad")
    shown = shell.wait_status("volume", "show", "nomad", status="available")
    assert shown[at] == there
    shell.run("volume", "type", "create", "--property", "volume_backend_name=directory", "home")
    assert "has not" in shell.refused("volume", "set", "--type", "home", "nomad")
    shell.run("volume", "set", "--type", "home", "--retype-policy", "on-demand", "nomad")
    shown = shell.wait_status("volume", "show", "nomad", status="available")
    assert (shown[at], shown["type"]) == (home, "home")
    shell.run("volume", "delete", "nomad")
    shell.wait_gone("volume", "show", "nomad")


def test_attachments(shell: Shell) -> None:
    volume_id = shell.json("volume", "show", "uno")["id"]
    # The client insists on a server, though the API does not; nothing is plugged into it.
    shell.run("server", "create", "--image", "tiny", "--flavor", "tiny", "--nic", "none", "--wait", "named")
    consumer = ("--server", "named", "--connect", "--host", "elsewhere", "--ip", "10.0.0.1")
    made = shell.json("volume", "attachment", "create", "uno", *consumer)
    assert made["Volume ID"] == volume_id
    assert shell.json("volume", "attachment", "show", made["ID"])["Status"] == "attaching"
    shell.run("volume", "attachment", "set", made["ID"], "--host", "elsewhere", "--ip", "10.0.0.2")
    shell.run("volume", "attachment", "complete", made["ID"])
    assert shell.json("volume", "show", "uno")["status"] == "in-use"
    assert [row["ID"] for row in shell.json("volume", "attachment", "list")] == [made["ID"]]
    shell.run("volume", "attachment", "delete", made["ID"])
    shell.wait_status("volume", "show", "uno", status="available")


def test_groups(shell: Shell) -> None:
    shell.run("volume", "group", "type", "create", "alike")
    shell.run("volume", "group", "type", "set", "--property", "a=b", "alike")
    assert shell.json("volume", "group", "type", "show", "alike")["Name"] == "alike"
    assert "alike" in {row["Name"] for row in shell.json("volume", "group", "type", "list")}
    default = shell.json("volume", "type", "list", "--default")
    shell.run(
        "volume",
        "group",
        "create",
        "--volume-group-type",
        "alike",
        "--volume-type",
        default[0]["Name"],
        "--name",
        "set",
    )
    assert shell.json("volume", "group", "show", "set")["Name"] == "set"
    shell.run("volume", "group", "add", "volume", "set", "uno")
    shell.run("volume", "group", "set", "--name", "sets", "set")
    assert "sets" in {row["Name"] for row in shell.json("volume", "group", "list")}
    shell.run("volume", "group", "snapshot", "create", "--name", "together", "sets")
    assert shell.json("volume", "group", "snapshot", "show", "together")["Name"] == "together"
    assert len(shell.json("volume", "group", "snapshot", "list")) == 1
    shell.wait_status("volume", "group", "snapshot", "show", "together", status="available")
    shell.run("volume", "group", "snapshot", "delete", "together")
    shell.wait_gone("volume", "group", "snapshot", "show", "together")
    shell.run("volume", "group", "remove", "volume", "sets", "uno")
    shell.run("volume", "group", "delete", "sets")
    shell.wait_gone("volume", "group", "show", "sets")
    shell.run("volume", "group", "type", "delete", "alike")


def test_what_an_operator_looks_at(shell: Shell) -> None:
    services = shell.json("volume", "service", "list")
    hosts = {row["Host"] for row in services if row["Binary"] == "cinder-volume"}
    (host,) = (name for name in hosts if name.endswith("@directory"))
    shell.run("volume", "service", "set", "--disable", "--disable-reason", "rest", host, "cinder-volume")
    shell.run("volume", "service", "set", "--enable", host, "cinder-volume")
    assert shell.json("volume", "backend", "pool", "list")
    shell.run("volume", "backend", "capability", "show", host)
    assert shell.json("block", "storage", "resource", "filter", "list")
    assert shell.json("block", "storage", "resource", "filter", "show", "volume")
    assert shell.json("block", "storage", "log", "level", "list")
    shell.run("block", "storage", "log", "level", "set", "INFO")
    assert shell.json_newer("block", "storage", "volume", "manageable", "list", host, "-f", "json")
    assert shell.json_newer("block", "storage", "snapshot", "manageable", "list", host, "-f", "json") == []
    shell.run("quota", "set", "--volumes", "77", "admin")
    assert {row["Resource"]: row["Limit"] for row in shell.json("quota", "show", "--volume", "admin")}["volumes"] == 77
    assert shell.json("extension", "list", "--volume")
    assert shell.json("availability", "zone", "list", "--volume")


def test_messages_say_why_a_volume_failed(shell: Shell) -> None:
    shell.run("volume", "type", "create", "--property", "volume_backend_name=nowhere", "impossible")
    shell.run("volume", "create", "--size", "1", "--type", "impossible", "lost")
    shell.wait_status("volume", "show", "lost", status="error")
    (message,) = shell.json_newer("volume", "message", "list", "-f", "json")
    shown = shell.json_newer("volume", "message", "show", message["ID"], "-f", "json")
    assert shown["ID"] == message["ID"]  # all that this client makes of any cloud's answer
    assert "nowhere" in message["User Message"] or message["Event ID"].startswith("VOLUME_")
    shell.json_newer("volume", "message", "delete", message["ID"])
    assert shell.json_newer("volume", "message", "list", "-f", "json") == []


def test_every_subcommand_of_an_api_that_is_there_has_run(shell: Shell) -> None:
    known = {one.name for one in entry_points(group="openstack.volume.v3")}
    assert known - shell.ran - NOT_THERE.keys() == set()
