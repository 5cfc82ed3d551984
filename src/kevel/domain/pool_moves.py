"""Moving a volume's contents into another pool: which operations do it, and what they keep of it; pure rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kevel.domain.model import OperationKind

POOL_MOVES: Final = frozenset({OperationKind.RETYPING, OperationKind.MIGRATING})


class PoolMove(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """From where to where, and what the volume is when it has arrived. It stands in the operation's `args`."""

    from_pool: str
    to_pool: str
    #: Of the file that is made.
    format: str
    #: The type that a retype gives it, with what comes of that; None: it keeps its own.
    volume_type_id: str | None = None
    multiattach: bool | None = None


def read_move(args: Mapping[str, Any]) -> PoolMove:
    """The move that an operation keeps, among what else it does."""
    return msgspec.convert(args, PoolMove)
