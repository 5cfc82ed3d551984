"""Hosts as the compute API shows them: availability zones, services, hypervisors."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any, Final

from kevel.api.compute import replies
from kevel.api.compute.shapes import read_bool, read_count, refuse_unknown_query, show_time, show_time_us, v
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.control.servers.choosing_hosts import HostView
from kevel.domain.errors import Invalid, NotFound, Unavailable

BINARY: Final = "nova-compute"
#: Ids of services and hypervisors follow from the host's name, so they are the same for ever and stored nowhere.
_SERVICE_IDS: Final = uuid.UUID("0f0dc1a5-5d0d-5f5c-9a3c-7d6c1a5b8a01")
_HYPERVISOR_IDS: Final = uuid.UUID("0f0dc1a5-5d0d-5f5c-9a3c-7d6c1a5b8a02")


async def list_zones(call: Call) -> Reply:
    return Reply(body={"availabilityZoneInfo": await _zones(call, detail=False)})


async def list_zones_detail(call: Call) -> Reply:
    return Reply(body={"availabilityZoneInfo": await _zones(call, detail=True)})


async def _zones(call: Call, *, detail: bool) -> list[dict[str, Any]]:
    views = await call.services.servers.list_hosts()
    shown = []
    for zone in sorted({view.host.availability_zone for view in views}):
        inside = [view for view in views if view.host.availability_zone == zone]
        usable = any(view.host.disabled_reason is None for view in inside)
        hosts = {view.host.name: {BINARY: _zone_service(view)} for view in inside} if detail else None
        shown.append({"zoneName": zone, "zoneState": {"available": usable}, "hosts": hosts})
    return shown


def _zone_service(view: HostView) -> dict[str, Any]:
    return {
        "available": view.up,
        "active": view.host.disabled_reason is None,
        "updated_at": show_time_us(view.host.seen_at),
    }


async def list_services(call: Call) -> Reply:
    if call.version >= v(75):
        refuse_unknown_query(call, ("host", "binary"))
    query = dict(call.query_items)
    views = await call.services.servers.list_hosts()
    shown = [
        show_service(call, view, number)
        for number, view in enumerate(views, 1)
        if query.get("host", view.host.name) == view.host.name and query.get("binary", BINARY) == BINARY
    ]
    return Reply(body={"services": shown})


def name_service(view: HostView) -> str:
    """The service's id from 2.53 on."""
    return str(uuid.uuid5(_SERVICE_IDS, view.host.name))


def show_service(call: Call, view: HostView, number: int) -> dict[str, Any]:
    """The service of a host; `number` is its id until 2.52."""
    host = view.host
    shown: dict[str, Any] = {
        "id": number if call.version < v(53) else name_service(view),
        "binary": BINARY,
        "host": host.name,
        "zone": host.availability_zone,
        "status": "enabled" if host.disabled_reason is None else "disabled",
        "state": "up" if view.up else "down",
        "updated_at": show_time_us(host.seen_at),
        "disabled_reason": host.disabled_reason or None,
    }
    if call.version >= v(11):
        shown["forced_down"] = False
    return shown


async def list_hypervisors(call: Call) -> Reply:
    return await _list_hypervisors(call, detail=False)


async def list_hypervisors_detail(call: Call) -> Reply:
    return await _list_hypervisors(call, detail=True)


async def _list_hypervisors(call: Call, *, detail: bool) -> Reply:
    query = dict(call.query_items)
    views = list(enumerate(await call.services.servers.list_hosts(), 1))
    pattern = query.get("hypervisor_hostname_pattern")
    if pattern is not None and call.version >= v(53):
        views = [(number, view) for number, view in views if pattern in _hostname(view)]
        if not views:
            raise NotFound(f"No hypervisor matching {pattern[:64]!r} could be found.")
    if call.version >= v(33):
        views = _page(call, query, views)
    servers = call.version >= v(53) and "with_servers" in query and read_bool("with_servers", query["with_servers"])
    if not detail:
        return Reply(body={"hypervisors": [_show_short(call, view, at, with_servers=servers) for at, view in views]})
    uptimes: list[str | None] = [None] * len(views)
    if call.version >= v(88):
        uptimes = await asyncio.gather(*(_find_uptime(call, view) for _, view in views))
    shown = [
        _show_hypervisor(call, view, number, with_servers=servers, uptime=uptime)
        for (number, view), uptime in zip(views, uptimes, strict=True)
    ]
    return Reply(body={"hypervisors": shown})


def _page(call: Call, query: dict[str, str], views: Sequence[tuple[int, HostView]]) -> list[tuple[int, HostView]]:
    found = list(views)
    if "marker" in query:
        ids = [str(_hypervisor_id(call, view, number)) for number, view in found]
        if query["marker"] not in ids:
            raise Invalid(f"marker [{query['marker'][:64]}] not found")
        found = found[ids.index(query["marker"]) + 1 :]
    return found[: read_count("limit", query["limit"])] if "limit" in query else found


async def show_hypervisor(call: Call) -> Reply:
    wanted = call.path["hypervisor_id"]
    servers = any(name == "with_servers" and read_bool(name, value) for name, value in call.query_items)
    for number, view in enumerate(await call.services.servers.list_hosts(), 1):
        if str(_hypervisor_id(call, view, number)) == wanted:
            uptime = await _find_uptime(call, view) if call.version >= v(88) else None
            with_servers = servers and call.version >= v(53)
            shown = _show_hypervisor(call, view, number, with_servers=with_servers, uptime=uptime)
            return Reply(body={"hypervisor": shown})
    raise NotFound(f"Compute host {wanted[:64]} could not be found.")


def _hypervisor_id(call: Call, view: HostView, number: int) -> int | str:
    return number if call.version < v(53) else str(uuid.uuid5(_HYPERVISOR_IDS, view.host.name))


def _hostname(view: HostView) -> str:
    return str(view.host.facts.get("hostname", view.host.name))


def _show_short(call: Call, view: HostView, number: int, *, with_servers: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": _hypervisor_id(call, view, number),
        "hypervisor_hostname": _hostname(view),
        "state": "up" if view.up else "down",
        "status": "enabled" if view.host.disabled_reason is None else "disabled",
    }
    if with_servers and (view.used or call.version >= v(75)):
        shown["servers"] = [{"uuid": used.id, "name": used.name} for used in view.used]
    return shown


def _show_hypervisor(
    call: Call, view: HostView, number: int, *, with_servers: bool, uptime: str | None = None
) -> dict[str, Any]:
    host, facts = view.host, view.host.facts
    shown = _show_short(call, view, number, with_servers=with_servers)
    service_id = number if call.version < v(53) else name_service(view)
    shown |= {
        "hypervisor_type": facts["hypervisor_type"],
        "hypervisor_version": facts["hypervisor_version"],
        "host_ip": facts["host_ip"],
        "service": {"id": service_id, "host": host.name, "disabled_reason": host.disabled_reason or None},
    }
    if call.version >= v(88):
        shown["uptime"] = uptime
        return shown
    return shown | _usage(call, view)


def _usage(call: Call, view: HostView) -> dict[str, Any]:
    """What was shown until 2.87."""
    facts = view.host.facts
    memory_used = sum(used.flavor["ram_mib"] for used in view.used)
    disk_used = sum(used.flavor["disk_gib"] for used in view.used)
    disk = facts["disk_gib"]
    return {
        "vcpus": facts["vcpus"],
        "vcpus_used": sum(used.flavor["vcpus"] for used in view.used),
        "memory_mb": facts["memory_mib"],
        "memory_mb_used": memory_used,
        "free_ram_mb": facts["memory_mib"] - memory_used,
        "local_gb": disk,
        "local_gb_used": disk_used,
        "free_disk_gb": disk - disk_used,
        "disk_available_least": None,
        "current_workload": sum(not used.rung.has_process for used in view.used),
        "running_vms": sum(used.rung.has_process for used in view.used),
        "cpu_info": "" if call.version < v(28) else {},
    }


async def show_uptime(call: Call) -> Reply:
    """How long a host is up, until 2.87; from then on it stands in what is shown of a hypervisor."""
    wanted = call.path["hypervisor_id"]
    for number, view in enumerate(await call.services.servers.list_hosts(), 1):
        if str(_hypervisor_id(call, view, number)) == wanted:
            if not view.up:
                raise Invalid(f"Compute service of {view.host.name} is unavailable at this time.")
            shown = _show_short(call, view, number, with_servers=False)
            return Reply(body={"hypervisor": shown | {"uptime": await _read_uptime(call, view)}})
    raise NotFound(f"Compute host {wanted[:64]} could not be found.")


async def _read_uptime(call: Call, view: HostView) -> str:
    """How long the host is up, in the words of `uptime`, which clients take apart."""
    usage = await call.services.readings.measure_host(view.host.name)
    clock = show_time(call.services.runtime.clock.now_us())[11:19]
    days, rest = divmod(int(usage.up_s), 86400)
    since = f"{rest // 3600:2}:{rest // 60 % 60:02}"
    load = ", ".join(f"{one:.2f}" for one in usage.load)
    return f" {clock} up {f'{days} days, ' if days else ''}{since},  0 users,  load average: {load}"


async def _find_uptime(call: Call, view: HostView) -> str | None:
    """The same; None for a host that says nothing."""
    try:
        return await _read_uptime(call, view) if view.up else None
    except Unavailable:
        return None


async def show_statistics(call: Call) -> Reply:
    """The sums over all hosts that are enabled, until 2.87."""
    views = [view for view in await call.services.servers.list_hosts() if view.host.disabled_reason is None]
    shown: dict[str, Any] = {"count": len(views), "disk_available_least": None}
    shown |= {name: sum(_usage(call, view)[name] for view in views) for name in _SUMMED}
    return Reply(body={"hypervisor_statistics": shown})


async def search_hypervisors(call: Call) -> Reply:
    """Hypervisors by a part of their names, until 2.52."""
    return Reply(
        body={"hypervisors": [_show_short(call, view, at, with_servers=False) for at, view in await _find(call)]}
    )


async def list_hypervisor_servers(call: Call) -> Reply:
    """The same with their servers, until 2.52."""
    return Reply(
        body={"hypervisors": [_show_short(call, view, at, with_servers=True) for at, view in await _find(call)]}
    )


async def _find(call: Call) -> list[tuple[int, HostView]]:
    part = call.path["name_part"]
    found = [
        (at, view) for at, view in enumerate(await call.services.servers.list_hosts(), 1) if part in _hostname(view)
    ]
    if not found:
        raise NotFound(f"No hypervisor matching '{part[:64]}' could be found.")
    return found


async def list_aggregates(call: Call) -> Reply:
    """Hosts are not grouped; `openstack hypervisor show` asks."""
    return Reply(body={"aggregates": []})


_SUMMED: Final = (
    "vcpus",
    "vcpus_used",
    "memory_mb",
    "memory_mb_used",
    "free_ram_mb",
    "local_gb",
    "local_gb_used",
    "free_disk_gb",
    "current_workload",
    "running_vms",
)
_QUERY: Final = ("hypervisor_hostname_pattern", "with_servers", "limit", "marker")

OPERATIONS: Final = (
    Operation(
        name="listAvailabilityZones",
        reply=replies.ZONES,
        method="GET",
        path="/os-availability-zone",
        handler=list_zones,
        policy=Policy.READER,
    ),
    Operation(
        name="listAvailabilityZonesDetail",
        reply=replies.ZONES,
        method="GET",
        path="/os-availability-zone/detail",
        handler=list_zones_detail,
        policy=Policy.ADMIN,
    ),
    Operation(
        name="listServices",
        reply=replies.SERVICES,
        query_names=("host", "binary"),
        method="GET",
        path="/os-services",
        handler=list_services,
        policy=Policy.ADMIN,
        errors=(400,),
    ),
    Operation(
        name="listHypervisors",
        reply=replies.HYPERVISORS,
        query_names=_QUERY,
        new_id="/hypervisors/0/id",
        method="GET",
        path="/os-hypervisors",
        handler=list_hypervisors,
        policy=Policy.ADMIN,
        errors=(400, 404),
    ),
    Operation(
        name="listHypervisorsDetail",
        reply=replies.HYPERVISOR_DETAILS,
        query_names=_QUERY,
        method="GET",
        path="/os-hypervisors/detail",
        handler=list_hypervisors_detail,
        policy=Policy.ADMIN,
        errors=(400, 404),
    ),
    Operation(
        name="showHypervisor",
        reply=replies.HYPERVISOR,
        query_names=("with_servers",),
        method="GET",
        path="/os-hypervisors/{hypervisor_id}",
        handler=show_hypervisor,
        policy=Policy.ADMIN,
        errors=(404,),
    ),
    Operation(
        name="showHypervisorUptime",
        reply=replies.UPTIME,
        method="GET",
        path="/os-hypervisors/{hypervisor_id}/uptime",
        handler=show_uptime,
        policy=Policy.ADMIN,
        errors=(400, 404, 503),
        until=v(87),
    ),
    Operation(
        name="showHypervisorStatistics",
        reply=replies.STATISTICS,
        method="GET",
        path="/os-hypervisors/statistics",
        handler=show_statistics,
        policy=Policy.ADMIN,
        until=v(87),
    ),
    Operation(
        name="searchHypervisors",
        reply=replies.HYPERVISORS,
        method="GET",
        path="/os-hypervisors/{name_part}/search",
        handler=search_hypervisors,
        policy=Policy.ADMIN,
        errors=(404,),
        until=v(52),
    ),
    Operation(
        name="listHypervisorServers",
        reply=replies.HYPERVISORS,
        method="GET",
        path="/os-hypervisors/{name_part}/servers",
        handler=list_hypervisor_servers,
        policy=Policy.ADMIN,
        errors=(404,),
        until=v(52),
    ),
    Operation(
        name="listAggregates",
        reply=replies.AGGREGATES,
        method="GET",
        path="/os-aggregates",
        handler=list_aggregates,
        policy=Policy.ADMIN,
    ),
)
