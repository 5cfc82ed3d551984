"""The agent: long-polls its assignments, converges servers and paths, reports what it saw.

It holds nothing that must survive: after a restart it asks for everything, looks at what is really there, and goes on.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from kevel.domain.assignments import Assignments, DiskSight, HostCensus, PathAssignment, ServerSight, Stranger
from kevel.domain.errors import KevelError
from kevel.domain.ladder import Hands, Rung
from kevel.domain.model import ServerGoal, ServerRung
from kevel.host.answers import Answers
from kevel.host.copy_looks import CopyLooks
from kevel.host.path_looks import PathLooks
from kevel.host.server_looks import ServerLooks
from kevel.host.state import HostState
from kevel.host.swap_looks import SwapLooks
from kevel.hypervisor.base import Event, EventKind, PowerState, ServerView
from kevel.runtime.ports import Ids
from kevel.runtime.reconciler import Reconciler

log = structlog.get_logger(__name__)

#: Looks at servers and at paths under way at once; calls on one server wait for each other anyway.
LOOKS_MAX: Final = 32
#: Pause after a poll that failed.
POLL_AGAIN_S: Final = 1.0
#: How often the agent asks for everything instead of changes, so that nothing it lost stays lost.
RESYNC_S: Final = 30.0
#: How often the agent compares everything that is assigned with everything that is there.
CENSUS_S: Final = 30.0
#: Things that no assignment names, in one census; with more, the rest is told once some have gone.
STRANGERS_MAX: Final = 1000
#: What calls still under way get when the agent stops.
DRAIN_S: Final = 5.0


class Agent:
    """Converges one host. `start`, then it runs until `close`."""

    def __init__(self, state: HostState, ids: Ids) -> None:
        self._state = state
        self._server_looks = ServerLooks(state)
        self._servers = Reconciler("host-server", self._server_looks.look, ids, parallel_max=LOOKS_MAX)
        self._paths = Reconciler("host-path", PathLooks(state).look, ids, parallel_max=LOOKS_MAX)
        self._copies = Reconciler("host-copy", CopyLooks(state).look, ids, parallel_max=LOOKS_MAX)
        self._answers = Answers(state)
        self._swaps = Reconciler("host-swap", SwapLooks(state).look, ids, parallel_max=LOOKS_MAX)
        self._facts: dict[str, Any] = {}
        self._poll: asyncio.Task[None] | None = None
        self._census: asyncio.Task[None] | None = None
        #: The newest census that somebody waits for; the event says that there is one.
        self._census_wanted = 0
        self._censuses = 0
        #: Servers and disks that were assigned at any time since the last census began: (server, alias or "").
        self._familiar: set[tuple[str, str]] = set()
        #: What the last census saw and no assignment named, in the same form.
        self._strangers: set[tuple[str, str]] = set()
        self._census_due = asyncio.Event()
        state.wake_server = self._wake

    async def start(self) -> None:
        """Open the hypervisor, register, and take over what is assigned. Raises SetupError when the host cannot run."""
        state = self._state
        facts = await state.hypervisor.open(self.hear)
        self._facts = msgspec.to_builtins(facts)
        await self._register()
        self._poll = asyncio.create_task(self._poll_forever(), name="agent-poll")

    async def _register(self) -> None:
        state, config = self._state, self._state.config
        state.epoch = await state.control.register(
            config.name, availability_zone=config.availability_zone, facts=self._facts
        )

    async def close(self) -> None:
        """Stop looking and let go of the hypervisor; guests keep running."""
        for task in (self._poll, self._census):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._servers.close()
        await self._paths.close()
        await self._copies.close()
        await self._answers.close()
        await self._swaps.close()
        await self._state.effects.drain(DRAIN_S)
        await self._state.hypervisor.close()

    async def _poll_forever(self) -> None:
        since, first = 0, True
        loop = asyncio.get_running_loop()
        resync_at = loop.time() + RESYNC_S
        while True:
            unsure = set(self._state.unsure)
            if unsure or loop.time() > resync_at:
                since, resync_at = 0, loop.time() + RESYNC_S
            try:
                found = await self._ask_for_changes(since)
                if found is None:
                    continue
                if found.epoch > self._state.epoch:
                    # A registration that was carried twice, or late, counts now: nobody hears this one any more.
                    log.warning("registered anew", host=self._state.config.name, epoch=self._state.epoch)
                    await self._register()
                    self._state.reported.clear()
                    since, first = 0, True
                    continue
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if isinstance(error, KevelError):
                    log.warning("poll failed", host=self._state.config.name, reason=error.message)
                else:
                    log.exception("poll failed", host=self._state.config.name)
                await asyncio.sleep(POLL_AGAIN_S)
                continue
            self._answers.take(found.questions)
            # Only what was asked for after the answer had failed to come can tell what became of the report.
            self._state.unsure -= unsure
            self._take(found, whole=since == 0, first=first, unsure=unsure)
            since = max(since, found.version)
            if found.census_wanted > self._census_wanted:
                self._census_wanted = found.census_wanted
                self._census_due.set()
            first = False
            if self._census is None:
                self._census = asyncio.create_task(self._census_forever(), name="agent-census")

    async def _ask_for_changes(self, since: int) -> Assignments | None:
        """What changed since that version; None when everything must be read again instead, at once."""
        state = self._state
        state.read_again.clear()
        tasks = (
            asyncio.ensure_future(state.control.changes(state.config.name, since)),
            asyncio.ensure_future(state.read_again.wait()),
        )
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return tasks[0].result() if tasks[0].done() else None
        finally:
            for task in tasks:
                task.cancel()

    def _take(self, found: Assignments, *, whole: bool, first: bool, unsure: set[str]) -> None:
        state = self._state
        self._take_swaps(found, whole=whole)
        if whole:
            known = {path_id for paths in state.paths_of.values() for path_id in paths}
            for path_id in known.difference(path.id for path in found.paths):
                state.forget_path(path_id)
            # Nothing of these is left here, and by now they may be another host's.
            left = {key for key, server in state.servers.items() if server.goal is ServerGoal.OFFLOADED}
            for server_id in left.difference(server.id for server in found.servers):
                state.forget_server(server_id)
        for path in found.paths:
            if path.hands is not Hands.HOST:
                state.forget_path(path.id)
                if path.rung is Rung.RELEASED and (path.server_id, path.alias) in self._strangers:
                    state.left[path.id] = path
                    self._paths.wake(path.id)
                continue
            # The same once more: somebody wants it looked at.
            if first or (not whole and state.paths.get(path.id) == path):
                state.suspect.add(path.id)
            state.paths[path.id] = path
            self._familiar.add((path.server_id, path.alias))
            state.paths_of[path.server_id][path.id] = path.alias
            self._paths.wake(path.id)
        for server in found.servers:
            same = state.servers.get(server.id) == server
            if first or (same and not whole):
                state.suspect.add(server.id)
            state.servers[server.id] = server
            self._familiar.add((server.id, ""))
            # A report that failed is made again by its look's own backoff: reading the same again is no news.
            if not (same and server.id in unsure):
                self._wake(server.id)

        self._take_copies(found, whole=whole)
        for swap_id in state.swaps:
            self._swaps.wake(swap_id)  # its paths may have moved

    def _take_swaps(self, found: Assignments, *, whole: bool) -> None:
        """Before the paths, whose looks ask whether their disk is just being swapped."""
        state = self._state
        over = {swap.id for swap in found.swaps if swap.state.is_over}
        if whole:
            over |= set(state.swaps).difference(swap.id for swap in found.swaps)
        for swap_id in over:
            state.forget_swap(swap_id)
            self._swaps.wake(swap_id)  # its look forgets it too
        state.swaps |= {swap.id: swap for swap in found.swaps if not swap.state.is_over}

    def _take_copies(self, found: Assignments, *, whole: bool) -> None:
        state = self._state
        over = {copy.id for copy in found.copies if not copy.live}
        if whole:
            over |= set(state.copies).difference(copy.id for copy in found.copies)
        for copy_id in over:
            state.forget_copy(copy_id)
            self._copies.wake(copy_id)  # its look forgets it too
        for copy in found.copies:
            if copy.live:
                state.copies[copy.id] = copy
                self._copies.wake(copy.id)

    async def _census_forever(self) -> None:
        """Compare what is assigned with what is there, now and then and when asked: what differs is looked at (L3)."""
        state = self._state
        while True:
            self._census_due.clear()
            number = self._census_wanted
            self._censuses += 1
            # What is let go of while the host is being listed is no stranger.
            familiar = self._familiar
            self._familiar = {(path.server_id, path.alias) for path in state.paths.values()}
            self._familiar |= {(server_id, "") for server_id in state.servers}
            try:
                views = await state.hypervisor.observe_all()
                census = self._compare(number, {view.server_id: view for view in views}, familiar | self._familiar)
                await state.control.take_census(state.config.name, state.epoch, census)
            except asyncio.CancelledError:
                raise
            except Exception:
                log.warning("census failed", host=state.config.name, exc_info=True)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._census_due.wait(), CENSUS_S)

    def _compare(self, number: int, views: dict[str, ServerView], familiar: set[tuple[str, str]]) -> HostCensus:
        """Nothing is acted on from here: what differs is put up for a look, and the records judge what is unknown."""
        state = self._state
        for path in list(state.paths.values()):
            view = views.get(path.server_id)
            if path.rung is Rung.PLUGGED and not (view is not None and view.has_disk(path.alias)):
                state.suspect.add(path.id)
                self._paths.wake(path.id)
        differing: list[ServerSight] = []
        for server in list(state.servers.values()):
            view = views.get(server.id)
            runs = view is not None and view.runs
            if server.rung.has_process != runs:
                differing.append(ServerSight(server_id=server.id, revision=server.revision, runs=runs))
            if server.rung.has_process != runs or (view is not None and _is_other(server.rung, view.power)):
                state.suspect.add(server.id)
                self._servers.wake(server.id)
        seen = {(view.server_id, "") for view in views.values()}
        for view in views.values():
            seen |= {(view.server_id, disk.alias) for disk in (*view.live, *view.persistent)}
        self._strangers = seen - familiar
        strangers = [Stranger(server_id=server_id, alias=alias) for server_id, alias in sorted(self._strangers)]
        return HostCensus(
            sequence=self._censuses,
            number=number,
            servers=len(views),
            disks=tuple(_see_disk(path, views.get(path.server_id)) for path in state.paths.values()),
            differing=tuple(differing),
            strangers=tuple(strangers[:STRANGERS_MAX]),
        )

    def hear(self, event: Event) -> None:
        """An event of the hypervisor: only a reason to look."""
        state = self._state
        if event.kind is EventKind.RECONNECTED:
            for server_id in list(state.servers):
                self._suspect(server_id)
            return
        if event.kind is EventKind.DISK_REMOVED:
            state.removed.add(event.alias)
            self._suspect_disk(event.server_id, event.alias)
            return
        if event.kind is EventKind.REBOOTED:
            state.rebooted.add(event.server_id)
        if event.server_id in state.servers or state.paths_of.get(event.server_id):
            self._suspect(event.server_id)

    def _suspect_disk(self, server_id: str, alias: str) -> None:
        """Look at the path of that disk: looks at the server and its other disks would only make it wait its turn."""
        for path_id, known in self._state.paths_of.get(server_id, {}).items():
            if known == alias:
                self._state.suspect.add(path_id)
                self._paths.wake(path_id)
        for path in self._state.left.values():
            if (path.server_id, path.alias) == (server_id, alias):
                self._paths.wake(path.id)

    def _suspect(self, server_id: str) -> None:
        self._state.suspect.add(server_id)
        self._state.suspect.update(self._state.paths_of[server_id])
        self._wake(server_id)

    def _wake(self, server_id: str) -> None:
        self._servers.wake(server_id)
        for path_id in self._state.paths_of[server_id]:
            self._paths.wake(path_id)


def _is_other(rung: ServerRung, power: PowerState) -> bool:
    """Does the hypervisor show a pause or a suspension that is not recorded, or none where one is?"""
    kinds = ((ServerRung.PAUSED, PowerState.PAUSED), (ServerRung.SUSPENDED, PowerState.SUSPENDED))
    return any((rung is wanted) != (power is seen) for wanted, seen in kinds)


def _see_disk(path: PathAssignment, view: ServerView | None) -> DiskSight:
    if view is None:
        return DiskSight(path_id=path.id, revision=path.revision, live=None, persistent=False)
    return DiskSight(
        path_id=path.id,
        revision=path.revision,
        live=view.live_disk(path.alias) is not None if view.runs else None,
        persistent=view.persistent_disk(path.alias) is not None,
    )
