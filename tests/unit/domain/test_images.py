"""What users may set of an image."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kevel.domain.errors import Forbidden, Invalid, OverLimit
from kevel.domain.images import (
    ATTRIBUTES,
    PROPERTIES_MAX,
    READ_ONLY,
    ContainerFormat,
    DiskFormat,
    Image,
    ImageStatus,
    Visibility,
    check_formats,
    may_change,
    may_see,
    remove_property,
    set_attribute,
)
from kevel.domain.model import Actor

OWNER = Actor(user_id="u1", project_id="p1", request_id="req-1")
OTHER = Actor(user_id="u2", project_id="p2", request_id="req-2")
ADMIN = Actor(user_id="u3", project_id="p3", request_id="req-3", is_admin=True)

IMAGE = Image(
    id="8d0e0a2e-6a7b-4f0e-9f6c-1d1f0a5f0001",
    name="debian",
    project_id="p1",
    status=ImageStatus.QUEUED,
    visibility=Visibility.SHARED,
    disk_format=DiskFormat.RAW,
    container_format=ContainerFormat.BARE,
    size_bytes=None,
    virtual_bytes=None,
    md5=None,
    sha512=None,
    min_disk_gib=0,
    min_ram_mib=0,
    protected=False,
    hidden=False,
    properties={},
    tags=(),
    file=None,
    created_at=0,
    updated_at=0,
)


def with_changes(**changes: Any) -> Image:
    return msgspec.structs.replace(IMAGE, **changes)


@pytest.mark.parametrize(
    ("visibility", "others_see"),
    [("public", True), ("community", True), ("private", False), ("shared", False)],
)
def test_who_sees_an_image_follows_from_its_visibility(visibility: str, others_see: bool) -> None:
    image = with_changes(visibility=Visibility(visibility))
    assert may_see(OTHER, image) is others_see
    assert may_see(OWNER, image)
    assert may_see(ADMIN, image)
    assert not may_change(OTHER, image)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "x" * 256),
        ("name", 7),
        ("visibility", "hidden"),
        ("visibility", None),
        ("disk_format", "vmdk"),
        ("disk_format", "iso"),
        ("container_format", "ovf"),
        ("min_disk", -1),
        ("min_disk", "1"),
        ("min_disk", True),
        ("min_ram", 2**31),
        ("protected", "true"),
        ("os_hidden", None),
        ("tags", "one"),
        ("tags", [""]),
        ("tags", ["x" * 256]),
        ("owner", None),
        ("hw_disk_bus", 7),
        ("hw_disk_bus", None),
        ("hw_disk_bus", "x" * 4097),
        ("", "x"),
        ("x" * 256, "x"),
    ],
)
def test_a_bad_value_is_refused(name: str, value: object) -> None:
    with pytest.raises(Invalid):
        set_attribute(OWNER, IMAGE, name, value)


@pytest.mark.parametrize("name", sorted(READ_ONLY))
def test_what_kevel_sets_nobody_else_sets_or_removes(name: str) -> None:
    with pytest.raises(Forbidden):
        set_attribute(ADMIN, IMAGE, name, "x")
    with pytest.raises(Forbidden):
        remove_property(IMAGE, name)


@pytest.mark.parametrize("name", sorted(ATTRIBUTES))
def test_an_attribute_cannot_be_removed(name: str) -> None:
    with pytest.raises(Forbidden):
        remove_property(IMAGE, name)


def test_only_an_admin_makes_an_image_public_or_gives_it_away() -> None:
    for name, value in (("visibility", "public"), ("owner", "p9")):
        with pytest.raises(Forbidden):
            set_attribute(OWNER, IMAGE, name, value)
        assert set_attribute(ADMIN, IMAGE, name, value) != IMAGE
    assert set_attribute(OWNER, IMAGE, "owner", "p1") == IMAGE
    public = with_changes(visibility=Visibility.PUBLIC)
    assert set_attribute(OWNER, public, "visibility", "public") == public


def test_a_format_is_fixed_once_bytes_come() -> None:
    saving = with_changes(status=ImageStatus.SAVING, file="images/x")
    assert set_attribute(OWNER, IMAGE, "disk_format", "qcow2").disk_format is DiskFormat.QCOW2
    for name, value in (("disk_format", "qcow2"), ("disk_format", None), ("container_format", "ami")):
        with pytest.raises(Forbidden):
            set_attribute(OWNER, saving, name, value)
    assert set_attribute(OWNER, saving, "disk_format", "raw") == saving
    assert set_attribute(OWNER, saving, "container_format", "bare") == saving


def test_properties_and_tags_are_bounded() -> None:
    image = IMAGE
    for number in range(PROPERTIES_MAX):
        image = set_attribute(OWNER, image, f"p{number}", "x")
    assert set_attribute(OWNER, image, "p0", "y").properties["p0"] == "y"
    with pytest.raises(OverLimit):
        set_attribute(OWNER, image, "one_more", "x")
    with pytest.raises(OverLimit):
        set_attribute(OWNER, IMAGE, "tags", [str(number) for number in range(129)])


def test_a_tag_is_kept_once() -> None:
    assert set_attribute(OWNER, IMAGE, "tags", ["b", "a", "b"]).tags == ("a", "b")


@pytest.mark.parametrize(
    ("disk", "container", "fits"),
    [
        ("raw", "bare", True),
        ("qcow2", "bare", True),
        ("aki", "aki", True),
        ("ari", "ari", True),
        ("ami", "ami", True),
        ("aki", "bare", False),
        ("raw", "aki", False),
        ("ami", "ari", False),
    ],
)
def test_formats_have_to_fit(disk: str, container: str, fits: bool) -> None:
    image = with_changes(disk_format=DiskFormat(disk), container_format=ContainerFormat(container))
    if fits:
        check_formats(image)
    else:
        with pytest.raises(Invalid):
            check_formats(image)
    check_formats(msgspec.structs.replace(image, container_format=None))
