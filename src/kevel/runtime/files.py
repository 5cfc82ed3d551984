"""What files need on any machine: names that last, and copies that keep their holes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

#: Bytes that are copied at a time.
COPY_BYTES: Final = 8 << 20
#: What is written ends, and no volume is made or grown, while less of the disk is free than this: the store and running
#: guests need room too.
FREE_BYTES_MIN: Final = 64 * 1024**2


def has_space(fd: int, wanted_bytes: int) -> bool:
    """Can so much be written to the file system of that file without taking what is kept back?"""
    space = os.fstatvfs(fd)
    return space.f_bavail * space.f_frsize >= FREE_BYTES_MIN + wanted_bytes


def sync_directory(path: Path) -> None:
    """Make a change of names in a directory last, past a loss of power too."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def copy_data(source: int, target: int) -> None:
    """Make the target, which is empty or all holes, as the source is: by descriptors, holes as holes."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        end = os.lseek(source, at, os.SEEK_HOLE)
        os.lseek(target, at, os.SEEK_SET)
        while at < end:
            copied = os.sendfile(target, source, at, min(end - at, COPY_BYTES))
            if copied == 0:
                raise OSError(errno.EIO, "what is copied became shorter meanwhile")
            at += copied
