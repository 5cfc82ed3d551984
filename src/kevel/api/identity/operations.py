"""The table of identity v3."""

from __future__ import annotations

from typing import Any, Final

from kevel.api.identity import assignments, resources, tokens, users
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
        method="GET",
        path=VERSIONS_PATH,
        handler=list_versions,
        policy=Policy.PUBLIC,
        success=300,
    ),
    Operation(name="showVersion", method="GET", path="/", handler=show_version, policy=Policy.PUBLIC),
    Operation(
        name="createToken",
        method="POST",
        path="/auth/tokens",
        handler=tokens.log_in,
        policy=Policy.PUBLIC,
        success=201,
        body=AuthBody,
        errors=(400, 503),
    ),
    Operation(
        name="showToken",
        method="GET",
        path="/auth/tokens",
        handler=tokens.show,
        policy=Policy.TOKEN,
        errors=(400, 404),
    ),
    Operation(
        name="checkToken",
        method="HEAD",
        path="/auth/tokens",
        handler=tokens.check,
        policy=Policy.TOKEN,
        errors=(400, 404),
    ),
    Operation(
        name="revokeToken",
        method="DELETE",
        path="/auth/tokens",
        handler=tokens.revoke,
        policy=Policy.TOKEN,
        success=204,
        errors=(400, 404),
    ),
    Operation(
        name="listOwnCatalog",
        method="GET",
        path="/auth/catalog",
        handler=tokens.list_catalog,
        policy=Policy.TOKEN,
    ),
    Operation(
        name="listOwnProjects",
        method="GET",
        path="/auth/projects",
        handler=tokens.list_projects,
        policy=Policy.TOKEN,
    ),
    Operation(
        name="listOwnDomains",
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
