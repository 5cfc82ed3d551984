"""LUKS version 1 headers of new volumes.

Written here and not by qemu-img: that measures, for seconds of CPU time, how often it can hash a passphrase within the
time that somebody who guesses should need. Ours are random and as long as the key, so nobody can guess them; and on
machines whose clocks are coarse the measurement fails.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from kevel.domain.encryption import Passphrase
from kevel.domain.errors import StepNever

MAGIC: Final = b"LUKS\xba\xbe"
SECTOR: Final = 512
SLOTS: Final = 8
#: Each bit of the master key is spread over so many copies, so that a part of them tells nothing.
STRIPES: Final = 4000
#: Rounds of hashing; the least that the format allows. They only slow down who guesses a passphrase.
ROUNDS: Final = 1000
HASH: Final = "sha256"
SALT_BYTES: Final = 32
DIGEST_BYTES: Final = 20
ENABLED, DISABLED = 0x00AC71F3, 0x0000DEAD
#: Key material begins at multiples of 4 KiB.
ALIGN_SECTORS: Final = 8
_HEADER: Final = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT: Final = struct.Struct(">II32sII")
_PAYLOAD_AT: Final = 104
#: Of a header without its key slots.
HEADER_BYTES: Final = _HEADER.size


def format_luks(fd: int, size_bytes: int, passphrase: Passphrase, key_bits: int, *, name: str) -> None:
    """Make the open, empty file an encrypted volume of that size. It reads as noise until it is written.

    `name` goes into the header: the volume's id.
    """
    key_bytes = key_bits // 8
    master = os.urandom(key_bytes)
    slot_sectors = _align(-(-key_bytes * STRIPES // SECTOR))
    payload = ALIGN_SECTORS + SLOTS * slot_sectors
    digest_salt, slot_salt = os.urandom(SALT_BYTES), os.urandom(SALT_BYTES)
    header = _HEADER.pack(
        MAGIC,
        1,
        b"aes",
        b"xts-plain64",
        HASH.encode(),
        payload,
        key_bytes,
        hashlib.pbkdf2_hmac(HASH, master, digest_salt, ROUNDS, DIGEST_BYTES),
        digest_salt,
        ROUNDS,
        name.encode(),
    )
    slots = [_SLOT.pack(ENABLED, ROUNDS, slot_salt, ALIGN_SECTORS, STRIPES)]
    others = (ALIGN_SECTORS + number * slot_sectors for number in range(1, SLOTS))
    slots += [_SLOT.pack(DISABLED, 0, b"", sector, STRIPES) for sector in others]
    slot_key = hashlib.pbkdf2_hmac(HASH, passphrase.value.encode(), slot_salt, ROUNDS, key_bytes)
    material = _encrypt(slot_key, _split(master))
    os.ftruncate(fd, payload * SECTOR + size_bytes)
    os.pwrite(fd, material, ALIGN_SECTORS * SECTOR)
    os.pwrite(fd, header + b"".join(slots), 0)


def read_payload_offset(fd: int) -> int:
    """Where the volume's own bytes begin in a LUKS file. Raises StepNever when the header is not one of ours."""
    return parse_payload_offset(os.pread(fd, HEADER_BYTES, 0))


def parse_payload_offset(head: bytes) -> int:
    """The same, from the file's first `HEADER_BYTES`."""
    if len(head) < HEADER_BYTES or not head.startswith(MAGIC + b"\0\1"):
        raise StepNever("The volume's file has no LUKS header where its record says that it is encrypted.")
    sectors = int.from_bytes(head[_PAYLOAD_AT : _PAYLOAD_AT + 4], "big")
    return sectors * SECTOR


def _align(sectors: int) -> int:
    return -(-sectors // ALIGN_SECTORS) * ALIGN_SECTORS


def _split(key: bytes) -> bytes:
    """The key as stripes of which every one is needed."""
    parts = [os.urandom(len(key)) for _ in range(STRIPES - 1)]
    state = bytes(len(key))
    for part in parts:
        state = _diffuse(_xor(state, part))
    return b"".join(parts) + _xor(state, key)


def _diffuse(block: bytes) -> bytes:
    size = hashlib.new(HASH).digest_size
    pieces = [block[at : at + size] for at in range(0, len(block), size)]
    return b"".join(
        hashlib.new(HASH, number.to_bytes(4, "big") + piece).digest()[: len(piece)]
        for number, piece in enumerate(pieces)
    )


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


def _encrypt(key: bytes, plain: bytes) -> bytes:
    """AES-XTS, a sector at a time, numbered from 0."""
    padded = plain + bytes(-len(plain) % SECTOR)
    cipher = algorithms.AES(key)
    sectors = []
    for number in range(len(padded) // SECTOR):
        encryptor = Cipher(cipher, modes.XTS(number.to_bytes(16, "little"))).encryptor()
        sectors.append(encryptor.update(padded[number * SECTOR : (number + 1) * SECTOR]))
    return b"".join(sectors)
