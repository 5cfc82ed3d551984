"""The tables. Each module holds one area; importing this package gathers them all in `metadata`."""

from kevel.store.schema import (
    attachments,
    backups,
    compute,
    copies,
    findings,
    groups,
    identity,
    images,
    messages,
    quotas,
    repeats,
    servers,
    swaps,
    transfers,
    volume_services,
    volume_types,
    volumes,
)
from kevel.store.schema.base import metadata

__all__ = [
    "attachments",
    "backups",
    "compute",
    "copies",
    "findings",
    "groups",
    "identity",
    "images",
    "messages",
    "metadata",
    "quotas",
    "repeats",
    "servers",
    "swaps",
    "transfers",
    "volume_services",
    "volume_types",
    "volumes",
]
