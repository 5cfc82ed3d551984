"""Space kept back, so that a detach can still be recorded on a full disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

BALLAST_BYTES: Final = 8 * 1024 * 1024


class Ballast:
    """A file of real blocks that is given up when the disk is full, and made again when there is room."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self) -> bool:
        """Make sure that the space is held; False when the disk has no room for it."""
        try:
            with self._path.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
        except OSError:
            # A failed attempt may keep what it got, which is all that is left.
            with contextlib.suppress(OSError):
                os.truncate(self._path, 0)
            return False
        return True

    def is_held(self) -> bool:
        """Is the space kept back now? While it is not, Kevel takes no requests that need more of it."""
        try:
            return self._path.stat().st_size >= BALLAST_BYTES
        except OSError:
            return False

    def give_up(self) -> bool:
        """Free the space; False when it had been freed before."""
        held = self.is_held()
        if held:
            os.truncate(self._path, 0)
        return held
