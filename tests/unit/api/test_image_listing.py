"""Filters, order and pages of the image list."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kevel.api.image.listing import select_page
from kevel.domain.errors import Invalid
from kevel.domain.images import ContainerFormat, DiskFormat, Image, ImageStatus, Visibility
from kevel.domain.model import Actor

OWNER = Actor(user_id="u1", project_id="p1", request_id="req-1")
SECOND_US = 1_000_000


def make_image(number: int, **changes: Any) -> Image:
    image = Image(
        id=f"{number:08x}-0000-4000-8000-000000000000",
        name=f"image-{number}",
        project_id="p1",
        status=ImageStatus.ACTIVE,
        visibility=Visibility.SHARED,
        disk_format=DiskFormat.RAW,
        container_format=ContainerFormat.BARE,
        size_bytes=number * 10,
        virtual_bytes=number * 10,
        md5="m",
        sha512="s",
        min_disk_gib=0,
        min_ram_mib=0,
        protected=False,
        hidden=False,
        properties={},
        tags=(),
        file=f"images/{number}",
        created_at=number * SECOND_US,
        updated_at=number * SECOND_US,
    )
    return msgspec.structs.replace(image, **changes)


IMAGES = [
    make_image(1, tags=("a", "b"), properties={"os_distro": "debian"}),
    make_image(2, tags=("a",), disk_format=DiskFormat.QCOW2, protected=True),
    make_image(3, name="with, comma", visibility=Visibility.PUBLIC, project_id="p2", min_ram_mib=96),
    make_image(4, visibility=Visibility.COMMUNITY, project_id="p2"),
    make_image(5, visibility=Visibility.COMMUNITY),
    make_image(6, hidden=True),
    make_image(7, status=ImageStatus.QUEUED, size_bytes=None, disk_format=None, name=None),
]


def numbers(*items: tuple[str, str]) -> list[int]:
    return [int(image.id[:8], 16) for image in select_page(IMAGES, OWNER, items).images]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [7, 5, 3, 2, 1]),
        ("visibility=all", [7, 5, 4, 3, 2, 1]),
        ("visibility=public", [3]),
        ("visibility=community", [5, 4]),
        ("os_hidden=true", [6]),
        ("owner=p2", [3]),
        ("name=image-1", [1]),
        ("name=nobody", []),
        ("name=in:image-1,image-2", [2, 1]),
        ('name=in:"with, comma",image-2', [3, 2]),
        ("id=00000002-0000-4000-8000-000000000000", [2]),
        ("status=queued", [7]),
        ("disk_format=in:qcow2,aki", [2]),
        ("container_format=bare&disk_format=raw", [5, 3, 1]),
        ("tag=a", [2, 1]),
        ("tag=a&tag=b", [1]),
        ("protected=true", [2]),
        ("size_min=20&size_max=30", [3, 2]),
        ("min_ram=96", [3]),
        ("os_distro=debian", [1]),
        ("no_such_property=x", []),
        ("created_at=gt:1970-01-01T00:00:03Z", [7, 5]),
        ("created_at=lte:1970-01-01T00:00:02", [2, 1]),
        ("created_at=1970-01-01T00:00:05Z", [5]),
        ("member_status=all", [7, 5, 3, 2, 1]),
        ("sort=size:asc", [7, 1, 2, 3, 5]),
        ("sort=disk_format:asc,size:desc", [7, 2, 5, 3, 1]),
        ("sort_key=name&sort_dir=asc", [7, 1, 2, 5, 3]),
        ("sort_key=status&sort_key=id", [7, 5, 3, 2, 1]),
        ("limit=2", [7, 5]),
        ("limit=0", []),
        ("limit=2&marker=00000005-0000-4000-8000-000000000000", [3, 2]),
    ],
)
def test_a_query_finds(query: str, found: list[int]) -> None:
    assert numbers(*parse_qsl(query, keep_blank_values=True)) == found


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=x",
        f"limit={10**30}",
        "limit=٣",
        "marker=nobody",
        "marker=00000004-0000-4000-8000-000000000000",
        "sort_key=project_id",
        "sort_dir=up",
        "sort=name&sort_key=name",
        "sort_key=name&sort_dir=asc&sort_dir=asc",
        "visibility=hidden",
        "protected=maybe",
        "size_min=-5",
        "created_at=yesterday",
        "created_at=gt:",
        'name=in:"unclosed',
        "&".join(["tag=a"] * 65),
    ],
)
def test_a_bad_query_is_refused(query: str) -> None:
    with pytest.raises(Invalid):
        numbers(*parse_qsl(query, keep_blank_values=True))


@given(limit=st.integers(1, 8), key=st.sampled_from(["name", "status", "size", "created_at", "id"]), up=st.booleans())
def test_pages_together_are_the_whole_list(limit: int, key: str, up: bool) -> None:
    order = [("sort_key", key), ("sort_dir", "asc" if up else "desc")]
    whole = numbers(*order)
    items = [*order, ("limit", str(limit))]
    seen: list[int] = []
    for _ in itertools.count():
        page = select_page(IMAGES, OWNER, items)
        seen += [int(image.id[:8], 16) for image in page.images]
        if page.next is None:
            break
        items = parse_qsl(urlsplit(page.next).query)
    assert seen == whole
