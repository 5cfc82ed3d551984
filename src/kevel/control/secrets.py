"""Connection secrets at rest: sealed with the key of the data directory, bound to their path (S10)."""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from kevel.domain.errors import KevelError
from kevel.storage.base import ConnectionInfo

KEY_BYTES = 64


class Sealer:
    """Deterministic authenticated encryption (AES-SIV): a transaction that seals can be run again."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESSIV(key)

    def seal(self, path_id: str, info: ConnectionInfo) -> bytes:
        """The sealed form; opens only for the same path."""
        return self._cipher.encrypt(msgspec.json.encode(info), [path_id.encode()])

    def open(self, path_id: str, sealed: bytes) -> ConnectionInfo:
        """What was sealed. Raises KevelError when the key or the path is another."""
        try:
            raw = self._cipher.decrypt(sealed, [path_id.encode()])
        except InvalidTag as error:
            raise KevelError(f"The connection_info of path {path_id} was sealed with another key.") from error
        info: ConnectionInfo = msgspec.json.decode(raw, type=dict)
        return info
