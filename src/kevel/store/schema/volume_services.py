"""What admins have said of the parts that serve the block storage API."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Table, Text

from kevel.store.schema.base import metadata

#: A part without a row is enabled.
volume_services = Table(
    "volume_services",
    metadata,
    #: "host", or "host@backend" for a pool.
    Column("host", Text, primary_key=True),
    Column("binary", Text, primary_key=True),
    #: It takes nothing new.
    Column("disabled", Boolean, nullable=False),
    Column("disabled_reason", Text),
    #: What it has is not deleted either.
    Column("frozen", Boolean, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    CheckConstraint("disabled OR disabled_reason IS NULL", name="reason"),
    CheckConstraint("disabled OR NOT frozen", name="frozen"),
)
