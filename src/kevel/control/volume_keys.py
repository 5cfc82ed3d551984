"""The key store of encrypted volumes: a passphrase each, sealed at rest with the data directory's key (S10)."""

from __future__ import annotations

from typing import Final

from kevel.control.secrets import Sealer
from kevel.domain.encryption import Passphrase, VolumeKey
from kevel.domain.errors import StepNever
from kevel.runtime.ports import Ids
from kevel.store.volume_keys import KEY_SEAL, SealedKey

_FIELD: Final = "passphrase"


class KeyRing:
    """Draws keys and opens them. Only here, and on the host that plugs a volume, is a passphrase in clear."""

    def __init__(self, sealer: Sealer, ids: Ids) -> None:
        self._sealer = sealer
        self._ids = ids

    def draw(self, *, at: int) -> SealedKey:
        """A new key; its length is for the volume's type to say."""
        key_id = self._ids.uuid()
        sealed = self._sealer.seal(f"{KEY_SEAL}{key_id}", {_FIELD: self._ids.secret()})
        return SealedKey(id=key_id, sealed=sealed, key_bits=0, created_at=at, destroyed_at=None)

    def open(self, key: SealedKey | None) -> VolumeKey:
        """The key in clear. Raises StepNever when there is none any more."""
        if key is None or key.sealed is None:
            raise StepNever("The volume's key is destroyed.")
        word = self._sealer.open(f"{KEY_SEAL}{key.id}", key.sealed)[_FIELD]
        return VolumeKey(passphrase=Passphrase(word), bits=key.key_bits)
