"""Who may speak for a host: tokens that let an agent in, and the certificates that agents have."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Table, Text

from kevel.store.schema.base import metadata

#: Neither table refers to `hosts`: a host is entered there when its agent registers, with a certificate that it has.
join_tokens = Table(
    "join_tokens",
    metadata,
    #: Of the token's secret, which is told once and not kept.
    Column("digest", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    #: Set: it is spent, and lets nobody in but who has this key and did not hear the answer.
    Column("key_digest", Text),
    Index("ix_join_tokens_host", "host"),
)

host_credentials = Table(
    "host_credentials",
    metadata,
    #: The certificate's serial number, in hex.
    Column("serial", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    #: With the first use the host's earlier ones end.
    Column("used_at", BigInteger),
    Column("revoked_at", BigInteger),
    CheckConstraint("expires_at > issued_at", name="expires"),
    Index("ix_host_credentials_host", "host"),
)
