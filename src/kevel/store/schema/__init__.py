"""The tables. Each module holds one area; importing this package gathers them all in `metadata`."""

from kevel.store.schema import attachments, identity, images, servers, volumes
from kevel.store.schema.base import metadata

__all__ = ["attachments", "identity", "images", "metadata", "servers", "volumes"]
