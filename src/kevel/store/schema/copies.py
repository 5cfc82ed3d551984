"""Orders to copy the disks of running guests."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text

from kevel.domain.copies import CopyState
from kevel.domain.model import Reason
from kevel.store.schema.base import Json, Word, metadata

copies = Table(
    "copies",
    metadata,
    Column("id", Text, primary_key=True),
    #: What has the disk plugged; NULL: it is the server's own root disk.
    Column("path_id", Text, ForeignKey("paths.id")),
    Column("generation", Integer),
    Column("server_id", Text, ForeignKey("servers.id"), nullable=False),
    #: Of a root disk's copy; a volume's is raw.
    Column("image_format", Text),
    Column("host", Text, ForeignKey("hosts.name"), nullable=False),
    Column("subject", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("target_path", Text, nullable=False),
    Column("state", Word(CopyState), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("done_bytes", BigInteger, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    Column("reason", Json(Reason | None)),
    Column("created_at", BigInteger, nullable=False),
    Column("deadline_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    #: 1 while the host's agent has something to do for it.
    Column("live", Integer),
    Column("host_version", BigInteger, nullable=False),
    CheckConstraint("(path_id IS NULL) = (image_format IS NOT NULL)", name="disk"),
    CheckConstraint("(path_id IS NULL) = (generation IS NULL)", name="generation"),
    CheckConstraint("state IN ('wanted', 'done', 'failed', 'dropped')", name="state"),
    CheckConstraint("(state = 'failed') = (reason IS NOT NULL)", name="reason"),
    CheckConstraint("live IS NULL OR (live = 1 AND state IN ('wanted', 'dropped'))", name="live"),
    CheckConstraint("live IS NOT NULL OR state != 'wanted'", name="wanted_is_live"),
    Index("ix_copies_host_version", "host", "host_version"),
    Index("ix_copies_subject_id", "subject_id"),
)
