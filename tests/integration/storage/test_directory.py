"""The directory back end: the rules of all back ends, and nobody's tricks with paths."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kevel.domain.errors import SetupError, StepNever, StepRetry
from kevel.runtime.ports import ThreadExecutor
from kevel.storage import file_copies
from kevel.storage.base import CopyWatch, ImageFile, LocalDisk, VolumeFile
from kevel.storage.directory import DirectoryBackend, DirectoryConnector
from kevel.storage.volume_files import VolumeFiles, name_file
from tests.conformance.storage import (
    MIB,
    PoolUnderTest,
    StorageKit,
    connect,
    export_to,
    new_volume,
    snapshot_of,
    written,
)

VOLUME_ID = "5e0f0c57-3ffb-4b5c-9c8b-0c0ffee0c0de"


@pytest.fixture
def executor() -> Iterator[ThreadExecutor]:
    made = ThreadExecutor("storage", 2)
    yield made
    made.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "volumes"


async def open_pool(
    root: Path,
    executor: ThreadExecutor,
    volume_format: str,
    read_start: Callable[[LocalDisk, int], bytes],
    write_start: Callable[[LocalDisk, int, int], None],
) -> PoolUnderTest:
    backend = DirectoryBackend("local", root, executor, volume_format=volume_format)
    await backend.open()
    # More than any file system's longest file.
    return PoolUnderTest(backend, DirectoryConnector(root, executor), read_start, write_start, 1 << 63)


@pytest.fixture
async def raw(root: Path, executor: ThreadExecutor) -> PoolUnderTest:
    return await open_pool(root, executor, "raw", read_raw, write_raw)


def read_raw(disk: LocalDisk, length: int) -> bytes:
    with Path(disk.path).open("rb") as file:
        return file.read(length)


def read_qcow2(disk: LocalDisk, length: int) -> bytes:
    command = ["qemu-img", "dd", "-f", "qcow2", "-O", "raw", f"bs={length}", "count=1", f"if={disk.path}"]
    copy = Path(f"{disk.path}.copy")
    subprocess.run([*command, f"of={copy}"], check=True, capture_output=True)
    return copy.read_bytes()


def write_raw(disk: LocalDisk, byte: int, length: int) -> None:
    with Path(disk.path).open("r+b") as file:
        file.write(bytes([byte]) * length)


def write_qcow2(disk: LocalDisk, byte: int, length: int) -> None:
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", f"write -P {byte} 0 {length}", disk.path], check=True, capture_output=True
    )


def make_base(place: Path) -> None:
    """A qcow2 file that stands by itself."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(place), "1M"], check=True)


def put_above(base: Path, place: Path) -> None:
    """A qcow2 file that reads from another one."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(place)]
    subprocess.run(command, check=True)


class TestRaw(StorageKit):
    @pytest.fixture
    async def pool(self, raw: PoolUnderTest) -> PoolUnderTest:
        return raw


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
class TestQcow2(StorageKit):
    @pytest.fixture
    async def pool(self, root: Path, executor: ThreadExecutor) -> PoolUnderTest:
        return await open_pool(root, executor, "qcow2", read_qcow2, write_qcow2)

    async def test_a_file_with_a_backing_file_is_not_connected(self, pool: PoolUnderTest, root: Path) -> None:
        base, volume = new_volume(pool), new_volume(pool)
        await pool.backend.create_volume(base)
        put_above(root / name_file(base.volume_id), root / name_file(volume.volume_id))
        with pytest.raises(StepNever, match="backing file"):
            await connect(pool, volume)

    async def test_a_raw_volume_may_look_like_qcow2_and_stays_raw(self, pool: PoolUnderTest, root: Path) -> None:
        fake, volume = new_volume(pool), new_volume(pool)
        await pool.backend.create_volume(fake)
        raw = VolumeFile(volume_id=volume.volume_id, size_bytes=4 * MIB, format="raw")
        await pool.backend.create_volume(raw)
        head = (root / name_file(fake.volume_id)).read_bytes()[:4096]
        with (root / name_file(raw.volume_id)).open("r+b") as file:
            file.write(head)
        disk = await connect(pool, raw)
        assert (disk.format, disk.size_bytes) == ("raw", 4 * MIB)


async def test_connection_info_has_relative_names_only(raw: PoolUnderTest) -> None:
    volume = VolumeFile(volume_id=VOLUME_ID, size_bytes=MIB, format="raw")
    await raw.backend.create_volume(volume)
    assert await raw.backend.export_volume(export_to(volume)) == {
        "driver_volume_type": "file",
        "data": {"name": f"volume-{VOLUME_ID}", "format": "raw"},
    }


async def test_a_raw_volume_takes_no_space_and_is_closed_to_others(raw: PoolUnderTest, root: Path) -> None:
    volume = new_volume(raw, 1024 * MIB)
    await raw.backend.create_volume(volume)
    found = (root / name_file(volume.volume_id)).stat()
    assert found.st_size == 1024 * MIB
    assert found.st_blocks * 512 < MIB
    assert found.st_mode & 0o777 == 0o600
    assert root.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "volume_id",
    [
        "",
        ".",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        f"{VOLUME_ID}/..",
        VOLUME_ID.upper(),
        VOLUME_ID + "\n",
        "a" * 36,
    ],
)
async def test_an_id_that_is_no_uuid_names_no_file(raw: PoolUnderTest, root: Path, volume_id: str) -> None:
    volume = VolumeFile(volume_id=volume_id, size_bytes=MIB, format="raw")
    info = {"driver_volume_type": "file", "data": {"name": f"volume-{volume_id}", "format": "raw"}}
    for act in (raw.backend.create_volume, raw.backend.grow_volume, raw.backend.delete_volume):
        with pytest.raises(StepNever, match="volume id"):
            await act(volume)
    with pytest.raises(StepNever):
        await raw.backend.export_volume(export_to(volume))
    with pytest.raises(StepNever):
        await raw.connector.connect_volume(volume, info)
    assert list(root.iterdir()) == []


def plant_link(place: Path, victim: Path) -> None:
    place.symlink_to(victim)


def plant_hard_link(place: Path, victim: Path) -> None:
    place.hardlink_to(victim)


def plant_pipe(place: Path, victim: Path) -> None:
    os.mkfifo(place)


def plant_directory(place: Path, victim: Path) -> None:
    place.mkdir()


def plant_dangling_link(place: Path, victim: Path) -> None:
    place.symlink_to(victim.parent / "not-there-yet")


@pytest.mark.parametrize("plant", [plant_link, plant_hard_link, plant_pipe, plant_directory, plant_dangling_link])
async def test_what_was_planted_in_a_volumes_place_is_never_used(
    raw: PoolUnderTest, root: Path, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"secret" * 1000)
    volume = VolumeFile(volume_id=VOLUME_ID, size_bytes=6000, format="raw")
    larger = VolumeFile(volume_id=VOLUME_ID, size_bytes=12000, format="raw")
    plant(root / name_file(VOLUME_ID), victim)
    for act in (raw.backend.create_volume(volume), raw.backend.grow_volume(larger), connect(raw, volume)):
        with pytest.raises(StepNever, match="not a file that Kevel made"):
            await act
    assert victim.read_bytes() == b"secret" * 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["victim", "volumes"]


async def test_deleting_removes_a_planted_link_and_not_what_it_points_to(
    raw: PoolUnderTest, root: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"kept")
    plant_link(root / name_file(VOLUME_ID), victim)
    await raw.backend.delete_volume(VolumeFile(volume_id=VOLUME_ID, size_bytes=MIB, format="raw"))
    assert victim.read_bytes() == b"kept"
    assert list(root.iterdir()) == []


async def test_a_link_planted_under_the_temporary_name_is_not_written_through(
    raw: PoolUnderTest, root: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"kept")
    plant_link(root / f".{name_file(VOLUME_ID)}.part", victim)
    await raw.backend.create_volume(VolumeFile(volume_id=VOLUME_ID, size_bytes=MIB, format="raw"))
    assert victim.read_bytes() == b"kept"
    assert not (root / name_file(VOLUME_ID)).is_symlink()


async def test_a_directory_that_others_may_write_to_is_refused(raw: PoolUnderTest, root: Path) -> None:
    volume = new_volume(raw)
    await raw.backend.create_volume(volume)
    root.chmod(0o777)
    with pytest.raises(SetupError, match="writable by nobody else"):
        await raw.backend.open()
    with pytest.raises(StepNever, match="writable by nobody else"):
        await connect(raw, volume)


async def test_a_directory_that_is_a_link_is_refused(executor: ThreadExecutor, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "volumes").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupError, match="cannot be used"):
        await DirectoryBackend("local", tmp_path / "volumes", executor).open()


async def test_opening_removes_half_made_files_and_nothing_else(
    raw: PoolUnderTest, root: Path, executor: ThreadExecutor
) -> None:
    volume = new_volume(raw)
    await raw.backend.create_volume(volume)
    (root / f".{name_file(VOLUME_ID)}.part").write_bytes(b"half")
    (root / ".somebody.part").write_bytes(b"else's")
    await DirectoryBackend("local", root, executor).open()
    assert sorted(path.name for path in root.iterdir()) == [".somebody.part", name_file(volume.volume_id)]
    assert await raw.backend.list_volumes() == [volume.volume_id]


async def test_an_unknown_format_is_refused_at_the_start(root: Path, executor: ThreadExecutor) -> None:
    with pytest.raises(SetupError, match="raw or qcow2"):
        await DirectoryBackend("local", root, executor, volume_format="vmdk").open()


@pytest.mark.parametrize("failing", ["open", "ftruncate", "fsync", "rename"])
@pytest.mark.parametrize(
    ("number", "outcome", "words"),
    [
        (errno.ENOSPC, StepNever, "no space left"),
        (errno.EDQUOT, StepNever, "no space left"),
        (errno.EFBIG, StepNever, "cannot hold a file of that size"),
        (errno.EACCES, StepNever, "EACCES"),
        (errno.EIO, StepRetry, "EIO"),
    ],
)
async def test_a_creation_that_fails_at_any_step_leaves_nothing_and_says_why(
    raw: PoolUnderTest,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
    number: int,
    outcome: type[Exception],
    words: str,
) -> None:
    real: Callable[..., Any] = getattr(os, failing)

    def fail(*args: Any, **kwargs: Any) -> Any:
        if failing == "open" and not args[1] & os.O_CREAT:
            return real(*args, **kwargs)
        raise OSError(number, "the system's own words")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(outcome, match=words) as caught:
        await raw.backend.create_volume(VolumeFile(volume_id=VOLUME_ID, size_bytes=MIB, format="raw"))
    monkeypatch.undo()
    assert "own words" not in str(caught.value)
    assert list(root.iterdir()) == []


async def test_a_creation_whose_last_sync_fails_leaves_nothing(
    raw: PoolUnderTest, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = os.fsync

    def fail_second(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "full")
        real(fd)

    monkeypatch.setattr(os, "fsync", fail_second)
    with pytest.raises(StepNever, match="no space left"):
        await raw.backend.create_volume(VolumeFile(volume_id=VOLUME_ID, size_bytes=MIB, format="raw"))
    assert len(calls) == 2
    assert list(root.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB with four inodes."""
    place = tmp_path / "small"
    place.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=4,mode=0700", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_on_a_full_disk_a_creation_is_refused_and_leaves_nothing(
    small_disk: Path, executor: ThreadExecutor
) -> None:
    pool = await open_pool(small_disk / "volumes", executor, "raw", read_raw, write_raw)
    # Two of the four inodes are directories.
    made = [new_volume(pool), new_volume(pool)]
    for volume in made:
        await pool.backend.create_volume(volume)
    with pytest.raises(StepNever, match="no space left"):
        await pool.backend.create_volume(new_volume(pool))
    assert await pool.backend.list_volumes() == sorted(volume.volume_id for volume in made)
    assert len(list((small_disk / "volumes").iterdir())) == 2


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
async def test_on_a_full_disk_qemu_img_leaves_nothing_either(small_disk: Path, executor: ThreadExecutor) -> None:
    pool = await open_pool(small_disk / "volumes", executor, "qcow2", read_qcow2, write_qcow2)
    (small_disk / "filler").write_bytes(bytes(1000 * 1024))
    with pytest.raises(StepNever, match="no space left"):
        await pool.backend.create_volume(new_volume(pool, 1024 * MIB))
    assert list((small_disk / "volumes").iterdir()) == []


def test_the_capacity_is_that_of_the_file_system(tmp_path: Path) -> None:
    files = VolumeFiles(tmp_path / "volumes")
    files.open()
    space = os.statvfs(tmp_path)
    capacity = files.capacity()
    assert capacity.total_bytes == space.f_blocks * space.f_frsize
    assert 0 < capacity.free_bytes <= capacity.total_bytes


async def test_what_a_copy_that_died_left_behind_is_replaced_and_removed_with_the_volume(
    raw: PoolUnderTest, root: Path
) -> None:
    source, copy = await written(raw, 7), new_volume(raw)
    part = root / f".{name_file(copy.volume_id)}.part"
    part.write_bytes(b"half")
    assert await raw.backend.list_volumes() == [source.volume_id]
    await raw.backend.create_volume_from(copy, source, CopyWatch())
    assert not part.exists()
    part.write_bytes(b"half")
    await raw.backend.delete_volume(copy)
    assert [path.name for path in root.iterdir()] == [name_file(source.volume_id)]


async def test_what_somebody_else_writes_outlives_a_restart_and_what_this_process_made_does_not(
    raw: PoolUnderTest, root: Path
) -> None:
    volume = await written(raw, 7)
    snapshot = snapshot_of(volume)
    target = Path(await raw.backend.make_target(snapshot))
    part = root / f".{name_file(volume.volume_id)}.part"
    part.write_bytes(b"half")
    await raw.backend.open()
    assert target.exists()
    assert not part.exists()
    await raw.backend.delete_snapshot(snapshot)
    assert not target.exists()


async def test_a_target_that_is_cut_off_is_not_sealed(raw: PoolUnderTest) -> None:
    snapshot = snapshot_of(await written(raw, 7))
    os.truncate(await raw.backend.make_target(snapshot), MIB)
    with pytest.raises(StepNever, match="cut off"):
        await raw.backend.seal_target(snapshot, CopyWatch())
    assert await raw.backend.list_snapshots() == []


async def test_a_copy_keeps_holes_and_reports_what_it_has_done(raw: PoolUnderTest, root: Path) -> None:
    source = VolumeFile(volume_id=VOLUME_ID, size_bytes=256 * MIB, format="raw")
    await raw.backend.create_volume(source)
    with (root / name_file(VOLUME_ID)).open("r+b") as file:
        file.seek(100 * MIB)
        file.write(b"x" * MIB)
    copy, watch = new_volume(raw, 256 * MIB), CopyWatch()
    await raw.backend.create_volume_from(copy, source, watch)
    assert watch.done_bytes == watch.total_bytes == 256 * MIB
    path = root / name_file(copy.volume_id)
    assert path.stat().st_blocks * 512 < 4 * MIB
    assert path.read_bytes() == (root / name_file(VOLUME_ID)).read_bytes()


async def test_a_copy_that_would_fill_the_disk_ends_and_leaves_nothing(
    raw: PoolUnderTest, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await written(raw, 7)
    monkeypatch.setattr("kevel.runtime.files.FREE_BYTES_MIN", 1 << 62)
    monkeypatch.setattr(file_copies, "_FICLONE", 0)
    with pytest.raises(StepNever, match="no space left"):
        await raw.backend.create_volume_from(new_volume(raw), source, CopyWatch())
    assert [path.name for path in root.iterdir()] == [name_file(source.volume_id)]


async def test_a_file_that_was_taken_is_made_to_last_though_its_taker_died_behind_the_renaming(
    raw: PoolUnderTest, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = new_volume(raw)
    (root / name_file(new.volume_id)).write_bytes(bytes(MIB))
    synced: list[int] = []
    monkeypatch.setattr("kevel.storage.volume_files.os.fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    await raw.backend.take_file(new, "what it was before")
    assert root.stat().st_ino in synced


async def test_bytes_are_copied_where_the_file_system_cannot_do_it(
    raw: PoolUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    monkeypatch.setattr(file_copies, "_FICLONE", 0)
    source, copy = await written(raw, 7), new_volume(raw)
    await raw.backend.create_volume_from(copy, source, CopyWatch())
    assert read_raw(await connect(raw, copy), 4097) == bytes([7]) * 4096 + b"\0"


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
async def test_an_image_that_reads_another_file_makes_no_volume(raw: PoolUnderTest, tmp_path: Path) -> None:
    base, above = tmp_path / "base", tmp_path / "above"
    make_base(base)
    put_above(base, above)
    image = ImageFile(path=str(above), size_bytes=MIB, format="qcow2")
    with pytest.raises(StepNever, match="backing file"):
        await raw.backend.create_volume_from(new_volume(raw), image, CopyWatch())
