"""The life of a server: which act brings it nearer to what is wanted of it, and what that is called meanwhile.

One table holds for the agent, which acts by it; for the statuses, which are computed from it; and for the actions that
users read. What it does not hold needs no act.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kevel.domain.model import ServerGoal, ServerRung


@dataclass(frozen=True)
class ServerMove:
    """What is done to a server on its rung for its goal."""

    #: The hypervisor's act, or `tell_end`: there is no guest any more for which the goal could be reached.
    act: str
    #: The rung that the act leads to.
    rung: ServerRung
    #: Nova's task_state meanwhile.
    task: str | None
    #: Nova's name of the action by which a user asks for it.
    action: str | None = None


_G, _R = ServerGoal, ServerRung

#: By goal and rung. A deletion is asked for from everywhere, and always begins with `undefine_server`.
MOVES: Final[dict[tuple[ServerGoal, ServerRung], ServerMove]] = {
    (_G.RUNNING, _R.PLACED): ServerMove("define_server", _R.DEFINED, "powering-on", "start"),
    (_G.RUNNING, _R.DEFINED): ServerMove("start_server", _R.RUNNING, "powering-on", "start"),
    (_G.RUNNING, _R.SUSPENDED): ServerMove("resume_guest", _R.RUNNING, "resuming", "resume"),
    (_G.RUNNING, _R.PAUSED): ServerMove("unpause_guest", _R.RUNNING, "unpausing", "unpause"),
    (_G.PAUSED, _R.RUNNING): ServerMove("pause_guest", _R.PAUSED, "pausing", "pause"),
    (_G.PAUSED, _R.SUSPENDED): ServerMove("resume_guest", _R.RUNNING, "resuming"),
    (_G.PAUSED, _R.DEFINED): ServerMove("tell_end", _R.DEFINED, "pausing"),
    (_G.PAUSED, _R.PLACED): ServerMove("tell_end", _R.PLACED, "pausing"),
    (_G.SUSPENDED, _R.RUNNING): ServerMove("suspend_guest", _R.SUSPENDED, "suspending", "suspend"),
    (_G.SUSPENDED, _R.PAUSED): ServerMove("suspend_guest", _R.SUSPENDED, "suspending"),
    (_G.SUSPENDED, _R.DEFINED): ServerMove("tell_end", _R.DEFINED, "suspending"),
    (_G.SUSPENDED, _R.PLACED): ServerMove("tell_end", _R.PLACED, "suspending"),
    (_G.STOPPED, _R.RUNNING): ServerMove("ask_shutdown", _R.DEFINED, "powering-off", "stop"),
    (_G.STOPPED, _R.PAUSED): ServerMove("power_off", _R.DEFINED, "powering-off", "stop"),
    (_G.STOPPED, _R.SUSPENDED): ServerMove("power_off", _R.DEFINED, "powering-off", "stop"),
    (_G.SHELVED, _R.RUNNING): ServerMove("ask_shutdown", _R.DEFINED, "shelving", "shelve"),
    (_G.SHELVED, _R.PAUSED): ServerMove("power_off", _R.DEFINED, "shelving", "shelve"),
    (_G.SHELVED, _R.SUSPENDED): ServerMove("power_off", _R.DEFINED, "shelving", "shelve"),
    (_G.SHELVED, _R.PLACED): ServerMove("define_server", _R.DEFINED, "shelving"),
    # From wherever it was seen last: something may have come up behind the record.
    (_G.OFFLOADED, _R.RUNNING): ServerMove("undefine_server", _R.PLACED, "shelving_offloading"),
    (_G.OFFLOADED, _R.PAUSED): ServerMove("undefine_server", _R.PLACED, "shelving_offloading"),
    (_G.OFFLOADED, _R.SUSPENDED): ServerMove("undefine_server", _R.PLACED, "shelving_offloading"),
    (_G.OFFLOADED, _R.DEFINED): ServerMove("undefine_server", _R.PLACED, "shelving_offloading", "shelveOffload"),
    # The control plane's: it waits for the last path to be released.
    (_G.OFFLOADED, _R.PLACED): ServerMove("leave_host", _R.OFFLOADED, "shelving_offloading", "shelveOffload"),
}

#: The ways to another shape: the guest ends, then its domain is made anew; MOVES say how it goes on from there.
_SHUT_DOWN: Final = ServerMove("ask_shutdown", _R.DEFINED, None)
_DEFINE: Final = ServerMove("define_server", _R.DEFINED, None)


def next_move(goal: ServerGoal, rung: ServerRung, *, reshaping: bool) -> ServerMove | None:
    """What is done next for a goal other than a deletion; None when the server is as it is wanted."""
    if reshaping and rung >= ServerRung.DEFINED:
        return _DEFINE if rung is ServerRung.DEFINED else _SHUT_DOWN
    return MOVES.get((goal, rung))


#: What is wanted of a server that keeps what it has, by its rung.
STAYING: Final = {
    _R.GONE: _G.DELETED,
    _R.OFFLOADED: _G.OFFLOADED,
    _R.PLACED: _G.STOPPED,
    _R.DEFINED: _G.STOPPED,
    _R.SUSPENDED: _G.SUSPENDED,
    _R.PAUSED: _G.PAUSED,
    _R.RUNNING: _G.RUNNING,
}

#: Goals for which there has to be a guest.
NEEDS_GUEST: Final = (_G.RUNNING, _G.PAUSED, _G.SUSPENDED)

#: Goals for which nothing may be left of the server on its host: its domain goes first, then its paths. No failure
#: turns them round.
LEAVES_HOST: Final = (_G.OFFLOADED, _G.DELETED)


def name_action(goal: ServerGoal, rung: ServerRung) -> str:
    """Nova's name of the action by which this is asked of a server on that rung. Raises KeyError: nobody asks so."""
    if goal is ServerGoal.DELETED:
        return "delete"
    name = MOVES[goal, rung].action
    if name is None:
        raise KeyError(f"{goal} from {rung}")
    return name
