"""The qcow2 header parser: what it takes, what it refuses, and that no bytes make it fall over."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kevel.domain.qcow2 import EXTENSIONS_MAX, HEAD_BYTES_MAX, VIRTUAL_BYTES_MAX, Qcow2Error, parse_qcow2

GIB = 1024**3
FILE_BYTES = 1024**2
FEATURE_NAMES = struct.pack(">II", 0x6803F857, 48) + bytes(48)
END = bytes(8)


def make_head(extensions: bytes = FEATURE_NAMES + END, **changes: Any) -> bytes:
    """A sound version 3 header of a disk of 1 GiB, with some fields changed."""
    fields: dict[str, Any] = {
        "magic": b"QFI\xfb",
        "version": 3,
        "backing_at": 0,
        "backing_bytes": 0,
        "cluster_bits": 16,
        "virtual_bytes": GIB,
        "encryption": 0,
        "l1_entries": 2,
        "l1_at": 3 * 65536,
        "refcounts_at": 65536,
        "refcount_clusters": 1,
        "snapshots": 0,
        "snapshots_at": 0,
        "incompatible": 0,
        "compatible": 0,
        "autoclear": 0,
        "refcount_order": 4,
        "header_bytes": 104,
    }
    assert changes.keys() <= fields.keys()
    fields |= changes
    head = struct.pack(">4sIQIIQIIQQIIQQQQII", *fields.values())
    return (head[: 72 if fields["version"] == 2 else 104] + extensions).ljust(65536, b"\0")


def test_a_sound_image_gives_its_virtual_size() -> None:
    header = parse_qcow2(make_head(), FILE_BYTES)
    assert (header.version, header.cluster_bytes, header.virtual_bytes) == (3, 65536, GIB)


def test_version_2_is_taken() -> None:
    assert parse_qcow2(make_head(extensions=END, version=2), FILE_BYTES).version == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"magic": b"KDMV"}, "does not begin"),
        ({"version": 1}, "version 1"),
        ({"version": 4}, "version 4"),
        ({"backing_at": 512}, "backing file"),
        ({"backing_bytes": 9}, "backing file"),
        ({"encryption": 1}, "encrypted"),
        ({"encryption": 2}, "encrypted"),
        ({"cluster_bits": 8}, "cluster size"),
        ({"cluster_bits": 22}, "cluster size"),
        ({"cluster_bits": 2**32 - 1}, "cluster size"),
        ({"virtual_bytes": 0}, "virtual size"),
        ({"virtual_bytes": VIRTUAL_BYTES_MAX + 1}, "virtual size"),
        ({"virtual_bytes": 2**64 - 1}, "virtual size"),
        ({"incompatible": 1}, "closed properly"),
        ({"incompatible": 2}, "closed properly"),
        ({"incompatible": 4}, "another file"),
        ({"incompatible": 1 << 5}, "does not know"),
        ({"incompatible": 1 << 63}, "does not know"),
        ({"refcount_order": 7}, "damaged"),
        ({"header_bytes": 72}, "damaged"),
        ({"header_bytes": 105}, "damaged"),
        ({"header_bytes": 2**32 - 8}, "do not end"),
        ({"l1_entries": 1}, "smaller than its disk"),
        ({"l1_at": 0}, "incomplete"),
        ({"l1_at": 65537}, "incomplete"),
        ({"l1_at": 2**63}, "incomplete"),
        ({"l1_entries": 2**32 - 1}, "incomplete"),
    ],
)
def test_an_unsound_header_is_refused_with_its_reason(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Qcow2Error, match=words):
        parse_qcow2(make_head(**changes), FILE_BYTES)


def test_harmless_features_are_taken() -> None:
    # Compression type and extended L2 entries; the latter need a larger table.
    assert parse_qcow2(make_head(incompatible=0b11000, l1_entries=4), FILE_BYTES).virtual_bytes == GIB
    with pytest.raises(Qcow2Error, match="smaller than its disk"):
        parse_qcow2(make_head(incompatible=0b10000, l1_entries=3), FILE_BYTES)


@pytest.mark.parametrize(("kind", "words"), [(0x44415441, "another file"), (0x0537BE77, "encrypted")])
def test_an_extension_that_names_a_file_or_a_key_is_refused(kind: int, words: str) -> None:
    extension = struct.pack(">II", kind, 11) + b"/etc/passwd".ljust(16, b"\0")
    with pytest.raises(Qcow2Error, match=words):
        parse_qcow2(make_head(extensions=FEATURE_NAMES + extension + END), FILE_BYTES)


def test_an_extension_is_found_behind_one_of_odd_length() -> None:
    odd = struct.pack(">II", 0xE2792ACA, 3) + b"raw".ljust(8, b"\0")
    named = struct.pack(">II", 0x44415441, 1) + bytes(8)
    with pytest.raises(Qcow2Error, match="another file"):
        parse_qcow2(make_head(extensions=odd + named + END), FILE_BYTES)


def test_endless_extensions_are_refused() -> None:
    with pytest.raises(Qcow2Error, match=f"more than {EXTENSIONS_MAX}"):
        parse_qcow2(make_head(extensions=struct.pack(">II", 1, 0) * (EXTENSIONS_MAX + 1) + END), FILE_BYTES)


def test_an_extension_longer_than_the_header_is_refused() -> None:
    with pytest.raises(Qcow2Error, match="do not end"):
        parse_qcow2(make_head(extensions=struct.pack(">II", 1, 2**32 - 1)), FILE_BYTES)


def test_a_header_that_is_cut_short_is_refused() -> None:
    head = make_head()
    for length in range(104):
        with pytest.raises(Qcow2Error):
            parse_qcow2(head[:length], FILE_BYTES)


def test_a_file_that_was_cut_off_before_its_table_is_refused() -> None:
    with pytest.raises(Qcow2Error, match="incomplete"):
        parse_qcow2(make_head(), 3 * 65536 + 15)


@given(head=st.binary(max_size=512), file_bytes=st.integers(0, 2**63))
@example(head=b"", file_bytes=0)
@example(head=b"QFI\xfb" + bytes(HEAD_BYTES_MAX - 4), file_bytes=HEAD_BYTES_MAX)
def test_any_bytes_parse_or_raise_the_one_error(head: bytes, file_bytes: int) -> None:
    for begin in (b"", b"QFI\xfb\0\0\0\x02", b"QFI\xfb\0\0\0\x03"):
        try:
            parse_qcow2(begin + head, file_bytes)
        except Qcow2Error:
            continue


@given(
    damage=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=12),
    version=st.sampled_from([2, 3]),
    file_bytes=st.integers(0, 2 * FILE_BYTES),
)
def test_what_parses_stands_by_itself(damage: list[tuple[int, int]], version: int, file_bytes: int) -> None:
    head = bytearray(make_head(extensions=END, version=version))
    for at, value in damage:
        head[at] = value
    try:
        header = parse_qcow2(bytes(head), file_bytes)
    except Qcow2Error:
        return
    assert bytes(head[8:20]) == bytes(12), "no backing file"
    assert 0 < header.virtual_bytes <= VIRTUAL_BYTES_MAX
    assert bytes(head[32:36]) == bytes(4), "no encryption"
    assert header.version == 2 or not head[79] & 0b00100111, "not dirty, corrupt, external or unknown"
