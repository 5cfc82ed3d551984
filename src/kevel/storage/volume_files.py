"""Volumes as files of one directory. Synchronous: callers run it in threads.

Nothing here follows a path that somebody else may have made. Names come from volume ids, which are checked; files are
opened relative to the directory's descriptor, without following symbolic links, and have to be regular files of this
process's user with one name. The directory itself has to belong to that user and to be writable by nobody else.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from kevel.domain.errors import SetupError, StepNever, StepRetry
from kevel.domain.qcow2 import HEAD_BYTES_MAX, VIRTUAL_BYTES_MAX, Qcow2Error, parse_qcow2
from kevel.storage.base import Capacity, VolumeFile

log = structlog.get_logger(__name__)

#: qemu-img writes a few hundred KiB for a new file; a disk that needs longer than this does not answer.
QEMU_IMG_TIMEOUT_S: Final = 60.0
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PREFIX: Final = "volume-"
_PART_SUFFIX: Final = ".part"
#: O_NONBLOCK: opening a planted pipe must not wait for its other end.
_SAFELY: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def name_file(volume_id: str) -> str:
    """The file's name. Raises StepNever for what is not a lower-case uuid with dashes."""
    if _ID.fullmatch(volume_id) is None:
        raise StepNever(f"{volume_id[:64]!r} is not a volume id; no file is named after it.")
    return f"{_PREFIX}{volume_id}"


class VolumeFiles:
    """The directory of a pool's files."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def open(self) -> None:
        """Make the directory, and remove what a creation that died left under a temporary name.

        Raises SetupError when the directory cannot be used or is not this user's alone.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._open_root() as root:
                for name in _list_names(root):
                    if _is_part(name):
                        os.unlink(name, dir_fd=root)
        except OSError as error:
            raise SetupError(f"The volumes' directory {self.root} cannot be used: {_code(error)}.") from error
        except StepNever as error:
            raise SetupError(error.message) from error

    def create(self, volume: VolumeFile) -> None:
        """Make an empty file; nothing is left of it when that fails. Done already is success."""
        name = name_file(volume.volume_id)
        with _storage_errors(volume.volume_id), self._open_root() as root:
            if _exists(root, name):
                self._check_same(root, volume)
                return
            part = f".{name}{_PART_SUFFIX}"
            _unlink(root, part)
            try:
                self._write_part(root, part, volume)
                os.rename(part, name, src_dir_fd=root, dst_dir_fd=root)
                part = name
                os.fsync(root)
            except BaseException:
                _unlink(root, part)
                raise

    def grow(self, volume: VolumeFile) -> None:
        """Make the file at least that large. A raw file may be in use meanwhile, a qcow2 file may not."""
        with _storage_errors(volume.volume_id), self._open_root() as root, _open_file(root, volume, os.O_RDWR) as fd:
            if _size_of(fd, volume) >= volume.size_bytes:
                return
            if volume.format == "raw":
                os.ftruncate(fd, volume.size_bytes)
            else:
                _run_qemu_img("resize", fd, volume.size_bytes)
            os.fsync(fd)

    def remove(self, volume_id: str) -> None:
        """Remove the file, half-made ones too. Gone already is success."""
        name = name_file(volume_id)
        with _storage_errors(volume_id), self._open_root() as root:
            _unlink(root, f".{name}{_PART_SUFFIX}")
            _unlink(root, name)
            os.fsync(root)

    def list_ids(self) -> list[str]:
        """Ids of all files that are there whole."""
        with _storage_errors("list"), self._open_root() as root:
            names = (name.removeprefix(_PREFIX) for name in _list_names(root) if name.startswith(_PREFIX))
            return sorted(name for name in names if _ID.fullmatch(name))

    def capacity(self) -> Capacity:
        """What the file system under the directory has in all, and what this user may still take of it."""
        with _storage_errors("capacity"), self._open_root() as root:
            space = os.fstatvfs(root)
        return Capacity(
            total_bytes=space.f_blocks * space.f_frsize,
            free_bytes=space.f_bavail * space.f_frsize,
        )

    def prove(self, volume: VolumeFile) -> int:
        """The size in bytes of the volume's file, which is there, safe, of that format and large enough (S8).

        Larger than the record says is right too: an extend changes the file before the record. Raises StepNever.
        """
        with _storage_errors(volume.volume_id), self._open_root() as root, _open_file(root, volume, os.O_RDONLY) as fd:
            size_bytes = _size_of(fd, volume)
        if size_bytes < volume.size_bytes:
            raise StepNever(
                f"The file of volume {volume.volume_id} has {size_bytes} bytes where its record says "
                f"{volume.size_bytes}: it is not the right one, or it was cut off."
            )
        return size_bytes

    @contextmanager
    def _open_root(self) -> Iterator[int]:
        root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(root)
            if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise StepNever(
                    f"The volumes' directory {self.root} has to belong to the user that Kevel runs as, and to be "
                    "writable by nobody else."
                )
            yield root
        finally:
            os.close(root)

    def _check_same(self, root: int, volume: VolumeFile) -> None:
        with _open_file(root, volume, os.O_RDONLY) as fd:
            size_bytes = _size_of(fd, volume)
            os.fsync(fd)
        os.fsync(root)
        if size_bytes != volume.size_bytes:
            raise StepNever(f"There is a file of volume {volume.volume_id} already, of {size_bytes} bytes.")

    def _write_part(self, root: int, part: str, volume: VolumeFile) -> None:
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600, dir_fd=root)
        try:
            if volume.format == "raw":
                os.ftruncate(fd, volume.size_bytes)
            else:
                _run_qemu_img("create", fd, volume.size_bytes)
            os.fsync(fd)
        finally:
            os.close(fd)


def _list_names(root: int) -> list[str]:
    with os.scandir(root) as entries:
        return [entry.name for entry in entries]


def _is_part(name: str) -> bool:
    inner = name.removeprefix(f".{_PREFIX}").removesuffix(_PART_SUFFIX)
    return name == f".{_PREFIX}{inner}{_PART_SUFFIX}" and _ID.fullmatch(inner) is not None


def _exists(root: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _unlink(root: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=root)


@contextmanager
def _open_file(root: int, volume: VolumeFile, mode: int) -> Iterator[int]:
    """The volume's file. Raises StepNever unless it is a regular file of ours with one name."""
    foreign = f"What is in the place of volume {volume.volume_id} is not a file that Kevel made."
    try:
        fd = os.open(name_file(volume.volume_id), mode | _SAFELY, dir_fd=root)
    except FileNotFoundError as error:
        raise StepNever(f"The file of volume {volume.volume_id} is not there.") from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise StepNever(foreign) from error
        raise
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
            raise StepNever(foreign)
        yield fd
    finally:
        os.close(fd)


def _size_of(fd: int, volume: VolumeFile) -> int:
    """The size that a guest sees. The format is what the record says; the bytes decide nothing (S15)."""
    file_bytes = os.fstat(fd).st_size
    if volume.format == "raw":
        return file_bytes
    try:
        return parse_qcow2(os.pread(fd, HEAD_BYTES_MAX, 0), file_bytes).virtual_bytes
    except Qcow2Error as error:
        raise StepNever(f"The file of volume {volume.volume_id} cannot be used. {error.message}") from error


def _run_qemu_img(command: str, fd: int, size_bytes: int) -> None:
    """`qemu-img create` or `resize` on the open file: by its descriptor, so that no name is looked up again."""
    if size_bytes > VIRTUAL_BYTES_MAX:
        raise StepNever(f"A qcow2 volume can have {VIRTUAL_BYTES_MAX} bytes at most.")
    try:
        done = subprocess.run(
            ["qemu-img", command, "-q", "-f", "qcow2", f"/proc/self/fd/{fd}", str(size_bytes)],
            pass_fds=(fd,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=QEMU_IMG_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise StepNever("qemu-img is not installed; qcow2 volumes need it.") from error
    except subprocess.TimeoutExpired as error:
        raise StepRetry(f"qemu-img has not ended within {QEMU_IMG_TIMEOUT_S:.0f} seconds.") from error
    if done.returncode == 0:
        return
    log.warning(
        "qemu-img failed", command=command, size_bytes=size_bytes, stderr=done.stderr[-2000:].decode(errors="replace")
    )
    space = os.fstatvfs(fd)
    if space.f_bavail * space.f_frsize < HEAD_BYTES_MAX:
        raise OSError(errno.ENOSPC, "qemu-img found no space")
    raise StepRetry(f"qemu-img {command} did not succeed; Kevel's log has its words.")


@contextmanager
def _storage_errors(what: str) -> Iterator[None]:
    """Turn the operating system's refusals into the outcomes of a step. Its texts go to the log only."""
    try:
        yield
    except OverflowError as error:  # more than the system's calls can say
        raise StepNever("The storage pool's file system cannot hold a file of that size.") from error
    except OSError as error:
        log.warning("volume file", what=what, error=str(error))
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StepNever("There is no space left in the storage pool.") from error
        if error.errno == errno.EFBIG:
            raise StepNever("The storage pool's file system cannot hold a file of that size.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR):
            raise StepNever(f"The storage pool's file system does not permit it ({_code(error)}).") from error
        raise StepRetry(f"The storage pool's file system does not answer as it should ({_code(error)}).") from error


def _code(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown error")
