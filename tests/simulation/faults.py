"""What can go wrong, where, and who decides that it does: chances drawn from a seed, or a script of single faults.

A *point* is a moment at which something can go wrong: an effect on the world, a COMMIT, a message between agent and
control plane, an event of the hypervisor. Points are numbered as a run comes to them, so a run with the same seed and
script comes to the same points: the sweep enumerates them, and the shrinker leaves faults out.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Mapping
from typing import NamedTuple


class Kind(enum.Enum):
    """What happens at a point."""

    EFFECT = "effect"
    COMMIT = "commit"
    MESSAGE = "message"
    EVENT = "event"


class Fault(enum.Enum):
    """What goes wrong there."""

    #: The process that acts dies before the effect.
    CRASH_BEFORE = "crash before"
    #: It dies after the effect, before the answer.
    CRASH_AFTER = "crash after"
    #: It dies with the call under way; the effect lands in the meantime before its next life.
    CRASH_UNDER_WAY = "crash under way"
    #: Another process dies: the control plane at an agent's point, the agent at the control plane's.
    CRASH_OTHER = "crash of the other process"
    #: The whole host loses power at this point: agent, guests, connections.
    HOST_DIES = "host dies"
    REFUSED = "refused for now"
    REFUSED_FOR_GOOD = "refused for good"
    #: The guest does not do what it is asked to.
    IGNORED = "ignored by the guest"
    LOST_REPLY = "effect without an answer"
    #: The effect lands after the caller's deadline.
    LATE = "late"
    #: The process dies inside the transaction.
    ROLLED_BACK = "crash before COMMIT"
    #: It dies with the transaction committed and nobody told.
    UNTOLD = "crash after COMMIT"
    #: One statement fails once; the batch is discarded and its jobs run one by one.
    STATEMENT = "statement error"
    #: It fails again, and the caller gets the error.
    STATEMENTS = "statement errors"
    DISK_FULL = "disk full"
    LOST = "lost"
    REPEATED = "repeated"
    #: Nothing gets through in this direction for a while.
    CUT = "cut one way"


_EFFECT_FAULTS = (
    Fault.CRASH_BEFORE,
    Fault.CRASH_AFTER,
    Fault.CRASH_UNDER_WAY,
    Fault.CRASH_OTHER,
    Fault.HOST_DIES,
    Fault.REFUSED,
    Fault.LOST_REPLY,
    Fault.LATE,
)
_FAULTS: dict[Kind, tuple[Fault, ...]] = {
    Kind.EFFECT: (*_EFFECT_FAULTS, Fault.REFUSED_FOR_GOOD),
    Kind.COMMIT: (
        Fault.ROLLED_BACK,
        Fault.UNTOLD,
        Fault.CRASH_OTHER,
        Fault.STATEMENT,
        Fault.STATEMENTS,
        Fault.DISK_FULL,
    ),
    Kind.MESSAGE: (Fault.LOST, Fault.REPEATED, Fault.LATE, Fault.CUT),
    Kind.EVENT: (Fault.LOST, Fault.REPEATED, Fault.LATE),
}
#: Effects that ask a guest, which may not listen.
_GUESTS = frozenset({"unplug_disk", "ask_shutdown", "ask_reboot"})


def faults_at(kind: Kind, name: str) -> tuple[Fault, ...]:
    """Everything that can go wrong at such a point."""
    if kind is Kind.EFFECT and name.startswith(("observe_", "list_")):
        return _EFFECT_FAULTS  # a look is refused for now, never for good
    if kind is Kind.EFFECT and name in _GUESTS:
        return (*_FAULTS[kind], Fault.IGNORED)
    return _FAULTS[kind]


class Point(NamedTuple):
    """One moment of a run."""

    number: int
    kind: Kind
    #: The effect, the transactions, the message or the event.
    name: str
    #: Whose it is: "kevel", "control", "agent sim0".
    process: str


class Faults:
    """Decides at each point. Off until `on` is set, and points are counted only while it is on."""

    def __init__(self, dice: random.Random, script: Mapping[int, Fault] | None = None) -> None:
        self.dice = dice
        #: Faults by point; None: they are drawn by their chances.
        self.script = script
        self.chances: dict[Fault, float] = {}
        self.on = False
        self.points: list[Point] = []
        #: What did go wrong.
        self.struck: list[tuple[Point, Fault]] = []

    def draw_chances(self, dice: random.Random) -> None:
        """Half of the faults happen in a run, each with its own chance."""
        for fault in Fault:
            if dice.random() < 0.5:
                self.chances[fault] = dice.random() * (0.005 if fault in (Fault.HOST_DIES, Fault.CUT) else 0.03)

    def strike(self, kind: Kind, name: str, process: str) -> Fault | None:
        """What goes wrong at this point, if anything."""
        if not self.on:
            return None
        point = Point(len(self.points), kind, name, process)
        self.points.append(point)
        fault = self._decide(point)
        if fault is not None:
            self.struck.append((point, fault))
        return fault

    def _decide(self, point: Point) -> Fault | None:
        if self.script is not None:
            return self.script.get(point.number)
        left = self.dice.random()
        for fault in faults_at(point.kind, point.name):
            left -= self.chances.get(fault, 0.0)
            if left < 0:
                return fault
        return None
