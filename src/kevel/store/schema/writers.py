"""Who writes to a database that several processes can reach, and how far its last commit got."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Table, Text

from kevel.store.schema.base import metadata

#: One row on PostgreSQL. Each commit counts in it: so whoever lost the answer to a COMMIT can look, and a writer whose
#: place was taken meets no row. SQLite's one process needs none.
writers = Table(
    "writers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("batch", BigInteger, nullable=False),
    CheckConstraint("batch >= 0", name="batch"),
)
