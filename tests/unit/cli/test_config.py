"""The configuration file and addresses: what is wrong is said, whatever it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from kevel.cli.config import read_config, split_listen
from kevel.domain.errors import SetupError


@pytest.mark.parametrize(
    "text",
    ["data = " + "[" * 3000, "data = " + "1" * 5000, "data = 1979-13-01", "data = 'x"],
    ids=lambda text: text[:20],
)
def test_a_configuration_file_that_cannot_be_read_is_named_in_the_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kevel.toml"
    path.write_text(text)
    with pytest.raises(SetupError, match=r"kevel\.toml is wrong") as refused:
        read_config(path)
    assert len(refused.value.message) < 800


@pytest.mark.parametrize("port", ["\u00b2", "1" * 5000, "65536", "", "-1"], ids=lambda port: port[:8])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(SetupError, match="is no address to listen on"):
        split_listen(f"127.0.0.1:{port}")
