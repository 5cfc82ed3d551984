"""Domains, projects, users, roles, services, regions and endpoints, and who has which role where.

They live alike, so the functions are the same for all of them; what differs is in `_KINDS` and `_CHECKS`. Whatever
takes a right away deletes the tokens that carry it, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Select, Table, bindparam, delete, func, insert, or_, select, update

from kevel.domain.catalog import BUILT_IN_IDS
from kevel.domain.errors import Conflict, Forbidden, Invalid, NotFound
from kevel.domain.identity import (
    DEFAULT_DOMAIN_ID,
    FIXED_ROLES,
    SYSTEM_ALL,
    Assignment,
    Domain,
    Endpoint,
    Project,
    Region,
    Resource,
    Role,
    ScopeKind,
    Service,
    User,
    require_small_extra,
)
from kevel.store.schema import identity as schema
from kevel.store.transactions import Tx, as_struct, row_columns

R = TypeVar("R", bound=Resource)

#: The wake-up that tells of tokens deleted, or of names in them changed.
TOKENS_WAKE: Final = "token"
#: Rows in one page of a list.
PAGE_ROWS_MAX: Final = 1000
#: Rows in a list of role assignments, which has no pages.
ASSIGNMENT_ROWS_MAX: Final = 10_000

_THE_ID: Final = "the_id"


class _Kind(Generic[R]):
    """A resource's table, with its statements built once. `unique`: columns that together may occur only once."""

    def __init__(self, noun: str, struct: type[R], table: Table, *unique: str) -> None:
        self.noun = noun
        self.struct = struct
        self.table = table
        by_id = table.c.id == bindparam(_THE_ID)
        self.select_all = select(*row_columns(table, struct))
        self.select_one = self.select_all.where(by_id)
        self.insert = insert(table)
        self.update = update(table).where(by_id)
        self.delete = delete(table).where(by_id)
        self.unique = unique
        same = (table.c[name] == bindparam(f"the_{name}") for name in unique)
        self.select_namesake = select(table.c.id).where(*same, table.c.id != bindparam(_THE_ID))


_KINDS: Final[dict[type[Any], _Kind[Any]]] = {
    kind.struct: kind
    for kind in (
        _Kind("domain", Domain, schema.domains, "name"),
        _Kind("project", Project, schema.projects, "domain_id", "name"),
        _Kind("user", User, schema.users, "domain_id", "name"),
        _Kind("role", Role, schema.roles, "name"),
        _Kind("service", Service, schema.services),
        _Kind("region", Region, schema.regions),
        _Kind("endpoint", Endpoint, schema.endpoints),
    )
}


def find_resource(tx: Tx, struct: type[R], resource_id: str) -> R:
    """The resource of that id. Raises NotFound."""
    kind: _Kind[R] = _KINDS[struct]
    row = tx.execute(kind.select_one, {_THE_ID: resource_id}).first()
    if row is None:
        raise NotFound(f"Could not find {kind.noun}: {resource_id[:64]}.")
    return as_struct(struct, row)


def find_named(tx: Tx, struct: type[R], **columns: Any) -> R | None:
    """The one resource with those values, or None."""
    assert None not in columns.values(), "a None would match any row"
    found = list_resources(tx, struct, columns, limit=1)
    return found[0] if found else None


def list_resources(
    tx: Tx, struct: type[R], filters: Mapping[str, Any], *, limit: int = PAGE_ROWS_MAX, marker: str | None = None
) -> list[R]:
    """The resources whose columns have the filters' values (a None filters nothing), by id, after the marker's id."""
    kind: _Kind[R] = _KINDS[struct]
    table = kind.table
    tests = [table.c[name] == value for name, value in filters.items() if value is not None]
    if marker is not None:
        tests.append(table.c.id > marker)
    rows = tx.execute(kind.select_all.where(*tests).order_by(table.c.id).limit(limit))
    return [as_struct(struct, row) for row in rows]


def list_projects_of(tx: Tx, user_id: str, filters: Mapping[str, Any]) -> list[Project]:
    """The projects in which the user has a role. Raises NotFound for an unknown user."""
    find_resource(tx, User, user_id)
    return _list_scopes_of(tx, Project, ScopeKind.PROJECT, user_id, filters)


def list_domains_of(tx: Tx, user_id: str) -> list[Domain]:
    """The domains in which the user has a role."""
    return _list_scopes_of(tx, Domain, ScopeKind.DOMAIN, user_id, {})


def _list_scopes_of(tx: Tx, struct: type[R], scope: ScopeKind, user_id: str, filters: Mapping[str, Any]) -> list[R]:
    kind: _Kind[R] = _KINDS[struct]
    held = schema.role_assignments.c
    reached = select(held.scope_id).where(held.user_id == user_id, held.scope == scope)
    tests = [kind.table.c[name] == value for name, value in filters.items() if value is not None]
    rows = tx.execute(
        kind.select_all.where(kind.table.c.id.in_(reached), *tests).order_by(kind.table.c.id).limit(PAGE_ROWS_MAX)
    )
    return [as_struct(struct, row) for row in rows]


def create_resource(tx: Tx, resource: Resource) -> None:
    """Write a new one. Raises Conflict if its name or id is taken, NotFound or Invalid if it refers to nothing."""
    kind = _KINDS[type(resource)]
    if tx.execute(kind.select_one, {_THE_ID: resource.id}).first() is not None:
        raise Conflict(f"There is already a {kind.noun} with the id {resource.id}.")
    _check(tx, resource)
    tx.execute(kind.insert, msgspec.structs.asdict(resource))


def create_user(tx: Tx, user: User, password_hash: str | None) -> None:
    """Write a new user; None: one who cannot log in with a password."""
    create_resource(tx, user)
    tx.execute(_SET_PASSWORD, {_THE_ID: user.id, "password_hash": password_hash})


def change_resource(tx: Tx, struct: type[R], resource_id: str, changes: Mapping[str, Any]) -> R:
    """Write the changed fields. `extra` is merged into what is there; a None in it removes the key.

    Raises as `create_resource`, or Forbidden.
    """
    old = find_resource(tx, struct, resource_id)
    merged = {**old.extra, **changes.get("extra", {})}
    extra = {key: value for key, value in merged.items() if value is not None}
    new = msgspec.structs.replace(old, **{**changes, "extra": extra})
    if new == old:
        return new
    _check(tx, new)
    _settle_change(tx, old, new)
    replace_resource(tx, new)
    return new


def replace_resource(tx: Tx, resource: Resource) -> None:
    """Write all fields of one that exists, unchecked: for Kevel's own entries, which others may not change."""
    tx.execute(_KINDS[type(resource)].update, {_THE_ID: resource.id, **msgspec.structs.asdict(resource)})
    tx.wake(TOKENS_WAKE, resource.id)


def change_user(tx: Tx, user_id: str, changes: Mapping[str, Any], password_hash: str | None) -> User:
    """Like `change_resource`, with a new password unless it is None."""
    user = change_resource(tx, User, user_id, changes)
    if password_hash is not None:
        set_password(tx, user_id, password_hash)
    return user


def set_password(tx: Tx, user_id: str, password_hash: str) -> None:
    """Write the new password's hash; every token of the user ends."""
    tx.execute(_SET_PASSWORD, {_THE_ID: user_id, "password_hash": password_hash})
    revoke_tokens(tx, _tokens.user_id == user_id)


def delete_resource(tx: Tx, struct: type[R], resource_id: str) -> None:
    """Delete it and what hangs on it. Raises NotFound, or Forbidden where something still needs it."""
    old = find_resource(tx, struct, resource_id)
    if isinstance(old, Domain):
        _empty_domain(tx, old)
    elif isinstance(old, Project):
        _release_scope(tx, ScopeKind.PROJECT, old.id)
    elif isinstance(old, Role):
        _require_free_role(old)
        _revoke_of_role(tx, old)
    elif isinstance(old, Region):
        _require_unused_region(tx, old)
    _require_not_built_in(old)
    tx.execute(_KINDS[struct].delete, {_THE_ID: resource_id})
    tx.wake(TOKENS_WAKE, resource_id)


_SET_PASSWORD: Final = (
    update(schema.users).where(schema.users.c.id == bindparam(_THE_ID)).values(password_hash=bindparam("password_hash"))
)


# What a resource may refer to.


def _check(tx: Tx, resource: Resource) -> None:
    require_small_extra(resource.extra)
    kind = _KINDS[type(resource)]
    if kind.unique:
        values = {f"the_{name}": getattr(resource, name) for name in kind.unique}
        if tx.execute(kind.select_namesake, {**values, _THE_ID: resource.id}).first() is not None:
            raise Conflict(f"There is already a {kind.noun} with that name: {getattr(resource, 'name', '')}.")
    check = _CHECKS.get(type(resource))
    if check is not None:
        check(tx, resource)


def _check_in_domain(tx: Tx, resource: Project | User) -> None:
    find_resource(tx, Domain, resource.domain_id)


def _check_region(tx: Tx, region: Region) -> None:
    at: str | None = region.parent_region_id
    if at is not None and find_named(tx, Region, id=at) is None:
        raise Invalid(f"There is no region {at} that could be the parent region.")
    for _ in range(REGION_DEPTH_MAX):
        if at is None:
            return
        if at == region.id:
            raise Invalid(f"The region {region.id} would be its own parent.")
        at = find_resource(tx, Region, at).parent_region_id
    raise Invalid(f"Regions nest too deep; the most is {REGION_DEPTH_MAX} levels.")


def _check_endpoint(tx: Tx, endpoint: Endpoint) -> None:
    if find_named(tx, Service, id=endpoint.service_id) is None:
        raise Invalid(f"There is no service with the id {endpoint.service_id}.")
    if endpoint.region_id is not None and find_named(tx, Region, id=endpoint.region_id) is None:
        raise Invalid(f"There is no region {endpoint.region_id}; create it first.")


REGION_DEPTH_MAX: Final = 16
_CHECKS: Final[dict[type[Any], Callable[[Tx, Any], None]]] = {
    Project: _check_in_domain,
    User: _check_in_domain,
    Region: _check_region,
    Endpoint: _check_endpoint,
}


# What follows from a change.


def _settle_change(tx: Tx, old: Resource, new: Resource) -> None:
    if isinstance(old, Project | User) and isinstance(new, Project | User) and old.domain_id != new.domain_id:
        raise Invalid("A project or user cannot be moved to another domain.")
    if isinstance(old, Role) and isinstance(new, Role) and old.name != new.name:
        _require_free_role(old)
        _revoke_of_role(tx, old)
    if isinstance(old, Endpoint | Service) and _place(old) != _place(new):
        _require_not_built_in(old)
    if getattr(old, "enabled", False) and not getattr(new, "enabled", True):
        _settle_disabling(tx, old)


def _place(resource: Resource) -> tuple[str, ...]:
    """What clients find a service or an endpoint by."""
    if isinstance(resource, Endpoint):
        return resource.service_id, resource.interface, resource.region_id or "", resource.url
    return (resource.type,) if isinstance(resource, Service) else ()


def _settle_disabling(tx: Tx, resource: Resource) -> None:
    if isinstance(resource, Domain):
        if resource.id == DEFAULT_DOMAIN_ID:
            raise Forbidden("The default domain cannot be disabled: nobody could log in to enable it again.")
        _revoke_of_domain(tx, resource.id)
    elif isinstance(resource, Project):
        revoke_tokens(tx, _tokens.scope == ScopeKind.PROJECT, _tokens.scope_id == resource.id)
    elif isinstance(resource, User):
        revoke_tokens(tx, _tokens.user_id == resource.id)


def _require_not_built_in(resource: Resource) -> None:
    if isinstance(resource, Service | Endpoint | Region) and resource.id in BUILT_IN_IDS:
        raise Forbidden(
            "This is part of Kevel's own catalog, which follows the address that Kevel listens on; disable it."
        )


def _require_free_role(role: Role) -> None:
    if role.name in FIXED_ROLES:
        raise Forbidden(f"Kevel's own rules use the role {role.name}: it can be neither renamed nor deleted.")


def _require_unused_region(tx: Tx, region: Region) -> None:
    endpoints, regions = schema.endpoints.c, schema.regions.c
    used = tx.execute(select(endpoints.id).where(endpoints.region_id == region.id).limit(1)).first()
    parent = tx.execute(select(regions.id).where(regions.parent_region_id == region.id).limit(1)).first()
    if used is not None or parent is not None:
        raise Forbidden(f"The region {region.id} still has endpoints or regions in it.")


def _empty_domain(tx: Tx, domain: Domain) -> None:
    if domain.id == DEFAULT_DOMAIN_ID:
        raise Forbidden("The default domain cannot be deleted.")
    if domain.enabled:
        raise Forbidden("The domain is enabled; disable it before you delete it, with all its users and projects.")
    _revoke_of_domain(tx, domain.id)
    held = schema.role_assignments
    inside = select(schema.projects.c.id).where(schema.projects.c.domain_id == domain.id)
    tx.execute(delete(held).where(held.c.scope == ScopeKind.PROJECT, held.c.scope_id.in_(inside)))
    tx.execute(delete(schema.projects).where(schema.projects.c.domain_id == domain.id))
    tx.execute(delete(schema.users).where(schema.users.c.domain_id == domain.id))
    _release_scope(tx, ScopeKind.DOMAIN, domain.id)


def _release_scope(tx: Tx, scope: ScopeKind, scope_id: str) -> None:
    revoke_tokens(tx, _tokens.scope == scope, _tokens.scope_id == scope_id)
    held = schema.role_assignments
    tx.execute(delete(held).where(held.c.scope == scope, held.c.scope_id == scope_id))


# Revoking tokens.

_tokens: Final = schema.tokens.c


def revoke_tokens(tx: Tx, *tests: ColumnElement[bool]) -> int:
    """Delete the tokens that pass all tests; the number of them."""
    deleted = tx.execute(delete(schema.tokens).where(*tests)).rowcount
    tx.wake(TOKENS_WAKE, "")
    return deleted


def _revoke_of_domain(tx: Tx, domain_id: str) -> None:
    members = select(schema.users.c.id).where(schema.users.c.domain_id == domain_id)
    inside = select(schema.projects.c.id).where(schema.projects.c.domain_id == domain_id)
    revoke_tokens(tx, or_(_tokens.user_id.in_(members), _tokens.scope_id.in_(inside), _tokens.scope_id == domain_id))


def _revoke_of_role(tx: Tx, role: Role) -> None:
    held = schema.role_assignments.c
    revoke_tokens(tx, _tokens.user_id.in_(select(held.user_id).where(held.role_id == role.id)))


# Who has which role where.


def assign_role(tx: Tx, user_id: str, scope: ScopeKind, scope_id: str, role_id: str) -> None:
    """Give the user the role there; nothing changes if it is so already. Raises NotFound."""
    _require_user_and_scope(tx, user_id, scope, scope_id)
    find_resource(tx, Role, role_id)
    key = {"user_id": user_id, "scope": scope, "scope_id": scope_id, "role_id": role_id}
    if not has_role(tx, user_id, scope, scope_id, role_id):
        tx.execute(_ASSIGN, key)


def unassign_role(tx: Tx, user_id: str, scope: ScopeKind, scope_id: str, role_id: str) -> None:
    """Take the role away; the user's tokens for that scope end.

    Raises NotFound, also for an assignment that is not there.
    """
    require_role(tx, user_id, scope, scope_id, role_id)
    tx.execute(_UNASSIGN, {"user_id": user_id, "scope": scope, "scope_id": scope_id, "role_id": role_id})
    revoke_tokens(tx, _tokens.user_id == user_id, _tokens.scope == scope, _tokens.scope_id == scope_id)


def require_role(tx: Tx, user_id: str, scope: ScopeKind, scope_id: str, role_id: str) -> None:
    """Raise NotFound unless the user has the role there."""
    if not has_role(tx, user_id, scope, scope_id, role_id):
        _require_user_and_scope(tx, user_id, scope, scope_id)
        find_resource(tx, Role, role_id)
        raise NotFound(f"Could not find role assignment: user {user_id} does not have the role {role_id} there.")


def has_role(tx: Tx, user_id: str, scope: ScopeKind, scope_id: str, role_id: str) -> bool:
    """Is the role assigned to the user there?"""
    key = {"user_id": user_id, "scope": scope, "scope_id": scope_id, "role_id": role_id}
    return tx.execute(_SELECT_ASSIGNED, key).first() is not None


def list_roles_of_user(tx: Tx, user_id: str, scope: ScopeKind, scope_id: str) -> list[Role]:
    """Like `list_roles_at`. Raises NotFound for an unknown user, project or domain."""
    _require_user_and_scope(tx, user_id, scope, scope_id)
    return list_roles_at(tx, user_id, scope, scope_id)


def list_roles_at(tx: Tx, user_id: str, scope: ScopeKind, scope_id: str) -> list[Role]:
    """The roles assigned to the user there, without implied ones."""
    held = schema.role_assignments.c
    there = select(held.role_id).where(held.user_id == user_id, held.scope == scope, held.scope_id == scope_id)
    roles = schema.roles.c
    rows = tx.execute(_KINDS[Role].select_all.where(roles.id.in_(there)).order_by(roles.name))
    return [as_struct(Role, row) for row in rows]


def list_assignments(
    tx: Tx,
    *,
    user_id: str | None = None,
    role_id: str | None = None,
    scope: ScopeKind | None = None,
    scope_id: str | None = None,
) -> list[Assignment]:
    """The assignments that fit, at most ASSIGNMENT_ROWS_MAX."""
    held = schema.role_assignments.c
    wanted = ((held.user_id, user_id), (held.role_id, role_id), (held.scope, scope), (held.scope_id, scope_id))
    tests = [column == value for column, value in wanted if value is not None]
    rows = tx.execute(_LIST_ASSIGNMENTS.where(*tests).limit(ASSIGNMENT_ROWS_MAX))
    return [as_struct(Assignment, row) for row in rows]


def _require_user_and_scope(tx: Tx, user_id: str, scope: ScopeKind, scope_id: str) -> None:
    find_resource(tx, User, user_id)
    if scope is ScopeKind.PROJECT:
        find_resource(tx, Project, scope_id)
    elif scope is ScopeKind.DOMAIN:
        find_resource(tx, Domain, scope_id)
    elif scope_id != SYSTEM_ALL:
        raise NotFound(f"Could not find system: {scope_id[:64]}.")


_ASSIGNED: Final = [column == bindparam(column.name) for column in schema.role_assignments.primary_key]
_SELECT_ASSIGNED: Final = select(schema.role_assignments.c.user_id).where(*_ASSIGNED)
_ASSIGN: Final = insert(schema.role_assignments)
_UNASSIGN: Final = delete(schema.role_assignments).where(*_ASSIGNED)


def _select_assignments() -> Select[Any]:
    held, users, roles, projects = schema.role_assignments, schema.users, schema.roles, schema.projects
    user_domains, project_domains = schema.domains.alias("user_domains"), schema.domains.alias("project_domains")
    scope_domains = schema.domains.alias("scope_domains")
    return (
        select(
            held.c.user_id,
            users.c.name,
            users.c.domain_id,
            user_domains.c.name,
            held.c.role_id,
            roles.c.name,
            held.c.scope,
            held.c.scope_id,
            # Of project and domain at most one is there.
            func.coalesce(projects.c.name, scope_domains.c.name),
            project_domains.c.id,
            project_domains.c.name,
        )
        .select_from(held)
        .join(users, users.c.id == held.c.user_id)
        .join(user_domains, user_domains.c.id == users.c.domain_id)
        .join(roles, roles.c.id == held.c.role_id)
        .outerjoin(projects, (held.c.scope == ScopeKind.PROJECT) & (held.c.scope_id == projects.c.id))
        .outerjoin(project_domains, project_domains.c.id == projects.c.domain_id)
        .outerjoin(scope_domains, (held.c.scope == ScopeKind.DOMAIN) & (held.c.scope_id == scope_domains.c.id))
        .order_by(held.c.user_id, held.c.scope, held.c.scope_id, roles.c.name)
    )


_LIST_ASSIGNMENTS: Final = _select_assignments()
