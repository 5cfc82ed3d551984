"""Migrations as Nova lists them. In Kevel these are the resizes: servers do not move between hosts otherwise."""

from __future__ import annotations

import uuid
from typing import Any, Final

from msgspec import UNSET, UnsetType

from kevel.api.answers import Answer, name_list
from kevel.api.compute.shapes import next_link, read_bool, read_count, read_time, refuse_unknown_query, show_time_us, v
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.control.servers.past import ResizeQuery
from kevel.domain.errors import Invalid
from kevel.store.resizes import Resize

#: A migration's uuid holds its number, which is all that is stored of it.
_NUMBER_BITS: Final = 62
_MIGRATION_IDS: Final = uuid.UUID("0f0dc1a5-5d0d-4f5c-8000-000000000000")
_FILTERS: Final = ("hidden", "host", "instance_uuid", "source_compute", "status", "migration_type")
_PAGES: Final = ("limit", "marker", "changes-since")


class Migration(Answer, kw_only=True):
    """A resize. Flavors have no numbers here, so those are null."""

    id: int
    status: str
    instance_uuid: str
    source_compute: str | None
    source_node: str | None
    dest_compute: str | None
    dest_node: str | None
    dest_host: str | None
    old_instance_type_id: None
    new_instance_type_id: None
    created_at: str
    updated_at: str | None
    migration_type: str | UnsetType = UNSET
    uuid: str | UnsetType = UNSET
    user_id: str | UnsetType = UNSET
    project_id: str | UnsetType = UNSET


async def list_migrations(call: Call) -> Reply:
    query = dict(call.query_items)
    pages = call.version >= v(59)
    if pages:
        refuse_unknown_query(call, _known(call))
    limit, marker = call.services.past.page_rows_max, None
    if pages and "limit" in query:
        limit = min(limit, read_count("limit", query["limit"]))
    if pages and "marker" in query:
        marker = _read_uuid(query["marker"])
    found: list[Resize] = []
    more = False
    if _is_asked_for(query):
        found, more = await call.services.past.list_resizes(_read_filters(call, query), marker=marker, rows_max=limit)
    body: dict[str, Any] = {"migrations": [_show(call, resize) for resize in found]}
    if pages and more and found:
        body["migrations_links"] = next_link(call, "os-migrations", _name(found[-1]))
    return Reply(body=body)


def _known(call: Call) -> tuple[str, ...]:
    before = ("changes-before",) if call.version >= v(66) else ()
    owners = ("user_id", "project_id") if call.version >= v(80) else ()
    return (*_FILTERS, *_PAGES, *before, *owners)


def _is_asked_for(query: dict[str, str]) -> bool:
    """Are resizes among what is asked for? None is hidden."""
    if query.get("migration_type", "resize") != "resize":
        return False
    return "hidden" not in query or not read_bool("hidden", query["hidden"])


def _read_filters(call: Call, query: dict[str, str]) -> ResizeQuery:
    # Before the microversion that has them, other parameters are ignored.
    query = {name: value for name, value in query.items() if name in _known(call)}
    times = query if call.version >= v(59) else {}
    since = read_time("changes-since", times["changes-since"]) if "changes-since" in times else None
    before = read_time("changes-before", times["changes-before"]) if "changes-before" in times else None
    if since is not None and before is not None and since > before:
        raise Invalid("The value of changes-since must be less than or equal to changes-before.")
    if {"host", "source_compute"} <= query.keys() and query["host"] != query["source_compute"]:
        query["host"] = ""  # a server is resized on its host: no migration has both
    return ResizeQuery(
        server_id=query.get("instance_uuid"),
        host=query.get("host", query.get("source_compute")),
        status=query.get("status"),
        user_id=query.get("user_id"),
        project_id=query.get("project_id"),
        changed_since=since,
        changed_before=before,
    )


def _name(resize: Resize) -> str:
    return str(uuid.UUID(int=_MIGRATION_IDS.int | resize.id))


def _read_uuid(text: str) -> int:
    try:
        number = uuid.UUID(text).int ^ _MIGRATION_IDS.int
    except ValueError:
        number = -1
    if not 0 <= number < 1 << _NUMBER_BITS:
        raise Invalid(f"Marker {text[:64]} could not be found.")
    return number


def _show(call: Call, resize: Resize) -> dict[str, Any]:
    facts = resize.facts or {}
    node, address = facts.get("hostname", resize.host), facts.get("host_ip")
    shown: dict[str, Any] = {
        "id": resize.id,
        "status": resize.status,
        "instance_uuid": resize.server_id,
        "source_compute": resize.host,
        "source_node": node,
        "dest_compute": resize.host,
        "dest_node": node,
        "dest_host": address,
        "old_instance_type_id": None,
        "new_instance_type_id": None,
        "created_at": show_time_us(resize.started_at),
        "updated_at": None if resize.changed_at == resize.started_at else show_time_us(resize.changed_at),
    }
    if call.version >= v(23):
        shown["migration_type"] = "resize"
    if call.version >= v(59):
        shown["uuid"] = _name(resize)
    if call.version >= v(80):
        shown |= {"user_id": resize.user_id, "project_id": resize.project_id}
    return shown


async def list_live_migrations(call: Call) -> Reply:
    """The live migrations of a server that are under way: Kevel makes none."""
    await call.services.past.find(call.actor, call.path["server_id"])
    return Reply(body={"migrations": []})


_MIGRATIONS: Final = name_list("migrations", Migration)

OPERATIONS: Final = (
    Operation(
        name="listMigrations",
        reply=_MIGRATIONS,
        method="GET",
        path="/os-migrations",
        query_names=(*_FILTERS, *_PAGES, "changes-before", "user_id", "project_id"),
        handler=list_migrations,
        policy=Policy.ADMIN,
        errors=(400,),
    ),
    Operation(
        name="listServerMigrations",
        reply=_MIGRATIONS,
        method="GET",
        path="/servers/{server_id}/migrations",
        handler=list_live_migrations,
        policy=Policy.ADMIN,
        errors=(404,),
        since=v(23),
    ),
)
