"""Marks of directories: how two machines know that they see the same one.

A directory of the same name on another machine may be another one, or an empty mount point. So the control plane
leaves a file with a random word in it, and a host reaches the directory when it reads that word there.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from kevel.domain.errors import SetupError
from kevel.runtime.files import sync_directory

#: Hidden: pools list it neither as a volume nor as somebody's file.
MARK_FILE: Final = ".kevel-mark"
_MARK_BYTES_MAX: Final = 128


def mark_directory(directory: Path, new_mark: str) -> str:
    """The directory's mark; `new_mark` if it has none yet. Raises SetupError."""
    try:
        found = read_mark(directory)
        if found is not None:
            return found
        path = directory / MARK_FILE
        temporary = directory / f"{MARK_FILE}.new"
        with temporary.open("w") as file:
            file.write(new_mark)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_directory(directory)
    except OSError as error:
        raise SetupError(f"The directory {directory} cannot be marked: {error.strerror}.") from error
    return new_mark


def read_mark(directory: Path) -> str | None:
    """The directory's mark; None when there is none that this process may read."""
    try:
        fd = os.open(directory / MARK_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return os.read(fd, _MARK_BYTES_MAX).decode(errors="replace").strip() or None
    except OSError:
        return None
    finally:
        os.close(fd)
