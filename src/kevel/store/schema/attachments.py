"""Claims, attachments, paths and the journal: the rows that S1 and S3 are made of.

A column `live` is 1 while the row counts and NULL afterwards. Composite foreign keys that contain it are enforced only
while it is 1, which ties the rows together without a trigger: a path that is not released needs an open attachment,
that needs a live claim, and that needs a live volume and tells the truth about its being shared.
"""

from __future__ import annotations

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
    text,
)

from kevel.domain.assignments import DiskSight
from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.model import Origin, Reason, Stage
from kevel.store.schema.base import Counter, Json, Number, Word, metadata

claims = Table(
    "claims",
    metadata,
    Column("id", Text, primary_key=True),
    Column("volume_id", Text, nullable=False),
    #: The holder: a server's id, or "external:" and a name: of the instance or host that a client gave, or the
    #: attachment's own.
    Column("holder", Text, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("live", Integer),
    Column("claimed_at", BigInteger, nullable=False),
    Column("released_at", BigInteger),
    CheckConstraint("(live IS NULL) = (released_at IS NOT NULL) AND (live IS NULL OR live = 1)", name="live"),
    UniqueConstraint("id", "live", "volume_id"),
    ForeignKeyConstraint(
        ["volume_id", "live", "shared"], ["volumes.id", "volumes.live", "volumes.multiattach"], name="fk_claims_volume"
    ),
    #: S1: a volume that is not shared has one holder.
    Index(
        "one_holder",
        "volume_id",
        unique=True,
        sqlite_where=text("live = 1 AND NOT shared"),
        postgresql_where=text("live = 1 AND NOT shared"),
    ),
    #: Nobody claims the same volume twice.
    Index(
        "one_claim_per_holder",
        "volume_id",
        "holder",
        unique=True,
        sqlite_where=text("live = 1"),
        postgresql_where=text("live = 1"),
    ),
)

attachments = Table(
    "attachments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("claim_id", Text, nullable=False),
    Column("volume_id", Text, ForeignKey("volumes.id"), nullable=False),
    Column("server_id", Text, ForeignKey("servers.id")),
    Column("project_id", Text, nullable=False),
    Column("goal", Word(Goal), nullable=False),
    Column("goal_revision", Integer, nullable=False),
    Column("goal_request_id", Text, nullable=False),
    Column("goal_by", Text, nullable=False),
    Column("goal_at", BigInteger, nullable=False),
    Column("deadline_at", BigInteger, nullable=False),
    Column("established", Boolean, nullable=False),
    Column("device", Text),
    Column("unit", Integer),
    Column("tag", Text),
    Column("delete_on_termination", Boolean, nullable=False),
    Column("boot_index", Integer),
    Column("reason", Json(Reason | None)),
    Column("created_at", BigInteger, nullable=False),
    Column("attached_at", BigInteger),
    Column("closed_at", BigInteger),
    Column("stage", Word(Stage)),
    Column("origin", Word(Origin)),
    Column("instance_id", Text),
    Column("consumer_host", Text),
    Column("mode", Text),
    Column("service_user_id", Text),
    Column("aside", Boolean, nullable=False),
    Column("serial", Text),
    Column("live", Integer),
    #: Managed and external: a server of ours with a place in it, or what a client says.
    CheckConstraint("(stage IS NULL) = (server_id IS NOT NULL)", name="managed"),
    CheckConstraint("stage IS NOT NULL OR (device IS NOT NULL AND unit IS NOT NULL)", name="place"),
    CheckConstraint("stage IN ('reserved', 'attaching', 'attached', 'detaching')", name="stage"),
    CheckConstraint("(stage IS NULL) = (origin IS NULL)", name="origin"),
    CheckConstraint("boot_index >= 0", name="boot_index"),
    CheckConstraint("mode IN ('rw', 'ro')", name="mode"),
    CheckConstraint("NOT aside OR (stage IS NULL AND boot_index IS NULL AND serial IS NULL)", name="aside"),
    CheckConstraint("(live IS NULL) = (closed_at IS NOT NULL) AND (live IS NULL OR live = 1)", name="live"),
    UniqueConstraint("id", "live", "volume_id"),
    #: An open attachment keeps its claim.
    ForeignKeyConstraint(
        ["claim_id", "live", "volume_id"],
        ["claims.id", "claims.live", "claims.volume_id"],
        name="fk_attachments_claim",
        deferrable=True,  # two attachments exchange their volumes in one transaction
        initially="IMMEDIATE",
    ),
    CheckConstraint("goal IN ('attached', 'detached')", name="goal"),
    CheckConstraint("goal_by IN ('user', 'rollback', 'refusal', 'server')", name="goal_by"),
    #: An attachment whose goal is still "attached" is not closed.
    CheckConstraint("closed_at IS NULL OR goal = 'detached'", name="closed_on_purpose"),
    Index("ix_attachments_volume_id_live", "volume_id", "live"),
    Index("ix_attachments_server_id_live", "server_id", "live"),
    Index("ix_attachments_instance_id", "instance_id"),
    Index(
        "ix_attachments_project_id_created_at",
        "project_id",
        "created_at",
        sqlite_where=text("live = 1"),
        postgresql_where=text("live = 1"),
    ),
    #: An instance that a real Nova moves between hosts has two external attachments under its one claim.
    Index("ix_attachments_claim_id_live", "claim_id", "live"),
    Index(
        "one_attachment_per_claim",
        "claim_id",
        unique=True,
        sqlite_where=text("live = 1 AND stage IS NULL"),
        postgresql_where=text("live = 1 AND stage IS NULL"),
    ),
    #: A server boots from its disks in one order, and has one root.
    Index(
        "one_boot_index",
        "server_id",
        "boot_index",
        unique=True,
        sqlite_where=text("live = 1"),
        postgresql_where=text("live = 1"),
    ),
    Index(
        "one_unit",
        "server_id",
        "unit",
        unique=True,
        sqlite_where=text("live = 1 AND NOT aside"),
        postgresql_where=text("live = 1 AND NOT aside"),
    ),
    Index(
        "one_device",
        "server_id",
        "device",
        unique=True,
        sqlite_where=text("live = 1 AND NOT aside"),
        postgresql_where=text("live = 1 AND NOT aside"),
    ),
)

paths = Table(
    "paths",
    metadata,
    Column("id", Text, primary_key=True),
    Column("attachment_id", Text, nullable=False),
    Column("volume_id", Text, nullable=False),
    Column("server_id", Text, ForeignKey("servers.id")),
    Column("host", Text, nullable=False),
    #: The same for a path that an agent of ours takes; NULL for an external one, whose host is a client's word.
    Column("agent", Text, ForeignKey("hosts.name")),
    Column("generation", Integer, nullable=False),
    Column("rung", Number(Rung), nullable=False),
    Column("hands", Word(Hands), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("connection_info", LargeBinary),
    Column("plugged_bytes", BigInteger),
    Column("last_error", Json(Reason | None)),
    Column("changed_at", BigInteger, nullable=False),
    #: What a census of the host saw of the disk; it holds while its revision is the path's.
    Column("seen", Json(DiskSight | None)),
    Column("connector", Json(dict[str, Any] | None)),
    Column("dropped", Boolean, nullable=False),
    Column("live", Integer),
    Column("host_version", BigInteger, nullable=False),
    #: An external path has no agent, so it stays in the control plane's hands.
    CheckConstraint("(agent IS NULL) = (server_id IS NULL) AND (agent IS NULL OR agent = host)", name="agent"),
    CheckConstraint("agent IS NOT NULL OR hands = 'control'", name="external_hands"),
    CheckConstraint("(connector IS NULL) = (agent IS NOT NULL)", name="connector"),
    CheckConstraint("agent IS NULL OR NOT dropped", name="dropped"),
    CheckConstraint("rung BETWEEN 0 AND 4", name="rung"),
    CheckConstraint("hands IN ('control', 'host')", name="hands"),
    #: S3: exported or higher is complete. The race of an attach and a detach right behind it cannot be written down.
    CheckConstraint("rung < 2 OR connection_info IS NOT NULL", name="complete"),
    CheckConstraint("rung > 0 OR connection_info IS NULL", name="nothing_left"),
    #: A host holds a path from the export on; above it, nobody else does.
    CheckConstraint("hands = 'control' OR rung >= 2", name="host_hands"),
    CheckConstraint("hands = 'host' OR rung <= 2", name="control_hands"),
    CheckConstraint("(live IS NULL) = (rung = 0) AND (live IS NULL OR live = 1)", name="live"),
    #: A path that is not released keeps its attachment open.
    ForeignKeyConstraint(
        ["attachment_id", "live", "volume_id"],
        ["attachments.id", "attachments.live", "attachments.volume_id"],
        name="fk_paths_attachment",
        deferrable=True,
        initially="IMMEDIATE",
    ),
    UniqueConstraint("volume_id", "generation"),
    #: Two paths of one attachment need a migration; there is none yet.
    Index(
        "one_path",
        "attachment_id",
        unique=True,
        sqlite_where=text("live = 1"),
        postgresql_where=text("live = 1"),
    ),
    Index("ix_paths_host_version", "host", "host_version"),
    Index("ix_paths_server_id", "server_id"),
)

#: S12: every move, appended in the transaction that makes it.
journal = Table(
    "journal",
    metadata,
    Column("seq", Counter, primary_key=True),
    Column("at", BigInteger, nullable=False),
    #: "path", "attachment", "server" or "volume", and its id.
    Column("subject", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("volume_id", Text),
    Column("server_id", Text),
    Column("attachment_id", Text),
    #: What moved: "rung", "goal", "hands", "size", "stage", "dropped" or "operation"; or what happened to it where it
    #: stands: "error", "retry" (somebody asked for a look).
    Column("what", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("generation", Integer),
    #: "user", "control", "host:<name>".
    Column("actor", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    #: How long the acts of the move took, in microseconds; NULL where none was needed.
    Column("took_us", BigInteger),
    Column("detail", Json(dict[str, Any] | None)),
    Index("ix_journal_attachment_id", "attachment_id"),
    Index("ix_journal_server_id", "server_id"),
    Index("ix_journal_volume_id", "volume_id"),
)
