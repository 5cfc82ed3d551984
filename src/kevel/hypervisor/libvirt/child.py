"""One life of the child process, as its parent sees it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec
import structlog

from kevel.domain.errors import KevelError, SetupError, StepNever, StepRetry, StepUnknown
from kevel.hypervisor.base import Event, HostFacts
from kevel.hypervisor.libvirt import wire

log = structlog.get_logger(__name__)

#: The open may have to probe QEMU (10 s) behind a predecessor's lock (10 s).
OPEN_LIMIT_S = 60.0
#: How long another process's lock on the data directory's libvirt is waited for.
LOCK_WAIT_S = 5.0
LOCK_POLL_S = 0.2
#: After the parent has hung up the child ends at once; this is for a machine under load.
END_LIMIT_S = 5.0
#: The child writes to its log what libvirt says on stderr; a longer log is begun anew.
LOG_BYTES_MAX = 4 << 20

ERRORS: dict[wire.Failure, type[KevelError]] = {
    wire.Failure.RETRY: StepRetry,
    wire.Failure.NEVER: StepNever,
    wire.Failure.UNKNOWN: StepUnknown,
    wire.Failure.SETUP: SetupError,
    wire.Failure.LOCKED: wire.LockHeld,
    wire.Failure.BUG: StepRetry,
}
FROM_CHILD: msgspec.msgpack.Decoder[wire.Reply | wire.Notice] = msgspec.msgpack.Decoder(wire.Reply | wire.Notice)


class Child:
    """A running child process with libvirt open in it. Make one with `start_child`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        listener: Callable[[Event], None],
    ) -> None:
        self._process = process
        self._handle = os.pidfd_open(process.pid)
        self._reader = reader
        self._writer = writer
        self._listener = listener
        self._numbers = itertools.count(1)
        self._pending: dict[int, asyncio.Future[msgspec.Raw]] = {}
        #: Set when the process has ended and has been waited for: from then on none of its calls can begin anything.
        self.dead = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def call(self, act: wire.ServerAct | wire.BesideAct, limit_s: float) -> msgspec.Raw:
        """Have an act done. Raises StepUnknown, with the process dead, when it dies or is overdue before it answers."""
        if self.dead.is_set():
            raise StepRetry("The connection to libvirt is being restored.")
        number = next(self._numbers)
        answer: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        try:
            self._writer.write(wire.encode_frame(wire.Request(number=number, act=act)))
            async with asyncio.timeout(limit_s):
                return await answer
        except TimeoutError:
            name = type(act).__name__
            log.warning("libvirt call is overdue, its process is ended", act=name, limit_s=limit_s, pid=self.pid)
            await self.kill()
            raise StepUnknown(f"The hypervisor did not answer within {limit_s:g} s.") from None
        finally:
            self._pending.pop(number, None)

    @property
    def exit_code(self) -> int | None:
        """How the process ended: minus the signal's number when a signal ended it."""
        return self._process.returncode

    async def kill(self) -> None:
        """End the process with everything it has under way; returns when it is dead."""
        if not self.dead.is_set():
            self._send_kill()
        await self.dead.wait()

    async def close(self) -> None:
        """Hang up, which ends the process; returns when it is dead."""
        self._writer.close()
        try:
            async with asyncio.timeout(END_LIMIT_S):
                await self.dead.wait()
        except TimeoutError:
            await self.kill()

    async def read_facts(self) -> HostFacts:
        """Wait for the open to succeed. Raises SetupError."""
        answer: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._pending[0] = answer
        try:
            async with asyncio.timeout(OPEN_LIMIT_S):
                return msgspec.msgpack.decode(await answer, type=HostFacts)
        except TimeoutError:
            raise SetupError(f"libvirt did not open within {OPEN_LIMIT_S:g} s.") from None
        except StepUnknown:
            raise SetupError("libvirt's process ended while it opened; its log has the reason.") from None
        finally:
            self._pending.pop(0, None)

    async def _read(self) -> None:
        try:
            while True:
                length = wire.read_length(await self._reader.readexactly(wire.LENGTH_BYTES))
                self._receive(FROM_CHILD.decode(await self._reader.readexactly(length)))
        except (OSError, asyncio.IncompleteReadError):
            pass  # it has hung up, so it is ending
        except (ValueError, msgspec.MsgspecError):
            log.exception("libvirt process sends nonsense, it is ended", pid=self.pid)
        finally:
            await self._bury()

    async def _bury(self) -> None:
        """See the process dead, then tell everybody who waits for it."""
        self._send_kill()
        await self._process.wait()
        os.close(self._handle)
        self._writer.close()
        self.dead.set()
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(StepUnknown("The hypervisor connection was lost during the call."))

    def _send_kill(self) -> None:
        # By handle, not by number: the number may be another process's by now, and asyncio's own kill() would take the
        # exit code away from whoever waits for it.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def _receive(self, message: wire.Reply | wire.Notice) -> None:
        if isinstance(message, wire.Notice):
            self._listener(message.event)
            return
        answer = self._pending.get(message.number)
        if answer is None or answer.done():
            return
        if message.failure is None:
            answer.set_result(message.value)
            return
        if message.detail:
            outcome = message.failure.value
            log.warning("libvirt call failed", outcome=outcome, said=message.detail, told=message.sentence)
        answer.set_exception(ERRORS[message.failure](message.sentence))


async def start_child(settings: wire.Settings, listener: Callable[[Event], None]) -> tuple[Child, HostFacts]:
    """Start the process and wait until libvirt is open in it. Raises SetupError.

    The lock of a predecessor that is still dying is waited for. An embedded libvirt cannot try twice, so each try is a
    process.
    """
    deadline = asyncio.get_running_loop().time() + LOCK_WAIT_S
    while True:
        try:
            return await _start_once(settings, listener)
        except wire.LockHeld:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(LOCK_POLL_S)


async def _start_once(settings: wire.Settings, listener: Callable[[Event], None]) -> tuple[Child, HostFacts]:
    ours, theirs = socket.socketpair()
    try:
        with open_log(Path(settings.data_dir)) as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "kevel.hypervisor.libvirt.worker", str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL, stdout=stderr, stderr=stderr,
                pass_fds=(theirs.fileno(),),
                # A session of its own: Ctrl-C at the terminal is for the parent, which then hangs up.
                start_new_session=True,
            )  # fmt: skip
        reader, writer = await asyncio.open_connection(sock=ours)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    writer.write(wire.encode_frame(settings))
    child = Child(process, reader, writer, listener)
    try:
        return child, await child.read_facts()
    except BaseException:
        await child.kill()
        raise


def open_log(data_dir: Path) -> BinaryIO:
    """The file that takes what libvirt prints."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = data_dir / "libvirt-worker.log"
    too_long = path.exists() and path.stat().st_size > LOG_BYTES_MAX
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if too_long else os.O_APPEND), 0o600), "wb")
