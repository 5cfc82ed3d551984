"""The server's own files: its directory, its root disk, its console log."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

from kevel.domain.errors import StepNever, StepRetry
from kevel.domain.qcow2 import HEAD_BYTES_MAX, Qcow2Error, parse_qcow2
from kevel.hypervisor.base import DomainSpec, RootCopySpec
from kevel.hypervisor.libvirt.domain_xml import ServerFiles
from kevel.runtime.files import copy_data, sync_directory

RESIZE_TIMEOUT_S = 60
CONSOLE_LOG = "console.log"
#: Less than a call that copies may last (see `hypervisor.COPY_LIMIT_S`).
CONVERT_TIMEOUT_S = 800
#: A guest can write to its console without end; beyond this the log is cut to its tail.
CONSOLE_LOG_BYTES_MAX = 8 << 20
CONSOLE_LOG_BYTES_KEPT = 1 << 20
#: A directory whose files cannot be opened with O_DIRECT (tmpfs of older kernels, some FUSE and overlay mounts) gets
#: this mode: the guest's flushes still reach the disk, only the host's page cache lies between.
CACHE_BUFFERED = "writeback"
CACHE_DIRECT = "none"


def name_server_files(server_dir: Path, spec: DomainSpec) -> ServerFiles:
    """Where the server's own files are."""
    number = f"-{spec.root_number}" if spec.root_number else ""
    root_disk = server_dir / f"root{number}.{spec.image_format}"
    rescue = spec.rescue
    return ServerFiles(
        root_disk=str(root_disk) if spec.image_path is not None else None,
        rescue_disk=None if rescue is None else str(server_dir / f"rescue-{rescue.number}.{rescue.image_format}"),
        console_socket=str(server_dir / "console.sock"),
        console_log=str(server_dir / CONSOLE_LOG),
        agent_socket=str(server_dir / "agent.sock"),
    )


def make_own_disks(spec: DomainSpec, files: ServerFiles, *, runs: bool) -> None:
    """Make the root disk and the rescue disk where they are not there; and let a root disk grow that no guest has."""
    if files.root_disk is not None and spec.image_path is not None:
        root_disk = Path(files.root_disk)
        is_there = root_disk.exists()
        make_root_disk(spec, root_disk)
        if is_there and not runs and _measure(root_disk, spec.image_format) < spec.root_bytes:
            grow_disk(root_disk, spec.image_format, spec.root_bytes, spec.server_id)
    if files.rescue_disk is not None and spec.rescue is not None:
        image = Path(spec.rescue.image_path)
        copy_image(spec.server_id, image, spec.rescue.image_format, 0, Path(files.rescue_disk))


def remove_other_disks(server_dir: Path, files: ServerFiles) -> None:
    """Remove the disks of the server's own that its definition does not name any more."""
    kept = {files.root_disk, files.rescue_disk}
    others = [path for kind in ("root*.*", "rescue-*.*") for path in server_dir.glob(kind) if str(path) not in kept]
    for path in others:
        path.unlink(missing_ok=True)
    if others:
        sync_directory(server_dir)


def make_root_disk(spec: DomainSpec, path: Path) -> None:
    """Copy the server's image to `path`, as `copy_image`."""
    if spec.image_path is not None:
        copy_image(spec.server_id, Path(spec.image_path), spec.image_format, spec.root_bytes, path)


def copy_image(server_id: str, image: Path, image_format: str, size_bytes: int, path: Path) -> None:
    """Copy the image to `path` and grow it; nothing to do when it is there.

    The copy gets its name only when it is complete and on the disk, so a file of that name is always whole.
    Raises StepNever for an image that cannot be a disk of this size.
    """
    if path.exists():
        sync_directory(path.parent)  # whoever renamed it may have died before its name was on the disk
        return
    part = path.with_name(f".{path.name}.part")
    try:
        _copy(image, part)
    except FileNotFoundError as error:
        raise StepNever(f"Server {server_id}: the image's file is missing.") from error
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StepRetry(f"Server {server_id}: the root disk cannot be written ({error.strerror}).") from error
    if image_format == "qcow2":
        refuse_foreign_data(part, server_id)
    grow_disk(part, image_format, size_bytes, server_id)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(path)
    sync_directory(path.parent)


def keep_root_disk(source: Path, source_format: str, copy: RootCopySpec, subject: str) -> int:
    """Copy the root disk of a guest that does not run into the target, which is there; how large it is then.

    Nothing is told of the copy before it is on the disk. Raises StepNever when there is no space for it.
    """
    target = Path(copy.target_path)
    try:
        os.truncate(target, 0)
        if copy.format == source_format:
            with source.open("rb") as reader, target.open("r+b") as writer:
                copy_data(reader.fileno(), writer.fileno())
        else:
            _convert(source, source_format, target, copy.format, subject)
        with target.open("r+b") as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StepNever(f"{subject}: there is no space left for the copy.") from error
        raise StepRetry(f"{subject}: the copy cannot be written ({error.strerror}).") from error


def _convert(source: Path, source_format: str, target: Path, target_format: str, subject: str) -> None:
    if source_format == "qcow2":
        refuse_foreign_data(source, subject)
    command = ["qemu-img", "convert", "-q", "-f", source_format, "-O", target_format, str(source), str(target)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=CONVERT_TIMEOUT_S, check=False)
    if "No space left" in result.stderr:
        raise StepNever(f"{subject}: there is no space left for the copy.")
    if result.returncode != 0:
        raise StepRetry(f"{subject}: the copy could not be made.")


def _measure(path: Path, image_format: str) -> int:
    """The size that a guest sees."""
    if image_format == "raw":
        return path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES_MAX)
    try:
        return parse_qcow2(head, path.stat().st_size).virtual_bytes
    except Qcow2Error:
        return 0


def _copy(source: Path, target: Path) -> None:
    """Copy a file into one that is made anew, readable by its owner only."""
    target.unlink(missing_ok=True)
    target.touch(mode=0o600, exist_ok=False)
    with source.open("rb") as reader, target.open("wb") as writer:
        copy_data(reader.fileno(), writer.fileno())


def grow_disk(path: Path, image_format: str, size_bytes: int, server_id: str) -> None:
    """Make the disk `size_bytes` large; 0: leave it. Raises StepNever when the image is larger than that."""
    too_small = StepNever(f"Server {server_id}: the root disk of {size_bytes} bytes is smaller than the image.")
    if size_bytes == 0:
        return
    if image_format == "raw":
        if path.stat().st_size > size_bytes:
            raise too_small
        os.truncate(path, size_bytes)
        return
    command = ["qemu-img", "resize", "-q", "-f", image_format, str(path), str(size_bytes)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=RESIZE_TIMEOUT_S, check=False)
    if "shrink" in result.stderr:
        raise too_small
    if result.returncode != 0:
        raise StepRetry(f"Server {server_id}: the root disk could not be grown.")


def refuse_foreign_data(path: Path, server_id: str) -> None:
    """Raise StepNever for a qcow2 image that does not stand by itself: one that names another file above all (S15)."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES_MAX)
    try:
        parse_qcow2(head, path.stat().st_size)
    except Qcow2Error as error:
        raise StepNever(f"Server {server_id}: its image cannot be used. {error.message}") from error


def choose_cache_mode(path: Path) -> str:
    """The cache mode that works for an existing file where it is."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return CACHE_BUFFERED
    return CACHE_DIRECT


def trim_console_log(path: Path) -> None:
    """Cut a console log that has grown too long to its tail. QEMU appends, so it may go on writing meanwhile."""
    if not path.exists():
        return
    with path.open("a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size > CONSOLE_LOG_BYTES_MAX:
            file.seek(size - CONSOLE_LOG_BYTES_KEPT)
            tail = file.read(CONSOLE_LOG_BYTES_KEPT)
            file.truncate(0)
            file.write(tail)


def read_console_log(path: Path, bytes_max: int) -> bytes:
    """The log's last bytes; b"" when there is no log. Raises StepRetry."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - bytes_max))
            return file.read(bytes_max)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StepRetry(f"The server's console log cannot be read ({error.strerror}).") from error


def remove_server_dir(path: Path) -> None:
    """Remove the server's own files; nothing to do when there are none."""
    if path.exists():
        shutil.rmtree(path)
        sync_directory(path.parent)
