"""Volume types, their extra specs, who may use them, and whose default they are."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kevel.api.operations import Call, Reply, Version
from kevel.api.volume.listing import read_query
from kevel.api.volume.paging import page_reply
from kevel.api.volume.values import read_bool, read_metadata, read_name, read_text
from kevel.api.volume.whole_lists import page_whole_list
from kevel.domain.errors import Invalid, NotFound
from kevel.store.volume_types import VolumeType

SORT_KEYS: Final = frozenset({"id", "name", "description", "is_public", "created_at", "updated_at"})
#: Extra specs that users see; the others are between the operator and the back end.
_PUBLIC_SPECS: Final = frozenset({"multiattach", "RESKEY:availability_zones", "replication_enabled"})
_NOT_OF_CHANGES: Final = frozenset({"qos_specs_id", "os-volume-type-access:is_public"})
#: Types can be listed by their extra specs.
_SPECS_SINCE: Final = Version(3, 52)


async def list_types(call: Call) -> Reply:
    """Types that the caller may use; an admin chooses with is_public, "None" for all, and sees public ones else."""
    query = read_query(call)
    found = await call.services.volume_types.list(call.actor)
    if call.caller.is_admin and query.get("is_public", "").lower() != "none":
        is_public = read_bool(query.get("is_public", "true"), "is_public")
        found = [one for one in found if one.is_public is is_public]
    if "name" in query:
        found = [one for one in found if one.name == query["name"]]
    if "extra_specs" in query and call.version >= _SPECS_SINCE:
        wanted = read_metadata(query["extra_specs"], "extra_specs")
        # What a user does not see, a user cannot ask for either.
        found = [one for one in found if wanted.items() <= show_specs(call, one).items()]
    shown, page = page_whole_list(call, query, found, SORT_KEYS)
    return page_reply(call, "volume_types", shown, page, lambda one: show_type(call, one))


async def show_default_type(call: Call) -> Reply:
    """The type of the caller's volumes that name none."""
    return _shown(call, await call.services.volume_types.default(call.actor))


async def show_one(call: Call) -> Reply:
    """One type."""
    return _shown(call, await _find(call))


async def create_type(call: Call) -> Reply:
    """A new type."""
    fields = call.body.volume_type
    is_public = True if fields.is_public is None else read_bool(fields.is_public, "os-volume-type-access:is_public")
    created = await call.services.volume_types.create(
        read_name(fields.name, "name"),
        read_text(fields.description, "description"),
        is_public=is_public,
        extra_specs=dict(fields.extra_specs or {}),
    )
    shown = show_type(call, created)
    # Cinder does not show it of a new type.
    shown.pop("qos_specs_id", None)
    return Reply(body={"volume_type": shown})


async def update_type(call: Call) -> Reply:
    """Change name, description or is_public."""
    fields = call.body.volume_type
    changes: dict[str, Any] = {}
    if fields.name is not None:
        changes["name"] = read_name(fields.name, "name")
    if fields.description is not msgspec.UNSET:
        changes["description"] = read_text(fields.description, "description")
    if fields.is_public is not None:
        changes["is_public"] = read_bool(fields.is_public, "is_public")
    if not changes:
        raise Invalid("Invalid input for volume_type: it has to have at least one of name, description and is_public.")
    updated = await call.services.volume_types.update(call.actor, _id(call), changes)
    # Cinder's answer to a change is shorter than the type.
    shown = {name: value for name, value in show_type(call, updated).items() if name not in _NOT_OF_CHANGES}
    return Reply(body={"volume_type": shown})


async def delete_type(call: Call) -> Reply:
    """Delete a type that no volume has."""
    await call.services.volume_types.delete(call.actor, _id(call))
    return Reply()


async def list_specs(call: Call) -> Reply:
    """The extra specs that the caller may see."""
    return Reply(body={"extra_specs": show_specs(call, await _find(call))})


async def add_specs(call: Call) -> Reply:
    """Set the extra specs given, keep the others."""
    specs = call.body.extra_specs
    await call.services.volume_types.set_specs(call.actor, _id(call), specs)
    return Reply(body={"extra_specs": specs})


async def show_spec(call: Call) -> Reply:
    """One extra spec."""
    key = call.path["key"]
    specs = show_specs(call, await _find(call))
    if key not in specs:
        raise NotFound(f"Volume type {_id(call)[:64]} has no extra spec {key[:255]}.")
    return Reply(body={key: specs[key]})


async def put_spec(call: Call) -> Reply:
    """Set one extra spec."""
    key = call.path["key"]
    if list(call.body) != [key]:
        raise Invalid(f"Invalid input: the body has to have one extra spec, with the URL's key {key[:255]}.")
    await call.services.volume_types.set_specs(call.actor, _id(call), call.body)
    return Reply(body=call.body)


async def remove_spec(call: Call) -> Reply:
    """Remove one extra spec."""
    await call.services.volume_types.remove_spec(call.actor, _id(call), call.path["key"])
    return Reply()


async def list_access(call: Call) -> Reply:
    """The projects that may use a private type."""
    type_id = _id(call)
    found = await call.services.volume_types.list_access(call.actor, type_id)
    return Reply(body={"volume_type_access": [{"volume_type_id": type_id, "project_id": one} for one in found]})


async def add_access(call: Call) -> Reply:
    """Let a project use a private type."""
    await call.services.volume_types.add_access(call.actor, _id(call), call.body.access.project)
    return Reply()


async def remove_access(call: Call) -> Reply:
    """Let a project use a private type no more."""
    await call.services.volume_types.remove_access(call.actor, _id(call), call.body.access.project)
    return Reply()


async def list_defaults(call: Call) -> Reply:
    """Projects' own default types."""
    found = await call.services.volume_types.list_defaults()
    return Reply(body={"default_types": [_show_default(*one) for one in found.items()]})


async def show_default(call: Call) -> Reply:
    """A project's own default type."""
    project_id = call.path["project_id"]
    return Reply(
        body={"default_type": _show_default(project_id, await call.services.volume_types.get_default(project_id))}
    )


async def set_default(call: Call) -> Reply:
    """Give a project a default type of its own."""
    project_id = call.path["project_id"]
    wanted = call.body.default_type.volume_type
    type_id = await call.services.volume_types.set_default(call.actor, project_id, wanted)
    return Reply(body={"default_type": _show_default(project_id, type_id)})


async def unset_default(call: Call) -> Reply:
    """Take a project's own default type away."""
    await call.services.volume_types.unset_default(call.path["project_id"])
    return Reply()


def show_type(call: Call, volume_type: VolumeType) -> dict[str, Any]:
    """A volume type; what is between operator and back end only to admins."""
    shown = {
        "id": volume_type.id,
        "name": volume_type.name,
        "description": volume_type.description,
        "is_public": volume_type.is_public,
        "os-volume-type-access:is_public": volume_type.is_public,
        "extra_specs": show_specs(call, volume_type),
    }
    if call.caller.is_admin:
        shown["qos_specs_id"] = volume_type.qos_specs_id
    return shown


def show_specs(call: Call, volume_type: VolumeType) -> dict[str, str]:
    """The extra specs that the caller may see."""
    specs = volume_type.extra_specs
    return specs if call.caller.is_admin else {key: value for key, value in specs.items() if key in _PUBLIC_SPECS}


def _id(call: Call) -> str:
    return call.path["type_id"]


async def _find(call: Call) -> VolumeType:
    return await call.services.volume_types.get(call.actor, _id(call))


def _shown(call: Call, volume_type: VolumeType) -> Reply:
    return Reply(body={"volume_type": show_type(call, volume_type)})


def _show_default(project_id: str, type_id: str) -> dict[str, str]:
    return {"project_id": project_id, "volume_type_id": type_id}
