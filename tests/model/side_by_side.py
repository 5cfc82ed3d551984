"""Model and system side by side: Hypothesis draws what users ask for and what goes wrong, and shrinks what fails.

Each rule lets some users ask for something, alone or at once, or lets something happen: time passes, a process dies, a
guest ends, the next call but three loses its reply. After each rule the model has to explain every answer. Faults are
such as cost time, so nothing may be seen that would not be seen without them.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import Any, Final

import structlog
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.model.actions import check_actions
from tests.model.histories import HARMLESS, RETRY_S_MAX, TEMPERS, keeps_disks, refuses_disks
from tests.model.linearizability import Watch
from tests.model.model import Place, ServerMachine, VolumeMachine
from tests.model.users import Users
from tests.simulation.faults import Fault
from tests.simulation.run import Run, Setting

SERVERS_MAX: Final = 4
VOLUMES_MAX: Final = 4
SIZE_GIB_MAX: Final = 4
OWNERS: Final = st.sampled_from(("ann", "bob", "cid"))
USERS: Final = st.sampled_from(("ann", "bob", "cid", "root"))
NUMBERS: Final = st.integers(0, SERVERS_MAX - 1)
ON_SERVERS: Final = (
    "show_server", "attached", "start", "stop", "reboot_soft", "reboot_hard", "lock", "unlock", "delete_server",
    "pause", "unpause", "suspend", "resume", "rescue", "unrescue", "rebuild", "resize", "confirm", "revert",
)  # fmt: skip
ON_VOLUMES: Final = ("show", "extend", "delete")
ON_BOTH: Final = ("attach", "attach", "attach", "detach", "detach")
VERBS: Final = st.sampled_from((*ON_SERVERS, *ON_VOLUMES, *ON_BOTH, *ON_BOTH, "list", "list_servers"))
ASKS: Final = st.tuples(USERS, VERBS, NUMBERS, NUMBERS, st.integers(1, SIZE_GIB_MAX), st.booleans())
Asked = tuple[str, str, int, int, int, bool]
PAUSES: Final = st.sampled_from((0.0, 0.004, 0.02, 0.5, 3.0, 70.0))
#: Where the next fault is: so many points from now.
POINTS_MAX: Final = 60


class SideBySide(RuleBasedStateMachine):
    """One Kevel and its model."""

    def __init__(self) -> None:
        super().__init__()
        self.run: Run | None = None
        self.watches: dict[str, Watch] = {}
        #: The facts grow as things are made; the machines hold on to these very ones.
        self.projects: dict[str, str] = {}
        self.keepers: set[str] = set()
        self.refusers: set[str] = set()
        self.shared: set[str] = set()
        self._place = Place(self.projects, shared=self.shared, keepers=self.keepers, refusers=self.refusers)
        self._followed = 0
        self._logging = structlog.get_config()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    @initialize(seed=st.integers(0, 1000), apart=st.booleans())
    def begin(self, seed: int, apart: bool) -> None:
        setting = Setting(random.Random(seed))
        setting.apart, setting.hosts, setting.lost_host = apart, ["sim0", "sim1"] if apart else ["sim0"], False
        self.run = Run(seed, setting=setting, script={})
        self.users = Users(self.run)
        self._do(self._start())
        self.run.faults.on = True

    async def _start(self) -> None:
        for slot in self._sim.slots:
            assert await slot.start(), f"{slot.label} does not start"
        await self.users.make_shared_type()
        for temper in (TEMPERS[0], TEMPERS[1]):
            await self._make_server("ann", temper)
        await self.users.ask("ann", "create", size=1)
        await self.users.ask("bob", "create", size=1)
        await asyncio.sleep(1.0)

    @property
    def _sim(self) -> Run:
        assert self.run is not None
        return self.run

    def _do(self, coro: Coroutine[Any, Any, Any]) -> None:
        self._sim.loop.run_until_complete(coro)

    async def _make_server(self, user: str, temper: dict[str, str]) -> None:
        reply = await self.users.ask(user, "create_server")
        if reply is not None and reply.status == 202:
            server = reply.body["server"]["id"]
            self.keepers |= {server} if keeps_disks(temper) else set()
            self.refusers |= {server} if refuses_disks(temper) else set()
            for host in self._sim.world.hosts.values():
                host.hypervisor.temper(server, temper)

    @rule(asks=st.lists(ASKS, min_size=1, max_size=3), then_s=PAUSES)
    def ask(self, asks: list[Asked], then_s: float) -> None:
        """Users ask, at once if they are several."""
        self._do(self._ask_together(asks, then_s))

    @rule(users=st.tuples(USERS, USERS), verb=st.sampled_from(ON_BOTH), server=NUMBERS, volume=NUMBERS, then_s=PAUSES)
    def race(self, users: tuple[str, str], verb: str, server: int, volume: int, then_s: float) -> None:
        """Two users want the same volume, in the same server or in two."""
        first, second = users
        asks = [(first, verb, server, volume, 1, False), (second, "attach", server + 1, volume, 1, False)]
        self._do(self._ask_together(asks, then_s))

    @rule(user=USERS, server=NUMBERS, volume=NUMBERS, deletes=st.booleans(), then_s=PAUSES)
    def attach(self, user: str, server: int, volume: int, deletes: bool, then_s: float) -> None:
        self._do(self._ask_together([(user, "attach", server, volume, 1, deletes)], then_s))

    @rule(user=USERS, number=NUMBERS, then_s=PAUSES)
    def detach(self, user: str, number: int, then_s: float) -> None:
        """A user wants back a volume that a server has, as far as is known."""
        volumes = [*self.users.made("create")]
        volume = volumes[number % len(volumes)]
        holders = sorted({hold.server for state in self.watches[volume].states for hold in state.holds})
        servers = [*self.users.made("create_server")]
        server = servers.index(holders[0]) if holders else number
        self._do(self._ask_together([(user, "detach", server, volumes.index(volume), 1, False)], then_s))

    async def _ask_together(self, asks: list[Asked], then_s: float) -> None:
        servers, volumes = [*self.users.made("create_server")], [*self.users.made("create")]
        calls = []
        for user, verb, server, volume, size, deletes in asks:
            more: dict[str, Any] = {}
            if verb in ON_SERVERS or verb in ON_BOTH:
                more["server"] = servers[server % len(servers)]
            if verb in ON_VOLUMES or verb in ON_BOTH:
                more["volume"] = volumes[volume % len(volumes)]
            if verb == "extend":
                more["size"] = size
            if verb == "attach":
                more["deletes"] = deletes
            calls.append(self.users.ask(user, verb, **more))
        await asyncio.gather(*calls)
        await asyncio.sleep(then_s)

    @precondition(lambda self: len(self.users.made("create_server")) < SERVERS_MAX)
    @rule(user=OWNERS, temper=st.sampled_from(TEMPERS))
    def create_server(self, user: str, temper: dict[str, str]) -> None:
        self._do(self._make_server(user, temper))

    @precondition(lambda self: len(self.users.made("create")) < VOLUMES_MAX)
    @rule(user=OWNERS, size=st.integers(1, SIZE_GIB_MAX), shared=st.booleans())
    def create_volume(self, user: str, size: int, shared: bool) -> None:
        self._do(self.users.ask(user, "create", size=size, shared=shared))

    @rule(number=NUMBERS)
    def end_guest(self, number: int) -> None:
        servers = [*self.users.made("create_server")]
        server = servers[number % len(servers)]
        self.users.note_guest_ends(server)
        for host in self._sim.world.hosts.values():
            host.hypervisor.crash_guest(server)

    @rule(number=st.integers(0, 2))
    def kill(self, number: int) -> None:
        """A process dies now."""
        self._sim.slots[number % len(self._sim.slots)].crash()

    @rule(fault=st.sampled_from(sorted(HARMLESS, key=lambda fault: fault.value)), points=st.integers(0, POINTS_MAX))
    def plan_fault(self, fault: Fault, points: int) -> None:
        """Something goes wrong soon, if that can go wrong there."""
        faults = self._sim.faults
        faults.script = {**(faults.script or {}), len(faults.points) + points: fault}

    @rule()
    def settle(self) -> None:
        """Once nothing goes wrong any more everything ends, and the model may be at rest."""
        self._do(self._settle())
        self._follow()
        for name, watch in self.watches.items():
            assert watch.may_rest, f"{name} does not rest: {watch.states}"

    async def _settle(self) -> None:
        sim = self._sim
        sim.faults.script = {}
        await sim.until(sim.checker.find_unfinished)
        await asyncio.sleep(RETRY_S_MAX)
        await self._look()
        await check_actions(self.users)

    @invariant()
    def model_explains(self) -> None:
        """What everybody was told, and what everything looks like now."""
        if self.run is not None:
            self._do(self._look())
            self._follow()

    async def _look(self) -> None:
        await self.users.ask("root", "list")
        await self.users.ask("root", "list_servers")

    def _follow(self) -> None:
        exchanges = self.users.exchanges[self._followed :]
        self._followed = len(self.users.exchanges)
        self.shared |= self.users.shared
        self.projects |= self.users.made("create") | self.users.made("create_server")
        for thing, operations in self.users.split(exchanges).items():
            if thing not in self.watches:
                made = self.users.made("create")
                make = VolumeMachine if thing in made else ServerMachine
                self.watches[thing] = Watch(f"{make.__name__} {thing}", make(thing, self._place))
            self.watches[thing].follow(operations)

    def teardown(self) -> None:
        if self.run is not None:
            try:
                self.settle()
            finally:
                self.run.loop.dead.update(range(self.run._numbers + 1))
                self.run.close()
        structlog.configure(**self._logging)
