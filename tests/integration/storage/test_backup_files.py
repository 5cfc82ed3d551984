"""Backups in a directory: chains, damage, crashes and full disks."""

from __future__ import annotations

import errno
import os
import subprocess
import uuid
from pathlib import Path

import pytest

from kevel.domain.errors import SetupError, StepNever, StepRetry
from kevel.storage import backup_files
from kevel.storage.backup_files import CHUNK_BYTES, BackupFiles, BackupHead, BackupOrigin, BackupWritten
from kevel.storage.base import CopyWatch, LocalFile

MIB = 1024**2
SIZE = 8 * MIB + 512


class Place:
    """A directory of backups beside a volume's file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = BackupFiles(root / "backups")
        self.files.open()
        self.volume = LocalFile(path=str(root / "volume"), format="raw", size_bytes=SIZE)
        self.write({})

    def write(self, content: dict[int, bytes], size: int = SIZE) -> None:
        path = Path(self.volume.path)
        if not path.exists():
            path.touch(mode=0o600)
        os.truncate(path, size)
        with path.open("r+b") as file:
            for at, piece in content.items():
                file.seek(at)
                file.write(piece)
        self.volume = LocalFile(path=str(path), format="raw", size_bytes=size)

    def back_up(self, parent: Backup | None = None, files_id: str | None = None) -> Backup:
        chain = parent.head.files if parent else ()
        files_id = files_id or str(uuid.uuid4())
        head = BackupHead(files_id=files_id, volume_id="v", size_bytes=self.volume.size_bytes, files=(files_id, *chain))
        return Backup(head, self.files.write(head, self.volume, parent.origin if parent else None, CopyWatch()))

    def restored(self, backup: Backup, size: int = SIZE) -> bytes:
        path = self.root / f"restored-{uuid.uuid4()}"
        with path.open("xb") as file:
            file.truncate(size)
        self.files.restore(backup.origin, LocalFile(path=str(path), format="raw", size_bytes=size), CopyWatch())
        return path.read_bytes()

    def contents(self) -> bytes:
        return Path(self.volume.path).read_bytes()

    def data(self, backup: Backup, name: str = "data") -> Path:
        return self.files.root / f"backup-{backup.head.files_id}" / name


class Backup:
    """A backup that was written."""

    def __init__(self, head: BackupHead, written: BackupWritten) -> None:
        self.head, self.written = head, written
        self.origin = BackupOrigin(files_id=head.files_id, checksum=written.checksum)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_contents_come_back_as_they_were_and_zeros_are_not_stored(place: Place) -> None:
    place.write({0: b"start", 3 * MIB - 2: b"over the edge", SIZE - 3: b"end", 5 * MIB: bytes(MIB)})
    backup = place.back_up()
    before = place.contents()
    assert (backup.written.chunk_count, backup.written.stored_bytes) == (4, 3 * CHUNK_BYTES + 512)
    place.write({0: b"other"})
    assert place.restored(backup) == before
    assert place.restored(backup, SIZE + MIB) == before + bytes(MIB)


def test_an_empty_volume_is_backed_up_as_nothing(place: Place) -> None:
    backup = place.back_up()
    assert backup.written.stored_bytes == 0
    assert place.restored(backup) == bytes(SIZE)


def test_an_increment_holds_only_what_differs_and_each_restores_its_own_time(place: Place) -> None:
    place.write({0: b"one", MIB: b"two", 7 * MIB: b"seven"})
    first, was = place.back_up(), [place.contents()]
    place.write({MIB: b"TWO", 7 * MIB: bytes(5)})
    second = place.back_up(first)
    was.append(place.contents())
    place.write({0: b"ONE", 2 * MIB: b"new"}, SIZE + 2 * MIB)
    third = place.back_up(second)
    was.append(place.contents())
    assert [one.written.chunk_count for one in (first, second, third)] == [3, 1, 2]
    assert third.head.files == tuple(one.head.files_id for one in (third, second, first))
    assert place.restored(first) == was[0]
    assert place.restored(second) == was[1]
    assert place.restored(third, SIZE + 2 * MIB) == was[2]


def test_an_increment_of_what_has_not_changed_stores_nothing(place: Place) -> None:
    place.write({0: b"one"})
    first = place.back_up()
    second = place.back_up(first)
    assert second.written.stored_bytes == 0
    assert place.restored(second) == place.contents()


@pytest.mark.parametrize("at", [0, CHUNK_BYTES - 1, CHUNK_BYTES])
def test_a_flipped_byte_in_any_data_of_the_chain_is_found(place: Place, at: int) -> None:
    place.write({0: b"one", MIB: b"two"})
    first = place.back_up()
    place.write({4 * MIB: b"three"})
    second = place.back_up(first)
    flip(place.data(first), at)
    for backup in (first, second):
        with pytest.raises(StepNever, match=f"damaged: chunk {at // CHUNK_BYTES} in the data of {first.head.files_id}"):
            place.restored(backup)


def test_a_changed_manifest_is_found_before_it_is_believed(place: Place) -> None:
    place.write({0: b"one"})
    backup = place.back_up()
    size = place.data(backup, "manifest").stat().st_size
    for at in (0, 20, size - 1):
        flip(place.data(backup, "manifest"), at)
        for use in (place.restored, lambda one: place.files.check(one.origin), place.back_up):
            with pytest.raises(StepNever, match="manifest is not what was stored"):
                use(backup)
        flip(place.data(backup, "manifest"), at)
    assert place.files.check(backup.origin) == backup.head


def test_data_that_is_cut_off_or_gone_is_found(place: Place) -> None:
    place.write({0: b"one"})
    backup = place.back_up()
    os.truncate(place.data(backup), 100)
    with pytest.raises(StepNever, match="cut off"):
        place.files.check(backup.origin)
    with pytest.raises(StepNever, match="damaged"):
        place.restored(backup)
    place.data(backup).unlink()
    for use in (place.restored, lambda one: place.files.check(one.origin)):
        with pytest.raises(StepNever, match="not there"):
            use(backup)


def test_a_backup_that_was_written_but_not_recorded_is_taken_as_it_is(place: Place) -> None:
    place.write({0: b"one"})
    backup = place.back_up()
    again = place.back_up(files_id=backup.head.files_id)
    assert again.written == backup.written
    place.write({}, SIZE + MIB)
    with pytest.raises(StepNever, match="another backup"):
        place.back_up(files_id=backup.head.files_id)


def test_a_killed_backup_is_begun_again_over_what_it_left(place: Place) -> None:
    place.write({0: b"one"})
    files_id = str(uuid.uuid4())
    part = place.files.root / f".backup-{files_id}.part"
    part.mkdir()
    (part / "data").write_bytes(b"half")
    backup = place.back_up(files_id=files_id)
    assert place.restored(backup) == place.contents()
    part.mkdir()
    gone = place.files.root / f".backup-{uuid.uuid4()}.gone"
    gone.mkdir()
    place.files.open()
    assert not part.exists()
    assert not gone.exists()
    assert place.files.list_ids() == [files_id]


def test_a_watch_ends_backup_and_restore_and_nothing_is_left_of_a_backup(place: Place) -> None:
    place.write({0: b"one"})
    backup = place.back_up()
    watch = CopyWatch()
    watch.stop("The backup was given up.")
    head = BackupHead(files_id=str(uuid.uuid4()), volume_id="v", size_bytes=SIZE, files=("x",))
    with pytest.raises(StepRetry, match="given up"):
        place.files.write(head, place.volume, None, watch)
    with pytest.raises(StepRetry, match="given up"):
        place.files.restore(backup.origin, place.volume, watch)
    assert [path.name for path in place.files.root.iterdir()] == [f"backup-{backup.head.files_id}"]


def test_a_full_disk_ends_a_backup_and_nothing_is_left_of_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write({0: b"one", MIB: b"two"})
    left = iter([None, OSError(errno.ENOSPC, "full")])

    def check(fd: int) -> None:
        error = next(left)
        if error is not None:
            raise error

    monkeypatch.setattr(backup_files, "_check_space", check)
    with pytest.raises(StepNever, match="no space left"):
        place.back_up()
    assert list(place.files.root.iterdir()) == []


def test_a_backup_whose_name_may_not_be_on_the_disk_yet_is_made_to_last_before_it_is_believed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []

    def sync(folder: Path) -> None:
        synced.append(folder)
        if len(synced) == 2:  # behind the rename
            raise OSError(errno.EIO, "the disk does not answer")

    monkeypatch.setattr(backup_files, "sync_directory", sync)
    files_id = str(uuid.uuid4())
    with pytest.raises(StepRetry):
        place.back_up(files_id=files_id)
    synced.clear()
    synced += [Path(), Path()]
    place.back_up(files_id=files_id)
    assert synced[2:] == [place.files.root]


def test_a_qcow2_volume_is_backed_up_by_its_contents(place: Place, tmp_path: Path) -> None:
    place.write({0: b"one", 5 * MIB: b"five"})
    path = tmp_path / "volume.qcow2"
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", place.volume.path, str(path)]
    subprocess.run(command, check=True)
    before = place.contents()
    place.volume = LocalFile(path=str(path), format="qcow2", size_bytes=SIZE)
    backup = place.back_up()
    assert backup.written.chunk_count == 2
    assert place.restored(backup) == before
    assert sorted(one.name for one in place.data(backup).parent.iterdir()) == ["data", "manifest"]


def test_removing_leaves_nothing_and_can_be_done_twice(place: Place) -> None:
    backup = place.back_up()
    other = place.back_up()
    for _ in range(2):
        place.files.remove(backup.head.files_id)
    assert place.files.list_ids() == [other.head.files_id]


@pytest.mark.parametrize("name", ["", "..", "x/../../y", "A" * 36])
def test_what_is_no_id_names_no_directory(place: Place, name: str) -> None:
    with pytest.raises(StepNever, match="not a backup's id"):
        place.files.remove(name)


def test_a_planted_link_is_not_followed(place: Place, tmp_path: Path) -> None:
    place.write({0: b"one"})
    backup = place.back_up()
    secret = tmp_path / "secret"
    secret.write_bytes(place.data(backup).read_bytes())
    place.data(backup).unlink()
    place.data(backup).symlink_to(secret)
    with pytest.raises(StepNever):
        place.restored(backup)


def test_a_directory_that_others_may_write_is_refused(place: Place) -> None:
    place.files.root.chmod(0o777)
    with pytest.raises(SetupError, match="nobody else"):
        place.files.open()
    with pytest.raises(StepNever, match="nobody else"):
        place.back_up()
