"""How an NBD export is written down where a disk's path is: as the URI that other NBD programs know, too.

nbds://ADDRESS:PORT/NAME?tls-hostname=SERVER
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec

SCHEME: Final = "nbds"


class NbdSource(msgspec.Struct, frozen=True, kw_only=True):
    """An export, reached over TLS. The name lets in: it belongs in no log."""

    address: str
    port: int
    name: str
    #: What the server's certificate has to say.
    server_name: str

    @property
    def uri(self) -> str:
        """The export as a disk's path. Reading it gives the same export again."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{SCHEME}://{address}:{self.port}/{self.name}?tls-hostname={self.server_name}"


def read_nbd_source(path: str) -> NbdSource | None:
    """The export that a disk's path names; None for the path of a file."""
    if not path.startswith(f"{SCHEME}://"):
        return None
    parts = urlsplit(path)
    server = parse_qs(parts.query).get("tls-hostname", [""])[0]
    return NbdSource(
        address=parts.hostname or "", port=parts.port or 0, name=parts.path.removeprefix("/"), server_name=server
    )
