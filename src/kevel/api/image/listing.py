"""Filters, order and pages of an image list: pure functions over the images that the caller may see."""

from __future__ import annotations

import csv
import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from kevel.api.image.views import show_image
from kevel.domain.errors import Invalid
from kevel.domain.images import NUMBER_MAX, Image, Visibility
from kevel.domain.model import Actor

#: Images in one answer; more are on the next page.
PAGE_IMAGES_MAX: Final = 1000
#: Orders and filters of one request.
CRITERIA_MAX: Final = 64

_SORT_FIELDS: Final[Mapping[str, str]] = {
    "id": "id",
    "name": "name",
    "status": "status",
    "size": "size_bytes",
    "disk_format": "disk_format",
    "container_format": "container_format",
    "min_disk": "min_disk_gib",
    "min_ram": "min_ram_mib",
    "created_at": "created_at",
    "updated_at": "updated_at",
}
#: Parameters that choose order and page; `member_status` can choose nothing, as there are no members.
_NOT_FILTERS: Final = frozenset(("limit", "marker", "sort", "sort_key", "sort_dir", "visibility", "member_status"))
_LISTS: Final = frozenset(("id", "name", "status", "disk_format", "container_format"))
_COMPARISONS: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}

Filter = Callable[[Image], bool]


class Page(NamedTuple):
    """One page of a list, and the query that asks for the next one."""

    images: list[Image]
    first: str
    next: str | None


def select_page(images: Sequence[Image], actor: Actor, items: Sequence[tuple[str, str]]) -> Page:
    """The page that the query parameters ask for. Raises Invalid, naming the parameter."""
    if len(items) > CRITERIA_MAX:
        raise Invalid(f"A list takes at most {CRITERIA_MAX} query parameters.")
    filters = [_make_visibility_filter(actor, items)]
    filters += [_make_filter(name, value) for name, value in items if name not in _NOT_FILTERS]
    if not any(name == "os_hidden" for name, _ in items):
        filters.append(lambda image: not image.hidden)
    found = [image for image in images if all(keep(image) for keep in filters)]
    for name, descending in reversed(_read_order(items)):
        found.sort(key=_sort_key(name), reverse=descending)
    start = _find_start(found, _last(items, "marker"))
    limit = _read_limit(items)
    page = found[start : start + limit]
    rest = [(name, value) for name, value in items if name != "marker"]
    more = bool(page) and start + limit < len(found)
    return Page(
        images=page,
        first=_link(rest),
        next=_link([*rest, ("marker", page[-1].id)]) if more else None,
    )


def _link(items: Sequence[tuple[str, str]]) -> str:
    return f"/v2/images?{urlencode(items)}" if items else "/v2/images"


def _last(items: Sequence[tuple[str, str]], name: str) -> str | None:
    values = [value for key, value in items if key == name]
    return values[-1] if values else None


def _read_number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise Invalid(f"{name} has to be a whole number that is not negative, not {text[:32]!r}.")
    return int(text)


def _read_limit(items: Sequence[tuple[str, str]]) -> int:
    text = _last(items, "limit")
    return PAGE_IMAGES_MAX if text is None else min(_read_number("limit", text), PAGE_IMAGES_MAX)


def _find_start(found: Sequence[Image], marker: str | None) -> int:
    if marker is None:
        return 0
    for at, image in enumerate(found):
        if image.id == marker:
            return at + 1
    raise Invalid(f"The marker {marker[:64]!r} is no image of this list.")


def _read_order(items: Sequence[tuple[str, str]]) -> list[tuple[str, bool]]:
    """Field names with "descending?", the most important first. By default the newest image comes first."""
    keys = [value for name, value in items if name == "sort_key"]
    directions = [value for name, value in items if name == "sort_dir"]
    if (sort := _last(items, "sort")) is not None:
        if keys or directions:
            raise Invalid("sort cannot stand beside sort_key and sort_dir.")
        pairs = [part.strip().partition(":") for part in sort.split(",")]
        keys = [key for key, _, _ in pairs]
        directions = [direction or "desc" for _, _, direction in pairs]
    elif len(directions) <= 1:
        directions = (directions or ["desc"]) * max(1, len(keys))
    keys = keys or ["created_at"]
    if len(keys) != len(directions):
        raise Invalid("There have to be as many sort_dir as sort_key.")
    for key, direction in zip(keys, directions, strict=True):
        if key not in _SORT_FIELDS:
            raise Invalid(f"Images cannot be sorted by {key[:32]!r}; use one of {', '.join(_SORT_FIELDS)}.")
        if direction not in ("asc", "desc"):
            raise Invalid(f"The direction of a sort is asc or desc, not {direction[:32]!r}.")
    order = [(_SORT_FIELDS[key], direction == "desc") for key, direction in zip(keys, directions, strict=True)]
    # Always the same order, whatever was asked for: pages must not overlap.
    return [*order, ("created_at", True), ("id", True)]


def _sort_key(field: str) -> Callable[[Image], tuple[bool, Any]]:
    def key(image: Image) -> tuple[bool, Any]:
        value = getattr(image, field)
        value = getattr(value, "value", value)
        return (value is not None, value)

    return key


def _make_visibility_filter(actor: Actor, items: Sequence[tuple[str, str]]) -> Filter:
    wanted = _last(items, "visibility")
    if wanted == "all":
        return lambda image: True
    if wanted is None:
        # Anybody can make community images: they are in nobody else's list unasked.
        return lambda image: image.visibility is not Visibility.COMMUNITY or image.project_id == actor.project_id
    if wanted not in [one.value for one in Visibility]:
        words = ", ".join(one.value for one in Visibility)
        raise Invalid(f"visibility has to be {words} or all, not {wanted[:32]!r}.")
    return lambda image: image.visibility.value == wanted


def _make_filter(name: str, text: str) -> Filter:
    """The filter for one query parameter; a name that is no attribute asks for a custom property."""
    if name == "tag":
        return lambda image: text in image.tags
    if name in ("size_min", "size_max"):
        bound = _read_number(name, text)
        if name == "size_min":
            return lambda image: image.size_bytes is not None and image.size_bytes >= bound
        return lambda image: image.size_bytes is not None and image.size_bytes <= bound
    if name in ("protected", "os_hidden"):
        wanted_flag = _BOOLEANS.get(text.lower())
        if wanted_flag is None:
            raise Invalid(f"{name} has to be true or false, not {text[:32]!r}.")
        return lambda image: show_image(image)[name] is wanted_flag
    if name in ("min_disk", "min_ram"):
        number = min(_read_number(name, text), NUMBER_MAX + 1)
        return lambda image: show_image(image)[name] == number
    if name in ("created_at", "updated_at"):
        return _make_time_filter(name, text)
    values = _read_values(text) if name in _LISTS else frozenset((text,))
    return lambda image: show_image(image).get(name) in values


def _read_values(text: str) -> frozenset[str]:
    """`in:a,b` is one of several; a value with a comma in it stands in double quotes."""
    if not text.startswith("in:"):
        return frozenset((text,))
    try:
        (row,) = csv.reader([text.removeprefix("in:")], strict=True)
    except (csv.Error, ValueError) as error:
        raise Invalid(f"{text[:64]!r} is no list of values; write in:one,two.") from error
    return frozenset(value.strip() for value in row)


def _make_time_filter(name: str, text: str) -> Filter:
    verb, _, rest = text.partition(":")
    compare = _COMPARISONS.get(verb)
    if compare is None:
        compare, rest = operator.eq, text
    try:
        when = datetime.fromisoformat(rest)
    except ValueError as error:
        raise Invalid(f"{name} has to be like gt:2026-01-31T12:00:00Z, not {text[:64]!r}.") from error
    second = int((when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp())
    return lambda image: compare(int(getattr(image, name)) // 1_000_000, second)
