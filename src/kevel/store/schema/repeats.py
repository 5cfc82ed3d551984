"""Answers to requests that carried a key, for whoever has to ask again."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text, UniqueConstraint

from kevel.store.schema.base import Counter, Json, metadata

kept_answers = Table(
    "kept_answers",
    metadata,
    Column("id", Counter, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    #: Of what was asked for: the same key with another one is refused.
    Column("fingerprint", Text, nullable=False),
    Column("headers", Json(dict[str, str]), nullable=False),
    #: JSON; None: the answer has no body.
    Column("body", Text),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("project_id", "key"),
    Index("ix_kept_answers_created_at", "created_at"),
)
