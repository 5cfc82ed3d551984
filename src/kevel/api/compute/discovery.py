"""Which versions of the compute API are here, for anybody."""

from __future__ import annotations

from typing import Any, Final

from kevel.api.compute import replies
from kevel.api.compute.shapes import HIGHEST, LOWEST, bookmark_base
from kevel.api.operations import VERSIONS_PATH, Call, Operation, Policy, Reply

#: When Nova declared v2.1; clients only want a time to be there.
_UPDATED: Final = "2013-07-23T11:33:21Z"


async def list_versions(call: Call) -> Reply:
    return Reply(body={"versions": [_version(call)]})


async def show_version(call: Call) -> Reply:
    shown = _version(call)
    shown["media-types"] = [{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}]
    return Reply(body={"version": shown})


def _version(call: Call) -> dict[str, Any]:
    return {
        "id": "v2.1",
        "status": "CURRENT",
        "version": str(HIGHEST),
        "min_version": str(LOWEST),
        "updated": _UPDATED,
        "links": [{"rel": "self", "href": f"{bookmark_base(call)}/v2.1/"}],
    }


OPERATIONS: Final = (
    Operation(
        name="listVersions",
        reply=replies.VERSIONS,
        method="GET",
        path=VERSIONS_PATH,
        handler=list_versions,
        policy=Policy.PUBLIC,
    ),
    Operation(
        name="showVersion", reply=replies.VERSION, method="GET", path="/", handler=show_version, policy=Policy.PUBLIC
    ),
)
