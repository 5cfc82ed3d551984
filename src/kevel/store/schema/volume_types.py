"""What belongs to volume types: who may use them, whose default they are, encryption, and qualities of service."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text

from kevel.store.schema.base import Json, metadata

#: A set of qualities that types share. A type refers to one at most (`volume_types.qos_specs_id`).
qos_specs = Table(
    "qos_specs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    #: Who keeps to them: the guest's disk ("front-end"), the storage ("back-end"), or each its own ("both").
    Column("consumer", Text, nullable=False),
    Column("specs", Json(dict[str, str]), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
    CheckConstraint("consumer IN ('front-end', 'back-end', 'both')", name="consumer"),
    Index("one_qos_specs_of_that_name", "name", unique=True),
)

#: Projects that may use a private type.
type_access = Table(
    "type_access",
    metadata,
    Column("volume_type_id", Text, ForeignKey("volume_types.id"), primary_key=True),
    Column("project_id", Text, primary_key=True),
    Index("ix_type_access_project_id", "project_id"),
)

#: The type of a project's volumes that name none.
default_types = Table(
    "default_types",
    metadata,
    Column("project_id", Text, primary_key=True),
    Column("volume_type_id", Text, ForeignKey("volume_types.id"), nullable=False),
)

#: Volumes of such a type are encrypted.
type_encryptions = Table(
    "type_encryptions",
    metadata,
    Column("volume_type_id", Text, ForeignKey("volume_types.id"), primary_key=True),
    Column("id", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("control_location", Text, nullable=False),
    Column("cipher", Text),
    #: Bits.
    Column("key_size", Integer),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
    CheckConstraint("control_location IN ('front-end', 'back-end')", name="control_location"),
    CheckConstraint("key_size >= 0", name="key_size"),
)
