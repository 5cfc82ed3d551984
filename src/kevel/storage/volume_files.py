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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from kevel.domain.errors import SetupError, StepNever, StepRetry
from kevel.domain.qcow2 import HEAD_BYTES_MAX, VIRTUAL_BYTES_MAX, Qcow2Error, parse_qcow2
from kevel.storage.base import (
    Capacity,
    CopyWatch,
    ImageFile,
    LocalFile,
    PoolFile,
    SnapshotFile,
    Source,
    VolumeFile,
)
from kevel.storage.file_copies import convert_file, copy_file
from kevel.storage.luks import format_luks, read_payload_offset

log = structlog.get_logger(__name__)

#: qemu-img writes a few hundred KiB for a new file; a disk that needs longer than this does not answer.
QEMU_IMG_TIMEOUT_S: Final = 60.0
#: What a file system's names can have.
_NAME_BYTES_MAX: Final = 255
_UUID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID: Final = re.compile(_UUID)
_VOLUME: Final = "volume-"
_SNAPSHOT: Final = "snapshot-"
#: A file that is being made, one that this process lets somebody write, and one whose writer may outlive it.
_PART: Final = ".part"
NEW: Final = ".new"
_TARGET: Final = ".target"
_HALF_MADE: Final = re.compile(rf"\.({_VOLUME}|{_SNAPSHOT}){_UUID}({re.escape(_PART)}|{re.escape(NEW)})")
#: O_NONBLOCK: opening a planted pipe must not wait for its other end.
_SAFELY: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def name_file(volume_id: str) -> str:
    """A volume's file's name. Raises StepNever for what is not a lower-case uuid with dashes."""
    if _ID.fullmatch(volume_id) is None:
        raise StepNever(f"{volume_id[:64]!r} is not a volume id; no file is named after it.")
    return f"{_VOLUME}{volume_id}"


def name_snapshot(snapshot_id: str) -> str:
    """A snapshot's file's name. Raises StepNever for what is not a lower-case uuid with dashes."""
    if _ID.fullmatch(snapshot_id) is None:
        raise StepNever(f"{snapshot_id[:64]!r} is not a snapshot id; no file is named after it.")
    return f"{_SNAPSHOT}{snapshot_id}"


def _name(file: PoolFile) -> str:
    return name_file(file.volume_id) if isinstance(file, VolumeFile) else name_snapshot(file.snapshot_id)


def _title(file: Source) -> str:
    if isinstance(file, VolumeFile):
        return f"volume {file.volume_id}"
    if isinstance(file, SnapshotFile):
        return f"snapshot {file.snapshot_id}"
    return "the image" if isinstance(file, ImageFile) else "what is copied"


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
                    if _HALF_MADE.fullmatch(name):
                        os.unlink(name, dir_fd=root)
        except OSError as error:
            raise SetupError(f"The volumes' directory {self.root} cannot be used: {_code(error)}.") from error
        except StepNever as error:
            raise SetupError(error.message) from error

    def create(self, volume: VolumeFile) -> None:
        """Make an empty file; nothing is left of it when that fails. Done already is success."""
        with _storage_errors(_title(volume)), self._open_root() as root:
            if not self._is_there(root, volume):
                self._make(root, volume, lambda fd: _make_empty(fd, volume))

    def create_from(self, file: PoolFile, source: Source, watch: CopyWatch) -> None:
        """Make a file with the source's contents; nothing is left of it when that fails. Done already is success."""
        with _storage_errors(_title(file)), self._open_root() as root:
            if not self._is_there(root, file):
                self._make(root, file, lambda fd: self._fill(root, fd, file, source, watch))
            _unlink(root, f".{_name(file)}{_TARGET}")  # of a copy that somebody else began and nobody needs now

    def rewrite(self, volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        """Replace the file by one with the source's contents; the old one stays when that fails."""
        with _storage_errors(_title(volume)), self._open_root() as root:
            self._make(root, volume, lambda fd: self._fill(root, fd, volume, source, watch), replace=True)

    def write_image(self, image: ImageFile, source: PoolFile, watch: CopyWatch) -> None:
        """Write the contents into a new file outside the directory; nothing is left of it when that fails."""
        with _storage_errors("image"), self._open_root() as root:
            Path(image.path).unlink(missing_ok=True)
            fd = os.open(image.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600)
            try:
                self._fill(root, fd, image, source, watch)
                os.fsync(fd)
            except BaseException:
                Path(image.path).unlink(missing_ok=True)
                raise
            finally:
                os.close(fd)

    def find(self, file: PoolFile, *, sealed: bool = False) -> LocalFile:
        """The file, which is there and safe, to be read. Raises StepNever; an encrypted one is for its guest alone.

        `sealed`: unless it is only copied as it is.
        """
        if not sealed:
            _refuse_encrypted(file)
        size_bytes = self.prove(file)
        return LocalFile(path=str(self.root / _name(file)), format=file.format, size_bytes=size_bytes)

    def make_target(self, file: PoolFile, suffix: str = _TARGET) -> LocalFile:
        """An empty raw file under a temporary name, for somebody else to write. Raises StepNever for a luks file."""
        _refuse_encrypted(file)
        with _storage_errors(_title(file)), self._open_root() as root:
            target = f".{_name(file)}{suffix}"
            _unlink(root, target)
            fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600, dir_fd=root)
            try:
                os.ftruncate(fd, file.size_bytes)
            finally:
                os.close(fd)
        return LocalFile(path=str(self.root / target), format="raw", size_bytes=file.size_bytes)

    def seal_target(self, file: PoolFile, watch: CopyWatch, suffix: str = _TARGET) -> None:
        """Give the written file its name. With no such file, the named one has to be there."""
        target = f".{_name(file)}{suffix}"
        with _storage_errors(_title(file)), self._open_root() as root:
            try:
                fd = os.open(target, os.O_RDWR | _SAFELY, dir_fd=root)
            except FileNotFoundError:
                if not self._is_there(root, file):
                    raise StepNever(f"What was to become {_title(file)} is not there.") from None
                return
            try:
                _check_ours(fd, _foreign(_title(file)))
                if os.fstat(fd).st_size < file.size_bytes:
                    raise StepNever(f"What was to become {_title(file)} is cut off.")
                if file.format != "raw":
                    self._make(root, file, lambda made: convert_file(fd, "raw", made, file.format, watch), replace=True)
                    _unlink(root, target)
                else:
                    os.ftruncate(fd, file.size_bytes)  # what grew meanwhile may be larger
                    os.fsync(fd)
                    os.rename(target, _name(file), src_dir_fd=root, dst_dir_fd=root)
                os.fsync(root)
            finally:
                os.close(fd)

    def drop_target(self, file: PoolFile, suffix: str) -> None:
        """Remove a file that is not to get its name."""
        with _storage_errors(_title(file)), self._open_root() as root:
            _unlink(root, f".{_name(file)}{suffix}")

    def grow(self, volume: VolumeFile) -> None:
        """Make the file at least that large. A raw or luks file may be in use meanwhile, a qcow2 file may not."""
        with _storage_errors(_title(volume)), self._open_root() as root, _open_file(root, volume, os.O_RDWR) as fd:
            if _size_of(fd, volume) >= volume.size_bytes:
                return
            _enlarge(fd, volume)
            os.fsync(fd)

    def remove(self, file: PoolFile) -> None:
        """Remove the file, half-made ones too. Gone already is success."""
        name = _name(file)
        with _storage_errors(_title(file)), self._open_root() as root:
            for suffix in (_PART, _TARGET, NEW):
                _unlink(root, f".{name}{suffix}")
            _unlink(root, name)
            os.fsync(root)

    def list_files(self) -> list[str]:
        """Names of all files that somebody may name, in order."""
        with _storage_errors("list"), self._open_root() as root:
            return sorted(name for name in _list_names(root) if is_file_name(name))

    def measure_foreign(self, name: str, disk_format: str) -> int:
        """The size that a guest would see of a file of that name and format. Raises StepNever for an unsafe one."""
        with _storage_errors(name), self._open_root() as root, _open_named(root, name, os.O_RDONLY) as fd:
            return measure_disk(fd, disk_format, f"file {name}")

    def take(self, file: PoolFile, name: str) -> None:
        """Give the file of that name the volume's or snapshot's, and grow it. Done already is success."""
        with _storage_errors(_title(file)), self._open_root() as root:
            if not _exists(root, _name(file)):
                with _open_named(root, name, os.O_RDWR) as fd:
                    if measure_disk(fd, file.format, f"file {name}") > file.size_bytes:
                        raise StepNever(f"The file {name} is larger than {_title(file)} would be.")
                    os.fchmod(fd, 0o600)
                    os.rename(name, _name(file), src_dir_fd=root, dst_dir_fd=root)
            os.fsync(root)  # also for whoever renamed it and died before its name was on the disk
            with _open_file(root, file, os.O_RDWR) as fd:
                if _size_of(fd, file) < file.size_bytes:
                    _enlarge(fd, file)
                os.fsync(fd)

    def list_volumes(self) -> list[str]:
        """Ids of all volumes that are there whole."""
        return self._list_ids(_VOLUME)

    def list_snapshots(self) -> list[str]:
        """Ids of all snapshots that are there whole."""
        return self._list_ids(_SNAPSHOT)

    def _list_ids(self, prefix: str) -> list[str]:
        with _storage_errors("list"), self._open_root() as root:
            names = (name.removeprefix(prefix) for name in _list_names(root) if name.startswith(prefix))
            return sorted(name for name in names if _ID.fullmatch(name))

    def capacity(self) -> Capacity:
        """What the file system under the directory has in all, and what this user may still take of it."""
        with _storage_errors("capacity"), self._open_root() as root:
            space = os.fstatvfs(root)
        return Capacity(
            total_bytes=space.f_blocks * space.f_frsize,
            free_bytes=space.f_bavail * space.f_frsize,
        )

    def prove(self, volume: PoolFile) -> int:
        """The size in bytes of the file, which is there, safe, of that format and large enough (S8).

        Larger than the record says is right too: an extend changes the file before the record. Raises StepNever.
        """
        with _storage_errors(_title(volume)), self._open_root() as root, _open_file(root, volume, os.O_RDONLY) as fd:
            size_bytes = _size_of(fd, volume)
        if size_bytes < volume.size_bytes:
            raise StepNever(
                f"The file of {_title(volume)} has {size_bytes} bytes where its record says "
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

    def _is_there(self, root: int, file: PoolFile) -> bool:
        """Is the file there, with the size that it should have? Raises StepNever when it has another one."""
        if not _exists(root, _name(file)):
            return False
        with _open_file(root, file, os.O_RDONLY) as fd:
            size_bytes = _size_of(fd, file)
            os.fsync(fd)
        os.fsync(root)
        if size_bytes != file.size_bytes:
            raise StepNever(f"There is a file of {_title(file)} already, of {size_bytes} bytes.")
        return True

    def _make(self, root: int, file: PoolFile, write: Callable[[int], None], *, replace: bool = False) -> None:
        """Have the file written under a temporary name, and give it its own when it is whole and durable."""
        name = _name(file)
        part = f".{name}{_PART}"
        _unlink(root, part)
        try:
            fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600, dir_fd=root)
            try:
                write(fd)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(part, name, src_dir_fd=root, dst_dir_fd=root)
            if not replace:
                part = name
            os.fsync(root)
        except BaseException:
            _unlink(root, part)
            raise

    def _fill(self, root: int, fd: int, file: PoolFile | ImageFile, source: Source, watch: CopyWatch) -> None:
        """Write the source's contents into the open, empty file, and make it as large as it has to be."""
        with _open_source(root, source) as origin:
            size_bytes = _size_of(origin, source)
            if isinstance(source, VolumeFile):
                size_bytes = min(size_bytes, source.size_bytes)  # one that grows meanwhile
            if size_bytes > file.size_bytes:
                raise StepNever(f"{_title(source).capitalize()} is larger than {_title(file)} would be.")
            if "luks" in (file.format, source.format) and file.format != source.format:
                raise StepNever(f"{_title(file).capitalize()} is not encrypted as {_title(source)} is.")
            if file.format == source.format:
                length = size_bytes if file.format == "raw" else os.fstat(origin).st_size
                copy_file(origin, fd, length, watch)
            else:
                convert_file(origin, source.format, fd, file.format, watch)
        if file.format == "raw" or size_bytes < file.size_bytes:
            _enlarge(fd, file)


def _list_names(root: int) -> list[str]:
    with os.scandir(root) as entries:
        return [entry.name for entry in entries]


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
def _open_file(root: int, file: PoolFile, mode: int) -> Iterator[int]:
    """The file. Raises StepNever unless it is a regular file of ours with one name."""
    title = _title(file)
    with _open_safely(
        root, _name(file), mode, absent=f"The file of {title} is not there.", unfit=_foreign(title)
    ) as fd:
        yield fd


@contextmanager
def _open_safely(root: int, name: str, mode: int, *, absent: str, unfit: str) -> Iterator[int]:
    """A regular file of this process's user with one name. Raises StepNever with one of the two sentences."""
    try:
        fd = os.open(name, mode | _SAFELY, dir_fd=root)
    except FileNotFoundError as error:
        raise StepNever(absent) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise StepNever(unfit) from error
        raise
    try:
        _check_ours(fd, unfit)
        yield fd
    finally:
        os.close(fd)


def is_file_name(name: str) -> bool:
    """Can it be the name of a file of the directory that is neither hidden nor half-made?"""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return False
    return 0 < length <= _NAME_BYTES_MAX and not name.startswith(".") and "/" not in name and "\0" not in name


@contextmanager
def _open_named(root: int, name: str, mode: int) -> Iterator[int]:
    """A file that somebody has named. Raises StepNever unless it is a regular file of ours with one name."""
    if not is_file_name(name):
        raise StepNever("What was named is no file's name: it has no slash, and begins with no dot.")
    unfit = f"{name} is not a regular file with one name that belongs to the user that Kevel runs as."
    with _open_safely(root, name, mode, absent=f"There is no file {name} in the pool.", unfit=unfit) as fd:
        yield fd


@contextmanager
def _open_source(root: int, source: Source) -> Iterator[int]:
    """What a copy is made of."""
    if isinstance(source, VolumeFile | SnapshotFile):
        with _open_file(root, source, os.O_RDONLY) as fd:
            yield fd
        return
    try:
        fd = os.open(source.path, os.O_RDONLY | _SAFELY)
    except FileNotFoundError as error:
        raise StepNever(f"The bytes of {_title(source)} are not there any more.") from error
    try:
        yield fd
    finally:
        os.close(fd)


def _check_ours(fd: int, unfit: str) -> None:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
        raise StepNever(unfit)


def _foreign(title: str) -> str:
    return f"What is in the place of {title} is not a file that Kevel made."


def _refuse_encrypted(file: PoolFile) -> None:
    if file.format == "luks":
        raise StepNever(f"{_title(file).capitalize()} is encrypted; its contents are for its guest alone.")


def _enlarge(fd: int, file: PoolFile | ImageFile) -> None:
    if file.format == "raw":
        os.ftruncate(fd, file.size_bytes)
    elif file.format == "luks":
        os.ftruncate(fd, read_payload_offset(fd) + file.size_bytes)
    else:
        _run_qemu_img("resize", fd, file.size_bytes)


def _make_empty(fd: int, volume: VolumeFile) -> None:
    if volume.format == "raw":
        os.ftruncate(fd, volume.size_bytes)
    elif volume.format == "luks":
        if volume.key is None:
            raise StepNever(f"Volume {volume.volume_id} is to be encrypted, and there is no key for it.")
        format_luks(fd, volume.size_bytes, volume.key.passphrase, volume.key.bits, name=volume.volume_id)
    else:
        _run_qemu_img("create", fd, volume.size_bytes)


def _size_of(fd: int, volume: Source) -> int:
    """The size that a guest sees of one of ours."""
    return measure_disk(fd, volume.format, _title(volume))


def measure_disk(fd: int, disk_format: str, title: str) -> int:
    """The size that a guest sees. The format is what the record says; the bytes decide nothing (S15)."""
    file_bytes = os.fstat(fd).st_size
    if disk_format == "raw":
        return file_bytes
    if disk_format == "luks":
        return max(0, file_bytes - read_payload_offset(fd))
    try:
        return parse_qcow2(os.pread(fd, HEAD_BYTES_MAX, 0), file_bytes).virtual_bytes
    except Qcow2Error as error:
        raise StepNever(f"The file of {title} cannot be used. {error.message}") from error


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
