"""The server's own files."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import msgspec
import pytest

from kevel.domain.errors import SetupError, StepNever
from kevel.hypervisor.base import DomainSpec, RescueSpec
from kevel.hypervisor.libvirt.hypervisor import DATA_DIR_BYTES_MAX, check_data_dir
from kevel.hypervisor.libvirt.root_disk import (
    CONSOLE_LOG_BYTES_KEPT,
    CONSOLE_LOG_BYTES_MAX,
    make_own_disks,
    make_root_disk,
    name_server_files,
    refuse_foreign_data,
    remove_other_disks,
    remove_server_dir,
    trim_console_log,
)

MIB = 1 << 20


def make_spec(image: Path, root_bytes: int = 0) -> DomainSpec:
    return DomainSpec(
        server_id="01234567-89ab-cdef-0123-456789abcdef",
        memory_mib=64,
        vcpus=1,
        image_path=str(image),
        image_format="raw",
        root_bytes=root_bytes,
    )


def make_sparse_image(path: Path) -> bytes:
    """8 MiB with data at the start, in the middle and at the end."""
    with path.open("wb") as file:
        file.truncate(8 * MIB)
        for position in (0, 5 * MIB + 17, 8 * MIB - 3):
            file.seek(position)
            file.write(b"abc")
    return path.read_bytes()


def test_the_root_disk_is_a_grown_copy_of_the_image_and_its_holes_stay_holes(tmp_path: Path) -> None:
    content = make_sparse_image(tmp_path / "image")
    root = tmp_path / "root.raw"
    make_root_disk(make_spec(tmp_path / "image", 16 * MIB), root)
    assert root.read_bytes() == content.ljust(16 * MIB, b"\0")
    assert root.stat().st_blocks * 512 < MIB
    assert root.stat().st_mode & 0o777 == 0o600


def test_a_root_disk_that_is_there_is_left_alone(tmp_path: Path) -> None:
    make_sparse_image(tmp_path / "image")
    root = tmp_path / "root.raw"
    root.write_bytes(b"written by the guest")
    make_root_disk(make_spec(tmp_path / "image"), root)
    assert root.read_bytes() == b"written by the guest"


def test_a_root_disk_whose_name_may_not_be_on_the_disk_yet_is_made_to_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("kevel.hypervisor.libvirt.root_disk.sync_directory", synced.append)
    (tmp_path / "root.raw").write_bytes(b"renamed by a process that died then")
    make_root_disk(make_spec(tmp_path / "image"), tmp_path / "root.raw")
    assert synced == [tmp_path]


def test_a_copy_that_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    content = make_sparse_image(tmp_path / "image")
    (tmp_path / ".root.raw.part").write_bytes(b"half")
    make_root_disk(make_spec(tmp_path / "image"), tmp_path / "root.raw")
    assert (tmp_path / "root.raw").read_bytes() == content
    assert not (tmp_path / ".root.raw.part").exists()


def test_a_root_disk_smaller_than_the_image_is_refused(tmp_path: Path) -> None:
    make_sparse_image(tmp_path / "image")
    with pytest.raises(StepNever, match="smaller than the image"):
        make_root_disk(make_spec(tmp_path / "image", MIB), tmp_path / "root.raw")
    assert not (tmp_path / "root.raw").exists()


def test_a_missing_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepNever, match="missing"):
        make_root_disk(make_spec(tmp_path / "none"), tmp_path / "root.raw")


def make_header(*, backing: int = 0, features: int = 0, magic: bytes = b"QFI\xfb") -> bytes:
    """A file of 256 KiB that is a qcow2 image of 1 MiB, with some fields changed."""
    fields = (magic, 3, backing, 0, 16, MIB, 0, 1, 3 << 16, 1 << 16, 1, 0, 0, features, 0, 0, 4, 104)
    return struct.pack(">4sIQIIQIIQQIIQQQQII", *fields).ljust(4 << 16, b"\0")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (make_header(backing=512), "backing file"),
        (make_header(features=1 << 2), "another file"),
        (make_header(magic=b"nope"), "qcow2 header"),
        (b"", "qcow2 header"),
    ],
)
def test_a_qcow2_image_that_is_not_whole_is_refused(tmp_path: Path, header: bytes, words: str) -> None:
    (tmp_path / "image").write_bytes(header)
    with pytest.raises(StepNever, match=words):
        refuse_foreign_data(tmp_path / "image", "one")


def test_a_whole_qcow2_image_is_taken(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(make_header())
    refuse_foreign_data(tmp_path / "image", "one")


@pytest.mark.qemu
def test_a_qcow2_image_is_copied_and_grown(tmp_path: Path) -> None:
    image = tmp_path / "image"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "4M"], check=True, timeout=30)
    spec = msgspec.structs.replace(make_spec(image, 8 * MIB), image_format="qcow2")
    make_root_disk(spec, tmp_path / "root.qcow2")
    info = subprocess.run(
        ["qemu-img", "info", "-f", "qcow2", "--output", "json", str(tmp_path / "root.qcow2")],
        check=True, timeout=30, capture_output=True,
    )  # fmt: skip
    assert msgspec.json.decode(info.stdout)["virtual-size"] == 8 * MIB
    with pytest.raises(StepNever, match="smaller than the image"):
        make_root_disk(msgspec.structs.replace(spec, root_bytes=MIB), tmp_path / "other.qcow2")


def test_a_console_log_that_has_grown_too_long_keeps_its_tail(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    trim_console_log(log)
    assert not log.exists()
    log.write_bytes(b"x" * CONSOLE_LOG_BYTES_MAX)
    trim_console_log(log)
    assert log.stat().st_size == CONSOLE_LOG_BYTES_MAX
    with log.open("ab") as file:
        file.write(b"the end")
    trim_console_log(log)
    assert log.stat().st_size == CONSOLE_LOG_BYTES_KEPT
    assert log.read_bytes().endswith(b"xthe end")


def test_removing_a_server_directory_may_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "root.raw").touch()
    remove_server_dir(tmp_path / "one")
    remove_server_dir(tmp_path / "one")
    assert list(tmp_path.iterdir()) == []


def test_a_data_directory_too_long_for_sockets_is_refused_with_the_limit() -> None:
    check_data_dir(Path("/" + "d" * (DATA_DIR_BYTES_MAX - 1)))
    with pytest.raises(SetupError, match=f"at most {DATA_DIR_BYTES_MAX} bytes"):
        check_data_dir(Path("/" + "d" * DATA_DIR_BYTES_MAX))


def test_another_number_is_another_root_disk_and_those_that_no_definition_names_go(tmp_path: Path) -> None:
    make_sparse_image(tmp_path / "image")
    server_dir = tmp_path / "server"
    server_dir.mkdir()
    rescue = RescueSpec(number=3, image_path=str(tmp_path / "image"), image_format="raw")
    first = make_spec(tmp_path / "image")
    rescued = msgspec.structs.replace(first, rescue=rescue)
    second = msgspec.structs.replace(first, root_number=4)
    for spec, names in (
        (first, {"root.raw"}),
        (rescued, {"root.raw", "rescue-3.raw"}),
        (second, {"root-4.raw"}),
        (first, {"root.raw"}),
    ):
        files = name_server_files(server_dir, spec)
        make_own_disks(spec, files, runs=False)
        remove_other_disks(server_dir, files)
        assert {path.name for path in server_dir.iterdir()} == names


@pytest.mark.parametrize(("runs", "size"), [(False, 16 * MIB), (True, 8 * MIB)])
def test_a_root_disk_grows_while_no_guest_has_it_and_never_shrinks(tmp_path: Path, runs: bool, size: int) -> None:
    content = make_sparse_image(tmp_path / "image")
    spec = make_spec(tmp_path / "image", 8 * MIB)
    files = name_server_files(tmp_path, spec)
    for root_bytes, is_running in ((8 * MIB, False), (16 * MIB, runs), (12 * MIB, True), (4 * MIB, False)):
        make_own_disks(msgspec.structs.replace(spec, root_bytes=root_bytes), files, runs=is_running)
    assert (tmp_path / "root.raw").read_bytes() == content.ljust(size, b"\0")
