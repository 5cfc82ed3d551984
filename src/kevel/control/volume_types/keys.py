"""The key store of encrypted volumes: a passphrase each, sealed at rest with the data directory's key (S10)."""

from __future__ import annotations

from typing import Final

import msgspec

from kevel.control.secrets import Sealer
from kevel.domain.encryption import Passphrase, VolumeKey, choose_key_bits
from kevel.domain.errors import Invalid, StepNever
from kevel.domain.model import Volume
from kevel.runtime.ports import Ids
from kevel.store.transactions import Tx
from kevel.store.volume_keys import KEY_SEAL, SealedKey, insert_key, load_key
from kevel.store.volume_types import VolumeType, load_encryption

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


def choose_key(
    tx: Tx,
    volume_type: VolumeType,
    *,
    copied: bool,
    source_key_id: str | None,
    drawn: SealedKey | None,
) -> str | None:
    """The id of the key of a new volume of the type; None: it is not encrypted.

    `copied`: it is made from something; `source_key_id`: which is encrypted with that key. Raises Invalid for what
    would have to be encrypted or decrypted on the way, and for an encryption that Kevel cannot do.
    """
    bits = _find_key_bits(tx, volume_type)
    if bits is None:
        if source_key_id is not None:
            raise Invalid(f"The source is encrypted, and volumes of the type {volume_type.name} are not.")
        return None
    if copied:
        if source_key_id is None:
            raise Invalid(
                f"Volumes of the type {volume_type.name} are encrypted, and the source is not: make an empty one."
            )
        return source_key_id
    if drawn is None:
        raise Invalid("Kevel has no key store here, so it makes no encrypted volumes.")
    insert_key(tx, msgspec.structs.replace(drawn, key_bits=bits))
    return drawn.id


def _find_key_bits(tx: Tx, volume_type: VolumeType) -> int | None:
    """The length of the keys of the type's volumes; None: they are not encrypted. Raises Invalid."""
    encryption = load_encryption(tx, volume_type.id)
    if encryption is None:
        return None
    bits = choose_key_bits(
        provider=encryption.provider,
        cipher=encryption.cipher,
        key_size=encryption.key_size,
        control_location=encryption.control_location,
    )
    if volume_type.multiattach:
        raise Invalid(f"Volumes of the type {volume_type.name} are shared; Kevel shares no encrypted volumes.")
    return bits


def check_keeps_key(tx: Tx, volume: Volume, volume_type: VolumeType) -> None:
    """Raise Invalid if the volume would have to be encrypted, decrypted or encrypted otherwise to be of the type."""
    bits = _find_key_bits(tx, volume_type)
    key = None if volume.encryption_key_id is None else load_key(tx, volume.encryption_key_id)
    if (None if key is None else key.key_bits) != bits:
        raise Invalid(
            f"Invalid volume: volume {volume.id} would have to be encrypted or decrypted by its retype, or to be "
            "encrypted with a key of another length; Kevel does neither."
        )


def refuse_encrypted(volume: Volume, what: str) -> None:
    """Raise Invalid for an encrypted volume, of which that cannot be done."""
    if volume.encryption_key_id is not None:
        raise Invalid(f"Invalid volume: volume {volume.id} is encrypted; it cannot be {what}.")
