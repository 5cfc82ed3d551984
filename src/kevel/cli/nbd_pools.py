"""The storage pools that are exported over NBD, joined to this machine: certificates, servers, and this host's side."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kevel.cli.config import Config, split_listen
from kevel.cli.data_dir import DataDir
from kevel.cli.storage_certificates import SERVER_NAME, write_client_certificate, write_server_certificate
from kevel.control.hosts.authority import Authority, make_authority
from kevel.domain.errors import SetupError
from kevel.runtime.ports import Clock, Executor
from kevel.storage.nbd.backend import ExportServer, NbdBackend
from kevel.storage.nbd.connector import NbdConnector

_ANYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def has_nbd_pools(config: Config) -> bool:
    """Is any pool exported over NBD?"""
    return any(pool.protocol == "nbd" for pool in config.pools)


def find_tls_folder(config: Config, data: DataDir) -> Path | None:
    """Where this host's certificate for exports is; None: it needs none."""
    return data.root / "nbd" / "client" if has_nbd_pools(config) else None


def make_nbd_backends(
    config: Config, data: DataDir, directories: dict[str, Path], clock: Clock, executor: Executor
) -> dict[str, NbdBackend]:
    """The pools that are exported over NBD, by name, with the certificates that they need. Raises SetupError."""
    pools = [pool for pool in config.pools if pool.protocol == "nbd"]
    if not pools:
        return {}
    check_nbd_pools(config)
    authority = Authority(data.agents_authority(lambda: make_authority(clock)), clock)
    folder = data.subdirectory("nbd")
    write_client_certificate(folder / "client", authority, config.host)
    write_server_certificate(folder / "server", authority)
    made = {}
    for pool in pools:
        address, port = split_listen(pool.listen)
        server = ExportServer(address=address, first_port=port, tls_folder=folder / "server", server_name=SERVER_NAME)
        state = data.subdirectory("nbd/pools") / pool.name
        made[pool.name] = NbdBackend(pool.name, directories[pool.name], state, server, executor, hosts={config.host})
    return made


def make_nbd_connector(config: Config, data: DataDir, executor: Executor) -> dict[str, NbdConnector]:
    """This host's side, by the protocol's name; nothing when no pool is exported over NBD."""
    folder = find_tls_folder(config, data)
    return {} if folder is None else {"nbd": NbdConnector(folder, executor)}


def check_nbd_pools(config: Config) -> None:
    """Raise SetupError for pools that cannot be exported as they are configured."""
    pools = [pool for pool in config.pools if pool.protocol == "nbd"]
    if pools and config.hypervisor == "libvirt" and config.libvirt_uri:
        raise SetupError(
            f"The storage pool {pools[0].name!r} is exported over NBD, for which guests need libvirt's in-process "
            "driver; leave libvirt_uri empty."
        )
    taken: dict[int, str] = {}
    for pool in pools:
        address, port = split_listen(pool.listen)
        if address in _ANYWHERE or port == 0:
            raise SetupError(
                f"{pool.listen[:80]!r} is no address for the exports of the storage pool {pool.name!r}: hosts connect "
                "to it, so it has to be one of this machine's own, with a port."
            )
        if port in taken:
            raise SetupError(f"The storage pools {taken[port]!r} and {pool.name!r} export on the same port, {port}.")
        taken[port] = pool.name
