"""What the driver and its child process say to each other: length-prefixed msgpack over a socket pair.

The driver sends one Request an act; the child sends one Reply to each, and Events in between.
"""

from __future__ import annotations

import enum

import msgspec

from kevel.domain.encryption import Passphrase
from kevel.domain.errors import SetupError
from kevel.domain.tuning import DiskTune
from kevel.hypervisor.base import CopySpec, DiskSpec, DomainSpec, Event, RootCopySpec, SwapSpec

#: Longer frames mean that the two sides do not understand each other. A census of 10,000 servers is about 10 MB.
FRAME_BYTES_MAX = 64 << 20
LENGTH_BYTES = 4


class Accel(enum.Enum):
    """How guests run; AUTO: KVM where it is real, TCG elsewhere."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the child needs to know before it opens libvirt. Paths are absolute."""

    uri: str
    data_dir: str
    accel: Accel
    #: Where this host's certificate for exports over NBD is; None: it has none. Only for the in-process driver.
    nbd_tls_dir: str | None = None


class Act(msgspec.Struct, frozen=True, tag=True):
    """One call of the port."""


class Define(Act, frozen=True, tag="define_server"):
    """define_server."""

    server_id: str
    spec: DomainSpec


class Start(Act, frozen=True, tag="start_server"):
    """start_server."""

    server_id: str
    disks: dict[str, Passphrase | None]


class AskShutdown(Act, frozen=True, tag="ask_shutdown"):
    """ask_shutdown."""

    server_id: str


class AskReboot(Act, frozen=True, tag="ask_reboot"):
    """ask_reboot."""

    server_id: str


class PowerOff(Act, frozen=True, tag="power_off"):
    """power_off."""

    server_id: str


class Pause(Act, frozen=True, tag="pause_guest"):
    """pause_guest."""

    server_id: str


class Unpause(Act, frozen=True, tag="unpause_guest"):
    """unpause_guest."""

    server_id: str


class Suspend(Act, frozen=True, tag="suspend_guest"):
    """suspend_guest."""

    server_id: str


class Resume(Act, frozen=True, tag="resume_guest"):
    """resume_guest."""

    server_id: str
    disks: dict[str, Passphrase | None]


class Undefine(Act, frozen=True, tag="undefine_server"):
    """undefine_server."""

    server_id: str


class Observe(Act, frozen=True, tag="observe_server"):
    """observe_server."""

    server_id: str


class ObserveAll(Act, frozen=True, tag="observe_all"):
    """observe_all."""


class Console(Act, frozen=True, tag="read_console"):
    """read_console."""

    server_id: str
    bytes_max: int


class Measure(Act, frozen=True, tag="measure_server"):
    """measure_server."""

    server_id: str


class Plug(Act, frozen=True, tag="plug_disk"):
    """plug_disk."""

    server_id: str
    disk: DiskSpec


class Unplug(Act, frozen=True, tag="unplug_disk"):
    """unplug_disk."""

    server_id: str
    alias: str


class Resize(Act, frozen=True, tag="resize_disk"):
    """resize_disk."""

    server_id: str
    alias: str
    size_bytes: int


class Tune(Act, frozen=True, tag="tune_disk"):
    """tune_disk."""

    server_id: str
    alias: str
    tune: DiskTune


class Copy(Act, frozen=True, tag="copy_disk"):
    """copy_disk."""

    server_id: str
    copy: CopySpec


class CopyRoot(Act, frozen=True, tag="copy_root"):
    """copy_root."""

    server_id: str
    copy: RootCopySpec


class EndCopy(Act, frozen=True, tag="end_copy"):
    """end_copy."""

    server_id: str
    copy_id: str


class Swap(Act, frozen=True, tag="swap_disk"):
    """swap_disk."""

    server_id: str
    swap: SwapSpec
    pivot: bool


class EndSwap(Act, frozen=True, tag="end_swap"):
    """end_swap."""

    server_id: str
    new_path: str


def name_act(act: Act) -> str:
    """The port's name of the call."""
    return str(act.__struct_config__.tag)


ServerAct = (
    Define
    | Start
    | AskShutdown
    | AskReboot
    | PowerOff
    | Pause
    | Unpause
    | Suspend
    | Resume
    | Undefine
    | Observe
    | Measure
    | Plug
    | Unplug
    | Resize
    | Tune
    | Copy
    | CopyRoot
    | EndCopy
    | Swap
    | EndSwap
)


#: What waits for no other act on a server.
BesideAct = ObserveAll | Console


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An act to be done; the reply carries the same number."""

    number: int
    act: ServerAct | BesideAct


class LockHeld(SetupError):
    """Another process has the data directory's libvirt open."""


class Failure(enum.Enum):
    """Which error the driver raises."""

    RETRY = "retry"
    NEVER = "never"
    UNKNOWN = "unknown"
    SETUP = "setup"
    LOCKED = "locked"
    BUG = "bug"


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The answer to a request, or (number 0) to the settings. Either a value, or a failure with its sentence."""

    number: int
    value: msgspec.Raw = msgspec.Raw(b"\xc0")
    failure: Failure | None = None
    #: For the user.
    sentence: str = ""
    #: For the log only: libvirt's own words, or a traceback.
    detail: str = ""


class Notice(msgspec.Struct, frozen=True, tag=True):
    """An event of the hypervisor."""

    event: Event


def encode_frame(message: Settings | Request | Reply | Notice) -> bytes:
    """A message as bytes, its length in front."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def read_length(prefix: bytes) -> int:
    """The length of the body that follows. Raises ValueError when it is beyond the limit."""
    length = int.from_bytes(prefix, "big")
    if length > FRAME_BYTES_MAX:
        raise ValueError(f"frame of {length} bytes is longer than {FRAME_BYTES_MAX}")
    return length
