"""What moves attachments: the control plane's workers with the sweep that misses nothing, and the host's agent.

`kevel up` runs both in one process on SQLite and libvirt; the simulator runs them on its own ports, together or apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog

from kevel.control.attachments.attachments import Attachments
from kevel.control.attachments.explaining import Explaining
from kevel.control.attachments.external import External
from kevel.control.attachments.old_flow import OldFlow
from kevel.control.attachments.paths import PathWorker
from kevel.control.attachments.swaps import Swaps
from kevel.control.backups.worker import BackupWorker
from kevel.control.copies.copies import Copies
from kevel.control.copies.image_worker import ImageWorker
from kevel.control.copies.snapshot_worker import SnapshotWorker
from kevel.control.hosts.comparison import Comparison
from kevel.control.hosts.hosts import Hosts
from kevel.control.operations.deadlines import Deadlines
from kevel.control.runtime import Runtime
from kevel.control.secrets import Sealer
from kevel.control.volume_types.keys import KeyRing
from kevel.control.volumes.worker import VolumeWorker
from kevel.domain.limits import Limits
from kevel.host.agent import Agent
from kevel.host.state import HostConfig, HostState
from kevel.hypervisor.base import Hypervisor
from kevel.runtime.reconciler import Reconciler
from kevel.storage.backup_files import BackupFiles
from kevel.storage.base import Backend, Connector
from kevel.storage.image_files import ImageFiles
from kevel.store.transactions import Wake

log = structlog.get_logger(__name__)

LOOKS_MAX: Final = 32
#: Backups that are made, restored or removed at a time: each holds a thread.
BACKUPS_MAX: Final = 2


class Workers:
    """The control plane's share: attachments, the agents' side, the workers, and the sweep."""

    def __init__(
        self,
        runtime: Runtime,
        backends: Mapping[str, Backend],
        sealer: Sealer,
        limits: Limits,
        *,
        keep_house: Callable[[], object] = lambda: None,
        images: ImageFiles | None = None,
        backups: BackupFiles | None = None,
    ) -> None:
        self.attachments = Attachments(runtime, backends, sealer, limits)
        self.external = External(runtime, backends, sealer, limits)
        self.swaps = Swaps(runtime, self.attachments, limits)
        self.old_flow = OldFlow(runtime, self.external)
        self.hosts = Hosts(runtime, backends, sealer, limits)
        self._paths = PathWorker(runtime, backends, sealer, limits)
        self.keys = KeyRing(sealer, runtime.ids)
        copies = Copies(runtime)
        self._volumes = VolumeWorker(runtime, backends, copies, images, self.keys)
        self._snapshots = SnapshotWorker(runtime, backends, copies)
        self._deadlines = Deadlines(runtime, limits)
        self._looks = {
            "path": Reconciler("path", self._paths.look, runtime.ids, parallel_max=LOOKS_MAX),
            "volume": Reconciler("volume", self._volumes.look, runtime.ids, parallel_max=LOOKS_MAX),
            "snapshot": Reconciler("snapshot", self._snapshots.look, runtime.ids, parallel_max=LOOKS_MAX),
        }
        self._unfinished = {
            "path": self._paths.unfinished,
            "volume": self._volumes.unfinished,
            "snapshot": self._snapshots.unfinished,
        }
        if images is not None:
            maker = ImageWorker(runtime, images)
            self._looks["image"] = Reconciler("image", maker.look, runtime.ids, parallel_max=LOOKS_MAX)
            self._unfinished["image"] = maker.unfinished
        if backups is not None:
            worker = BackupWorker(runtime, backends, backups, copies, limits)
            self._looks["backup"] = Reconciler("backup", worker.look, runtime.ids, parallel_max=BACKUPS_MAX)
            self._unfinished["backup"] = worker.unfinished
        self.comparison = Comparison(runtime, backends)
        self.explaining = Explaining(runtime, backends, limits, self._looks["path"].next_look_s)
        self._keep_house = keep_house
        self._sweep_every_s = limits.sweep_every_s
        self._compare_every_s = limits.compare_every_s
        self._compare_now = asyncio.Event()
        self._sweeping: list[asyncio.Task[None]] = []
        runtime.store.subscribe(self._hear)

    def start(self) -> None:
        """Go on with what is unfinished."""
        self._sweeping = [
            asyncio.create_task(self._sweep(), name="sweep"),
            asyncio.create_task(self._compare(), name="compare"),
        ]

    async def close(self) -> None:
        """Stop looking; rows keep what is to be done."""
        for task in self._sweeping:
            task.cancel()
        await asyncio.gather(*self._sweeping, return_exceptions=True)
        await self.comparison.close()
        for reconciler in self._looks.values():
            await reconciler.close()

    def _hear(self, wakes: Sequence[Wake]) -> None:
        for wake in wakes:
            reconciler = self._looks.get(wake.kind)
            if reconciler is not None:
                reconciler.wake(wake.key)

    async def _sweep(self) -> None:
        """Look at everything unfinished, at the start and then periodically: whoever missed a wake-up is found here."""
        while True:
            try:
                for kind, unfinished in self._unfinished.items():
                    for key in await unfinished():
                        self._looks[kind].wake(key)
                await self._deadlines.watch()
                self._keep_house()
            except Exception:
                log.exception("sweep failed")
            await asyncio.sleep(self._sweep_every_s)

    async def _compare(self) -> None:
        """Compare what the storage has with the records, at the start and then periodically (L3)."""
        while True:
            self._compare_now.clear()
            try:
                await self.comparison.compare_storage()
            except Exception:
                log.exception("comparison failed")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._compare_now.wait(), self._compare_every_s)

    def compare_soon(self) -> None:
        """Do not wait for the next comparison: something is known to have been lost."""
        self._compare_now.set()


class Engine:
    """Both in one process: what `kevel up` runs."""

    def __init__(
        self,
        runtime: Runtime,
        backends: Mapping[str, Backend],
        connectors: Mapping[str, Connector],
        hypervisor: Hypervisor,
        host: HostConfig,
        sealer: Sealer,
        *,
        keep_house: Callable[[], object] = lambda: None,
        images: ImageFiles | None = None,
        backups: BackupFiles | None = None,
    ) -> None:
        self.workers = Workers(
            runtime, backends, sealer, host.limits, keep_house=keep_house, images=images, backups=backups
        )
        state = HostState(host, hypervisor, connectors, self.workers.hosts, runtime.clock)
        self.agent = Agent(state, runtime.ids)

    async def start(self) -> None:
        """Open the hypervisor, take over what is assigned, and go on with what is unfinished. Raises SetupError."""
        await self.agent.start()
        self.workers.start()

    async def close(self) -> None:
        """Stop looking; guests keep running, and rows keep what is to be done."""
        await self.workers.close()
        await self.agent.close()
