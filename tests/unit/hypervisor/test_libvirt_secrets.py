"""Where an embedded libvirt keeps the keys that it is lent: in memory, in a directory of Kevel's alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kevel.domain.encryption import Passphrase
from kevel.domain.errors import StepNever
from kevel.hypervisor.libvirt import secrets
from kevel.hypervisor.libvirt.secrets import Lender, forget_secrets, keep_secrets_in_memory, name_secret


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the place of the memory file system."""
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(secrets, "MEMORY", memory)
    return memory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An embedded libvirt's directory."""
    root = tmp_path / "data" / "libvirt"
    (root / "etc").mkdir(parents=True)
    return root


def test_secrets_lie_in_memory_and_what_a_dead_process_left_goes(memory: Path, root: Path) -> None:
    for _ in range(2):
        assert keep_secrets_in_memory(root)
        (root / "etc" / "secrets" / "left.base64").write_text("a key")
    assert keep_secrets_in_memory(root)
    (place,) = memory.iterdir()
    assert place.stat().st_mode & 0o077 == 0
    assert not (place / "left.base64").exists()
    forget_secrets(root)
    assert list(memory.iterdir()) == []


def test_a_directory_that_others_can_enter_takes_no_secrets(memory: Path, root: Path) -> None:
    assert keep_secrets_in_memory(root)
    (place,) = memory.iterdir()
    place.chmod(0o755)
    assert not keep_secrets_in_memory(root)


def test_a_link_in_the_place_of_the_directory_takes_no_secrets(memory: Path, root: Path, tmp_path: Path) -> None:
    assert keep_secrets_in_memory(root)
    (place,) = memory.iterdir()
    shutil.rmtree(place)
    place.symlink_to(tmp_path)
    assert not keep_secrets_in_memory(root)


def test_directories_of_kevels_that_are_gone_are_removed(memory: Path, root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "etc").mkdir(parents=True)
    assert keep_secrets_in_memory(other)
    assert keep_secrets_in_memory(root)
    assert len(list(memory.iterdir())) == 2, "the other one is there still"
    shutil.rmtree(other)
    assert keep_secrets_in_memory(root)
    assert len(list(memory.iterdir())) == 1


def test_where_no_directory_is_safe_no_key_is_lent() -> None:
    lender = Lender(None, keeps=True, safe=False)
    with lender.lent({}):
        pass
    with pytest.raises(StepNever), lender.lent({"ua-one": Passphrase("word")}):
        pass


def test_a_disk_has_a_secret_of_its_own() -> None:
    assert name_secret("ua-one") == name_secret("ua-one") != name_secret("ua-two")
