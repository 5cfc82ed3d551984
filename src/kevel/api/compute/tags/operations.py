"""Tags of servers, from 2.26 on: a set of words that lists can be filtered by."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Final
from urllib.parse import quote

from msgspec import Meta, Struct

from kevel.api.answers import name_answer
from kevel.api.compute.shapes import v
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.domain.errors import Invalid, NotFound
from kevel.domain.model import TAG_CHARACTERS_MAX, TAGS_MAX

Tag = Annotated[str, Meta(min_length=1, max_length=TAG_CHARACTERS_MAX, pattern=r"^[^,/\x00]*\Z")]
Tags = Annotated[list[Tag], Meta(max_length=TAGS_MAX)]
_SINCE: Final = v(26)


class TagsBody(Struct, forbid_unknown_fields=True):
    """The whole set."""

    tags: Tags


async def list_tags(call: Call) -> Reply:
    return Reply(body={"tags": await _read(call)})


async def replace_tags(call: Call) -> Reply:
    body: TagsBody = call.body
    return Reply(body={"tags": await _change(call, lambda old: frozenset(body.tags))})


async def delete_tags(call: Call) -> Reply:
    await _change(call, lambda old: frozenset())
    return Reply()


async def check_tag(call: Call) -> Reply:
    if call.path["tag"] not in await _read(call):
        raise _missing(call)
    return Reply()


async def add_tag(call: Call) -> Reply:
    """Add a tag; 204 where the server has it already."""
    tag = call.path["tag"]
    if not 0 < len(tag) <= TAG_CHARACTERS_MAX or not {",", "\0"}.isdisjoint(tag):
        raise Invalid(
            f"Invalid input for tag: {tag[:TAG_CHARACTERS_MAX]!r}; a tag has 1 to {TAG_CHARACTERS_MAX} characters, "
            "and neither commas nor slashes."
        )
    known: list[bool] = []

    def add(old: frozenset[str]) -> frozenset[str]:
        known[:] = [tag in old]
        return old | {tag}

    await _change(call, add)
    if known == [True]:
        return Reply(status=204)
    return Reply(headers={"Location": f"{call.base_url}/servers/{call.path['server_id']}/tags/{quote(tag, safe='')}"})


async def delete_tag(call: Call) -> Reply:
    tag = call.path["tag"]

    def without(old: frozenset[str]) -> frozenset[str]:
        if tag not in old:
            raise _missing(call)
        return old - {tag}

    await _change(call, without)
    return Reply()


def _missing(call: Call) -> NotFound:
    tag, server_id = call.path["tag"][:TAG_CHARACTERS_MAX], call.path["server_id"]
    return NotFound(f"Server {server_id} has no tag '{tag}'")


async def _read(call: Call) -> list[str]:
    view = await call.services.servers.get(call.actor, call.path["server_id"])
    return list(view.server.extras.tags)


async def _change(call: Call, change: Callable[[frozenset[str]], frozenset[str]]) -> list[str]:
    return await call.services.servers.change_tags(call.actor, call.path["server_id"], change)


_TAGS: Final = "/servers/{server_id}/tags"
_TAG: Final = "/servers/{server_id}/tags/{tag}"
_write = partial(Operation, policy=Policy.MEMBER, since=_SINCE, errors=(400, 404, 409))

TAGS: Final = (
    Operation(
        name="listServerTags",
        reply=name_answer("tags", list[str]),
        method="GET",
        path=_TAGS,
        handler=list_tags,
        policy=Policy.READER,
        since=_SINCE,
        errors=(404,),
    ),
    _write(
        name="replaceServerTags",
        reply=name_answer("tags", list[str]),
        method="PUT",
        path=_TAGS,
        handler=replace_tags,
        body=TagsBody,
    ),
    _write(
        name="deleteServerTags",
        reply=None,
        method="DELETE",
        path=_TAGS,
        handler=delete_tags,
        success=204,
        errors=(404, 409),
    ),
    Operation(
        name="checkServerTag",
        reply=None,
        method="GET",
        path=_TAG,
        handler=check_tag,
        policy=Policy.READER,
        success=204,
        since=_SINCE,
        errors=(404,),
    ),
    _write(name="addServerTag", reply=None, method="PUT", path=_TAG, handler=add_tag, success=201, empties=(204,)),
    _write(
        name="deleteServerTag",
        reply=None,
        method="DELETE",
        path=_TAG,
        handler=delete_tag,
        success=204,
        errors=(404, 409),
    ),
)
