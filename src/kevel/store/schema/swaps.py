"""Swaps of attached volumes."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text, text

from kevel.domain.model import Reason
from kevel.domain.swaps import SwapState
from kevel.store.schema.base import Json, Word, metadata

swaps = Table(
    "swaps",
    metadata,
    Column("id", Text, primary_key=True),
    Column("attachment_id", Text, ForeignKey("attachments.id"), nullable=False),
    Column("aside_id", Text, ForeignKey("attachments.id"), nullable=False),
    Column("server_id", Text, ForeignKey("servers.id"), nullable=False),
    Column("host", Text, ForeignKey("hosts.name"), nullable=False),
    Column("old_volume_id", Text, ForeignKey("volumes.id"), nullable=False),
    Column("new_volume_id", Text, ForeignKey("volumes.id"), nullable=False),
    Column("state", Word(SwapState), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("done_bytes", BigInteger, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    Column("reason", Json(Reason | None)),
    Column("request_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deadline_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("host_version", BigInteger, nullable=False),
    CheckConstraint("state IN ('copying', 'pivoting', 'swapped', 'failed', 'cancelled')", name="state"),
    CheckConstraint("(state IN ('copying', 'pivoting')) = (finished_at IS NULL)", name="finished"),
    CheckConstraint("(state = 'failed') = (reason IS NOT NULL)", name="reason"),
    #: A disk is swapped once at a time.
    Index(
        "one_swap",
        "attachment_id",
        unique=True,
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
    Index("ix_swaps_aside_id", "aside_id"),
    Index("ix_swaps_attachment_id", "attachment_id"),
    Index("ix_swaps_host_version", "host", "host_version"),
)
