"""The versions of the API."""

from __future__ import annotations

from typing import Final

from kevel.api.operations import Call, Reply, Version

VERSION_LOWEST: Final = Version(3, 0)
VERSION_HIGHEST: Final = Version(3, 71)
_MEDIA_TYPE: Final = {"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}


async def list_versions(call: Call) -> Reply:
    """The versions of this API, in the shape that clients discover it by."""
    version = {
        "id": "v3.0",
        "status": "CURRENT",
        "version": str(VERSION_HIGHEST),
        "min_version": str(VERSION_LOWEST),
        "updated": "2026-01-01T00:00:00Z",
        "links": [{"rel": "self", "href": f"{call.base_url}/"}],
        "media-types": [_MEDIA_TYPE],
    }
    return Reply(body={"versions": [version]})
