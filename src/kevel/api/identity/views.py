"""What clients get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kevel.domain.identity import (
    ApplicationCredential,
    Assignment,
    CatalogEntry,
    Domain,
    Endpoint,
    Project,
    Region,
    Role,
    ScopeKind,
    Service,
    TokenDescription,
    User,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def show_time(at_us: int) -> str:
    """Microseconds since the epoch, as identity writes times."""
    return (_EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def show_domain(domain: Domain) -> dict[str, Any]:
    return {
        **domain.extra,
        "id": domain.id,
        "name": domain.name,
        "description": domain.description,
        "enabled": domain.enabled,
        "tags": [],
        "options": {},
    }


def show_project(project: Project) -> dict[str, Any]:
    return {
        **project.extra,
        "id": project.id,
        "name": project.name,
        "domain_id": project.domain_id,
        "description": project.description,
        "enabled": project.enabled,
        "parent_id": project.domain_id,
        "is_domain": False,
        "tags": [],
        "options": {},
    }


def show_user(user: User) -> dict[str, Any]:
    return {
        **user.extra,
        "id": user.id,
        "name": user.name,
        "domain_id": user.domain_id,
        "enabled": user.enabled,
        "default_project_id": user.default_project_id,
        "password_expires_at": None,
        "options": {},
    }


def show_role(role: Role) -> dict[str, Any]:
    return {
        **role.extra,
        "id": role.id,
        "name": role.name,
        "domain_id": None,
        "description": role.description,
        "options": {},
    }


def show_service(service: Service) -> dict[str, Any]:
    return {
        **service.extra,
        "id": service.id,
        "type": service.type,
        "name": service.name,
        "description": service.description,
        "enabled": service.enabled,
    }


def show_region(region: Region) -> dict[str, Any]:
    return {
        **region.extra,
        "id": region.id,
        "description": region.description,
        "parent_region_id": region.parent_region_id,
    }


def show_endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        **endpoint.extra,
        "id": endpoint.id,
        "service_id": endpoint.service_id,
        "interface": endpoint.interface,
        "region_id": endpoint.region_id,
        "region": endpoint.region_id,
        "url": endpoint.url,
        "enabled": endpoint.enabled,
    }


def show_credential(credential: ApplicationCredential, roles: Mapping[str, Role]) -> dict[str, Any]:
    """`roles` by id; those that have been deleted since are left out."""
    named = [roles[role_id] for role_id in credential.roles if role_id in roles]
    return {
        "id": credential.id,
        "name": credential.name,
        "description": credential.description,
        "user_id": credential.user_id,
        "project_id": credential.project_id,
        "roles": [{"id": role.id, "name": role.name, "domain_id": None} for role in named],
        "unrestricted": credential.unrestricted,
        "expires_at": None if credential.expires_at is None else show_time(credential.expires_at),
        "system": None,
    }


def show_catalog(catalog: Sequence[CatalogEntry]) -> list[dict[str, Any]]:
    return [
        {
            "id": entry.service.id,
            "type": entry.service.type,
            "name": entry.service.name,
            "endpoints": [
                {
                    "id": endpoint.id,
                    "interface": endpoint.interface,
                    "region_id": endpoint.region_id,
                    "region": endpoint.region_id,
                    "url": endpoint.url,
                }
                for endpoint in entry.endpoints
            ],
        }
        for entry in catalog
    ]


def show_token(description: TokenDescription) -> dict[str, Any]:
    token, domain = description.token, description.user_domain
    shown: dict[str, Any] = {
        "methods": token.methods,
        "user": {
            "id": token.user_id,
            "name": token.user_name,
            "domain": {"id": domain.id, "name": domain.name},
            "password_expires_at": None,
        },
        "audit_ids": token.audit_ids,
        "issued_at": show_time(token.issued_at),
        "expires_at": show_time(token.expires_at),
    }
    if token.scope is not ScopeKind.UNSCOPED:
        shown |= _show_scope(description)
        shown["roles"] = [{"id": role.id, "name": role.name} for role in description.roles]
    if description.catalog is not None:
        shown["catalog"] = show_catalog(description.catalog)
    if description.credential is not None:
        credential = description.credential
        shown["application_credential"] = {
            "id": credential.id,
            "name": credential.name,
            "restricted": not credential.unrestricted,
        }
    return shown


def _show_scope(description: TokenDescription) -> dict[str, Any]:
    project, domain = description.project, description.domain
    if project is not None and domain is not None:
        inside = {"id": domain.id, "name": domain.name}
        return {"project": {"id": project.id, "name": project.name, "domain": inside}, "is_domain": False}
    if domain is not None:
        return {"domain": {"id": domain.id, "name": domain.name}}
    return {"system": {"all": True}}


def show_assignment(item: Assignment, base: str, *, with_names: bool) -> dict[str, Any]:
    """`base`: the API's address, for the link to the assignment."""
    role: dict[str, Any] = {"id": item.role_id}
    user: dict[str, Any] = {"id": item.user_id}
    scope: dict[str, Any] = {"id": item.scope_id}
    if with_names:
        role["name"] = item.role_name
        user |= {"name": item.user_name, "domain": {"id": item.user_domain_id, "name": item.user_domain_name}}
        scope["name"] = item.scope_name
        if item.scope is ScopeKind.PROJECT:
            scope["domain"] = {"id": item.scope_domain_id, "name": item.scope_domain_name}
    place = "system" if item.scope is ScopeKind.SYSTEM else f"{item.scope.value}s/{item.scope_id}"
    return {
        "role": role,
        "user": user,
        "scope": {"system": {"all": True}} if item.scope is ScopeKind.SYSTEM else {item.scope.value: scope},
        "links": {"assignment": f"{base}/{place}/users/{item.user_id}/roles/{item.role_id}"},
    }
