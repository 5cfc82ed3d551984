"""What users of the compute API keep besides servers: key pairs, groups, and who may use a private flavor."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)

from kevel.domain.keypairs import KeyKind
from kevel.domain.server_groups import GroupPolicy
from kevel.store.schema.base import Counter, Word, metadata

keypairs = Table(
    "keypairs",
    metadata,
    Column("id", Counter, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Word(KeyKind), nullable=False),
    #: The public half; there is no column for the other.
    Column("public_key", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("user_id", "name"),
    CheckConstraint("kind IN ('ssh', 'x509')", name="kind"),
)

flavor_access = Table(
    "flavor_access",
    metadata,
    Column("flavor_id", Text, ForeignKey("flavors.id"), primary_key=True),
    #: Who may use the flavor, which is a private one.
    Column("project_id", Text, primary_key=True),
)

server_groups = Table(
    "server_groups",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("policy", Word(GroupPolicy), nullable=False),
    Column("per_host_max", Integer),
    Column("created_at", BigInteger, nullable=False),
    CheckConstraint(
        "policy IN ('affinity', 'anti-affinity', 'soft-affinity', 'soft-anti-affinity')",
        name="policy",
    ),
    CheckConstraint("per_host_max IS NULL OR (policy = 'anti-affinity' AND per_host_max > 0)", name="per_host_max"),
    Index("ix_server_groups_project_id", "project_id"),
)

#: Servers that were made in a group. Those that are gone stay in it, and are shown no more.
server_group_members = Table(
    "server_group_members",
    metadata,
    Column("server_id", Text, ForeignKey("servers.id"), primary_key=True),
    Column("group_id", Text, ForeignKey("server_groups.id"), nullable=False),
    Index("ix_server_group_members_group_id", "group_id"),
)
