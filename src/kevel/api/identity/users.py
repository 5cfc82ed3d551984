"""What users do with their own account: password, projects, application credentials."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kevel.api.identity import replies
from kevel.api.identity.bodies import CredentialBody, CredentialFields, NameQuery, PasswordBody, ProjectQuery
from kevel.api.identity.tokens import find_own_token
from kevel.api.identity.views import show_credential, show_project
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.domain.errors import Forbidden, Invalid
from kevel.domain.identity import ApplicationCredential, Role, RoleRef

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: The last time that can be shown in every zone.
_LATEST: Final = datetime(9999, 12, 30, tzinfo=UTC)


def _require_self(call: Call) -> str:
    user_id = call.path["user_id"]
    if user_id != call.caller.user_id:
        raise Forbidden("Users can do this only for themselves.")
    return user_id


def _require_self_or_admin(call: Call) -> str:
    return call.path["user_id"] if call.caller.is_admin else _require_self(call)


async def change_password(call: Call) -> Reply:
    """POST /users/{user_id}/password."""
    change = call.body.user
    await call.services.identity.change_own_password(_require_self(call), change.original_password, change.password)
    return Reply()


async def list_projects(call: Call) -> Reply:
    """GET /users/{user_id}/projects."""
    query: ProjectQuery = call.query
    filters = {"name": query.name, "domain_id": query.domain_id, "enabled": query.enabled}
    found = await call.services.identity.list_projects_of(_require_self_or_admin(call), filters)
    shown = [{**show_project(item), "links": {"self": f"{call.base_url}/projects/{item.id}"}} for item in found]
    return Reply(body={"projects": shown, "links": _links(call)})


async def create_credential(call: Call) -> Reply:
    """POST /users/{user_id}/application_credentials."""
    identity = call.services.identity
    user_id = _require_self(call)
    fields: CredentialFields = call.body.application_credential
    if fields.access_rules:
        raise Invalid("Invalid input for application_credential.access_rules: Kevel has none; leave it out.")
    credential = ApplicationCredential(
        id=identity.draw_id(),
        user_id=user_id,
        project_id=call.caller.project,
        name=fields.name,
        description=fields.description,
        roles=[],
        unrestricted=bool(fields.unrestricted),
        expires_at=_read_time(fields.expires_at) if fields.expires_at else None,
        created_at=identity.now_us(),
    )
    token = await find_own_token(call)
    made, secret = await identity.create_credential(token, credential, fields.secret, _read_roles(fields))
    return Reply(body={"application_credential": {**await _show(call, made), "secret": secret}})


def _read_roles(fields: CredentialFields) -> list[RoleRef] | None:
    """The wanted roles; an empty list is what clients send for "all of mine"."""
    if any(role.id is None and role.name is None for role in fields.roles or ()):
        raise Invalid("Invalid input for application_credential.roles: each role needs an id or a name.")
    return [RoleRef(id=role.id, name=role.name) for role in fields.roles or ()] or None


def _read_time(text: str) -> int:
    """Microseconds since the epoch; a time without a zone is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid(
            f"Invalid input for application_credential.expires_at: {text!r} is no time like 2030-01-31T12:00:00Z."
        ) from error
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    if at > _LATEST:
        raise Invalid(
            f"Invalid input for application_credential.expires_at: {text!r} is too late; leave it out for never."
        )
    return (at - _EPOCH) // timedelta(microseconds=1)


async def list_credentials(call: Call) -> Reply:
    """GET /users/{user_id}/application_credentials."""
    found = await call.services.identity.list_credentials(_require_self_or_admin(call), call.query.name)
    shown = [await _show(call, credential) for credential in found]
    return Reply(body={"application_credentials": shown, "links": _links(call)})


async def show_one_credential(call: Call) -> Reply:
    """GET /users/{user_id}/application_credentials/{credential_id}."""
    user_id = _require_self_or_admin(call)
    credential = await call.services.identity.find_credential(user_id, call.path["credential_id"])
    return Reply(body={"application_credential": await _show(call, credential)})


async def delete_credential(call: Call) -> Reply:
    """DELETE /users/{user_id}/application_credentials/{credential_id}."""
    user_id = _require_self_or_admin(call)
    token = await find_own_token(call)
    await call.services.identity.delete_credential(token, user_id, call.path["credential_id"])
    return Reply()


async def _show(call: Call, credential: ApplicationCredential) -> dict[str, Any]:
    roles = await call.services.identity.list_resources(Role, {}, limit=1000, marker=None)
    link = f"{call.base_url}/users/{credential.user_id}/application_credentials/{credential.id}"
    return {**show_credential(credential, {role.id: role for role in roles}), "links": {"self": link}}


def _links(call: Call) -> dict[str, Any]:
    return {"self": str(call.request.url), "previous": None, "next": None}


_CREDENTIALS: Final = "/users/{user_id}/application_credentials"

OPERATIONS: Final = (
    Operation(
        name="changeOwnPassword",
        reply=None,
        method="POST",
        path="/users/{user_id}/password",
        handler=change_password,
        policy=Policy.TOKEN,
        success=204,
        body=PasswordBody,
        errors=(400, 503),
    ),
    Operation(
        name="listUserProjects",
        reply=replies.PROJECTS,
        method="GET",
        path="/users/{user_id}/projects",
        handler=list_projects,
        policy=Policy.TOKEN,
        query=ProjectQuery,
        errors=(400, 404),
    ),
    Operation(
        name="createApplicationCredential",
        reply=replies.CREDENTIAL,
        needs_space=True,
        new_id="/application_credential/id",
        method="POST",
        path=_CREDENTIALS,
        handler=create_credential,
        policy=Policy.TOKEN,
        success=201,
        body=CredentialBody,
        errors=(400, 409, 503),
    ),
    Operation(
        name="listApplicationCredentials",
        reply=replies.CREDENTIALS,
        new_id="/application_credentials/0/id",
        method="GET",
        path=_CREDENTIALS,
        handler=list_credentials,
        policy=Policy.TOKEN,
        query=NameQuery,
        errors=(404,),
    ),
    Operation(
        name="showApplicationCredential",
        reply=replies.CREDENTIAL,
        method="GET",
        path=f"{_CREDENTIALS}/{{credential_id}}",
        handler=show_one_credential,
        policy=Policy.TOKEN,
        errors=(404,),
    ),
    Operation(
        name="deleteApplicationCredential",
        reply=None,
        method="DELETE",
        path=f"{_CREDENTIALS}/{{credential_id}}",
        handler=delete_credential,
        policy=Policy.TOKEN,
        success=204,
        errors=(404,),
    ),
)
