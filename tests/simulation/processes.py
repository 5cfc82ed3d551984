"""The processes of a simulated Kevel: what they are made of, how they die, and how they come back."""

from __future__ import annotations

import asyncio
import contextvars
import random
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from sqlalchemy.exc import OperationalError

from kevel.cli.engine import Engine, Workers
from kevel.control.backups.backups import Backups
from kevel.control.copies.snapshots import Snapshots
from kevel.control.pools.pools import Pools
from kevel.control.runtime import Runtime
from kevel.control.secrets import KEY_BYTES, Sealer
from kevel.control.servers.disks import ServerDisks
from kevel.control.servers.flavors import Flavors
from kevel.control.servers.imaging import Imaging
from kevel.control.servers.servers import Servers
from kevel.control.servers.shelving import Shelving
from kevel.control.volume_types.types import VolumeTypes
from kevel.control.volumes.volumes import Volumes
from kevel.domain.errors import KevelError
from kevel.domain.images import ImageForServer
from kevel.domain.limits import Limits
from kevel.domain.model import Actor
from kevel.host.agent import Agent
from kevel.host.state import HostConfig, HostState
from kevel.storage.backup_files import BackupFiles
from kevel.storage.image_files import ImageFiles
from tests.simulation.backups import SimExecutor
from tests.simulation.loop import PROCESS, SimLoop
from tests.simulation.network import ControlSide, SimLink
from tests.simulation.store import IMAGE_FILE, SimStore, StoreFaults
from tests.simulation.world import HostTruth, SimDriver, SimPool, SimReach

if TYPE_CHECKING:
    from tests.simulation.run import Run

T = TypeVar("T")

LIMITS = Limits(sweep_every_s=5.0, export_wait_s=20.0)
#: Virtual seconds that somebody waits for an answer.
ANSWER_S = 30.0
#: Virtual seconds that a process may be down after it died.
DOWN_S_MAX = 3.0
EPOCH_US = 1_800_000_000_000_000


class SimClock:
    """Wall-clock time as one process sees it."""

    def __init__(self, loop: SimLoop, slot: Slot) -> None:
        self._loop = loop
        self._slot = slot

    def now_us(self) -> int:
        return EPOCH_US + int((self._loop.time() + self._slot.clock_off_s) * 1e6)


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


class OneImage:
    """The image that every simulated server is made of."""

    async def get_for_server(self, actor: Actor, image_id: str) -> ImageForServer:
        return IMAGE

    async def show(self, actor: Actor, image_id: str) -> ImageForServer:
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
    """One life of a process. What it builds and starts runs in its own context, and ends with it."""

    def __init__(self, run: Run, slot: Slot, number: int) -> None:
        self.run = run
        self.slot = slot
        self.number = number
        self.label = slot.label
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, number)
        self.clock = SimClock(run.loop, slot)
        self.ids = SimIds(run.dice)

    def host_config(self, host: HostTruth) -> HostConfig:
        """Who that host is."""
        return HostConfig(name=host.name, availability_zone="nova", data_dir=Path("/sim"), limits=LIMITS)

    def driver(self, host: HostTruth) -> SimDriver:
        """That host's hypervisor, as this life has it."""
        return SimDriver(self.run.world, host, self, self.run.outside)

    async def start(self) -> None:
        """Start its parts. Raises KevelError when it cannot run, as the real one does."""
        raise NotImplementedError


class ControlProcess(Process):
    """The control plane: use cases, workers, the agents' side."""

    def __init__(self, run: Run, slot: Slot, number: int) -> None:
        super().__init__(run, slot, number)
        self.pool = SimPool(run.world, self, run.outside)
        self.context.run(self._build)

    def _open_store(self) -> Runtime:
        run = self.run
        faults = StoreFaults(run.faults, self.label, run.dice)
        faults.crash = lambda: run.crash(self.number)
        faults.crash_other = lambda: run.crash_other(self.number)
        faults.committed = run.check_now
        faults.tell = run.tell
        faults.is_full = lambda: run.loop.time() < run.disk_full_until
        store = SimStore(run.conn, run.loop, run.dice, faults)
        return Runtime(store=store, clock=self.clock, ids=self.ids, executor=SimExecutor(run.world, self, run.outside))

    def _build(self) -> None:
        self.runtime = runtime = self._open_store()
        self.backup_files = cast("BackupFiles", self.run.world.backups)
        self.image_files = cast("ImageFiles", self.run.world.images)
        self.workers = self._make_workers(Sealer(bytes(range(KEY_BYTES))))
        self.flavors = Flavors(runtime)
        self.types = VolumeTypes(runtime)
        images: Any = OneImage()
        self.volumes = Volumes(
            runtime, Pools(runtime, {self.pool.name: self.pool}, LIMITS, host="sim", availability_zone="nova"), LIMITS
        )
        self.snapshots = Snapshots(runtime, LIMITS)
        self.backups = Backups(runtime, self.backup_files, self.volumes, LIMITS, availability_zone="nova")
        self.attachments = self.workers.attachments
        disks = ServerDisks(self.volumes, self.attachments, self.ids, LIMITS)
        self.servers = Servers(runtime, images, self.flavors, disks, LIMITS)
        self.imaging = Imaging(runtime, self.image_files, LIMITS)
        self.shelving = Shelving(runtime, self.attachments, self.image_files, LIMITS)

    def _make_workers(self, sealer: Sealer) -> Workers:
        return Workers(
            self.runtime, {"sim": self.pool}, sealer, LIMITS, images=self.image_files, backups=self.backup_files
        )

    async def start(self) -> None:
        await self.flavors.bootstrap()
        await self.types.bootstrap()
        self.workers.start()


class KevelProcess(ControlProcess):
    """`kevel up`: the control plane and the agent of the one host, together."""

    def _make_workers(self, sealer: Sealer) -> Workers:
        (host,) = self.run.world.hosts.values()
        reach = SimReach(self.run.world, host, self, self.run.outside)
        config = self.host_config(host)
        self.engine = Engine(
            self.runtime,
            {"sim": self.pool},
            {"sim": reach},
            self.driver(host),
            config,
            sealer,
            images=self.image_files,
            backups=self.backup_files,
        )
        return self.engine.workers

    async def start(self) -> None:
        await self.flavors.bootstrap()
        await self.types.bootstrap()
        await self.engine.start()


class AgentProcess(Process):
    """The agent of one host, which reaches the control plane over the network."""

    def __init__(self, run: Run, slot: Slot, number: int) -> None:
        super().__init__(run, slot, number)
        assert slot.host is not None
        self.host = slot.host
        self.agent = self.context.run(self._build)

    def _build(self) -> Agent:
        run = self.run
        link = SimLink(run.network, self, self.context, ControlSide(run.loop, run.find_hosts))
        reach = SimReach(run.world, self.host, self, run.outside)
        config = self.host_config(self.host)
        state = HostState(config, self.driver(self.host), {"sim": reach}, link, self.clock)
        return Agent(state, self.ids)

    async def start(self) -> None:
        await self.agent.start()


class Slot:
    """A place where one process runs, life after life."""

    def __init__(self, run: Run, label: str, make: type[Process], host: HostTruth | None) -> None:
        self.run = run
        self.label = label
        self.host = host
        self.process: Process | None = None
        self.clock_off_s = 0.0
        #: It is not started again while this is set.
        self.stays_down = False
        self._make = make
        self._dead: set[int] = set()

    def crash(self, *, quietly: bool = False) -> None:
        """The process is gone, now; it is started again some time later.

        `quietly`: its whole machine is gone, and nobody is left to break its connections off.
        """
        process = self.process
        if process is None:
            return
        run = self.run
        run.loop.dead.add(process.number)
        self._dead.add(process.number)
        self.process = None
        run.crashes += 1
        run.tell(self.label, "dies")
        if self.host is None and not quietly:
            run.network.break_connections()
        run.loop.create_task(self._restart(), context=run.outside)

    def lose_power(self) -> None:
        """The process dies with everything on its host: guests, connections, calls under way."""
        process = self.process
        self.crash(quietly=True)
        if process is not None:
            self.run.world.drop_calls(process.number)
        if self.host is not None:
            self.host.lose_power()

    async def start(self) -> bool:
        """Begin a life; False when it ended before it was up."""
        run = self.run
        process = self._make(run, self, run.next_number())
        self.process = process
        run.tell(self.label, "starts")
        try:
            # When it dies over this, nobody waits any more: its next life has been arranged.
            await run.loop.create_task(process.start(), context=process.context)
        except (KevelError, OperationalError):
            # The real one ends with an error then, and is started again by whoever looks after it.
            if self.process is process:
                self.crash()
        return self.process is process

    async def _restart(self) -> None:
        run = self.run
        await asyncio.sleep(run.dice.random() * DOWN_S_MAX)
        await run.world.settle_calls(self._dead)
        while self.stays_down:
            await asyncio.sleep(1.0)
        await self.start()


async def inside(loop: SimLoop, process: Process, coro: Coroutine[Any, Any, T]) -> T:
    """Run it in the process. Raises TimeoutError when the process has not answered in time, dead or not."""
    task = loop.create_task(coro, context=process.context)
    done, _ = await asyncio.wait({task}, timeout=ANSWER_S)
    if not done:
        raise TimeoutError
    return task.result()
