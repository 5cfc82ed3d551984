"""Pools, what they can do, and clusters, of which there are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.listing import read_query
from kevel.api.volume.values import read_flag, show_time
from kevel.control.pools.pools import Pool
from kevel.domain.errors import Invalid, NotFound
from kevel.domain.type_specs import unmet_spec

_FILTERS_SINCE: Final = Version(3, 28)
#: From then on callers are told of parameters that are no filters.
_STRICT_SINCE: Final = Version(3, 31)
_BY_TYPE_SINCE: Final = Version(3, 35)
_FILTERS: Final = ("name", "volume_type")
#: What lists of clusters can be filtered by, with the first microversion that knows it.
_CLUSTER_FILTERS: Final = {
    "name": Version(3, 7),
    "binary": Version(3, 7),
    "is_up": Version(3, 7),
    "disabled": Version(3, 7),
    "num_hosts": Version(3, 7),
    "num_down_hosts": Version(3, 7),
    "replication_status": Version(3, 26),
    "frozen": Version(3, 26),
    "active_backend_id": Version(3, 26),
}


async def list_zones(call: Call) -> Reply:
    """The zone of the pools."""
    pools = await call.services.pools.list()
    is_available = any(pool.capacity is not None for pool in pools)
    zone = {"zoneName": call.services.pools.availability_zone, "zoneState": {"available": is_available}}
    return Reply(body={"availabilityZoneInfo": [zone]})


async def list_pools(call: Call) -> Reply:
    """The pools, with their capabilities if asked for."""
    query = read_query(call)
    unknown = sorted(query.keys() - {*_FILTERS, "detail"})
    if unknown and call.version >= _STRICT_SINCE:
        raise Invalid(f"Invalid filters {', '.join(unknown)[:200]}; pools have {', '.join(_FILTERS)}.")
    detailed = read_flag(query, "detail")
    pools = await call.services.pools.list()
    if call.version >= _FILTERS_SINCE and "name" in query:
        pools = [one for one in pools if one.address == query["name"]]
    if call.version >= _BY_TYPE_SINCE and "volume_type" in query:
        pools = await _list_of_type(call, pools, query["volume_type"])
    return Reply(body={"pools": [_show(one, detailed=detailed) for one in pools]})


async def _list_of_type(call: Call, pools: Sequence[Pool], wanted: str) -> list[Pool]:
    """Those that may have volumes of the type; of an unknown type none."""
    types = await call.services.volume_types.list(call.actor)
    specs = next((one.extra_specs for one in types if wanted in (one.id, one.name)), None)
    return [] if specs is None else [pool for pool in pools if unmet_spec(specs, pool.capabilities) is None]


def _show(pool: Pool, *, detailed: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": pool.address}
    if detailed:
        shown["capabilities"] = {
            **pool.capabilities,
            "provisioned_capacity_gb": pool.provisioned_gib,
            "timestamp": show_time(pool.at),
        }
    return shown


async def show_capabilities(call: Call) -> Reply:
    """What a back end is, by the host of its service."""
    host = call.path["host"]
    pools = await call.services.pools.list()
    known = next((one.capabilities for one in pools if host in (one.address, one.service_host)), None)
    if known is None:
        raise NotFound(f"Service {host[:64]} could not be found.")
    names = ("vendor_name", "volume_backend_name", "pool_name", "driver_version", "storage_protocol")
    shown = {name: known[name] for name in names}
    nothing = dict.fromkeys(("display_name", "description", "visibility"))
    more: dict[str, Any] = {"replication_targets": [], "properties": {}}
    return Reply(body={"namespace": f"OS::Storage::Capabilities::{host}", **shown, **nothing, **more})


async def list_clusters(call: Call) -> Reply:
    """None: one process serves a pool."""
    known = [name for name, since in _CLUSTER_FILTERS.items() if call.version >= since]
    query = read_query(call)
    unknown = sorted(query.keys() - set(known))
    if unknown:
        raise Invalid(f"Invalid filters {', '.join(unknown)[:200]}; clusters have {', '.join(known)}.")
    for name in ("is_up", "disabled"):
        read_flag(query, name)
    return Reply(body={"clusters": []})


async def clean_up(call: Call) -> Reply:
    """Nothing is left to be cleaned up by order: whatever was under way goes on by itself."""
    if call.body.resource_id:
        raise Invalid(f"There is no resource {call.body.resource_id[:64]} that waits for a cleanup.")
    return Reply(body={"cleaning": [], "unavailable": []})
