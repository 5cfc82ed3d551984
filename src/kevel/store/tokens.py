"""Logins, tokens, application credentials and the catalog.

A login is proven outside (hashing takes its time); `issue_token` then looks again, in its own transaction, whether what
was proven still holds. So no token outlives a right that was taken away while it was being made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Select, bindparam, delete, insert, select

from kevel.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from kevel.domain.identity import (
    SYSTEM_ALL,
    ApplicationCredential,
    CatalogEntry,
    CredentialRef,
    Domain,
    DomainRef,
    Endpoint,
    Project,
    Role,
    RoleRef,
    ScopeKind,
    Service,
    Token,
    TokenDescription,
    User,
    UserRef,
    WantedScope,
    expand_roles,
    fill_url,
)
from kevel.store.identity import find_named, find_resource, list_roles_at, revoke_tokens, set_password
from kevel.store.schema import identity as schema
from kevel.store.transactions import Tx, as_struct, row_columns

#: Expired tokens deleted with each new one: more than come in, so they never pile up.
PURGE_ROWS_MAX: Final = 100
#: Application credentials of one user.
CREDENTIALS_MAX: Final = 1000
#: Rows read for one catalog.
CATALOG_ROWS_MAX: Final = 10_000


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What a login has shown to be true; one of the three is set."""

    user_id: str
    #: The hash that the password fitted.
    password_hash: str | None = None
    #: The credential whose secret was given.
    credential_id: str | None = None
    #: Hash of the token that was given.
    token_hash: str | None = None


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn and decided before the transaction that makes a token."""

    hash: str
    audit_id: str
    now: int
    expires_at: int


# Looking tokens up.

_OF_USER: Final = {"user_name": schema.users.c.name, "user_domain_id": schema.users.c.domain_id}
_TOKEN_COLUMNS: Final = tuple(
    _OF_USER[name] if name in _OF_USER else schema.tokens.c[name] for name in Token.__struct_fields__
)
_FIND_TOKEN: Final[Select[Any]] = (
    select(*_TOKEN_COLUMNS)
    .join_from(schema.tokens, schema.users, schema.users.c.id == schema.tokens.c.user_id)
    .where(schema.tokens.c.hash == bindparam("the_hash"), schema.tokens.c.expires_at > bindparam("now"))
)


def find_token(tx: Tx, token_hash: str, now: int) -> Token | None:
    """The token of that hash, unless it has expired: one indexed read."""
    row = tx.execute(_FIND_TOKEN, {"the_hash": token_hash, "now": now}).first()
    return None if row is None else as_struct(Token, row)


def revoke_token(tx: Tx, token_hash: str) -> None:
    """End one token. Raises NotFound."""
    if revoke_tokens(tx, schema.tokens.c.hash == token_hash) == 0:
        raise NotFound("Could not find token.")


def describe_token(tx: Tx, token: Token, *, with_catalog: bool) -> TokenDescription:
    """The token with the names of what it refers to. Raises NotFound when one of them has just gone."""
    project = find_resource(tx, Project, token.scope_id or "") if token.scope is ScopeKind.PROJECT else None
    domain_id = project.domain_id if project else token.scope_id if token.scope is ScopeKind.DOMAIN else None
    columns = row_columns(schema.roles, Role)
    roles = tx.execute(select(*columns).where(schema.roles.c.name.in_(token.roles)).order_by(schema.roles.c.name))
    credential_id = token.application_credential_id
    wants_catalog = with_catalog and token.scope is not ScopeKind.UNSCOPED
    return TokenDescription(
        token=token,
        user_domain=find_resource(tx, Domain, token.user_domain_id),
        project=project,
        domain=find_resource(tx, Domain, domain_id) if domain_id is not None else None,
        roles=[as_struct(Role, row) for row in roles],
        catalog=list_catalog(tx, token.project_id) if wants_catalog else None,
        credential=find_credential(tx, token.user_id, credential_id) if credential_id is not None else None,
    )


_CATALOG: Final[Select[Any]] = (
    select(*row_columns(schema.services, Service), *row_columns(schema.endpoints, Endpoint))
    .join_from(schema.services, schema.endpoints, schema.endpoints.c.service_id == schema.services.c.id)
    .where(schema.services.c.enabled, schema.endpoints.c.enabled)
    .order_by(schema.services.c.type, schema.services.c.id, schema.endpoints.c.region_id, schema.endpoints.c.interface)
    .limit(CATALOG_ROWS_MAX)
)


def list_catalog(tx: Tx, project_id: str | None) -> list[CatalogEntry]:
    """What is enabled, with the project's id in the URLs; endpoints that need a project are left out without one."""
    entries: dict[str, CatalogEntry] = {}
    width = len(Service.__struct_fields__)
    for row in tx.execute(_CATALOG):
        service, endpoint = as_struct(Service, row[:width]), as_struct(Endpoint, row[width:])
        entry = entries.setdefault(service.id, CatalogEntry(service=service, endpoints=[]))
        url = fill_url(endpoint.url, project_id)
        if url is not None:
            entry.endpoints.append(msgspec.structs.replace(endpoint, url=url))
    return list(entries.values())


# Logging in.


def find_login(tx: Tx, ref: UserRef) -> tuple[User, str | None] | None:
    """The user with the password's hash, or None. Whether the user is enabled is `issue_token`'s to say."""
    user = _find_user(tx, ref)
    if user is None:
        return None
    stored: str | None = tx.execute(_PASSWORD_HASH, {"user_id": user.id}).scalar_one()
    return user, stored


def find_credential_login(tx: Tx, ref: CredentialRef) -> tuple[ApplicationCredential, str] | None:
    """The application credential with its secret's hash, or None."""
    table = schema.application_credentials
    tests = [table.c.id == ref.id]
    if ref.id is None:
        user = _find_user(tx, ref.user)
        tests = [table.c.user_id == (user.id if user else None), table.c.name == ref.name]
    row = tx.execute(select(table.c.secret_hash, *_CREDENTIAL_COLUMNS).where(*tests)).first()
    return None if row is None else (as_struct(ApplicationCredential, row[1:]), row[0])


def issue_token(tx: Tx, new: NewToken, proof: Proof, wanted: WantedScope) -> Token:
    """Write a token for what was proven, scoped as wanted. Raises Unauthenticated or Forbidden."""
    _purge_tokens(tx, new.now)
    user = find_named(tx, User, id=proof.user_id)
    if user is None or not user.enabled or not _is_domain_enabled(tx, user.domain_id):
        raise Unauthenticated(LOGIN_FAILED)
    source = _require_proof(tx, proof, new.now)
    credential = None
    if proof.credential_id is not None:
        credential = find_credential(tx, user.id, proof.credential_id)
        if credential.expires_at is not None and credential.expires_at <= new.now:
            raise Unauthenticated(LOGIN_FAILED)
        wanted = WantedScope(kind=ScopeKind.PROJECT, id=credential.project_id)
    scope, scope_id = _resolve_scope(tx, user, wanted)
    roles = _collect_roles(tx, user, scope, scope_id, credential)
    token = Token(
        user_id=user.id,
        user_name=user.name,
        user_domain_id=user.domain_id,
        scope=scope,
        scope_id=scope_id,
        roles=roles,
        methods=_join_methods(proof, source),
        application_credential_id=proof.credential_id,
        audit_ids=[new.audit_id, *(source.audit_ids[-1:] if source else ())],
        issued_at=new.now,
        # A token made from another, or from a credential that ends, ends no later.
        expires_at=min(
            new.expires_at,
            source.expires_at if source else new.expires_at,
            credential.expires_at if credential and credential.expires_at else new.expires_at,
        ),
    )
    values = {**msgspec.structs.asdict(token), "hash": new.hash}
    tx.execute(insert(schema.tokens), {column.name: values[column.name] for column in schema.tokens.c})
    return token


LOGIN_FAILED: Final = "The credentials are wrong, have expired or are disabled."
SCOPE_FAILED: Final = "The user has no role in what the token should be for, or it does not exist or is disabled."

_tokens: Final = schema.tokens.c
_EXPIRED: Final = (
    select(_tokens.hash)
    .where(_tokens.expires_at <= bindparam("now"))
    .order_by(_tokens.expires_at)
    .limit(PURGE_ROWS_MAX)
)
_PURGE: Final = delete(schema.tokens).where(_tokens.hash.in_(_EXPIRED))
_PASSWORD_HASH: Final = select(schema.users.c.password_hash).where(schema.users.c.id == bindparam("user_id"))


def _find_domain(tx: Tx, ref: DomainRef) -> Domain | None:
    return find_named(tx, Domain, id=ref.id) if ref.id is not None else find_named(tx, Domain, name=ref.name or "")


def _find_user(tx: Tx, ref: UserRef) -> User | None:
    if ref.id is not None:
        return find_named(tx, User, id=ref.id)
    domain = _find_domain(tx, ref.domain)
    return find_named(tx, User, domain_id=domain.id, name=ref.name or "") if domain is not None else None


def _is_domain_enabled(tx: Tx, domain_id: str) -> bool:
    return find_resource(tx, Domain, domain_id).enabled


def _require_proof(tx: Tx, proof: Proof, now: int) -> Token | None:
    """What was proven may have been revoked since; returns the token that the new one is made from, if any."""
    if proof.password_hash is not None:
        stored = tx.execute(_PASSWORD_HASH, {"user_id": proof.user_id}).scalar_one()
        if stored != proof.password_hash:
            raise Unauthenticated(LOGIN_FAILED)
    elif proof.credential_id is not None:
        if find_credential_login(tx, CredentialRef(id=proof.credential_id)) is None:
            raise Unauthenticated(LOGIN_FAILED)
    elif proof.token_hash is not None:
        source = find_token(tx, proof.token_hash, now)
        if source is None:
            raise Unauthenticated
        if source.application_credential_id is not None:
            raise Forbidden("A token of an application credential cannot be exchanged for another one.")
        return source
    return None


def _resolve_scope(tx: Tx, user: User, wanted: WantedScope) -> tuple[ScopeKind, str | None]:
    if wanted.kind is None:
        project_id = user.default_project_id
        if project_id is not None and _may_enter(tx, user, find_named(tx, Project, id=project_id)):
            return ScopeKind.PROJECT, project_id
        return ScopeKind.UNSCOPED, None
    if wanted.kind is ScopeKind.PROJECT:
        project = _find_project(tx, wanted)
        if project is None or not _may_enter(tx, user, project):
            raise Unauthenticated(SCOPE_FAILED)
        return ScopeKind.PROJECT, project.id
    if wanted.kind is ScopeKind.DOMAIN:
        domain = _find_domain(tx, DomainRef(id=wanted.id, name=wanted.name))
        if domain is None or not domain.enabled:
            raise Unauthenticated(SCOPE_FAILED)
        return ScopeKind.DOMAIN, domain.id
    return wanted.kind, SYSTEM_ALL if wanted.kind is ScopeKind.SYSTEM else None


def _find_project(tx: Tx, wanted: WantedScope) -> Project | None:
    if wanted.id is not None:
        return find_named(tx, Project, id=wanted.id)
    domain = _find_domain(tx, wanted.domain)
    return find_named(tx, Project, domain_id=domain.id, name=wanted.name or "") if domain is not None else None


def _may_enter(tx: Tx, user: User, project: Project | None) -> bool:
    if project is None or not project.enabled or not _is_domain_enabled(tx, project.domain_id):
        return False
    return bool(list_roles_at(tx, user.id, ScopeKind.PROJECT, project.id))


def _collect_roles(
    tx: Tx, user: User, scope: ScopeKind, scope_id: str | None, credential: ApplicationCredential | None
) -> list[str]:
    """Names of the roles that the user has there, implied ones included; of those, what the credential may have."""
    if scope_id is None:
        return []
    names = expand_roles(role.name for role in list_roles_at(tx, user.id, scope, scope_id))
    if credential is not None:
        allowed = tx.execute(select(schema.roles.c.name).where(schema.roles.c.id.in_(credential.roles)))
        names &= expand_roles(allowed.scalars())
    if not names:
        raise Unauthenticated(SCOPE_FAILED)
    return sorted(tx.execute(select(schema.roles.c.name).where(schema.roles.c.name.in_(names))).scalars())


def _join_methods(proof: Proof, source: Token | None) -> list[str]:
    if source is not None:
        return [*(method for method in source.methods if method != "token"), "token"]
    return ["application_credential" if proof.credential_id is not None else "password"]


def _purge_tokens(tx: Tx, now: int) -> None:
    tx.execute(_PURGE, {"now": now})


def exchange_password(tx: Tx, user_id: str, old_hash: str, new_hash: str) -> None:
    """Write the new hash if the old one is still in force, and end the user's tokens. Raises Unauthenticated."""
    if tx.execute(_PASSWORD_HASH, {"user_id": user_id}).scalar() != old_hash:
        raise Unauthenticated(LOGIN_FAILED)
    set_password(tx, user_id, new_hash)


# Application credentials.

_CREDENTIAL_COLUMNS: Final = row_columns(schema.application_credentials, ApplicationCredential)


def create_credential(
    tx: Tx, credential: ApplicationCredential, secret_hash: str, wanted: Sequence[RoleRef] | None, held: Sequence[str]
) -> ApplicationCredential:
    """Write a new one with the wanted roles (None: all) of those that the caller's token holds, and return it so.

    Raises Conflict, Forbidden, Invalid or NotFound.
    """
    table = schema.application_credentials
    mine = tx.execute(select(table.c.name).where(table.c.user_id == credential.user_id)).scalars().all()
    if credential.name in mine:
        raise Conflict(f"You already have an application credential named {credential.name}.")
    if len(mine) >= CREDENTIALS_MAX:
        raise Forbidden(f"You have {CREDENTIALS_MAX} application credentials, which is the most; delete one first.")
    find_resource(tx, Project, credential.project_id)
    credential = msgspec.structs.replace(credential, roles=_choose_roles(tx, wanted, held))
    tx.execute(insert(table), {**msgspec.structs.asdict(credential), "secret_hash": secret_hash})
    return credential


def _choose_roles(tx: Tx, wanted: Sequence[RoleRef] | None, held: Sequence[str]) -> list[str]:
    rows = tx.execute(select(schema.roles.c.id, schema.roles.c.name).where(schema.roles.c.name.in_(held))).all()
    if wanted is None:
        return sorted(row.id for row in rows)
    by_name = {row.name: row.id for row in rows}
    ids = {ref.id if ref.id is not None else by_name.get(ref.name, "") for ref in wanted}
    if not ids <= set(by_name.values()):
        raise Invalid("An application credential can only have roles that your own token has in this project.")
    return sorted(ids)


def find_credential(tx: Tx, user_id: str, credential_id: str) -> ApplicationCredential:
    """The user's application credential of that id. Raises NotFound."""
    table = schema.application_credentials
    tests = table.c.id == credential_id, table.c.user_id == user_id
    row = tx.execute(select(*_CREDENTIAL_COLUMNS).where(*tests)).first()
    if row is None:
        raise NotFound(f"Could not find application credential: {credential_id[:64]}.")
    return as_struct(ApplicationCredential, row)


def list_credentials(tx: Tx, user_id: str, name: str | None) -> list[ApplicationCredential]:
    """The user's application credentials, at most CREDENTIALS_MAX of them."""
    find_resource(tx, User, user_id)
    table = schema.application_credentials
    tests = [table.c.user_id == user_id] + ([table.c.name == name] if name is not None else [])
    rows = tx.execute(select(*_CREDENTIAL_COLUMNS).where(*tests).order_by(table.c.id).limit(CREDENTIALS_MAX))
    return [as_struct(ApplicationCredential, row) for row in rows]


def delete_credential(tx: Tx, user_id: str, credential_id: str) -> None:
    """Delete it; tokens made with it end. Raises NotFound."""
    find_credential(tx, user_id, credential_id)
    table = schema.application_credentials
    revoke_tokens(tx, schema.tokens.c.application_credential_id == credential_id)
    tx.execute(delete(table).where(table.c.id == credential_id))
