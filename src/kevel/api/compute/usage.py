"""What projects have used: hours of servers, and of their memory, disks and processors, counted from the rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from kevel.api.answers import Answer, Link, name_answer
from kevel.api.compute.shapes import next_link, read_count, refuse_unknown_query, show_time_us, v
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.domain.errors import Forbidden, Invalid
from kevel.domain.model import Server
from kevel.domain.status import vm_state
from kevel.store.usage import UsageQuery

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR_US: Final = 3_600_000_000
_QUERY: Final = ("start", "end", "detailed", "limit", "marker")
#: Nova's ways to write a time here.
_FORMATS: Final = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%f")


class ServerUsage(Answer, kw_only=True):
    """What one server has used."""

    tenant_id: str
    instance_id: str
    name: str
    flavor: str
    memory_mb: int
    local_gb: int
    vcpus: int
    hours: float
    started_at: str
    ended_at: str | None
    state: str
    uptime: int


class ProjectUsage(Answer, kw_only=True):
    """What a project's servers have used in the span."""

    tenant_id: str
    start: str
    stop: str
    total_hours: float
    total_vcpus_usage: float
    total_memory_mb_usage: float
    total_local_gb_usage: float
    server_usages: list[ServerUsage] | UnsetType = UNSET


class OwnUsage(Answer, kw_only=True):
    """The same for one project, with its servers; without a key when it has used nothing."""

    tenant_id: str | UnsetType = UNSET
    start: str | UnsetType = UNSET
    stop: str | UnsetType = UNSET
    total_hours: float | UnsetType = UNSET
    total_vcpus_usage: float | UnsetType = UNSET
    total_memory_mb_usage: float | UnsetType = UNSET
    total_local_gb_usage: float | UnsetType = UNSET
    server_usages: list[ServerUsage] | UnsetType = UNSET


class Span(Struct, frozen=True, kw_only=True):
    """From when until when, and what the time is."""

    start_at: int
    stop_at: int
    now: int

    def measure(self, server: Server) -> float:
        """The hours for which the server was there."""
        start_at = max(self.start_at, server.launched_at or self.stop_at)
        return max(0, min(self.stop_at, server.terminated_at or self.stop_at) - start_at) / _HOUR_US


async def list_usages(call: Call) -> Reply:
    # Nova knows "1" only, and the `openstack` command sends "True".
    detailed = dict(call.query_items).get("detailed", "").lower() in ("1", "true")
    span = _read_span(call)
    servers, links = await _read_page(call, span, None, "os-simple-tenant-usage")
    projects: dict[str, list[Server]] = {}
    for server in servers:
        projects.setdefault(server.project_id, []).append(server)
    shown = [_show(name, servers, span, detailed=detailed) for name, servers in sorted(projects.items())]
    return Reply(body={"tenant_usages": shown} | ({"tenant_usages_links": links} if links else {}))


async def show_usage(call: Call) -> Reply:
    project_id = call.path["project_id"]
    if project_id != call.caller.project_id and not call.caller.is_admin:
        raise Forbidden("You may read what your own project uses.")
    span = _read_span(call)
    servers, links = await _read_page(call, span, project_id, f"os-simple-tenant-usage/{project_id}")
    shown = _show(project_id, servers, span, detailed=True) if servers else {}
    return Reply(body={"tenant_usage": shown} | ({"tenant_usage_links": links} if links else {}))


async def _read_page(
    call: Call, span: Span, project_id: str | None, collection: str
) -> tuple[list[Server], list[dict[str, str]]]:
    """The servers that were there, with the link to more of them from 2.40 on; until then, all."""
    past, query = call.services.past, dict(call.query_items)
    pages = call.version >= v(40)
    limit = past.page_rows_max
    if pages and "limit" in query:
        limit = min(limit, read_count("limit", query["limit"]))
    marker = query.get("marker") if pages else None
    found: list[Server] = []
    while True:
        wanted = UsageQuery(
            project_id=project_id, since_at=span.start_at, until_at=span.stop_at, marker=marker, rows_max=limit
        )
        page = await past.list_used(wanted)
        found += page
        is_full = bool(page) and len(page) == limit
        if pages or not is_full:
            return found, next_link(call, collection, page[-1].id) if is_full else []
        marker = page[-1].id


def _read_span(call: Call) -> Span:
    if call.version >= v(75):
        known = _QUERY if call.version >= v(40) else _QUERY[:3]
        refuse_unknown_query(call, known)
    query = dict(call.query_items)
    now = call.services.past.now
    start_at = _read_time("start", query["start"]) if query.get("start") else now - 1
    stop_at = _read_time("end", query["end"]) if query.get("end") else now
    if start_at >= stop_at:
        raise Invalid("Invalid start time. The start time cannot occur after the end time.")
    return Span(start_at=start_at, stop_at=min(stop_at, now), now=now)


def _read_time(name: str, text: str) -> int:
    for form in _FORMATS:
        try:
            return (datetime.strptime(text, form).replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
        except ValueError:
            continue
    raise Invalid(f"Invalid input for {name}: {text[:64]!r} is no time; one looks like 2026-01-31T12:00:00.")


def _show(project_id: str, servers: Sequence[Server], span: Span, *, detailed: bool) -> dict[str, Any]:
    hours = [(span.measure(server), server) for server in servers]
    shown: dict[str, Any] = {
        "tenant_id": project_id,
        "start": show_time_us(span.start_at),
        "stop": show_time_us(span.stop_at),
        "total_hours": float(sum(one for one, _ in hours)),
        "total_vcpus_usage": float(sum(one * server.flavor["vcpus"] for one, server in hours)),
        "total_memory_mb_usage": float(sum(one * server.flavor["ram_mib"] for one, server in hours)),
        "total_local_gb_usage": float(sum(one * _local_gib(server) for one, server in hours)),
    }
    if detailed:
        shown["server_usages"] = [_show_server(server, one, span) for one, server in hours]
    return shown


def _local_gib(server: Server) -> int:
    return int(server.flavor["disk_gib"]) + int(server.flavor["ephemeral_gib"])


def _show_server(server: Server, hours: float, span: Span) -> dict[str, Any]:
    launched_at, ended_at = server.launched_at or server.created_at, server.terminated_at
    return {
        "tenant_id": server.project_id,
        "instance_id": server.id,
        "name": server.name,
        "flavor": server.flavor["name"],
        "memory_mb": server.flavor["ram_mib"],
        "local_gb": _local_gib(server),
        "vcpus": server.flavor["vcpus"],
        "hours": float(hours),
        "started_at": show_time_us(launched_at),
        "ended_at": show_time_us(ended_at),
        "state": vm_state(server) if ended_at is None else "terminated",
        "uptime": ((ended_at or span.now) - launched_at) // 1_000_000,
    }


OPERATIONS: Final = (
    Operation(
        name="listUsages",
        reply=name_answer("tenant_usages", list[ProjectUsage], tenant_usages_links=list[Link]),
        method="GET",
        path="/os-simple-tenant-usage",
        query_names=_QUERY,
        handler=list_usages,
        policy=Policy.ADMIN,
        errors=(400,),
    ),
    Operation(
        name="showUsage",
        reply=name_answer("tenant_usage", OwnUsage, tenant_usage_links=list[Link]),
        method="GET",
        path="/os-simple-tenant-usage/{project_id}",
        query_names=("start", "end", "limit", "marker"),
        handler=show_usage,
        policy=Policy.READER,
        errors=(400, 403),
    ),
)
