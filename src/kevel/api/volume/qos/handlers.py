"""QoS specs: words in, a use case, words out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kevel.api.operations import Call, Reply
from kevel.api.volume.listing import read_query
from kevel.api.volume.paging import own_links, page_reply
from kevel.api.volume.values import read_flag, read_name
from kevel.api.volume.whole_lists import page_whole_list
from kevel.domain.errors import Invalid
from kevel.store.qos_specs import QosSpecs

SORT_KEYS: Final = frozenset({"id", "name", "consumer", "created_at", "updated_at"})
_FILTERS: Final = ("id", "name", "consumer")


async def list_qos(call: Call) -> Reply:
    """All specs."""
    query = read_query(call)
    found = await call.services.qos.list()
    found = [one for one in found if all(getattr(one, name) == query[name] for name in _FILTERS if name in query)]
    shown, page = page_whole_list(call, query, found, SORT_KEYS)
    return page_reply(call, "qos_specs", shown, page, _show)


async def show_qos(call: Call) -> Reply:
    """One set of specs."""
    return _shown(call, await call.services.qos.get(_id(call)))


async def create_qos(call: Call) -> Reply:
    """New specs."""
    specs = dict(call.body.qos_specs)
    name = read_name(specs.pop("name", ""), "name")
    _check_texts(specs)
    return _shown(call, await call.services.qos.create(name, specs))


async def set_keys(call: Call) -> Reply:
    """Set some specs."""
    _check_texts(call.body.qos_specs)
    await call.services.qos.set_keys(_id(call), call.body.qos_specs)
    return Reply(body={"qos_specs": call.body.qos_specs})


async def unset_keys(call: Call) -> Reply:
    """Remove some specs."""
    await call.services.qos.unset_keys(_id(call), call.body.keys)
    return Reply()


async def delete_qos(call: Call) -> Reply:
    """Delete specs; with `force` those that types have too."""
    await call.services.qos.delete(_id(call), force=read_flag(read_query(call), "force"))
    return Reply()


async def list_associations(call: Call) -> Reply:
    """The types that have these specs."""
    found = await call.services.qos.list_types(_id(call))
    shown = [{"association_type": "volume_type", "id": one.id, "name": one.name} for one in found]
    return Reply(body={"qos_associations": shown})


async def associate(call: Call) -> Reply:
    """Give the specs to a type."""
    await call.services.qos.associate(_id(call), _type_id(call))
    return Reply()


async def disassociate(call: Call) -> Reply:
    """Take the specs from a type."""
    await call.services.qos.disassociate(_id(call), _type_id(call))
    return Reply()


async def disassociate_all(call: Call) -> Reply:
    """Take the specs from all types."""
    await call.services.qos.disassociate_all(_id(call))
    return Reply()


def _id(call: Call) -> str:
    return call.path["specs_id"]


def _type_id(call: Call) -> str:
    type_id = read_query(call).get("vol_type_id")
    if not type_id:
        raise Invalid("Invalid input for vol_type_id: the query has to name a volume type by its id.")
    return type_id


def _check_texts(specs: Mapping[str, str]) -> None:
    if any("\0" in text for pair in specs.items() for text in pair):
        raise Invalid("Invalid input for qos_specs: a text cannot have NUL in it.")


def _show(specs: QosSpecs) -> dict[str, Any]:
    return {"id": specs.id, "name": specs.name, "consumer": specs.consumer, "specs": specs.specs}


def _shown(call: Call, specs: QosSpecs) -> Reply:
    return Reply(body={"qos_specs": _show(specs), "links": own_links(call, f"/qos-specs/{specs.id}")})
