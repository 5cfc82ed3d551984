"""The ladder: rungs, moves, who makes them, and where a path should stand.

Everything that decides about a path lives here, as one table and four functions without I/O. A path is in one pair of
hands at a time; whoever holds it asks `next_step` what to do, does it, and records the outcome by compare-and-set.
"""

from __future__ import annotations

import enum
from collections.abc import Container
from dataclasses import dataclass


class Rung(enum.IntEnum):
    """What is true of a path. Each rung includes those below it."""

    #: Nothing is left; the row stays as a tombstone with its generation.
    RELEASED = 0
    #: The volume is claimed; nobody else can have it.
    RESERVED = 1
    #: The storage lets this host in; connection_info is stored.
    EXPORTED = 2
    #: The host reaches the volume.
    CONNECTED = 3
    #: The guest has the disk: in its definition, and live if it runs.
    PLUGGED = 4


class Hands(enum.Enum):
    """Who may act on a path."""

    CONTROL = "control"
    HOST = "host"


class Goal(enum.Enum):
    """What the user wants of an attachment."""

    ATTACHED = "attached"
    DETACHED = "detached"


@dataclass(frozen=True)
class Move:
    """One move between neighbouring rungs, and whose it is."""

    act: str
    source: Rung
    target: Rung
    hands: Hands


#: The whole ladder. `docs/ladder.svg` and `docs/architecture.md` are drawn from it by `scripts/draw_ladder.py`.
MOVES: tuple[Move, ...] = (
    Move("export_volume", Rung.RESERVED, Rung.EXPORTED, Hands.CONTROL),
    Move("connect_volume", Rung.EXPORTED, Rung.CONNECTED, Hands.HOST),
    Move("plug_disk", Rung.CONNECTED, Rung.PLUGGED, Hands.HOST),
    Move("unplug_disk", Rung.PLUGGED, Rung.CONNECTED, Hands.HOST),
    Move("disconnect_volume", Rung.CONNECTED, Rung.EXPORTED, Hands.HOST),
    Move("revoke_export", Rung.EXPORTED, Rung.RESERVED, Hands.CONTROL),
    Move("release_claim", Rung.RESERVED, Rung.RELEASED, Hands.CONTROL),
)

_UP = {move.source: move for move in MOVES if move.target > move.source}
_DOWN = {move.source: move for move in MOVES if move.target < move.source}

#: The rung on which a path changes hands.
HANDOVER = Rung.EXPORTED


@dataclass(frozen=True)
class Step:
    """What the holder does next: the acts in order, all idempotent, then one record."""

    acts: tuple[str, ...]
    rung: Rung
    #: Who holds the path after the record.
    hands: Hands


def target_rung(goal: Goal, *, server_wanted: bool, withheld: bool = False, aside: bool = False) -> Rung:
    """Where a path should stand.

    `server_wanted` is False once the server is to be deleted, or to leave its host: then the path goes down whatever
    the attachment's goal says, and nothing waits for a guest's cooperation, because the domain goes first. `withheld`
    is True while the volume's contents are replaced: the host lets go of it, and the control plane keeps the path until
    they are. One of an attachment that stands `aside` is never plugged.
    """
    if goal is Goal.DETACHED or not server_wanted:
        return Rung.RELEASED
    if withheld:
        return HANDOVER
    return Rung.CONNECTED if aside else Rung.PLUGGED


def external_target(*, dropped: bool) -> Rung:
    """Where an external attachment's path should stand: the storage lets the consumer in, and Kevel's share ends."""
    return Rung.RELEASED if dropped else Rung.EXPORTED


def next_step(rung: Rung, hands: Hands, target: Rung, effect_free: Container[Rung] = ()) -> Step | None:
    """The holder's next step towards the target; None when it has nothing to do.

    Upwards, the recorded rung's own act is done again before the next one: it may have been undone by somebody who
    turned round and died. Downwards, everything that may exist above the record is undone first: one effect can be
    there that no record shows yet, above any rungs that have no effect at all. Rungs in `effect_free` are passed in
    the same record. Raises AssertionError for a rung in the wrong hands.
    """
    if rung < HANDOVER and hands is Hands.HOST:
        raise AssertionError(f"a host cannot hold a path on {rung.name}")
    if rung > HANDOVER and hands is Hands.CONTROL:
        raise AssertionError(f"the control plane cannot hold a path on {rung.name}")
    if rung is Rung.RELEASED or (rung == target and not (target is HANDOVER and hands is Hands.HOST)):
        return None
    if rung == target:
        return _step_down(rung, hands, target, effect_free)  # nobody is to go higher, so it is handed back
    return _step_up(rung, hands, target, effect_free) if rung < target else _step_down(rung, hands, target, effect_free)


def _step_up(rung: Rung, hands: Hands, target: Rung, effect_free: Container[Rung]) -> Step:
    if hands is Hands.CONTROL and rung is HANDOVER:
        # Handed back, and wanted again: the export is made sure of, then the host gets it once more.
        return Step((_UP[Rung.RESERVED].act,), HANDOVER, Hands.HOST)
    acts: list[str] = []
    below = Rung(rung - 1)
    if below in _UP and _UP[below].hands is hands:
        acts.append(_UP[below].act)
    reached = rung
    while reached < target and _UP[reached].hands is hands:
        move = _UP[reached]
        acts.append(move.act)
        reached = move.target
        if reached not in effect_free:
            break
    # A path that should go no higher than the export has no agent to be handed to.
    after = Hands.HOST if reached >= HANDOVER and target > HANDOVER else Hands.CONTROL
    return Step(tuple(acts), reached, after)


def _step_down(rung: Rung, hands: Hands, target: Rung, effect_free: Container[Rung]) -> Step:
    if hands is Hands.HOST:
        acts = [_DOWN[Rung(at)].act for at in range(_highest_effect(rung, effect_free), rung, -1)]
        reached = rung
        while reached > max(HANDOVER, target):
            acts.append(_DOWN[reached].act)
            reached = Rung(reached - 1)
            if reached not in effect_free:
                break
        return Step(tuple(acts), reached, Hands.CONTROL if reached is HANDOVER else Hands.HOST)
    revoke, release = _DOWN[HANDOVER].act, _DOWN[Rung.RESERVED].act
    if target is Rung.RESERVED or (rung is HANDOVER and HANDOVER not in effect_free):
        return Step((revoke,), Rung.RESERVED, Hands.CONTROL)
    return Step((revoke, release), Rung.RELEASED, Hands.CONTROL)


def _highest_effect(rung: Rung, effect_free: Container[Rung]) -> Rung:
    """The highest rung whose effect may exist although `rung` is recorded: one effectful rung above it."""
    top = rung
    while top < Rung.PLUGGED:
        top = Rung(top + 1)
        if top not in effect_free:
            break
    return top
