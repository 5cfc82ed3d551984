"""The header of a qcow2 file: what Kevel reads of an uploaded image before anybody may boot it.

The format is the one that the uploader declared; nothing here chooses a format (S15). The parser exists to refuse a
file that would make QEMU open other files on the host (a backing file, an external data file), need a key, or not open
at all. It looks at the first bytes only, never follows an offset, and raises nothing but `Qcow2Error`.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from kevel.domain.errors import KevelError

#: As much of the file's beginning as the parser ever looks at. QEMU's own headers need less than 1 KiB.
HEAD_BYTES_MAX: Final = 64 * 1024
#: The largest disk a qcow2 image may declare: a file of a few hundred KiB could otherwise claim exabytes.
VIRTUAL_BYTES_MAX: Final = 16 * 1024**4
#: Header extensions that are looked at; QEMU writes three.
EXTENSIONS_MAX: Final = 32

_MAGIC: Final = b"QFI\xfb"
#: magic, version, backing offset and length, cluster bits, virtual size, encryption, L1 entries, L1 offset,
#: refcount table's offset and clusters, snapshots and their offset.
_HEADER_V2: Final = struct.Struct(">4sIQIIQIIQQIIQ")
#: Incompatible, compatible and autoclear features, refcount order, header length.
_HEADER_V3: Final = struct.Struct(">QQQII")
_EXTENSION: Final = struct.Struct(">II")

_DIRTY: Final = 1 << 0
_CORRUPT: Final = 1 << 1
_DATA_FILE: Final = 1 << 2
_COMPRESSION: Final = 1 << 3
_EXTENDED_L2: Final = 1 << 4
_KNOWN_FEATURES: Final = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED_L2

_EXTENSION_END: Final = 0
_EXTENSION_DATA_FILE: Final = 0x44415441
_EXTENSION_ENCRYPTION: Final = 0x0537BE77


class Qcow2Error(KevelError):
    """The file is not a qcow2 image that Kevel takes."""


class Qcow2Header(msgspec.Struct, frozen=True, kw_only=True):
    """A qcow2 image that stands by itself."""

    version: int
    cluster_bytes: int
    #: Size of the disk that a guest sees.
    virtual_bytes: int


def parse_qcow2(head: bytes, file_bytes: int) -> Qcow2Header:
    """The header of a qcow2 file of `file_bytes`, of which `head` is the beginning (up to HEAD_BYTES_MAX).

    Raises Qcow2Error, for any bytes whatever, when the file is no qcow2 image, depends on another file, is encrypted,
    is damaged or unfinished, or is too large.
    """
    if len(head) < _HEADER_V2.size or head[:4] != _MAGIC:
        raise Qcow2Error("The file does not begin with a qcow2 header; was another disk format meant?")
    (_, version, backing_at, backing_bytes, cluster_bits, virtual_bytes, encryption, l1_entries, l1_at) = (
        _HEADER_V2.unpack_from(head)[:9]
    )
    if version not in (2, 3):
        raise Qcow2Error(f"The file is qcow2 version {version}; Kevel takes versions 2 and 3.")
    if backing_at or backing_bytes:
        raise Qcow2Error("The image has a backing file; flatten it first (qemu-img convert -O qcow2).")
    if encryption:
        raise Qcow2Error("The image is encrypted; Kevel takes unencrypted qcow2 images.")
    if not 9 <= cluster_bits <= 21:
        raise Qcow2Error("The qcow2 header is damaged: its cluster size is out of range.")
    if not 0 < virtual_bytes <= VIRTUAL_BYTES_MAX:
        raise Qcow2Error(f"The image's virtual size is {virtual_bytes} bytes; it has to be 1 to {VIRTUAL_BYTES_MAX}.")
    features, extensions_at = _read_features(head) if version == 3 else (0, _HEADER_V2.size)
    cluster_bytes = 1 << cluster_bits
    _check_extensions(head[:cluster_bytes], extensions_at)
    entry_bytes = 16 if features & _EXTENDED_L2 else 8
    if l1_entries < -(-virtual_bytes // (cluster_bytes // entry_bytes * cluster_bytes)):
        raise Qcow2Error("The qcow2 header is damaged: its table of clusters is smaller than its disk.")
    if l1_at < cluster_bytes or l1_at % cluster_bytes or l1_at + l1_entries * 8 > file_bytes:
        raise Qcow2Error("The qcow2 file is incomplete: its table of clusters lies outside it.")
    return Qcow2Header(version=version, cluster_bytes=cluster_bytes, virtual_bytes=virtual_bytes)


def _read_features(head: bytes) -> tuple[int, int]:
    """The incompatible features of a version 3 header, and where its extensions begin."""
    if len(head) < _HEADER_V2.size + _HEADER_V3.size:
        raise Qcow2Error("The qcow2 header is cut short.")
    incompatible, _, _, refcount_order, header_bytes = _HEADER_V3.unpack_from(head, _HEADER_V2.size)
    if incompatible & _DATA_FILE:
        raise Qcow2Error("The image keeps its data in another file; flatten it first (qemu-img convert -O qcow2).")
    if incompatible & (_DIRTY | _CORRUPT):
        raise Qcow2Error("The image was not closed properly; repair it first (qemu-img check -r all).")
    if incompatible & ~_KNOWN_FEATURES:
        raise Qcow2Error("The image uses a qcow2 feature that Kevel does not know.")
    if refcount_order > 6 or header_bytes < _HEADER_V2.size + _HEADER_V3.size or header_bytes % 8:
        raise Qcow2Error("The qcow2 header is damaged: its fields contradict each other.")
    return incompatible, header_bytes


def _check_extensions(head: bytes, at: int) -> None:
    """Refuse an image whose header extensions name another file or a key. Unknown extensions are harmless by design."""
    for _ in range(EXTENSIONS_MAX):
        if len(head) < at + _EXTENSION.size:
            raise Qcow2Error("The qcow2 header is damaged: its extensions do not end.")
        kind, length = _EXTENSION.unpack_from(head, at)
        if kind == _EXTENSION_END:
            return
        if kind == _EXTENSION_DATA_FILE:
            raise Qcow2Error("The image names another file for its data; flatten it first (qemu-img convert -O qcow2).")
        if kind == _EXTENSION_ENCRYPTION:
            raise Qcow2Error("The image is encrypted; Kevel takes unencrypted qcow2 images.")
        at += _EXTENSION.size + (length + 7) // 8 * 8
    raise Qcow2Error(f"The qcow2 header has more than {EXTENSIONS_MAX} extensions.")
