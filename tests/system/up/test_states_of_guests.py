"""The table of what may be done to a volume's server in each state, played with real guests.

What is accepted is the same table as for the simulated host. One guest walks through all the states; a server that is
deleted has nothing that boots, since nobody asks its guest.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kevel.cli.client import ApiError
from kevel.cli.process import processes_of
from tests.integration.engine.test_states import ACCEPTED, STATES
from tests.system.up.test_real_guests import BOOT_S, WAIT_S, Stand

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(240)]

STAMP = "what-the-guest-wrote"
#: How a server comes into a state, and how the one that walks on comes back.
INTO: dict[str, dict[str, Any]] = {
    "PAUSED": {"pause": None},
    "SUSPENDED": {"suspend": None},
    "SHUTOFF": {"os-stop": None},
    "RESCUE": {"rescue": None},
    "VERIFY_RESIZE": {"resize": {"flavorRef": "larger"}},
    "ERROR": {"os-resetState": {"state": "error"}},
}
BACK: dict[str, dict[str, Any]] = {"RESCUE": {"unrescue": None}, "VERIFY_RESIZE": {"confirmResize": None}}
#: Those of the table that a real guest is brought into here.
PLAYED = tuple(state for state in STATES if state == "ACTIVE" or state in INTO)
HARD: dict[str, Any] = {"reboot": {"type": "HARD"}}
SOFT: dict[str, Any] = {"reboot": {"type": "SOFT"}}


class Walker:
    """A server with one volume of its own, which has data, and a free volume beside it."""

    def __init__(self, stand: Stand, server: str, volume: str, other: str) -> None:
        self.stand, self.server, self.volume, self.other = stand, server, volume, other
        self.size_gib = 1
        #: What the server has when it is at rest: its own volume, unless an operation has just taken it.
        self.held = {volume}

    def come_into(self, state: str) -> None:
        """Bring the server from ACTIVE into the state; its volume stays."""
        if state in INTO:
            self.stand.act(self.server, INTO[state])
        self.see(state, {self.volume})

    def see(self, state: str, held: set[str]) -> None:
        """The server comes to the state with just these volumes, in its definition too, and with the data."""
        self.wait(lambda: self._shows(state), f"{self.server} never was {state}")
        for volume in (self.volume, self.other):
            self.stand.cloud.wait_volume(volume, "in-use" if volume in held else "available", WAIT_S)
        definition = self.stand.definition(self.server)
        assert {volume for volume in (self.volume, self.other) if f"<serial>{volume}<" in definition} == held
        self.see_data(self.stand.data / "volumes" / f"volume-{self.volume}")

    def see_data(self, path: Path) -> None:
        """The stamp is in the file."""
        with path.open("rb") as file:
            assert file.read(len(STAMP)).decode() == STAMP, path.name

    def refuse(self, state: str, operation: str, ask: Callable[[], object]) -> None:
        """The operation is a conflict and changes nothing."""
        with pytest.raises(ApiError) as refused:
            ask()
        assert refused.value.status == httpx.codes.CONFLICT, f"{operation} in {state}: {refused.value}"
        self.see(state, {self.volume})

    def attach(self, state: str) -> None:
        """The free volume comes."""
        self.stand.cloud.attach(self.server, self.other)
        self.see(state, {self.volume, self.other})

    def detach(self, state: str) -> None:
        """The free volume goes again; where none could come, the server's own goes, and comes back once it may."""
        leaving = self.other if state in ACCEPTED["attach"] else self.volume
        self.stand.cloud.detach(self.server, leaving)
        self.held = {self.volume} - {leaving}
        self.see(state, self.held)

    def come_back(self) -> None:
        """The server is ACTIVE and has its own volume."""
        self.see("ACTIVE", self.held)
        if not self.held:
            self.stand.attach(self.server, self.volume)
            self.held = {self.volume}

    def extend(self, state: str) -> None:
        """The volume grows."""
        self.size_gib += 1
        body = {"os-extend": {"new_size": self.size_gib}}
        self.stand.cloud.client.post(f"/volume/v3/volumes/{self.volume}/action", body)
        self.wait(lambda: self._show_volume()["size"] == self.size_gib, "the volume never grew")
        self.see(state, {self.volume})

    def snapshot(self, state: str) -> None:
        """Its snapshot has the data."""
        client = self.stand.cloud.client
        body = {"snapshot": {"volume_id": self.volume, "force": True}}
        snapshot_id = client.post("/volume/v3/snapshots", body)["snapshot"]["id"]
        path = f"/volume/v3/snapshots/{snapshot_id}"
        self.wait(lambda: client.get(path)["snapshot"]["status"] == "available", "the snapshot was never made")
        self.see_data(self.stand.data / "volumes" / f"snapshot-{snapshot_id}")
        client.delete(path)
        self.see(state, {self.volume})

    def reboot(self, body: dict[str, Any]) -> None:
        """The server runs afterwards, and its guest finds its data."""
        self.stand.act(self.server, body)
        self.see("ACTIVE", self.held)

    def find_data(self) -> None:
        """The guest itself finds the data under the volume's id, and the new size."""
        self.stand.wait_booted_with(self.server, self.volume)
        assert self.stand.read(self.server, self.volume, len(STAMP)) == STAMP
        with self.stand.console(self.server) as console:
            lines = [line.split() for line in console.run("disks").output.splitlines()]
        assert [int(words[1]) for words in lines if words[2:] == [self.volume]] == [self.size_gib << 30]

    def wait(self, condition: Callable[[], bool], failure: str) -> None:
        deadline = time.monotonic() + BOOT_S
        while not condition():
            assert time.monotonic() < deadline, failure
            time.sleep(0.05)

    def _shows(self, state: str) -> bool:
        server = self.stand.cloud.server(self.server)
        return bool(server["status"] == state and server["OS-EXT-STS:task_state"] is None)

    def _show_volume(self) -> dict[str, Any]:
        shown: dict[str, Any] = self.stand.cloud.client.get(f"/volume/v3/volumes/{self.volume}")["volume"]
        return shown


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    root = Path(tempfile.mkdtemp(prefix="kv-"))
    try:
        one = Stand(root, "[limits]\nshutdown_grace_s = 1.0\nreboot_grace_s = 10.0\n")
        larger = {"id": "larger", "name": "larger", "ram": 128, "disk": 1, "vcpus": 1}
        one.cloud.client.post("/compute/v2.1/flavors", {"flavor": larger})
        image = {"name": "bare", "disk_format": "raw", "container_format": "bare"}
        image_id = one.cloud.client.post("/image/v2/images", image)["id"]
        octets = {"Content-Type": "application/octet-stream"}
        one.cloud.client.http.put(f"/image/v2/images/{image_id}/file", content=bytes(1 << 20), headers=octets)
        yield one
        one.process.kill()
    finally:
        for pid in processes_of(root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(root, ignore_errors=True)
        root.with_suffix(".log").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def walker(stand: Stand) -> Walker:
    server = stand.boot("walker")
    volume, other = (stand.cloud.create_volume(name, 1, WAIT_S) for name in ("kept", "free"))
    stand.attach(server, volume)
    stand.wait_serial(server, volume, there=True)
    stand.write(server, volume, STAMP)
    return Walker(stand, server, volume, other)


@pytest.mark.parametrize("state", PLAYED)
def test_each_operation_in_each_state_of_a_real_guest_ends_as_documented(walker: Walker, state: str) -> None:
    operations: dict[str, Callable[[], object]] = {
        "attach": lambda: walker.attach(state),
        "extend": lambda: walker.extend(state),
        "snapshot": lambda: walker.snapshot(state),
        "detach": lambda: walker.detach(state),
        "reboot soft": lambda: walker.reboot(SOFT),
        "reboot hard": lambda: walker.reboot(HARD),
    }
    refused: dict[str, Callable[[], object]] = {
        "attach": lambda: walker.stand.cloud.attach(walker.server, walker.other),
        "detach": lambda: walker.stand.cloud.detach(walker.server, walker.volume),
        "reboot soft": lambda: walker.stand.act(walker.server, SOFT),
        "reboot hard": lambda: walker.stand.act(walker.server, HARD),
    }
    walker.come_into(state)
    for operation, ask in refused.items():
        if state not in ACCEPTED[operation]:
            walker.refuse(state, operation, ask)
    for operation in ("extend", "snapshot", "attach", "detach", "reboot soft", "reboot hard"):
        if state in ACCEPTED[operation]:
            operations[operation]()
    if state in BACK:
        walker.stand.act(walker.server, BACK[state])
    walker.come_back()
    walker.find_data()


@pytest.fixture(scope="module")
def doomed(stand: Stand) -> dict[str, tuple[str, str]]:
    """A server with a volume for each state: made at once, since they wait for each other's hosts anyway."""
    cloud = stand.cloud
    made = {}
    for state in PLAYED:
        volume = cloud.create_volume("doomed", 1, WAIT_S)
        with (stand.data / "volumes" / f"volume-{volume}").open("r+b") as file:
            file.write(STAMP.encode())
        made[state] = (cloud.create_server(f"doomed-{state}", image="bare", flavor="tiny"), volume)
    return made


@pytest.mark.parametrize("state", PLAYED)
def test_a_deleted_server_gives_its_volume_back_with_the_data(
    stand: Stand, doomed: dict[str, tuple[str, str]], state: str
) -> None:
    assert state in ACCEPTED["delete"]
    server, volume = doomed[state]
    stand.cloud.wait_server(server, "ACTIVE", BOOT_S)
    stand.attach(server, volume)
    walker = Walker(stand, server, volume, volume)
    walker.come_into(state)
    stand.cloud.delete_server(server, WAIT_S)
    stand.cloud.wait_volume(volume, "available", WAIT_S)
    walker.see_data(stand.data / "volumes" / f"volume-{volume}")
    assert not (stand.data / "servers" / server).exists()


def test_a_shelved_server_that_has_left_its_host_keeps_its_volumes_and_finds_the_data_again(walker: Walker) -> None:
    cloud, state = walker.stand.cloud, "SHELVED_OFFLOADED"
    walker.stand.act(walker.server, {"shelve": None})
    walker.wait(lambda: cloud.server(walker.server)["status"] == state, f"{walker.server} never was {state}")
    cloud.wait_volume(walker.volume, "reserved", WAIT_S)
    assert not (walker.stand.data / "servers" / walker.server).exists()
    assert {operation for operation, states in ACCEPTED.items() if state in states} >= {"attach", "detach", "delete"}
    cloud.attach(walker.server, walker.other)
    cloud.wait_volume(walker.other, "in-use", WAIT_S)
    cloud.detach(walker.server, walker.other)
    cloud.wait_volume(walker.other, "available", WAIT_S)
    for body in (SOFT, HARD):
        with pytest.raises(ApiError) as refused:
            walker.stand.act(walker.server, body)
        assert refused.value.status == httpx.codes.CONFLICT
    walker.stand.act(walker.server, {"unshelve": None})
    walker.come_back()
    walker.find_data()
