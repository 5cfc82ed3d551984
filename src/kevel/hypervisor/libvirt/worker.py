"""The child process that libvirt lives in.

In embed mode libvirt is a whole QEMU driver inside the process that opened it: its calls can hang without end, and a
crash of it ends the process. So it gets a process of its own, whose death costs a restart and nothing else: guests are
not its children, and the next one finds them. It ends at once when its parent is gone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import shutil
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import libvirt
import msgspec

from kevel.domain.errors import KevelError, SetupError, StepNever, StepRetry, StepUnknown
from kevel.hypervisor.base import Event, EventKind, HostFacts
from kevel.hypervisor.libvirt import wire
from kevel.hypervisor.libvirt.domain_xml import ALIAS_PREFIX, NAME_PREFIX
from kevel.hypervisor.libvirt.secrets import Lender, keep_secrets_in_memory
from kevel.hypervisor.libvirt.session import Session
from kevel.hypervisor.libvirt.state_files import mend_state_files
from kevel.runtime import failpoints

EMBED_SCHEME = "qemu:///embed"
SECRETS_SCHEME = "secret:///embed"
#: Acts under way at the same time, each for another server.
ACTS_MAX = 32

QEMU_CONF = """\
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = [ ]
namespaces = [ ]
"""
QEMU_CONF_ROOT = 'user = "root"\ngroup = "root"\n'

FAILURES: tuple[tuple[type[KevelError], wire.Failure], ...] = (
    (StepRetry, wire.Failure.RETRY),
    (StepNever, wire.Failure.NEVER),
    (StepUnknown, wire.Failure.UNKNOWN),
    (wire.LockHeld, wire.Failure.LOCKED),
    (SetupError, wire.Failure.SETUP),
)


class Line:
    """The child's end of the socket pair. Sending is safe from any thread."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._reader = link.makefile("rb")

    def send(self, message: wire.Reply | wire.Notice) -> None:
        """Send a message; the process ends when nobody is there to receive it."""
        frame = wire.encode_frame(message)
        try:
            with self._lock:
                self._link.sendall(frame)
        except OSError:
            end_process()

    def receive(self) -> bytes:
        """The next message's body; the process ends when the parent is gone."""
        prefix = self._read(wire.LENGTH_BYTES)
        if len(prefix) < wire.LENGTH_BYTES:
            end_process()
        return self._read(wire.read_length(prefix))

    def _read(self, count: int) -> bytes:
        try:
            return self._reader.read(count)
        except OSError:  # reset: the parent died before it had read what was sent to it
            end_process()


def end_process() -> NoReturn:
    """End without any clean-up: threads inside libvirt may never return, and guests are to be left alone."""
    os._exit(0)


def main() -> None:
    """Open libvirt as the parent's first message says, then do acts until the parent is gone."""
    failpoints.arm(os.environ)
    faulthandler.enable()  # a crash inside libvirt leaves a trace in the log
    line = Line(socket.socket(fileno=int(sys.argv[1])))
    settings = msgspec.msgpack.decode(line.receive(), type=wire.Settings)
    try:
        session, facts = open_session(settings, line)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent is told and this process ends
        line.send(describe_failure(0, error))
        end_process()
    line.send(wire.Reply(number=0, value=msgspec.Raw(msgspec.msgpack.encode(facts))))
    pool = ThreadPoolExecutor(ACTS_MAX, thread_name_prefix="act")
    while True:
        request = msgspec.msgpack.decode(line.receive(), type=wire.Request)
        pool.submit(serve_request, session, line, request)


def serve_request(session: Session, line: Line, request: wire.Request) -> None:
    """Do an act and send the reply."""
    effect = f"{failpoints.CHILD}{wire.name_act(request.act)}"
    try:
        with failpoints.around(effect):
            value = do_act(session, request.act)
        reply = wire.Reply(number=request.number, value=msgspec.Raw(msgspec.msgpack.encode(value)))
    except Exception as error:  # noqa: BLE001 - a request without a reply would cost the parent its time limit
        reply = describe_failure(request.number, error)
    line.send(reply)


def do_act(session: Session, act: wire.ServerAct | wire.BesideAct) -> object:
    """Call the session's method for an act: it has the act's name and takes its fields."""
    arguments = (act.spec,) if isinstance(act, wire.Define) else msgspec.structs.astuple(act)
    method: Callable[..., object] = getattr(session, wire.name_act(act))
    return method(*arguments)


def describe_failure(number: int, error: Exception) -> wire.Reply:
    """The reply for a request that failed; foreign text goes into the part for the log."""
    detail = str(error.__cause__ or "") if isinstance(error, KevelError) else traceback.format_exc()
    for kind, failure in FAILURES:
        if isinstance(error, kind):
            return wire.Reply(number=number, failure=failure, sentence=error.message, detail=detail)
    return wire.Reply(number=number, failure=wire.Failure.BUG, sentence="The driver failed.", detail=detail)


def open_session(settings: wire.Settings, line: Line) -> tuple[Session, HostFacts]:
    """Open libvirt. Raises SetupError when this host cannot run servers."""
    embedded, keys_are_safe = settings.uri == EMBED_SCHEME, True
    uri = settings.uri
    data_dir = Path(settings.data_dir)
    root = data_dir / "libvirt"
    if embedded:
        if shutil.which("qemu-system-x86_64") is None:
            raise SetupError("QEMU is not installed: install the package qemu-system-x86.")
        keys_are_safe = prepare_embedded(root, settings.nbd_tls_dir)
        for line_told in mend_state_files(root):
            sys.stderr.write(f"{line_told}\n")
        uri = f"{EMBED_SCHEME}?root={root}"
    libvirt.registerErrorHandler(lambda _context, _error: None, None)  # else each error is printed to stderr as well
    start_event_loop()
    with pinned_to_one_cpu():
        connection = open_connection(uri)
    listen_to_events(connection, line.send)
    # A libvirt of the system's may run QEMU as another user, who must be able to pass through to the files.
    session = Session(
        connection,
        data_dir / "servers",
        lender=open_lender(root, safe=keys_are_safe) if embedded else None,
        kvm=choose_kvm(settings.accel),
        dir_mode=0o700 if embedded else 0o711,
        embed_root=root if embedded else None,
    )
    return session, session.describe_host()


def open_lender(root: Path, *, safe: bool) -> Lender:
    """The secrets that the embedded driver looks for: those of a secret driver that is embedded in the same root."""
    return Lender(open_connection(f"{SECRETS_SCHEME}?root={root}"), keeps=True, safe=safe)


def prepare_embedded(root: Path, nbd_tls_dir: str | None = None) -> bool:
    """Write the settings that the embedded QEMU driver reads when it is opened, and keep its files under its root.

    False: keys of encrypted volumes would not be safe with it.
    """
    (root / "etc").mkdir(mode=0o700, parents=True, exist_ok=True)
    keys_are_safe = keep_secrets_in_memory(root)
    settings = QEMU_CONF if nbd_tls_dir is None else f'{QEMU_CONF}nbd_tls_x509_cert_dir = "{nbd_tls_dir}"\n'
    if os.geteuid() == 0:
        (root / "etc" / "qemu.conf").write_text(QEMU_CONF_ROOT + settings)
        return keys_are_safe
    (root / "etc" / "qemu.conf").write_text(settings)
    # An ordinary user's libvirt keeps some of its state under the home directory, root or not; a service may have none.
    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
        os.environ[variable] = str(root / "user")
    return keys_are_safe


def start_event_loop() -> None:
    """Run libvirt's events in a thread. Before the open: the monitor of a running guest is served by it."""
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=run, name="libvirt-events", daemon=True).start()


@contextlib.contextmanager
def pinned_to_one_cpu() -> Iterator[None]:
    """Stay on one CPU inside, so that CPUID gives libvirt the same answer as the last time.

    Where CPUs differ it would otherwise probe QEMU anew, which takes 5 to 10 s. Afterwards every thread may run
    everywhere again.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), allowed)


def open_connection(uri: str) -> libvirt.virConnect:
    """Open the connection, once: an embedded driver that has failed to start stays failed. Raises SetupError."""
    try:
        return libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise explain_open_failure(str(error)) from error


def explain_open_failure(text: str) -> SetupError:
    """What a user can do about libvirt's refusal to open."""
    if "Failed to acquire pid file" in text:
        return wire.LockHeld("Another process holds this data directory's libvirt.")
    if re.search(r"Failed to parse (user|group) 'libvirt-qemu'", text):
        return SetupError(
            "libvirt needs the user and group libvirt-qemu when it runs as root. Make them: groupadd --system "
            "libvirt-qemu; useradd --system -g libvirt-qemu -d /var/lib/libvirt -s /usr/sbin/nologin -M libvirt-qemu"
        )
    if "no connection driver available" in text:
        return SetupError("libvirt's QEMU driver is not installed: install the package libvirt-daemon.")
    if "Failed to connect socket" in text:
        return SetupError("No libvirt daemon answers at the configured URI.")
    return SetupError("libvirt cannot be opened; the log has its reason.")


def listen_to_events(connection: libvirt.virConnect, send: Callable[[wire.Notice], None]) -> None:
    """Pass on what happens to Kevel's domains."""

    def tell(domain: libvirt.virDomain, kind: EventKind, alias: str = "") -> None:
        if domain.name().startswith(NAME_PREFIX):
            send(wire.Notice(Event(kind=kind, server_id=domain.UUIDString(), alias=alias)))

    def on_removed(_connection: object, domain: libvirt.virDomain, alias: str, _opaque: object) -> None:
        if alias.startswith(ALIAS_PREFIX):
            tell(domain, EventKind.DISK_REMOVED, alias)

    def on_change(_connection: object, domain: libvirt.virDomain, *_details: object) -> None:
        tell(domain, EventKind.LIFECYCLE)

    def on_reboot(_connection: object, domain: libvirt.virDomain, _opaque: object) -> None:
        tell(domain, EventKind.REBOOTED)

    connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, on_removed, None)
    connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, on_change, None)
    connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, on_reboot, None)
    # A daemon's connection can be lost; then this process is of no more use, and its successor opens a new one.
    connection.registerCloseCallback(lambda *_: end_process(), None)


def choose_kvm(accel: wire.Accel) -> bool:
    """Whether guests run under KVM.

    An open /dev/kvm proves nothing: inside some virtual machines it opens and then crawls. So the CPU must also say
    that it can.
    """
    if accel is not wire.Accel.AUTO:
        return accel is wire.Accel.KVM
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    if flags is None or not {"vmx", "svm"} & set(flags[1].split()):
        return False
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
