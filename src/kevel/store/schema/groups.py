"""Groups of volumes, their types, and their snapshots."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Table, Text, text

from kevel.store.schema.base import Json, metadata

group_types = Table(
    "group_types",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("is_public", Boolean, nullable=False),
    Column("group_specs", Json(dict[str, str]), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
    #: A deleted type stays for the groups that were of it.
    Column("deleted_at", BigInteger),
    Index(
        "one_group_type_of_that_name",
        "name",
        unique=True,
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
)

#: A group is there until it is to be deleted and none of its volumes is there any more.
groups = Table(
    "groups",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("name", Text),
    Column("description", Text),
    Column("group_type_id", Text, ForeignKey("group_types.id"), nullable=False),
    Column("volume_type_ids", Json(list[str]), nullable=False),
    Column("availability_zone", Text, nullable=False),
    #: What it was made from, for its users to see: either may be gone.
    Column("source_group_id", Text),
    Column("group_snapshot_id", Text),
    #: A status that an admin put over the computed one.
    Column("mask", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
    Column("deleting_at", BigInteger),
    Index("ix_groups_project_id_created_at", "project_id", "created_at"),
)

#: Like a group: there until it is to be deleted and none of its snapshots is there any more.
group_snapshots = Table(
    "group_snapshots",
    metadata,
    Column("id", Text, primary_key=True),
    Column("group_id", Text, ForeignKey("groups.id"), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("name", Text),
    Column("description", Text),
    Column("mask", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
    Column("deleting_at", BigInteger),
    Index("ix_group_snapshots_project_id_created_at", "project_id", "created_at"),
    Index("ix_group_snapshots_group_id", "group_id"),
)
