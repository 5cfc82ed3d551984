"""Values as clients of Cinder write them: numbers in text, booleans in words, filters in a Python dictionary's text."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from kevel.api.volume.bodies import NameChanges
from kevel.domain.errors import Invalid
from kevel.store.volume_lists import COMPARISONS, TimeFilter

#: What Cinder's columns can hold; GiB.
SIZE_GIB_MAX: Final = 2**31 - 1
#: A filter's text: it is parsed, and a page's link repeats it.
FILTER_CHARACTERS_MAX: Final = 4096

_TRUE: Final = frozenset({"true", "1", "t", "y", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "f", "n", "no", "off"})
_DIGITS: Final = re.compile(r"[0-9]{1,40}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_NAIVE: Final = _EPOCH.replace(tzinfo=None)
_MICROSECOND: Final = timedelta(microseconds=1)


def read_size_gib(value: int | str | None, name: str) -> int:
    """A size in GiB: a number or its digits. Raises Invalid for anything but 1 to SIZE_GIB_MAX."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or not 1 <= value <= SIZE_GIB_MAX:
        shown = "nothing" if value is None else repr(str(value)[:40])
        raise Invalid(f"Invalid input for {name}: {shown}; it has to be a whole number of GiB, 1 to {SIZE_GIB_MAX}.")
    return value


def read_text(value: str | None, name: str) -> str | None:
    """A name or a description, without the space around it. Raises Invalid for a NUL."""
    if value is None:
        return None
    if "\0" in value:
        raise Invalid(f"Invalid input for {name}: a text cannot have NUL in it.")
    return value.strip()


def read_name(value: str, name: str) -> str:
    """A text that has to say something. Raises Invalid."""
    text = read_text(value, name)
    if not text:
        raise Invalid(f"Invalid input for {name}: it has to have letters.")
    return text


def read_changed_names(fields: NameChanges) -> dict[str, str | None]:
    """Name and description, as far as they are given, by either of their words. Raises Invalid."""
    changes: dict[str, str | None] = {}
    if (name := _first(fields.name, fields.display_name)) is not UNSET:
        changes["name"] = read_text(name, "name") or ""
    if (description := _first(fields.description, fields.display_description)) is not UNSET:
        changes["description"] = read_text(description, "description")
    return changes


def _first(newer: str | UnsetType | None, older: str | UnsetType | None) -> str | UnsetType | None:
    return older if newer is UNSET else newer


def read_bool(value: bool | str, name: str) -> bool:
    """True or false, or one of the usual words for them. Raises Invalid."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Invalid(f"Invalid input for {name}: {value[:40]!r}; it has to be true or false.")


def read_flag(query: dict[str, str], name: str) -> bool:
    """A switch in the query: absent is false. Raises Invalid."""
    return name in query and query[name] != "" and read_bool(query[name], name)


def read_number(query: dict[str, str], name: str) -> int | None:
    """A number from 0 in the query. Raises Invalid."""
    text = query.get(name)
    if text is None:
        return None
    if not _DIGITS.fullmatch(text) or int(text) > SIZE_GIB_MAX:
        raise Invalid(f"Invalid input for {name}: {text[:40]!r}; it has to be a whole number from 0.")
    return int(text)


def read_metadata(text: str, name: str = "metadata") -> dict[str, str]:
    """A filter by pairs: JSON, or the Python text of a dictionary, which clients send. Raises Invalid."""
    value: Any = None
    if len(text) <= FILTER_CHARACTERS_MAX:
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            value = _read_literal(text)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise Invalid(f"Invalid input for {name}: the filter has to be a dictionary of texts.")
    return {key: str(one) for key, one in value.items()}


def _read_literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def read_times(column: str, text: str) -> tuple[TimeFilter, ...]:
    """`gte:2026-01-01T00:00:00,lt:...`: comparisons that all have to hold. Raises Invalid."""
    found: list[TimeFilter] = []
    for part in text.split(",")[:8]:
        word, colon, rest = part.partition(":")
        comparison, when = (word, rest) if colon and word in COMPARISONS else ("eq", part)
        try:
            moment = datetime.fromisoformat(when)
        except ValueError as error:
            message = f"Invalid input for {column}: {part[:60]!r}; it has to be like gte:2026-01-01T00:00:00."
            raise Invalid(message) from error
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        found.append(TimeFilter(column=column, comparison=comparison, at=(moment - _EPOCH) // _MICROSECOND))
    return tuple(found)


def show_time(at: int | None) -> str | None:
    """Cinder's form of a time: UTC without saying so, with microseconds."""
    if at is None:
        return None
    return (_EPOCH_NAIVE + timedelta(microseconds=at)).isoformat(timespec="microseconds")
