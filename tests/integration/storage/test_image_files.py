"""Image bytes in files: what was written by somebody else, and deaths in between."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from kevel.storage.image_files import ImageFiles


def test_written_bytes_whose_name_may_not_be_on_the_disk_yet_are_made_to_last_before_they_are_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ImageFiles(tmp_path)
    files.open()
    Path(files.part_path("images/one")).write_bytes(b"bytes")
    synced: list[Path] = []

    def sync(folder: Path) -> None:
        synced.append(folder)
        if len(synced) == 1:
            raise OSError(errno.EIO, "the disk does not answer")

    monkeypatch.setattr("kevel.storage.image_files.sync_directory", sync)
    with pytest.raises(OSError, match="does not answer"):
        files.take_written("images/one")
    assert files.take_written("images/one").size_bytes == 5
    assert synced == [tmp_path / "images", tmp_path / "images"]
