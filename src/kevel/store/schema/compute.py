"""What users of the compute API keep besides servers: key pairs, and who may use a private flavor."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Integer, Table, Text, UniqueConstraint

from kevel.domain.keypairs import KeyKind
from kevel.store.schema.base import Word, metadata

keypairs = Table(
    "keypairs",
    metadata,
    Column("id", Integer, primary_key=True),
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
