"""Every `openstack server`, `flavor`, `keypair`, ... subcommand whose API Kevel has, as it is, against `kevel up`."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import pytest

from kevel.cli.client import ApiClient
from kevel.cli.process import KevelProcess
from tests.openstack_command import LOOK_AGAIN_S, READY_S, Openstack, read_openrc

pytestmark = pytest.mark.timeout(100)

#: Subcommands of APIs that Kevel does not have (docs/compatibility.md).
NOT_THERE: Final = {
    "aggregate_add_host": "hosts are not grouped",
    "aggregate_cache_image": "hosts are not grouped",
    "aggregate_create": "hosts are not grouped",
    "aggregate_delete": "hosts are not grouped",
    "aggregate_remove_host": "hosts are not grouped",
    "aggregate_set": "hosts are not grouped",
    "aggregate_show": "hosts are not grouped",
    "aggregate_unset": "hosts are not grouped",
    "compute_agent_create": "agents of an older hypervisor",
    "compute_agent_delete": "agents of an older hypervisor",
    "compute_agent_list": "agents of an older hypervisor",
    "compute_agent_set": "agents of an older hypervisor",
    "compute_service_delete": "a host's service is as long there as the host",
    "console_connection_show": "graphical consoles",
    "console_url_show": "graphical consoles",
    "host_list": "os-hosts, which Nova has given up",
    "host_set": "os-hosts",
    "host_show": "os-hosts",
    "server_add_fixed_ip": "networks",
    "server_add_floating_ip": "networks",
    "server_add_network": "networks",
    "server_add_port": "networks",
    "server_add_security_group": "networks",
    "server_add_share": "shares",
    "server_backup_create": "backups of servers",
    "server_dump_create": "crash dumps",
    "server_evacuate": "servers that move",
    "server_migrate": "servers that move",
    "server_migration_abort": "servers that move",
    "server_migration_force_complete": "servers that move",
    "server_migration_show": "servers that move",
    "server_remove_fixed_ip": "networks",
    "server_remove_floating_ip": "networks",
    "server_remove_network": "networks",
    "server_remove_port": "networks",
    "server_remove_security_group": "networks",
    "server_remove_share": "shares",
    "server_share_list": "shares",
    "server_share_show": "shares",
    "server_ssh": "networks",
}
#: Subcommands that another test of real commands runs: tests/system/up/test_openstack_cli.py.
ELSEWHERE: Final = {"server_group_create", "server_group_delete", "server_group_list", "server_group_show"}
#: A public key of ssh.
KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop mine"
SMALL: Final = ("--image", "tiny", "--flavor", "tiny", "--nic", "none")


class Shell(Openstack):
    """`openstack` with the credentials that `kevel up` wrote; what it begins is waited for without it."""

    def __init__(self, data: Path, client: ApiClient) -> None:
        super().__init__(read_openrc(data))
        self._client = client

    def make(self, name: str, *words: str) -> str:
        """A server that runs; its id."""
        made = self.json("server", "create", *SMALL, *words, name)
        self.wait(name, "ACTIVE")
        return str(made["id"])

    def find(self, name: str) -> dict[str, Any] | None:
        """The server, if it is there."""
        servers = self._client.get(f"/compute/v2.1/servers/detail?name=^{name}$")["servers"]
        return servers[0] if servers else None

    def wait(self, name: str, status: str) -> None:
        """Wait until the server has the status, and nothing more is done to it."""
        deadline = time.monotonic() + READY_S
        while (found := self.find(name)) is None or (found["status"], found["OS-EXT-STS:task_state"]) != (status, None):
            assert time.monotonic() < deadline, f"{name} does not come to {status}: {found}"
            time.sleep(LOOK_AGAIN_S)

    def act(self, *words: str, status: str) -> None:
        """Do something to the server that is named last, and wait until it has the status."""
        self.run("server", *words)
        self.wait(words[-1], status)

    def delete(self, name: str) -> None:
        """Delete a server, and wait until it is gone."""
        self.run("server", "delete", name)
        self.wait_deleted(name)

    def wait_deleted(self, name: str) -> None:
        """Wait until the server is gone."""
        deadline = time.monotonic() + READY_S
        while self.find(name) is not None:
            assert time.monotonic() < deadline, name
            time.sleep(LOOK_AGAIN_S)

    def wait_volume(self, name: str, status: str) -> None:
        """Wait until the volume has the status."""
        deadline = time.monotonic() + READY_S
        while self._client.get(f"/volume/v3/volumes/detail?name={name}")["volumes"][0]["status"] != status:
            assert time.monotonic() < deadline, f"{name} does not come to {status}"
            time.sleep(LOOK_AGAIN_S)


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    root = Path(tempfile.mkdtemp(prefix="kv-"))
    config = root / "c.toml"
    config.write_text("[limits]\nshutdown_grace_s = 0.5\nreboot_grace_s = 0.5\n")
    process = KevelProcess(root / "d", "--hypervisor", "sim", "--config", str(config))
    shell = None
    try:
        shell = Shell(root / "d", process.start().client)
        yield shell
    finally:
        if shell is not None:
            shell.close()
        process.kill()
        shutil.rmtree(root, ignore_errors=True)


def test_a_server_goes_through_every_state(shell: Shell) -> None:
    shell.make("s")
    for words, status in (
        (("pause",), "PAUSED"),
        (("unpause",), "ACTIVE"),
        (("suspend",), "SUSPENDED"),
        (("resume",), "ACTIVE"),
        (("stop",), "SHUTOFF"),
        (("start",), "ACTIVE"),
        (("reboot", "--soft"), "ACTIVE"),
        (("reboot", "--hard"), "ACTIVE"),
        (("rescue", "--image", "tiny"), "RESCUE"),
        (("unrescue",), "ACTIVE"),
        (("rebuild", "--image", "tiny", "--name", "s"), "ACTIVE"),
        (("set", "--auto-approve", "--state", "error"), "ERROR"),
        (("set", "--auto-approve", "--state", "active"), "ACTIVE"),
    ):
        shell.act(*words, "s", status=status)
    shell.run("server", "lock", "--reason", "hands off", "s")
    assert shell.json("server", "list", "--locked")[0]["Name"] == "s"
    shell.run("server", "unlock", "s")
    assert shell.json("server", "list", "--locked") == []
    assert "while it is in vm_state active" in shell.refused("server", "restore", "s")
    asked = [row["Action"] for row in shell.json("server", "event", "list", "s")]
    assert asked[::-1][:11] == [
        "create", "pause", "unpause", "suspend", "resume", "stop", "start", "reboot", "reboot", "rescue", "unrescue",
    ]  # fmt: skip
    for row in shell.json("server", "event", "list", "--long", "s")[:2]:
        shown = shell.json("server", "event", "show", "s", row["Request ID"])
        assert shown["action"] == row["Action"]
        assert [event["result"] for event in shown["events"]] == ["Success"], shown
    shell.run("server", "delete", "--force", "s")
    shell.wait_deleted("s")


def test_servers_are_kept_as_images_and_shelved(shell: Shell) -> None:
    shell.make("i")
    made = shell.json("server", "image", "create", "--name", "kept", "--property", "a=b", "i")
    assert made["name"] == "kept"
    shell.wait_status("image", "show", "kept", status="active")
    shell.wait("i", "ACTIVE")
    shell.act("shelve", "i", status="SHELVED_OFFLOADED")
    assert "is not ready" in shell.refused("console", "log", "show", "i")
    shell.act("unshelve", "i", status="ACTIVE")
    asked = [row["Action"] for row in shell.json("server", "event", "list", "i")]
    assert asked[::-1][:3] == ["create", "createImage", "shelve"]
    assert asked[0] == "unshelve"
    shell.delete("i")
    shell.run("image", "delete", "kept")


def test_resizes_are_confirmed_or_reverted_and_listed(shell: Shell) -> None:
    server_id = shell.make("r")
    words = ("--ram", "128", "--disk", "0", "--vcpus", "2", "--ephemeral", "0", "--property", "a=b")
    flavor = shell.json("flavor", "create", *words, "--description", "two", "twice")
    assert (flavor["ram"], flavor["vcpus"], flavor["properties"]) == (128, 2, {"a": "b"})
    sizes = ["twice", "tiny"]
    for group in ("resize", "migration", "migrate"):  # three names for the same, by age
        shell.act("resize", "--flavor", sizes[0], "r", status="VERIFY_RESIZE")
        shell.act(group, "revert", "r", status="ACTIVE")
        shell.act("resize", "--flavor", sizes[0], "r", status="VERIFY_RESIZE")
        shell.act(group, "confirm", "r", status="ACTIVE")
        assert shell.json("server", "show", "r")["flavor"]["name"] == sizes[0]
        sizes.reverse()
    shell.act("resize", "--flavor", "tiny", "r", status="VERIFY_RESIZE")
    rows = shell.json("server", "migration", "list", "--server", "r")
    assert [row["Status"] for row in rows] == ["finished", *["confirmed", "reverted"] * 3]
    assert {row["Server UUID"] for row in rows} == {server_id}
    assert len(shell.json("server", "migration", "list")) == 7
    assert len(shell.json("server", "migration", "list", "--status", "confirmed", "--limit", "2")) == 2
    assert shell.json("server", "migration", "list", "--type", "live-migration") == []
    shell.delete("r")


def test_what_is_known_of_a_server_is_shown_and_changed(shell: Shell) -> None:
    server_id = shell.make("k", "--property", "a=b", "--description", "one", "--hostname", "k1")
    shown = shell.json("server", "show", "k")
    assert (shown["properties"], shown["description"]) == ({"a": "b"}, "one")
    shell.run("server", "set", "--name", "k2", "--description", "two", "--property", "c=d", "--tag", "blue", "k")
    shell.run("server", "unset", "--property", "a", "k2")
    shown = shell.json("server", "show", "k2")
    assert (shown["properties"], shown["description"], shown["tags"]) == ({"c": "d"}, "two", ["blue"])
    shell.run("server", "unset", "--description", "k2")
    assert [row["ID"] for row in shell.json("server", "list", "--name", "^k2$", "--long", "--status", "ACTIVE")] == [
        server_id
    ]
    assert shell.json("server", "list", "--all-projects", "--limit", "1")
    log = shell.run("console", "log", "show", "--lines", "3", "k2")
    assert len([line for line in log.splitlines() if "simulated guest" in line]) == 2
    assert shell.run("console", "log", "show", "k2").count("simulated guest") == 12
    diagnostics = shell.run("server", "show", "--diagnostics", "k2")
    assert "cpu" in diagnostics
    assert "No Server found" in shell.refused("server", "show", "k")
    shell.delete("k2")


def test_volumes_of_servers(shell: Shell) -> None:
    shell.make("v")
    shell.run("volume", "create", "--size", "1", "data")
    shell.wait_volume("data", "available")
    added = shell.json("server", "add", "volume", "--tag", "t", "v", "data")
    shell.wait_volume("data", "in-use")
    (row,) = shell.json("server", "volume", "list", "v")
    assert (row["Volume ID"], row["Tag"], row["Delete On Termination?"]) == (added["Volume ID"], "t", False)
    shell.run("server", "volume", "set", "--delete-on-termination", "v", "data")
    shell.run("server", "volume", "update", "--preserve-on-termination", "v", "data")
    assert shell.json("server", "volume", "list", "v")[0]["Delete On Termination?"] is False
    shell.act("stop", "v", status="SHUTOFF")
    shell.run("server", "remove", "volume", "v", "data")
    shell.wait_volume("data", "available")
    actions = [row["Action"] for row in shell.json("server", "event", "list", "v")]
    assert actions == ["detach_volume", "stop", "attach_volume", "create"]
    shell.delete("v")
    shell.run("volume", "delete", "data")


def test_key_pairs(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(KEY)
    made = shell.json("keypair", "create", "--public-key", str(tmp_path / "key.pub"), "mine")
    assert [row["Name"] for row in shell.json("keypair", "list")] == ["mine"]
    assert shell.json("keypair", "show", "mine")["fingerprint"] == made["fingerprint"]
    assert shell.run("keypair", "show", "--public-key", "mine").strip() == KEY
    shell.run("keypair", "delete", "mine")
    assert "mine" in shell.refused("keypair", "show", "mine")


def test_flavors(shell: Shell) -> None:
    shell.json("flavor", "create", "--id", "own", "--ram", "64", "--disk", "0", "--vcpus", "1", "--private", "own")
    shell.run("flavor", "set", "--property", "a=b", "--property", "c=d", "--description", "mine", "own")
    shell.run("flavor", "unset", "--property", "a", "own")
    shell.run("flavor", "set", "--project", "admin", "own")
    shown = shell.json("flavor", "show", "own")
    assert (shown["properties"], shown["description"], shown["os-flavor-access:is_public"]) == (
        {"c": "d"},
        "mine",
        False,
    )
    assert len(shown["access_project_ids"]) == 1
    shell.run("flavor", "unset", "--project", "admin", "own")
    assert "own" in {row["Name"] for row in shell.json("flavor", "list", "--all", "--long")}
    assert shell.json("flavor", "list", "--private")[0]["ID"] == "own"
    shell.run("flavor", "delete", "own")
    assert "No Flavor found" in shell.refused("flavor", "show", "own")


def test_what_an_operator_asks_about_hosts_and_projects(shell: Shell) -> None:
    shell.make("u")
    (row,) = shell.json("hypervisor", "list", "--long")
    shown = shell.json("hypervisor", "show", row["Hypervisor Hostname"])
    assert (shown["state"], shown["status"], shown["hypervisor_type"]) == ("up", "enabled", "SIM")
    assert shown["aggregates"] == []
    assert " up " in str(shown["uptime"]) or shown["load_average"], shown
    assert shell.json("aggregate", "list") == []
    (service,) = shell.json("compute", "service", "list", "--long")
    shell.run("compute", "service", "set", "--disable", service["Host"], service["Binary"])
    assert shell.json("compute", "service", "list")[0]["Status"] == "disabled"
    shell.run("compute", "service", "set", "--enable", service["Host"], service["Binary"])
    (usage,) = shell.json("usage", "list")
    assert [one["name"] for one in usage["Servers"] if one["ended_at"] is None] == ["u"]
    shown = shell.json("usage", "show", "--project", "admin")
    assert len(shown["Servers"]) == len(usage["Servers"])
    limits = {row["Name"]: row["Value"] for row in shell.json("limits", "show", "--absolute")}
    assert (limits["total_instances_used"], limits["total_ram_used"]) == (1, 96)
    assert shell.json("availability", "zone", "list", "--compute", "--long")
    assert shell.json("quota", "show", "--compute", "--usage", "admin")
    shell.delete("u")


def test_hypervisors_are_summed_up_for_who_asks_as_long_as_nova_did(shell: Shell) -> None:
    with closing(Openstack({**shell.environment, "OS_COMPUTE_API_VERSION": "2.87"})) as older:
        assert older.json("hypervisor", "stats", "show")["count"] == 1
        shell.ran |= older.ran


def test_every_subcommand_of_an_api_that_is_there_has_run(shell: Shell) -> None:
    known = {one.name for one in entry_points(group="openstack.compute.v2")}
    assert known - shell.ran - NOT_THERE.keys() - ELSEWHERE == set()
