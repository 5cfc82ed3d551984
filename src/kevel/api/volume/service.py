"""What a client asks of the service itself: versions, zones, services, pools."""

from __future__ import annotations

from typing import Any, Final

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.listing import read_query
from kevel.api.volume.values import read_flag, show_time
from kevel.control.volumes import Pool
from kevel.domain.model import GIB

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


async def list_extensions(call: Call) -> Reply:
    """There are none: everything is a microversion."""
    return Reply(body={"extensions": []})


async def list_zones(call: Call) -> Reply:
    """The zone of the pool."""
    pool = await call.services.volumes.pool()
    zone = {"zoneName": pool.availability_zone, "zoneState": {"available": pool.capacity is not None}}
    return Reply(body={"availabilityZoneInfo": [zone]})


async def list_services(call: Call) -> Reply:
    """The part that carries volumes' operations out; it is up when the pool answers."""
    query = read_query(call)
    pool = await call.services.volumes.pool()
    state = "down" if pool.capacity is None else "up"
    service: dict[str, Any] = {
        "binary": "cinder-volume",
        "host": f"{pool.host}@{pool.backend}",
        "zone": pool.availability_zone,
        "status": "enabled",
        "state": state,
        "updated_at": show_time(pool.at),
        "disabled_reason": None,
        "replication_status": "disabled",
        "active_backend_id": None,
        "frozen": False,
    }
    if call.version >= Version(3, 7):
        service["cluster"] = None
    if call.version >= Version(3, 49):
        service["backend_state"] = state
    wanted = all(query.get(name) in (None, service[name]) for name in ("binary", "host"))
    return Reply(body={"services": [service] if wanted else []})


async def list_pools(call: Call) -> Reply:
    """The pool, with its capacity if asked for."""
    pool = await call.services.volumes.pool()
    shown: dict[str, Any] = {"name": pool.address}
    if read_flag(read_query(call), "detail"):
        shown["capabilities"] = _capabilities(pool)
    return Reply(body={"pools": [shown]})


def _capabilities(pool: Pool) -> dict[str, Any]:
    capabilities: dict[str, Any] = {
        "volume_backend_name": pool.backend,
        "pool_name": pool.backend,
        "vendor_name": "Kevel",
        "backend_state": "down" if pool.capacity is None else "up",
        "timestamp": show_time(pool.at),
        "provisioned_capacity_gb": pool.provisioned_gib,
        "max_over_subscription_ratio": str(pool.overcommit_ratio),
        "thin_provisioning_support": True,
        "multiattach": True,
    }
    if pool.capacity is not None:
        capabilities["total_capacity_gb"] = round(pool.capacity.total_bytes / GIB, 2)
        capabilities["free_capacity_gb"] = round(pool.capacity.free_bytes / GIB, 2)
    return capabilities
