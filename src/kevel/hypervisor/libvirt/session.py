"""The acts of the port on an open libvirt connection. Runs in the child process, one act at a time for each server."""

from __future__ import annotations

import contextlib
import shutil
import socket
import stat
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import libvirt
import msgspec

from kevel.domain.devices import BUS_UNITS_MAX
from kevel.domain.errors import StepNever, StepRetry
from kevel.domain.model import GIB
from kevel.domain.nbd import read_nbd_source
from kevel.domain.questions import ServerUsage
from kevel.domain.tuning import DiskTune
from kevel.hypervisor.base import (
    CopySpec,
    CopyView,
    Disks,
    DiskSpec,
    DomainSpec,
    HostFacts,
    RootCopySpec,
    ServerView,
    SwapSpec,
    SwapView,
)
from kevel.hypervisor.libvirt import memory, root_disk
from kevel.hypervisor.libvirt.blocks import (
    QemuRefused,
    ask_anew,
    ask_removal,
    clear_leftovers,
    is_gone,
    look_at_disks,
    wait_for_end,
    wait_for_monitor,
)
from kevel.hypervisor.libvirt.checks import check_id, has_disk, measure_file
from kevel.hypervisor.libvirt.copies import clear_unused_nodes, copy_once, copy_root_once, end_copies_of, end_copy
from kevel.hypervisor.libvirt.definitions import drop_strays, undefine_disk
from kevel.hypervisor.libvirt.domain_xml import (
    NAME_PREFIX,
    Unreadable,
    build_disk_xml,
    build_domain_xml,
    find_root_disk,
    mark_boot,
    name_domain,
    parse_domain_xml,
    take_volume_elements,
)
from kevel.hypervisor.libvirt.errors import is_process_gone, translate_error
from kevel.hypervisor.libvirt.quiesce import Quiescer
from kevel.hypervisor.libvirt.secrets import Lender, choose_keys
from kevel.hypervisor.libvirt.swaps import end_swap, end_swap_of, settle_definition, swap_once
from kevel.hypervisor.libvirt.usage import measure_domain
from kevel.hypervisor.libvirt.views import INACTIVE, view_server
from kevel.runtime.files import sync_directory

LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
#: How long an agent in a guest may take to take an order. libvirt's own bound is a minute, longer than a call may last.
AGENT_TIMEOUT_S = 5


class Session:
    """An open connection and this host's server files."""

    def __init__(
        self,
        connection: libvirt.virConnect,
        servers_dir: Path,
        *,
        lender: Lender | None = None,
        kvm: bool,
        dir_mode: int = 0o700,
        embed_root: Path | None = None,
    ) -> None:
        self._connection = connection
        self._lender = lender or Lender(connection, keeps=False)
        #: The embedded driver's directory; None when libvirt's files are not ours to remove.
        self._embed_root = embed_root
        #: Where it keeps the memory of suspended guests.
        self._save_dir = None if embed_root is None else embed_root / "lib" / "qemu" / "save"
        self._servers_dir = servers_dir
        self._kvm = kvm
        self._dir_mode = dir_mode
        #: Starts of guests whose leftovers have been looked for since this process began. Only an attempt that died,
        #: with this process or in QEMU, leaves any; so a plug need not look each time.
        self._cleared: set[tuple[str, int]] = set()
        self._cache_modes: dict[Path, str] = {}
        self._lock = threading.Lock()
        self._quiescer = Quiescer(servers_dir, self._find)
        self._quiescer.resume()

    def describe_host(self) -> HostFacts:
        """What this host is."""
        # Not getInfo()'s figure: that is the first NUMA node's on some machines.
        memory_kib = self._connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)["total"]
        return HostFacts(
            hypervisor_type="QEMU",
            hypervisor_version=self._connection.getVersion(),
            # Not libvirt's getHostname(), which asks DNS and can wait for it for a minute.
            hostname=socket.gethostname(),
            vcpus=self._connection.getInfo()[2],
            memory_mib=memory_kib // 1024,
            max_volumes=max(BUS_UNITS_MAX.values()),
            disk_gib=shutil.disk_usage(self._servers_dir.parent).total // GIB,
        )

    def define_server(self, spec: DomainSpec) -> None:
        """See the port."""
        subject = f"Server {spec.server_id}"
        server_dir = self._find_dir(spec.server_id)
        self._servers_dir.mkdir(mode=self._dir_mode, exist_ok=True)
        server_dir.mkdir(mode=self._dir_mode, exist_ok=True)
        sync_directory(self._servers_dir)
        files = root_disk.name_server_files(server_dir, spec)
        cache = root_disk.CACHE_DIRECT
        with _translating(subject):
            old = self._find(spec.server_id)
            runs = old is not None and bool(old.isActive())
            root_disk.make_own_disks(spec, files, runs=runs)
            if files.root_disk is not None:
                cache = self._choose_cache(Path(files.root_disk))
            volumes = take_volume_elements(old.XMLDesc(INACTIVE)) if old is not None else []
            self._connection.defineXML(build_domain_xml(spec, files, kvm=self._kvm, cache=cache, volumes=volumes))
        if not runs:
            self._sync_definitions()
            root_disk.remove_other_disks(server_dir, files)

    def start_server(self, server_id: str, disks: Disks) -> tuple[str, ...]:
        """See the port. The start is marked in the live XML, so that it can be told from every other start."""
        with _translating(f"Server {server_id}"):
            domain = self._need(server_id)
            if domain.isActive():
                memory.go_on(domain, self._save_dir)
                return ()
            memory.drop_memory(domain, self._save_dir)
            root_disk.trim_console_log(self._find_dir(server_id) / root_disk.CONSOLE_LOG)
            self._quiescer.forget(server_id)
            strays = drop_strays(domain, disks)
            if strays:
                self._sync_definitions()
            definition = domain.XMLDesc(INACTIVE)
            there = parse_domain_xml(definition).disks
            if any(disk.encrypted and disks.get(alias) is None for alias, disk in there.items()):
                raise StepRetry(f"Server {server_id}: the key of one of its encrypted volumes has not arrived yet.")
            with self._lender.lent(choose_keys(disks)):
                self._connection.createXML(mark_boot(definition, uuid.uuid4().hex))
            return strays

    def pause_guest(self, server_id: str) -> None:
        """See the port."""
        with _translating(f"Server {server_id}"):
            memory.pause_guest(self._need(server_id), f"Server {server_id}")

    def unpause_guest(self, server_id: str) -> None:
        """See the port."""
        with _translating(f"Server {server_id}"):
            memory.unpause_guest(self._need(server_id), f"Server {server_id}", self._save_dir)

    def suspend_guest(self, server_id: str) -> None:
        """See the port."""
        with _translating(f"Server {server_id}"):
            memory.suspend_guest(self._need(server_id), f"Server {server_id}", self._save_dir)

    def resume_guest(self, server_id: str, disks: Disks) -> None:
        """See the port."""
        with _translating(f"Server {server_id}"):
            memory.resume_guest(self._need(server_id), f"Server {server_id}", self._lender, disks, self._save_dir)

    def ask_shutdown(self, server_id: str) -> None:
        """See the port. The agent is asked if there is one, else the power button is pressed."""
        with _translating(f"Server {server_id}"):
            domain = self._need(server_id)
            if not domain.isActive():
                return
            wait_for_monitor(domain, f"Server {server_id}")
            try:
                domain.agentSetResponseTimeout(AGENT_TIMEOUT_S)
                domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)
            except libvirt.libvirtError:
                if domain.isActive():
                    domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)

    def ask_reboot(self, server_id: str) -> None:
        """See the port. Only the agent is asked.

        Of a pressed button nobody could say whether it was heard, and libvirt would turn the guest's next shutdown,
        whenever that comes, into a reboot.
        """
        with _translating(f"Server {server_id}"):
            domain = self._need(server_id)
            if not domain.isActive():
                raise StepRetry(f"Server {server_id}: it is not running.")
            wait_for_monitor(domain, f"Server {server_id}")
            try:
                domain.agentSetResponseTimeout(AGENT_TIMEOUT_S)
                domain.reboot(libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT)
            except libvirt.libvirtError as error:
                raise StepRetry(f"Server {server_id}: nobody in the guest answers.") from error

    def power_off(self, server_id: str) -> None:
        """See the port."""
        with _translating(f"Server {server_id}"):
            domain = self._find(server_id)
            if domain is None:
                return
            if not domain.isActive():
                memory.drop_memory(domain, self._save_dir)
                return
            try:
                # Not graceful: SIGTERM, and SIGKILL when that does not help; returns when the process is gone.
                domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)
            except libvirt.libvirtError as error:
                if not is_process_gone(error):
                    raise
            if domain.isActive():
                raise StepRetry(f"Server {server_id}: the guest's process is still there.")
            memory.drop_memory(domain, self._save_dir)

    def undefine_server(self, server_id: str) -> None:
        """See the port."""
        self.power_off(server_id)
        with _translating(f"Server {server_id}"):
            domain = self._find(server_id)
            if domain is not None and domain.isPersistent():
                domain.undefineFlags(
                    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                )
        root_disk.remove_server_dir(self._find_dir(server_id))
        if self._embed_root is not None:
            # libvirt never removes a log. When it dies in the middle of a change of state it leaves the running guest's
            # state as well, or the file that was to replace it (`.new`), which its successor ignores.
            name = name_domain(server_id)
            for folder in ("log/qemu", "run/qemu", "etc/qemu"):
                for left in (self._embed_root / folder).glob(f"{name}.*"):
                    left.unlink(missing_ok=True)
            self._sync_definitions()

    def observe_server(self, server_id: str) -> ServerView | None:
        """See the port."""
        with _translating(f"Server {server_id}"):
            domain = self._find(server_id)
            if domain is None:
                return None
            try:
                if domain.isActive():
                    wait_for_monitor(domain, f"Server {server_id}")
                    memory.drop_memory(domain, self._save_dir)
                    settle_definition(domain)
                    look = look_at_disks(domain)
                    copies = clear_unused_nodes(domain, look.copying) if look.copying else ()
                    return msgspec.structs.replace(view_server(domain, server_id, look), copies=copies)
            except libvirt.libvirtError as error:
                if not is_process_gone(error) or not wait_for_end(domain):
                    raise
            return view_server(domain, server_id)

    def observe_all(self) -> list[ServerView]:
        """See the port. Asks libvirt only, never QEMU, so that one hung guest does not hide the others.

        Leftovers in QEMU are seen by observe_server.
        """
        views = []
        with _translating("The census"):
            for domain in self._connection.listAllDomains(0):
                if not domain.name().startswith(NAME_PREFIX):
                    continue
                try:
                    views.append(view_server(domain, domain.UUIDString()))
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:  # undefined since it was listed
                        raise
                root_disk.trim_console_log(self._find_dir(domain.UUIDString()) / root_disk.CONSOLE_LOG)
        return views

    def read_console(self, server_id: str, bytes_max: int) -> bytes:
        """See the port. Asks neither libvirt nor QEMU."""
        return root_disk.read_console_log(self._find_dir(server_id) / root_disk.CONSOLE_LOG, bytes_max)

    def measure_server(self, server_id: str) -> ServerUsage | None:
        """See the port."""
        with _translating(f"Server {server_id}"):
            domain = self._find(server_id)
            return None if domain is None else measure_domain(domain, f"Server {server_id}")

    def plug_disk(self, server_id: str, disk: DiskSpec) -> None:
        """See the port."""
        subject = f"Server {server_id}, volume {disk.serial}"
        with _translating(subject):
            domain = self._need(server_id)
            try:
                self._plug_once(domain, server_id, disk, subject)
            except libvirt.libvirtError as error:
                # QEMU may have kept a part of the attempt, so the next one looks first; at once, if the error says that
                # a leftover was in the way.
                self._forget_cleared(server_id)
                if "Duplicate nodes" not in str(error):
                    raise
                self._plug_once(domain, server_id, disk, subject)

    def _plug_once(self, domain: libvirt.virDomain, server_id: str, disk: DiskSpec, subject: str) -> None:
        persistent = parse_domain_xml(domain.XMLDesc(INACTIVE))
        flags = 0 if has_disk(persistent, disk, subject) else CONFIG
        if domain.isActive():
            wait_for_monitor(domain, subject)
            self._clear_once(domain, server_id, disk.alias, subject)
            if not has_disk(parse_domain_xml(domain.XMLDesc(0)), disk, subject):
                flags |= LIVE
        if flags:
            # Both at once where both lack it: libvirt plugs the running guest first and writes the definition after, in
            # one job, and an attempt that died between the two is completed by the next.
            lending = {} if disk.passphrase is None else {disk.alias: disk.passphrase}
            with self._lender.lent(lending):
                domain.attachDeviceFlags(self._build_disk(disk), flags)

    def unplug_disk(self, server_id: str, alias: str) -> bool:
        """See the port."""
        subject = f"Server {server_id}, disk {alias}"
        with _translating(subject):
            domain = self._find(server_id)
            if domain is None:
                return True
            if domain.isActive():
                if not self._unplug_live(domain, alias, subject):
                    return False
            elif any(disk.alias == alias for disk in memory.find_memory(domain) or ()):
                return False
            # Only now: had the definition lost the disk first, a refusal by the guest would leave it half gone.
            if alias in parse_domain_xml(domain.XMLDesc(INACTIVE)).disks:
                undefine_disk(domain, alias)
            if alias in parse_domain_xml(domain.XMLDesc(INACTIVE)).disks:
                return False
            self._sync_definitions()
            return True

    def _sync_definitions(self) -> None:
        """Make what a definition has lost stay lost: libvirt syncs the files that it writes, but not their names.

        After a loss of power the old one would be back, with a disk whose volume may be another server's by then.
        """
        if self._embed_root is not None and (names := self._embed_root / "etc" / "qemu").exists():
            sync_directory(names)

    def _unplug_live(self, domain: libvirt.virDomain, alias: str, subject: str) -> bool:
        """Ask the running guest to let go; True when nothing of the disk is left in QEMU."""
        wait_for_monitor(domain, subject)
        if alias in parse_domain_xml(domain.XMLDesc(0)).disks:
            end_swap_of(domain, alias, subject)
            ask_removal(domain, alias, subject)
            return False
        look = look_at_disks(domain)
        if look.copying:  # a copy's job would keep the nodes of the disk that the guest has lost
            end_copies_of(domain, alias, subject)
        return is_gone(clear_leftovers(domain, look, alias), alias)

    def resize_disk(self, server_id: str, alias: str, size_bytes: int) -> None:
        """See the port."""
        subject = f"Server {server_id}, disk {alias}"
        with _translating(subject):
            domain = self._need(server_id)
            if not domain.isActive():
                return
            wait_for_monitor(domain, subject)
            look = look_at_disks(domain)
            disk = look.xml.disks.get(alias)
            if disk is None:
                raise StepNever(f"{subject}: the running guest has no such disk.")
            # libvirt would shrink the file without a question: an older request must not undo a newer one.
            seen = look.formats[look.xml.nodes[alias]]
            size = max(size_bytes, measure_file(disk.source_path)) if seen.driver == "raw" else size_bytes
            if size > seen.size_bytes:
                if read_nbd_source(disk.source_path) is not None:
                    ask_anew(domain, look.xml.nodes[alias])
                domain.blockResize(disk.target, size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    def tune_disk(self, server_id: str, alias: str, tune: DiskTune) -> None:
        """See the port."""
        subject = f"Server {server_id}, disk {alias}"
        # libvirt keeps a limit that is not named in the call, so all are.
        limits = msgspec.structs.asdict(tune)
        with _translating(subject):
            domain = self._need(server_id)
            found = parse_domain_xml(domain.XMLDesc(INACTIVE)).disks.get(alias)
            live = None
            if domain.isActive():
                wait_for_monitor(domain, subject)
                live = parse_domain_xml(domain.XMLDesc(0)).disks.get(alias)
            if found is None and live is None:
                raise StepNever(f"{subject}: the server has no such disk.")
            if live is not None and live.tune != tune:
                domain.setBlockIoTune(live.target, limits, LIVE)
            if found is not None and found.tune != tune:
                domain.setBlockIoTune(found.target, limits, CONFIG)

    def copy_disk(self, server_id: str, copy: CopySpec) -> CopyView | None:
        """See the port."""
        subject = f"Server {server_id}, volume {copy.serial}"
        direct = self._choose_cache(Path(copy.target_path)) == root_disk.CACHE_DIRECT
        with _translating(subject):
            domain = self._find(server_id)
            if domain is None or not domain.isActive():
                return None
            wait_for_monitor(domain, subject)
            frozen = self._quiescer.frozen(domain, server_id)
            return copy_once(domain, copy, frozen, subject, direct=direct)

    def copy_root(self, server_id: str, copy: RootCopySpec) -> CopyView | None:
        """See the port."""
        subject = f"Server {server_id}, root disk"
        direct = self._choose_cache(Path(copy.target_path)) == root_disk.CACHE_DIRECT
        with _translating(subject):
            domain = self._find(server_id)
            if domain is None:
                return None
            runs = bool(domain.isActive())
            disk = find_root_disk(domain.XMLDesc(0 if runs else INACTIVE), str(self._find_dir(server_id)))
            if disk is None:
                return None
            if not runs:
                size = root_disk.keep_root_disk(Path(disk.path), disk.format, copy, subject)
                return CopyView(done=True, done_bytes=size, total_bytes=size)
            if copy.format != "raw" or disk.node is None:
                raise StepRetry(f"{subject}: it is copied when the guest does not run.")
            wait_for_monitor(domain, subject)
            frozen = self._quiescer.frozen(domain, server_id)
            return copy_root_once(domain, copy, disk.node, frozen, subject, direct=direct)

    def end_copy(self, server_id: str, copy_id: str) -> None:
        """See the port."""
        subject = f"Server {server_id}, copy {copy_id}"
        with _translating(subject):
            domain = self._find(server_id)
            if domain is None or not domain.isActive():
                return
            wait_for_monitor(domain, subject)
            end_copy(domain, copy_id, subject)

    def swap_disk(self, server_id: str, swap: SwapSpec, pivot: bool) -> SwapView | None:
        """See the port."""
        subject = f"Server {server_id}, volume {swap.serial}"
        path = Path(swap.new_path)
        with _translating(subject):
            domain = self._find(server_id)
            if domain is None:
                return None
            return swap_once(domain, swap, subject, cache=self._choose_cache(path), pivot=pivot)

    def end_swap(self, server_id: str, new_path: str) -> bool:
        """See the port."""
        subject = f"Server {server_id}, file {new_path}"
        with _translating(subject):
            domain = self._find(server_id)
            return domain is None or end_swap(domain, new_path, subject)

    def _clear_once(self, domain: libvirt.virDomain, server_id: str, alias: str, subject: str) -> None:
        start = (server_id, domain.ID())
        with self._lock:
            if start in self._cleared:
                return
        look = clear_leftovers(domain, look_at_disks(domain), alias)
        if alias not in look.xml.disks and not is_gone(look, alias):
            raise StepRetry(f"{subject}: the guest still holds the disk from an earlier attempt.")
        self._forget_cleared(server_id)
        if not look.ghosts and not look.orphans:
            with self._lock:
                self._cleared.add(start)

    def _forget_cleared(self, server_id: str) -> None:
        with self._lock:
            self._cleared = {start for start in self._cleared if start[0] != server_id}

    def _build_disk(self, disk: DiskSpec) -> str:
        path = Path(disk.source_path)
        block_device = path.exists() and stat.S_ISBLK(path.stat().st_mode)
        return build_disk_xml(disk, cache=self._choose_cache(path), block_device=block_device)

    def _choose_cache(self, path: Path) -> str:
        """The cache mode for a file, decided once for each directory."""
        if path.parent not in self._cache_modes and path.exists():
            self._cache_modes[path.parent] = root_disk.choose_cache_mode(path)
        return self._cache_modes.get(path.parent, root_disk.CACHE_DIRECT)

    def _find_dir(self, server_id: str) -> Path:
        return self._servers_dir / check_id(server_id)

    def _find(self, server_id: str) -> libvirt.virDomain | None:
        try:
            return self._connection.lookupByUUIDString(check_id(server_id))
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise

    def _need(self, server_id: str) -> libvirt.virDomain:
        domain = self._find(server_id)
        if domain is None:
            raise StepNever(f"Server {server_id}: it has no domain on this host.")
        return domain


@contextlib.contextmanager
def _translating(subject: str) -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        raise translate_error(error, subject) from error
    except QemuRefused as error:
        raise StepRetry(f"{subject}: QEMU refuses for now.") from error
    except Unreadable as error:
        raise StepRetry(f"{subject}: the hypervisor's account of it cannot be read.") from error
