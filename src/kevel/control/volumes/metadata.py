"""What users write on their volumes: transactions on metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from kevel.domain.errors import NotFound, Outdated, OverLimit
from kevel.domain.model import Actor
from kevel.store.transactions import Tx
from kevel.store.volumes import change_volume, find_volume

#: Items of one volume's metadata.
METADATA_ITEMS_MAX: Final = 128


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raise OverLimit for too many items."""
    if len(metadata) > METADATA_ITEMS_MAX:
        raise OverLimit(f"A volume can have {METADATA_ITEMS_MAX} metadata items; these are {len(metadata)}.")


def put_metadata(
    tx: Tx,
    actor: Actor,
    volume_id: str,
    metadata: dict[str, str],
    *,
    replace: bool,
    tags: frozenset[str] | None,
    at: int,
) -> dict[str, str]:
    """Set items, or replace all; the items afterwards. Raises Outdated when the metadata has none of the tags."""
    volume = find_volume(tx, volume_id, actor)
    if tags is not None and metadata_tag(volume.metadata) not in tags:
        raise Outdated(f"The metadata of volume {volume_id} has changed since it was read; read it again.")
    merged = metadata if replace else volume.metadata | metadata
    check_metadata(merged)
    change_volume(tx, volume_id, metadata=merged, updated_at=at)
    return merged


def metadata_tag(metadata: Mapping[str, str]) -> str:
    """A tag that changes with the metadata."""
    return hashlib.sha256(msgspec.json.encode(metadata, order="sorted")).hexdigest()


def remove_metadata(tx: Tx, actor: Actor, volume_id: str, key: str, at: int) -> None:
    """Remove one item. Raises NotFound."""
    volume = find_volume(tx, volume_id, actor)
    if key not in volume.metadata:
        raise NotFound(f"Volume {volume_id} has no metadata with key {key[:255]}.")
    left = {name: value for name, value in volume.metadata.items() if name != key}
    change_volume(tx, volume_id, metadata=left, updated_at=at)
