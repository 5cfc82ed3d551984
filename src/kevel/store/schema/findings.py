"""What comparisons of records with reality found, and when each was made."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Table, Text, UniqueConstraint

from kevel.domain.findings import FindingKind
from kevel.store.schema.base import Counter, Json, Word, metadata

#: The newest comparison with each host ("host:NAME") and each back end ("storage:NAME").
censuses = Table(
    "censuses",
    metadata,
    Column("subject", Text, primary_key=True),
    #: The number of the newest request for one that this answers.
    Column("number", BigInteger, nullable=False),
    #: Which of the agent's lives took it, and which of that life's censuses it is; 0 for back ends.
    Column("epoch", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    #: What was there: {"servers": 2, "disks": 3}.
    Column("counted", Json(dict[str, int]), nullable=False),
)

#: Differences that the newest comparison of their subject found. A row's making is the alarm, so there is one alarm.
findings = Table(
    "findings",
    metadata,
    Column("id", Counter, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("kind", Word(FindingKind), nullable=False),
    Column("key", Text, nullable=False),
    Column("volume_id", Text),
    Column("server_id", Text),
    Column("attachment_id", Text),
    Column("found_at", BigInteger, nullable=False),
    CheckConstraint("key <> ''", name="named"),
    UniqueConstraint("subject", "kind", "key"),
)
