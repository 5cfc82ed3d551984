"""One run: a world, a Kevel that is killed and started again, users who ask for things, and the checks."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import random
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from sqlalchemy.exc import OperationalError

from kevel.cli.engine import Engine
from kevel.control.flavors import Flavors
from kevel.control.runtime import Runtime
from kevel.control.secrets import KEY_BYTES, Sealer
from kevel.control.servers import NewServer, Servers
from kevel.control.volume_types import VolumeTypes
from kevel.control.volumes import NewVolume, Volumes
from kevel.domain.errors import KevelError
from kevel.domain.images import ImageForServer
from kevel.domain.ladder import Rung
from kevel.domain.limits import Limits
from kevel.domain.model import Actor, BootKind
from kevel.host.state import HostConfig
from tests.simulation.checks import Checker
from tests.simulation.loop import PROCESS, SimLoop
from tests.simulation.store import IMAGE_FILE, SimStore, StoreFaults, make_memory_engine
from tests.simulation.world import SimDriver, SimPool, World

T = TypeVar("T")

LIMITS = Limits(sweep_every_s=5.0)
USER = Actor(user_id="u", project_id="p", request_id="req-sim", is_admin=True)
#: Virtual seconds that a user waits for an answer.
ANSWER_S = 30.0
#: Virtual seconds in which everything must have ended once faults have stopped: the longest deadline and some sweeps.
CALM_S = 600.0
STEPS_MAX = 2_000_000
REQUESTS = 40
FREE = (frozenset[Rung](), frozenset({Rung.CONNECTED}), frozenset({Rung.EXPORTED, Rung.CONNECTED}))


class SimClock:
    """Wall-clock time of a run."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def now_us(self) -> int:
        return 1_800_000_000_000_000 + int(self._loop.time() * 1e6)


class SimIds:
    """Ids from the dice."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def uuid(self) -> str:
        return str(uuid.UUID(int=self._dice.getrandbits(128), version=4))

    def secret(self) -> str:
        return f"{self._dice.getrandbits(256):064x}"

    def jitter(self) -> float:
        return self._dice.random()


class NoThreads:
    """Nothing in a simulated run may block, so nothing needs a thread."""

    async def run(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        raise AssertionError("the simulator has no threads")


class OneImage:
    """The image that every simulated server is made of."""

    async def get_for_server(self, actor: Actor, image_id: str) -> ImageForServer:
        return IMAGE


IMAGE = msgspec.convert(
    {
        "id": "image",
        "name": "image",
        "disk_format": "raw",
        "file": IMAGE_FILE,
        "size": 0,
        "virtual_size": 0,
        "min_disk_gib": 0,
        "min_ram_mib": 0,
        "kernel_file": None,
        "ramdisk_file": None,
        "properties": {},
    },
    type=ImageForServer,
)


class Process:
    """One life of Kevel."""

    def __init__(self, run: Run, number: int) -> None:
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, number)
        self.number = number
        self.context.run(self._build, run)

    def _build(self, run: Run) -> None:
        store = SimStore(run.conn, run.loop, run.dice, run.store_faults)
        runtime = Runtime(store=store, clock=SimClock(run.loop), ids=SimIds(run.dice), executor=NoThreads())
        pool = SimPool(run.world, run.outside)
        host = HostConfig(name="sim", availability_zone="nova", data_dir=Path("/sim"), limits=LIMITS)
        driver = SimDriver(run.world, run.outside)
        self.engine = Engine(runtime, {"sim": pool}, {"sim": pool}, driver, host, Sealer(bytes(range(KEY_BYTES))))
        self.flavors = Flavors(runtime)
        self.types = VolumeTypes(runtime)
        images: Any = OneImage()
        self.servers = Servers(runtime, images, self.flavors, LIMITS)
        self.volumes = Volumes(runtime, pool, LIMITS, host="sim", availability_zone="nova")
        self.attachments = self.engine.workers.attachments

    async def start(self) -> None:
        await self.flavors.bootstrap()
        await self.types.bootstrap()
        await self.engine.start()


class Run:
    """Everything of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        self.loop = SimLoop(self.dice, STEPS_MAX)
        self.outside = contextvars.copy_context()
        self.database = make_memory_engine()
        self.conn = self.database.connect()
        self.world = World(self.loop, self.dice, effect_free=self.dice.choice(FREE))
        self.world.crash = self.crash
        self.store_faults = StoreFaults(self.dice, self.crash)
        self.checker = Checker(self.conn, self.world)
        self.world.after_effect = self.checker.after_effect
        self.process: Process | None = None
        self.crashes = 0
        self.operations = 0
        self.servers: list[str] = []
        self.volumes: list[str] = []

    def crash(self) -> None:
        """The process is gone, now; it is started again some time later."""
        if self.process is None:
            return
        self.loop.dead.add(self.process.number)
        self.process = None
        self.crashes += 1
        self.loop.create_task(self._restart(), context=self.outside)

    async def _restart(self) -> None:
        await asyncio.sleep(self.dice.random() * 3.0)
        await self.world.settle_calls()
        process = Process(self, self.crashes + 1)
        self.process = process
        try:
            await self._inside(process, process.start())
        except (KevelError, OperationalError):
            # `kevel up` ends with an error then, and is started again by whoever looks after it.
            if self.process is process:
                self.crash()

    async def _inside(self, process: Process, coro: Coroutine[Any, Any, T]) -> T | None:
        """Run it in the process; None when the process has not answered in time, dead or not."""
        task = self.loop.create_task(coro, context=process.context)
        done, _ = await asyncio.wait({task}, timeout=ANSWER_S)
        return task.result() if done else None

    async def ask(self, make: Callable[[Process], Coroutine[Any, Any, T]]) -> T | None:
        """What a user gets: the answer, or None for a refusal or silence."""
        while self.process is None:
            await asyncio.sleep(0.1)
        self.operations += 1
        with contextlib.suppress(KevelError, OperationalError):
            return await self._inside(self.process, make(self.process))
        return None

    def play(self) -> None:
        """The whole run. Raises AssertionError when an invariant breaks or something does not end."""
        logging_before = structlog.get_config()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        try:
            self.loop.run_until_complete(self._play())
        finally:
            self.loop.dead.update(range(self.crashes + 2))
            structlog.configure(**logging_before)

    def close(self) -> None:
        """Forget the database and what is left of the processes."""
        self.loop.close()
        self.conn.close()
        self.database.dispose()

    async def _play(self) -> None:
        self.process = Process(self, 1)
        await self._inside(self.process, self.process.start())
        await self._furnish()
        self._begin_faults()
        users = [self.loop.create_task(self._use()) for _ in range(3)]
        await asyncio.wait(users)
        for user in users:
            user.result()
        await self._calm_down()

    async def _furnish(self) -> None:
        tempers: list[dict[str, str]] = [{}, {}, {"sim:unplug": "refuse"}]
        for number in range(3):
            new = NewServer(name=f"s{number}", description=None, flavor="tiny", image_id="image", metadata={})
            made = await self.ask(lambda process, new=new: process.servers.create(USER, new))  # type: ignore[misc]
            assert made is not None
            self.servers.append(made[0].id)
            self.world.host.temper(made[0].id, tempers[number])
        for _ in range(3):
            view = await self.ask(lambda process: process.volumes.create(USER, NewVolume(size_gib=1)))
            assert view is not None
            self.volumes.append(view.volume.id)
        await asyncio.sleep(5.0)

    def _begin_faults(self) -> None:
        dice, chances = self.dice, self.world.chances
        for name in vars(chances):
            if dice.random() < 0.5:
                setattr(chances, name, dice.random() * 0.1)
        for name in ("crash_in_batch", "crash_after_commit", "statement_error"):
            if dice.random() < 0.5:
                setattr(self.store_faults, name, dice.random() * 0.05)

    async def _use(self) -> None:
        for _ in range(REQUESTS // 3):
            await self.ask(self._request())
            await asyncio.sleep(self.dice.random() ** 4 * 20.0)
            if self.dice.random() < 0.05:
                self.world.host.crash_guest(self.dice.choice(self.servers))
            if self.dice.random() < 0.05:
                self.crash()

    def _request(self) -> Callable[[Process], Coroutine[Any, Any, Any]]:
        dice = self.dice
        server, volume = dice.choice(self.servers), dice.choice(self.volumes)
        kind = dice.choice(list(BootKind))
        requests: list[Callable[[Process], Coroutine[Any, Any, Any]]] = [
            lambda process: process.attachments.detach(USER, server, volume),
            lambda process: process.servers.stop(USER, server),
            lambda process: process.servers.start(USER, server),
            lambda process: process.servers.reboot(USER, server, kind),
            lambda process: process.volumes.extend(USER, volume, dice.randint(2, 5), in_use=True),
            lambda process: process.servers.delete(USER, server),
            lambda process: process.volumes.delete(USER, volume, force=False),
        ]

        def attach(process: Process) -> Coroutine[Any, Any, Any]:
            return process.attachments.attach(
                USER, server, volume, device=None, tag=None, delete_on_termination=dice.random() < 0.1
            )

        return dice.choices([attach, *requests], weights=[10, 8, 2, 3, 2, 1, 0.4, 0.3])[0]

    async def _calm_down(self) -> None:
        """Faults stop; everything asked for must end within its bound, and everything must be let go of."""
        self.world.chances.stop()
        for name in ("crash_in_batch", "crash_after_commit", "statement_error"):
            setattr(self.store_faults, name, 0.0)
        await self._until(self.checker.find_unfinished)
        for server in self.servers:
            self.world.host.soothe(server)
        for server in self.servers:
            for volume in self.volumes:
                await self.ask(
                    lambda process, s=server, v=volume: process.attachments.detach(USER, s, v)  # type: ignore[misc]
                )
        await self._until(self.checker.find_held)
        self.checker.check_journal()
        for server in self.servers:
            await self.ask(lambda process, s=server: process.servers.delete(USER, s))  # type: ignore[misc]
        for volume in self.volumes:
            await self.ask(lambda process, v=volume: process.volumes.delete(USER, v, force=False))  # type: ignore[misc]
        await self._until(self.checker.find_residue)

    async def _until(self, find: Callable[[], list[str]]) -> None:
        deadline = self.loop.time() + CALM_S
        while left := find():
            assert self.loop.time() < deadline, f"not ended within {CALM_S:g} s: {'; '.join(left[:5])}"
            await asyncio.sleep(1.0)
