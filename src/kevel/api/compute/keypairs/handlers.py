"""Key pairs: words in, a use case, words out."""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET

from kevel.api.compute.keypairs.shapes import ImportedPair, NewPair
from kevel.api.compute.shapes import next_link, read_count, refuse_newer_keys, refuse_unknown_query, show_time_us, v
from kevel.api.operations import Call, Reply
from kevel.domain.errors import Invalid
from kevel.domain.keypairs import KeyKind, Keypair, check_name

TYPES: Final = v(2)
OWNERS: Final = v(10)
PAGES: Final = v(35)
#: From here on keys are only imported, and names may have more characters.
IMPORT_ONLY: Final = v(92)
_SINCE: Final = {"type": 2, "user_id": 10}


async def list_keypairs(call: Call) -> Reply:
    query = _read_query(call, "limit", "marker")
    found = await call.services.keypairs.list(call.actor, _owner(call, query))
    body: dict[str, Any] = {}
    if call.version >= PAGES:
        found, more = _page(call, query, found)
        if more and found:
            body["keypairs_links"] = next_link(call, "os-keypairs", found[-1].name)
    return Reply(body={"keypairs": [{"keypair": _show(call, one)} for one in found], **body})


async def show_keypair(call: Call) -> Reply:
    query = _read_query(call)
    one = await call.services.keypairs.get(call.actor, _owner(call, query), call.path["name"])
    more = {
        "id": one.id,
        "user_id": one.user_id,
        "created_at": show_time_us(one.created_at),
        "updated_at": None,
        "deleted": False,
        "deleted_at": None,
    }
    return Reply(body={"keypair": _show(call, one) | more})


async def create_keypair(call: Call) -> Reply:
    keys: NewPair | ImportedPair = call.body.keypair
    sent = [name for name in _SINCE if getattr(keys, name) is not UNSET]
    refuse_newer_keys(call, "keypair", sent, _SINCE)
    check_name(keys.name, more=call.version >= IMPORT_ONLY)
    one, private_key = await call.services.keypairs.create(
        call.actor,
        None if keys.user_id is UNSET else keys.user_id,
        keys.name,
        KeyKind.SSH if keys.type is UNSET else KeyKind(keys.type),
        None if keys.public_key is UNSET else keys.public_key,
    )
    shown = {**_show(call, one), "user_id": one.user_id}
    if private_key is not None:
        shown["private_key"] = private_key
    return Reply(body={"keypair": shown})


async def delete_keypair(call: Call) -> Reply:
    query = _read_query(call)
    await call.services.keypairs.delete(call.actor, _owner(call, query), call.path["name"])
    return Reply()


def _show(call: Call, one: Keypair) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": one.name, "public_key": one.public_key, "fingerprint": one.fingerprint}
    if call.version >= TYPES:
        shown["type"] = one.kind.value
    return shown


def _read_query(call: Call, *names: str) -> dict[str, str]:
    if call.version >= v(75):
        refuse_unknown_query(call, ("user_id", *names))
    return dict(call.query_items)


def _owner(call: Call, query: dict[str, str]) -> str | None:
    return (query.get("user_id") or None) if call.version >= OWNERS else None


def _page(call: Call, query: dict[str, str], found: list[Keypair]) -> tuple[list[Keypair], bool]:
    if "marker" in query:
        names = [one.name for one in found]
        if query["marker"] not in names:
            raise Invalid(f"marker [{query['marker'][:255]}] not found")
        found = found[names.index(query["marker"]) + 1 :]
    rows_max = call.services.servers.page_rows_max
    limit = min(read_count("limit", query["limit"]), rows_max) if "limit" in query else rows_max
    return found[:limit], len(found) > limit
