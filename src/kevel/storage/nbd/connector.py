"""The host's side of the back end `nbd`: QEMU speaks the protocol itself, so a host only looks before a guest does."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

import msgspec

from kevel.domain.errors import StepNever, StepRetry
from kevel.domain.nbd import NbdSource
from kevel.runtime.ports import Executor
from kevel.storage.base import ConnectionInfo, LocalDisk, VolumeFile
from kevel.storage.luks import HEADER_BYTES, parse_payload_offset
from kevel.storage.nbd.client import check_server, look_at_export

#: NBD servers are read by whole sectors.
_SECTOR: Final = 512


class _Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    address: str
    port: int
    name: str
    server_name: str
    volume_id: str
    format: str


class NbdConnector:
    """Proves exports by what their servers say of them."""

    def __init__(self, tls_folder: Path, executor: Executor) -> None:
        """`tls_folder`: with this host's `ca-cert.pem`, `client-cert.pem` and `client-key.pem`."""
        self._tls_folder = tls_folder
        self._executor = executor

    async def connect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> LocalDisk:
        data = _read_info(volume, info)
        encrypted = volume.format == "luks"
        where = _source(data)
        sight = await self._executor.run(
            look_at_export,
            where,
            self._make_tls(),
            head_bytes=-(-HEADER_BYTES // _SECTOR) * _SECTOR if encrypted else 0,
        )
        if sight.description != volume.volume_id:
            raise StepNever(f"The storage exports another volume where volume {volume.volume_id} should be.")
        size_bytes = sight.size_bytes
        if encrypted:
            size_bytes = max(0, size_bytes - parse_payload_offset(sight.head))
        if size_bytes < volume.size_bytes:
            raise StepNever(
                f"The export of volume {volume.volume_id} has {size_bytes} bytes where its record says "
                f"{volume.size_bytes}: it is not the right one, or it was cut off."
            )
        return LocalDisk(path=where.uri, format=volume.format, size_bytes=size_bytes)

    async def disconnect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> None:
        return None

    async def check_server(self, volume: VolumeFile, info: ConnectionInfo) -> None:
        await self._executor.run(check_server, _source(_read_info(volume, info)))

    def _make_tls(self) -> ssl.SSLContext:
        """Read each time: certificates are renewed."""
        try:
            tls = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self._tls_folder / "ca-cert.pem")
            tls.load_cert_chain(self._tls_folder / "client-cert.pem", self._tls_folder / "client-key.pem")
        except OSError as error:
            raise StepRetry("This host's certificate for the storage's exports cannot be read.") from error
        return tls


def _read_info(volume: VolumeFile, info: ConnectionInfo) -> _Data:
    try:
        data = msgspec.convert(info["data"], type=_Data)
    except msgspec.ValidationError as error:
        raise StepNever(f"The connection_info of volume {volume.volume_id} describes no NBD export.") from error
    if (data.volume_id, data.format) != (volume.volume_id, volume.format):
        raise StepNever(f"The connection_info of volume {volume.volume_id} does not describe its export.")
    return data


def _source(data: _Data) -> NbdSource:
    return NbdSource(address=data.address, port=data.port, name=data.name, server_name=data.server_name)
