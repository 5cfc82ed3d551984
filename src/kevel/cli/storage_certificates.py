"""Certificates of storage's exports, as QEMU wants them: files of fixed names in a directory for each side."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.x509.oid import ExtendedKeyUsageOID

from kevel.cli.data_dir import PRIVATE_DIRECTORY, write_private
from kevel.control.hosts.authority import Authority

#: What the certificates of export servers say, wherever they listen.
SERVER_NAME: Final = "storage.kevel.invalid"
_AUTHORITY: Final = "ca-cert.pem"


def write_server_certificate(folder: Path, authority: Authority) -> None:
    """The export servers' side of a pool; made once for each authority."""
    _write(folder, authority, "server", SERVER_NAME)


def write_client_certificate(folder: Path, authority: Authority, host: str) -> None:
    """A host's side; made once for each authority and host name."""
    _write(folder, authority, "client", host)


def _write(folder: Path, authority: Authority, side: str, name: str) -> None:
    folder.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    mark, made_for = folder / "made-for", f"{authority.digest} {name}".encode()
    if mark.exists() and mark.read_bytes() == made_for:
        return
    mark.unlink(missing_ok=True)  # one that is written by halves is made again
    use = ExtendedKeyUsageOID.SERVER_AUTH if side == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
    key, certificate = authority.make_pair(name, use)
    write_private(folder / _AUTHORITY, authority.certificate.encode())
    write_private(folder / f"{side}-cert.pem", certificate)
    write_private(folder / f"{side}-key.pem", key)
    write_private(mark, made_for)
