"""What tortures Kevel can tell right from wrong: each oracle is shown something wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.torture.disk import LossyDisk
from tests.torture.stamps import BLOCK_BYTES, REGION_BYTES, Session, VolumeStamps

VOLUME = "3b3efbfb-7c1f-4f7f-97ba-73d2934ea885"


class Written:
    """A volume's file on which one session has written three blocks and was told so."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.file.touch()
        os.truncate(file, 64 * REGION_BYTES)
        self.stamps = VolumeStamps(VOLUME)
        self.session: Session = self.stamps.begin(7, "server")
        for number in (1, 2, 3):
            self.put(REGION_BYTES + (number - 1) * BLOCK_BYTES, self.stamps.stamp(7, number))
        self.session.counted = 3

    def put(self, at: int, content: bytes) -> None:
        with self.file.open("r+b") as file:
            file.seek(at)
            file.write(content)

    def wrong(self) -> list[str]:
        return self.stamps.find_wrong(self.file)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "volume")


def test_stamps_in_their_places_are_right(written: Written) -> None:
    assert written.wrong() == []
    written.stamps.end(written.session, written.file)
    assert (written.session.ended, written.wrong()) == (3, [])


def test_a_block_that_was_told_to_be_stored_and_is_not_is_found(written: Written) -> None:
    written.put(REGION_BYTES + 2 * BLOCK_BYTES, bytes(BLOCK_BYTES))
    (wrong,) = written.wrong()
    assert "told that 3 blocks are stored, 2 are there" in wrong


def test_a_block_of_another_volume_or_session_is_found(written: Written) -> None:
    for foreign in (VolumeStamps("another").stamp(7, 2), written.stamps.stamp(8, 2), written.stamps.stamp(7, 3)):
        written.put(REGION_BYTES + BLOCK_BYTES, foreign)
        (wrong,) = written.wrong()
        assert "block 2 is" in wrong


def test_a_hole_in_the_row_is_found(written: Written) -> None:
    written.put(REGION_BYTES + BLOCK_BYTES, bytes(BLOCK_BYTES))
    assert any("block 3 is" in wrong for wrong in written.wrong())


def test_what_an_old_holder_writes_after_its_release_is_found(written: Written) -> None:
    written.stamps.end(written.session, written.file)
    written.put(REGION_BYTES + 3 * BLOCK_BYTES, written.stamps.stamp(7, 4))
    (wrong,) = written.wrong()
    assert "3 blocks when the volume was released, 4 now" in wrong


@pytest.mark.parametrize("at", [0, REGION_BYTES - 1, 2 * REGION_BYTES, 60 * REGION_BYTES + 5])
def test_bytes_where_nobody_writes_are_found(written: Written, at: int) -> None:
    written.put(at, b"x")
    (wrong,) = written.wrong()
    assert "that nobody wrote" in wrong


def test_a_disk_whose_power_is_cut_forgets_what_was_not_synced(make_disk: Callable[[], LossyDisk]) -> None:
    disk = make_disk()
    kept, lost = disk.root / "kept", disk.root / "lost"
    for file in (kept, lost):
        with file.open("wb") as opened:
            opened.write(b"first")
            opened.flush()
            os.fsync(opened.fileno())
    kept_fd = os.open(disk.root, os.O_RDONLY)
    os.fsync(kept_fd)
    os.close(kept_fd)
    lost.write_bytes(b"second")
    (disk.root / "new").write_bytes(b"third")
    disk.cut_power()
    with pytest.raises(OSError, match="Input/output error"):
        (disk.root / "late").write_bytes(b"fourth")
    disk.restore_power()
    assert kept.read_bytes() == b"first"
    assert lost.read_bytes() != b"second"
    assert not (disk.root / "new").exists()


def test_a_full_disk_takes_nothing_until_it_is_drained(make_disk: Callable[[], LossyDisk]) -> None:
    disk = make_disk()
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        (disk.root / "more").write_bytes(bytes(8192))
    disk.drain()
    (disk.root / "more").write_bytes(bytes(8192))
