"""The types of the image API's answers. Custom properties stand beside an image's attributes, as texts."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from kevel.api.answers import Answer, Link


class Image(msgspec.Struct, kw_only=True):
    """An image."""

    id: str
    name: str | None
    status: str
    visibility: str
    owner: str
    disk_format: str | None
    container_format: str | None
    size: int | None
    virtual_size: int | None
    checksum: str | None
    os_hash_algo: str | None
    os_hash_value: str | None
    min_disk: int
    min_ram: int
    protected: bool
    os_hidden: bool
    tags: list[str]
    created_at: str
    updated_at: str
    self: str
    file: str
    schema: str


class Images(Answer, kw_only=True):
    """A page of images."""

    images: list[Image]
    first: str
    schema: str
    next: str | UnsetType = UNSET


class Version(Answer):
    """A version of the API."""

    id: str
    status: str
    links: list[Link]


class Versions(Answer):
    """The versions of the API."""

    versions: list[Version]


class ImageSchema(msgspec.Struct):
    """A JSON schema in Glance's form."""

    name: str
    properties: dict[str, Any]
    links: list[Link]
