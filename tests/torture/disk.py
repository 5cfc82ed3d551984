"""A disk whose power can be cut, and which can be full: an ext4 of its own in a file.

Cutting the power is the file system's own "shut down now, flush nothing" (as in xfstests): what has not been synced is
lost, and the next mount replays the journal. Mounted so that no heuristic of ext4 makes up for a missing fsync.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

#: EXT4_IOC_SHUTDOWN, and its flag for "do not even flush the journal".
SHUTDOWN: Final = 0x8004587D
NO_FLUSH: Final = 2
#: `noauto_da_alloc`: a file that was renamed over another without fsync may be empty after the cut. `commit`: the
#: journal writes nothing by its own clock for a while.
OPTIONS: Final = "loop,noauto_da_alloc,commit=60,nodiscard"
FILL_CHUNK_BYTES: Final = 1 << 20
UNMOUNT_S: Final = 20.0


class PlainDisk:
    """A directory of the machine's own disk."""

    can_fail = False

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="kv-"))

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.root, ignore_errors=True)


class LossyDisk:
    """A small disk. Nobody may have a file open on it when it is cut or closed."""

    can_fail = True

    def __init__(self, size_mib: int) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="kv-"))
        self._image = self.root.with_suffix(".img")
        try:
            with self._image.open("wb") as file:
                file.truncate(size_mib << 20)
            # All inode tables at once: a thread of the kernel that makes them later would keep the disk busy.
            run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self._image))
            self._mount()
        except BaseException:
            self._image.unlink(missing_ok=True)
            self.root.rmdir()
            raise

    def _mount(self) -> None:
        run("mount", "-o", OPTIONS, str(self._image), str(self.root))

    def cut_power(self) -> None:
        """From now on nothing reaches the disk, and what was not synced is lost."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_FLUSH))
        finally:
            os.close(fd)

    def restore_power(self) -> None:
        """Mount it again, which replays its journal. Every process that used it must have been killed.

        A killed process holds its files a moment longer.
        """
        deadline = time.monotonic() + UNMOUNT_S
        while True:
            try:
                run("umount", str(self.root))
            except subprocess.CalledProcessError as refused:
                if "busy" not in refused.stderr or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                break
        self._mount()

    def fill(self) -> None:
        """Leave no block free."""
        with (self.root / "filling").open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, FILL_CHUNK_BYTES)
        with (self.root / "filling").open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
                os.fsync(file.fileno())

    def drain(self) -> None:
        """Give back what `fill` took."""
        (self.root / "filling").unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount and remove it."""
        run("umount", "--lazy", str(self.root))
        self.root.rmdir()
        self._image.unlink()


def run(*command: str) -> None:
    """Run a command. Raises CalledProcessError, with what it said."""
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)


def can_make_lossy_disks() -> bool:
    """Whether this user may mount file systems on this machine."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        return False
    try:
        LossyDisk(8).close()
    except (OSError, subprocess.SubprocessError):
        return False
    return True
