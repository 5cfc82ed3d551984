"""The server's own files: its directory, its root disk, its console log."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from kevel.domain.errors import StepNever, StepRetry
from kevel.hypervisor.base import DomainSpec
from kevel.hypervisor.libvirt.domain_xml import ServerFiles

COPY_BYTES_MAX = 8 << 20
RESIZE_TIMEOUT_S = 60
QCOW2_HEADER_BYTES = 80
QCOW2_MAGIC = b"QFI\xfb"
#: Bit of the incompatible features that says: the data are in another file.
QCOW2_EXTERNAL_DATA = 1 << 2
#: A guest can write to its console without end; beyond this the log is cut to its tail.
CONSOLE_LOG_BYTES_MAX = 8 << 20
CONSOLE_LOG_BYTES_KEPT = 1 << 20
#: A directory whose files cannot be opened with O_DIRECT (tmpfs of older kernels, some FUSE and overlay mounts) gets
#: this mode: the guest's flushes still reach the disk, only the host's page cache lies between.
CACHE_BUFFERED = "writeback"
CACHE_DIRECT = "none"


def name_server_files(server_dir: Path, spec: DomainSpec) -> ServerFiles:
    """Where the server's own files are."""
    root_disk = server_dir / f"root.{spec.image_format}"
    return ServerFiles(
        root_disk=str(root_disk) if spec.image_path is not None else None,
        console_socket=str(server_dir / "console.sock"),
        console_log=str(server_dir / "console.log"),
        agent_socket=str(server_dir / "agent.sock"),
    )


def make_root_disk(spec: DomainSpec, path: Path) -> None:
    """Copy the image to `path` and grow it; nothing to do when it is there.

    The copy gets its name only when it is complete and on the disk, so a file of that name is always whole.
    Raises StepNever for an image that cannot be a root disk of this size.
    """
    if path.exists() or spec.image_path is None:
        return
    part = path.with_name(f".{path.name}.part")
    try:
        copy_sparse(Path(spec.image_path), part)
    except FileNotFoundError as error:
        raise StepNever(f"Server {spec.server_id}: the image's file is missing.") from error
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StepRetry(f"Server {spec.server_id}: the root disk cannot be written ({error.strerror}).") from error
    if spec.image_format == "qcow2":
        refuse_foreign_data(part, spec.server_id)
    grow_root_disk(part, spec)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(path)
    sync_directory(path.parent)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file, holes as holes. The target is made anew, readable by its owner only."""
    target.unlink(missing_ok=True)
    target.touch(mode=0o600, exist_ok=False)
    with source.open("rb") as reader, target.open("wb") as writer:
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        position = 0
        while position < size:
            try:
                start = os.lseek(reader.fileno(), position, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                break
            end = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
            reader.seek(start)
            writer.seek(start)
            while (left := end - reader.tell()) > 0:
                if not (chunk := reader.read(min(left, COPY_BYTES_MAX))):
                    break
                writer.write(chunk)
            position = end


def grow_root_disk(path: Path, spec: DomainSpec) -> None:
    """Make the disk `root_bytes` large. Raises StepNever when the image is larger than that."""
    too_small = StepNever(
        f"Server {spec.server_id}: the root disk of {spec.root_bytes} bytes is smaller than the image."
    )
    if spec.root_bytes == 0:
        return
    if spec.image_format == "raw":
        if path.stat().st_size > spec.root_bytes:
            raise too_small
        os.truncate(path, spec.root_bytes)
        return
    command = ["qemu-img", "resize", "-q", "-f", spec.image_format, str(path), str(spec.root_bytes)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=RESIZE_TIMEOUT_S, check=False)
    if "shrink" in result.stderr:
        raise too_small
    if result.returncode != 0:
        raise StepRetry(f"Server {spec.server_id}: the root disk could not be grown.")


def refuse_foreign_data(path: Path, server_id: str) -> None:
    """Raise StepNever for a qcow2 image that names another file, as backing file or for its data (S15)."""
    with path.open("rb") as file:
        header = file.read(QCOW2_HEADER_BYTES)
    if len(header) < QCOW2_HEADER_BYTES or header[:4] != QCOW2_MAGIC:
        raise StepNever(f"Server {server_id}: the image is not a qcow2 image.")
    version = int.from_bytes(header[4:8], "big")
    features = int.from_bytes(header[72:80], "big") if version >= 3 else 0
    if int.from_bytes(header[8:16], "big") != 0 or features & QCOW2_EXTERNAL_DATA:
        raise StepNever(f"Server {server_id}: the image refers to another file; only whole images are taken.")


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


def remove_server_dir(path: Path) -> None:
    """Remove the server's own files; nothing to do when there are none."""
    if path.exists():
        shutil.rmtree(path)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make a change of names in a directory last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
