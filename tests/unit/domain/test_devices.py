from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kevel.domain.devices import (
    DEVICE_CHARACTERS_MAX,
    UNIT_FIRST,
    choose_device,
    choose_unit,
    device_prefix,
    disk_letters,
    volume_bus,
)
from kevel.domain.errors import Conflict, Invalid

letters = st.text(string.ascii_lowercase, min_size=1, max_size=4)


def number_of(name: str) -> int:
    """The inverse of disk_letters, written down plainly."""
    number = 0
    for letter in name:
        number = number * 26 + string.ascii_lowercase.index(letter) + 1
    return number - 1


@pytest.mark.parametrize(("index", "name"), [(0, "a"), (25, "z"), (26, "aa"), (51, "az"), (52, "ba"), (701, "zz")])
def test_disk_letters_count_like_spreadsheet_columns(index: int, name: str) -> None:
    assert disk_letters(index) == name


@given(st.integers(0, 10**6))
def test_disk_letters_are_different_for_each_number(index: int) -> None:
    assert number_of(disk_letters(index)) == index


@pytest.mark.parametrize(
    ("image", "bus", "prefix"),
    [
        ({}, "scsi", "sd"),
        ({"properties": None}, "scsi", "sd"),
        ({"properties": {"hw_disk_bus": "virtio"}}, "virtio", "vd"),
        ({"properties": {"hw_disk_bus": "ide"}}, "scsi", "sd"),
        ({"properties": {"hw_disk_bus": "sata"}}, "sata", "sd"),
        ({"properties": {"hw_disk_bus": "sata"}, "disk_bus": "virtio"}, "virtio", "vd"),
        ({"disk_bus": None}, "scsi", "sd"),
    ],
)
def test_the_image_chooses_the_bus_of_a_servers_volumes(image: dict[str, object], bus: str, prefix: str) -> None:
    assert (volume_bus(image), device_prefix(image)) == (bus, prefix)


def choose(requested: str | None, *taken: str, prefix: str = "sd") -> str:
    return choose_device(requested, prefix=prefix, taken=taken, root_device=f"/dev/{prefix}a")


@pytest.mark.parametrize(
    ("taken", "device"),
    [
        ((), "/dev/sdb"),
        (("/dev/sdb",), "/dev/sdc"),
        (("/dev/sdc",), "/dev/sdb"),
        (("/dev/vdb",), "/dev/sdb"),
        (tuple(f"/dev/sd{disk_letters(at)}" for at in range(1, 26)), "/dev/sdaa"),
    ],
)
def test_without_a_wish_the_first_free_name_is_taken(taken: tuple[str, ...], device: str) -> None:
    assert choose(None, *taken) == device


@given(st.sets(letters.map(lambda name: f"/dev/sd{name}"), max_size=40))
def test_a_chosen_name_is_never_taken_nor_the_root_disks(taken: set[str]) -> None:
    device = choose(None, *taken)
    assert device not in taken | {"/dev/sda"}
    assert choose(device, *taken) == device, "a name that Kevel chooses may also be asked for"


@pytest.mark.parametrize("device", ["/dev/sdb", "/dev/vdb", "/dev/xvdb", "/dev/hdc", "/dev/sdb1"])
def test_a_wish_of_novas_shape_is_kept(device: str) -> None:
    assert choose(device) == device


@pytest.mark.parametrize(
    "device",
    [
        "",
        "sdb",
        "/dev/",
        "/dev/SDB",
        "/dev/sdb/",
        "/dev/../sdb",
        "/dev/sdb\n",
        "/dev/sd b",
        " /dev/sdb",
        "/dev/1",
        "/sdb",
    ],
)
def test_an_impossible_name_is_refused_with_an_example_of_a_possible_one(device: str) -> None:
    with pytest.raises(Invalid, match="/dev/vdb"):
        choose(device)


@pytest.mark.parametrize("device", ["/dev/sda", "/dev/sdc"])
def test_a_name_in_use_is_refused_and_named(device: str) -> None:
    with pytest.raises(Conflict, match=device):
        choose(device, "/dev/sdc")


@given(st.sets(st.integers(UNIT_FIRST, 30)), st.integers(UNIT_FIRST, 30))
def test_the_lowest_free_unit_is_taken_and_none_when_the_bus_is_full(taken: set[int], units_max: int) -> None:
    unit = choose_unit(taken, units_max=units_max)
    free = set(range(UNIT_FIRST, units_max + 1)) - taken
    assert unit == (min(free) if free else None)
    assert unit != 0, "unit 0 is the root disk's"


def test_a_device_name_longer_than_nova_stores_is_refused_and_not_repeated() -> None:
    fits = "/dev/" + "a" * (DEVICE_CHARACTERS_MAX - 5)
    assert choose_device(fits, prefix="vd", taken=(), root_device="/dev/vda") == fits
    with pytest.raises(Invalid) as refused:
        choose_device(fits + "a", prefix="vd", taken=(), root_device="/dev/vda")
    assert len(refused.value.message) < 200
