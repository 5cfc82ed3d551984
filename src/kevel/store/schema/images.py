"""Images: the records; their bytes lie in files of the data directory."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Integer, Table, Text

from kevel.store.schema.base import Json, metadata

images = Table(
    "images",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text),
    Column("project_id", Text, nullable=False, index=True),
    Column("status", Text, nullable=False),
    Column("visibility", Text, nullable=False),
    Column("disk_format", Text),
    Column("container_format", Text),
    Column("size", BigInteger),
    Column("virtual_size", BigInteger),
    Column("checksum", Text),
    Column("hash_value", Text),
    Column("min_disk_gib", Integer, nullable=False),
    Column("min_ram_mib", Integer, nullable=False),
    Column("protected", Boolean, nullable=False),
    Column("properties", Json(dict[str, str]), nullable=False),
    Column("tags", Json(list[str]), nullable=False),
    #: File of the bytes, relative to the data directory.
    Column("file", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    CheckConstraint("status IN ('queued', 'saving', 'active', 'killed')", name="status"),
    CheckConstraint("status <> 'active' OR file IS NOT NULL", name="active_has_bytes"),
)
