"""Projects, users, roles, credentials, tokens and the catalog."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, ForeignKey, Index, Table, Text, UniqueConstraint

from kevel.domain.identity import ScopeKind
from kevel.store.schema.base import Json, Word, metadata

_Extra = Json(dict[str, Any])

domains = Table(
    "domains",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("extra", _Extra, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("domain_id", Text, ForeignKey("domains.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("extra", _Extra, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("domain_id", "name"),
)

users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("domain_id", Text, ForeignKey("domains.id"), nullable=False),
    Column("name", Text, nullable=False),
    #: argon2id in its own string format. Without one nobody can log in with a password.
    Column("password_hash", Text),
    Column("enabled", Boolean, nullable=False),
    #: Only a wish: it may have been deleted since.
    Column("default_project_id", Text),
    Column("extra", _Extra, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("domain_id", "name"),
)

roles = Table(
    "roles",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text),
    Column("extra", _Extra, nullable=False),
)

role_assignments = Table(
    "role_assignments",
    metadata,
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("scope", Word(ScopeKind), primary_key=True),
    #: Project or domain id; "all" for the system.
    Column("scope_id", Text, primary_key=True),
    Column("role_id", Text, ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True, index=True),
    CheckConstraint("scope IN ('project', 'domain', 'system')", name="scope"),
    Index("ix_role_assignments_scope", "scope", "scope_id"),
)

application_credentials = Table(
    "application_credentials",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("project_id", Text, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("secret_hash", Text, nullable=False),
    #: Role ids.
    Column("roles", Json(list[str]), nullable=False),
    Column("unrestricted", Boolean, nullable=False),
    Column("expires_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("user_id", "name"),
)

#: A token is stored as the SHA-256 of its secret: revoking is deleting the row, at once and everywhere.
tokens = Table(
    "tokens",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("scope", Word(ScopeKind), nullable=False),
    Column("scope_id", Text, index=True),
    Column("methods", Json(list[str]), nullable=False),
    #: Role names the token carries.
    Column("roles", Json(list[str]), nullable=False),
    Column("application_credential_id", Text, ForeignKey("application_credentials.id", ondelete="CASCADE"), index=True),
    Column("audit_ids", Json(list[str]), nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    CheckConstraint("scope IN ('project', 'domain', 'system', 'unscoped')", name="scope"),
    CheckConstraint("(scope = 'unscoped') = (scope_id IS NULL)", name="scope_id"),
)

services = Table(
    "services",
    metadata,
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("enabled", Boolean, nullable=False),
    Column("extra", _Extra, nullable=False),
)

regions = Table(
    "regions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("description", Text, nullable=False),
    Column("parent_region_id", Text, ForeignKey("regions.id")),
    Column("extra", _Extra, nullable=False),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("service_id", Text, ForeignKey("services.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("interface", Text, nullable=False),
    Column("region_id", Text, ForeignKey("regions.id")),
    Column("url", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("extra", _Extra, nullable=False),
    CheckConstraint("interface IN ('public', 'internal', 'admin')", name="interface"),
)
