"""What an operator can find out from `kevel` alone, against a real process with simulated guests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kevel.cli.client import Cloud
from kevel.cli.main import app
from kevel.cli.process import KevelProcess
from kevel.domain.errors import KevelError
from tests.openstack_command import Openstack, read_openrc

MakeKevel = Callable[..., KevelProcess]
WAIT_S = 20.0
LIMITS = """
[limits]
detach_timeout_s = 4.0
unplug_ask_again_s = 0.2
compare_every_s = 3600.0
"""


class Operator:
    """Somebody with a shell and an openrc."""

    def __init__(self, data: Path, cloud: Cloud) -> None:
        self.data = data
        self.cloud = cloud
        pairs = (line.removeprefix("export ").partition("=") for line in (data / "openrc").read_text().splitlines())
        self.credentials = {name: value.strip("'") for name, _, value in pairs}

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """What `kevel ARGUMENTS` prints, and its complaint; in this process, since an interpreter takes its time."""
        result = CliRunner().invoke(app, arguments, env={**self.credentials, "COLUMNS": "200"})
        complaint = ""
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            assert isinstance(result.exception, KevelError), result.exception
            complaint = result.exception.message
        assert result.exit_code == code, (result.exit_code, result.output, complaint)
        return result.stdout, complaint

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code)[0])

    def make_server(self, **specs: str) -> str:
        flavor = {"name": f"f-{len(specs)}", "vcpus": 1, "ram": 96, "disk": 0, "id": f"f-{len(specs)}"}
        self.cloud.client.post("/compute/v2.1/flavors", {"flavor": flavor})
        if specs:
            body = {"extra_specs": {f"sim:{name}": word for name, word in specs.items()}}
            self.cloud.client.post(f"/compute/v2.1/flavors/{flavor['id']}/os-extra_specs", body)
        server_id = self.cloud.create_server("s", image="tiny", flavor=str(flavor["name"]))
        self.cloud.wait_server(server_id, "ACTIVE", WAIT_S)
        return server_id


@pytest.fixture
def operator(kevel: MakeKevel, data: Path, tmp_path: Path) -> Operator:
    config = tmp_path / "kevel.toml"
    config.write_text(LIMITS)
    cloud = kevel("--hypervisor", "sim", "--config", str(config)).start()
    return Operator(data, cloud)


def test_an_operator_can_follow_an_attach_and_a_detach_that_the_guest_refuses(operator: Operator) -> None:
    cloud = operator.cloud
    server, volume = operator.make_server(unplug="refuse"), cloud.create_volume("v", 1, WAIT_S)
    cloud.attach(server, volume)
    followed, _ = operator.run("attachment", "watch", volume)
    assert "rung: connected -> plugged" in followed
    assert followed.endswith("The volume is attached: the guest has the disk.\n")
    lines = [json.loads(line) for line in operator.run("attachment", "watch", volume, "--json")[0].splitlines()]
    assert [line["after"] for line in lines if line["what"] == "rung"] == [
        "reserved",
        "exported",
        "connected",
        "plugged",
    ]
    assert operator.run("attachment", "why", volume) == ("The volume is attached: the guest has the disk.\n", "")

    cloud.detach(server, volume)
    said, _ = operator.run("attachment", "why", volume)
    assert said == "The detach waits for the guest to let go of the disk.\n"
    (row,) = operator.json("attachment", "list", "--unfinished")
    assert (row["volume_id"], row["status"], row["waits_for"]) == (volume, "detaching", "guest")
    assert operator.run("attachment", "retry", row["id"])[0].startswith("Asked.")
    followed, complaint = operator.run("attachment", "watch", row["id"], code=1)
    assert "goal: attached -> detached" in followed
    assert "goal: detached -> attached" in followed
    assert "retry: plugged" in followed
    assert "It was to be detached, and ended attached." in complaint
    assert "though it was asked several times" in complaint

    shown, _ = operator.run("attachment", "show", row["id"])
    assert "guest live" in shown
    assert "set by refusal" in shown
    listed, _ = operator.run("attachment", "list", "--server", server)
    assert row["id"] in listed
    assert operator.json("attachment", "list", "--unfinished") == []
    layers = {one["name"]: one for one in operator.json("attachment", "show", volume)["paths"][0]["layers"]}
    assert (layers["guest_live"]["observed"], layers["guest_persistent"]["observed"]) == ("present", "present")
    assert layers["export"]["observed"] == "not_needed"
    assert "plugged" in operator.run("attachment", "timeline", row["id"])[0]

    action = cloud.client.get(f"/compute/v2.1/servers/{server}/os-instance-actions")["instanceActions"][0]
    # Messages are there from 3.5 on.
    with closing(Openstack({**read_openrc(operator.data), "OS_VOLUME_API_VERSION": "3.5"})) as shell:
        event = shell.json("server", "event", "show", server, action["request_id"])
        assert "though it was asked several times" in str(event["events"])
        (told,) = shell.json("volume", "message", "list")
        assert (told["Resource UUID"], told["Event ID"]) == (volume, "VOLUME_VOLUME_004_022")
        assert "though it was asked several times" in told["User Message"]
        shell.run("volume", "message", "delete", told["ID"])
        assert shell.json("volume", "message", "list") == []


def test_an_operator_can_swap_a_volume_and_give_a_swap_up(operator: Operator) -> None:
    cloud = operator.cloud
    quick, slow = operator.make_server(), operator.make_server(swap="slow:3600")
    volumes = [cloud.create_volume("v", 1, WAIT_S) for _ in range(4)]
    for server, volume in zip((quick, slow), volumes[:2], strict=True):
        cloud.attach(server, volume)
        cloud.wait_volume(volume, "in-use", WAIT_S)
    said, _ = operator.run("attachment", "swap", volumes[0], volumes[2])
    assert said == f"Server {quick} has volume {volumes[2]} in place of {volumes[0]}.\n"
    back = operator.json("attachment", "swap", volumes[2], volumes[0])
    assert (back["state"], back["new_volume_id"]) == ("swapped", volumes[0])
    _, complaint = operator.run("attachment", "swap", volumes[1], volumes[3], "--timeout", "0.1", code=1)
    assert complaint == "Not finished after 0.1 s; the swap goes on."
    shown, _ = operator.run("attachment", "why", volumes[3])
    assert shown == "The volume waits for another one's place in the guest, and is being filled with its contents.\n"
    said, _ = operator.run("attachment", "cancel-swap", volumes[1])
    assert said == f"Cancelled. The server keeps volume {volumes[1]}.\n"
    cloud.wait_volume(volumes[3], "available", WAIT_S)
    _, complaint = operator.run("attachment", "swap", volumes[1], volumes[1], code=1)
    assert "cannot be swapped for itself" in complaint


def test_l3_the_doctor_finds_what_records_and_storage_disagree_about_and_touches_nothing(operator: Operator) -> None:
    cloud = operator.cloud
    server, volume = operator.make_server(), cloud.create_volume("v", 1, WAIT_S)
    lost = cloud.create_volume("lost", 1, WAIT_S)
    cloud.attach(server, volume)
    cloud.wait_volume(volume, "in-use", WAIT_S)
    agreed, _ = operator.run("doctor")
    assert "host:local: 1 server, 1 disk," in agreed
    assert "storage:directory: 2 volumes" in agreed
    assert agreed.endswith("Records and reality agree.\n")

    stray = operator.data / "volumes" / f"volume-{uuid.uuid4()}"
    stray.write_bytes(b"somebody's data")
    (operator.data / "volumes" / f"volume-{lost}").rename(operator.data / "kept")
    said, complaint = operator.run("doctor", code=4)
    assert complaint == ""
    assert f"Storage directory has a volume {stray.name.removeprefix('volume-')} that no record names." in said
    assert f"Volume {lost} is recorded, and storage directory no longer has it." in said
    assert said.count("Needs a person") == 2
    found = operator.json("doctor", code=4)
    assert sorted(one["kind"] for one in found["findings"]) == ["volume_gone", "volume_unknown"]
    assert stray.read_bytes() == b"somebody's data"

    stray.unlink()
    (operator.data / "kept").rename(operator.data / "volumes" / f"volume-{lost}")
    assert operator.run("doctor")[0].endswith("Records and reality agree.\n")


def run_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    command = [sys.executable, "-m", "kevel.cli.main", *arguments]
    return subprocess.run(command, env=bare | environment, capture_output=True, text=True, timeout=60, check=False)


def test_what_cannot_be_answered_is_said_on_stderr_with_an_exit_code(operator: Operator) -> None:
    done = run_process("attachment", "why", "nothing", **operator.credentials)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "kevel: There is no attachment 'nothing', and no volume 'nothing' that has had one.\n"
    done = run_process("doctor")
    assert (done.returncode, done.stdout) == (1, "")
    assert "openrc" in done.stderr
    assert operator.json("attachment", "list") == []
