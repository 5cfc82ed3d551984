"""What all answers of the compute API share: versions, times, links, host ids, booleans in bodies and queries."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from kevel.api.operations import Call, Version
from kevel.domain.errors import Invalid

LOWEST: Final = Version(2, 1)
HIGHEST: Final = Version(2, 104)

UUID: Final = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
#: Nova's spellings of booleans, in lower case.
_TRUE: Final = ("true", "1", "on", "yes", "t", "y")
_FALSE: Final = ("false", "0", "off", "no", "f", "n")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS: Final = re.compile(r"\d{1,18}", re.ASCII)


def v(minor: int) -> Version:
    """Microversion 2.minor."""
    return Version(2, minor)


def show_time(at: int) -> str:
    """Whole seconds with a Z, as most of Nova shows times."""
    return f"{(_EPOCH + timedelta(microseconds=at)).isoformat()[:19]}Z"


def show_time_us(at: int | None) -> str | None:
    """Microseconds without a zone, as Nova shows the times of actions and launches."""
    return None if at is None else (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds")[:26]


def read_time(name: str, text: str) -> int:
    """An ISO 8601 time of a query, in microseconds; without a zone it is UTC. Raises Invalid."""
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError) as error:
        raise Invalid(
            f"Invalid input for {name}: {text[:64]!r} is no time; one looks like 2026-01-31T12:00:00Z."
        ) from error


def read_bool(name: str, value: object) -> bool:
    """A boolean of a body or a query in any of Nova's spellings. Raises Invalid."""
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Invalid(f"Invalid input for {name}: {word[:64]!r} is no boolean; use true or false.")


def read_count(name: str, text: str) -> int:
    """A number of a query that is not negative. Raises Invalid."""
    if not _DIGITS.fullmatch(text):
        raise Invalid(f"Invalid input for query parameters {name}: {text[:64]!r} is no whole number from 0 up.")
    return int(text)


def refuse_unknown_query(call: Call, known: Collection[str]) -> None:
    """Raise Invalid for a query parameter that the operation does not have."""
    for name, _ in call.query_items:
        if name not in known:
            raise Invalid(
                f"Invalid query parameters: Additional properties are not allowed ({name[:64]!r} was unexpected)."
            )


def refuse_newer_keys(call: Call, where: str, body: Any, since: Mapping[str, int]) -> None:
    """Raise Invalid for a key that only a later microversion has; `since` has the minor version of each."""
    for name, minor in since.items():
        if name in body and call.version < v(minor):
            raise Invalid(
                f"Invalid input for {where}: Additional properties are not allowed ({name!r} was unexpected; "
                f"microversion {v(minor)} has it)."
            )


def bookmark_base(call: Call) -> str:
    """Where unversioned links begin: "http://host:port/compute"."""
    return call.base_url.rpartition("/")[0]


def next_link(call: Call, collection: str, marker: str) -> list[dict[str, str]]:
    """The link to the page behind that marker."""
    query = [(name, value) for name, value in call.query_items if name != "marker"]
    href = f"{call.base_url}/{collection}?{urlencode([*query, ('marker', marker)])}"
    return [{"rel": "next", "href": href}]


def host_id(project_id: str, host: str) -> str:
    """A host's name as its users see it: the same for one project's servers, and nothing to be learnt from."""
    return hashlib.sha224(f"{project_id}{host}".encode()).hexdigest()
