"""Projects, users, roles, credentials, tokens and the catalog."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, ForeignKey, Table, Text, UniqueConstraint

from kevel.store.schema.base import Json, metadata

domains = Table(
    "domains",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("domain_id", Text, ForeignKey("domains.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("domain_id", "name"),
)

users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("domain_id", Text, ForeignKey("domains.id"), nullable=False),
    Column("name", Text, nullable=False),
    #: argon2id in its own string format.
    Column("password_hash", Text),
    Column("enabled", Boolean, nullable=False),
    Column("email", Text),
    Column("description", Text),
    Column("default_project_id", Text),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("domain_id", "name"),
)

roles = Table(
    "roles",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text),
)

role_assignments = Table(
    "role_assignments",
    metadata,
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    #: "project", "domain" or "system".
    Column("scope", Text, primary_key=True),
    #: Project or domain id; "all" for the system.
    Column("scope_id", Text, primary_key=True),
    Column("role_id", Text, ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True),
    CheckConstraint("scope IN ('project', 'domain', 'system')", name="scope"),
)

application_credentials = Table(
    "application_credentials",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("project_id", Text, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("secret_hash", Text, nullable=False),
    Column("roles", Json(list[str]), nullable=False),
    Column("unrestricted", Boolean, nullable=False),
    Column("expires_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("user_id", "name"),
)

#: A token is stored as the hash of its secret: revoking is deleting the row, at once and everywhere.
tokens = Table(
    "tokens",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("scope", Text, nullable=False),
    Column("scope_id", Text),
    Column("methods", Json(list[str]), nullable=False),
    #: Role names the token carries.
    Column("roles", Json(list[str]), nullable=False),
    Column(
        "application_credential_id", Text, ForeignKey("application_credentials.id", ondelete="CASCADE"), index=True
    ),
    Column("audit_ids", Json(list[str]), nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    CheckConstraint("scope IN ('project', 'domain', 'system', 'unscoped')", name="scope"),
)

services = Table(
    "services",
    metadata,
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("enabled", Boolean, nullable=False),
)

regions = Table(
    "regions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("description", Text, nullable=False),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("service_id", Text, ForeignKey("services.id", ondelete="CASCADE"), nullable=False),
    Column("interface", Text, nullable=False),
    Column("region_id", Text),
    Column("url", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    CheckConstraint("interface IN ('public', 'internal', 'admin')", name="interface"),
)
