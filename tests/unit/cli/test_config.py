"""The configuration file and addresses: what is wrong is said, whatever it is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kevel.cli.config import Config, PoolConfig, choose_directories, read_config, split_listen
from kevel.cli.nbd_pools import check_nbd_pools, has_nbd_pools
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


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e9", "'x'"])
def test_a_time_of_no_length_or_without_an_end_is_refused_by_its_name(tmp_path: Path, value: str) -> None:
    path = tmp_path / "kevel.toml"
    path.write_text(f"[limits]\nsweep_every_s = {value}")
    with pytest.raises(SetupError, match=r"limits\.sweep_every_s"):
        read_config(path)
    path.write_text("[limits]\nsweep_every_s = 3\npage_rows_max = 7")
    assert read_config(path).limits.page_rows_max == 7


@pytest.mark.parametrize(
    ("line", "place"),
    [("volumes = -2", r"quotas\.volumes"), ("volumes = 'many'", r"quotas\.volumes"), ("pigs = 1", "pigs")],
)
def test_a_quota_is_a_number_or_none(tmp_path: Path, line: str, place: str) -> None:
    path = tmp_path / "kevel.toml"
    path.write_text(f"[quotas]\n{line}")
    with pytest.raises(SetupError, match=place):
        read_config(path)
    path.write_text("[quotas]\nvolumes = 0\ngroups = 3")
    quotas = read_config(path).quotas
    assert (quotas.volumes, quotas.groups, quotas.gigabytes) == (0, 3, -1)


@pytest.mark.parametrize(
    "text",
    [
        '[[pools]]\nname = "fast"',
        '[[pools]]\nname = "a@b"\ndirectory = "/x"',
        '[[pools]]\nname = ""\ndirectory = "/x"',
        '[[pools]]\nname = "fast"\ndirectory = ""',
        '[[pools]]\nname = "fast"\ndirectory = "/x"\ncolour = "red"',
    ],
)
def test_a_pool_has_a_name_and_a_directory(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kevel.toml"
    path.write_text(text)
    with pytest.raises(SetupError, match="is wrong"):
        read_config(path)


def test_pools_share_neither_a_name_nor_a_directory(tmp_path: Path) -> None:
    default, fast = tmp_path / "volumes", PoolConfig(name="fast", directory=str(tmp_path / "fast"))
    assert choose_directories((fast,), default) == {"fast": tmp_path / "fast"}
    for other in (
        PoolConfig(name="fast", directory=str(tmp_path / "more")),
        PoolConfig(name="directory", directory=str(tmp_path / "more")),
        PoolConfig(name="more", directory=str(tmp_path / "fast")),
        PoolConfig(name="more", directory=str(tmp_path / "fast" / "inside")),
        PoolConfig(name="more", directory=str(default)),
        PoolConfig(name="more", directory=str(tmp_path)),
    ):
        with pytest.raises(SetupError, match=r"storage pools"):
            choose_directories((fast, other), default)


def test_a_pool_that_is_exported_has_an_address_of_its_own_that_hosts_can_connect_to(tmp_path: Path) -> None:
    def config(*listens: str, **others: str) -> Config:
        pools = tuple(
            PoolConfig(name=f"p{number}", directory=str(tmp_path / str(number)), protocol="nbd", listen=listen)
            for number, listen in enumerate(listens)
        )
        return msgspec.structs.replace(Config(pools=pools), **others)

    for wrong, words in (
        (config("0.0.0.0:10809"), "no address for the exports"),
        (config("127.0.0.1:0"), "no address for the exports"),
        (config("127.0.0.1"), "no address to listen on"),
        (config("127.0.0.1:10809", "127.0.0.2:10809"), "on the same port"),
        (config("127.0.0.1:10809", libvirt_uri="qemu:///system"), "in-process driver"),
    ):
        with pytest.raises(SetupError, match=words):
            check_nbd_pools(wrong)
    check_nbd_pools(config("127.0.0.1:10809", "127.0.0.1:10819"))
    assert not has_nbd_pools(Config())
