"""How exports are written down as paths of disks."""

from __future__ import annotations

import pytest

from kevel.domain.nbd import NbdSource, read_nbd_source


@pytest.mark.parametrize("address", ["127.0.0.1", "fd00::1", "storage-1.example.org"])
def test_an_exports_uri_is_read_back_as_the_same_export(address: str) -> None:
    source = NbdSource(address=address, port=10809, name="a1b2c3", server_name="storage.kevel.invalid")
    assert read_nbd_source(source.uri) == source


@pytest.mark.parametrize("path", ["/volumes/volume-1", "/sim/nbds://x", "nbd://plain:10809/name", ""])
def test_the_path_of_a_file_is_no_export(path: str) -> None:
    assert read_nbd_source(path) is None
