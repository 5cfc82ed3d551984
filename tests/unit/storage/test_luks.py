"""LUKS headers: QEMU opens what Kevel writes, with the right passphrase only."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kevel.domain.encryption import KEY_BITS, Passphrase, choose_key_bits
from kevel.domain.errors import Invalid, StepNever
from kevel.storage.luks import format_luks, read_payload_offset

MIB = 1 << 20
RIGHT = Passphrase("right-passphrase-of-a-test")


def make(path: Path, key_bits: int = 512) -> Path:
    """An encrypted volume of 4 MiB."""
    with path.open("w+b") as file:
        format_luks(file.fileno(), 4 * MIB, RIGHT, key_bits, name="a-volume")
    return path


def read_with(path: Path, passphrase: Passphrase, target: Path) -> int:
    """Decrypt the volume into a file; qemu-img's exit code."""
    word = target.with_suffix(".word")
    word.write_text(passphrase.value)
    source = f"driver=luks,key-secret=key,file.driver=file,file.filename={path}"
    command = ["qemu-img", "convert", "--object", f"secret,id=key,file={word}", "--image-opts", source, "-O", "raw"]
    return subprocess.run([*command, str(target)], capture_output=True, timeout=60, check=False).returncode


@pytest.mark.parametrize("key_bits", KEY_BITS)
def test_qemu_opens_it_with_the_right_passphrase_only(tmp_path: Path, key_bits: int) -> None:
    volume = make(tmp_path / "volume", key_bits)
    assert read_with(volume, RIGHT, tmp_path / "clear") == 0
    assert (tmp_path / "clear").stat().st_size == 4 * MIB
    assert read_with(volume, Passphrase("wrong"), tmp_path / "wrong") != 0


def test_the_payload_is_the_volume_and_begins_behind_the_header(tmp_path: Path) -> None:
    volume = make(tmp_path / "volume")
    with volume.open("rb") as file:
        assert read_payload_offset(file.fileno()) == volume.stat().st_size - 4 * MIB
    assert volume.stat().st_blocks * 512 < MIB, "it is sparse"


def test_two_volumes_with_one_passphrase_have_different_keys(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    for path in (one, other):
        os.truncate(path, path.stat().st_size)
    assert read_with(one, RIGHT, tmp_path / "first") == read_with(other, RIGHT, tmp_path / "second") == 0
    assert (tmp_path / "first").read_bytes() != (tmp_path / "second").read_bytes()


@pytest.mark.parametrize("start", [b"", b"QFI\xfb", b"LUKS\xba\xbe\0\2" + bytes(600)])
def test_what_has_no_header_is_refused(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "volume"
    path.write_bytes(start)
    with path.open("rb") as file, pytest.raises(StepNever):
        read_payload_offset(file.fileno())


def test_a_passphrase_does_not_show_itself() -> None:
    assert "right" not in f"{RIGHT} {RIGHT!r} {[RIGHT]}"


@pytest.mark.parametrize(
    "changes",
    [{"provider": "plain"}, {"provider": "luks2"}, {"cipher": "aes-cbc-essiv"}, {"key_size": 128},
     {"control_location": "back-end"}],
)  # fmt: skip
def test_an_encryption_that_kevel_cannot_do_is_refused(changes: dict[str, object]) -> None:
    asked: dict[str, object] = {"provider": "luks", "cipher": None, "key_size": None, "control_location": "front-end"}
    assert choose_key_bits(**asked) == 512  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        choose_key_bits(**(asked | changes))  # type: ignore[arg-type]
