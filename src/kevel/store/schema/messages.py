"""What users are told of requests that failed after they had been accepted (Cinder's messages)."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Table, Text

from kevel.store.schema.base import metadata

messages = Table(
    "messages",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    #: Cinder's word for what it speaks of, as "VOLUME" or "VOLUME_SNAPSHOT", and its id.
    Column("resource_type", Text, nullable=False),
    Column("resource_uuid", Text, nullable=False),
    #: Cinder's numbers for what was being done and for what went wrong.
    Column("action_id", Text, nullable=False),
    Column("detail_id", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    #: Shown until then.
    Column("expires_at", BigInteger, nullable=False),
    CheckConstraint("expires_at > created_at", name="expires"),
    Index("ix_messages_project_id_created_at", "project_id", "created_at"),
    Index("ix_messages_expires_at", "expires_at"),
)
