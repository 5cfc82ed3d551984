"""`kevel up` as an operator meets it: starting, refusing to start, stopping, starting again."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kevel.cli.process import KevelProcess, processes_of

MakeKevel = Callable[..., KevelProcess]
SIM = ("--hypervisor", "sim")
WAIT_S = 20.0


def run_up(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A `kevel up` that is expected to refuse."""
    command = [sys.executable, "-m", "kevel.cli.main", "up", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_credentials_and_database_are_private_and_good_for_a_login(kevel: MakeKevel, data: Path) -> None:
    cloud = kevel(*SIM).start()
    for name in ("openrc", "clouds.yaml", "admin-password", "secret.key", "kevel.db", "lock"):
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert "OS_PASSWORD" in (data / "openrc").read_text()
    assert cloud.client.get("/compute/v2.1/servers") == {"servers": []}


def test_a_second_kevel_on_the_same_directory_is_refused_and_changes_nothing(kevel: MakeKevel, data: Path) -> None:
    cloud = kevel(*SIM).start()
    second = run_up("--data", str(data), "--listen", "127.0.0.1:0", *SIM)
    assert second.returncode == 3
    assert "in use by another kevel" in second.stderr
    assert second.stdout == ""
    assert cloud.client.get("/compute/v2.1/servers") == {"servers": []}


def test_a_port_in_use_is_refused_before_the_database_is_made(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run_up("--data", str(data), "--listen", f"127.0.0.1:{port}", *SIM)
    assert refused.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}" in refused.stderr
    assert not (data / "kevel.db").exists()


def test_a_damaged_database_is_refused_and_left_as_it_was(kevel: MakeKevel, data: Path) -> None:
    process = kevel(*SIM)
    process.start()
    process.stop()
    for name in ("kevel.db-wal", "kevel.db-shm"):
        (data / name).unlink(missing_ok=True)
    (data / "kevel.db").write_bytes(b"not a database at all" * 1000)
    refused = run_up("--data", str(data), "--listen", "127.0.0.1:0", *SIM)
    assert refused.returncode == 3
    assert "left untouched" in refused.stderr
    assert (data / "kevel.db").read_bytes() == b"not a database at all" * 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--listen", "nowhere"), "no address to listen on"),
        (("--listen", "127.0.0.1:99999"), "no address to listen on"),
        (("--hypervisor", "xen"), "choose libvirt or sim"),
        (("--config", "/nonexistent.toml"), "cannot be read"),
        (("--data", "/proc/kevel"), "cannot be used"),
    ],
)
def test_a_wrong_option_is_named_on_stderr(data: Path, arguments: tuple[str, ...], message: str) -> None:
    base = ("--data", str(data)) if "--data" not in arguments else ()
    refused = run_up(*base, *arguments)
    assert refused.returncode == 3
    assert message in refused.stderr


def test_a_wrong_configuration_key_is_named(data: Path) -> None:
    config = data / "kevel.toml"
    config.write_text('[limits]\nattach_timeout = "soon"\n')
    refused = run_up("--data", str(data), "--config", str(config), *SIM)
    assert refused.returncode == 3
    assert "attach_timeout" in refused.stderr


def test_a_directory_too_long_for_unix_sockets_is_refused_with_the_limit(data: Path) -> None:
    refused = run_up("--data", str(data / ("x" * 60)), "--listen", "127.0.0.1:0")
    assert refused.returncode == 3
    assert "Unix sockets" in refused.stderr


def test_sigterm_stops_cleanly_and_simulated_servers_are_found_again(kevel: MakeKevel, data: Path) -> None:
    process = kevel(*SIM)
    cloud = process.start()
    server_id = cloud.create_server("s", image="tiny", flavor="tiny")
    cloud.wait_server(server_id, "ACTIVE", WAIT_S)
    volume_id = cloud.create_volume("v", 1, WAIT_S)
    cloud.attach(server_id, volume_id)
    cloud.wait_volume(volume_id, "in-use", WAIT_S)
    process.stop()
    assert processes_of(data) == []
    cloud = process.start()
    assert cloud.server(server_id)["status"] == "ACTIVE"
    assert cloud.volume_status(volume_id) == "in-use"
    cloud.detach(server_id, volume_id)
    cloud.wait_volume(volume_id, "available", WAIT_S)


def serials(data: Path, server_id: str) -> set[str]:
    """Serials of the disks that the simulated guest really has, read after a clean stop."""
    truth = json.loads((data / "sim.json").read_text())[server_id]
    assert truth["live"] == truth["persistent"]
    return {disk["serial"] for disk in truth["live"].values()}


def test_a_killed_kevel_with_simulated_servers_says_that_they_have_stopped(kevel: MakeKevel, data: Path) -> None:
    """The simulated host dies with the process, like a host that loses power; attachments outlive it."""
    process = kevel(*SIM)
    cloud = process.start()
    server_id = cloud.create_server("s", image="tiny", flavor="tiny")
    cloud.wait_server(server_id, "ACTIVE", WAIT_S)
    volume_id = cloud.create_volume("v", 1, WAIT_S)
    cloud.attach(server_id, volume_id)
    cloud.wait_volume(volume_id, "in-use", WAIT_S)
    process.kill()
    cloud = process.start()
    cloud.wait_server(server_id, "SHUTOFF", WAIT_S)
    cloud.client.post(f"/compute/v2.1/servers/{server_id}/action", {"os-start": None})
    cloud.wait_server(server_id, "ACTIVE", WAIT_S)
    cloud.wait_volume(volume_id, "in-use", WAIT_S)
    process.stop()
    assert volume_id in serials(data, server_id)
    cloud = process.start()
    cloud.detach(server_id, volume_id)
    cloud.wait_volume(volume_id, "available", WAIT_S)
    process.stop()
    assert serials(data, server_id) == set()
