"""Who may do what, as values: domains, projects, users, roles, credentials, tokens, and the catalog.

`extra` holds what a client sent beside the fields that have a meaning here; it is shown again and never interpreted.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from kevel.domain.errors import Invalid

#: The id of the domain that exists from the first start.
DEFAULT_DOMAIN_ID: Final = "default"
#: The one scope id of the system.
SYSTEM_ALL: Final = "all"
#: Keys beside the known fields, in one resource, and their size with their values as JSON.
EXTRA_KEYS_MAX: Final = 64
EXTRA_BYTES_MAX: Final = 16 * 1024
#: A role stands for those after it, too.
IMPLIED_ROLES: Final = {
    "admin": ("manager", "member", "reader"),
    "manager": ("member", "reader"),
    "member": ("reader",),
}
#: Kevel's own rules go by these names, so they can be neither renamed nor deleted.
FIXED_ROLES: Final = ("admin", "manager", "member", "reader", "service")


class ScopeKind(enum.Enum):
    """What a role or a token is for."""

    PROJECT = "project"
    DOMAIN = "domain"
    SYSTEM = "system"
    UNSCOPED = "unscoped"


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """A domain: users and projects have names that are unique in it."""

    id: str
    name: str
    description: str
    enabled: bool
    extra: dict[str, Any]


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project: the owner of servers and volumes."""

    id: str
    domain_id: str
    name: str
    description: str
    enabled: bool
    extra: dict[str, Any]
    created_at: int


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user; the password's hash never leaves the store but to be verified."""

    id: str
    domain_id: str
    name: str
    enabled: bool
    default_project_id: str | None
    extra: dict[str, Any]
    created_at: int


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """A role; it means something only where it is assigned."""

    id: str
    name: str
    description: str | None
    extra: dict[str, Any]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the catalog."""

    id: str
    type: str
    name: str
    description: str | None
    enabled: bool
    extra: dict[str, Any]


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """A region; its id is its name."""

    id: str
    description: str
    parent_region_id: str | None
    extra: dict[str, Any]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a service is found. The URL may hold $(project_id)s."""

    id: str
    service_id: str
    #: "public", "internal" or "admin".
    interface: str
    region_id: str | None
    url: str
    enabled: bool
    extra: dict[str, Any]


Resource = Domain | Project | User | Role | Service | Region | Endpoint


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """A user has a role somewhere. The names are for people; None where the scope has none."""

    user_id: str
    user_name: str
    user_domain_id: str
    user_domain_name: str
    role_id: str
    role_name: str
    scope: ScopeKind
    #: Project or domain id, or SYSTEM_ALL.
    scope_id: str
    scope_name: str | None
    scope_domain_id: str | None
    scope_domain_name: str | None


class ApplicationCredential(msgspec.Struct, frozen=True, kw_only=True):
    """A secret of its own for a program: its user, in one project, with some of the user's roles there."""

    id: str
    user_id: str
    project_id: str
    name: str
    description: str | None
    #: Role ids. A login gets those of them that the user still has.
    roles: list[str]
    #: May make and delete application credentials itself.
    unrestricted: bool
    expires_at: int | None
    created_at: int


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid token says of its bearer."""

    user_id: str
    user_name: str
    user_domain_id: str
    scope: ScopeKind
    scope_id: str | None
    #: Role names, implied ones included.
    roles: list[str]
    methods: list[str]
    application_credential_id: str | None
    #: The token's own audit id; then that of the token it was made from.
    audit_ids: list[str]
    issued_at: int
    expires_at: int

    @property
    def project_id(self) -> str | None:
        """The project, if the token is scoped to one."""
        return self.scope_id if self.scope is ScopeKind.PROJECT else None


class CatalogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An enabled service with its enabled endpoints."""

    service: Service
    endpoints: list[Endpoint]


class TokenDescription(msgspec.Struct, frozen=True, kw_only=True):
    """A token with the names of what it refers to."""

    token: Token
    user_domain: Domain
    #: The scope's project, with its domain; or the scope's domain alone.
    project: Project | None
    domain: Domain | None
    roles: list[Role]
    #: None when it was not asked for, or the token is unscoped.
    catalog: list[CatalogEntry] | None
    credential: ApplicationCredential | None


class DomainRef(msgspec.Struct, frozen=True, kw_only=True):
    """A domain by id or name."""

    id: str | None = None
    name: str | None = None


class UserRef(msgspec.Struct, frozen=True, kw_only=True):
    """A user by id, or by name and domain."""

    id: str | None = None
    name: str | None = None
    domain: DomainRef = DomainRef()


class RoleRef(msgspec.Struct, frozen=True, kw_only=True):
    """A role by id or name."""

    id: str | None = None
    name: str | None = None


class CredentialRef(msgspec.Struct, frozen=True, kw_only=True):
    """An application credential by id, or by name and user."""

    id: str | None = None
    name: str | None = None
    user: UserRef = UserRef()


class WantedScope(msgspec.Struct, frozen=True, kw_only=True):
    """What a login asks for; `kind` None leaves it to the user's default project."""

    kind: ScopeKind | None = None
    id: str | None = None
    name: str | None = None
    #: Where `name` is a project's.
    domain: DomainRef = DomainRef()


def require_small_extra(extra: Mapping[str, Any]) -> None:
    """Raise Invalid when what a client sent beside the known fields is too much."""
    if len(extra) > EXTRA_KEYS_MAX or len(msgspec.json.encode(extra)) > EXTRA_BYTES_MAX:
        raise Invalid(f"At most {EXTRA_KEYS_MAX} keys and {EXTRA_BYTES_MAX} bytes are kept beside the known fields.")


def expand_roles(names: Iterable[str]) -> frozenset[str]:
    """The names, and those that they imply."""
    named = frozenset(names)
    return named.union(*(IMPLIED_ROLES.get(name, ()) for name in named))


def fill_url(url: str, project_id: str | None) -> str | None:
    """The endpoint's URL with the project put in; None when it needs a project and there is none."""
    for key in ("$(project_id)s", "%(project_id)s", "$(tenant_id)s", "%(tenant_id)s"):
        if key in url:
            if project_id is None:
                return None
            url = url.replace(key, project_id)
    return url
