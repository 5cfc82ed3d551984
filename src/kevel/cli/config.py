"""The configuration file (TOML) and its defaults. Flags of the command line win over it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from kevel.domain.errors import SetupError
from kevel.domain.limits import Limits
from kevel.domain.quotas import QuotaDefaults

C = TypeVar("C", bound=msgspec.Struct)

#: The back end in the data directory.
DEFAULT_POOL: Final = "directory"
#: Pools beside it: each is asked for its room whenever a volume is made.
POOLS_MAX: Final = 16
_PORT: Final = re.compile(r"[0-9]{1,5}")


class PoolConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A storage pool beside the default one."""

    #: Of the back end and its pool, as in `host@name#name`.
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,62}$")]
    #: Where its volumes' files are; of Kevel's user, and writable by nobody else.
    directory: Annotated[str, msgspec.Meta(min_length=1)]
    #: How hosts reach them: "file", they open them themselves; "nbd", storage daemons export them over TLS.
    protocol: Literal["file", "nbd"] = "file"
    #: ADDRESS:PORT where the daemons listen; for "nbd" only.
    listen: str = "127.0.0.1:10809"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be configured. Its text leaves the database out: a password may be in its URL."""

    data: str = "kevel-data"
    #: postgresql://USER@HOST/DATABASE; empty: SQLite in the data directory.
    database: str = ""
    listen: str = "127.0.0.1:8774"
    #: HOST:PORT where agents on other machines are listened to; empty: nowhere.
    agents: str = ""
    hypervisor: Literal["libvirt", "sim"] = "libvirt"
    #: libvirt's URI; empty: its in-process driver in the data directory.
    libvirt_uri: str = ""
    #: How guests are run: "auto" takes KVM only where the processor really has it.
    accel: Literal["auto", "kvm", "tcg"] = "auto"
    #: This host's name, as `openstack hypervisor list` shows it.
    host: str = "local"
    availability_zone: str = "nova"
    #: Format of new volumes' files.
    volume_format: Literal["raw", "qcow2"] = "raw"
    #: A server that is shelved leaves its host at once; false: when an admin offloads it (shelveOffload).
    offload_shelved: bool = True
    #: The directory of backups; empty: `backups` in the data directory.
    backups: str = ""
    #: Files of the tiny guest; registered as the image `tiny` when they exist.
    guest: str = ".cache/guest"
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    pools: Annotated[tuple[PoolConfig, ...], msgspec.Meta(max_length=POOLS_MAX)] = ()
    limits: Limits = Limits()
    quotas: QuotaDefaults = QuotaDefaults()

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = msgspec.structs.asdict(self) | {"database": "..." if self.database else ""}
        return list(shown.items())

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be configured of `kevel agent`; the rest it is told by the control plane."""

    data: str = "kevel-agent"
    #: HOST:PORT of the control plane's listener for agents; empty: where it joined.
    control: str = ""
    hypervisor: Literal["libvirt", "sim"] = "libvirt"
    libvirt_uri: str = ""
    accel: Literal["auto", "kvm", "tcg"] = "auto"
    availability_zone: str = "nova"
    log_level: Literal["debug", "info", "warning", "error"] = "warning"


def read_agent_config(path: Path | None) -> AgentConfig:
    """The same for `kevel agent`."""
    return _read(path, AgentConfig)


def read_config(path: Path | None) -> Config:
    """The file's configuration, or the defaults. Raises SetupError naming the key and what would be right."""
    return _read(path, Config)


def _read(path: Path | None, kind: type[C]) -> C:
    if path is None:
        return kind()
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SetupError(f"The configuration file {path} cannot be read: {error.strerror}.") from error
    try:
        return msgspec.toml.decode(raw, type=kind)
    except RecursionError as error:
        raise SetupError(f"The configuration file {path} is wrong: its values are nested too deeply.") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise SetupError(f"The configuration file {path} is wrong: {str(error)[:500]}.") from error


def choose_directories(pools: Sequence[PoolConfig], default: Path) -> dict[str, Path]:
    """The directories of the pools by name. Raises SetupError for a name or a directory that is there twice."""
    taken = {DEFAULT_POOL: default.resolve()}
    for pool in pools:
        directory = Path(pool.directory).resolve()
        if pool.name in taken:
            raise SetupError(f"There are two storage pools {pool.name!r}; each has to have a name of its own.")
        for name, other in taken.items():
            if directory == other or directory in other.parents or other in directory.parents:
                raise SetupError(f"The storage pools {name!r} and {pool.name!r} share the directory {directory}.")
        taken[pool.name] = directory
    return {pool.name: taken[pool.name] for pool in pools}


def split_listen(listen: str) -> tuple[str, int]:
    """HOST:PORT, also [IPv6]:PORT. Raises SetupError."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not _PORT.fullmatch(port) or int(port) > 65535:
        raise SetupError(f"{listen[:80]!r} is no address to listen on; it has to look like 127.0.0.1:8774.")
    return host, int(port)
