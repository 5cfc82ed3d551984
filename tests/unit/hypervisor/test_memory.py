"""A suspended guest's memory is used once, over a loss of power too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import libvirt
import pytest

from kevel.hypervisor.libvirt import memory


class FakeDomain:
    """A suspended domain, and what was done to it in what order."""

    def __init__(self, done: list[str]) -> None:
        self.done = done
        self.active, self.saved = False, True

    def isActive(self) -> bool:  # noqa: N802 - libvirt's name
        return self.active

    def hasManagedSaveImage(self) -> bool:  # noqa: N802
        return self.saved

    def managedSaveGetXMLDesc(self) -> str:  # noqa: N802
        return "<domain/>"

    def managedSaveRemove(self) -> None:  # noqa: N802
        self.saved = False
        self.done.append("removed")

    def createWithFlags(self, flags: int) -> None:  # noqa: N802
        assert flags == libvirt.VIR_DOMAIN_START_PAUSED
        self.active, self.saved = True, False
        self.done.append("restored, paused")

    def state(self) -> list[int]:
        return [libvirt.VIR_DOMAIN_PAUSED, 0]

    def resume(self) -> None:
        self.done.append("goes on")


class FakeLender:
    """Has nothing to lend."""

    def lent(self, keys: Any) -> FakeLender:
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        return None


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    monkeypatch.setattr(memory, "sync_directory", lambda path: made.append(f"synced {path.name}"))
    return made


def test_the_memory_is_gone_for_good_before_the_guest_goes_on(tmp_path: Path, done: list[str]) -> None:
    domain = cast("libvirt.virDomain", FakeDomain(done))
    save_dir = tmp_path / "save"
    save_dir.mkdir()
    memory.resume_guest(domain, "Server", cast("Any", FakeLender()), {}, save_dir)
    assert done == ["restored, paused", "synced save", "goes on"]


def test_memory_that_is_dropped_is_gone_for_good(tmp_path: Path, done: list[str]) -> None:
    domain = cast("libvirt.virDomain", FakeDomain(done))
    memory.drop_memory(domain, tmp_path)
    memory.drop_memory(domain, tmp_path)
    assert done == ["removed", f"synced {tmp_path.name}"]
