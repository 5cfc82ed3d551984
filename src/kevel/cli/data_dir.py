"""The data directory: locked before anything in it is opened, private to its user, all paths in it relative."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from kevel.control.secrets import KEY_BYTES
from kevel.domain.errors import SetupError
from kevel.host.credential import CredentialFile
from kevel.runtime.files import sync_directory

PRIVATE_FILE: Final = 0o600
PRIVATE_DIRECTORY: Final = 0o700


class DataDir:
    """One data directory, held by one process for as long as this object is open."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._lock_fd: int | None = None

    def open(self) -> None:
        """Make the directory if it is not there, and lock it.

        Raises SetupError when it cannot be used or another process holds it; nothing in it has been touched then.
        """
        try:
            self.root.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            fd = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        except OSError as error:
            raise SetupError(f"The data directory {self.root} cannot be used: {error.strerror}.") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _read_holder(fd)
            os.close(fd)
            message = f"The data directory {self.root} is in use by another kevel{holder}; stop that one first, or use "
            raise SetupError(message + "another directory with --data.") from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock_fd = fd

    def close(self) -> None:
        """Let go of the directory."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.root / "kevel.db"

    @property
    def records(self) -> str | None:
        """The database server that has this directory's records, without a password; None: they are in `database`."""
        try:
            return (self.root / "records").read_text().strip()
        except FileNotFoundError:
            return None

    def write_records(self, shown_url: str) -> None:
        """Note that the records are on that server, so that no start without it takes an older state for the truth."""
        write_private(self.root / "records", f"{shown_url}\n".encode())

    @property
    def ballast(self) -> Path:
        """Space kept back for a full disk."""
        return self.root / "ballast"

    def subdirectory(self, name: str) -> Path:
        """A private directory below, made if it is not there."""
        path = self.root / name
        path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        return path

    def sealing_key(self) -> bytes:
        """The key that connection secrets are sealed with; made once."""
        key = _read_or_make(self.root / "secret.key", lambda: secrets.token_bytes(KEY_BYTES))
        if len(key) != KEY_BYTES:
            raise SetupError(f"{self.root / 'secret.key'} is damaged: it holds {len(key)} bytes, not {KEY_BYTES}.")
        return key

    def agents_authority(self, make: Callable[[], bytes]) -> bytes:
        """The key and certificate that agents' certificates are signed with; made once."""
        return _read_or_make(self.root / "agents-authority.pem", make)

    def read_agent_credential(self) -> CredentialFile | None:
        """What this directory's agent has; None when it has not joined. Raises SetupError."""
        try:
            return msgspec.json.decode((self.root / "credential.json").read_bytes(), type=CredentialFile)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise SetupError(f"{self.root / 'credential.json'} cannot be read; join anew.") from error

    def write_agent_credential(self, credential: CredentialFile) -> None:
        """Keep it, whole or not at all."""
        write_private(self.root / "credential.json", msgspec.json.encode(credential))

    def joining_key(self, make: Callable[[], bytes]) -> bytes:
        """The key of a join: the same when it is asked for again, since the first answer may have been lost."""
        return _read_or_make(self.root / "joining.key", make)

    def read_joined(self) -> str | None:
        """Which token the agent has joined with."""
        try:
            return (self.root / "joined").read_text()
        except FileNotFoundError:
            return None

    def write_joined(self, token_name: str) -> None:
        """The agent has joined with that token, and the next one will come with another key."""
        write_private(self.root / "joined", token_name.encode())
        (self.root / "joining.key").unlink(missing_ok=True)

    def read_admin_password(self) -> str | None:
        """The password that Kevel gave the first admin; None when it was never written down."""
        try:
            return (self.root / "admin-password").read_text().strip() or None
        except FileNotFoundError:
            return None

    def write_credentials(self, url: str, password: str) -> None:
        """Write `openrc` and `clouds.yaml` for the admin on this machine, and keep the password for later starts."""
        write_private(self.root / "admin-password", f"{password}\n".encode())
        write_private(self.root / "openrc", _OPENRC.format(url=url, password=password).encode())
        write_private(self.root / "clouds.yaml", _CLOUDS.format(url=url, password=password).encode())


_OPENRC: Final = """\
export OS_AUTH_URL={url}/identity/v3
export OS_IDENTITY_API_VERSION=3
export OS_USERNAME=admin
export OS_PASSWORD='{password}'
export OS_PROJECT_NAME=admin
export OS_USER_DOMAIN_NAME=Default
export OS_PROJECT_DOMAIN_NAME=Default
export OS_REGION_NAME=RegionOne
"""
_CLOUDS: Final = """\
clouds:
  kevel:
    auth:
      auth_url: {url}/identity/v3
      username: admin
      password: '{password}'
      project_name: admin
      user_domain_name: Default
      project_domain_name: Default
    region_name: RegionOne
    identity_api_version: 3
"""


def write_private(path: Path, content: bytes) -> None:
    """Write the file whole or not at all, readable by its owner only."""
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(file.fileno(), PRIVATE_FILE)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    # The name has to be on the disk too, before anything is written that needs the file.
    sync_directory(path.parent)


def _read_or_make(path: Path, make: Callable[[], bytes]) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        content = make()
        write_private(path, content)
        return content
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}.") from error


def _read_holder(fd: int) -> str:
    pid = os.pread(fd, 32, 0).decode(errors="replace").strip()
    return f" (process {pid})" if pid.isdigit() else ""
