"""What the control plane asks a host's agent for a request that waits: looks that change nothing and leave no record.

A question is told once, in the answer to the agent's poll. Whatever becomes of it, lost or late, costs the request that
asked, and nothing else.
"""

from __future__ import annotations

import msgspec


class ReadConsole(msgspec.Struct, frozen=True, tag=True):
    """The end of what a server's guest wrote to its serial console."""

    server_id: str


class MeasureServer(msgspec.Struct, frozen=True, tag=True):
    """What a running guest has used so far."""

    server_id: str


class MeasureHost(msgspec.Struct, frozen=True, tag=True):
    """How long the host is up, and how busy it is."""


class ConsoleTail(msgspec.Struct, frozen=True, tag=True):
    """The console's last bytes, as the guest wrote them."""

    data: bytes


class DiskUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a guest has read from and written to a disk since its start."""

    #: The hypervisor's name for the disk ("sda").
    target: str
    read_requests: int
    read_bytes: int
    write_requests: int
    write_bytes: int


class ServerUsage(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a running guest has used since its start."""

    #: By processor.
    cpu_times_ns: tuple[int, ...]
    memory_mib_max: int
    memory_mib: int
    disks: tuple[DiskUsage, ...]


class HostUsage(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How long the host is up, and how many processes wanted to run there over the last 1, 5 and 15 minutes."""

    up_s: float
    load: tuple[float, float, float]


class Nothing(msgspec.Struct, frozen=True, tag=True):
    """There is nothing to look at: no guest runs."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The look did not succeed; the sentence is for the user."""

    message: str


Look = ReadConsole | MeasureServer | MeasureHost
Sight = ConsoleTail | ServerUsage | HostUsage | Nothing | Failed


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A look that somebody waits for."""

    id: str
    look: Look


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent saw."""

    question_id: str
    sight: Sight
