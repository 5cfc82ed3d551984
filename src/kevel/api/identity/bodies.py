"""What clients send, and its bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from kevel.domain.errors import Invalid

Id = Annotated[str, Meta(min_length=1, max_length=64)]
Name64 = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"\S")]
Name255 = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\S")]
Description = Annotated[str, Meta(max_length=4096)]
Url = Annotated[str, Meta(max_length=2048, pattern=r"^[a-z][a-z0-9+.-]*://[^\s]+$")]
#: A password or an application credential's secret. The bound keeps hashing cheap.
Secret = Annotated[str, Meta(min_length=1, max_length=1024)]
TokenSecret = Annotated[str, Meta(min_length=1, max_length=512)]
Limit = Annotated[int, Meta(ge=1)]


# POST /auth/tokens


class DomainPart(Struct):
    id: Id | None = None
    name: Name64 | None = None


class UserPart(Struct):
    id: Id | None = None
    name: Name255 | None = None
    domain: DomainPart | None = None


class PasswordUserPart(UserPart, kw_only=True):
    password: Secret


class PasswordPart(Struct):
    user: PasswordUserPart


class TokenPart(Struct):
    id: TokenSecret


class CredentialPart(Struct):
    secret: Secret
    id: Id | None = None
    name: Name255 | None = None
    user: UserPart | None = None


class IdentityPart(Struct):
    methods: Annotated[list[str], Meta(min_length=1, max_length=8)]
    password: PasswordPart | None = None
    token: TokenPart | None = None
    application_credential: CredentialPart | None = None


class ProjectPart(Struct):
    id: Id | None = None
    name: Name64 | None = None
    domain: DomainPart | None = None


class SystemPart(Struct):
    all: bool


class ScopePart(Struct, forbid_unknown_fields=True):
    """Exactly one of them; a scope of a kind that is not here must not be taken for none."""

    project: ProjectPart | None = None
    domain: DomainPart | None = None
    system: SystemPart | None = None


class AuthPart(Struct):
    identity: IdentityPart
    #: As a string only "unscoped".
    scope: ScopePart | Annotated[str, Meta(max_length=64)] | None = None


class AuthBody(Struct):
    """The body of a login."""

    auth: AuthPart


# Resources. What is not sent stays UNSET: a default when creating, unchanged when changing.


class DomainFields(Struct):
    name: Name64 | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class ProjectFields(Struct):
    name: Name64 | UnsetType = UNSET
    domain_id: Id | UnsetType | None = UNSET
    description: Description | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    parent_id: Id | UnsetType | None = UNSET
    is_domain: bool | UnsetType | None = UNSET


class UserFields(Struct):
    name: Name255 | UnsetType = UNSET
    domain_id: Id | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    default_project_id: Id | UnsetType | None = UNSET
    password: Secret | UnsetType | None = UNSET


class RoleFields(Struct):
    name: Name255 | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    domain_id: Id | UnsetType | None = UNSET


class ServiceFields(Struct):
    type: Name255 | UnsetType = UNSET
    name: Annotated[str, Meta(max_length=255)] | UnsetType | None = UNSET
    description: Description | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class RegionFields(Struct):
    id: Name255 | UnsetType | None = UNSET
    description: Description | UnsetType | None = UNSET
    parent_region_id: Name255 | UnsetType | None = UNSET


class EndpointFields(Struct):
    service_id: Id | UnsetType = UNSET
    interface: Literal["public", "internal", "admin"] | UnsetType = UNSET
    region_id: Name255 | UnsetType | None = UNSET
    #: An older name of region_id.
    region: Name255 | UnsetType | None = UNSET
    url: Url | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class PasswordChange(Struct):
    password: Secret
    original_password: Secret


class PasswordBody(Struct):
    """The body of a user's change of the own password."""

    user: PasswordChange


class RolePart(Struct):
    id: Id | None = None
    name: Name255 | None = None


class CredentialFields(Struct):
    name: Name255
    secret: Secret | None = None
    description: Description | None = None
    roles: Annotated[list[RolePart], Meta(max_length=100)] | None = None
    unrestricted: bool | None = None
    expires_at: Annotated[str, Meta(max_length=64)] | None = None
    access_rules: list[Any] | None = None


class CredentialBody(Struct):
    """The body that creates an application credential."""

    application_credential: CredentialFields


# Queries of lists.


class Page(Struct, kw_only=True):
    """What every list takes."""

    limit: Limit | None = None
    marker: str | None = None


class DomainQuery(Page):
    name: str | None = None
    enabled: bool | None = None


class ProjectQuery(Page):
    name: str | None = None
    domain_id: str | None = None
    enabled: bool | None = None
    parent_id: str | None = None
    is_domain: bool | None = None


class UserQuery(Page):
    name: str | None = None
    domain_id: str | None = None
    enabled: bool | None = None


class RoleQuery(Page):
    name: str | None = None
    domain_id: str | None = None


class ServiceQuery(Page):
    name: str | None = None
    type: str | None = None


class RegionQuery(Page):
    parent_region_id: str | None = None


class EndpointQuery(Page):
    service_id: str | None = None
    interface: str | None = None
    region_id: str | None = None
    region: str | None = None


class NameQuery(Struct):
    """A list that can be asked for one name."""

    name: str | None = None


class AssignmentQuery(Struct):
    """Filters of role assignments. A flag is set by being there, unless it says otherwise."""

    user_id: str | None = field(name="user.id", default=None)
    role_id: str | None = field(name="role.id", default=None)
    group_id: str | None = field(name="group.id", default=None)
    project_id: str | None = field(name="scope.project.id", default=None)
    domain_id: str | None = field(name="scope.domain.id", default=None)
    system: str | None = field(name="scope.system", default=None)
    inherited_to: str | None = field(name="scope.OS-INHERIT:inherited_to", default=None)
    effective: str | None = None
    include_names: str | None = None


def is_set(flag: str | None) -> bool:
    """Is a flag of the query set? "?effective" is, "?effective=false" is not."""
    return flag is not None and flag.strip().lower() not in ("0", "false", "no", "off")


def split_fields(name: str, raw: Any, fields: type[Struct]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The known fields that were sent, checked, and the other keys. Raises Invalid."""
    if not isinstance(raw, dict):
        raise Invalid(f"The request body has to be an object with the key {name!r} that holds an object.")
    try:
        values = msgspec.convert(raw, fields, strict=True)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        raise Invalid(f"Invalid input for {name}{place.rstrip('`')}: {text.replace('`', chr(39))[:256]}.") from error
    known = {key: value for key, value in msgspec.structs.asdict(values).items() if value is not UNSET}
    extra = {key: value for key, value in raw.items() if key not in fields.__struct_fields__}
    # The id is Kevel's to give, and links are computed.
    for key in ("id", "links"):
        extra.pop(key, None)
    for key in ("tags", "options"):
        if extra.pop(key, None):
            raise Invalid(f"Invalid input for {name}.{key}: Kevel has none; leave it out.")
    return known, extra
