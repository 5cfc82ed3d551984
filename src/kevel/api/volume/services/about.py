"""What the API says of itself: its older parts by their names as extensions, and the filters of its lists."""

from __future__ import annotations

from typing import Any, Final

from kevel.api.operations import Call, Reply
from kevel.api.volume.listing import read_query
from kevel.domain.errors import NotFound

#: When the list was last changed.
_UPDATED: Final = "2026-11-22T00:00:00Z"
#: Alias, name and what is there. Clients look for these names; whatever came later is a microversion.
EXTENSIONS: Final = (
    ("os-hosts", "Hosts", "Hosts of services, and what projects have in their pools"),
    ("os-services", "Services", "Services, their states, and what admins say of them"),
    ("os-extended-services", "ExtendedServices", "Why a service is disabled"),
    ("os-availability-zone", "AvailabilityZones", "The zones of the pools"),
    ("scheduler-stats", "Scheduler_stats", "Pools and what they hold"),
    ("capabilities", "Capabilities", "What a back end is"),
    ("qos-specs", "Qos_specs_manage", "Qualities of service of volume types"),
    ("os-quota-sets", "Quotas", "What projects may have, and have"),
    ("os-quota-class-sets", "QuotaClasses", "What projects may have by default"),
    ("os-types-manage", "TypesManage", "Volume types are made, changed and deleted"),
    ("os-types-extra-specs", "TypesExtraSpecs", "Extra specs of volume types"),
    ("os-volume-type-access", "VolumeTypeAccess", "Who may use a private volume type"),
    ("encryption", "VolumeTypeEncryption", "How volumes of a type are encrypted"),
    ("os-volume-actions", "VolumeActions", "Actions on volumes"),
    ("os-admin-actions", "AdminActions", "Actions on volumes for admins"),
    ("os-volume-transfer", "VolumeTransfer", "Volumes are handed to other projects"),
    ("os-vol-host-attr", "VolumeHostAttribute", "Where a volume lies, for admins"),
    ("os-vol-tenant-attr", "VolumeTenantAttribute", "Whose a volume is"),
)

#: What lists can be filtered by, as the handlers of the lists do it.
FILTERS: Final[dict[str, tuple[str, ...]]] = {
    "volume": (
        "name",
        "status",
        "metadata",
        "bootable",
        "migration_status",
        "availability_zone",
        "multiattach",
        "size",
        "user_id",
        "volume_type",
        "group_id",
        "created_at",
        "updated_at",
        "consumes_quota",
    ),
    "snapshot": (
        "name",
        "status",
        "volume_id",
        "metadata",
        "volume_size",
        "user_id",
        "group_snapshot_id",
        "created_at",
        "updated_at",
        "consumes_quota",
    ),
    "backup": ("name", "status", "volume_id", "snapshot_id", "parent_id", "availability_zone", "container"),
    "group": ("name", "status", "description", "availability_zone", "group_type", "source_group_id"),
    "group_snapshot": ("name", "status", "group_id", "description"),
    "attachment": ("volume_id", "status", "attach_status", "instance_id"),
    "message": ("resource_uuid", "resource_type", "event_id", "request_id", "message_level"),
    "pool": ("name", "volume_type"),
    "volume_type": ("is_public", "name", "extra_specs"),
}


async def list_extensions(call: Call) -> Reply:
    """The parts of the API that clients ask for by their names."""
    return Reply(body={"extensions": [_show(*one) for one in EXTENSIONS]})


async def show_extension(call: Call) -> Reply:
    """One of them."""
    alias = call.path["alias"]
    for one in EXTENSIONS:
        if one[0] == alias:
            return Reply(body={"extension": _show(*one)})
    raise NotFound(f"Extension {alias[:64]} could not be found.")


async def list_filters(call: Call) -> Reply:
    """What lists can be filtered by; of one resource if it is named."""
    wanted = read_query(call).get("resource")
    found = [{"resource": name, "filters": list(one)} for name, one in FILTERS.items() if wanted in (None, name)]
    return Reply(body={"resource_filters": found})


def _show(alias: str, name: str, description: str) -> dict[str, Any]:
    return {"name": name, "alias": alias, "description": description, "updated": _UPDATED, "links": []}
