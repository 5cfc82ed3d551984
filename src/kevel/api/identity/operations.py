"""The table of identity v3."""

from __future__ import annotations

from typing import Any, Final

from kevel.api.identity import assignments, replies, resources, tokens, users
from kevel.api.identity.bodies import AuthBody
from kevel.api.operations import VERSIONS_PATH, Api, Call, ErrorStyle, Operation, Policy, Reply


def _show_v3(call: Call) -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{call.base_url}/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


async def show_version(call: Call) -> Reply:
    """GET /identity/v3."""
    return Reply(body={"version": _show_v3(call)})


async def list_versions(call: Call) -> Reply:
    """GET /identity."""
    return Reply(body={"versions": {"values": [_show_v3(call)]}})


OPERATIONS: Final = (
    Operation(
        name="listVersions",
        reply=replies.VERSIONS,
        method="GET",
        path=VERSIONS_PATH,
        handler=list_versions,
        policy=Policy.PUBLIC,
        success=300,
    ),
    Operation(
        name="showVersion", reply=replies.VERSION, method="GET", path="/", handler=show_version, policy=Policy.PUBLIC
    ),
    Operation(
        name="createToken",
        reply=replies.TOKEN,
        query_names=("nocatalog",),
        method="POST",
        path="/auth/tokens",
        handler=tokens.log_in,
        policy=Policy.PUBLIC,
        success=201,
        body=AuthBody,
        errors=(400, 401, 403, 503),
    ),
    Operation(
        name="showToken",
        reply=replies.TOKEN,
        query_names=("nocatalog",),
        headers=("X-Subject-Token",),
        method="GET",
        path="/auth/tokens",
        handler=tokens.show,
        policy=Policy.TOKEN,
        errors=(400, 404),
    ),
    Operation(
        name="checkToken",
        reply=None,
        headers=("X-Subject-Token",),
        method="HEAD",
        path="/auth/tokens",
        handler=tokens.check,
        policy=Policy.TOKEN,
        errors=(400, 404),
    ),
    Operation(
        name="revokeToken",
        reply=None,
        headers=("X-Subject-Token",),
        method="DELETE",
        path="/auth/tokens",
        handler=tokens.revoke,
        policy=Policy.TOKEN,
        success=204,
        errors=(400, 404),
    ),
    Operation(
        name="listOwnCatalog",
        reply=replies.CATALOG,
        method="GET",
        path="/auth/catalog",
        handler=tokens.list_catalog,
        policy=Policy.TOKEN,
    ),
    Operation(
        name="listOwnProjects",
        reply=replies.PROJECTS,
        method="GET",
        path="/auth/projects",
        handler=tokens.list_projects,
        policy=Policy.TOKEN,
    ),
    Operation(
        name="listOwnDomains",
        reply=replies.DOMAINS,
        method="GET",
        path="/auth/domains",
        handler=tokens.list_domains,
        policy=Policy.TOKEN,
    ),
    *resources.OPERATIONS,
    *assignments.OPERATIONS,
    *users.OPERATIONS,
)

API: Final = Api(name="identity", prefix="/identity/v3", operations=OPERATIONS, error_style=ErrorStyle.IDENTITY)
