"""Microversions in words: "2.60", "latest"."""

from __future__ import annotations

import re
from typing import Final

from kevel.api.operations import Api, Version
from kevel.domain.errors import CallerError, Invalid

_VERSION: Final = re.compile(r"([1-9]\d{0,3})\.(0|[1-9]\d{0,3})", re.ASCII)


class NotAcceptable(CallerError):
    """The microversion is not supported."""

    status = 406


def read_version(api: Api, wanted: str) -> Version:
    """The microversion that is meant. Raises Invalid or NotAcceptable."""
    if api.versions is None:
        raise Invalid(f"The {api.name} API has no microversions.")
    lowest, highest = api.versions
    if wanted == "latest":
        return highest
    match = _VERSION.fullmatch(wanted)
    if match is None:
        raise Invalid(f"The microversion {wanted[:32]!r} is malformed; it has to look like {highest}.")
    version = Version(int(match[1]), int(match[2]))
    if not lowest <= version <= highest:
        raise NotAcceptable(f"Version {version} is not supported by the API. Minimum is {lowest}, maximum {highest}.")
    return version
