"""Copies of disks whose guests run: the orders that the control plane gives to a host's agent."""

from __future__ import annotations

import enum
import uuid
from typing import Final

import msgspec

from kevel.domain.model import Reason

#: Why a copy failed. No running guest has the disk (any more): whoever ordered it can copy the volume itself.
AT_REST: Final = "copy_at_rest"
#: It will not succeed as asked, or has not by its deadline.
FAILED: Final = "copy_failed"
TIMED_OUT: Final = "copy_timed_out"


_STAGES: Final = uuid.UUID("0b1c7f5e-3a4e-4c56-9a6e-6f5b8a3f1d42")


def stage_id(subject_id: str) -> str:
    """The id of the file in the pool where the contents of a plugged volume are kept until they are copied on."""
    return str(uuid.uuid5(_STAGES, subject_id))


class CopyState(enum.Enum):
    """What is wanted of a copy, and what became of it."""

    WANTED = "wanted"
    #: The target is whole, on stable storage, and closed. It says nothing about what is done with it later.
    DONE = "done"
    FAILED = "failed"
    #: Nobody wants it any more.
    DROPPED = "dropped"


class DiskCopy(msgspec.Struct, frozen=True, kw_only=True):
    """An order's row: copy what this path has plugged, or a server's own root disk, into that file."""

    id: str
    #: None: the server's root disk.
    path_id: str | None
    generation: int | None
    server_id: str
    #: In what format its root disk is to be written; None: a volume, as raw.
    image_format: str | None
    host: str
    #: Whose worker is woken by its reports.
    subject: str
    subject_id: str
    #: A file on the host; it gets the size of the guest's disk.
    target_path: str
    state: CopyState
    revision: int
    done_bytes: int
    #: Size of the guest's disk; 0 until it is known.
    total_bytes: int
    reason: Reason | None
    created_at: int
    deadline_at: int
    changed_at: int
