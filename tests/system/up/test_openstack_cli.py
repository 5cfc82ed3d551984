"""The real `openstack` command, unmodified, against `kevel up` with a simulated host: the main job and around it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kevel.cli.process import KevelProcess

pytestmark = pytest.mark.timeout(300)

#: The command of the environment that runs the tests.
OPENSTACK = Path(sys.executable).with_name("openstack")


class Shell:
    """Runs `openstack` with the credentials that `kevel up` wrote."""

    def __init__(self, data: Path) -> None:
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
        for line in (data / "openrc").read_text().splitlines():
            key, _, value = line.removeprefix("export ").partition("=")
            self._environment[key] = value.strip("'")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(OPENSTACK), *words], capture_output=True, text=True, timeout=60, check=False, env=self._environment
        )

    def ok(self, *words: str) -> str:
        """What the command printed; it has to succeed."""
        done = self.run(*words)
        assert done.returncode == 0, f"openstack {' '.join(words)}: {done.stderr}"
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.ok(*words, "-f", "json"))

    def kevel(self, *words: str) -> str:
        """What the `kevel` command printed with the same credentials; it has to succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "kevel.cli.main", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**self._environment, "COLUMNS": "250"},
        )
        assert done.returncode == 0, f"kevel {' '.join(words)}: {done.stderr}"
        return done.stdout

    def refused(self, *words: str) -> str:
        """The message of a command that has to fail."""
        done = self.run(*words)
        assert done.returncode != 0, f"openstack {' '.join(words)} succeeded: {done.stdout}"
        return done.stderr


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    root = Path(tempfile.mkdtemp(prefix="kv-"))
    process = KevelProcess(root, "--hypervisor", "sim")
    try:
        process.start()
        yield Shell(root)
    finally:
        process.kill()
        shutil.rmtree(root, ignore_errors=True)
        root.with_suffix(".log").unlink(missing_ok=True)


def test_servers_live_their_whole_life(shell: Shell) -> None:
    made = shell.json("server", "create", "--image", "tiny", "--flavor", "tiny", "--nic", "none", "--wait", "one")
    assert made["status"] == "ACTIVE"
    shell.ok("server", "create", "--image", "tiny", "--flavor", "tiny", "--wait", "two")
    assert {row["Name"] for row in shell.json("server", "list")} == {"one", "two"}
    shell.ok("server", "set", "--property", "colour=green", "one")
    assert shell.json("server", "show", "one")["properties"] == {"colour": "green"}
    shell.ok("server", "unset", "--property", "colour", "one")
    assert shell.json("server", "show", "one")["properties"] == {}
    shell.ok("server", "reboot", "--wait", "one")
    shell.ok("server", "reboot", "--hard", "--wait", "one")
    shell.ok("server", "stop", "one")
    events = shell.json("server", "event", "list", "one")
    assert {row["Action"] for row in events} >= {"create", "reboot", "stop"}
    shown = shell.json("server", "event", "show", "one", events[0]["Request ID"])
    assert shown["events"][0]["result"] in ("Success", None)
    shell.ok("server", "delete", "--wait", "one", "two")
    assert shell.json("server", "list") == []


def test_attachments_are_declared_and_ended(shell: Shell) -> None:
    shell.ok("server", "create", "--image", "tiny", "--flavor", "tiny", "--nic", "none", "named")
    shell.ok("volume", "create", "--size", "1", "declared")
    made = shell.json("volume", "attachment", "create", "declared", "--server", "named")
    assert made["Status"] == "reserved"
    words = ("--host", "metal", "--initiator", "iqn.1993-08.org.debian:01:aa", "--mountpoint", "/dev/vdb")
    connected = shell.json("volume", "attachment", "set", made["ID"], *words)
    assert (connected["Status"], connected["Attach Mode"]) == ("attaching", "rw")
    shell.ok("volume", "attachment", "complete", made["ID"])
    shown = shell.json("volume", "attachment", "show", made["ID"])
    assert (shown["Status"], shown["Properties"]["driver_volume_type"]) == ("attached", "file")
    assert "Kevel plugs nothing for it" in shell.kevel("attachment", "why", made["ID"])
    assert "(external" in shell.kevel("attachment", "list")
    shell.ok("volume", "attachment", "delete", made["ID"])
    shell.ok("volume", "delete", "declared")
    shell.ok("server", "delete", "--wait", "named")


def test_volumes_attach_and_come_back(shell: Shell) -> None:
    shell.ok("server", "create", "--image", "tiny", "--flavor", "tiny", "--nic", "none", "--wait", "s")
    created = shell.json("volume", "create", "--size", "1", "--description", "d", "--property", "k=v", "v")
    assert (created["size"], created["description"]) == (1, "d")
    added = shell.json("server", "add", "volume", "--device", "/dev/sdq", "--tag", "data", "s", "v")
    assert (added["Device"], added["Tag"], added["Volume ID"]) == ("/dev/sdq", "data", created["id"])
    (row,) = shell.json("server", "volume", "list", "s")
    assert row["Volume ID"] == created["id"]
    shown = shell.json("volume", "show", "v")
    assert shown["status"] == "in-use"
    (attachment,) = shell.json("volume", "attachment", "list")
    assert attachment["Status"] == "attached"
    assert shell.json("volume", "attachment", "show", attachment["ID"])["Volume ID"] == created["id"]
    message = shell.refused("volume", "delete", "v")
    assert "Invalid volume" in message
    shell.ok("server", "volume", "set", "--delete-on-termination", "s", "v")
    assert shell.json("server", "volume", "list", "s")[0]["Delete On Termination?"] is True
    shell.ok("server", "volume", "set", "--preserve-on-termination", "s", "v")
    shell.ok("server", "remove", "volume", "s", "v")
    assert shell.json("volume", "show", "v")["status"] in ("available", "detaching")
    assert "not attached" in shell.refused("server", "remove", "volume", "s", "v")
    shell.ok("volume", "create", "--size", "1", "gone-with-it")
    shell.ok("server", "add", "volume", "--enable-delete-on-termination", "s", "gone-with-it")
    shell.ok("server", "delete", "--wait", "s")
    assert [row["Name"] for row in shell.json("volume", "list")] == ["v"]
    shell.ok("volume", "delete", "v")


def test_volumes_are_made_changed_and_deleted(shell: Shell) -> None:
    shell.ok("volume", "type", "create", "--description", "quick", "--property", "vendor:speed=high", "fast")
    assert shell.json("volume", "type", "show", "fast")["properties"] == {"vendor:speed": "high"}
    assert "fast" in {row["Name"] for row in shell.json("volume", "type", "list")}
    shell.ok("volume", "create", "--size", "1", "--type", "fast", "w")
    shell.ok("volume", "set", "--name", "w2", "--description", "new", "--property", "a=b", "--size", "2", "w")
    shown = shell.json("volume", "show", "w2")
    assert (shown["description"], shown["properties"], shown["type"]) == ("new", {"a": "b"}, "fast")
    assert shown["size"] == 2
    shell.ok("volume", "unset", "--property", "a", "w2")
    assert shell.json("volume", "show", "w2")["properties"] == {}
    assert "in use" in shell.refused("volume", "type", "delete", "fast").lower()
    shell.ok("volume", "delete", "w2")
    shell.ok("volume", "type", "delete", "fast")


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


def test_two_projects_do_not_see_each_other(shell: Shell) -> None:
    shell.ok("project", "create", "other")
    shell.ok("user", "create", "--project", "other", "--password", "pw-of-bob", "bob")
    shell.ok("role", "add", "--project", "other", "--user", "bob", "member")
    shell.ok("volume", "create", "--size", "1", "secret-plans")
    bob = ("--os-username", "bob", "--os-password", "pw-of-bob", "--os-project-name", "other")
    assert json.loads(shell.ok(*bob, "volume", "list", "-f", "json")) == []
    mine = shell.json("volume", "show", "secret-plans")["id"]
    assert "No Volume found" in shell.refused(*bob, "volume", "show", mine)
    shell.ok("volume", "delete", "secret-plans")
