"""Copying the bytes of one open file into another, and converting them. Synchronous: callers run it in threads.

Between files of one format it is the file system that copies, if it can: as a clone that shares the blocks, else range
by range, holes left out. Between formats it is `qemu-img`, which is told both formats and probes nothing (S15).
"""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import tempfile
from typing import Final

import structlog

from kevel.domain.errors import StepNever, StepRetry
from kevel.runtime.files import has_space
from kevel.storage.base import CopyWatch

log = structlog.get_logger(__name__)

#: Bytes that are copied between two looks at the watch.
CHUNK_BYTES: Final = 16 * 1024**2
#: How often a conversion's progress is read.
CONVERT_LOOK_S: Final = 0.2
#: ioctl of Linux: share all blocks of another file.
_FICLONE: Final = 0x40049409
_NO_CLONE: Final = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.ENOSYS)
_NO_RANGE: Final = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def copy_file(source: int, target: int, length: int, watch: CopyWatch) -> None:
    """Make the empty target the source's first `length` bytes. Raises StepRetry when the watch ends it."""
    watch.total_bytes = length
    watch.check()
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
        _copy_ranges(source, target, length, watch)
    os.ftruncate(target, length)
    watch.done_bytes = length


def _copy_ranges(source: int, target: int, length: int, watch: CopyWatch) -> None:
    at = 0
    while at < length:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                return
            raise
        end = min(os.lseek(source, at, os.SEEK_HOLE), length)
        while at < end:
            watch.check()
            _check_space(target)
            copied = _copy_range(source, target, at, min(CHUNK_BYTES, end - at))
            if copied == 0:
                raise StepNever("What is copied became shorter meanwhile.")
            at += copied
            watch.done_bytes = at


def _copy_range(source: int, target: int, at: int, length: int) -> int:
    try:
        return os.copy_file_range(source, target, length, at, at)
    except OSError as error:
        if error.errno not in _NO_RANGE:
            raise
    return os.pwrite(target, os.pread(source, length, at), at)


def _check_space(target: int) -> None:
    if not has_space(target, CHUNK_BYTES):
        raise OSError(errno.ENOSPC, "what is left is kept back")


def convert_file(source: int, source_format: str, target: int, target_format: str, watch: CopyWatch) -> None:
    """Write the disk in `source` into `target` in another format. Raises StepRetry when the watch ends it.

    By descriptors, so that no name is looked up again. The caller has seen that the source needs no other file.
    """
    watch.total_bytes = os.fstat(source).st_size
    watch.check()
    command = ["qemu-img", "convert", "-p", "-f", source_format, "-O", target_format]
    command += [f"/proc/self/fd/{source}", f"/proc/self/fd/{target}"]
    with tempfile.TemporaryFile() as words:
        try:
            process = subprocess.Popen(
                command, pass_fds=(source, target), stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT
            )
        except FileNotFoundError as error:
            raise StepNever("qemu-img is not installed; it is needed to change a disk's format.") from error
        try:
            while True:
                try:
                    process.wait(CONVERT_LOOK_S)
                    break
                except subprocess.TimeoutExpired:
                    watch.check()
                    _check_space(target)
                    watch.done_bytes = int(watch.total_bytes * _read_share(words.fileno()))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode != 0:
            said = os.pread(words.fileno(), 2000, 0).decode(errors="replace")
            log.warning("qemu-img failed", command="convert", said=said)
            _check_space(target)
            raise StepRetry("qemu-img convert did not succeed; Kevel's log has its words.")
    watch.done_bytes = watch.total_bytes


def _read_share(words: int) -> float:
    """How much is done, by the last of the words `(12.34/100%)`."""
    size = os.fstat(words).st_size
    last = os.pread(words, 32, max(0, size - 32)).decode(errors="replace").rpartition("(")[2]
    try:
        return float(last.partition("/")[0]) / 100
    except ValueError:
        return 0.0
