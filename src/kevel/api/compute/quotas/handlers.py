"""Quotas of servers and what belongs to them, at every microversion."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, TypeVar

from msgspec import UNSET, UnsetType

from kevel.api.compute.quotas.shapes import CommonLimits, Value
from kevel.api.compute.shapes import read_bool, refuse_unknown_query, v
from kevel.api.operations import Call, Reply
from kevel.domain.errors import Invalid
from kevel.domain.quotas import LIMIT_MAX, SERVER_RESOURCES, UNLIMITED, QuotaUsage

T = TypeVar("T")

#: Longest id of a project or user.
ID_CHARACTERS_MAX: Final = 255
_NETWORK: Final = frozenset(("fixed_ips", "floating_ips", "security_groups", "security_group_rules"))
_FILES: Final = frozenset(("injected_files", "injected_file_content_bytes", "injected_file_path_bytes"))
_GROUPS: Final = frozenset(("server_groups", "server_group_members"))


async def show_quotas(call: Call) -> Reply:
    """The limits of a project, or of a user in it."""
    project_id = _project(call)
    found = await call.services.server_quotas.show(call.actor, project_id, _user(call))
    return Reply(body={"quota_set": {"id": project_id, **_limits(_pick(call, found))}})


async def show_details(call: Call) -> Reply:
    """The limits, and what there is."""
    project_id = _project(call)
    found = await call.services.server_quotas.show(call.actor, project_id, _user(call))
    shown = {
        name: {"limit": one.limit, "in_use": one.in_use, "reserved": one.reserved}
        for name, one in _pick(call, found).items()
    }
    return Reply(body={"quota_set": {"id": project_id, **shown}})


async def show_defaults(call: Call) -> Reply:
    """What a project may have that has no limits of its own."""
    found = await call.services.server_quotas.show_defaults()
    return Reply(body={"quota_set": {"id": _project(call), **_pick(call, found)}})


async def update_quotas(call: Call) -> Reply:
    """Set some limits of a project, or of a user in it."""
    limits = _read_limits(call.body.quota_set, _hidden(call))
    force = read_bool("force", call.body.quota_set.force)
    found = await call.services.server_quotas.update(_project(call), _user(call), limits, force=force)
    return Reply(body={"quota_set": _limits(_pick(call, found))})


async def delete_quotas(call: Call) -> Reply:
    """Let the defaults hold again."""
    await call.services.server_quotas.clear(_project(call), _user(call))
    return Reply()


async def show_class(call: Call) -> Reply:
    """The limits of a class."""
    name = call.path["class_name"]
    found = await call.services.server_quotas.show_class(name)
    return Reply(body={"quota_class_set": {"id": name, **_pick_of_class(call, found)}})


async def update_class(call: Call) -> Reply:
    """Set some limits of a class."""
    limits = _read_limits(call.body.quota_class_set, _hidden_of_class(call))
    found = await call.services.server_quotas.update_class(call.path["class_name"], limits)
    return Reply(body={"quota_class_set": _pick_of_class(call, found)})


def _hidden(call: Call) -> Collection[str]:
    """What the microversion does not know any more."""
    return (_NETWORK if call.version >= v(36) else frozenset()) | (_FILES if call.version >= v(57) else frozenset())


def _hidden_of_class(call: Call) -> Collection[str]:
    """The same of classes, which came to know groups of servers late."""
    return (_NETWORK if call.version >= v(50) else _GROUPS) | (_FILES if call.version >= v(57) else frozenset())


def _pick(call: Call, found: Mapping[str, T]) -> dict[str, T]:
    hidden = _hidden(call)
    return {name: one for name, one in found.items() if name not in hidden}


def _pick_of_class(call: Call, found: Mapping[str, T]) -> dict[str, T]:
    hidden = _hidden_of_class(call)
    return {name: one for name, one in found.items() if name not in hidden}


def _limits(found: Mapping[str, QuotaUsage]) -> dict[str, int]:
    return {name: one.limit for name, one in found.items()}


def _project(call: Call) -> str:
    return _check_id("the project", call.path["project_id"])


def _user(call: Call) -> str | None:
    if call.version >= v(75):
        refuse_unknown_query(call, ("user_id",))
    user_id = dict(call.query_items).get("user_id")
    return _check_id("user_id", user_id) if user_id else None


def _check_id(what: str, text: str) -> str:
    if len(text) > ID_CHARACTERS_MAX or "\0" in text or ":" in text:
        raise Invalid(f"Invalid input for {what}: an id has at most {ID_CHARACTERS_MAX} characters, no NUL, no colon.")
    return text


def _read_limits(asked: CommonLimits, hidden: Collection[str]) -> dict[str, int]:
    limits: dict[str, int] = {}
    for name in SERVER_RESOURCES:
        value: Value | UnsetType = getattr(asked, name)
        if value is UNSET:
            continue
        if name in hidden:
            raise Invalid(
                f"Invalid input for quotas: Additional properties are not allowed ({name!r} was unexpected; other "
                "microversions have it)."
            )
        limits[name] = _read_limit(name, value)
    return limits


def _read_limit(name: str, value: Value) -> int:
    try:
        limit = int(value)
    except ValueError:
        limit = UNLIMITED - 1
    if not UNLIMITED <= limit <= LIMIT_MAX:
        message = f"Invalid input for {name}: {str(value)[:40]!r}; a limit is a whole number, 0 to {LIMIT_MAX}, "
        raise Invalid(f"{message}or {UNLIMITED} for none.")
    return limit
