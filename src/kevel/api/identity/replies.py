"""The types of the identity API's answers. What clients stored beside the known keys of a resource is shown again."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType, field

from kevel.api.answers import Answer, Link, name_answer


class Self(Answer):
    """Where it is."""

    self: str


class Pages(Answer):
    """Where the list is, and what follows."""

    self: str
    previous: None
    next: str | None


class Named(msgspec.Struct):
    """What all resources have; other keys may stand beside."""

    id: str
    links: Self | UnsetType = UNSET


class Domain(Named, kw_only=True):
    """A domain."""

    name: str
    description: str
    enabled: bool
    tags: list[str]
    options: dict[str, Any]


class Project(Named, kw_only=True):
    """A project."""

    name: str
    domain_id: str
    description: str
    enabled: bool
    parent_id: str
    is_domain: Literal[False]
    tags: list[str]
    options: dict[str, Any]


class User(Named, kw_only=True):
    """A user."""

    name: str
    domain_id: str
    enabled: bool
    default_project_id: str | None
    password_expires_at: None
    options: dict[str, Any]


class Role(Named, kw_only=True):
    """A role."""

    name: str
    domain_id: None
    description: str | None
    options: dict[str, Any]


class Service(Named, kw_only=True):
    """An entry of the catalog."""

    type: str
    name: str
    description: str | None
    enabled: bool


class Region(Named, kw_only=True):
    """A region."""

    description: str
    parent_region_id: str | None


class Endpoint(Named, kw_only=True):
    """Where a service is found."""

    service_id: str
    interface: Literal["public", "internal", "admin"]
    region_id: str | None
    region: str | None
    url: str
    enabled: bool


class CredentialRole(Answer):
    """A role of an application credential."""

    id: str
    name: str
    domain_id: None


class Credential(Answer, kw_only=True):
    """An application credential; its secret is shown once, when it is made."""

    id: str
    name: str
    description: str | None
    user_id: str
    project_id: str
    roles: list[CredentialRole]
    unrestricted: bool
    expires_at: str | None
    system: None
    links: Self
    secret: str | UnsetType = UNSET


class CatalogEndpoint(Answer):
    """An endpoint in the catalog."""

    id: str
    interface: Literal["public", "internal", "admin"]
    region_id: str | None
    region: str | None
    url: str


class CatalogService(Answer):
    """A service in the catalog."""

    id: str
    type: str
    name: str
    endpoints: list[CatalogEndpoint]


class Reference(Answer):
    """Something by id and name."""

    id: str
    name: str


class OwnedReference(Reference):
    """The same with its domain."""

    domain: Reference


class TokenUser(OwnedReference):
    """Whose token it is."""

    password_expires_at: None


class All(Answer):
    """The whole system."""

    all: Literal[True]


class TokenCredential(Answer):
    """The application credential that the token came from."""

    id: str
    name: str
    restricted: bool


class Token(Answer, kw_only=True):
    """A token without its secret, which is in the header X-Subject-Token."""

    methods: list[str]
    user: TokenUser
    audit_ids: list[str]
    issued_at: str
    expires_at: str
    project: OwnedReference | UnsetType = UNSET
    is_domain: bool | UnsetType = UNSET
    domain: Reference | UnsetType = UNSET
    system: All | UnsetType = UNSET
    roles: list[Reference] | UnsetType = UNSET
    catalog: list[CatalogService] | UnsetType = UNSET
    application_credential: TokenCredential | UnsetType = UNSET


class AssignmentPart(Answer, kw_only=True):
    """A role, a user, a project or a domain of an assignment; the names are there when they are asked for."""

    id: str
    name: str | UnsetType | None = UNSET
    domain: Reference | UnsetType = UNSET


class AssignmentScope(Answer, kw_only=True):
    """Exactly one of them."""

    project: AssignmentPart | UnsetType = UNSET
    domain: AssignmentPart | UnsetType = UNSET
    system: All | UnsetType = UNSET


class AssignmentLinks(Answer):
    """Where it is."""

    assignment: str


class Assignment(Answer):
    """A user has a role somewhere."""

    role: AssignmentPart
    user: AssignmentPart
    scope: AssignmentScope
    links: AssignmentLinks


class Version(Answer):
    """A version of the API."""

    id: str
    status: str
    updated: str
    links: list[Link]
    media_types: list[dict[str, str]] = field(name="media-types")


class VersionValues(Answer):
    """The versions, as this API lists them."""

    values: list[Version]


def list_of(name: str, kind: Any) -> Any:
    """The type of a list with its links."""
    return name_answer(name, list[kind], links=Pages)


#: The type of one resource, by its name.
RESOURCES: Final[dict[str, type[Named]]] = {
    "domain": Domain,
    "project": Project,
    "user": User,
    "role": Role,
    "service": Service,
    "region": Region,
    "endpoint": Endpoint,
}
VERSIONS: Final = name_answer("versions", VersionValues)
VERSION: Final = name_answer("version", Version)
TOKEN: Final = name_answer("token", Token)
CATALOG: Final = list_of("catalog", CatalogService)
PROJECTS: Final = list_of("projects", Project)
DOMAINS: Final = list_of("domains", Domain)
ROLES: Final = list_of("roles", Role)
ASSIGNMENTS: Final = list_of("role_assignments", Assignment)
CREDENTIAL: Final = name_answer("application_credential", Credential)
CREDENTIALS: Final = list_of("application_credentials", Credential)
