"""What users may see of a volume and of a server: two small machines that are the specification.

Requests are answered at once and their work goes on in the background. So a machine has two kinds of steps: it serves a
request, which fixes the answer, and it makes moves of its own, at any time between two requests. What a user may see is
what some order of the two explains; `tests.model.linearizability` looks for that order.

A request that names a server and a volume is a step of both machines. Each of them allows every answer that the other
one may be the cause of, and the answer's `about` says which of the two a 404 speaks of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

#: Who sees the things of all projects.
ADMIN = "admin"


class Request(NamedTuple):
    """What a user asks for."""

    verb: str
    #: The caller's project, or ADMIN.
    project: str
    server: str = ""
    volume: str = ""
    #: GiB, of create and extend.
    size: int = 0
    #: Of an attach: the volume goes with the server.
    deletes: bool = False
    #: Of a create: several servers may have the volume at once.
    shared: bool = False


class Answer(NamedTuple):
    """What the user got; status 0: nothing, so nobody knows whether the request was carried out."""

    status: int
    #: Of a 404: "server" or "volume".
    about: str = ""
    #: Of a look: what this machine's thing looked like, None when it was not there.
    seen: Any = None


UNKNOWN = Answer(0)
NO_SERVER, NO_VOLUME = Answer(404, "server"), Answer(404, "volume")


class Place(NamedTuple):
    """What never changes: whose things are whose, and what may go wrong."""

    projects: Mapping[str, str]
    #: Volumes that several servers may have at once.
    shared: AbstractSet[str] = frozenset()
    #: Servers whose guests may keep a disk that they are asked to release.
    keepers: AbstractSet[str] = frozenset()
    #: Servers whose guests take no disk.
    refusers: AbstractSet[str] = frozenset()
    #: Calls fail, for good too: what was asked for may not come true, and any guest may seem to keep a disk.
    faulty: bool = False

    def sees(self, project: str, thing: str) -> bool:
        """May a caller from that project know that the thing exists?"""
        return project in (ADMIN, self.projects.get(thing))


class Hold(NamedTuple):
    """One server's attachment of the volume."""

    server: str
    #: attaching, attached; detaching (as asked), undoing (a failed attach), leaving (with the server).
    phase: str
    deletes: bool = False
    #: The guest has kept the disk when it was asked for: it may let go of it late, and gets it once more.
    shaken: bool = False


class Volume(NamedTuple):
    """Everything about a volume that matters for what its users may see."""

    #: none (not asked for yet), creating, idle, extending, deleting, gone.
    life: str = "none"
    size: int = 0
    wanted_size: int = 0
    #: Cinder's word for what could not be done: error, error_extending, error_deleting.
    fault: str = ""
    holds: tuple[Hold, ...] = ()

    def held_by(self, server: str) -> Hold | None:
        return next((hold for hold in self.holds if hold.server == server), None)

    def having(self, hold: Hold) -> Volume:
        """With that hold in the place of the same server's."""
        return self._replace(holds=tuple(sorted((*self.without(hold.server).holds, hold))))

    def without(self, server: str) -> Volume:
        return self._replace(holds=tuple(hold for hold in self.holds if hold.server != server))

    @property
    def status(self) -> str:
        """Cinder's word."""
        return self.life if self.life != "idle" else self.fault or self.use

    @property
    def use(self) -> str:
        """What is true of its attachments, whatever else goes on."""
        words = {hold.phase for hold in self.holds}
        if "attached" in words:
            return "in-use"
        return "attaching" if "attaching" in words else "detaching" if words else "available"

    @property
    def looks(self) -> tuple[str, int, tuple[str, ...]]:
        """Status, size, and the servers that have it: complete ones only."""
        return self.status, self.size, tuple(hold.server for hold in self.holds if hold.phase == "attached")


class VolumeMachine:
    """One volume. It knows nothing of its servers but which of them are to go."""

    initial = Volume()

    def __init__(self, volume: str, place: Place) -> None:
        self.volume = volume
        self._place = place

    def moves(self, now: Volume) -> Iterator[Volume]:
        """What the system may do by itself."""
        if now.life in ("creating", "extending", "deleting"):
            yield now._replace(life="gone" if now.life == "deleting" else "idle", size=now.wanted_size)
            if self._place.faulty:
                yield now._replace(life="idle", fault=f"error_{now.life}".removesuffix("_creating"))
        for hold in now.holds:
            takes = hold.server not in self._place.refusers
            kept = takes and (self._place.faulty or hold.server in self._place.keepers)
            if hold.phase == "attaching":
                if takes:
                    yield now.having(hold._replace(phase="attached"))
                if not takes or (self._place.faulty and not hold.shaken):
                    yield now.having(hold._replace(phase="undoing"))
            elif hold.phase == "attached":
                if hold.shaken:
                    yield now.having(hold._replace(phase="attaching"))
            else:
                # A volume that was to go with its server stays while another server has it.
                closed = now.without(hold.server)
                goes = hold.phase == "leaving" and hold.deletes and not closed.holds
                yield _begin_delete(closed) if goes else closed
                if hold.phase == "detaching" and kept:
                    yield now.having(hold._replace(phase="attaching", shaken=True))

    def serve(self, now: Volume, ask: Request) -> Iterator[tuple[Answer, Volume]]:
        """The answers that the request may get now, each with what follows."""
        there = now.life not in ("none", "gone")
        if ask.verb == "create":
            if now.life == "none":
                yield Answer(202), Volume("creating", ask.size, ask.size)
        elif ask.verb == "list":
            yield Answer(200, seen=now.looks if there and self._place.sees(ask.project, self.volume) else None), now
        elif ask.verb in ("show", "delete", "extend"):
            if there and self._place.sees(ask.project, self.volume):
                yield self._serve_own(now, ask)
            else:
                yield NO_VOLUME, now
        else:
            yield from self._serve_with_server(now, ask, there)

    def _serve_own(self, now: Volume, ask: Request) -> tuple[Answer, Volume]:
        if ask.verb == "show":
            return Answer(200, seen=now.looks), now
        words = (now.use, "error_extending") if now.use in ("available", "in-use") else ()
        if ask.verb == "extend" and now.status in words and ask.size > now.size:
            return Answer(202), now._replace(life="extending", wanted_size=ask.size, fault="")
        if ask.verb == "delete" and now.life == "idle" and not now.holds:
            return Answer(202), _begin_delete(now)
        return Answer(400), now

    def _serve_with_server(self, now: Volume, ask: Request, there: bool) -> Iterator[tuple[Answer, Volume]]:
        hold = now.held_by(ask.server)
        yield NO_SERVER, now
        if ask.verb == "attached":
            yield Answer(200, seen=hold is not None), now
        elif ask.verb == "delete_server":
            yield Answer(409), now
            yield Answer(204), now if hold is None else now.having(hold._replace(phase="leaving"))
        elif ask.verb == "attach":
            yield Answer(409), now
            same_project = self._place.projects.get(ask.server) == self._place.projects.get(self.volume)
            if not (there and same_project and self._place.sees(ask.project, self.volume)):
                yield NO_VOLUME, now
            elif now.life != "idle" or now.fault or hold or (now.holds and self.volume not in self._place.shared):
                yield Answer(400), now
            else:
                yield Answer(200), now.having(Hold(ask.server, "attaching", ask.deletes))
        elif ask.verb == "detach":
            if hold is None:
                yield NO_VOLUME, now
            elif hold.phase == "leaving":
                yield Answer(202), now
            else:
                if hold.phase in ("attaching", "attached"):
                    yield Answer(409), now
                yield Answer(202), now.having(hold._replace(phase="detaching"))

    def rests(self, now: Volume) -> bool:
        """Has everything that was asked for ended? A guest that keeps a disk may keep it."""
        if now.life not in ("none", "idle", "gone"):
            return False
        return all(hold.phase == "attached" or hold.server in self._place.keepers for hold in now.holds)


def _begin_delete(now: Volume) -> Volume:
    return now._replace(life="deleting", wanted_size=now.size, fault="")


#: Nova's vm_state by what is true of the guest.
_BY_GUEST = {"off": "stopped", "suspended": "suspended", "paused": "paused", "running": "active"}
#: What is wanted of a server that keeps what it has.
_STAYING = {"off": "stopped", "suspended": "suspended", "paused": "paused", "running": "running"}
#: Nova's word for what is done to a guest, by the goal and what is true of it.
_TASKS = {
    ("running", "off"): "powering-on",
    ("running", "suspended"): "resuming",
    ("running", "paused"): "unpausing",
    ("paused", "running"): "pausing",
    ("paused", "off"): "pausing",
    ("suspended", "running"): "suspending",
    ("suspended", "off"): "suspending",
    ("stopped", "running"): "powering-off",
    ("stopped", "paused"): "powering-off",
    ("stopped", "suspended"): "powering-off",
}
_STATUSES = {
    "error": "ERROR",
    "building": "BUILD",
    "active": "ACTIVE",
    "paused": "PAUSED",
    "suspended": "SUSPENDED",
    "rescued": "RESCUE",
    "resized": "VERIFY_RESIZE",
    "stopped": "SHUTOFF",
    "rebooting": "REBOOT",
    "rebooting_hard": "HARD_REBOOT",
    "rebuilding": "REBUILD",
    "resize_migrating": "RESIZE",
    "resize_reverting": "REVERT_RESIZE",
}
#: By what is asked: the vm_states in which it may be, and what is wanted then (None: what is wanted now).
_ASKED = {
    "start": (("stopped",), "running"),
    "stop": (("active",), "stopped"),
    "pause": (("active",), "paused"),
    "unpause": (("paused",), "running"),
    "suspend": (("active",), "suspended"),
    "resume": (("suspended",), "running"),
    "reboot_soft": (("active",), None),
    "reboot_hard": (("active", "stopped", "paused", "suspended", "error"), "running"),
    "rescue": (("active", "stopped", "error"), "running"),
    "unrescue": (("rescued",), "running"),
    "rebuild": (("active", "stopped", "error"), None),
    "resize": (("active", "stopped"), None),
    "confirm": (("resized",), None),
    "revert": (("resized",), None),
}
#: What is made anew by a request, and its word meanwhile.
_SHAPES: Mapping[str, tuple[dict[str, Any], str]] = {
    "rescue": ({"rescue": True}, "rescuing"),
    "unrescue": ({"rescue": False}, "unrescuing"),
    "rebuild": ({}, "rebuilding"),
    "resize": ({"large": True, "unconfirmed": True}, "resize_migrating"),
    "revert": ({"large": False, "unconfirmed": False}, "resize_reverting"),
}
#: A hard reboot is the way out of these.
_LEFT_HARD = (None, "rebooting", "rebooting_hard", "pausing", "unpausing", "suspending", "resuming")


class Server(NamedTuple):
    """Everything about a server that matters for what its users may see."""

    #: none (not asked for yet), running, paused, suspended, stopped, deleted (is to go), gone.
    goal: str = "none"
    #: off, suspended, paused, running.
    guest: str = "off"
    #: It has run once.
    born: bool = False
    #: The boot that is asked for: "", soft, hard.
    boot: str = ""
    #: Its guest may have ended by itself, and nobody has noticed.
    ended: bool = False
    #: What was asked for last could not be done.
    failed: bool = False
    #: Who locked it: "", "owner" or ADMIN.
    locked: str = ""
    #: It has, or is to have: a rescue disk; the larger flavor; a flavor that waits to be confirmed.
    rescue: bool = False
    large: bool = False
    unconfirmed: bool = False
    #: It is to be made anew; those three, as they are until then; and the word for that until its goal is reached.
    anew: bool = False
    before: tuple[bool, bool, bool] = (False, False, False)
    word: str = ""
    #: It was made with a rescue disk.
    rescued: bool = False

    @property
    def shape(self) -> tuple[bool, bool, bool]:
        """What it has, or is to have."""
        return self.rescue, self.large, self.unconfirmed

    @property
    def in_error(self) -> bool:
        """Is Nova's vm_state error?"""
        return self.failed and self.guest == "off"

    @property
    def state(self) -> str:
        """Nova's vm_state."""
        if self.in_error:
            return "error"
        if not self.born:
            return "building"
        if self.rescued:
            return "rescued"
        return "resized" if self.unconfirmed and self.task is None else _BY_GUEST[self.guest]

    @property
    def task(self) -> str | None:
        """Nova's task_state."""
        if self.goal == "deleted":
            return "deleting"
        if self.in_error:
            return None
        if not self.born:
            return "spawning"
        if self.anew:
            return self.word
        if self.boot and self.guest != "off":
            return "rebooting_hard" if self.boot == "hard" else "rebooting"
        task = _TASKS.get((self.goal, self.guest))
        return task and (self.word or task)

    @property
    def looks(self) -> tuple[str, str | None, bool]:
        """Status, task_state, locked."""
        return _STATUSES.get(self.task or "", _STATUSES[self.state]), self.task, bool(self.locked)


class ServerMachine:
    """One server. It knows nothing of its volumes."""

    initial = Server()

    def __init__(self, server: str, place: Place) -> None:
        self.server = server
        self._place = place

    def moves(self, now: Server) -> Iterator[Server]:
        """What the system, or the guest, may do by itself."""
        runs = now.guest in ("paused", "running")
        if now.goal == "deleted":
            yield from () if now.guest == "off" else (now._replace(guest="off"),)
            yield now._replace(goal="gone")
        elif now.anew:
            made = now._replace(anew=False, rescued=now.rescue)
            yield made if now.guest == "off" else now._replace(guest="off", ended=False)
            yield from self._failures(now)
        elif now.goal == "stopped" and now.guest != "off":
            yield now._replace(guest="off", ended=False)
            yield from self._failures(now)
        elif now.goal in _STAYING.values() and (now.boot or now.guest != now.goal) and now.goal != "stopped":
            done = now._replace(guest=now.goal, born=True, boot="", failed=False)
            yield from (done, done._replace(ended=False))
            yield from self._failures(now)
        if now.ended and runs and now.goal in ("running", "paused", "suspended") and not now.anew:
            yield now._replace(goal="stopped", guest="off", ended=False, boot="", word="")

    def _failures(self, now: Server) -> Iterator[Server]:
        """A request that could not be carried out: the server stays as it is, and its guest may have ended over it."""
        if not self._place.faulty:
            return
        rescue, large, unconfirmed = now.before if now.anew else now.shape
        kept = now._replace(rescue=rescue, large=large, unconfirmed=unconfirmed, anew=False, boot="", word="")
        stays = kept._replace(goal=_STAYING[now.guest], failed=True)
        yield from (stays, stays._replace(ended=now.guest in ("paused", "running")))
        yield stays._replace(goal="stopped", guest="off", ended=False)

    def serve(self, now: Server, ask: Request) -> Iterator[tuple[Answer, Server]]:
        """The answers that the request may get now, each with what follows."""
        there = now.goal not in ("none", "gone") and self._place.sees(ask.project, self.server)
        if ask.verb == "create_server":
            if now.goal == "none":
                yield Answer(202), Server("running")
        elif ask.verb == "guest_ends":
            yield from ((Answer(0), now), (Answer(0), now._replace(ended=True)))
        elif ask.verb == "list_servers":
            yield Answer(200, seen=now.looks if there else None), now
        elif not there:
            yield NO_SERVER, now
        elif ask.verb == "show_server":
            yield Answer(200, seen=now.looks), now
        elif ask.verb == "attached":
            yield Answer(200), now
        elif ask.verb in ("attach", "detach"):
            yield from self._serve_volume(now, ask)
        elif ask.verb in ("lock", "unlock"):
            yield self._serve_lock(now, ask)
        elif self._is_locked(now, ask):
            yield Answer(409), now
        elif ask.verb == "delete_server":
            yield Answer(204), now._replace(goal="deleted", boot="", word="")
        else:
            yield self._serve_own(now, ask.verb)

    def _serve_lock(self, now: Server, ask: Request) -> tuple[Answer, Server]:
        by = ADMIN if ask.project == ADMIN else "owner"
        if ask.verb == "unlock" and (now.locked, by) == (ADMIN, "owner"):
            return Answer(403), now
        return Answer(202), now._replace(locked=by if ask.verb == "lock" else "")

    def _is_locked(self, now: Server, ask: Request) -> bool:
        return bool(now.locked) and ask.project != ADMIN

    def _serve_volume(self, now: Server, ask: Request) -> Iterator[tuple[Answer, Server]]:
        # Out of an error a volume can still be taken back.
        states = ("active", "stopped", "paused", "resized", *(("error",) if ask.verb == "detach" else ()))
        ready = now.state in states and now.task is None and not self._is_locked(now, ask)
        if not ready:
            yield Answer(409), now
        if ready and ask.verb == "attach":
            yield from ((Answer(200), now), (Answer(400), now), (NO_VOLUME, now))
        elif ask.verb == "detach":
            # What is being detached already may be asked for again in any state.
            yield from ((Answer(202), now), (NO_VOLUME, now))

    def _serve_own(self, now: Server, verb: str) -> tuple[Answer, Server]:
        """What the request makes of an unlocked server."""
        states, goal = _ASKED[verb]
        tasks = _LEFT_HARD if verb == "reboot_hard" else (None,)
        if now.state not in states or now.task not in tasks:
            return Answer(409), now
        if verb == "confirm":
            return Answer(204), now._replace(unconfirmed=False)
        if verb == "resize" and now.large:
            return Answer(400), now
        if verb == "rebuild":
            goal = "stopped" if now.state == "stopped" else "running"
        after = now._replace(goal=goal or now.goal, failed=False, word="")
        if verb.startswith("reboot"):
            return Answer(202), after._replace(boot=verb.removeprefix("reboot_"))
        if verb in _SHAPES:
            change, word = _SHAPES[verb]
            after = after._replace(**change, word=word, anew=True, before=now.shape)
        return Answer(200 if verb == "rescue" else 202), after

    def rests(self, now: Server) -> bool:
        """Has everything that was asked for ended?"""
        return now.goal in ("none", "gone") or (now.task is None and not now.ended)
