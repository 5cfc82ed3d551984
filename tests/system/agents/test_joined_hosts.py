"""`kevel up` and two `kevel agent`, each a process with its own libvirt: a volume with data goes from host to host."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kevel.cli.client import Cloud
from kevel.cli.console import GuestConsole
from kevel.cli.process import KevelProcess, processes_of

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(300)]

BOOT_S = 120.0
WAIT_S = 40.0
START_S = 60.0


def free_address() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


class AgentProcess:
    """`kevel agent` as a process of its own."""

    def __init__(self, data: Path, control: str) -> None:
        self.data = data
        self._control = control
        self._process: subprocess.Popen[str] | None = None

    def start(self, token: str | None = None) -> None:
        command = [
            sys.executable,
            "-m",
            "kevel.cli.main",
            "agent",
            "--data",
            str(self.data),
            "--control",
            self._control,
        ]
        command += ["--join", "-"] if token else []
        with self.data.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{token or ''}\n")
        self._process.stdin.close()
        line = self._process.stdout.readline()
        assert "works for" in line, self.log
        self._process.stdout.close()

    @property
    def log(self) -> str:
        return self.data.with_suffix(".log").read_text()[-4000:]

    def wait_end(self) -> int:
        assert self._process is not None
        return self._process.wait(START_S)

    def end(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(START_S)

    def console(self, server_id: str) -> GuestConsole:
        return GuestConsole(self.data / "servers" / server_id / "console.sock")


class Stand:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.address = free_address()
        self.process = KevelProcess(root / "kv", "--agents", self.address)
        self.cloud: Cloud = self.process.start()
        self.agents: dict[str, AgentProcess] = {}

    def add(self, name: str) -> AgentProcess:
        token = self.cloud.client.post(f"/kevel/v1/hosts/{name}/join-token", {})["join_token"]["token"]
        agent = AgentProcess(self.root / name, self.address)
        self.agents[name] = agent
        agent.start(token)
        return agent

    def boot(self, host: str) -> str:
        client = self.cloud.client
        (image,) = client.get("/image/v2/images?name=tiny")["images"]
        server = {"name": host, "imageRef": image["id"], "flavorRef": "tiny", "networks": "none", "host": host}
        made = client.post("/compute/v2.1/servers", {"server": server})["server"]["id"]
        self.cloud.wait_server(made, "ACTIVE", BOOT_S)
        with self.agents[host].console(made) as console:
            console.wait_ready(BOOT_S)
        return str(made)

    def disk(self, host: str, server_id: str, volume_id: str) -> str | None:
        """The volume's device as the guest sees it; None: it does not."""
        with self.agents[host].console(server_id) as console:
            lines = console.run("disks").output.splitlines()
        found = {words[2]: f"/dev/{words[0]}" for line in lines if len(words := line.split()) == 3}
        return found.get(volume_id)

    def wait_disk(self, host: str, server_id: str, volume_id: str) -> str:
        """The volume's device. The hypervisor has given it to the guest, which looks for it in its own time."""
        deadline = time.monotonic() + WAIT_S
        while (device := self.disk(host, server_id, volume_id)) is None:
            assert time.monotonic() < deadline, f"the guest of {server_id} never saw volume {volume_id}"
            time.sleep(0.1)
        return device

    def run(self, host: str, server_id: str, command: str) -> str:
        with self.agents[host].console(server_id) as console:
            answer = console.run(command)
        assert answer.code == 0, answer
        return answer.output.strip()

    def close(self) -> None:
        for agent in self.agents.values():
            agent.end(signal.SIGTERM)
        self.process.stop()


@pytest.fixture
def stand() -> Iterator[Stand]:
    root = Path(tempfile.mkdtemp(prefix="kv-"))
    made: Stand | None = None
    try:
        made = Stand(root)
        yield made
    finally:
        if made is not None:
            made.close()
        for pid in processes_of(root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(root, ignore_errors=True)


def test_data_goes_from_host_to_host_over_killed_agents(stand: Stand) -> None:
    first, second = stand.add("a"), stand.add("b")
    cloud = stand.cloud
    servers = {name: stand.boot(name) for name in ("a", "b")}
    volume = cloud.create_volume("disk", 1, WAIT_S)

    # The agent is killed right behind the request: the attach waits, and goes on with its next life.
    first.end(signal.SIGKILL)
    cloud.attach(servers["a"], volume)
    time.sleep(0.5)
    assert cloud.volume_status(volume) == "attaching"
    first.start()
    cloud.wait_volume(volume, "in-use", WAIT_S)
    device = stand.wait_disk("a", servers["a"], volume)
    stand.run("a", servers["a"], f"echo from-a | dd of={device} bs=512 conv=sync,fsync")

    # And in the middle of the detach.
    cloud.detach(servers["a"], volume)
    first.end(signal.SIGKILL)
    first.start()
    cloud.wait_volume(volume, "available", WAIT_S)
    assert stand.disk("a", servers["a"], volume) is None

    cloud.attach(servers["b"], volume)
    cloud.wait_volume(volume, "in-use", WAIT_S)
    device = stand.wait_disk("b", servers["b"], volume)
    assert stand.run("b", servers["b"], f"head -c 6 {device}") == "from-a"

    # A revoked agent ends by itself, with its own exit code; its guest goes on.
    cloud.client.post("/kevel/v1/hosts/b/revoke", {})
    assert second.wait_end() == 5, second.log
    assert "revoked" in second.log
    assert stand.run("b", servers["b"], f"head -c 6 {device}") == "from-a"
    token = cloud.client.post("/kevel/v1/hosts/b/join-token", {})["join_token"]["token"]
    second.start(token)
    cloud.detach(servers["b"], volume)
    cloud.wait_volume(volume, "available", WAIT_S)
    for name, server in servers.items():
        cloud.delete_server(server, WAIT_S)
        assert not list((stand.agents[name].data / "servers").iterdir())
    logs = "".join(path.read_text() for path in stand.root.glob("*.log"))
    assert token.partition(".")[0] not in logs
