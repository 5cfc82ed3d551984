"""Group types and their specs: words in, a use case, words out."""

from __future__ import annotations

from typing import Any

from kevel.api.operations import Call, Reply
from kevel.api.volume.listing import read_query
from kevel.api.volume.paging import page_reply, read_page
from kevel.api.volume.values import read_bool, read_name, read_text
from kevel.domain.errors import Invalid, NotFound
from kevel.store.group_types import SORT_COLUMNS, GroupType


async def list_group_types(call: Call) -> Reply:
    """Types that the caller may use; an admin chooses with is_public, "None" for all."""
    query = read_query(call)
    page = read_page(call, query, SORT_COLUMNS)
    is_public: bool | None = True
    if call.caller.is_admin:
        wanted = query.get("is_public", "")
        # As in Cinder, who does not ask sees the public ones.
        is_public = None if wanted.lower() == "none" else wanted == "" or read_bool(wanted, "is_public")
    found = await call.services.group_types.list(page, is_public=is_public)
    return page_reply(call, "group_types", found, page, lambda one: _show(call, one), links="group_type_links")


async def show_group_type(call: Call) -> Reply:
    """One type. There is no default one, so that `default` is found no more than any other id that is none."""
    return _shown(call, await _find(call))


async def create_group_type(call: Call) -> Reply:
    """A new type."""
    fields = call.body.group_type
    created = await call.services.group_types.create(
        read_name(fields.name, "name"),
        read_text(fields.description, "description"),
        is_public=fields.is_public is None or read_bool(fields.is_public, "is_public"),
        group_specs=dict(fields.group_specs or {}),
    )
    return _shown(call, created)


async def update_group_type(call: Call) -> Reply:
    """Change name, description or is_public."""
    fields = call.body.group_type
    changes: dict[str, Any] = {}
    if fields.name is not None:
        changes["name"] = read_name(fields.name, "name")
    if fields.description is not None:
        changes["description"] = read_text(fields.description, "description")
    if fields.is_public is not None:
        changes["is_public"] = read_bool(fields.is_public, "is_public")
    if not changes:
        raise Invalid("Invalid input for group_type: it has to have at least one of name, description and is_public.")
    return _shown(call, await call.services.group_types.update(call.actor, _id(call), changes))


async def delete_group_type(call: Call) -> Reply:
    """Delete a type that no group has."""
    await call.services.group_types.delete(call.actor, _id(call))
    return Reply()


async def list_specs(call: Call) -> Reply:
    """All specs of a type."""
    return Reply(body={"group_specs": (await _find(call)).group_specs})


async def put_specs(call: Call) -> Reply:
    """Set the specs given, keep the others."""
    specs = call.body.group_specs
    await call.services.group_types.set_specs(call.actor, _id(call), specs)
    return Reply(body={"group_specs": specs})


async def show_spec(call: Call) -> Reply:
    """One spec."""
    key = call.path["key"]
    specs = (await _find(call)).group_specs
    if key not in specs:
        raise NotFound(f"Group type {_id(call)[:64]} has no spec {key[:255]}.")
    return Reply(body={key: specs[key]})


async def put_spec(call: Call) -> Reply:
    """Set one spec."""
    key = call.path["key"]
    if list(call.body) != [key]:
        raise Invalid(f"Invalid input: the body has to have one spec, with the URL's key {key[:255]}.")
    await call.services.group_types.set_specs(call.actor, _id(call), call.body)
    return Reply(body=call.body)


async def remove_spec(call: Call) -> Reply:
    """Remove one spec."""
    await call.services.group_types.remove_spec(call.actor, _id(call), call.path["key"])
    return Reply()


def _id(call: Call) -> str:
    return call.path["group_type_id"]


async def _find(call: Call) -> GroupType:
    return await call.services.group_types.get(call.actor, _id(call))


def _shown(call: Call, group_type: GroupType) -> Reply:
    return Reply(body={"group_type": _show(call, group_type)})


def _show(call: Call, group_type: GroupType) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": group_type.id,
        "name": group_type.name,
        "description": group_type.description,
        "is_public": group_type.is_public,
    }
    if call.caller.is_admin:
        shown["group_specs"] = group_type.group_specs
    return shown
