"""Logging in, and tokens."""

from __future__ import annotations

from typing import Any

from kevel.api.identity.bodies import (
    AuthPart,
    CredentialPart,
    DomainPart,
    ProjectPart,
    ScopePart,
    UserPart,
)
from kevel.api.identity.views import show_catalog, show_domain, show_project, show_token
from kevel.api.operations import Call, Reply
from kevel.control.identity.identity import Issued
from kevel.domain.errors import Forbidden, Invalid, Unauthenticated
from kevel.domain.identity import CredentialRef, DomainRef, ScopeKind, Token, UserRef, WantedScope


async def log_in(call: Call) -> Reply:
    """POST /auth/tokens."""
    issued = await _issue(call, call.body.auth)
    headers = {"X-Subject-Token": issued.secret, "Vary": "X-Auth-Token"}
    return Reply(body={"token": show_token(issued.description)}, headers=headers)


async def _issue(call: Call, auth: AuthPart) -> Issued:
    identity = call.services.identity
    wanted = _read_scope(auth.scope)
    with_catalog = _wants_catalog(call)
    proofs = auth.identity
    if len(proofs.methods) > 1:
        raise Invalid("auth.identity.methods: use exactly one method.")
    method = proofs.methods[0]
    if method == "password":
        user = _require(proofs.password, method).user
        return await identity.log_in_by_password(_read_user(user), user.password, wanted, with_catalog=with_catalog)
    if method == "token":
        secret = _require(proofs.token, method).id
        return await identity.log_in_by_token(secret, wanted, with_catalog=with_catalog)
    if method == "application_credential":
        part = _require(proofs.application_credential, method)
        ref = _read_credential(part)
        return await identity.log_in_by_credential(ref, part.secret, wanted, with_catalog=with_catalog)
    raise Unauthenticated(
        f"There is no authentication method {method[:64]!r}; use password, token or application_credential."
    )


def _require(part: Any, method: str) -> Any:
    if part is None:
        raise Invalid(f"auth.identity.{method} is missing.")
    return part


def _read_domain(part: DomainPart | None, place: str) -> DomainRef:
    if part is None or (part.id is None and part.name is None):
        raise Invalid(f"{place} needs an id or a name.")
    return DomainRef(id=part.id, name=part.name)


def _read_user(part: UserPart) -> UserRef:
    if part.id is not None:
        return UserRef(id=part.id)
    if part.name is None:
        raise Invalid("The user needs an id, or a name with a domain.")
    return UserRef(name=part.name, domain=_read_domain(part.domain, "The user's domain"))


def _read_credential(part: CredentialPart) -> CredentialRef:
    if part.id is not None:
        return CredentialRef(id=part.id)
    if part.name is None or part.user is None:
        raise Invalid("auth.identity.application_credential needs an id, or a name with a user.")
    return CredentialRef(name=part.name, user=_read_user(part.user))


def _read_scope(scope: ScopePart | str | None) -> WantedScope:
    if scope is None:
        return WantedScope()
    if isinstance(scope, str):
        if scope != "unscoped":
            raise Invalid("auth.scope has to be an object, or the word unscoped.")
        return WantedScope(kind=ScopeKind.UNSCOPED)
    if sum(part is not None for part in (scope.project, scope.domain, scope.system)) != 1:
        raise Invalid("auth.scope has to hold exactly one of project, domain and system.")
    if scope.project is not None:
        return _read_project(scope.project)
    if scope.domain is not None:
        domain = _read_domain(scope.domain, "auth.scope.domain")
        return WantedScope(kind=ScopeKind.DOMAIN, id=domain.id, name=domain.name)
    if scope.system is None or not scope.system.all:
        raise Invalid("auth.scope.system.all has to be true.")
    return WantedScope(kind=ScopeKind.SYSTEM)


def _read_project(part: ProjectPart) -> WantedScope:
    if part.id is not None:
        return WantedScope(kind=ScopeKind.PROJECT, id=part.id)
    if part.name is None:
        raise Invalid("auth.scope.project needs an id, or a name with a domain.")
    domain = _read_domain(part.domain, "auth.scope.project.domain")
    return WantedScope(kind=ScopeKind.PROJECT, name=part.name, domain=domain)


def _wants_catalog(call: Call) -> bool:
    return all(name != "nocatalog" for name, _ in call.query_items)


async def _find_subject(call: Call) -> tuple[str, Token]:
    """The token that is asked about: one's own, or any for an admin or a service."""
    secret = call.request.headers.get("x-subject-token")
    if not secret:
        raise Invalid("The header X-Subject-Token is missing.")
    token = await call.services.identity.find_subject_token(secret)
    if token.user_id != call.caller.user_id and not call.caller.is_admin and "service" not in call.caller.roles:
        raise Forbidden("Only an admin or a service may ask about another user's token.")
    return secret, token


async def show(call: Call) -> Reply:
    """GET /auth/tokens."""
    secret, token = await _find_subject(call)
    description = await call.services.identity.describe_token(token, with_catalog=_wants_catalog(call))
    headers = {"X-Subject-Token": secret, "Vary": "X-Auth-Token"}
    return Reply(body={"token": show_token(description)}, headers=headers)


async def check(call: Call) -> Reply:
    """HEAD /auth/tokens."""
    secret, _ = await _find_subject(call)
    return Reply(headers={"X-Subject-Token": secret, "Vary": "X-Auth-Token"})


async def revoke(call: Call) -> Reply:
    """DELETE /auth/tokens."""
    secret, token = await _find_subject(call)
    if token.user_id != call.caller.user_id and not call.caller.is_admin:
        raise Forbidden("Only an admin may revoke another user's token.")
    await call.services.identity.revoke_token(secret)
    return Reply()


async def find_own_token(call: Call) -> Token:
    """The token that this request came with."""
    return await call.services.identity.find_token(call.request.headers.get("x-auth-token", ""))


async def list_catalog(call: Call) -> Reply:
    """GET /auth/catalog."""
    token = await find_own_token(call)
    if token.scope is ScopeKind.UNSCOPED:
        raise Forbidden("An unscoped token has no catalog.")
    catalog = await call.services.identity.list_catalog(token.project_id)
    return Reply(body={"catalog": show_catalog(catalog), "links": _links(call)})


async def list_projects(call: Call) -> Reply:
    """GET /auth/projects."""
    found = await call.services.identity.list_projects_of(call.caller.user_id, {"enabled": True})
    return Reply(body={"projects": [show_project(project) for project in found], "links": _links(call)})


async def list_domains(call: Call) -> Reply:
    """GET /auth/domains."""
    found = await call.services.identity.list_domains_of(call.caller.user_id)
    shown = [show_domain(domain) for domain in found if domain.enabled]
    return Reply(body={"domains": shown, "links": _links(call)})


def _links(call: Call) -> dict[str, Any]:
    return {"self": str(call.request.url), "previous": None, "next": None}
