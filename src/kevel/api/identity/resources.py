"""Domains, projects, users, roles, services, regions and endpoints: each is a row, and five operations come from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final

import msgspec

from kevel.api.answers import name_answer
from kevel.api.identity import bodies, replies, views
from kevel.api.operations import Call, Caller, Operation, Policy, Reply
from kevel.domain.errors import Forbidden, Invalid
from kevel.domain.identity import Domain, Endpoint, Project, Region, Resource, Role, Service, User
from kevel.store.identity import PAGE_ROWS_MAX

#: Query filters by column, or None when nothing can fit.
Filters = dict[str, Any] | None


def _filter_plainly(query: Any) -> Filters:
    values = msgspec.structs.asdict(query)
    return {name: value for name, value in values.items() if name not in ("limit", "marker")}


@dataclass(frozen=True, kw_only=True)
class _Row:
    struct: type[Any]
    singular: str
    plural: str
    fields: type[msgspec.Struct]
    #: Fields without which there is nothing to create.
    required: tuple[str, ...]
    query: type[msgspec.Struct]
    view: Callable[[Any], dict[str, Any]]
    #: The resource from the id and time drawn for it, the checked fields and the extra keys.
    make: Callable[[Caller, str, int, dict[str, Any]], Any]
    filter: Callable[[Any], Filters] = _filter_plainly
    #: The id of the one that belongs to a caller; nobody but an admin sees others. None: there is none.
    own_id: Callable[[Caller], str | None] | None = None
    #: Everybody with a token sees all of them.
    is_open: bool = False
    #: What creating and changing can answer, besides 400 for the body and 404 for one that is not there.
    create_errors: tuple[int, ...] = (409,)
    change_errors: tuple[int, ...] = (409,)
    #: Turns what has no column into changes, or refuses it.
    settle: Callable[[dict[str, Any]], dict[str, Any]] = dict

    @property
    def seen_by(self) -> Policy:
        """Who may ask; who is no admin then sees the own one only, unless all are open."""
        return Policy.TOKEN if self.is_open or self.own_id is not None else Policy.ADMIN

    def sees_all(self, caller: Caller) -> bool:
        """Does the caller see those of others?"""
        return self.is_open or caller.is_admin


# Creating.


def _make_domain(caller: Caller, fresh_id: str, now: int, values: dict[str, Any]) -> Domain:
    return Domain(**{"id": fresh_id, "description": "", "enabled": True, **values})


def _make_project(caller: Caller, fresh_id: str, now: int, values: dict[str, Any]) -> Project:
    domain_id = values.pop("domain_id", None) or caller.user_domain_id
    defaults = {"id": fresh_id, "domain_id": domain_id, "description": "", "enabled": True, "created_at": now}
    return Project(**{**defaults, **values})


def _make_user(caller: Caller, fresh_id: str, now: int, values: dict[str, Any]) -> User:
    domain_id = values.pop("domain_id", None) or caller.user_domain_id
    defaults = {"id": fresh_id, "domain_id": domain_id, "enabled": True, "default_project_id": None, "created_at": now}
    return User(**{**defaults, **values})


def _make_role(caller: Caller, fresh_id: str, now: int, values: dict[str, Any]) -> Role:
    return Role(**{"id": fresh_id, "description": None, **values})


def _make_service(caller: Caller, fresh_id: str, now: int, values: dict[str, Any]) -> Service:
    return Service(**{"id": fresh_id, "name": "", "description": None, "enabled": True, **values})


def _make_region(caller: Caller, fresh_id: str, now: int, values: dict[str, Any]) -> Region:
    return Region(**{"description": "", "parent_region_id": None, **values, "id": values.get("id") or fresh_id})


def _make_endpoint(caller: Caller, fresh_id: str, now: int, values: dict[str, Any]) -> Endpoint:
    return Endpoint(**{"id": fresh_id, "region_id": None, "enabled": True, **values})


# What clients send that has no column of its own.


def _settle_description(values: dict[str, Any]) -> dict[str, Any]:
    if values.get("description", "") is None:
        values["description"] = ""
    return values


def _settle_project(values: dict[str, Any]) -> dict[str, Any]:
    if values.pop("is_domain", None):
        raise Invalid("Invalid input for project.is_domain: a project cannot act as a domain; create a domain.")
    parent_id = values.pop("parent_id", None)
    if parent_id is not None and parent_id != values.setdefault("domain_id", parent_id):
        raise Invalid("Invalid input for project.parent_id: projects do not nest; only the domain can be the parent.")
    return _settle_domain_id(_settle_description(values))


def _settle_domain_id(values: dict[str, Any]) -> dict[str, Any]:
    """A null is what a client sends for "not given"."""
    if values.get("domain_id", "") is None:
        del values["domain_id"]
    return values


def _settle_role(values: dict[str, Any]) -> dict[str, Any]:
    if values.pop("domain_id", None) is not None:
        raise Invalid("Invalid input for role.domain_id: roles belong to no domain; leave it out.")
    return values


def _settle_service(values: dict[str, Any]) -> dict[str, Any]:
    if values.get("name", "") is None:
        values["name"] = ""
    return values


def _settle_endpoint(values: dict[str, Any]) -> dict[str, Any]:
    region = values.pop("region", None)
    if region is not None:
        values.setdefault("region_id", region)
    return values


# Filtering.


def _filter_projects(query: bodies.ProjectQuery) -> Filters:
    domain_id = query.domain_id or query.parent_id
    if query.is_domain or (query.parent_id is not None and query.parent_id != domain_id):
        return None
    return {"name": query.name, "domain_id": domain_id, "enabled": query.enabled}


def _filter_roles(query: bodies.RoleQuery) -> Filters:
    return None if query.domain_id else {"name": query.name}


def _filter_endpoints(query: bodies.EndpointQuery) -> Filters:
    region_id = query.region_id or query.region
    return {"service_id": query.service_id, "interface": query.interface, "region_id": region_id}


_ROWS: Final = (
    _Row(
        struct=Domain,
        singular="domain",
        plural="domains",
        fields=bodies.DomainFields,
        required=("name",),
        query=bodies.DomainQuery,
        view=views.show_domain,
        make=_make_domain,
        settle=_settle_description,
        own_id=lambda caller: caller.user_domain_id,
    ),
    _Row(
        struct=Project,
        singular="project",
        plural="projects",
        fields=bodies.ProjectFields,
        required=("name",),
        query=bodies.ProjectQuery,
        view=views.show_project,
        make=_make_project,
        settle=_settle_project,
        filter=_filter_projects,
        own_id=lambda caller: caller.project_id,
        create_errors=(404, 409),
    ),
    _Row(
        struct=User,
        singular="user",
        plural="users",
        fields=bodies.UserFields,
        required=("name",),
        query=bodies.UserQuery,
        view=views.show_user,
        make=_make_user,
        settle=_settle_domain_id,
        own_id=lambda caller: caller.user_id,
        create_errors=(404, 409),
    ),
    _Row(
        struct=Role,
        singular="role",
        plural="roles",
        fields=bodies.RoleFields,
        required=("name",),
        query=bodies.RoleQuery,
        view=views.show_role,
        make=_make_role,
        settle=_settle_role,
        filter=_filter_roles,
    ),
    _Row(
        struct=Service,
        singular="service",
        plural="services",
        fields=bodies.ServiceFields,
        required=("type",),
        query=bodies.ServiceQuery,
        view=views.show_service,
        make=_make_service,
        settle=_settle_service,
        create_errors=(),
        change_errors=(),
    ),
    _Row(
        struct=Region,
        singular="region",
        plural="regions",
        fields=bodies.RegionFields,
        required=(),
        query=bodies.RegionQuery,
        view=views.show_region,
        make=_make_region,
        settle=_settle_description,
        is_open=True,
        change_errors=(),
    ),
    _Row(
        struct=Endpoint,
        singular="endpoint",
        plural="endpoints",
        fields=bodies.EndpointFields,
        required=("service_id", "interface", "url"),
        query=bodies.EndpointQuery,
        view=views.show_endpoint,
        make=_make_endpoint,
        settle=_settle_endpoint,
        filter=_filter_endpoints,
        create_errors=(),
        change_errors=(),
    ),
)


def _show(row: _Row, resource: Resource, call: Call) -> dict[str, Any]:
    link = f"{call.base_url}/{row.plural}/{resource.id}"
    return {**row.view(resource), "links": {"self": link}}


def _read_fields(row: _Row, call: Call) -> dict[str, Any]:
    raw = call.body.get(row.singular) if isinstance(call.body, Mapping) else None
    values, extra = bodies.split_fields(row.singular, raw, row.fields)
    return {**row.settle(values), "extra": extra}


async def _create(row: _Row, call: Call) -> Reply:
    identity = call.services.identity
    values = _read_fields(row, call)
    for name in row.required:
        if name not in values:
            raise Invalid(f"Invalid input for {row.singular}: {name} is missing.")
    password = values.pop("password", None)
    resource = row.make(call.caller, identity.draw_id(), identity.now_us(), values)
    if row.struct is User:
        await identity.create_user(resource, password)
    else:
        await identity.create_resource(resource)
    return Reply(body={row.singular: _show(row, resource, call)})


async def _show_one(row: _Row, call: Call) -> Reply:
    resource_id = call.path["resource_id"]
    if not row.sees_all(call.caller) and resource_id != _find_own_id(row, call.caller):
        raise Forbidden(f"Policy does not allow this {row.singular} to be shown with the roles of this token.")
    resource = await call.services.identity.find_resource(row.struct, resource_id)
    return Reply(body={row.singular: _show(row, resource, call)})


async def _list_all(row: _Row, call: Call) -> Reply:
    filters = _find_filters(row, call)
    limit = min(call.query.limit or PAGE_ROWS_MAX, PAGE_ROWS_MAX)
    found: list[Resource] = []
    if filters is not None:
        found = await call.services.identity.list_resources(
            row.struct, filters, limit=limit + 1, marker=call.query.marker
        )
    body: dict[str, Any] = {row.plural: [_show(row, resource, call) for resource in found[:limit]]}
    more = found[limit - 1].id if len(found) > limit else None
    next_page = str(call.request.url.include_query_params(marker=more)) if more is not None else None
    body["links"] = {"self": str(call.request.url), "previous": None, "next": next_page}
    return Reply(body=body)


def _find_own_id(row: _Row, caller: Caller) -> str | None:
    return row.own_id(caller) if row.own_id is not None else None


def _find_filters(row: _Row, call: Call) -> Filters:
    """The query's filters; for who is no admin, with the own id."""
    filters = row.filter(call.query)
    if filters is None or row.sees_all(call.caller):
        return filters
    own_id = _find_own_id(row, call.caller)
    return {**filters, "id": own_id} if own_id is not None else None


async def _change(row: _Row, call: Call) -> Reply:
    identity = call.services.identity
    resource_id = call.path["resource_id"]
    values = _read_fields(row, call)
    if values.pop("id", resource_id) != resource_id:
        raise Invalid(f"Invalid input for {row.singular}.id: it cannot be changed.")
    if row.struct is User:
        password = values.pop("password", None)
        resource: Resource = await identity.change_user(resource_id, values, password)
    else:
        resource = await identity.change_resource(row.struct, resource_id, values)
    return Reply(body={row.singular: _show(row, resource, call)})


async def _delete(row: _Row, call: Call) -> Reply:
    await call.services.identity.delete_resource(row.struct, call.path["resource_id"])
    return Reply()


def _make_operations(row: _Row) -> tuple[Operation, ...]:
    one, name = f"/{row.plural}/{{resource_id}}", row.singular.capitalize()
    kind = replies.RESOURCES[row.singular]
    single = name_answer(row.singular, kind)
    required = msgspec.Meta(extra_json_schema={"required": list(row.required)})
    wanted = msgspec.defstruct(f"Create{name}", [(row.singular, Annotated[row.fields, required])])
    changed = msgspec.defstruct(f"Change{name}", [(row.singular, row.fields)])
    return (
        Operation(
            name=f"create{name}",
            reply=single,
            body_shape=wanted,
            needs_space=True,
            new_id=f"/{row.singular}/id",
            method="POST",
            path=f"/{row.plural}",
            handler=partial(_create, row),
            policy=Policy.ADMIN,
            success=201,
            errors=(400, *row.create_errors),
        ),
        Operation(
            name=f"list{name}s",
            reply=replies.list_of(row.plural, kind),
            new_id=f"/{row.plural}/0/id",
            method="GET",
            path=f"/{row.plural}",
            handler=partial(_list_all, row),
            policy=row.seen_by,
            query=row.query,
            errors=(400,),
        ),
        Operation(
            name=f"show{name}",
            reply=single,
            method="GET",
            path=one,
            handler=partial(_show_one, row),
            policy=row.seen_by,
            errors=(404,),
        ),
        Operation(
            name=f"change{name}",
            reply=single,
            body_shape=changed,
            method="PATCH",
            path=one,
            handler=partial(_change, row),
            policy=Policy.ADMIN,
            errors=(400, 404, *row.change_errors),
        ),
        Operation(
            name=f"delete{name}",
            reply=None,
            method="DELETE",
            path=one,
            handler=partial(_delete, row),
            policy=Policy.ADMIN,
            success=204,
            errors=(404,),
        ),
    )


OPERATIONS: Final = tuple(operation for row in _ROWS for operation in _make_operations(row))
