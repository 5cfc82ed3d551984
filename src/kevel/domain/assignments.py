"""What the control plane and a host's agent say to each other: assignments down, reports up."""

from __future__ import annotations

from typing import Any

import msgspec

from kevel.domain.copies import CopyState
from kevel.domain.encryption import Passphrase
from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.model import BootKind, Reason, ServerExtras, ServerGoal, ServerRung
from kevel.domain.questions import Question
from kevel.domain.swaps import SwapState
from kevel.domain.tuning import NO_LIMITS, DiskTune


def name_disk(attachment_id: str) -> str:
    """The alias of an attachment's disk: its key in the guest's domain."""
    return f"ua-{attachment_id}"


class ServerAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """A server of this host, and what it should come to."""

    id: str
    goal: ServerGoal
    goal_revision: int
    deadline_at: int
    rung: ServerRung
    revision: int
    wanted_boot: int
    boot: int
    boot_kind: BootKind
    launched: bool
    flavor: dict[str, Any]
    image: dict[str, Any]
    #: Volumes without which the guest is not started, by the aliases of their disks.
    boot_disks: dict[str, str] = {}
    wanted_shape: int = 0
    shape: int = 0
    extras: ServerExtras = ServerExtras()


class PathAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """A path of this host, with what the agent needs to climb or step down."""

    id: str
    attachment_id: str
    volume_id: str
    server_id: str
    generation: int
    rung: Rung
    hands: Hands
    revision: int
    goal: Goal
    goal_revision: int
    goal_by: str
    deadline_at: int
    established: bool
    server_wanted: bool
    #: In clear: only for the host that needs it (S10).
    connection_info: dict[str, Any] | None
    volume_bytes: int
    volume_format: str
    plugged_bytes: int | None
    device: str
    unit: int
    #: The bus of the server's volumes.
    bus: str
    read_only: bool
    shareable: bool
    effect_free: tuple[Rung, ...]
    #: Its contents are being replaced: the host lets go of it, once no guest runs, until that is over.
    withheld: bool = False
    #: What the guest may ask of the disk, from the QoS specification of the volume's type.
    tune: DiskTune = NO_LIMITS
    #: Opens an encrypted volume, and goes to no other host (S10).
    passphrase: Passphrase | None = None
    #: It goes no higher than the host's connection: what is plugged in its place is another attachment's.
    aside: bool = False
    #: The id by which the guest knows the disk; None: the volume's.
    known_as: str | None = None

    @property
    def serial(self) -> str:
        """The serial of the disk."""
        return self.known_as or self.volume_id

    @property
    def alias(self) -> str:
        """The key of the disk in the guest's domain."""
        return name_disk(self.attachment_id)


class CopyAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """An order of this host: copy what one path has plugged, or a server's own root disk, into a file."""

    id: str
    #: None, like the two below: the server's root disk.
    path_id: str | None
    generation: int | None
    server_id: str
    attachment_id: str | None
    volume_id: str | None
    #: The serial of the disk.
    serial: str | None
    #: In what format the root disk is to be written; None: a volume, as raw.
    image_format: str | None = None
    target_path: str
    state: CopyState
    #: The agent has something to do for it.
    live: bool
    revision: int
    deadline_at: int


class SwapAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """A swap of this host: the volume of one path takes the place of the other's in the guest."""

    id: str
    server_id: str
    #: "" for one that is released already.
    old_path_id: str
    new_path_id: str
    state: SwapState
    revision: int
    deadline_at: int


class Assignments(msgspec.Struct, frozen=True, kw_only=True):
    """What changed for a host since the version that it had asked about."""

    version: int
    #: The agent's epoch that counts now; an agent that has another one is not heard any more.
    epoch: int
    servers: tuple[ServerAssignment, ...]
    paths: tuple[PathAssignment, ...]
    copies: tuple[CopyAssignment, ...] = ()
    swaps: tuple[SwapAssignment, ...] = ()
    #: The newest census that somebody waits for: the agent takes one at once, and reports it under this number.
    census_wanted: int = 0
    #: Looks that requests wait for, each told once.
    questions: tuple[Question, ...] = ()


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a step did not succeed."""

    reason: Reason
    #: It will not succeed as asked (the step was refused, or its deadline passed).
    final: bool


class PathReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent saw of a path. Outdated ones (revision, epoch) change nothing."""

    path_id: str
    #: The path's revision that the agent acted on.
    revision: int
    #: The request that the agent acted for: a report about an older one changes no newer goal.
    goal_revision: int
    rung: Rung
    hands: Hands
    plugged_bytes: int | None = None
    took_us: int | None = None
    failure: Failure | None = None


class CopyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent saw of a copy. Outdated ones (revision, epoch) change nothing."""

    copy_id: str
    revision: int
    #: WANTED: it is under way.
    state: CopyState
    done_bytes: int
    total_bytes: int
    reason: Reason | None = None


class SwapReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent saw of a swap. Outdated ones (revision, epoch) change nothing."""

    swap_id: str
    revision: int
    #: COPYING: it is under way. PIVOTING: both volumes are equal. SWAPPED, FAILED: how it has ended.
    state: SwapState
    done_bytes: int = 0
    total_bytes: int = 0
    reason: Reason | None = None


class ServerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent saw of a server."""

    server_id: str
    revision: int
    goal_revision: int
    rung: ServerRung
    boot: int
    #: The shape with which its domain was made; None: it was not made anew.
    shape: int | None = None
    took_us: int | None = None
    #: The guest ended without having been asked to: why.
    ended: Reason | None = None
    failure: Failure | None = None


class DiskSight(msgspec.Struct, frozen=True, kw_only=True):
    """What a census saw of one path's disk."""

    path_id: str
    #: The path's revision at the time: a sight says nothing about a path that has moved since.
    revision: int
    #: In the running guest; None: the guest does not run.
    live: bool | None
    #: In the definition.
    persistent: bool


class ServerSight(msgspec.Struct, frozen=True, kw_only=True):
    """A server that a census saw otherwise than its record has it."""

    server_id: str
    revision: int
    runs: bool


class Stranger(msgspec.Struct, frozen=True, kw_only=True):
    """What a census saw and no assignment names: a whole server, or one disk of one. The records judge it."""

    server_id: str
    #: The disk's alias; "" for the server itself.
    alias: str = ""


class HostCensus(msgspec.Struct, frozen=True, kw_only=True):
    """What is really on a host. Nothing is acted on from it: it puts things up for a look, and raises alarms."""

    #: Which of this agent's censuses it is: one that arrives behind a newer one changes nothing.
    sequence: int
    #: The newest census asked for when this one was begun.
    number: int
    servers: int
    disks: tuple[DiskSight, ...]
    differing: tuple[ServerSight, ...]
    strangers: tuple[Stranger, ...]
