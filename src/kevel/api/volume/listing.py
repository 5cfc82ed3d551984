"""What a list's query asks for."""

from __future__ import annotations

from typing import Final

from kevel.api.operations import Call, Version
from kevel.api.volume.values import read_bool, read_flag, read_metadata, read_number, read_times
from kevel.store.volume_lists import TimeFilter, VolumeFilter

_IMAGE_METADATA_SINCE: Final = Version(3, 4)
_TIMES_SINCE: Final = Version(3, 60)
_QUOTA_USE_SINCE: Final = Version(3, 65)


def read_query(call: Call) -> dict[str, str]:
    """The query's parameters; of a repeated one the last."""
    return dict(call.query_items)


def read_scope(call: Call, query: dict[str, str]) -> str | None:
    """The project whose things are listed; None: an admin asked for all."""
    actor = call.actor
    if actor.is_admin and read_flag(query, "all_tenants"):
        return query.get("project_id") or None
    return actor.project_id


def read_ids(call: Call, query: dict[str, str]) -> tuple[str, ...] | None:
    """The ids that the list is narrowed to; None: all. Raises Invalid."""
    if call.version >= _QUOTA_USE_SINCE and "consumes_quota" in query and not read_flag(query, "consumes_quota"):
        return ()  # everything here counts towards its project's quota
    return (query["id"],) if "id" in query else None


def read_time_filters(call: Call, query: dict[str, str]) -> tuple[TimeFilter, ...]:
    """When the rows were made and changed. Raises Invalid."""
    if call.version < _TIMES_SINCE:
        return ()
    groups = [read_times(name, query[name]) for name in ("created_at", "updated_at") if name in query]
    return tuple(one for group in groups for one in group)


def read_filter(call: Call, query: dict[str, str]) -> VolumeFilter:
    """Which volumes. Parameters that are no filters are ignored, as Cinder does. Raises Invalid."""
    version = call.version
    by_image = version >= _IMAGE_METADATA_SINCE and "glance_metadata" in query
    return VolumeFilter(
        project_id=read_scope(call, query),
        ids=read_ids(call, query),
        name=query.get("name", query.get("display_name")),
        name_part=query.get("name~") if version >= Version(3, 34) else None,
        availability_zone=query.get("availability_zone"),
        bootable=read_bool(query["bootable"], "bootable") if "bootable" in query else None,
        multiattach=read_bool(query["multiattach"], "multiattach") if "multiattach" in query else None,
        size_gib=read_number(query, "size"),
        group_id=query.get("group_id") if version >= Version(3, 10) else None,
        user_id=query.get("user_id"),
        type_ref=query.get("volume_type", query.get("volume_type_id")),
        migration_status=query.get("migration_status"),
        times=read_time_filters(call, query),
        statuses=frozenset({query["status"]}) if "status" in query else None,
        metadata=read_metadata(query["metadata"], "metadata") if "metadata" in query else None,
        image_metadata=read_metadata(query["glance_metadata"], "glance_metadata") if by_image else None,
    )
