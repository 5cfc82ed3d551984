"""What users ask of a server's life, and when: Nova's rules as a table. All runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from kevel.control.attachments.attachments import find_server
from kevel.domain.errors import Conflict
from kevel.domain.model import Actor, BootKind, Reason, Server, ServerGoal
from kevel.domain.server_life import MOVES
from kevel.domain.status import RESET_BY_ADMIN, task_state, vm_state
from kevel.store.server_moves import set_server_goal, want_boot
from kevel.store.server_rows import confirm_resize, reset_server, want_shape
from kevel.store.transactions import Tx


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted from now on, and the vm_states in which it may be asked for."""

    goal: ServerGoal
    states: tuple[str, ...]


#: By Nova's name for the action.
WISHES: Final = {
    "start": Wish(goal=ServerGoal.RUNNING, states=("stopped",)),
    "stop": Wish(goal=ServerGoal.STOPPED, states=("active", "error")),
    "pause": Wish(goal=ServerGoal.PAUSED, states=("active",)),
    "unpause": Wish(goal=ServerGoal.RUNNING, states=("paused",)),
    "suspend": Wish(goal=ServerGoal.SUSPENDED, states=("active",)),
    "resume": Wish(goal=ServerGoal.RUNNING, states=("suspended",)),
}
#: From these a hard reboot is the way out.
_HARD_REBOOT_STATES: Final = ("active", "stopped", "paused", "suspended", "error")
_HARD_REBOOT_TASKS: Final = ("rebooting", "rebooting_hard", "pausing", "unpausing", "suspending", "resuming")


def check_unlocked(server: Server, actor: Actor) -> None:
    """Raise Conflict for a server that is locked, unless an admin asks."""
    if server.locked and not actor.is_admin:
        raise Conflict(f"Instance {server.id} is locked")


def check_vm_state(server: Server, action: str, states: Collection[str]) -> None:
    """Raise Conflict for a server in none of these states."""
    state = vm_state(server)
    if state not in states:
        raise Conflict(f"Cannot '{action}' instance {server.id} while it is in vm_state {state}")


def check_task_state(server: Server, action: str, tasks: Collection[str] = ()) -> None:
    """Raise Conflict for a server with which something is being done, unless that is one of these tasks."""
    task = task_state(server)
    if task is not None and task not in tasks:
        raise Conflict(f"Cannot '{action}' instance {server.id} while it is in task_state {task}")


def ask_life(tx: Tx, server_id: str, actor: Actor, action: str, at: int, deadline_at: int) -> None:
    """Ask for one of WISHES."""
    server, wish = find_server(tx, server_id, actor), WISHES[action]
    check_unlocked(server, actor)
    states = wish.states
    if (wish.goal, server.rung) not in MOVES:
        # A server in error mostly does not run: there would be nothing to stop.
        states = tuple(state for state in states if state != "error")
    check_vm_state(server, action, states)
    check_task_state(server, action)
    set_server_goal(tx, server, wish.goal, actor=actor, at=at, deadline_at=deadline_at)


def ask_reboot(tx: Tx, server_id: str, actor: Actor, kind: BootKind, at: int, deadline_at: int) -> None:
    """Ask for one more boot."""
    server = find_server(tx, server_id, actor)
    check_unlocked(server, actor)
    if kind is BootKind.SOFT:
        check_vm_state(server, "reboot", ("active",))
        check_task_state(server, "reboot")
    else:
        check_vm_state(server, "reboot", _HARD_REBOOT_STATES)
        check_task_state(server, "reboot", _HARD_REBOOT_TASKS)
    want_boot(tx, server, kind, actor=actor, at=at, deadline_at=deadline_at)


def ask_restore(tx: Tx, server_id: str, actor: Actor) -> None:
    """Restore a deleted server that is kept for a while. Kevel keeps none, so that is always a Conflict."""
    server = find_server(tx, server_id, actor)
    check_unlocked(server, actor)
    check_vm_state(server, "restore", ("soft-delete",))


def ask_confirm(tx: Tx, server_id: str, actor: Actor, at: int) -> None:
    """Keep a resized server's new flavor."""
    server = find_server(tx, server_id, actor)
    check_unlocked(server, actor)
    check_vm_state(server, "confirm_resize", ("resized",))
    confirm_resize(tx, server, actor=actor, at=at)


def ask_shape(tx: Tx, server_id: str, actor: Actor, action: str, at: int, deadline_at: int) -> None:
    """Have a rescued server booted from its own disk again, or give a resized one its old flavor back."""
    server = find_server(tx, server_id, actor)
    check_unlocked(server, actor)
    extras, flavor, goal = server.extras, server.flavor, server.goal
    if action == "unrescue":
        check_vm_state(server, action, ("rescued",))
        extras, task, goal = msgspec.structs.replace(extras, rescue=None), "unrescuing", ServerGoal.RUNNING
    else:
        check_vm_state(server, "revert_resize", ("resized",))
        flavor = extras.old_flavor or flavor
        extras, task = msgspec.structs.replace(extras, old_flavor=None), "resize_reverting"
    check_task_state(server, action)
    want_shape(
        tx, server, action, task, goal=goal, extras=extras, flavor=flavor, actor=actor, at=at, deadline_at=deadline_at
    )


def reset_state(tx: Tx, server_id: str, actor: Actor, state: str, at: int, deadline_at: int) -> None:
    """Put "error" over the server's state, or ("active") take it and any other fault away.

    What is under way is given up either way, except a deletion. It never makes a server look other than it is: without
    a fault, a server that does not run is shown as stopped.
    """
    server = find_server(tx, server_id, actor)
    fault = None
    if state == "error":
        fault = Reason(code=RESET_BY_ADMIN, message="An admin has set the server to error.", at=at)
    reset_server(tx, server, fault, actor=actor, at=at, deadline_at=deadline_at)
