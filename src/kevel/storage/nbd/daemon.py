"""One storage daemon (`qemu-storage-daemon`): the exports of one pool to one host. Synchronous: run it in threads.

A daemon lets in whoever has its host's certificate and nobody else, so each host has one of its own; a daemon that
hangs or dies harms the guests of one host only. It outlives Kevel, as guests do, and is found again by its lock, which
the kernel holds for as long as the process is there. What it exports it is asked, and nobody remembers.
"""

from __future__ import annotations

import base64
import fcntl
import os
import re
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from kevel.domain.errors import StepRetry
from kevel.storage.base import ExportName
from kevel.storage.nbd.qmp import Qmp, QmpRefused, QmpSilent

log = structlog.get_logger(__name__)

PROGRAM: Final = "qemu-storage-daemon"
#: How long a started daemon may take to answer.
START_TIMEOUT_S: Final = 30.0
#: How long an export's last requests may take to end once it is revoked, and a killed process to be gone.
END_TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.01
#: How long a caller waits for another one's act on the same daemon.
TURN_TIMEOUT_S: Final = 45.0
_SOCKET: Final = "qmp.sock"
_LOCK: Final = "lock"
#: Written by the daemon itself. While the lock is held the number is its; no other process can have got it.
_PID: Final = "pid"
_LOG: Final = "daemon.log"
#: What lets clients in belongs in no log.
_NAME: Final = re.compile(r"[0-9a-f]{64}")
_UUID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#: The first letter says whether clients may write: the daemon does not tell.
_EXPORT_ID: Final = re.compile(rf"(?P<letter>[wr])-(?P<path>{_UUID})-(?P<generation>[0-9]{{1,18}})", re.ASCII)


class DaemonSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a daemon is started with."""

    #: Its own: socket, lock and log.
    folder: Path
    #: Whose certificate it lets in.
    host: str
    address: str
    port: int
    #: With `ca-cert.pem`, `server-cert.pem` and `server-key.pem`.
    tls_folder: Path


class ExportedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A volume's file, and how it is opened."""

    volume_id: str
    path: Path
    #: Past the page cache: the file system can do it.
    direct: bool


class NamedExport(msgspec.Struct, frozen=True, kw_only=True):
    """An export, and what its clients ask for."""

    export: ExportName
    name: str
    read_only: bool


class _Found(msgspec.Struct, frozen=True, rename="kebab"):
    """One of query-block-exports."""

    id: str
    node_name: str
    shutting_down: bool = False


class _Image(msgspec.Struct, frozen=True, rename="kebab"):
    virtual_size: int


class _Node(msgspec.Struct, frozen=True, rename="kebab"):
    """One of query-named-block-nodes."""

    node_name: str
    image: _Image


def name_node(volume_id: str) -> str:
    """A volume's node. QEMU takes 31 letters, which is less than an id has, so its bytes are written in base 32."""
    return "v" + base64.b32encode(uuid.UUID(volume_id).bytes).decode().rstrip("=").lower()


class ExportDaemon:
    """Starts, asks and ends one daemon. Safe to call from several threads: one act at a time."""

    def __init__(self, spec: DaemonSpec) -> None:
        self.spec = spec
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def is_alive(self) -> bool:
        """Is there a process, answering or not?"""
        with self._taking_turn():
            return self._is_alive()

    def ensure_running(self) -> bool:
        """Start it if it is not there; True when it had to be started. Raises StepRetry."""
        with self._taking_turn():
            return self._ensure_running()

    def add_export(self, file: ExportedFile, named: NamedExport) -> None:
        """Export the file, unless it is done already. Raises StepRetry."""
        with self._taking_turn():
            self._ensure_running()
            with self._asking() as qmp:
                if not _ids_of(qmp, named.export):
                    _add(qmp, file, named)

    def remove_export(self, export: ExportName) -> None:
        """Cut off whoever uses the export; return when the daemon has none of it any more. Raises StepRetry."""
        with self._taking_turn():
            if self._is_alive():  # with no process nobody can be let in
                with self._asking() as qmp:
                    for export_id in _ids_of(qmp, export):
                        _remove(qmp, export_id)

    def list_exports(self) -> list[ExportName]:
        """What it exports now. Raises StepRetry when it does not answer."""
        with self._taking_turn():
            if not self._is_alive():
                return []
            with self._asking() as qmp:
                found = [_EXPORT_ID.fullmatch(one.id) for one in _list(qmp)]
        return [_read_id(match) for match in found if match is not None]

    def renew_exports(self, file: ExportedFile, name: Callable[[ExportName], str], size_bytes: int | None) -> None:
        """End the file's exports and make them anew, under the same names: it has grown, or was replaced.

        The daemon cannot grow what it exports. Clients are cut off for an instant, and ask again. `size_bytes`: only
        if the daemon knows a smaller one. Raises StepRetry.
        """
        with self._taking_turn():
            if not self._is_alive():
                return
            with self._asking() as qmp:
                nodes: list[_Node] = qmp.ask("query-named-block-nodes", list[_Node], flat=True)
                node = next((one for one in nodes if one.node_name == name_node(file.volume_id)), None)
                if node is None or (size_bytes is not None and node.image.virtual_size >= size_bytes):
                    return
                ended = [one.id for one in _list(qmp) if one.node_name == node.node_name]
                for export_id in ended:
                    _remove(qmp, export_id)
                for match in filter(None, map(_EXPORT_ID.fullmatch, ended)):
                    export = _read_id(match)
                    read_only = match["letter"] == "r"
                    _add(qmp, file, NamedExport(export=export, name=name(export), read_only=read_only))

    def check(self) -> None:
        """Return when it answers; raise StepRetry when it is there and does not. An absent one is no concern here."""
        self.list_exports()

    def kill(self) -> None:
        """End the process, whatever it does; return when it has been seen to be gone. Raises StepRetry."""
        with self._taking_turn():
            self._kill()

    def _kill(self) -> None:
        if not self._is_alive():
            return
        try:
            os.kill(int((self.spec.folder / _PID).read_text()), signal.SIGKILL)
        except (OSError, ValueError) as error:
            raise StepRetry("The export server's process is not found, though it is there.") from error
        until = time.monotonic() + END_TIMEOUT_S
        while self._is_alive():
            if time.monotonic() > until:
                raise StepRetry("The export server's process does not end.")
            time.sleep(POLL_S)

    def end_if_idle(self) -> None:
        """Let it end if it exports nothing; nobody needs it then."""
        with self._taking_turn():
            if not self._is_alive():
                return
            with self._asking() as qmp:
                if _list(qmp):
                    return
            self._kill()

    @contextmanager
    def _taking_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=TURN_TIMEOUT_S):
            raise StepRetry("The export server is still busy with an earlier request.")
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _asking(self) -> Iterator[Qmp]:
        try:
            with Qmp(self.spec.folder, _SOCKET) as qmp:
                yield qmp
        except QmpSilent as error:
            log.warning("export server", host=self.spec.host, error=str(error))
            raise StepRetry("The storage pool's export server does not answer.") from error
        except QmpRefused as error:
            log.warning("export server", host=self.spec.host, error=_NAME.sub("NAME", str(error)))
            raise StepRetry("The storage pool's export server refuses for now; Kevel's log has its words.") from error

    def _is_alive(self) -> bool:
        try:
            fd = os.open(self.spec.folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        if self._process is not None:  # it has let go of its lock: it ends, or has ended
            self._process.wait(END_TIMEOUT_S)
            self._process = None
        return False

    def _ensure_running(self) -> bool:
        if self._is_alive():
            return False
        spec = self.spec
        for name in (_SOCKET, _PID):
            (spec.folder / name).unlink(missing_ok=True)
        lock = os.open(spec.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with (spec.folder / _LOG).open("wb") as output:
                self._process = subprocess.Popen(
                    _command(spec),
                    cwd=spec.folder,
                    pass_fds=(lock,),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as error:
            log.warning("export server", host=spec.host, error=str(error))
            raise StepRetry("The storage pool's export server cannot be started.") from error
        finally:
            os.close(lock)
        self._await_start()
        return True

    def _await_start(self) -> None:
        until = time.monotonic() + START_TIMEOUT_S
        while self._is_alive() and time.monotonic() < until:
            try:
                Qmp(self.spec.folder, _SOCKET).close()
            except QmpSilent:
                time.sleep(POLL_S)
            else:
                return
        words = (self.spec.folder / _LOG).read_text(errors="replace")[-2000:]
        log.error("export server did not start", host=self.spec.host, port=self.spec.port, words=words)
        raise StepRetry("The storage pool's export server does not start; Kevel's log has its words.")


def _command(spec: DaemonSpec) -> list[str]:
    tls, authz = "tls-creds-x509,id=tls0,endpoint=server,verify-peer=on", "authz-simple,id=host0"
    server = f"addr.type=inet,addr.host={_quote(spec.address)},addr.port={spec.port}"
    return [
        PROGRAM,
        "--pidfile",
        _PID,
        "--object",
        f"{tls},dir={_quote(str(spec.tls_folder))}",
        "--object",
        f"{authz},identity={_quote(f'CN={spec.host}')}",
        "--chardev",
        f"socket,path={_SOCKET},server=on,wait=off,id=monitor0",
        "--monitor",
        "chardev=monitor0",
        "--nbd-server",
        f"{server},tls-creds=tls0,tls-authz=host0,max-connections=0",
    ]


def _quote(value: str) -> str:
    """A value of QEMU's options: commas are doubled."""
    return value.replace(",", ",,")


def _list(qmp: Qmp) -> list[_Found]:
    found: list[_Found] = qmp.ask("query-block-exports", list[_Found])
    return found


def _read_id(match: re.Match[str]) -> ExportName:
    return ExportName(path_id=match["path"], generation=int(match["generation"]))


def _ids_of(qmp: Qmp, export: ExportName) -> list[str]:
    """What the daemon calls the export, if it has it."""
    found = ((one.id, _EXPORT_ID.fullmatch(one.id)) for one in _list(qmp))
    return [export_id for export_id, match in found if match is not None and _read_id(match) == export]


def _add(qmp: Qmp, file: ExportedFile, named: NamedExport) -> None:
    node = name_node(file.volume_id)
    there: list[_Node] = qmp.ask("query-named-block-nodes", list[_Node], flat=True)
    if node not in {one.node_name for one in there}:
        # No locks: who may open a volume is decided by its claims, and two hosts' daemons open one that is shared.
        protocol: dict[str, Any] = {"driver": "file", "filename": str(file.path), "locking": "off"}
        common = {"discard": "unmap", "cache": {"direct": file.direct}}
        qmp.ask("blockdev-add", driver="raw", node_name=node, file=protocol | common, **common)
    qmp.ask(
        "block-export-add",
        type="nbd",
        id=f"{'r' if named.read_only else 'w'}-{named.export.path_id}-{named.export.generation}",
        node_name=node,
        name=named.name,
        # What the daemon itself says of the export: by this a host knows that it has the right volume (S8).
        description=file.volume_id,
        writable=not named.read_only,
    )


def _remove(qmp: Qmp, export_id: str) -> None:
    """End the export, and its node when no other export uses it. Absent already is success."""
    found = {one.id: one for one in _list(qmp)}
    export = found.get(export_id)
    if export is None:
        return
    if not export.shutting_down:
        qmp.ask("block-export-del", id=export_id, mode="hard")
    until = time.monotonic() + END_TIMEOUT_S
    while export_id in (found := {one.id: one for one in _list(qmp)}):  # requests under way end first
        if time.monotonic() > until:
            raise StepRetry("The storage still works on the last requests of a host that is shut out.")
        time.sleep(POLL_S)
    if all(one.node_name != export.node_name for one in found.values()):
        qmp.ask("blockdev-del", node_name=export.node_name)
