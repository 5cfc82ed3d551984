"""Offers of volumes to other projects."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Table, Text, UniqueConstraint

from kevel.store.schema.base import metadata

#: A transfer is open while its volume's row names it (`volumes.transfer_id`), so a volume has one at most.
transfers = Table(
    "transfers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("volume_id", Text, nullable=False),
    #: Who offers.
    Column("project_id", Text, nullable=False),
    Column("name", Text),
    Column("no_snapshots", Boolean, nullable=False),
    #: The key is told once and not kept.
    Column("salt", Text, nullable=False),
    Column("key_hash", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("id", "volume_id"),
)
