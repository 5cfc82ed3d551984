"""What the `nbd` back end keeps of its own: the key of its exports' names, their ends, and its daemons' places.

None of it says what is exported now; that is the daemons' to tell. Synchronous: callers run it in threads.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from kevel.domain.errors import SetupError, StepNever
from kevel.runtime.files import sync_directory
from kevel.storage.base import ExportName
from kevel.storage.volume_files import name_file

#: Hosts that a pool has a daemon for, each with a port.
HOSTS_MAX: Final = 256
_KEY_BYTES: Final = 32
_HOST_FILE: Final = "host.json"


class HostPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A host's daemon: where it keeps its own, and the port that its clients know."""

    folder: Path
    host: str
    port: int


class _HostFile(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int


class ExportNames:
    """A private folder of a pool."""

    def __init__(self, folder: Path, first_port: int) -> None:
        self._folder = folder
        self._first_port = first_port
        self._key = b""

    def open(self) -> None:
        """Make the folder and the key, once. Raises SetupError."""
        try:
            for folder in (self._folder, self._hosts, self._revoked):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / "name.key"
            if not path.exists():
                _write(path, secrets.token_bytes(_KEY_BYTES))
            self._key = path.read_bytes()
        except OSError as error:
            raise SetupError(
                f"The export servers' directory {self._folder} cannot be used: {error.strerror}."
            ) from error
        if len(self._key) != _KEY_BYTES:
            raise SetupError(f"{path} is damaged: it holds {len(self._key)} bytes, not {_KEY_BYTES}.")

    def name(self, export: ExportName) -> str:
        """What clients ask for: always the same for an export, and nothing that anybody can guess."""
        message = f"{export.path_id}-{export.generation}".encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()

    def revoke(self, volume_id: str, export: ExportName) -> None:
        """Remember that the export is over for good. Durable before it returns."""
        if self.is_revoked(volume_id, export):
            return
        path = self._revoked / name_file(volume_id)
        is_new = not path.exists()
        with path.open("ab") as file:
            # Whatever a loss of power has left of an earlier line ends here.
            file.write(f"\n{self.name(export)}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_directory(self._revoked)

    def is_revoked(self, volume_id: str, export: ExportName) -> bool:
        """Is the export over for good?"""
        try:
            lines = (self._revoked / name_file(volume_id)).read_text(errors="replace").split("\n")
        except FileNotFoundError:
            return False
        return self.name(export) in lines

    def forget_volume(self, volume_id: str) -> None:
        """The volume is gone for good: nothing of it can be exported anyway."""
        (self._revoked / name_file(volume_id)).unlink(missing_ok=True)

    def hosts(self) -> Iterator[HostPlace]:
        """The hosts that have a daemon, or had one."""
        for folder in sorted(self._hosts.iterdir()):
            if (folder / _HOST_FILE).exists():
                kept = msgspec.json.decode((folder / _HOST_FILE).read_bytes(), type=_HostFile)
                yield HostPlace(folder=folder, host=kept.host, port=kept.port)

    def place(self, host: str) -> HostPlace:
        """The host's place, made if it has none yet. Raises StepNever when there are too many."""
        there = list(self.hosts())
        for one in there:
            if one.host == host:
                return one
        taken = {one.port for one in there}
        port = next((one for one in range(self._first_port, 65536) if one not in taken), None)
        if port is None or len(there) >= HOSTS_MAX:
            raise StepNever(f"The storage pool exports to {len(there)} hosts already, and to no more.")
        folder = self._hosts / hashlib.sha256(host.encode()).hexdigest()[:16]
        shutil.rmtree(folder, ignore_errors=True)  # of a making that died
        folder.mkdir(mode=0o700)
        _write(folder / _HOST_FILE, msgspec.json.encode(_HostFile(host=host, port=port)))
        sync_directory(self._hosts)
        return HostPlace(folder=folder, host=host, port=port)

    @property
    def _hosts(self) -> Path:
        return self._folder / "hosts"

    @property
    def _revoked(self) -> Path:
        return self._folder / "revoked"


def _write(path: Path, content: bytes) -> None:
    """Write the file whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)
