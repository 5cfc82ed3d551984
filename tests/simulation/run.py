"""One run: a world, a Kevel whose processes are killed and started again, users who ask for things, and the checks."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import random
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextvars import Context
from typing import Any, TypeVar, cast

import structlog
from sqlalchemy.exc import OperationalError

from kevel.control.hosts.hosts import Hosts
from kevel.control.servers.servers import NewServer
from kevel.control.volumes.volumes import NewVolume
from kevel.domain.errors import KevelError
from kevel.domain.ladder import Rung
from kevel.domain.model import BootKind
from tests.simulation.blocks import Blocks
from tests.simulation.checks import Checker
from tests.simulation.faults import Fault, Faults
from tests.simulation.loop import SimLoop
from tests.simulation.network import Network
from tests.simulation.processes import AgentProcess, ControlProcess, KevelProcess, Slot, inside
from tests.simulation.store import make_memory_engine
from tests.simulation.users import (
    MADE,
    USER,
    Request,
    ask_life,
    attach,
    confirm_resize,
    delete_backup,
    delete_server,
    delete_snapshot,
    delete_volume,
    detach,
    draw_request,
    end_declared,
    end_shape,
    reboot,
    reset_status,
)
from tests.simulation.world import World

T = TypeVar("T")

#: Virtual seconds in which everything must have ended once faults have stopped: the longest deadline, the largest jump
#: of a clock, and some sweeps.
CALM_S = 1500.0
CLOCK_JUMP_S_MAX = 300.0
DISK_FULL_S_MAX = 30.0
STEPS_MAX = 2_000_000
USERS = 3
REQUESTS_EACH = 14
SERVERS = 4
VOLUMES = 3
#: Servers, and volumes, that users know of.
KNOWN_MAX = 8
FREE = (frozenset[Rung](), frozenset({Rung.CONNECTED}), frozenset({Rung.EXPORTED, Rung.CONNECTED}))
#: How guests behave besides: the first of each run is kind.
TEMPERS: tuple[dict[str, str], ...] = (
    {},
    {"sim:unplug": "refuse"},
    {"sim:unplug": "slow:4"},
    {"sim:unplug": "lie"},
    {"sim:plug": "refuse"},
    {"sim:shutdown": "refuse"},
)


class Setting:
    """What a run is made of, drawn from its seed."""

    def __init__(self, dice: random.Random) -> None:
        #: Agents in processes of their own, or everything in one.
        self.apart = dice.random() < 0.6
        self.hosts = [f"sim{number}" for number in range(dice.randint(1, 3) if self.apart else 1)]
        self.effect_free = dice.choice(FREE)
        self.tempers = [TEMPERS[0], *(dice.choice(TEMPERS) for _ in range(SERVERS - 1))]
        #: A host that is gone for good, as far as the others can tell.
        self.lost_host = self.apart and dice.random() < 0.15
        #: Chances of what befalls it besides faults, at each request.
        self.mishap = dice.choice((0.0, 0.05, 0.15))
        #: After a loss of power, definitions have disks again that had been taken out of them.
        self.forgetful = dice.random() < 0.5


class Run:
    """Everything of one seed. `script` replaces the drawn faults; `skip` leaves out requests, by their number."""

    def __init__(
        self,
        seed: int,
        *,
        script: Mapping[int, Fault] | None = None,
        skip: Collection[int] = (),
        setting: Setting | None = None,
        story: bool = False,
    ) -> None:
        self.seed = seed
        self.setting = setting or Setting(random.Random(f"{seed} setting"))
        self.dice = random.Random(f"{seed} world")
        self.loop = SimLoop(random.Random(f"{seed} loop"), STEPS_MAX)
        self.outside = contextvars.copy_context()
        self.faults = Faults(random.Random(f"{seed} faults"), script)
        self.faults.draw_chances(random.Random(f"{seed} chances"))
        self.skip = skip
        #: What happened: (virtual seconds, who, what); None when nobody asked for it.
        self.story: list[tuple[float, str, str]] | None = [] if story else None
        self.database = make_memory_engine()
        self.conn = self.database.connect()
        self.world = World(
            self.loop,
            self.dice,
            self.faults,
            self.setting.hosts,
            effect_free=self.setting.effect_free,
            forgetful=self.setting.forgetful,
        )
        self.network = Network(self.loop, self.faults, self.outside)
        self.checker = Checker(self.conn, self.world)
        self.world.crash, self.world.crash_other = self.crash, self.crash_other
        self.world.lose_power = self.lose_power
        self.blocks = Blocks(self.world, self.checker.rows)
        self.world.after_effect = self.check_now
        self.world.tell = self.network.tell = self.tell
        self.disk_full_until = 0.0
        self.crashes = 0
        self.operations = 0
        self.servers: list[str] = []
        self.volumes: list[str] = []
        self._numbers = 0
        self.slots = self._make_slots()

    def _make_slots(self) -> list[Slot]:
        hosts = list(self.world.hosts.values())
        if not self.setting.apart:
            return [Slot(self, "kevel", KevelProcess, hosts[0])]
        agents = [Slot(self, f"agent {host.name}", AgentProcess, host) for host in hosts]
        return [Slot(self, "control", ControlProcess, None), *agents]

    def tell(self, who: str, what: str) -> None:
        """Add to the story, if one is told."""
        if self.story is not None:
            self.story.append((self.loop.time(), who, what))

    def check_now(self, name: str) -> None:
        """Called with the name of each effect that has just landed, and of each commit."""
        self.checker.check_now(name)
        self.blocks.write_all(name)

    def next_number(self) -> int:
        """The number of the next life of any process."""
        self._numbers += 1
        return self._numbers

    @property
    def control(self) -> ControlProcess | None:
        """The control plane of the moment."""
        return cast("ControlProcess | None", self.slots[0].process)

    def find_hosts(self) -> tuple[Hosts, Context] | None:
        """Where agents' messages arrive now."""
        control = self.control
        return None if control is None else (control.workers.hosts, control.context)

    def crash(self, number: int) -> None:
        """The process of that number is gone."""
        for slot in self.slots:
            if slot.process is not None and slot.process.number == number:
                slot.crash()

    def crash_other(self, number: int) -> None:
        """Another process than that one dies: the control plane at an agent's point, or else the agents."""
        control = self.slots[0].process
        is_control = control is not None and control.number == number
        for slot in self.slots[1:] if is_control else self.slots[:1]:
            slot.crash()

    def lose_power(self, host: str | None) -> None:
        """That host loses power; the first one where none is named."""
        agents = [slot for slot in self.slots if slot.host is not None]
        next((slot for slot in agents if slot.host is not None and slot.host.name == host), agents[0]).lose_power()

    async def ask(self, request: Request) -> bool:
        """Whether a user's request was accepted; not when it was refused, failed, or never answered."""
        self.operations += 1
        what = " ".join(word for word in (request.name, request.server[:8], request.volume[:8]) if word)
        self.tell("user", f"asks: {what}")
        try:
            await self.call(request.send)
        except (KevelError, OperationalError) as error:
            self.tell("user", f"is refused {what}: {error}"[:160])
            self.checker.check_refusal(request.name, error)
            return False
        except TimeoutError:
            self.tell("user", f"hears nothing of {what}")
            return False
        self.tell("user", f"is accepted: {what}")
        return True

    async def call(self, send: Callable[[ControlProcess], Coroutine[Any, Any, T]]) -> T:
        """Call the control plane as the API does, once there is one. Raises TimeoutError when it stays silent."""
        while self.control is None:
            await asyncio.sleep(0.1)
        return await inside(self.loop, self.control, send(self.control))

    def play(self) -> None:
        """The whole run. Raises AssertionError when an invariant breaks or something does not end."""
        self.play_out(self._play())

    def play_out(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Run a scenario of one's own in this world."""
        logging_before = structlog.get_config()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        try:
            self.loop.run_until_complete(scenario)
        finally:
            self.loop.dead.update(range(self._numbers + 1))
            structlog.configure(**logging_before)

    def close(self) -> None:
        """Forget the database and what is left of the processes."""
        self.loop.close()
        self.conn.close()
        self.database.dispose()

    async def _play(self) -> None:
        await self.furnish(self.setting.tempers, VOLUMES)
        self.faults.on = True
        users = [self.loop.create_task(self._use(number)) for number in range(USERS)]
        await asyncio.wait(users)
        for user in users:
            user.result()
        await self._calm_down()

    async def furnish(self, tempers: Collection[Mapping[str, str]], volumes: int) -> None:
        """Start the processes; make a server for each temper, and volumes. No faults yet."""
        for slot in self.slots:
            assert await slot.start(), f"{slot.label} does not start"
        for number, temper in enumerate(tempers):
            new = NewServer(name=f"s{number}", description=None, flavor="tiny", image_id="image", metadata={})
            made = await self.call(lambda process, new=new: process.servers.create(USER, new))  # type: ignore[misc]
            self.servers.append(made[0].id)
            self.world.hosts[made[0].host].hypervisor.temper(made[0].id, temper)
        for _ in range(volumes):
            view = await self.call(lambda process: process.volumes.create(USER, NewVolume(size_gib=1)))
            self.volumes.append(view.volume.id)
        await self.until(self.checker.find_unfinished)

    async def _use(self, user: int) -> None:
        for number in range(user, USERS * REQUESTS_EACH, USERS):
            if number in self.skip:
                continue
            dice = random.Random(f"{self.seed} request {number}")
            self._learn()
            request = draw_request(dice, self.servers, self.volumes)
            await self.ask(request)
            await asyncio.sleep(dice.random() ** 4 * 20.0)
            if dice.random() < self.setting.mishap:
                self._befall(dice)

    def _learn(self) -> None:
        """Users see what others have made."""
        for known, sql in ((self.servers, _SERVERS), (self.volumes, _VOLUMES)):
            news = [row["id"] for row in self.checker.rows(sql) if row["id"] not in known]
            known.extend(news[: KNOWN_MAX - len(known)])

    def _befall(self, dice: random.Random) -> None:
        """Something outside happens."""
        slot = dice.choice(self.slots)
        match dice.randrange(6):
            case 0:
                slot.crash()
            case 1:
                server = dice.choice(self.servers)
                self.tell("world", f"the guest of {server[:8]} dies")
                for host in self.world.hosts.values():
                    host.hypervisor.crash_guest(server)
            case 2:
                slot.clock_off_s = dice.uniform(-CLOCK_JUMP_S_MAX, CLOCK_JUMP_S_MAX)
                self.tell(slot.label, f"its clock jumps to {slot.clock_off_s:+.0f} s")
            case 3:
                self.disk_full_until = self.loop.time() + dice.random() * DISK_FULL_S_MAX
                self.tell("world", "the disk is full")
            case 4:
                for host in self.world.hosts.values():
                    host.forget_jobs()
                self.tell("world", "the hypervisors forget what guests were asked")
            case _:
                slot.lose_power()

    async def _calm_down(self) -> None:
        """Faults stop; everything asked for must end within its bound, and everything must be let go of."""
        silent = await self._stop_faults()
        await self.until(lambda: self.checker.find_unfinished(silent))
        for slot in self.slots:
            slot.stays_down = False
        self._soothe()
        if silent:
            await self.until(self.checker.find_unfinished)
        await self._wake_all()
        await self.release()
        self.checker.check_journal()
        await self._attach_all()
        await self.release()
        await self.clear()

    async def _stop_faults(self) -> set[str]:
        self.faults.on = False
        self.disk_full_until = 0.0
        self.network.heal()
        self.tell("world", "no more faults")
        for slot in self.slots:
            slot.clock_off_s = 0.0
        silent: set[str] = set()
        if self.setting.lost_host:
            slot = self.slots[-1]
            assert slot.host is not None
            slot.stays_down = True
            slot.lose_power()
            silent.add(slot.host.name)
        return silent

    def _soothe(self) -> None:
        for host in self.world.hosts.values():
            for server in self.servers:
                host.hypervisor.soothe(server)

    async def _wake_all(self) -> None:
        """Bring every server to where its volumes may go, and delete those that keep the ones that they boot from."""
        self._learn()
        for row in self.checker.rows(_MADE_SERVERS):
            await self.ask(delete_server(row["id"]))
        for wake in (
            lambda server: end_shape(server, "unrescue"),
            confirm_resize,
            lambda server: ask_life(server, "unpause"),
            lambda server: ask_life(server, "resume"),
        ):
            for server in self.servers:
                await self.ask(wake(server))
            await self.until(self.checker.find_unfinished)

    async def release(self) -> None:
        """Detach everything, and see that nothing is held any more (L2)."""
        for server in self.servers:
            for volume in self.volumes:
                await self.ask(detach(server, volume))
        for volume in self.volumes:
            await self.ask(end_declared(volume))
        await self.until(self.checker.find_held)

    async def _attach_all(self) -> None:
        """What is asked for without faults succeeds: each volume gets into a server."""
        for number, volume in enumerate(self.volumes[:VOLUMES]):
            server = self.servers[number % SERVERS]
            await self.expect_attach(server, volume)

    async def expect_attach(self, server: str, volume: str) -> None:
        """An attach without faults succeeds, on a server that is there."""
        known = {row["id"]: row for row in self.checker.rows("SELECT * FROM servers WHERE deleted_at IS NULL")}
        # One whose delete failed may be gone already: it can only be deleted again.
        there = {row["id"] for row in self.checker.rows(_WHOLE_VOLUMES)}
        if server not in known or known[server]["goal"] == "deleted" or volume not in there:
            return
        await self.ask(reset_status(volume))
        for bring_back in (reboot(server, BootKind.HARD), end_shape(server, "unrescue")):
            await self.ask(bring_back)  # a reboot starts one that is stopped or failed too, from where it was
            await self.until(self.checker.find_unfinished)
        assert await self.ask(attach(server, volume)), f"attach of {volume} to {server} is refused"
        await self.until(lambda: self.checker.find_missing(server, volume))

    async def clear(self) -> None:
        """Delete everything, and see that nothing is left."""
        for server in self.servers:
            await self.ask(delete_server(server))
        for row in self.checker.rows("SELECT id FROM snapshots WHERE live = 1"):
            await self.ask(delete_snapshot(row["id"]))
        for row in self.checker.rows("SELECT id FROM backups WHERE live = 1"):
            await self.ask(delete_backup(row["id"]))
        await self.until(self.checker.find_kept)
        for row in self.checker.rows("SELECT id FROM volumes WHERE deleted_at IS NULL"):
            await self.ask(delete_volume(row["id"]))
        await self.until(self.checker.find_residue)

    async def until(self, find: Callable[[], list[str]]) -> None:
        """Wait until nothing is found any more. Raises AssertionError when that takes too long."""
        deadline = self.loop.time() + CALM_S
        while left := find():
            assert self.loop.time() < deadline, f"not ended within {CALM_S:g} s: {'; '.join(left[:5])}"
            await asyncio.sleep(1.0)


_SERVERS = "SELECT id FROM servers WHERE deleted_at IS NULL ORDER BY created_at, id"
_VOLUMES = "SELECT id FROM volumes WHERE deleted_at IS NULL ORDER BY created_at, id"
_MADE_SERVERS = f"SELECT id FROM servers WHERE deleted_at IS NULL AND name = '{MADE}'"  # noqa: S608
_WHOLE_VOLUMES = """
    SELECT id FROM volumes WHERE deleted_at IS NULL AND made AND (fault IS NULL OR fault NOT LIKE '%deleting_failed%')
"""


def replay(run: Run) -> AssertionError | None:
    """Play it and close it; what broke, if anything."""
    with contextlib.closing(run):
        try:
            run.play()
        except AssertionError as error:
            return error
    return None
