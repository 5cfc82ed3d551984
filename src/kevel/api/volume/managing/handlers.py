"""Managing: words in, a use case, words out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from kevel.api.operations import Call, Reply
from kevel.api.volume.listing import read_query
from kevel.api.volume.managing.shapes import SnapshotFields, VolumeFields
from kevel.api.volume.paging import read_limit
from kevel.api.volume.snapshots.handlers import show_plainly
from kevel.api.volume.values import read_bool, read_metadata, read_number, read_text
from kevel.api.volume.views import VolumeShower
from kevel.control.volumes.managing import Manageable, NewManaged, NewManagedSnapshot
from kevel.domain.errors import Invalid, NotFound

#: How a file of a pool is named: Cinder's word for a back end's own names.
_SOURCE: Final = "source-name"
_SORTS: Final[Mapping[str, Callable[[Manageable], Any]]] = {
    "reference": lambda one: one.name,
    "size": lambda one: (one.size_gib, one.name),
}


async def manage_volume(call: Call) -> Reply:
    """A volume of what is in a pool."""
    fields: VolumeFields = call.body.volume
    if not fields.host:
        raise Invalid("Invalid input for host: it has to name the pool, as host@backend#pool.")
    new = NewManaged(
        host=fields.host,
        source_name=_read_ref(fields.ref),
        name=read_text(fields.name, "name") or "",
        description=read_text(fields.description, "description"),
        type_ref=fields.volume_type or None,
        metadata=fields.metadata or {},
        availability_zone=fields.availability_zone or None,
        bootable=fields.bootable is not None and read_bool(fields.bootable, "bootable"),
    )
    view = await call.services.managing.manage_volume(call.actor, new)
    return Reply(body={"volume": VolumeShower(call).changed(view)})


async def manage_snapshot(call: Call) -> Reply:
    """A snapshot of what is in its volume's pool. The answer has the same keys at all microversions, as Cinder's."""
    fields: SnapshotFields = call.body.snapshot
    new = NewManagedSnapshot(
        volume_id=fields.volume_id,
        source_name=_read_ref(fields.ref),
        name=read_text(fields.name, "name") or "",
        description=read_text(fields.description, "description"),
        metadata=fields.metadata or {},
    )
    view = await call.services.managing.manage_snapshot(call.actor, new)
    return Reply(body={"snapshot": show_plainly(view)})


def _read_ref(ref: dict[str, Any]) -> str:
    name = ref.get(_SOURCE)
    if list(ref) != [_SOURCE] or not isinstance(name, str) or not name or "\0" in name:
        raise Invalid(f"Invalid input for ref: it has to have {_SOURCE} with the name of a file, and nothing else.")
    return name


async def unmanage_volume(call: Call) -> Reply:
    """Forget a volume and leave its contents."""
    await call.services.managing.unmanage_volume(call.actor, call.path["volume_id"])
    return Reply()


async def unmanage_snapshot(call: Call) -> Reply:
    """Forget a snapshot and leave its contents."""
    await call.services.managing.unmanage_snapshot(call.actor, call.path["snapshot_id"])
    return Reply()


async def list_volumes(call: Call) -> Reply:
    """What a pool has, in short."""
    return await _list(call, "manageable-volumes", _show)


async def list_volume_details(call: Call) -> Reply:
    """What a pool has, and why some of it cannot be managed."""
    return await _list(call, "manageable-volumes", _show_detail)


async def list_snapshots(call: Call) -> Reply:
    """What a pool has of snapshots, in short."""
    return await _list(call, "manageable-snapshots", _show)


async def list_snapshot_details(call: Call) -> Reply:
    """What a pool has of snapshots, and why some of it cannot be managed."""
    return await _list(call, "manageable-snapshots", _show_detail)


async def _list(call: Call, name: str, show: Callable[[Manageable], dict[str, Any]]) -> Reply:
    query = read_query(call)
    host = query.get("host")
    if not host:
        raise Invalid("Invalid input for host: the query has to name the pool, as host=host@backend#pool.")
    key, _, direction = query.get("sort", "reference:desc").partition(":")
    if key not in _SORTS or direction not in ("", "asc", "desc"):
        raise Invalid("Invalid input for sort: it has to be reference or size, with :asc or :desc.")
    limit, offset = read_limit(query), read_number(query, "offset") or 0
    managing = call.services.managing
    of_volumes = name == "manageable-volumes"
    found = await (managing.list_volumes(host) if of_volumes else managing.list_snapshots(host))
    rows = sorted(found, key=_SORTS[key], reverse=direction != "asc")
    if "marker" in query:
        rows = rows[_find_marker(rows, query["marker"]) + 1 :]
    return Reply(body={name: [show(one) for one in rows[offset : offset + limit]]})


def _find_marker(rows: list[Manageable], text: str) -> int:
    wanted = read_metadata(text, "marker").get(_SOURCE)
    for at, one in enumerate(rows):
        if one.name == wanted:
            return at
    raise NotFound(f"{text[:64]} could not be found; it was given as the marker of a list.")


def _show(one: Manageable) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "reference": {_SOURCE: one.name},
        "size": one.size_gib,
        "safe_to_manage": one.reason_not_safe is None,
    }
    if one.source_name is not None:
        shown["source_reference"] = {_SOURCE: one.source_name}
    return shown


def _show_detail(one: Manageable) -> dict[str, Any]:
    return _show(one) | {"reason_not_safe": one.reason_not_safe, "cinder_id": one.kevel_id, "extra_info": None}
