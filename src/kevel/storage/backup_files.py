"""Backups as directories of one directory. Synchronous: callers run it in threads.

A backup has two files. `data` holds those chunks of the volume that are new in it, one behind the other; chunks of
zeros are held nowhere. `manifest` says of every other chunk where it lies: in this backup's data or in that of one it
builds on, and what its SHA-256 is. So a backup is restored from its own manifest, whatever the length of its chain,
and each chunk is checked before it is believed. The manifest's own SHA-256 is on record, outside the directory.

A backup appears whole or not at all: it is written under a temporary name, synced, and renamed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec
import structlog

from kevel.domain.errors import SetupError, StepNever, StepRetry
from kevel.domain.model import BACKUP_CHAIN_MAX
from kevel.runtime.files import has_space, sync_directory
from kevel.storage.base import CopyWatch, LocalFile
from kevel.storage.file_copies import convert_file

log = structlog.get_logger(__name__)

#: What is compared, stored and checked at once.
CHUNK_BYTES: Final = 1024**2
_HEAD_BYTES_MAX: Final = 64 * 1024
_MAGIC: Final = b"kevel-backup-1\n\0"
_LENGTH: Final = struct.Struct("<I")
#: Number of the chunk, which of the files, offset in its data, length, SHA-256.
_RECORD: Final = struct.Struct("<QIQI32s")
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PREFIX: Final = "backup-"
_PART: Final = ".part"
_GONE: Final = ".gone"
_SAFELY: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class BackupHead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a manifest begins with."""

    files_id: str
    volume_id: str
    #: The volume's size.
    size_bytes: int
    chunk_bytes: int = CHUNK_BYTES
    #: Whose data the chunks lie in: its own, and that of the backups it builds on, the nearest first.
    files: tuple[str, ...]


class BackupWritten(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup came to."""

    #: SHA-256 of the manifest.
    checksum: str
    stored_bytes: int
    #: Chunks in its own data.
    chunk_count: int


class BackupOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that is there, by what the record says of it."""

    files_id: str
    checksum: str


class _Chunk(NamedTuple):
    number: int
    file: int
    offset: int
    length: int
    digest: bytes


class BackupFiles:
    """The directory of backups."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def open(self) -> None:
        """Make the directory, and remove what died half-written or half-removed. Raises SetupError."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_root()
            for path in self.root.iterdir():
                if path.name.startswith(f".{_PREFIX}") and path.name.endswith((_PART, _GONE)):
                    shutil.rmtree(path)
        except OSError as error:
            raise SetupError(f"The backups' directory {self.root} cannot be used: {_code(error)}.") from error
        except StepNever as error:
            raise SetupError(error.message) from error

    def write(
        self, head: BackupHead, source: LocalFile, parent: BackupOrigin | None, watch: CopyWatch
    ) -> BackupWritten:
        """Back the file's contents up; only what differs from the parent is stored. Done already is success.

        Raises StepNever, StepRetry when the watch ends it; then nothing is left of it.
        """
        with self._errors(head.files_id):
            if self._folder(head.files_id).exists():
                sync_directory(self.root)  # whoever renamed it may have died before its name was on the disk
                return self._look(head)
            part = self.root / f".{_PREFIX}{head.files_id}{_PART}"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(mode=0o700)
            try:
                self._write_part(part, head, source, parent, watch)
                sync_directory(part)
                part.rename(self._folder(head.files_id))
                sync_directory(self.root)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
            return self._look(head)

    def restore(self, origin: BackupOrigin, target: LocalFile, watch: CopyWatch) -> None:
        """Write the backup's contents into a raw file of zeros. Raises StepNever at the first chunk that is damaged."""
        with self._errors(origin.files_id), ExitStack() as stack:
            head, chunks = self._open_manifest(stack, origin)
            if target.format != "raw" or target.size_bytes < head.size_bytes:
                raise StepNever(f"The backup {head.files_id} does not fit into what it is to be restored to.")
            made = stack.enter_context(os.fdopen(os.open(target.path, os.O_RDWR | _SAFELY), "r+b"))
            watch.total_bytes = head.size_bytes
            sources = {index: self._open_data(stack, files_id) for index, files_id in enumerate(head.files)}
            for chunk in chunks:
                watch.check()
                _check_space(made.fileno())
                content = os.pread(sources[chunk.file].fileno(), chunk.length, chunk.offset)
                if hashlib.sha256(content).digest() != chunk.digest:
                    raise StepNever(
                        f"The backup {head.files_id} is damaged: chunk {chunk.number} in the data of "
                        f"{head.files[chunk.file]} is not what was stored."
                    )
                at = chunk.number * head.chunk_bytes
                os.pwrite(made.fileno(), content, at)
                watch.done_bytes = at + chunk.length
            watch.done_bytes = head.size_bytes

    def check(self, origin: BackupOrigin) -> BackupHead:
        """The head of a backup that is there, with its manifest undamaged and all data that it names. Raises StepNever.

        The data's contents are not read; restoring does that.
        """
        with self._errors(origin.files_id), ExitStack() as stack:
            head, chunks = self._open_manifest(stack, origin)
            sizes = [os.fstat(self._open_data(stack, one).fileno()).st_size for one in head.files]
            if any(chunk.offset + chunk.length > sizes[chunk.file] for chunk in chunks):
                raise StepNever(f"The backup {head.files_id} is damaged: its data is cut off.")
            return head

    def remove(self, files_id: str) -> None:
        """Remove a backup, half-made ones too. Gone already is success."""
        with self._errors(files_id):
            folder = self._folder(files_id)
            gone = self.root / f".{_PREFIX}{files_id}{_GONE}"
            shutil.rmtree(self.root / f".{_PREFIX}{files_id}{_PART}", ignore_errors=True)
            if folder.exists():
                folder.rename(gone)
                sync_directory(self.root)
            if gone.exists():
                shutil.rmtree(gone)
            sync_directory(self.root)

    def list_ids(self) -> list[str]:
        """The backups that are there whole."""
        with self._errors("list"):
            names = (path.name.removeprefix(_PREFIX) for path in self.root.iterdir() if path.name.startswith(_PREFIX))
            return sorted(name for name in names if _ID.fullmatch(name))

    def _folder(self, files_id: str) -> Path:
        if _ID.fullmatch(files_id) is None:
            raise StepNever(f"{files_id[:64]!r} is not a backup's id; no directory is named after it.")
        return self.root / f"{_PREFIX}{files_id}"

    def _check_root(self) -> None:
        found = os.lstat(self.root)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise StepNever(
                f"The backups' directory {self.root} has to belong to the user that Kevel runs as, and to be writable "
                "by nobody else."
            )

    def _write_part(
        self, part: Path, head: BackupHead, source: LocalFile, parent: BackupOrigin | None, watch: CopyWatch
    ) -> None:
        with ExitStack() as stack:
            known: Iterator[_Chunk] = iter(())
            if parent is not None:
                parent_head, known = self._open_manifest(stack, parent)
                if head.files[1:] != parent_head.files or parent_head.chunk_bytes != head.chunk_bytes:
                    raise StepNever(f"The backup {head.files_id} cannot build on {parent.files_id}.")
            read = _open_raw(stack, part, source, watch)
            data = stack.enter_context((part / "data").open("xb"))
            manifest = stack.enter_context((part / "manifest").open("xb"))
            encoded = msgspec.json.encode(head)
            manifest.write(_MAGIC + _LENGTH.pack(len(encoded)) + encoded)
            watch.total_bytes = head.size_bytes
            for chunk in _store_chunks(read, head, known, data, watch):
                manifest.write(_RECORD.pack(*chunk))
            for file in (data, manifest):
                file.flush()
                os.fsync(file.fileno())
        (part / "raw").unlink(missing_ok=True)
        watch.done_bytes = head.size_bytes

    def _look(self, head: BackupHead) -> BackupWritten:
        """What a backup that is there came to. Raises StepNever when it is another one."""
        folder = self._folder(head.files_id)
        with ExitStack() as stack:
            manifest = _open_file(stack, folder / "manifest")
            found = _read_head(head.files_id, manifest)
            if found != head:
                raise StepNever(f"There is another backup in the place of {head.files_id} already.")
            manifest.seek(0)
            checksum = hashlib.file_digest(manifest, "sha256").hexdigest()
            own = sum(1 for chunk in _read_chunks(head, manifest) if chunk.file == 0)
            stored_bytes = os.fstat(self._open_data(stack, head.files_id).fileno()).st_size
            return BackupWritten(checksum=checksum, stored_bytes=stored_bytes, chunk_count=own)

    def _open_manifest(self, stack: ExitStack, origin: BackupOrigin) -> tuple[BackupHead, Iterator[_Chunk]]:
        """The head and the chunks, after the whole file was held against the checksum on record."""
        manifest = _open_file(stack, self._folder(origin.files_id) / "manifest")
        if hashlib.file_digest(manifest, "sha256").hexdigest() != origin.checksum:
            raise StepNever(f"The backup {origin.files_id} is damaged: its manifest is not what was stored.")
        manifest.seek(0)
        head = _read_head(origin.files_id, manifest)
        return head, _read_chunks(head, manifest)

    def _open_data(self, stack: ExitStack, files_id: str) -> BufferedReader:
        return _open_file(stack, self._folder(files_id) / "data")

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn the operating system's refusals into the outcomes of a step. Its texts go to the log only."""
        try:
            self._check_root()
            yield
        except OSError as error:
            log.warning("backup file", what=what, error=str(error))
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StepNever("There is no space left in the backups' directory.") from error
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
                raise StepNever(f"The files of backup {what} are not there as Kevel made them.") from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG):
                raise StepNever(f"The backups' file system does not permit it ({_code(error)}).") from error
            raise StepRetry(f"The backups' file system does not answer as it should ({_code(error)}).") from error


def _store_chunks(
    source: int, head: BackupHead, known: Iterator[_Chunk], data: BinaryIO, watch: CopyWatch
) -> Iterator[_Chunk]:
    """The chunks of the source that are not zeros: those that the parent has where it has them, the others stored."""
    before = next(known, None)
    offset = 0
    for number, content in _read_source(source, head, watch):
        while before is not None and before.number < number:
            before = next(known, None)
        digest = hashlib.sha256(content).digest()
        if before is not None and (before.number, before.digest) == (number, digest):
            # The parent's files are this one's, behind its own.
            yield before._replace(file=before.file + 1)
            continue
        _check_space(data.fileno())
        data.write(content)
        yield _Chunk(number, 0, offset, len(content), digest)
        offset += len(content)


def _read_source(source: int, head: BackupHead, watch: CopyWatch) -> Iterator[tuple[int, bytes]]:
    """The chunks that are not zeros, with their numbers. Holes are passed over unread."""
    number = 0
    while (at := number * head.chunk_bytes) < head.size_bytes:
        watch.check()
        watch.done_bytes = at
        try:
            number = os.lseek(source, at, os.SEEK_DATA) // head.chunk_bytes
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                return
            raise
        at = number * head.chunk_bytes
        wanted = min(head.chunk_bytes, head.size_bytes - at)
        if wanted <= 0:
            return
        content = os.pread(source, wanted, at)
        if len(content) != wanted:
            raise StepNever("What is backed up became shorter meanwhile.")
        if content.count(0) != wanted:
            yield number, content
        number += 1


def _open_raw(stack: ExitStack, part: Path, source: LocalFile, watch: CopyWatch) -> int:
    """The source as a raw file. Another format is converted first, and says so itself: nothing is probed (S15)."""
    file = _open_file(stack, Path(source.path))
    if source.format == "raw":
        return file.fileno()
    raw = stack.enter_context((part / "raw").open("x+b"))
    os.ftruncate(raw.fileno(), source.size_bytes)
    convert_file(file.fileno(), source.format, raw.fileno(), "raw", watch)
    return raw.fileno()


def _open_file(stack: ExitStack, path: Path) -> BufferedReader:
    """A regular file of this process's user with one name, to be read."""
    file = stack.enter_context(os.fdopen(os.open(path, os.O_RDONLY | _SAFELY), "rb"))
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
        raise StepNever(f"What is in the place of {path.name} is not a file that Kevel made.")
    return file


def _read_head(files_id: str, manifest: BinaryIO) -> BackupHead:
    damaged = f"The backup {files_id} is damaged: its manifest cannot be read."
    start = manifest.read(len(_MAGIC) + _LENGTH.size)
    if not start.startswith(_MAGIC) or len(start) != len(_MAGIC) + _LENGTH.size:
        raise StepNever(damaged)
    (length,) = _LENGTH.unpack(start[len(_MAGIC) :])
    if length > _HEAD_BYTES_MAX:
        raise StepNever(damaged)
    try:
        head = msgspec.json.decode(manifest.read(length), type=BackupHead)
    except msgspec.DecodeError as error:
        raise StepNever(damaged) from error
    if (
        not 0 < head.chunk_bytes <= CHUNK_BYTES
        or not 0 < len(head.files) <= BACKUP_CHAIN_MAX
        or head.files[0] != files_id
    ):
        raise StepNever(damaged)
    return head


def _read_chunks(head: BackupHead, manifest: BinaryIO) -> Iterator[_Chunk]:
    manifest.seek(0)
    _read_head(head.files_id, manifest)
    count = -(-head.size_bytes // head.chunk_bytes)
    last = -1
    while record := manifest.read(_RECORD.size):
        if len(record) != _RECORD.size:
            raise StepNever(f"The backup {head.files_id} is damaged: its manifest is cut off.")
        chunk = _Chunk(*_RECORD.unpack(record))
        room = min(head.chunk_bytes, head.size_bytes - chunk.number * head.chunk_bytes)
        if not last < chunk.number < count or chunk.file >= len(head.files) or chunk.length != room:
            raise StepNever(f"The backup {head.files_id} is damaged: its manifest contradicts itself.")
        last = chunk.number
        yield chunk


def _check_space(fd: int) -> None:
    if not has_space(fd, CHUNK_BYTES):
        raise OSError(errno.ENOSPC, "what is left is kept back")


def _code(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown error")
