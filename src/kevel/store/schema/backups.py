"""Backups of volumes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from kevel.domain.model import BackedVolume, Reason
from kevel.store.schema.base import Json, metadata

_LIVE = text("live = 1")

backups = Table(
    "backups",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    #: What was backed up: it may be gone, or (of an imported record) never have been here.
    Column("volume_id", Text, nullable=False),
    Column("snapshot_id", Text),
    Column("parent_id", Text),
    Column("name", Text),
    Column("description", Text),
    Column("container", Text),
    Column("availability_zone", Text, nullable=False),
    Column("metadata", Json(dict[str, str]), nullable=False),
    Column("size_gib", Integer, nullable=False),
    Column("chain", Json(list[str]), nullable=False),
    Column("checksum", Text),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("chunk_count", Integer, nullable=False),
    Column("volume", Json(BackedVolume), nullable=False),
    Column("data_at", BigInteger, nullable=False),
    Column("made", Boolean, nullable=False),
    Column("fault", Json(Reason | None)),
    Column("mask", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
    Column("deleted_at", BigInteger),
    #: The directory that holds its files.
    Column("files_id", Text, nullable=False),
    #: 1 until the backup is a tombstone.
    Column("live", Integer),
    CheckConstraint("size_gib > 0", name="size"),
    CheckConstraint("NOT made OR checksum IS NOT NULL", name="checked"),
    CheckConstraint("(live IS NULL) = (deleted_at IS NOT NULL) AND (live IS NULL OR live = 1)", name="live"),
    UniqueConstraint("id", "live"),
    #: A backup outlives those that build on it.
    ForeignKeyConstraint(["parent_id", "live"], ["backups.id", "backups.live"], name="fk_backups_parent"),
    Index("ix_backups_project_id_created_at", "project_id", "created_at", sqlite_where=_LIVE, postgresql_where=_LIVE),
    Index("ix_backups_parent_id", "parent_id", sqlite_where=_LIVE, postgresql_where=_LIVE),
    Index("ix_backups_volume_id", "volume_id", sqlite_where=_LIVE, postgresql_where=_LIVE),
    Index("ix_backups_files_id", "files_id", sqlite_where=_LIVE, postgresql_where=_LIVE),
)
