"""How volumes are encrypted: LUKS, by the guest's own process; no key ever opens a volume on a host outside it."""

from __future__ import annotations

from typing import Final

import msgspec

from kevel.domain.errors import Invalid

#: Providers' names that mean LUKS version 1, in Cinder's older and newer words.
PROVIDERS: Final = ("luks", "LuksEncryptor", "nova.volume.encryptors.luks.LuksEncryptor")
CIPHER: Final = "aes-xts-plain64"
#: Bits of an XTS key, which is two keys of half that length.
KEY_BITS: Final = (256, 512)
KEY_BITS_DEFAULT: Final = 512


class Passphrase(msgspec.Struct, frozen=True):
    """What opens a volume's LUKS header: printable ASCII. It never shows itself."""

    value: str

    def __repr__(self) -> str:
        return "Passphrase(...)"

    __str__ = __repr__


def choose_key_bits(*, provider: str, cipher: str | None, key_size: int | None, control_location: str) -> int:
    """The length of the key that a type's encryption asks for. Raises Invalid for what Kevel cannot do."""
    if control_location != "front-end":
        raise Invalid(f"The encryption's control location is {control_location}; Kevel encrypts at the front-end only.")
    if provider not in PROVIDERS:
        raise Invalid(f"The encryption's provider is {provider[:64]}; Kevel knows luks.")
    if cipher not in (None, "", CIPHER):
        raise Invalid(f"The encryption's cipher is {cipher[:64]}; Kevel knows {CIPHER}.")
    bits = key_size or KEY_BITS_DEFAULT
    if bits not in KEY_BITS:
        raise Invalid(f"The encryption's key size is {bits}; {CIPHER} takes {KEY_BITS[0]} or {KEY_BITS[1]} bits.")
    return bits


class VolumeKey(msgspec.Struct, frozen=True, kw_only=True):
    """What an encrypted volume is made with."""

    passphrase: Passphrase
    #: Bits of the key that the passphrase guards.
    bits: int
