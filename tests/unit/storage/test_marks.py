"""Marks by which two machines know that they see the same directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kevel.domain.errors import SetupError
from kevel.storage.marks import MARK_FILE, mark_directory, read_mark


def test_a_directory_keeps_its_first_mark(tmp_path: Path) -> None:
    assert read_mark(tmp_path) is None
    assert mark_directory(tmp_path, "one") == "one"
    assert mark_directory(tmp_path, "two") == "one"
    assert read_mark(tmp_path) == "one"


def test_what_is_no_file_is_no_mark(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("planted")
    mark = tmp_path / MARK_FILE
    mark.symlink_to(tmp_path / "elsewhere")
    assert read_mark(tmp_path) is None
    mark.unlink()
    os.mkfifo(mark)
    assert read_mark(tmp_path) is None
    mark.unlink()
    mark.mkdir()
    assert read_mark(tmp_path) is None


def test_a_directory_that_is_not_there_cannot_be_marked(tmp_path: Path) -> None:
    assert read_mark(tmp_path / "none") is None
    with pytest.raises(SetupError, match="cannot be marked"):
        mark_directory(tmp_path / "none", "one")
