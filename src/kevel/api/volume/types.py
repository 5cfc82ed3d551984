"""Volume types and their extra specs."""

from __future__ import annotations

from typing import Any

import msgspec

from kevel.api.operations import Call, Reply
from kevel.api.volume.listing import cut_page, read_page, read_query, with_links
from kevel.api.volume.values import read_bool
from kevel.api.volume.views import show_specs, show_type
from kevel.domain.errors import Invalid, NotFound
from kevel.store.volume_types import VolumeType


async def list_types(call: Call) -> Reply:
    """Types that the caller may use; an admin chooses with is_public, "None" for all."""
    query = read_query(call)
    page = read_page(call, query)
    found = await call.services.volume_types.list(call.actor)
    wanted = query.get("is_public", "None")
    if call.caller.is_admin and wanted.lower() != "none":
        is_public = read_bool(wanted, "is_public")
        found = [one for one in found if one.is_public is is_public]
    if "name" in query:
        found = [one for one in found if one.name == query["name"]]
    shown, has_more = cut_page(found, [one.id for one in found], page)
    rows = [show_type(one, is_admin=call.caller.is_admin) for one in shown]
    last_id = shown[-1].id if shown else ""
    return Reply(body=with_links(call, "volume_types", rows, page=page, has_more=has_more, last_id=last_id))


async def show_default_type(call: Call) -> Reply:
    """The type of a volume that names none."""
    return _shown(call, await call.services.volume_types.default())


async def show_one(call: Call) -> Reply:
    """One type."""
    return _shown(call, await _find(call))


async def create_type(call: Call) -> Reply:
    """A new type."""
    fields = call.body.volume_type
    is_public = True if fields.is_public is None else read_bool(fields.is_public, "os-volume-type-access:is_public")
    name = _read_name(fields.name)
    types = call.services.volume_types
    created = await types.create(
        name, fields.description, is_public=is_public, extra_specs=dict(fields.extra_specs or {})
    )
    return _shown(call, created)


async def update_type(call: Call) -> Reply:
    """Change name, description or is_public."""
    fields = call.body.volume_type
    changes: dict[str, Any] = {}
    if fields.name is not None:
        changes["name"] = _read_name(fields.name)
    if fields.description is not msgspec.UNSET:
        changes["description"] = fields.description
    if fields.is_public is not None:
        changes["is_public"] = read_bool(fields.is_public, "is_public")
    if not changes:
        raise Invalid("Invalid input for volume_type: it has to have at least one of name, description and is_public.")
    return _shown(call, await call.services.volume_types.update(call.actor, call.path["type_id"], changes))


async def delete_type(call: Call) -> Reply:
    """Delete a type that no volume has."""
    await call.services.volume_types.delete(call.actor, call.path["type_id"])
    return Reply()


async def list_specs(call: Call) -> Reply:
    """The extra specs that the caller may see."""
    specs = show_specs(await _find(call), is_admin=call.caller.is_admin)
    return Reply(body={"extra_specs": specs})


async def add_specs(call: Call) -> Reply:
    """Set the extra specs given, keep the others."""
    specs = call.body.extra_specs
    await call.services.volume_types.set_specs(call.actor, call.path["type_id"], specs)
    return Reply(body={"extra_specs": specs})


async def show_spec(call: Call) -> Reply:
    """One extra spec."""
    key = call.path["key"]
    specs = show_specs(await _find(call), is_admin=call.caller.is_admin)
    if key not in specs:
        raise NotFound(f"Volume type {call.path['type_id'][:64]} has no extra spec {key[:255]}.")
    return Reply(body={key: specs[key]})


async def put_spec(call: Call) -> Reply:
    """Set one extra spec."""
    key = call.path["key"]
    if list(call.body) != [key]:
        raise Invalid(f"Invalid input: the body has to have one extra spec, with the URL's key {key[:255]}.")
    await call.services.volume_types.set_specs(call.actor, call.path["type_id"], call.body)
    return Reply(body=call.body)


async def remove_spec(call: Call) -> Reply:
    """Remove one extra spec."""
    await call.services.volume_types.remove_spec(call.actor, call.path["type_id"], call.path["key"])
    return Reply()


async def list_access(call: Call) -> Reply:
    """The projects that may use a private type: none, since private types are for admins."""
    found = await _find(call)
    if found.is_public:
        raise NotFound(f"Volume type {found.id} is public; there is no list of those who may use it.")
    return Reply(body={"volume_type_access": []})


async def _find(call: Call) -> VolumeType:
    return await call.services.volume_types.get(call.actor, call.path["type_id"])


def _shown(call: Call, volume_type: VolumeType) -> Reply:
    return Reply(body={"volume_type": show_type(volume_type, is_admin=call.caller.is_admin)})


def _read_name(name: str) -> str:
    if not name.strip() or "\0" in name:
        raise Invalid("Invalid input for name: a volume type's name has to have letters, and no NUL.")
    return name.strip()
