"""Image bytes as files of the data directory. Synchronous: callers run it in threads."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from kevel.domain.errors import NotFound, OverLimit
from kevel.domain.qcow2 import HEAD_BYTES_MAX
from kevel.runtime.files import has_space, sync_directory

_FOLDER: Final = "images"
#: Bytes that are hashed at a time.
_HASH_BYTES: Final = 1024**2


class WrittenBytes(msgspec.Struct, frozen=True, kw_only=True):
    """What was written: counted and hashed on the way."""

    size_bytes: int
    md5: str
    sha512: str
    #: The first HEAD_BYTES_MAX, for whoever checks the header.
    head: bytes


class ImageWriter:
    """One image's bytes on their way to the disk, in a file that only `seal` gives its name.

    Calls may come from different threads, and late ones too: an abandoned writer refuses them.
    """

    def __init__(self, target: Path, size_bytes_max: int) -> None:
        self._target = target
        self._part = _part(target)
        self._size_bytes_max = size_bytes_max
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._abandoned = False
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha512 = hashlib.sha512()
        self._head = bytearray()
        self._size_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Append; raises OverLimit when the image is too large or the disk too full."""
        with self._lock:
            if self._size_bytes + len(chunk) > self._size_bytes_max:
                raise OverLimit(f"The image is too large; the most is {self._size_bytes_max} bytes.")
            try:
                file = self._open()
                if not has_space(file.fileno(), len(chunk)):
                    raise OverLimit("There is not enough disk space for the image.")
                view = memoryview(chunk)
                while view:
                    view = view[os.write(file.fileno(), view) :]
            except OSError as error:
                raise _too_full(error) from error
            self._size_bytes += len(chunk)
            self._md5.update(chunk)
            self._sha512.update(chunk)
            self._head += chunk[: max(0, HEAD_BYTES_MAX - len(self._head))]

    def written(self) -> WrittenBytes:
        """What has been written up to now."""
        with self._lock:
            return WrittenBytes(
                size_bytes=self._size_bytes,
                md5=self._md5.hexdigest(),
                sha512=self._sha512.hexdigest(),
                head=bytes(self._head),
            )

    def seal(self) -> None:
        """Make the file durable under its name."""
        with self._lock:
            try:
                os.fsync(self._open().fileno())
                self._part.rename(self._target)
                sync_directory(self._target.parent)
            except OSError as error:
                raise _too_full(error) from error
            self._close()

    def abandon(self) -> None:
        """Stop, and leave nothing under either name."""
        with self._lock:
            self._abandoned = True
            self._close()
            self._part.unlink(missing_ok=True)
            self._target.unlink(missing_ok=True)

    def _open(self) -> BinaryIO:
        if self._abandoned:
            raise NotFound("The upload has ended.")
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self._file = os.fdopen(os.open(self._part, flags, 0o600), "wb", buffering=0)
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class ImageFiles:
    """The folder of image files in a data directory. Names are relative to that directory, as records keep them."""

    def __init__(self, data_directory: Path) -> None:
        self._data = data_directory
        self._folder = data_directory / _FOLDER

    def open(self) -> None:
        """Make the folder."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def name_file(self, fresh_id: str) -> str:
        """The name of a file that does not exist yet."""
        return f"{_FOLDER}/{fresh_id}"

    def create_file(self, name: str, size_bytes_max: int) -> ImageWriter:
        """A writer for the file of that name; the first write makes the file."""
        return ImageWriter(self._path(name), size_bytes_max)

    def file_path(self, name: str) -> str:
        """Where the file of that name is."""
        return str(self._path(name).absolute())

    def part_path(self, name: str) -> str:
        """Where somebody else may write what `take_written` then gives that name."""
        return str(_part(self._path(name)).absolute())

    def make_part(self, name: str) -> str:
        """An empty file at `part_path`, for somebody else to write into; what is there already is left as it is."""
        part = _part(self._path(name))
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        sync_directory(part.parent)
        return str(part.absolute())

    def take_written(self, name: str) -> WrittenBytes:
        """Give what was written at `part_path` its name, durably, and hash it. With the name given already, only that.

        Raises NotFound when nothing is there.
        """
        target = self._path(name)
        with suppress(FileNotFoundError):
            _part(target).rename(target)
        sync_directory(target.parent)  # whoever renamed it may have died before its name was on the disk
        md5, sha512, head, size = hashlib.md5(usedforsecurity=False), hashlib.sha512(), b"", 0
        try:
            with target.open("rb", buffering=0) as file:
                while block := file.read(_HASH_BYTES):
                    md5.update(block)
                    sha512.update(block)
                    head = head or block[:HEAD_BYTES_MAX]
                    size += len(block)
        except FileNotFoundError as error:
            raise NotFound("The image's bytes are not there any more.") from error
        return WrittenBytes(size_bytes=size, md5=md5.hexdigest(), sha512=sha512.hexdigest(), head=head)

    def open_file(self, name: str) -> int:
        """A descriptor to read the file by; it stays good when the file is removed. Raises NotFound."""
        try:
            return os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise NotFound("The image's bytes are not there any more.") from error

    def open_source(self, source: Path) -> int:
        """A descriptor to read somebody else's file by."""
        return os.open(source, os.O_RDONLY)

    def read_block(self, descriptor: int, at: int, size: int) -> bytes:
        """Up to `size` bytes from that place; none at the end. Leaves no trace in the descriptor."""
        return os.pread(descriptor, size, at)

    def close_file(self, descriptor: int) -> None:
        """Give the descriptor back."""
        os.close(descriptor)

    def remove_file(self, name: str) -> None:
        """Remove the file, whole or partly written; nothing to do when it is gone."""
        target = self._path(name)
        target.unlink(missing_ok=True)
        _part(target).unlink(missing_ok=True)
        sync_directory(self._folder)

    def list_files(self) -> set[str]:
        """Names of all files that are there, partly written ones under their later name."""
        names = (entry.name for entry in os.scandir(self._folder))
        return {f"{_FOLDER}/{name.removesuffix('.part')}" for name in names if not name.startswith(".")}

    def _path(self, name: str) -> Path:
        folder, _, rest = name.partition("/")
        if folder != _FOLDER or not rest or "/" in rest or rest.startswith("."):
            raise AssertionError(f"{name!r} is not the name of an image file")
        return self._folder / rest


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _too_full(error: OSError) -> Exception:
    """A full disk or a file that may not grow is the caller's to know; anything else is a fault of this machine."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OverLimit("There is not enough disk space for the image.")
    return error
