"""The port that every hypervisor driver implements: what the host's agent may ask of a hypervisor.

Rules of the port, checked by the conformance kit (`tests/conformance/hypervisor.py`):

* Every act is idempotent: it looks at the real state first, and "already so" is success. Any act may be repeated after
  any crash of the caller, of the driver or of the hypervisor, at any instruction (S7).
* Every call ends. A driver whose calls can hang bounds them itself and then raises StepUnknown. When StepUnknown is
  raised, the call can no longer take effect without a later `observe_server` showing it: either it has returned, or its
  issuer is dead, and `observe_server` answers only after the guest's own monitor has answered behind whatever was still
  queued there.
* Outcomes: return = done; StepRetry = may pass; StepNever = will not succeed as asked (the reason is for the user);
  StepUnknown = look again.
* Absence is never assumed: `unplug_disk` returns True only when the disk has been seen to be gone from the running
  guest (device and block nodes) and from the definition.
* An act on a server that has no domain raises StepNever, except the removing ones (`unplug_disk` returns True,
  `power_off` and `undefine_server` return), for which an absent domain is success.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from kevel.domain.encryption import Passphrase
from kevel.domain.questions import HostUsage, ServerUsage
from kevel.domain.rescues import RescuePlace
from kevel.domain.tuning import NO_LIMITS, DiskTune

#: A server's disks by their aliases, and what opens each that is encrypted.
Disks = Mapping[str, Passphrase | None]

_VOLUME_ALIAS: Final = re.compile(r"ua-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_volume_alias(alias: str) -> bool:
    """Has the alias the form of those that Kevel gives? Operators' own begin with "ua-" as well."""
    return _VOLUME_ALIAS.fullmatch(alias) is not None


class PowerState(enum.Enum):
    """What the hypervisor says about a domain."""

    RUNNING = "running"
    PAUSED = "paused"
    #: The guest's memory is kept in a file, with the disks that it had.
    SUSPENDED = "suspended"
    SHUTOFF = "shutoff"
    CRASHED = "crashed"


class VolumeBus(enum.Enum):
    """How volumes reach the guest. virtio-scsi shows the whole serial and needs no PCI slot per disk.

    SATA is for guests that know no virtio; only a guest that does not run can be given its disks.
    """

    SCSI = "scsi"
    VIRTIO = "virtio"
    SATA = "sata"


class RescueSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that the guest boots from instead of its own."""

    #: Another one for each rescue.
    number: int
    image_path: str
    image_format: str
    #: None: it has the place of the server's own root disk, which the guest sees as its second.
    place: RescuePlace | None = None


class DomainSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a server's domain is made of. Paths are absolute."""

    server_id: str
    memory_mib: int
    vcpus: int
    #: Where the root disk's first contents come from; copied once to the server's own directory. None: no root disk.
    image_path: str | None
    #: The image's stored format, never probed (S15): "raw" or "qcow2".
    image_format: str
    #: Size of the root disk, at least the image's; 0 = as large as the image.
    root_bytes: int
    #: Which of the server's root disks: another number is another disk, made of the image. Those of others go.
    root_number: int = 0
    rescue: RescueSpec | None = None
    kernel_path: str | None = None
    initrd_path: str | None = None
    cmdline: str = ""
    volume_bus: VolumeBus = VolumeBus.SCSI
    #: Extra specs of the flavor that begin with "sim:", for the simulated host.
    traits: Mapping[str, str] = {}


class DiskSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as it is to be plugged into one server."""

    #: "ua-" + attachment id: the key of the disk in the guest's domain.
    alias: str
    #: The volume's id, whole.
    serial: str
    #: Absolute path of the local file or device, or the URI of an export (`kevel.domain.nbd`); already proved to be
    #: the volume (S8).
    source_path: str
    #: "raw", "qcow2" or "luks"; a stored fact, passed explicitly (S15).
    source_format: str
    size_bytes: int
    #: Libvirt's name for the target ("sdb"); the guest may use another.
    target: str
    #: Unit number on the volume bus; unique within the server. 0 is the root disk: a volume has it in a server without
    #: a root disk of its own, and a guest without a kernel from outside boots from it.
    unit: int
    #: As the server's domain has it.
    bus: VolumeBus = VolumeBus.SCSI
    read_only: bool = False
    shareable: bool = False
    tune: DiskTune = NO_LIMITS
    #: What opens it, for "luks" and for nothing else.
    passphrase: Passphrase | None = None


class DiskView(msgspec.Struct, frozen=True, kw_only=True):
    """A disk as found in a domain."""

    alias: str
    serial: str
    source_path: str
    target: str
    size_bytes: int | None = None
    tune: DiskTune = NO_LIMITS
    #: The guest's process decrypts it: what lies in the source is LUKS.
    encrypted: bool = False


class CopySpec(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of a plugged disk, to be made while its guest runs."""

    #: Lower-case letters, digits and dashes; never used for another copy.
    copy_id: str
    #: The disk, and the volume that it has to be.
    alias: str
    serial: str
    #: Absolute path of a raw file of zeros, which becomes as large as the guest's disk.
    target_path: str


class RootCopySpec(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of a server's own root disk, to be made whether its guest runs or not."""

    #: Lower-case letters, digits and dashes; never used for another copy.
    copy_id: str
    #: Absolute path of a file, empty or with what an earlier attempt has left in it.
    target_path: str
    #: "raw", or the root disk's own format, in which only one that no guest has is copied.
    format: str


class CopyView(msgspec.Struct, frozen=True, kw_only=True):
    """How far a copy is."""

    #: The target is whole, on stable storage, and nobody has it open any more.
    done: bool
    done_bytes: int
    total_bytes: int


class SwapSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Another volume for a plugged disk, which is to have its contents."""

    #: The disk, as the guest knows it, and what it reads and writes now.
    alias: str
    serial: str
    old_path: str
    #: Absolute path of a file or device as large as the guest's disk, already proved to be the new volume (S8).
    new_path: str
    new_format: str


class SwapStage(enum.Enum):
    """What is so of a swap."""

    COPYING = "copying"
    #: Every write of the guest goes to both volumes, and they are equal.
    READY = "ready"
    #: The disk is the new volume: in the running guest, if one runs, and in the definition.
    SWAPPED = "swapped"


class SwapView(msgspec.Struct, frozen=True, kw_only=True):
    """How far a swap is."""

    stage: SwapStage
    done_bytes: int = 0
    total_bytes: int = 0


class ServerView(msgspec.Struct, frozen=True, kw_only=True):
    """What is really there of one server."""

    server_id: str
    power: PowerState
    #: Differs after each start of the guest (not after a reboot from inside, nor after a suspension); "" when it does
    #: not run.
    boot_id: str
    #: Volume disks (alias "ua-...") in the running guest, or in the memory of a suspended one; else empty.
    live: tuple[DiskView, ...]
    #: Volume disks in the persistent definition.
    persistent: tuple[DiskView, ...]
    #: Aliases of disks whose block nodes exist without a device (left by a call that died), or node names.
    orphans: tuple[str, ...] = ()
    #: Ids of the copies of its disks that are under way.
    copies: tuple[str, ...] = ()
    #: A paused guest stands still since a disk gave it an error: its request waits, and is made again when it goes on.
    waits_for_disk: bool = False
    #: For a domain that does not run: why ("shutdown", "crashed", "destroyed", "failed", ...).
    stop_reason: str = ""

    @property
    def runs(self) -> bool:
        """Does the guest's process exist?"""
        return self.power in (PowerState.RUNNING, PowerState.PAUSED)

    def has_disk(self, alias: str) -> bool:
        """Is the disk in the definition, and in the guest if it runs?"""
        return self.persistent_disk(alias) is not None and not (self.runs and self.live_disk(alias) is None)

    def live_disk(self, alias: str) -> DiskView | None:
        """The disk of that alias in the running guest."""
        return next((disk for disk in self.live if disk.alias == alias), None)

    def persistent_disk(self, alias: str) -> DiskView | None:
        """The disk of that alias in the definition."""
        return next((disk for disk in self.persistent if disk.alias == alias), None)


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What `openstack hypervisor list` shows of a host."""

    hypervisor_type: str
    hypervisor_version: int
    hostname: str
    vcpus: int
    memory_mib: int
    #: The most volumes one server can hold on its bus.
    max_volumes: int
    #: Size of the file system that root disks are on.
    disk_gib: int
    #: Where the control plane reaches the host's agent: in its own process.
    host_ip: str = "127.0.0.1"


class EventKind(enum.Enum):
    """Why a server should be looked at. Events only make things quick; losing one costs time."""

    DISK_REMOVED = "disk_removed"
    LIFECYCLE = "lifecycle"
    #: The guest has rebooted from inside.
    REBOOTED = "rebooted"
    RECONNECTED = "reconnected"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened to a server; RECONNECTED (server_id "") means: look at all of them."""

    kind: EventKind
    server_id: str
    alias: str = ""


class Hypervisor(Protocol):
    """One hypervisor host."""

    async def open(self, listener: Callable[[Event], None]) -> HostFacts:
        """Connect, and deliver events to `listener` on the event loop from now on.

        Raises SetupError when this host cannot run servers at all.
        """
        ...

    async def close(self) -> None:
        """Disconnect. Guests keep running."""
        ...

    async def define_server(self, spec: DomainSpec) -> None:
        """Make the server's own files and persistent definition; keep volume disks already in the definition.

        While no guest runs, a root disk that is smaller than `root_bytes` grows, and files that the definition does
        not name any more are removed.
        """
        ...

    async def start_server(self, server_id: str, disks: Disks) -> tuple[str, ...]:
        """Start the guest anew from its definition, whatever memory is kept, with the volumes that `disks` names.

        The volume of any other disk may be another server's by now (S1), so that one is taken out of the definition
        first; the aliases of those are returned. What is no disk of a volume of Kevel's stays as it is
        (`is_volume_alias`). Raises StepRetry when an encrypted disk has no passphrase: the guest does not start without
        it, nor with it unopened.
        """
        ...

    async def ask_shutdown(self, server_id: str) -> None:
        """Ask the guest to shut itself down; returns when asked."""
        ...

    async def ask_reboot(self, server_id: str) -> None:
        """Ask the guest to reboot itself; returns when asked. Raises StepRetry when nobody in the guest answers."""
        ...

    async def power_off(self, server_id: str) -> None:
        """End the guest's process at once; return when it has been seen to be gone, and with it any memory kept."""
        ...

    async def pause_guest(self, server_id: str) -> None:
        """Let the running guest's processors stand still. Raises StepRetry when no guest runs."""
        ...

    async def unpause_guest(self, server_id: str) -> None:
        """Let a paused guest go on. Raises StepRetry when no guest runs."""
        ...

    async def suspend_guest(self, server_id: str) -> None:
        """Keep the guest's memory in a file, and end its process; return when the file is on stable storage.

        The memory names the guest's disks, so none of them is let go of while it is kept. Raises StepRetry when no
        guest runs, and while one of its disks is being copied.
        """
        ...

    async def resume_guest(self, server_id: str, disks: Disks) -> None:
        """Let a suspended guest go on from its memory, which is gone before the guest makes another step.

        Only disks that it had are in it. Raises StepRetry when a key is missing, StepNever when no memory is kept, or
        one with the disk of a volume that `disks` does not name.
        """
        ...

    async def undefine_server(self, server_id: str) -> None:
        """Power off, remove the definition and the server's own files (root disk, console log)."""
        ...

    async def observe_server(self, server_id: str) -> ServerView | None:
        """What is really there, answered behind every earlier call on this server; None: no domain."""
        ...

    async def observe_all(self) -> list[ServerView]:
        """The census: every domain that Kevel made on this host."""
        ...

    async def read_console(self, server_id: str, bytes_max: int) -> bytes:
        """The last bytes that the guest, or one before it, wrote to its serial console; b"" when it wrote none.

        Waits for nothing that is done to the server meanwhile. The host keeps a bounded part of it.
        """
        ...

    async def measure_server(self, server_id: str) -> ServerUsage | None:
        """What the guest has used since its start; None: no guest runs."""
        ...

    async def measure_host(self) -> HostUsage:
        """How long the host is up, and how busy it is."""
        ...

    async def plug_disk(self, server_id: str, disk: DiskSpec) -> None:
        """Make the disk part of the definition, and of the running guest if it runs.

        Clears what a dead attempt left (orphan block nodes) first. Raises StepNever when there is no free slot, and
        for a disk of format "luks" without a passphrase or with a wrong one: it is never plugged unopened.
        """
        ...

    async def unplug_disk(self, server_id: str, alias: str) -> bool:
        """Take one step towards removal; True when the disk has been seen to be gone everywhere.

        In a running guest the removal is asked for and False returned at once: the guest answers later (DISK_REMOVED),
        or never. The definition is changed only after the running guest has let go, so a refusal leaves the disk whole.
        A suspended guest keeps the disks that its memory names: False.
        """
        ...

    async def resize_disk(self, server_id: str, alias: str, size_bytes: int) -> None:
        """Let a running guest see that the disk has grown; nothing to do when it does not run. Never shrinks."""
        ...

    async def tune_disk(self, server_id: str, alias: str, tune: DiskTune) -> None:
        """Put these limits on the disk, in the definition and in the running guest, and no others.

        Raises StepNever when neither has the disk.
        """
        ...

    async def copy_disk(self, server_id: str, copy: CopySpec) -> CopyView | None:
        """Take one step of a copy; None: no running guest has the disk, so there is nothing to copy here.

        The copy is of one point in time, its end, and raw; holes stay holes. The guest goes on meanwhile; its file
        systems are frozen for that instant if an agent in it answers, and a target that cannot be written harms
        only the copy. After `done` the same call begins anew. A failure that may pass leaves nothing and raises
        StepRetry; StepNever: there is no space, or the target is not there.
        """
        ...

    async def swap_disk(self, server_id: str, swap: SwapSpec, *, pivot: bool) -> SwapView | None:
        """Take one step of a swap; None: no running guest has the disk on its old volume, nor the definition the new.

        With `pivot` nothing is begun (None instead), and a guest whose volumes are equal changes over: its processors
        stand still until the definition says so as well, so that a crash at any point leaves equal volumes or one
        answer. Without it, nothing that was not pivoted changes over. A failure that may pass raises StepRetry;
        StepNever: the new volume cannot be written, or the disk is neither of the two.
        """
        ...

    async def end_swap(self, server_id: str, new_path: str) -> bool:
        """Stop filling that file or device; return when the guest does not have it open. False: a disk has become it.

        `unplug_disk` ends the swap of its disk by itself.
        """
        ...

    async def copy_root(self, server_id: str, copy: RootCopySpec) -> CopyView | None:
        """Take one step of a copy of the server's own root disk; None: it has none here.

        Of a running guest's, as `copy_disk`; of one that does not run, the whole in one step. Raises StepRetry for a
        running guest's in another format than raw.
        """
        ...

    async def end_copy(self, server_id: str, copy_id: str) -> None:
        """Stop a copy, if there is one; return when nobody has its target open any more.

        `unplug_disk` ends the copies of its disk by itself.
        """
        ...
