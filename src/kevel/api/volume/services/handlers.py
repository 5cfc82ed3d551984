"""Services, hosts and log levels in Cinder's words."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.listing import read_query
from kevel.api.volume.services.shapes import ChooseLogs, ChooseService
from kevel.api.volume.values import read_name, show_time
from kevel.control.pools.services import ServiceView
from kevel.domain.errors import Invalid
from kevel.runtime.log_levels import LEVELS
from kevel.store.volume_services import VOLUME, ProjectShare

_CLUSTERS_SINCE: Final = Version(3, 7)
_BACKEND_STATE_SINCE: Final = Version(3, 49)
#: Cinder's name for the part that answers requests; here the whole process.
_API: Final = "cinder-api"


async def list_services(call: Call) -> Reply:
    """The parts that carry volumes' operations out; a pool's is up when the pool answers."""
    query = read_query(call)
    found = await call.services.volume_services.list(host=query.get("host"), binary=query.get("binary"))
    return Reply(body={"services": [_show(call, one) for one in found]})


def _show(call: Call, service: ServiceView) -> dict[str, Any]:
    state = "up" if service.is_up else "down"
    shown: dict[str, Any] = {
        "binary": service.binary,
        "host": service.host,
        "zone": service.zone,
        "status": _status(service),
        "state": state,
        "updated_at": show_time(service.updated_at),
        "disabled_reason": service.disabled_reason,
    }
    if call.version >= _CLUSTERS_SINCE:
        shown["cluster"] = None
    if service.binary == VOLUME:
        shown |= {"replication_status": "disabled", "active_backend_id": None, "frozen": service.frozen}
        if call.version >= _BACKEND_STATE_SINCE:
            shown["backend_state"] = state
    return shown


def _status(service: ServiceView) -> str:
    return "disabled" if service.disabled else "enabled"


async def enable_service(call: Call) -> Reply:
    """Let a part take what is new."""
    await call.services.volume_services.enable(call.body.host, _binary(call.body))
    return Reply(body=_changed(call.body, is_disabled=False) | {"disabled_reason": None})


async def disable_service(call: Call) -> Reply:
    """Let a part take nothing new."""
    await call.services.volume_services.disable(call.body.host, _binary(call.body), None)
    return Reply(body=_changed(call.body, is_disabled=True))


async def disable_for_reason(call: Call) -> Reply:
    """Let a part take nothing new, and say why."""
    reason = read_name(call.body.disabled_reason, "disabled_reason")
    await call.services.volume_services.disable(call.body.host, _binary(call.body), reason)
    return Reply(body=_changed(call.body, is_disabled=True) | {"disabled_reason": reason})


def _binary(body: ChooseService) -> str:
    binary = body.binary or body.service
    if binary is msgspec.UNSET:
        raise Invalid("Invalid input for binary: the body has to name a service.")
    return binary


def _changed(body: ChooseService, *, is_disabled: bool) -> dict[str, Any]:
    return {
        "host": body.host,
        "service": body.service or "",
        "binary": body.binary or "",
        "status": "disabled" if is_disabled else "enabled",
        "disabled": is_disabled,
    }


async def freeze_host(call: Call) -> Reply:
    """Keep what is in a pool as it is."""
    await call.services.volume_services.freeze(call.body.host, frozen=True)
    return Reply()


async def thaw_host(call: Call) -> Reply:
    """Let what is in a pool be changed again."""
    await call.services.volume_services.freeze(call.body.host, frozen=False)
    return Reply()


async def show_logs(call: Call) -> Reply:
    """The levels from which on the process logs, once for each part."""
    levels = call.services.log_levels.show(call.body.prefix or "")
    parts = await _parts(call)
    return Reply(body={"log_levels": [{"host": host, "binary": name, "levels": levels} for host, name in parts]})


async def set_logs(call: Call) -> Reply:
    """Change the levels from which on the process logs."""
    level = call.body.level
    if level.upper() not in LEVELS:
        raise Invalid(f"Invalid input for level: {level[:40]!r}; it has to be one of {', '.join(LEVELS)}.")
    if await _parts(call):
        call.services.log_levels.set(call.body.prefix or "", level)
    return Reply()


async def _parts(call: Call) -> list[tuple[str, str]]:
    """Hosts and names of the parts that the body means."""
    wanted: ChooseLogs = call.body
    found = [(one.host, one.binary) for one in await call.services.volume_services.list() if one.is_up]
    parts = [(call.services.pools.host, _API), *found]
    return [
        (host, name)
        for host, name in parts
        if wanted.binary in ("", "*", name) and (not wanted.server or wanted.server == host)
    ]


async def list_hosts(call: Call) -> Reply:
    """The parts that are not disabled, by their hosts."""
    zone = read_query(call).get("zone")
    shown = [
        {
            "host_name": one.host,
            "service": one.binary,
            "zone": one.zone,
            "service-status": "available" if one.is_up else "unavailable",
            "service-state": "enabled",
            "last-update": show_time(one.updated_at),
        }
        for one in await call.services.volume_services.list()
        if not one.disabled and zone in (None, "", one.zone)
    ]
    return Reply(body={"hosts": shown})


async def show_host(call: Call) -> Reply:
    """What projects have in a pool, all together first."""
    host = call.path["host"]
    shares = await call.services.volume_services.share_pool(host)
    total = ProjectShare(
        volumes=sum(one.volumes for one in shares.values()),
        volumes_gib=sum(one.volumes_gib for one in shares.values()),
        snapshots=sum(one.snapshots for one in shares.values()),
        snapshots_gib=sum(one.snapshots_gib for one in shares.values()),
    )
    rows = {"(total)": total, **shares}
    return Reply(body={"host": [{"resource": _show_share(host, name, one)} for name, one in rows.items()]})


def _show_share(host: str, project: str, share: ProjectShare) -> dict[str, str]:
    return {
        "host": host,
        "project": project,
        "volume_count": str(share.volumes),
        "total_volume_gb": str(share.volumes_gib),
        "snapshot_count": str(share.snapshots),
        "total_snapshot_gb": str(share.snapshots_gib),
    }
