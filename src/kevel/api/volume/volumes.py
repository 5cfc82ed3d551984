"""Volumes, their metadata and their actions: words in, a use case, words out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.bodies import VolumeChanges, VolumeFields
from kevel.api.volume.listing import read_filter, read_query
from kevel.api.volume.paging import page_reply, read_page
from kevel.api.volume.values import read_bool, read_changed_names, read_flag, read_size_gib, read_text
from kevel.api.volume.views import VolumeShower
from kevel.control.volumes.metadata import metadata_tag
from kevel.control.volumes.volumes import NewVolume
from kevel.domain.errors import Invalid, NotFound
from kevel.store.volume_lists import SORT_KEYS, VolumeView

_GROUPS_SINCE: Final = Version(3, 13)
_BACKUPS_SINCE: Final = Version(3, 47)
#: Metadata has tags, by which a change can be refused whose author has not seen the last one.
_TAGS_SINCE: Final = Version(3, 15)
#: Tags of one If-Match that are looked at.
TAGS_MAX: Final = 16


async def create_volume(call: Call) -> Reply:
    """A volume, empty or of a source, to be made in the background."""
    fields: VolumeFields = call.body.volume
    if fields.consistencygroup_id:
        raise Invalid("Invalid input for consistencygroup_id: Kevel does not make volumes from consistency groups.")
    if fields.group_id and call.version < _GROUPS_SINCE:
        raise Invalid(f"Invalid input for group_id: groups came with microversion {_GROUPS_SINCE}.")
    if fields.backup_id and call.version < _BACKUPS_SINCE:
        raise Invalid(f"Invalid input for backup_id: it came with microversion {_BACKUPS_SINCE}.")
    if fields.multiattach is not None and read_bool(fields.multiattach, "multiattach"):
        raise Invalid(
            "Invalid input for multiattach: choose a volume type that has the extra spec multiattach instead."
        )
    has_source = bool(fields.snapshot_id or fields.source_volid or fields.backup_id)
    new = NewVolume(
        size_gib=None if fields.size is None and has_source else read_size_gib(fields.size, "size"),
        snapshot_id=fields.snapshot_id or None,
        source_volume_id=fields.source_volid or None,
        image_id=fields.image_ref or fields.image_id or None,
        name=read_text(fields.name, "name") or "",
        description=read_text(fields.description, "description"),
        type_ref=fields.volume_type or None,
        metadata=fields.metadata or {},
        availability_zone=fields.availability_zone or None,
        group_id=fields.group_id or None,
        backup_id=fields.backup_id or None,
    )

    def answer(view: VolumeView) -> Reply:
        return Reply(body={"volume": VolumeShower(call).changed(view)})

    return answer(await call.services.volumes.create(call.actor, new, once=call.once(answer)))


async def list_volumes(call: Call) -> Reply:
    """Volumes with id and name only."""
    return await _list(call, VolumeShower(call).summary)


async def list_details(call: Call) -> Reply:
    """Volumes with all that the caller may see of them."""
    return await _list(call, VolumeShower(call).detail)


async def _list(call: Call, show: Callable[[VolumeView], dict[str, Any]]) -> Reply:
    query = read_query(call)
    page = read_page(call, query, SORT_KEYS)
    found = await call.services.volumes.list(read_filter(call, query), page)
    return page_reply(call, "volumes", found, page, show)


async def summarize_volumes(call: Call) -> Reply:
    """Number and size of all volumes."""
    summary = await call.services.volumes.summarize(read_filter(call, read_query(call)))
    body: dict[str, Any] = {"total_count": summary.count, "total_size": summary.total_gib}
    if call.version >= Version(3, 36):
        body["metadata"] = summary.metadata
    return Reply(body={"volume-summary": body})


async def show_volume(call: Call) -> Reply:
    """One volume."""
    view = await call.services.volumes.get(call.actor, call.path["volume_id"])
    return Reply(body={"volume": VolumeShower(call).detail(view)})


async def update_volume(call: Call) -> Reply:
    """Change name, description or metadata."""
    changes = _read_changes(call.body.volume)
    if not changes and call.version >= Version(3, 53):
        raise Invalid("Invalid input for volume: it has to have at least one of name, description and metadata.")
    view = await call.services.volumes.update(call.actor, call.path["volume_id"], changes)
    return Reply(body={"volume": VolumeShower(call).changed(view)})


def _read_changes(fields: VolumeChanges) -> dict[str, Any]:
    changes: dict[str, Any] = read_changed_names(fields)
    if fields.metadata is not msgspec.UNSET and fields.metadata is not None:
        changes["metadata"] = fields.metadata
    return changes


async def delete_volume(call: Call) -> Reply:
    """Delete a volume that is attached nowhere; with `cascade` its snapshots, too."""
    query = read_query(call)
    cascade = read_flag(query, "cascade")
    force = read_flag(query, "force") and call.version >= Version(3, 23)
    await call.services.volumes.delete(call.actor, call.path["volume_id"], force=force, cascade=cascade)
    return Reply()


async def force_delete_volume(call: Call) -> Reply:
    """Delete a volume whatever its status, if it is attached nowhere."""
    await call.services.volumes.delete(call.actor, call.path["volume_id"], force=True)
    return Reply()


async def show_encryption_item(call: Call) -> Reply:
    """One item of how the volume is encrypted."""
    shown = (await show_encryption(call)).body
    key = call.path["key"]
    if key not in shown:
        raise NotFound(f"The encryption of volume {call.path['volume_id']} has no {key[:255]}.")
    return Reply(body={key: shown[key]})


async def show_encryption(call: Call) -> Reply:
    """How the volume is encrypted, without what opens it."""
    key_id, encryption = await call.services.volumes.encryption(call.actor, call.path["volume_id"])
    if key_id is None or encryption is None:
        return Reply(body={"encryption_key_id": key_id})
    shown = {name: getattr(encryption, name) for name in ("provider", "cipher", "key_size", "control_location")}
    return Reply(body={"encryption_key_id": key_id, **shown})


async def list_metadata(call: Call) -> Reply:
    """The user's metadata of a volume."""
    view = await call.services.volumes.get(call.actor, call.path["volume_id"])
    metadata = view.volume.metadata
    headers = {"ETag": f'"{metadata_tag(metadata)}"'} if call.version >= _TAGS_SINCE else {}
    return Reply(body={"metadata": metadata}, headers=headers)


async def add_metadata(call: Call) -> Reply:
    """Set the items given, keep the others."""
    return await _put_metadata(call, call.body.metadata, replace=False)


async def replace_metadata(call: Call) -> Reply:
    """Set the items given, remove the others."""
    return await _put_metadata(call, call.body.metadata, replace=True)


async def _put_metadata(call: Call, items: dict[str, str], *, replace: bool) -> Reply:
    volumes = call.services.volumes
    tags = _read_tags(call) if replace else None
    metadata = await volumes.put_metadata(call.actor, call.path["volume_id"], items, replace=replace, tags=tags)
    return Reply(body={"metadata": metadata})


def _read_tags(call: Call) -> frozenset[str] | None:
    """The tags of If-Match, one of which the metadata has to have; None: whatever it has."""
    given = call.request.headers.get("if-match")
    if given is None or call.version < _TAGS_SINCE or given.strip() == "*":
        return None
    return frozenset(tag.strip().removeprefix("W/").strip('"') for tag in given.split(",")[:TAGS_MAX])


async def show_metadata_item(call: Call) -> Reply:
    """One metadata item."""
    key = call.path["key"]
    view = await call.services.volumes.get(call.actor, call.path["volume_id"])
    if key not in view.volume.metadata:
        raise NotFound(f"Volume {view.volume.id} has no metadata with key {key[:255]}.")
    return Reply(body={"meta": {key: view.volume.metadata[key]}})


async def put_metadata_item(call: Call) -> Reply:
    """Set one metadata item."""
    key, items = call.path["key"], call.body.meta
    if list(items) != [key]:
        raise Invalid(f"Invalid input for meta: the body has to have one item, with the URL's key {key[:255]}.")
    tags = _read_tags(call)
    await call.services.volumes.put_metadata(call.actor, call.path["volume_id"], items, replace=False, tags=tags)
    return Reply(body={"meta": items})


async def remove_metadata_item(call: Call) -> Reply:
    """Remove one metadata item."""
    await call.services.volumes.remove_metadata(call.actor, call.path["volume_id"], call.path["key"])
    return Reply()


async def extend_volume(call: Call) -> Reply:
    """Grow a volume; from 3.42 an attached one too."""
    size_gib = read_size_gib(call.body.extend.new_size, "new_size")
    in_use = call.version >= Version(3, 42)
    await call.services.volumes.extend(call.actor, call.path["volume_id"], size_gib, in_use=in_use)
    return Reply()


async def set_bootable(call: Call) -> Reply:
    """Say whether a guest can boot from it."""
    bootable = read_bool(call.body.flag.bootable, "bootable")
    await call.services.volumes.set_bootable(call.actor, call.path["volume_id"], bootable=bootable)
    return Reply()


async def set_readonly(call: Call) -> Reply:
    """Say whether guests may write."""
    readonly = read_bool(call.body.flag.readonly, "readonly")
    await call.services.volumes.set_readonly(call.actor, call.path["volume_id"], readonly=readonly)
    return Reply()


async def reset_status(call: Call) -> Reply:
    """Put a word over a volume's status, or take it away again."""
    wanted = call.body.reset
    if wanted.status is None and wanted.attach_status is None and wanted.migration_status is None:
        raise Invalid("Invalid input for os-reset_status: it has to have status, attach_status or migration_status.")
    if wanted.migration_status not in (None, "none"):
        raise Invalid("Invalid input for migration_status: a reset forgets how a move ended, so it can only be none.")
    await call.services.volumes.reset_status(
        call.actor,
        call.path["volume_id"],
        wanted.status,
        wanted.attach_status,
        forgets_move=wanted.migration_status is not None,
    )
    return Reply()


async def complete_extend(call: Call) -> Reply:
    """Hear from what has the volume whether it could be shown the new size."""
    error = call.body.completion.error
    failed = error is not None and read_bool(error, "error")
    await call.services.volumes.complete_extend(call.actor, call.path["volume_id"], failed=failed)
    return Reply()
