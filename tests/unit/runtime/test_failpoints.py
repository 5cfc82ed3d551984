from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kevel.domain.errors import SetupError
from kevel.domain.ladder import MOVES
from kevel.hypervisor.base import Hypervisor
from kevel.hypervisor.libvirt import wire
from kevel.runtime import failpoints
from kevel.storage.base import Backend, Connector

#: Calls of the ports that change nothing outside the process.
LOOKS = {
    "check_server",
    "open",
    "close",
    "observe_server",
    "observe_all",
    "read_console",
    "measure_server",
    "measure_host",
    "list_volumes",
    "list_exports",
    "list_snapshots",
    "list_files",
    "measure_file",
    "read_contents",
    "write_contents",  # a block, which the effects of backups are around
    "capacity",
    "describe_export",
}
PROGRAM = """
import os
from kevel.runtime import failpoints
failpoints.arm(os.environ)
for number in range(1, 6):
    with failpoints.around("plug_disk"):
        pass
    print(number, flush=True)
"""


@pytest.fixture(autouse=True)
def disarm() -> Iterator[None]:
    yield
    failpoints.arm({})


def run_program(points: str, spent: Path | None = None) -> tuple[int, list[str]]:
    environment = {**os.environ, failpoints.VARIABLE: points}
    if spent is not None:
        environment[failpoints.SPENT_VARIABLE] = str(spent)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stdout.split()


def names_of(port: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(port, inspect.isfunction) if not name.startswith("_")} - LOOKS


def test_every_effect_of_the_ports_has_points() -> None:
    assert names_of(Hypervisor) == set(failpoints.HYPERVISOR_EFFECTS)
    assert names_of(Backend) | names_of(Connector) == set(failpoints.STORAGE_EFFECTS)
    # `release_claim` is a record and has no effect of its own.
    known = {*failpoints.HYPERVISOR_EFFECTS, *failpoints.STORAGE_EFFECTS, "release_claim"}
    assert {move.act for move in MOVES} <= known


def test_the_driver_tells_its_child_the_ports_own_names() -> None:
    counts: dict[Callable[..., wire.Act], int] = {
        wire.Define: 2,
        wire.Start: 2,
        wire.Resume: 2,
        wire.Plug: 2,
        wire.Unplug: 2,
        wire.Resize: 3,
        wire.Tune: 3,
        wire.Copy: 2,
        wire.CopyRoot: 2,
        wire.EndCopy: 2,
        wire.Swap: 3,
        wire.EndSwap: 2,
    }
    counts |= dict.fromkeys((wire.AskShutdown, wire.AskReboot, wire.PowerOff, wire.Undefine), 1)
    counts |= dict.fromkeys((wire.Pause, wire.Unpause, wire.Suspend), 1)
    made = {wire.name_act(kind(*(("",) * count))) for kind, count in counts.items()}
    assert made == set(failpoints.HYPERVISOR_EFFECTS)


def test_without_the_variable_nothing_happens() -> None:
    assert run_program("") == (0, ["1", "2", "3", "4", "5"])


def test_an_armed_point_kills_at_the_pass_that_is_asked_for() -> None:
    assert run_program("plug_disk.begin=kill") == (-signal.SIGKILL, [])
    assert run_program("unplug_disk.begin=kill,plug_disk.done=kill@3") == (-signal.SIGKILL, ["1", "2"])


def test_a_point_that_is_spent_does_not_kill_again(tmp_path: Path) -> None:
    spent = tmp_path / "spent"
    assert run_program("plug_disk.done=kill@2", spent) == (-signal.SIGKILL, ["1"])
    assert spent.read_text() == "plug_disk.done\n"
    assert run_program("plug_disk.done=kill@2", spent) == (0, ["1", "2", "3", "4", "5"])


def test_an_effect_that_fails_is_not_done() -> None:
    failpoints.arm({failpoints.VARIABLE: "plug_disk.done=kill"})
    with pytest.raises(ValueError, match="no"), failpoints.around("plug_disk"):
        raise ValueError("no")


@pytest.mark.parametrize(
    "points", ["plug_disk=kill", "plug_disk.done", "plug_disk.done=hang", "nothing.done=kill", "x"]
)
def test_what_is_no_point_is_refused_by_name(points: str) -> None:
    with pytest.raises(SetupError, match="it takes points like"):
        failpoints.arm({failpoints.VARIABLE: points})
