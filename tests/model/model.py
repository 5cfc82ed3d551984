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


class Server(NamedTuple):
    """Everything about a server that matters for what its users may see."""

    #: none (not asked for yet), running, stopped, deleted (is to go), gone.
    goal: str = "none"
    up: bool = False
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

    @property
    def in_error(self) -> bool:
        """Is Nova's vm_state error?"""
        return self.failed and not self.up

    @property
    def task(self) -> str | None:
        """Nova's task_state."""
        if self.goal == "deleted":
            return "deleting"
        if self.in_error:
            return None
        if not self.born:
            return "spawning"
        if self.goal == "stopped":
            return "powering-off" if self.up else None
        if not self.up:
            return "powering-on"
        return {"": None, "soft": "rebooting", "hard": "rebooting_hard"}[self.boot]

    @property
    def looks(self) -> tuple[str, str | None, bool]:
        """Status, task_state, locked."""
        word = "ERROR" if self.in_error else "BUILD" if not self.born else "ACTIVE" if self.up else "SHUTOFF"
        reboots = {"rebooting": "REBOOT", "rebooting_hard": "HARD_REBOOT"}
        return reboots.get(self.task or "", word), self.task, bool(self.locked)

    @property
    def is_ready(self) -> bool:
        """May volumes come and go?"""
        return self.born and self.task is None and not self.in_error


class ServerMachine:
    """One server. It knows nothing of its volumes."""

    initial = Server()

    def __init__(self, server: str, place: Place) -> None:
        self.server = server
        self._place = place

    def moves(self, now: Server) -> Iterator[Server]:
        """What the system, or the guest, may do by itself."""
        if now.goal == "deleted":
            if now.up:
                yield now._replace(up=False)
            yield now._replace(goal="gone")
        elif now.goal == "stopped" and now.up:
            yield now._replace(up=False, ended=False)
            yield from self._failures(now._replace(goal="running"))
        elif now.goal == "running" and (now.boot or not now.up):
            done = now._replace(up=True, born=True, boot="", failed=False)
            yield from (done, done._replace(ended=False))
            yield from self._failures(now._replace(goal="running" if now.up else "stopped", boot=""))
        elif now.goal == "running" and now.ended:
            yield now._replace(goal="stopped", up=False, ended=False)

    def _failures(self, after: Server) -> Iterator[Server]:
        """A request that could not be carried out; the guest may have ended over it."""
        if self._place.faulty:
            yield after._replace(failed=True)
            yield after._replace(failed=True, ended=after.up)

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
        elif ask.verb == "lock":
            yield Answer(202), now._replace(locked=ADMIN if ask.project == ADMIN else "owner")
        elif ask.verb == "unlock":
            refused = now.locked == ADMIN and ask.project != ADMIN
            yield (Answer(403), now) if refused else (Answer(202), now._replace(locked=""))
        else:
            after = self._serve_own(now, ask)
            refused = after is None or self._is_locked(now, ask)
            yield (Answer(409), now) if after is None or refused else _accept(ask, after)

    def _is_locked(self, now: Server, ask: Request) -> bool:
        return bool(now.locked) and ask.project != ADMIN

    def _serve_volume(self, now: Server, ask: Request) -> Iterator[tuple[Answer, Server]]:
        # Out of an error a volume can still be taken back.
        ready = now.is_ready or (ask.verb == "detach" and now.in_error and now.goal != "deleted")
        ready = ready and not self._is_locked(now, ask)
        if not ready:
            yield Answer(409), now
        if ready and ask.verb == "attach":
            yield from ((Answer(200), now), (Answer(400), now), (NO_VOLUME, now))
        elif ask.verb == "detach":
            # What is being detached already may be asked for again in any state.
            yield from ((Answer(202), now), (NO_VOLUME, now))

    def _serve_own(self, now: Server, ask: Request) -> Server | None:
        """What the request makes of an unlocked server; None: it is not possible now."""
        if ask.verb == "delete_server":
            return now._replace(goal="deleted", boot="")
        if ask.verb == "start":
            return now._replace(goal="running", failed=False) if now.is_ready and not now.up else None
        if ask.verb == "stop":
            return now._replace(goal="stopped", failed=False) if now.is_ready and now.up else None
        if ask.verb == "reboot_soft":
            return now._replace(boot="soft", failed=False) if now.is_ready and now.up else None
        if ask.verb == "reboot_hard":
            can = (now.born or now.in_error) and now.task in (None, "rebooting", "rebooting_hard")
            return now._replace(goal="running", boot="hard", failed=False) if can else None
        raise AssertionError(f"users cannot {ask.verb}")

    def rests(self, now: Server) -> bool:
        """Has everything that was asked for ended?"""
        return now.goal in ("none", "gone") or (now.task is None and not now.ended)


def _accept(ask: Request, after: Server) -> tuple[Answer, Server]:
    return Answer(204 if ask.verb == "delete_server" else 202), after
