"""Every `openstack volume`, `snapshot`, `backup`, ... subcommand whose API Kevel has, as it is, against `kevel up`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import pytest

from kevel.cli.process import KevelProcess

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
    "volume_migrate": "several pools",
    "volume_group_failover": "replication",
    "volume_host_failover": "replication",
    "volume_host_set": "replication",
}
READY_S: Final = 60.0


class Shell:
    """`openstack` with the credentials that `kevel up` wrote; remembers which subcommands have run."""

    def __init__(self, data: Path) -> None:
        self._environment = environment = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
        for line in (data / "openrc").read_text().splitlines():
            key, _, value = line.removeprefix("export ").partition("=")
            environment[key] = value.strip("'")
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).with_name("openstack_loop.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.ran: set[str] = set()

    def run(self, *words: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        self._note(words)
        return answer

    def _note(self, words: Sequence[str]) -> None:
        """The words `volume type set ...` are the entry point volume_type_set; options come after the name."""
        name = words[: next((at for at, word in enumerate(words) if word.startswith("-")), len(words))]
        self.ran |= {"_".join(name[:length]).replace("-", "_") for length in range(2, len(name) + 1)}

    def json_newer(self, *words: str) -> Any:
        """In a process of its own, with a microversion: these commands ask for none by themselves."""
        openstack = str(Path(sys.executable).with_name("openstack"))
        command = [openstack, "--os-volume-api-version", "3.71", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=self._environment, timeout=READY_S
        )
        assert done.returncode == 0, f"openstack {' '.join(words)}: {done.stderr}"
        self._note(words)
        return json.loads(done.stdout or "null")

    def ok(self, *words: str) -> str:
        """What the command printed; it has to succeed."""
        done = self.run(*words)
        assert done["code"] == 0, f"openstack {' '.join(words)}: {done['err']}"
        return str(done["out"])

    def json(self, *words: str) -> Any:
        return json.loads(self.ok(*words, "-f", "json"))

    def refused(self, *words: str) -> str:
        """The message of a command that has to fail."""
        done = self.run(*words)
        assert done["code"] != 0, f"openstack {' '.join(words)} succeeded: {done['out']}"
        return str(done["err"])

    def wait(self, *words: str, status: str) -> dict[str, Any]:
        """Show until it has the status."""
        deadline = time.monotonic() + READY_S
        while (shown := self.json(*words))["status"] != status:
            assert time.monotonic() < deadline, f"{' '.join(words)}: {shown}"
            time.sleep(0.2)
        return dict(shown)

    def wait_gone(self, *words: str) -> None:
        """Show until it is not there."""
        deadline = time.monotonic() + READY_S
        while (done := self.run(*words))["code"] == 0:
            assert time.monotonic() < deadline, f"{' '.join(words)}: {done['out']}"
            time.sleep(0.2)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    root = Path(tempfile.mkdtemp(prefix="kv-"))
    process = KevelProcess(root / "d", "--hypervisor", "sim")
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
    shown = shell.wait("volume", "show", "one", status="available")
    assert shown["properties"] == {"a": "b"}
    shell.ok("volume", "set", "--name", "uno", "--property", "c=d", "--bootable", "--size", "2", "one")
    shown = shell.wait("volume", "show", "uno", status="available")
    assert (shown["size"], shown["bootable"], shown["properties"]) == (2, True, {"a": "b", "c": "d"})
    shell.ok("volume", "set", "--image-property", "os=none", "--read-only", "uno")
    shell.ok("volume", "unset", "--property", "a", "--image-property", "os", "uno")
    shown = shell.json("volume", "show", "uno")
    assert shown["properties"] == {"c": "d", "readonly": "True"}
    shell.ok("volume", "set", "--read-write", "--state", "available", "uno")
    assert [row["Name"] for row in shell.json("volume", "list", "--long")] == ["uno"]
    assert shell.json("volume", "summary")["Total Count"] == 1
    assert "none" in shell.refused("volume", "show", "none")
    shell.ok("volume", "create", "--source", "uno", "copy")
    assert shell.wait("volume", "show", "copy", status="available")["size"] == 2
    assert shell.json("limits", "show", "--absolute")
    shell.ok("volume", "delete", "copy")
    shell.wait_gone("volume", "show", "copy")


def test_snapshots(shell: Shell) -> None:
    shell.ok("volume", "snapshot", "create", "--volume", "uno", "--property", "x=y", "shot")
    shown = shell.wait("volume", "snapshot", "show", "shot", status="available")
    assert (shown["size"], shown["properties"]) == (2, {"x": "y"})
    shell.ok("volume", "snapshot", "set", "--name", "view", "--property", "z=1", "shot")
    shell.ok("volume", "snapshot", "unset", "--property", "x", "view")
    assert shell.json("volume", "snapshot", "show", "view")["properties"] == {"z": "1"}
    assert [row["Name"] for row in shell.json("volume", "snapshot", "list")] == ["view"]
    shell.ok("volume", "create", "--snapshot", "view", "from-view")
    shell.wait("volume", "show", "from-view", status="available")
    shell.ok("volume", "revert", "view")
    shell.wait("volume", "show", "uno", status="available")
    assert "snapshot" in shell.refused("volume", "delete", "uno")
    shell.ok("volume", "snapshot", "delete", "view")
    shell.wait_gone("volume", "snapshot", "show", "view")


def test_backups(shell: Shell) -> None:
    shell.ok("volume", "backup", "create", "--name", "safe", "--description", "first", "uno")
    shown = shell.wait("volume", "backup", "show", "safe", status="available")
    assert shown["size"] == 2
    shell.ok("volume", "backup", "set", "--name", "kept", "--property", "k=v", "safe")
    shell.ok("volume", "backup", "unset", "--property", "k", "kept")
    shell.ok("volume", "backup", "create", "--name", "more", "--incremental", "uno")
    assert shell.wait("volume", "backup", "show", "more", status="available")["is_incremental"] is True
    assert {row["Name"] for row in shell.json("volume", "backup", "list")} == {"kept", "more"}
    shell.ok("volume", "backup", "restore", "more", "restored")
    shell.wait("volume", "show", "restored", status="available")
    record = shell.json("volume", "backup", "record", "export", "kept")
    assert "delete them first" in shell.refused("volume", "backup", "delete", "kept")
    for name in ("more", "kept"):
        shell.ok("volume", "backup", "delete", name)
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
    shell.ok("volume", "transfer", "request", "accept", offer["id"], "--auth-key", offer["auth_key"])
    again = shell.json("volume", "transfer", "request", "create", "--name", "again", "from-view")
    shell.ok("volume", "transfer", "request", "delete", again["id"])
    assert shell.json("volume", "show", "from-view")["status"] == "available"


def test_types_and_qos(shell: Shell) -> None:
    shell.ok("volume", "type", "create", "--private", "--property", "a=b", "quick")
    shell.ok("volume", "type", "set", "--description", "fast", "--property", "c=d", "--project", "admin", "quick")
    shell.ok("volume", "type", "unset", "--property", "a", "--project", "admin", "quick")
    shown = shell.json("volume", "type", "show", "quick")
    assert (shown["properties"], shown["description"], shown["is_public"]) == ({"c": "d"}, "fast", False)
    assert "quick" in {row["Name"] for row in shell.json("volume", "type", "list", "--long")}
    shell.ok("volume", "qos", "create", "--consumer", "front-end", "--property", "total_iops_sec=100", "slow")
    shell.ok("volume", "qos", "set", "--property", "total_bytes_sec=1000000", "slow")
    shell.ok("volume", "qos", "unset", "--property", "total_bytes_sec", "slow")
    shell.ok("volume", "qos", "associate", "slow", "quick")
    shown = shell.json("volume", "qos", "show", "slow")
    assert (shown["consumer"], shown["properties"]) == ("front-end", {"total_iops_sec": "100"})
    assert [row["Name"] for row in shell.json("volume", "qos", "list")] == ["slow"]
    shell.ok("volume", "qos", "disassociate", "--volume-type", "quick", "slow")
    shell.ok("volume", "qos", "delete", "slow")
    shell.ok("volume", "type", "delete", "quick")


def test_attachments(shell: Shell) -> None:
    volume_id = shell.json("volume", "show", "uno")["id"]
    # The client insists on a server, though the API does not; nothing is plugged into it.
    shell.ok("server", "create", "--image", "tiny", "--flavor", "tiny", "--nic", "none", "--wait", "named")
    consumer = ("--server", "named", "--connect", "--host", "elsewhere", "--ip", "10.0.0.1")
    made = shell.json("volume", "attachment", "create", "uno", *consumer)
    assert made["Volume ID"] == volume_id
    assert shell.json("volume", "attachment", "show", made["ID"])["Status"] == "attaching"
    shell.ok("volume", "attachment", "set", made["ID"], "--host", "elsewhere", "--ip", "10.0.0.2")
    shell.ok("volume", "attachment", "complete", made["ID"])
    assert shell.json("volume", "show", "uno")["status"] == "in-use"
    assert [row["ID"] for row in shell.json("volume", "attachment", "list")] == [made["ID"]]
    shell.ok("volume", "attachment", "delete", made["ID"])
    shell.wait("volume", "show", "uno", status="available")


def test_groups(shell: Shell) -> None:
    shell.ok("volume", "group", "type", "create", "alike")
    shell.ok("volume", "group", "type", "set", "--property", "a=b", "alike")
    assert shell.json("volume", "group", "type", "show", "alike")["Name"] == "alike"
    assert "alike" in {row["Name"] for row in shell.json("volume", "group", "type", "list")}
    default = shell.json("volume", "type", "list", "--default")
    shell.ok(
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
    shell.ok("volume", "group", "add", "volume", "set", "uno")
    shell.ok("volume", "group", "set", "--name", "sets", "set")
    assert "sets" in {row["Name"] for row in shell.json("volume", "group", "list")}
    shell.ok("volume", "group", "snapshot", "create", "--name", "together", "sets")
    assert shell.json("volume", "group", "snapshot", "show", "together")["Name"] == "together"
    assert len(shell.json("volume", "group", "snapshot", "list")) == 1
    time.sleep(2)
    shell.ok("volume", "group", "snapshot", "delete", "together")
    time.sleep(2)
    shell.ok("volume", "group", "remove", "volume", "sets", "uno")
    shell.ok("volume", "group", "delete", "sets")
    time.sleep(1)
    shell.ok("volume", "group", "type", "delete", "alike")


def test_what_an_operator_looks_at(shell: Shell) -> None:
    services = shell.json("volume", "service", "list")
    (host,) = {row["Host"] for row in services if row["Binary"] == "cinder-volume"}
    shell.ok("volume", "service", "set", "--disable", "--disable-reason", "rest", host, "cinder-volume")
    shell.ok("volume", "service", "set", "--enable", host, "cinder-volume")
    assert shell.json("volume", "backend", "pool", "list")
    shell.ok("volume", "backend", "capability", "show", host)
    assert shell.json("block", "storage", "resource", "filter", "list")
    assert shell.json("block", "storage", "resource", "filter", "show", "volume")
    assert shell.json("block", "storage", "log", "level", "list")
    shell.ok("block", "storage", "log", "level", "set", "INFO")
    assert shell.json_newer("block", "storage", "volume", "manageable", "list", host, "-f", "json")
    assert shell.json_newer("block", "storage", "snapshot", "manageable", "list", host, "-f", "json") == []
    shell.ok("quota", "set", "--volumes", "77", "admin")
    assert {row["Resource"]: row["Limit"] for row in shell.json("quota", "show", "--volume", "admin")}["volumes"] == 77
    assert shell.json("extension", "list", "--volume")
    assert shell.json("availability", "zone", "list", "--volume")


def test_messages_say_why_a_volume_failed(shell: Shell) -> None:
    shell.ok("volume", "type", "create", "--property", "volume_backend_name=nowhere", "impossible")
    shell.ok("volume", "create", "--size", "1", "--type", "impossible", "lost")
    shell.wait("volume", "show", "lost", status="error")
    (message,) = shell.json_newer("volume", "message", "list", "-f", "json")
    shown = shell.json_newer("volume", "message", "show", message["ID"], "-f", "json")
    assert shown["ID"] == message["ID"]  # all that this client makes of any cloud's answer
    assert "nowhere" in message["User Message"] or message["Event ID"].startswith("VOLUME_")
    shell.json_newer("volume", "message", "delete", message["ID"])
    assert shell.json_newer("volume", "message", "list", "-f", "json") == []


def test_every_subcommand_of_an_api_that_is_there_has_run(shell: Shell) -> None:
    known = {one.name for one in entry_points(group="openstack.volume.v3")}
    assert known - shell.ran - NOT_THERE.keys() == set()
