"""The port's driver for libvirt: sends each act to the child process, and keeps that process alive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from kevel.domain.errors import KevelError, SetupError, StepRetry
from kevel.domain.questions import HostUsage, ServerUsage
from kevel.domain.tuning import DiskTune
from kevel.hypervisor.base import (
    CopySpec,
    CopyView,
    Disks,
    DiskSpec,
    DomainSpec,
    Event,
    EventKind,
    HostFacts,
    RootCopySpec,
    ServerView,
    SwapSpec,
    SwapView,
)
from kevel.hypervisor.libvirt import wire
from kevel.hypervisor.libvirt.child import Child, start_child
from kevel.hypervisor.libvirt.secrets import forget_secrets

log = structlog.get_logger(__name__)

EMBED_URI = "qemu:///embed"
#: An act that has no answer by then is taken for hung: its process is ended and the outcome is unknown.
CALL_LIMIT_S = 30.0
#: Defining a server copies its image, and suspending it writes its memory: both may be large.
COPY_LIMIT_S = 900.0
#: How long an act waits for a restart of the process before it says "later".
READY_LIMIT_S = 5.0
#: Acts on one server wait for each other; a caller who has waited this long is told to come back.
TURN_LIMIT_S = 30.0
RESTART_DELAY_S_MIN = 0.1
RESTART_DELAY_S_MAX = 5.0

#: A unix socket's path holds 107 bytes. The longest that is made under the data directory is QEMU's monitor:
#: libvirt/lib/qemu/domain-<id>-<first 20 letters of the name>/monitor.sock; the server's own sockets are shorter.
SOCKET_PATH_BYTES_MAX = 107
LONGEST_SOCKET = "/libvirt/lib/qemu/domain-999999-kevel-01234567-89ab-/monitor.sock"
DATA_DIR_BYTES_MAX = SOCKET_PATH_BYTES_MAX - len(LONGEST_SOCKET)


class LibvirtHypervisor:
    """The Hypervisor port on libvirt. `data_dir` is absolute; servers' files are made under it."""

    def __init__(
        self,
        data_dir: Path,
        *,
        uri: str = EMBED_URI,
        accel: wire.Accel = wire.Accel.AUTO,
        call_limit_s: float = CALL_LIMIT_S,
        nbd_tls_dir: Path | None = None,
    ) -> None:
        tls_dir = None if nbd_tls_dir is None else str(nbd_tls_dir)
        self._settings = wire.Settings(uri=uri, data_dir=str(data_dir), accel=accel, nbd_tls_dir=tls_dir)
        self._call_limit_s = call_limit_s
        self._listener: Callable[[Event], None] = lambda _event: None
        self._child: Child | None = None
        self._ready = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._calls: set[asyncio.Task[msgspec.Raw]] = set()

    async def open(self, listener: Callable[[Event], None]) -> HostFacts:
        """See the port."""
        data_dir = Path(self._settings.data_dir)
        check_data_dir(data_dir)
        self._listener = listener
        self._child, facts = await start_child(self._settings, listener)
        self._keeper = asyncio.create_task(self._keep_child())
        self._announce()
        return facts

    async def close(self) -> None:
        """See the port. Acts under way end with StepUnknown."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        child, self._child = self._child, None
        self._ready.set()  # who waits for the child is told that there will be none
        if child is not None:
            await child.close()
        if self._settings.uri == EMBED_URI:
            forget_secrets(Path(self._settings.data_dir) / "libvirt")
        if self._calls:
            await asyncio.wait(self._calls)

    async def define_server(self, spec: DomainSpec) -> None:
        """See the port."""
        await self._call(wire.Define(spec.server_id, spec), limit_s=COPY_LIMIT_S)

    async def start_server(self, server_id: str, disks: Disks) -> tuple[str, ...]:
        """See the port."""
        return msgspec.msgpack.decode(await self._call(wire.Start(server_id, dict(disks))), type=tuple[str, ...])

    async def ask_shutdown(self, server_id: str) -> None:
        """See the port."""
        await self._call(wire.AskShutdown(server_id))

    async def ask_reboot(self, server_id: str) -> None:
        """See the port."""
        await self._call(wire.AskReboot(server_id))

    async def power_off(self, server_id: str) -> None:
        """See the port."""
        await self._call(wire.PowerOff(server_id))

    async def pause_guest(self, server_id: str) -> None:
        """See the port."""
        await self._call(wire.Pause(server_id))

    async def unpause_guest(self, server_id: str) -> None:
        """See the port."""
        await self._call(wire.Unpause(server_id))

    async def suspend_guest(self, server_id: str) -> None:
        """See the port."""
        await self._call(wire.Suspend(server_id), limit_s=COPY_LIMIT_S)

    async def resume_guest(self, server_id: str, disks: Disks) -> None:
        """See the port."""
        await self._call(wire.Resume(server_id, dict(disks)), limit_s=COPY_LIMIT_S)

    async def undefine_server(self, server_id: str) -> None:
        """See the port."""
        await self._call(wire.Undefine(server_id))

    async def observe_server(self, server_id: str) -> ServerView | None:
        """See the port."""
        return msgspec.msgpack.decode(await self._call(wire.Observe(server_id)), type=ServerView | None)

    async def observe_all(self) -> list[ServerView]:
        """See the port. Says nothing of orphans: those are looked for by observe_server."""
        child = await self._find_child()
        return msgspec.msgpack.decode(await child.call(wire.ObserveAll(), self._call_limit_s), type=list[ServerView])

    async def read_console(self, server_id: str, bytes_max: int) -> bytes:
        """See the port."""
        child = await self._find_child()
        answer = await child.call(wire.Console(server_id, bytes_max), self._call_limit_s)
        return msgspec.msgpack.decode(answer, type=bytes)

    async def measure_server(self, server_id: str) -> ServerUsage | None:
        """See the port."""
        return msgspec.msgpack.decode(await self._call(wire.Measure(server_id)), type=ServerUsage | None)

    async def measure_host(self) -> HostUsage:
        """See the port."""
        return HostUsage(up_s=time.clock_gettime(time.CLOCK_BOOTTIME), load=os.getloadavg())

    async def plug_disk(self, server_id: str, disk: DiskSpec) -> None:
        """See the port."""
        await self._call(wire.Plug(server_id, disk))

    async def unplug_disk(self, server_id: str, alias: str) -> bool:
        """See the port."""
        return msgspec.msgpack.decode(await self._call(wire.Unplug(server_id, alias)), type=bool)

    async def resize_disk(self, server_id: str, alias: str, size_bytes: int) -> None:
        """See the port."""
        await self._call(wire.Resize(server_id, alias, size_bytes))

    async def tune_disk(self, server_id: str, alias: str, tune: DiskTune) -> None:
        """See the port."""
        await self._call(wire.Tune(server_id, alias, tune))

    async def copy_disk(self, server_id: str, copy: CopySpec) -> CopyView | None:
        """See the port."""
        return msgspec.msgpack.decode(await self._call(wire.Copy(server_id, copy)), type=CopyView | None)

    async def copy_root(self, server_id: str, copy: RootCopySpec) -> CopyView | None:
        """See the port."""
        answer = await self._call(wire.CopyRoot(server_id, copy), limit_s=COPY_LIMIT_S)
        return msgspec.msgpack.decode(answer, type=CopyView | None)

    async def end_copy(self, server_id: str, copy_id: str) -> None:
        """See the port."""
        await self._call(wire.EndCopy(server_id, copy_id))

    async def swap_disk(self, server_id: str, swap: SwapSpec, *, pivot: bool) -> SwapView | None:
        """See the port."""
        return msgspec.msgpack.decode(await self._call(wire.Swap(server_id, swap, pivot)), type=SwapView | None)

    async def end_swap(self, server_id: str, new_path: str) -> bool:
        """See the port."""
        return msgspec.msgpack.decode(await self._call(wire.EndSwap(server_id, new_path)), type=bool)

    async def _call(self, act: wire.ServerAct, limit_s: float | None = None) -> msgspec.Raw:
        """Do an act when it is its turn on the server.

        A caller who goes away does not end it: it keeps its turn until it is settled, so no other act on that server
        meets it.
        """
        task = asyncio.create_task(self._call_in_turn(act, limit_s or self._call_limit_s))
        self._calls.add(task)
        task.add_done_callback(self._forget_call)
        return await asyncio.shield(task)

    async def _call_in_turn(self, act: wire.ServerAct, limit_s: float) -> msgspec.Raw:
        turn = self._turns.setdefault(act.server_id, asyncio.Lock())
        try:
            async with asyncio.timeout(TURN_LIMIT_S):
                await turn.acquire()
        except TimeoutError:
            raise StepRetry(f"Server {act.server_id}: an earlier call is still under way.") from None
        try:
            child = await self._find_child()
            return await child.call(act, limit_s)
        finally:
            turn.release()

    def _forget_call(self, task: asyncio.Task[msgspec.Raw]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, since the caller may have gone away

    async def _find_child(self) -> Child:
        try:
            async with asyncio.timeout(READY_LIMIT_S):
                await self._ready.wait()
        except TimeoutError:
            raise StepRetry("The connection to libvirt is being restored.") from None
        if self._child is None:
            raise StepRetry("The hypervisor is not open.")
        return self._child

    def _announce(self) -> None:
        self._ready.set()
        self._listener(Event(kind=EventKind.RECONNECTED, server_id=""))

    async def _keep_child(self) -> None:
        """Start the process again whenever it has ended, more slowly the more often it ends young."""
        delay_s = RESTART_DELAY_S_MIN
        loop = asyncio.get_running_loop()
        while True:
            started_at = loop.time()
            if self._child is not None:
                await self._child.dead.wait()
                child = self._child
                log.warning("libvirt process ended, it is started again", pid=child.pid, exit_code=child.exit_code)
            self._ready.clear()
            self._child = None
            if loop.time() - started_at > RESTART_DELAY_S_MAX:
                delay_s = RESTART_DELAY_S_MIN
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, RESTART_DELAY_S_MAX)
            try:
                self._child, _ = await start_child(self._settings, self._listener)
            except (KevelError, OSError) as error:
                log.warning("libvirt process cannot be started, trying again", error=str(error), again_in_s=delay_s)
                continue
            self._announce()


def check_data_dir(data_dir: Path) -> None:
    """Raises SetupError for a directory whose name is too long for the sockets that QEMU needs in it."""
    length = len(str(data_dir).encode())
    if length > DATA_DIR_BYTES_MAX:
        raise SetupError(
            f"The data directory's path is {length} bytes long ({data_dir}). Unix sockets allow "
            f"{SOCKET_PATH_BYTES_MAX} bytes, of which the hypervisor needs {len(LONGEST_SOCKET)}: "
            f"use a path of at most {DATA_DIR_BYTES_MAX} bytes."
        )
