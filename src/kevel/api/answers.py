"""What the types of all APIs' answers share.

They are for the OpenAPI documents and the tests: handlers build plain dictionaries, and the tests hold every answer
that they see against its type.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """A JSON object of an answer. UNSET: the key is there for some callers, microversions or states only."""


class Link(Answer):
    """Where something is."""

    rel: str
    href: str


@cache
def name_answer(name: str, kind: Any, **more: Any) -> Any:
    """The type of an answer that has one key, with what `more` says that it may have besides."""
    fields = [(key.replace("-", "_"), one | UnsetType, UNSET) for key, one in more.items()]
    return msgspec.defstruct(
        _title(name, kind),
        [(name.replace("-", "_"), kind), *fields],
        rename={name.replace("-", "_"): name},
        forbid_unknown_fields=True,
        kw_only=True,
    )


def name_list(name: str, kind: Any, **more: Any) -> Any:
    """The type of a page of a list, with the link to the next page."""
    return name_answer(name, list[kind], **{f"{name}_links": list[Link]}, **more)


def _title(name: str, kind: Any) -> str:
    inner = getattr(kind, "__args__", (kind,))[-1]
    words = "".join(word.capitalize() for word in name.replace("-", "_").split("_"))
    return f"{words}Of{getattr(inner, '__name__', 'Any')}"
