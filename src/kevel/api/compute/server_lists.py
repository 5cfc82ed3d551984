"""The query of server lists: filters, order, pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from kevel.api.compute.shapes import read_bool, read_count, read_time, v
from kevel.api.operations import Call
from kevel.domain.errors import Forbidden, Invalid
from kevel.domain.model import Server
from kevel.domain.name_filter import NameFilter
from kevel.domain.status import power_state, server_status, task_state, vm_state
from kevel.store.servers import SORT_COLUMNS, ServerQuery

Fits = Callable[[Server], bool]

#: Filters on what is computed from a row, or lies inside one: each makes a test of the value that was asked for.
_TESTS: Final[dict[str, Callable[[str], Fits]]] = {
    "name": lambda text: _by_name(NameFilter(text)),
    "image": lambda wanted: lambda server: server.image["id"] == wanted,
    "flavor": lambda wanted: lambda server: server.flavor["id"] == wanted,
    "reservation_id": lambda wanted: lambda server: server.extras.reservation_id == wanted,
    "description": lambda wanted: lambda server: wanted in (server.description or ""),
    "vm_state": lambda wanted: lambda server: vm_state(server) == wanted.lower(),
    "task_state": lambda wanted: lambda server: task_state(server) == (None if wanted == "None" else wanted),
    "power_state": lambda wanted: _by_power(read_count("power_state", wanted)),
    "key_name": lambda wanted: lambda server: server.key_name == wanted,
    "tags": lambda words: lambda server: _split(words) <= set(server.extras.tags),
    "tags-any": lambda words: lambda server: not _split(words).isdisjoint(server.extras.tags),
    "not-tags": lambda words: lambda server: not _split(words) <= set(server.extras.tags),
    "not-tags-any": lambda words: lambda server: _split(words).isdisjoint(server.extras.tags),
    "pinned_availability_zone": lambda wanted: lambda server: server.extras.pinned_zone == wanted,
}
#: Filters that the rows themselves are asked for.
_ROW_FILTERS: Final = ("user_id", "availability_zone", "host", "uuid", "locked", "changes-since", "changes-before")
_PAGING: Final = ("limit", "marker", "sort_key", "sort_dir", "all_tenants", "tenant_id", "project_id", "deleted")
#: Filters of Nova that Kevel does not have. To ignore one would answer with servers that were not asked for.
_REFUSED: Final = frozenset(
    [
        "ip",
        "ip6",
        "access_ip_v4",
        "access_ip_v6",
        "config_drive",
        "kernel_id",
        "ramdisk_id",
        "root_device_name",
        "launch_index",
        "locked_by",
        "node",
        "progress",
        "auto_disk_config",
        "hostname",
        "created_at",
        "launched_at",
        "terminated_at",
        "display_description",
        "hidden",
        "instance_name",
        "soft_deleted",
        "cleaned",
        "disable_terminate",
        "instance_type_id",
        "updated_at",
        "deleted_at",
    ]
)
#: Nova's other name for a filter.
_SAME: Final = {"display_name": "name"}

#: All that a list can be asked for.
QUERY_NAMES: Final = (*_TESTS, *_ROW_FILTERS, *_PAGING, *_SAME, "status")


def read_list(call: Call) -> tuple[ServerQuery, Fits | None]:
    """What a list is to hold: a query of the rows, and a test of what they do not tell. Raises Invalid or Forbidden."""
    given: dict[str, list[str]] = {}
    for name, value in call.query_items:
        given.setdefault(_SAME.get(name, name), []).append(value)
    _check_names(call, given)
    admin = call.caller.is_admin
    if given.get("host") and not admin:
        del given["host"]  # as in Nova: what a user may not know filters nothing
    statuses = {status.upper() for status in given.get("status", ())}
    if "DELETED" in statuses and not admin:
        raise Forbidden("Only administrators may list deleted instances.")
    one = {name: values[-1] for name, values in given.items()}
    since, before = (
        read_time(name, one[name]) if one.get(name) else None for name in ("changes-since", "changes-before")
    )
    rows_max = call.services.servers.page_rows_max
    query = ServerQuery(
        project_id=_read_project(call, one),
        deleted=_read_deleted(one, statuses, admin=admin, changes=since is not None or before is not None),
        ids=given.get("uuid"),
        user_id=one.get("user_id"),
        host=one.get("host"),
        availability_zone=one.get("availability_zone"),
        locked=read_bool("locked", one["locked"]) if "locked" in one else None,
        changed_since=since,
        changed_before=before,
        sort=_read_sort(given.get("sort_key", []), given.get("sort_dir", [])),
        marker=one.get("marker"),
        rows_max=min(read_count("limit", one["limit"]), rows_max) if "limit" in one else rows_max,
    )
    tests = [make(one[name]) for name, make in _TESTS.items() if name in one]
    if statuses:
        tests.append(lambda server: server_status(server) in statuses)
    return query, (lambda server: all(test(server) for test in tests)) if tests else None


def _split(words: str) -> set[str]:
    """Tags with commas between."""
    return set(words.split(","))


def _by_name(wanted: NameFilter) -> Fits:
    return lambda server: wanted.matches(server.name)


def _by_power(wanted: int) -> Fits:
    return lambda server: power_state(server) == wanted


def _check_names(call: Call, given: dict[str, list[str]]) -> None:
    for name in given:
        if name in _REFUSED:
            raise Invalid(f"Invalid query parameters: servers cannot be filtered by {name} in this Kevel.")
        if "tags" in name.split("-") and call.version < v(26):
            raise Invalid(f"Invalid query parameters: servers can be filtered by {name} from microversion {v(26)} on.")
        if name in _TESTS or name in _ROW_FILTERS or name in _PAGING or name == "status":
            continue
        if call.version >= v(75):
            raise Invalid(
                f"Invalid query parameters: Additional properties are not allowed ({name[:64]!r} was unexpected)."
            )


def _read_project(call: Call, one: dict[str, str]) -> str | None:
    """The project to list; None: all. Another project's servers are for admins."""
    wanted = one.get("project_id") or one.get("tenant_id")
    everywhere = "all_tenants" in one and (one["all_tenants"] == "" or read_bool("all_tenants", one["all_tenants"]))
    if not call.caller.is_admin:
        if everywhere:
            raise Forbidden("Policy does not allow all_tenants to be listed with the roles of this token.")
        return call.caller.project
    # As in Nova: without all_tenants, no other project's are listed, whichever is named.
    return (wanted or None) if everywhere else call.caller.project


def _read_deleted(one: dict[str, str], statuses: set[str], *, admin: bool, changes: bool) -> bool | None:
    if statuses == {"DELETED"}:
        return True
    if admin and "deleted" in one:
        return read_bool("deleted", one["deleted"])
    return None if changes else False


def _read_sort(keys: Sequence[str], directions: Sequence[str]) -> tuple[tuple[str, bool], ...]:
    if len(directions) > len(keys) > 0:
        raise Invalid("Invalid query parameters: there are more sort_dir than sort_key.")
    for key in keys:
        if key not in SORT_COLUMNS:
            raise Invalid(f"Invalid query parameters: sort_key {key[:64]!r} is none of {', '.join(SORT_COLUMNS)}.")
    for word in directions:
        if word not in ("asc", "desc"):
            raise Invalid(f"Invalid query parameters: sort_dir {word[:64]!r} is neither asc nor desc.")
    last = directions[-1] if directions else "desc"
    words = [*directions, *([last] * len(keys))]
    return tuple((key, word == "desc") for key, word in zip(keys or ("created_at",), words or ("desc",), strict=False))
