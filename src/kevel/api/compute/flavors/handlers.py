"""Flavors and their extra specs, as the compute API shows them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from kevel.api.compute.shapes import bookmark_base, next_link, read_bool, read_count, refuse_unknown_query, v
from kevel.api.operations import Call, Reply
from kevel.domain.errors import Invalid, NotFound
from kevel.domain.flavors import Flavor

#: Flavors in one answer; more are on the next page.
PAGE_FLAVORS_MAX: Final = 1000

#: From here on public flavors have no access lists.
_PRIVATE_ONLY: Final = v(7)
DESCRIPTIONS: Final = v(55)
_EXTRA_SPECS_INLINE: Final = v(61)
#: From here on swap is always a number, and unknown query parameters are refused.
_STRICTER: Final = v(75)
#: From here on without what only ever had one value.
TRIMMED: Final = v(102)

LIST_PARAMETERS: Final = frozenset(("limit", "marker", "is_public", "sort_key", "sort_dir", "minRam", "minDisk"))
_SORT_FIELDS: Final[Mapping[str, str]] = {
    "flavorid": "id",
    "id": "id",
    "name": "name",
    "memory_mb": "ram_mib",
    "vcpus": "vcpus",
    "root_gb": "disk_gib",
    "ephemeral_gb": "ephemeral_gib",
    "swap": "swap_mib",
    "is_public": "is_public",
    "description": "description",
}


async def list_flavors(call: Call) -> Reply:
    """Ids, names and links of a page of flavors."""
    return await _list(call, "flavors", _show_summary)


async def list_flavor_details(call: Call) -> Reply:
    """A page of whole flavors."""
    return await _list(call, "flavors/detail", show_flavor)


async def show_one(call: Call) -> Reply:
    """One flavor."""
    flavor = await _get(call)
    return Reply(body={"flavor": show_flavor(call, flavor)})


async def create_flavor(call: Call) -> Reply:
    """A new flavor; answers with 200."""
    asked = call.body.flavor
    flavor = Flavor(
        id="" if asked.id in (None, "", "auto") else str(asked.id),
        name=asked.name,
        vcpus=_read_number("vcpus", asked.vcpus),
        ram_mib=_read_number("ram", asked.ram),
        disk_gib=_read_number("disk", asked.disk),
        ephemeral_gib=_read_number("OS-FLV-EXT-DATA:ephemeral", asked.ephemeral),
        swap_mib=_read_number("swap", asked.swap),
        is_public=read_bool("os-flavor-access:is_public", asked.is_public),
        description=getattr(asked, "description", None),
        extra_specs={},
        rxtx_factor=_read_float(getattr(asked, "rxtx_factor", 1.0)),
    )
    flavor = await call.services.flavors.create(flavor)
    return Reply(body={"flavor": show_flavor(call, flavor)})


async def update_flavor(call: Call) -> Reply:
    """Change a flavor's description."""
    flavor = await call.services.flavors.describe(call.path["flavor_id"], call.body.flavor.description)
    return Reply(body={"flavor": show_flavor(call, flavor)})


async def delete_flavor(call: Call) -> Reply:
    """Remove a flavor."""
    await call.services.flavors.delete(call.path["flavor_id"])
    return Reply()


async def list_extra_specs(call: Call) -> Reply:
    """A flavor's extra specs."""
    flavor = await _get(call)
    return Reply(body={"extra_specs": flavor.extra_specs})


async def show_extra_spec(call: Call) -> Reply:
    """One extra spec."""
    flavor = await _get(call)
    name = call.path["key"]
    if name not in flavor.extra_specs:
        raise NotFound(f"Flavor {flavor.id} has no extra specs with key {name[:255]}.")
    return Reply(body={name: flavor.extra_specs[name]})


async def create_extra_specs(call: Call) -> Reply:
    """Set extra specs and leave the others."""
    specs = call.body.extra_specs
    await call.services.flavors.add_extra_specs(call.path["flavor_id"], specs)
    return Reply(body={"extra_specs": specs})


async def update_extra_spec(call: Call) -> Reply:
    """Set one extra spec, named in the path and in the body."""
    if list(call.body) != [call.path["key"]]:
        raise Invalid("The body has to hold the extra spec that the path names, and no other.")
    await call.services.flavors.add_extra_specs(call.path["flavor_id"], call.body)
    return Reply(body=call.body)


async def delete_extra_spec(call: Call) -> Reply:
    """Remove one extra spec."""
    await call.services.flavors.remove_extra_spec(call.path["flavor_id"], call.path["key"])
    return Reply()


async def list_access(call: Call) -> Reply:
    """Projects that may use a private flavor."""
    flavor_id = call.path["flavor_id"]
    return _show_access(flavor_id, await call.services.flavors.list_access(flavor_id))


async def add_access(call: Call) -> Reply:
    """Let a project use the flavor."""
    flavor_id, tenant = call.path["flavor_id"], call.body.grant.tenant
    private_only = call.version >= _PRIVATE_ONLY
    return _show_access(flavor_id, await call.services.flavors.add_access(flavor_id, tenant, private_only=private_only))


async def remove_access(call: Call) -> Reply:
    """Let a project use the flavor no more."""
    flavor_id, tenant = call.path["flavor_id"], call.body.grant.tenant
    return _show_access(flavor_id, await call.services.flavors.remove_access(flavor_id, tenant))


def _show_access(flavor_id: str, projects: Sequence[str]) -> Reply:
    return Reply(body={"flavor_access": [{"flavor_id": flavor_id, "tenant_id": one} for one in projects]})


def show_flavor(call: Call, flavor: Flavor) -> dict[str, Any]:
    """The whole flavor as the request's microversion shows it."""
    shown = {
        **_show_summary(call, flavor),
        "ram": flavor.ram_mib,
        "disk": flavor.disk_gib,
        "vcpus": flavor.vcpus,
        "swap": flavor.swap_mib or (0 if call.version >= _STRICTER else ""),
        "OS-FLV-EXT-DATA:ephemeral": flavor.ephemeral_gib,
        "os-flavor-access:is_public": flavor.is_public,
    }
    if call.version < TRIMMED:
        shown |= {"OS-FLV-DISABLED:disabled": False, "rxtx_factor": flavor.rxtx_factor}
    if call.version >= _EXTRA_SPECS_INLINE:
        shown["extra_specs"] = flavor.extra_specs
    return shown


def _show_summary(call: Call, flavor: Flavor) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": flavor.id,
        "name": flavor.name,
        "links": [
            {"rel": "self", "href": f"{call.base_url}/flavors/{flavor.id}"},
            {"rel": "bookmark", "href": f"{bookmark_base(call)}/flavors/{flavor.id}"},
        ],
    }
    if call.version >= DESCRIPTIONS:
        shown["description"] = flavor.description
    return shown


async def _get(call: Call) -> Flavor:
    return await call.services.flavors.get(call.actor, call.path["flavor_id"])


async def _list(call: Call, path: str, show: Callable[[Call, Flavor], dict[str, Any]]) -> Reply:
    query = dict(call.query_items)
    if call.version >= _STRICTER:
        refuse_unknown_query(call, LIST_PARAMETERS)
    visible = await call.services.flavors.list_visible(call.actor)
    found = _select_flavors(visible.flavors, visible.granted, query, call)
    start = _find_start(found, query.get("marker"))
    limit = read_count("limit", query.get("limit", "0")) or PAGE_FLAVORS_MAX
    page = found[start : start + min(limit, PAGE_FLAVORS_MAX)]
    body: dict[str, Any] = {"flavors": [show(call, flavor) for flavor in page]}
    if start + len(page) < len(found):
        body["flavors_links"] = next_link(call, path, page[-1].id)
    return Reply(body=body)


def _select_flavors(
    flavors: Sequence[Flavor], granted: Collection[str], query: Mapping[str, str], call: Call
) -> list[Flavor]:
    least_ram = read_count("minRam", query.get("minRam", "0"))
    least_disk = read_count("minDisk", query.get("minDisk", "0"))
    wanted = _read_is_public(query.get("is_public", "true")) if call.caller.is_admin else True
    field = _SORT_FIELDS.get(query.get("sort_key", "flavorid"))
    if field is None:
        raise Invalid(f"Flavors cannot be sorted so; use one of {', '.join(_SORT_FIELDS)}.")
    direction = query.get("sort_dir", "asc")
    if direction not in ("asc", "desc"):
        raise Invalid("sort_dir has to be asc or desc.")
    found = [
        flavor
        for flavor in flavors
        if flavor.ram_mib >= least_ram
        and flavor.disk_gib >= least_disk
        and (wanted in (None, flavor.is_public) or (wanted and flavor.id in granted))
    ]
    found.sort(key=_sort_key(field), reverse=direction == "desc")
    return found


def _sort_key(field: str) -> Callable[[Flavor], tuple[bool, Any, str]]:
    def key(flavor: Flavor) -> tuple[bool, Any, str]:
        value = getattr(flavor, field)
        return (value is not None, value, flavor.id)

    return key


def _find_start(found: Sequence[Flavor], marker: str | None) -> int:
    if marker is None:
        return 0
    for at, flavor in enumerate(found):
        if flavor.id == marker:
            return at + 1
    raise Invalid(f"The marker {marker[:255]} could not be found.")


def _read_number(name: str, value: int | str) -> int:
    if isinstance(value, int):
        return value
    if not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise Invalid(f"{name} has to be a whole number, not {value[:32]!r}.")
    return int(value)


def _read_float(value: float | str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise Invalid("rxtx_factor has to be a number.") from error


def _read_is_public(value: str) -> bool | None:
    return None if value.lower() == "none" else read_bool("is_public", value)
