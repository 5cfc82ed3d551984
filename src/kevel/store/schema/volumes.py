"""Volume types, volumes, their snapshots, and the operations on what has a life of its own."""

from __future__ import annotations

import enum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    and_,
    text,
)

from kevel.domain.model import OperationKind, Reason, Subject
from kevel.domain.pool_moves import POOL_MOVES
from kevel.store.schema.base import Counter, Json, Word, metadata


def _one_of(column: str, kind: type[enum.Enum]) -> str:
    return f"{column} IN ({', '.join(repr(member.value) for member in kind)})"


volume_types = Table(
    "volume_types",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("is_public", Boolean, nullable=False),
    Column("extra_specs", Json(dict[str, str]), nullable=False),
    Column("qos_specs_id", Text, ForeignKey("qos_specs.id")),
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

#: Keys of encrypted volumes, sealed; destroyed (NULL) with the last volume that they open.
volume_keys = Table(
    "volume_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sealed", LargeBinary),
    Column("key_bits", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("destroyed_at", BigInteger),
    CheckConstraint("(sealed IS NULL) = (destroyed_at IS NOT NULL)", name="destroyed"),
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
    #: What it was made from, for its users to see: the snapshot or volume may be gone.
    Column("snapshot_id", Text),
    Column("source_volume_id", Text),
    #: What is known of the image in it, in Cinder's words; NULL: it holds none.
    Column("image_metadata", Json(dict[str, str] | None)),
    Column("made", Boolean, nullable=False),
    Column("fault", Json(Reason | None)),
    Column("mask", Text),
    Column("migration_status", Text),
    Column("generation", Integer, nullable=False),
    Column("group_id", Text, ForeignKey("groups.id")),
    #: The open offer to another project.
    Column("transfer_id", Text),
    Column("encryption_key_id", Text, ForeignKey("volume_keys.id")),
    #: A tombstone whose contents are left in the pool for somebody else.
    Column("unmanaged", Boolean, nullable=False, default=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
    Column("deleted_at", BigInteger),
    #: 1 until the volume is a tombstone. Claims refer to it, so a claimed volume cannot become one.
    Column("live", Integer),
    CheckConstraint("size_gib > 0", name="size"),
    CheckConstraint("migration_status IN ('success', 'error')", name="migration_status"),
    CheckConstraint("format IN ('raw', 'qcow2', 'luks')", name="format"),
    #: What is recorded as encrypted has a key, and is plugged as nothing else.
    CheckConstraint("(format = 'luks') = (encryption_key_id IS NOT NULL)", name="encrypted"),
    #: Two guests that write one qcow2 file destroy it.
    CheckConstraint("NOT multiattach OR format = 'raw'", name="shared_is_raw"),
    CheckConstraint("(live IS NULL) = (deleted_at IS NOT NULL) AND (live IS NULL OR live = 1)", name="live"),
    CheckConstraint("transfer_id IS NULL OR live IS NOT NULL", name="transfer_of_live"),
    CheckConstraint("NOT unmanaged OR live IS NULL", name="unmanaged"),
    UniqueConstraint("id", "live", "multiattach"),
    UniqueConstraint("id", "live"),
    ForeignKeyConstraint(["transfer_id", "id"], ["transfers.id", "transfers.volume_id"]),
    Index(
        "ix_volumes_transfer_id",
        "transfer_id",
        sqlite_where=text("transfer_id IS NOT NULL"),
        postgresql_where=text("transfer_id IS NOT NULL"),
    ),
    Index(
        "ix_volumes_group_id",
        "group_id",
        sqlite_where=text("group_id IS NOT NULL"),
        postgresql_where=text("group_id IS NOT NULL"),
    ),
    #: Lists show what is live, newest first; the pool's provisioned size is a sum over it.
    Index(
        "ix_volumes_project_id_created_at",
        "project_id",
        "created_at",
        sqlite_where=text("live = 1"),
        postgresql_where=text("live = 1"),
    ),
    #: Who names a volume and not its id is looked up by this; so are lists in the order of names.
    Index(
        "ix_volumes_project_id_name",
        "project_id",
        "name",
        sqlite_where=text("live = 1"),
        postgresql_where=text("live = 1"),
    ),
    Index(
        "ix_volumes_created_at",
        "created_at",
        sqlite_where=text("live = 1"),
        postgresql_where=text("live = 1"),
    ),
    #: The few that a list of errors shows.
    Index(
        "ix_volumes_fault",
        "id",
        sqlite_where=text("fault IS NOT NULL"),
        postgresql_where=text("fault IS NOT NULL"),
    ),
    Index(
        "ix_volumes_mask",
        "mask",
        sqlite_where=text("mask IS NOT NULL"),
        postgresql_where=text("mask IS NOT NULL"),
    ),
    Index(
        "ix_volumes_backend_size_gib",
        "backend",
        "size_gib",
        sqlite_where=text("live = 1"),
        postgresql_where=text("live = 1"),
    ),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("id", Text, primary_key=True),
    Column("volume_id", Text, ForeignKey("volumes.id"), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    #: The volume's size when the snapshot was taken.
    Column("size_gib", Integer, nullable=False),
    Column("backend", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("metadata", Json(dict[str, str]), nullable=False),
    Column("group_snapshot_id", Text, ForeignKey("group_snapshots.id")),
    #: As the volume's, for the volumes that are made from it.
    Column("bootable", Boolean, nullable=False, default=False),
    Column("image_metadata", Json(dict[str, str] | None)),
    #: A tombstone whose contents are left in the pool for somebody else.
    Column("unmanaged", Boolean, nullable=False, default=False),
    #: What somebody said of its progress, in Cinder's form ("80%").
    Column("progress_said", Text),
    Column("made", Boolean, nullable=False),
    Column("fault", Json(Reason | None)),
    Column("mask", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
    Column("deleted_at", BigInteger),
    #: 1 until the snapshot is a tombstone.
    Column("live", Integer),
    CheckConstraint("size_gib > 0", name="size"),
    CheckConstraint("format IN ('raw', 'qcow2', 'luks')", name="format"),
    CheckConstraint("(live IS NULL) = (deleted_at IS NOT NULL) AND (live IS NULL OR live = 1)", name="live"),
    CheckConstraint("NOT unmanaged OR live IS NULL", name="unmanaged"),
    #: A volume outlives its snapshots.
    ForeignKeyConstraint(["volume_id", "live"], ["volumes.id", "volumes.live"], name="fk_snapshots_volume"),
    Index(
        "ix_snapshots_project_id_created_at",
        "project_id",
        "created_at",
        sqlite_where=text("live = 1"),
        postgresql_where=text("live = 1"),
    ),
    Index(
        "ix_snapshots_group_snapshot_id",
        "group_snapshot_id",
        sqlite_where=text("group_snapshot_id IS NOT NULL"),
        postgresql_where=text("group_snapshot_id IS NOT NULL"),
    ),
    Index(
        "ix_snapshots_volume_id",
        "volume_id",
        sqlite_where=text("live = 1"),
        postgresql_where=text("live = 1"),
    ),
)

IS_POOL_MOVE = text(f"kind IN ({', '.join(sorted(repr(kind.value) for kind in POOL_MOVES))})")

operations = Table(
    "operations",
    metadata,
    Column("id", Counter, primary_key=True),
    Column("subject", Word(Subject), nullable=False),
    Column("subject_id", Text, nullable=False),
    #: The volume that the work is about, whose history it is part of.
    Column("volume_id", Text, ForeignKey("volumes.id")),
    Column("kind", Word(OperationKind), nullable=False),
    #: What it copies from: the id of a volume or snapshot, or the file of an image. It stays until the copy has ended.
    Column("reads", Text),
    #: Per cent of its copy that are done.
    Column("progress", Integer, nullable=False, default=0),
    Column("args", Json(dict[str, Any]), nullable=False),
    Column("request_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deadline_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("last_error", Json(Reason | None)),
    CheckConstraint(_one_of("subject", Subject), name="subject"),
    CheckConstraint("subject != 'volume' OR (volume_id IS NOT NULL AND subject_id = volume_id)", name="volume"),
    CheckConstraint(_one_of("kind", OperationKind), name="kind"),
    CheckConstraint("progress BETWEEN 0 AND 100", name="progress"),
    Index(
        "ix_operations_reads",
        "reads",
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
    #: The pools through which a volume has moved, where something may have been left of it.
    Index("ix_operations_pool_moves", "subject_id", sqlite_where=IS_POOL_MOVE, postgresql_where=IS_POOL_MOVE),
    #: At most one operation works on a thing.
    Index(
        "one_operation",
        "subject",
        "subject_id",
        unique=True,
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
)

#: An operation that replaces a volume's contents: no host has the volume meanwhile.
IS_WITHHELD = and_(
    operations.c.subject == Subject.VOLUME,
    operations.c.subject_id == volumes.c.id,
    operations.c.finished_at.is_(None),
    operations.c.kind == OperationKind.DOWNLOADING,
)
