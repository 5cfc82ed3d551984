"""What projects may have. What they do have is counted from its own rows, never kept beside them."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Integer, Table, Text

from kevel.domain.quotas import RESOURCES, SERVER_RESOURCES
from kevel.store.schema.base import metadata

quota_limits = Table(
    "quota_limits",
    metadata,
    #: "user": set for one user in a project; "project": set for one; "class": set for all that have none of their own;
    #: "configuration": written at each start.
    Column("owner_kind", Text, primary_key=True),
    #: "project:user", the project's id, or the class's name; "" for the configuration.
    Column("owner", Text, primary_key=True),
    Column("resource", Text, primary_key=True),
    #: "" for the limit over all types. A type's limits go with it.
    Column("volume_type_id", Text, primary_key=True),
    Column("upper_limit", Integer, nullable=False),
    CheckConstraint("owner_kind IN ('user', 'project', 'class', 'configuration')", name="owner_kind"),
    CheckConstraint("(owner = '') = (owner_kind = 'configuration')", name="owner"),
    CheckConstraint("resource IN ('" + "', '".join((*RESOURCES, *SERVER_RESOURCES)) + "')", name="resource"),
    CheckConstraint("volume_type_id = '' OR resource IN ('volumes', 'gigabytes', 'snapshots')", name="typed"),
    CheckConstraint("upper_limit >= -1", name="upper_limit"),
)
