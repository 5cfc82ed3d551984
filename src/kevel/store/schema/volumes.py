"""Volume types, volumes and the operations on them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from kevel.domain.model import OperationKind, Reason
from kevel.store.schema.base import Json, Word, metadata

volume_types = Table(
    "volume_types",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("is_public", Boolean, nullable=False),
    Column("extra_specs", Json(dict[str, str]), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
    #: A deleted type stays for the tombstones of its volumes.
    Column("deleted_at", BigInteger),
    Index(
        "one_type_of_that_name",
        "name",
        unique=True,
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
)

volumes = Table(
    "volumes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("size_gib", Integer, nullable=False),
    Column("volume_type_id", Text, ForeignKey("volume_types.id"), nullable=False),
    Column("backend", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("availability_zone", Text, nullable=False),
    Column("metadata", Json(dict[str, str]), nullable=False),
    Column("bootable", Boolean, nullable=False),
    Column("readonly", Boolean, nullable=False),
    Column("readonly_asked", Boolean, nullable=False, default=False),
    Column("multiattach", Boolean, nullable=False),
    Column("made", Boolean, nullable=False),
    Column("fault", Json(Reason | None)),
    Column("mask", Text),
    Column("generation", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
    Column("deleted_at", BigInteger),
    #: 1 until the volume is a tombstone. Claims refer to it, so a claimed volume cannot become one.
    Column("live", Integer),
    CheckConstraint("size_gib > 0", name="size"),
    CheckConstraint("format IN ('raw', 'qcow2')", name="format"),
    #: Two guests that write one qcow2 file destroy it.
    CheckConstraint("NOT multiattach OR format = 'raw'", name="shared_is_raw"),
    CheckConstraint("(live IS NULL) = (deleted_at IS NOT NULL) AND (live IS NULL OR live = 1)", name="live"),
    UniqueConstraint("id", "live", "multiattach"),
    #: Lists show what is live, newest first; the pool's provisioned size is a sum over it.
    Index(
        "ix_volumes_project_id_created_at",
        "project_id",
        "created_at",
        sqlite_where=text("live = 1"),
        postgresql_where=text("live = 1"),
    ),
    Index(
        "ix_volumes_backend_size_gib",
        "backend",
        "size_gib",
        sqlite_where=text("live = 1"),
        postgresql_where=text("live = 1"),
    ),
)

operations = Table(
    "operations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("volume_id", Text, ForeignKey("volumes.id"), nullable=False),
    Column("kind", Word(OperationKind), nullable=False),
    Column("args", Json(dict[str, Any]), nullable=False),
    Column("request_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deadline_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("last_error", Json(Reason | None)),
    CheckConstraint("kind IN ('creating', 'deleting', 'extending')", name="kind"),
    #: At most one operation works on a volume.
    Index(
        "one_operation",
        "volume_id",
        unique=True,
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
)
