"""The tiny guest's builder: what can be seen without downloading anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import build_guest
from scripts.build_guest import Archive, GuestError


def write_module(directory: Path, name: str, depends: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    directory.joinpath(f"{name}.ko").write_bytes(
        b"\x7fELF...\0license=GPL\0depends=" + depends.encode() + b"\0intree=Y\0"
    )


def test_a_module_comes_after_everything_it_depends_on(tmp_path: Path) -> None:
    write_module(tmp_path / "block", "disk", "bus,core")
    write_module(tmp_path / "bus", "bus", "core")
    write_module(tmp_path / "core", "core", "")
    write_module(tmp_path / "net", "unwanted", "core")

    assert [path.stem for path in build_guest.order_modules(tmp_path, ["disk", "bus"])] == ["core", "bus", "disk"]


def test_a_module_is_found_whichever_dash_its_file_name_has(tmp_path: Path) -> None:
    write_module(tmp_path, "virtio-rng", "")

    assert [path.name for path in build_guest.order_modules(tmp_path, ["virtio_rng"])] == ["virtio-rng.ko"]


def test_a_module_that_is_built_into_the_kernel_is_left_out(tmp_path: Path) -> None:
    write_module(tmp_path, "disk", "builtin")

    assert [path.stem for path in build_guest.order_modules(tmp_path, ["other", "disk"])] == ["disk"]


def read_archive(content: bytes) -> dict[str, tuple[int, bytes]]:
    """Every entry's mode and content by its name, read as the kernel does: by the offsets that the headers give."""
    entries: dict[str, tuple[int, bytes]] = {}
    at = 0
    while at < len(content):
        header = content[at : at + 110]
        assert header[:6] == b"070701"
        fields = [int(header[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = content[at + 110 : at + 110 + name_size - 1].decode()
        start = at + (110 + name_size + 3) // 4 * 4
        entries[name] = (mode, content[start : start + size])
        at = start + (size + 3) // 4 * 4
    return entries


def test_an_archive_gives_back_what_was_put_in() -> None:
    archive = Archive()
    archive.add_directory("bin")
    archive.add_file("bin/tool", b"12345", 0o755)
    archive.add_link("bin/other", "tool")
    archive.add_character_device("dev/console", 5, 1)

    assert read_archive(archive.to_bytes()) == {
        "bin": (0o40755, b""),
        "bin/tool": (0o100755, b"12345"),
        "bin/other": (0o120777, b"tool"),
        "dev/console": (0o20600, b""),
        "TRAILER!!!": (0, b""),
    }


def test_a_failing_command_is_named_with_its_own_last_words() -> None:
    with pytest.raises(GuestError, match=r"`sh -c echo no such package >&2; exit 3` failed: no such package"):
        build_guest.run_command("sh", "-c", "echo no such package >&2; exit 3")


def test_a_missing_command_says_where_the_guest_can_be_built() -> None:
    with pytest.raises(GuestError, match="no-such-tool is not here"):
        build_guest.run_command("no-such-tool")
