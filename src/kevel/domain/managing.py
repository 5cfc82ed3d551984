"""Which files of a pool are Kevel's own, by their names; pure rules."""

from __future__ import annotations

import re
import uuid
from typing import Final

from kevel.domain.model import Subject

#: Under this word an operation keeps the name of what it makes a volume or snapshot of.
TAKES: Final = "takes"
_NAME: Final = re.compile(r"(volume|snapshot)-([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})", re.ASCII)


def read_name(name: str) -> tuple[Subject, str] | None:
    """What a volume's or snapshot's file belongs to; None: it is named as none of Kevel's."""
    found = _NAME.fullmatch(name)
    return None if found is None else (Subject(found[1]), found[2])


def is_stage(name: str) -> bool:
    """Is it where a copy's contents are kept on the way? Those ids are computed (RFC 9562, version 5), not drawn."""
    found = read_name(name)
    return found is not None and uuid.UUID(found[1]).version == 5
