"""Swaps: another volume takes the place of an attached one in its running guest, with its contents."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from kevel.domain.model import Reason

#: Why a swap failed. No running guest has the disk (any more).
AT_REST: Final = "swap_at_rest"
#: It will not succeed as asked, or has not by its deadline.
FAILED: Final = "swap_failed"
TIMED_OUT: Final = "swap_timed_out"
#: The goal of one of the two attachments was changed meanwhile.
GIVEN_UP: Final = "swap_given_up"


class SwapState(enum.Enum):
    """How far a swap is."""

    #: The new volume is on its way to the host, or being filled.
    COPYING = "copying"
    #: Both volumes are equal, and the guest may change over: from here on a user cannot cancel it.
    PIVOTING = "pivoting"
    #: The guest has been seen to have the new volume, in its definition too.
    SWAPPED = "swapped"
    #: The guest has kept the old one.
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Has it ended?"""
        return self not in (SwapState.COPYING, SwapState.PIVOTING)


class Swap(msgspec.Struct, frozen=True, kw_only=True):
    """A swap's row."""

    id: str
    #: The attachment, before and after: it changes its volume.
    attachment_id: str
    #: The attachment that stands aside: with the new volume before, with the old one afterwards.
    aside_id: str
    server_id: str
    host: str
    old_volume_id: str
    new_volume_id: str
    state: SwapState
    revision: int
    done_bytes: int
    #: 0 until it is known.
    total_bytes: int
    reason: Reason | None
    request_id: str
    created_at: int
    deadline_at: int
    finished_at: int | None
