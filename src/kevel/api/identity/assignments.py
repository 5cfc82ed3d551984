"""Who has which role where."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from kevel.api.identity import replies
from kevel.api.identity.bodies import AssignmentQuery, is_set
from kevel.api.identity.views import show_assignment, show_role
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.domain.errors import Forbidden, Invalid
from kevel.domain.identity import SYSTEM_ALL, Assignment, ScopeKind


async def list_assignments(call: Call) -> Reply:
    """GET /role_assignments."""
    query: AssignmentQuery = call.query
    if not call.caller.is_admin and query.user_id != call.caller.user_id:
        raise Forbidden("Only an admin may list the role assignments of others; filter by your own user.id.")
    scope, scope_id = _read_scope(query)
    found: list[Assignment] = []
    # Kevel has neither groups nor inherited assignments, so nothing fits a filter for them.
    if query.group_id is None and query.inherited_to is None:
        found = await call.services.identity.list_assignments(
            user_id=query.user_id,
            role_id=query.role_id,
            scope=scope,
            scope_id=scope_id,
            effective=is_set(query.effective),
        )
    with_names = is_set(query.include_names)
    shown = [show_assignment(item, call.base_url, with_names=with_names) for item in found]
    return Reply(body={"role_assignments": shown, "links": _links(call)})


def _read_scope(query: AssignmentQuery) -> tuple[ScopeKind | None, str | None]:
    wanted = (
        (ScopeKind.PROJECT, query.project_id),
        (ScopeKind.DOMAIN, query.domain_id),
        (ScopeKind.SYSTEM, SYSTEM_ALL if query.system is not None else None),
    )
    given = [(scope, scope_id) for scope, scope_id in wanted if scope_id is not None]
    if len(given) > 1:
        raise Invalid("Filter by one scope: scope.project.id, scope.domain.id or scope.system.")
    return given[0] if given else (None, None)


def _links(call: Call) -> dict[str, Any]:
    return {"self": str(call.request.url), "previous": None, "next": None}


Target = Callable[[Call], tuple[str, ScopeKind, str]]


def _make_target(scope: ScopeKind) -> Target:
    def read(call: Call) -> tuple[str, ScopeKind, str]:
        return call.path["user_id"], scope, call.path.get("scope_id", SYSTEM_ALL)

    return read


def _make_operations(scope: ScopeKind, path: str) -> tuple[Operation, ...]:
    target = _make_target(scope)
    name = f"{scope.value.capitalize()}Role"

    async def assign(call: Call) -> Reply:
        await call.services.identity.assign_role(*target(call), call.path["role_id"])
        return Reply()

    async def unassign(call: Call) -> Reply:
        await call.services.identity.unassign_role(*target(call), call.path["role_id"])
        return Reply()

    async def check(call: Call) -> Reply:
        await call.services.identity.require_role(*target(call), call.path["role_id"])
        return Reply()

    async def list_roles(call: Call) -> Reply:
        roles = await call.services.identity.list_roles_at(*target(call))
        shown = [{**show_role(role), "links": {"self": f"{call.base_url}/roles/{role.id}"}} for role in roles]
        return Reply(body={"roles": shown, "links": _links(call)})

    def make(verb: str, method: str, handler: Callable[[Call], Awaitable[Reply]]) -> Operation:
        return Operation(
            name=f"{verb}{name}",
            reply=None,
            method=method,
            path=f"{path}/{{role_id}}",
            handler=handler,
            policy=Policy.ADMIN,
            success=204,
            errors=(404,),
        )

    return (
        Operation(
            name=f"list{name}s",
            reply=replies.ROLES,
            new_id="/roles/0/id",
            method="GET",
            path=path,
            handler=list_roles,
            policy=Policy.ADMIN,
            errors=(404,),
        ),
        make("assign", "PUT", assign),
        make("unassign", "DELETE", unassign),
        make("check", "HEAD", check),
        make("get", "GET", check),
    )


OPERATIONS: Final = (
    *_make_operations(ScopeKind.PROJECT, "/projects/{scope_id}/users/{user_id}/roles"),
    *_make_operations(ScopeKind.DOMAIN, "/domains/{scope_id}/users/{user_id}/roles"),
    *_make_operations(ScopeKind.SYSTEM, "/system/users/{user_id}/roles"),
    Operation(
        name="listRoleAssignments",
        reply=replies.ASSIGNMENTS,
        method="GET",
        path="/role_assignments",
        handler=list_assignments,
        policy=Policy.TOKEN,
        query=AssignmentQuery,
        errors=(400,),
    ),
)
