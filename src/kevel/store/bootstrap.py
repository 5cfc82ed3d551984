"""What Kevel puts into its identity tables itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kevel.domain.catalog import built_in_endpoints, built_in_region, built_in_services
from kevel.domain.identity import (
    DEFAULT_DOMAIN_ID,
    FIXED_ROLES,
    SYSTEM_ALL,
    Domain,
    Endpoint,
    Project,
    Region,
    Role,
    ScopeKind,
    Service,
    User,
)
from kevel.store.identity import assign_role, create_resource, find_named, replace_resource, set_password
from kevel.store.transactions import Tx

#: The name of the first user and of the first project.
ADMIN: Final = "admin"


def is_first_start(tx: Tx) -> bool:
    """Has nothing been put in yet?"""
    return find_named(tx, Domain, id=DEFAULT_DOMAIN_ID) is None


def put_catalog(tx: Tx, origin: str) -> None:
    """Bring Kevel's own catalog entries to this address; what an admin disabled stays so, and others' entries stay."""
    if find_named(tx, Region, id=built_in_region().id) is None:
        create_resource(tx, built_in_region())
    for service in built_in_services():
        if find_named(tx, Service, id=service.id) is None:
            create_resource(tx, service)
    for endpoint in built_in_endpoints(origin):
        old = find_named(tx, Endpoint, id=endpoint.id)
        if old is None:
            create_resource(tx, endpoint)
        elif old.url != endpoint.url:
            replace_resource(tx, msgspec.structs.replace(old, url=endpoint.url))


def put_admin(tx: Tx, fresh_ids: Mapping[str, str], password_hash: str, now: int) -> None:
    """Make sure that the user and project `admin` of the default domain exist and are enabled, with this password.

    `fresh_ids` has an id for each fixed role, and for "user" and "project"; only those of what is missing are used.
    """
    if is_first_start(tx):
        create_resource(
            tx, Domain(id=DEFAULT_DOMAIN_ID, name="Default", description="The default domain", enabled=True, extra={})
        )
    for name in FIXED_ROLES:
        if find_named(tx, Role, name=name) is None:
            create_resource(tx, Role(id=fresh_ids[name], name=name, description=None, extra={}))
    user, project = _put_user(tx, fresh_ids["user"], now), _put_project(tx, fresh_ids["project"], now)
    set_password(tx, user.id, password_hash)
    role = find_named(tx, Role, name="admin")
    assert role is not None
    assign_role(tx, user.id, ScopeKind.PROJECT, project.id, role.id)
    assign_role(tx, user.id, ScopeKind.SYSTEM, SYSTEM_ALL, role.id)


def _put_user(tx: Tx, fresh_id: str, now: int) -> User:
    user = find_named(tx, User, domain_id=DEFAULT_DOMAIN_ID, name=ADMIN)
    if user is None:
        user = User(
            id=fresh_id,
            domain_id=DEFAULT_DOMAIN_ID,
            name=ADMIN,
            enabled=True,
            default_project_id=None,
            extra={},
            created_at=now,
        )
        create_resource(tx, user)
    elif not user.enabled:
        replace_resource(tx, msgspec.structs.replace(user, enabled=True))
    return user


def _put_project(tx: Tx, fresh_id: str, now: int) -> Project:
    project = find_named(tx, Project, domain_id=DEFAULT_DOMAIN_ID, name=ADMIN)
    if project is None:
        project = Project(
            id=fresh_id,
            domain_id=DEFAULT_DOMAIN_ID,
            name=ADMIN,
            description="The first project",
            enabled=True,
            extra={},
            created_at=now,
        )
        create_resource(tx, project)
    elif not project.enabled:
        replace_resource(tx, msgspec.structs.replace(project, enabled=True))
    return project
