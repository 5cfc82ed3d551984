"""Quotas as Cinder shows them: limits alone, or with what is in use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.listing import read_query
from kevel.api.volume.quotas.shapes import Value
from kevel.api.volume.values import read_flag
from kevel.domain.errors import Invalid
from kevel.domain.quotas import LIMIT_MAX, UNLIMITED, QuotaUsage

#: Longest name of a project in the path.
PROJECT_CHARACTERS_MAX: Final = 255
#: Keys that clients send back from an answer.
_NO_QUOTAS: Final = ("id", "tenant_id")
#: An admin may ask for another project's limits.
_OTHERS_SINCE: Final = Version(3, 39)
_LIMITS: Final = {
    "maxTotalVolumes": "volumes",
    "maxTotalVolumeGigabytes": "gigabytes",
    "maxTotalSnapshots": "snapshots",
    "maxTotalBackups": "backups",
    "maxTotalBackupGigabytes": "backup_gigabytes",
}
_USED: Final = {
    "totalVolumesUsed": "volumes",
    "totalGigabytesUsed": "gigabytes",
    "totalSnapshotsUsed": "snapshots",
    "totalBackupsUsed": "backups",
    "totalBackupGigabytesUsed": "backup_gigabytes",
}


async def show_quotas(call: Call) -> Reply:
    """A project's limits, with `usage` what it has too."""
    project_id = _project(call)
    found = await call.services.quotas.show(call.actor, project_id)
    if read_flag(read_query(call), "usage"):
        shown = {name: _show_usage(one) for name, one in found.items()}
        return Reply(body={"quota_set": {"id": project_id, **shown}})
    return Reply(body={"quota_set": {"id": project_id, **_limits(found)}})


async def show_defaults(call: Call) -> Reply:
    """What a project may have that has no limits of its own."""
    project_id = _project(call)
    found = await call.services.quotas.show_defaults(call.actor, project_id)
    return Reply(body={"quota_set": {"id": project_id, **found}})


async def update_quotas(call: Call) -> Reply:
    """Set some limits of a project."""
    limits = _read_limits(call.body.quota_set)
    found = await call.services.quotas.update(call.actor, _project(call), limits)
    return Reply(body={"quota_set": _limits(found)})


async def delete_quotas(call: Call) -> Reply:
    """Let the defaults hold for a project again."""
    await call.services.quotas.clear(_project(call))
    return Reply()


async def show_class(call: Call) -> Reply:
    """The limits of a class."""
    name = call.path["class_name"]
    return Reply(body={"quota_class_set": {"id": name, **await call.services.quotas.show_class(call.actor, name)}})


async def update_class(call: Call) -> Reply:
    """Set some limits of a class."""
    limits = _read_limits(call.body.quota_class_set)
    found = await call.services.quotas.update_class(call.actor, call.path["class_name"], limits)
    return Reply(body={"quota_class_set": found})


async def show_limits(call: Call) -> Reply:
    """What the project may have and has, under the names that clients look for."""
    query, project_id = read_query(call), call.actor.project_id
    if call.caller.is_admin and call.version >= _OTHERS_SINCE:
        project_id = query.get("project_id", query.get("tenant_id", project_id))
    found = await call.services.quotas.show(call.actor, project_id)
    absolute = {name: found[resource].limit for name, resource in _LIMITS.items()}
    absolute |= {name: found[resource].in_use for name, resource in _USED.items()}
    return Reply(body={"limits": {"rate": [], "absolute": absolute}})


def _project(call: Call) -> str:
    project_id = call.path["project_id"]
    if len(project_id) > PROJECT_CHARACTERS_MAX or "\0" in project_id:
        raise Invalid(f"Invalid input for the project: it can have {PROJECT_CHARACTERS_MAX} characters, and no NUL.")
    return project_id


def _limits(found: Mapping[str, QuotaUsage]) -> dict[str, int]:
    return {name: one.limit for name, one in found.items()}


def _show_usage(one: QuotaUsage) -> dict[str, int]:
    return {"limit": one.limit, "in_use": one.in_use, "reserved": one.reserved}


def _read_limits(values: Mapping[str, Value]) -> dict[str, int]:
    return {name: _read_limit(name, value) for name, value in values.items() if name not in _NO_QUOTAS}


def _read_limit(name: str, value: Value) -> int:
    try:
        limit = int(value)
    except ValueError:
        limit = UNLIMITED - 1
    if not UNLIMITED <= limit <= LIMIT_MAX:
        message = f"Invalid input for {name[:64]}: {str(value)[:40]!r}; a limit is a whole number, 0 to {LIMIT_MAX}, "
        raise Invalid(f"{message}or {UNLIMITED} for none.")
    return limit
