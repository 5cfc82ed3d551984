"""Which host takes a new server. Pure: the same hosts and servers always give the same choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from kevel.domain.server_groups import ServerGroup, allowed_hosts

#: Guests share processors, and do not share memory.
VCPUS_RATIO: Final = 16
#: A host whose agent has not polled for so long is silent: a poll is held for 30 seconds at most.
HOST_SILENT_S: Final = 90


def is_boot_disk(boot_index: int | None, *, launched: bool, shelved: bool) -> bool:
    """Is a server not started without this volume? Its first start is with all that it is made with.

    So is its first one after it was shelved: on its host, which may be another, it has no definition yet. All others
    are with its root: what else it has had is in its definition.
    """
    return not launched or shelved or boot_index == 0


@dataclass
class Room:
    """A host that takes servers, and what it has left."""

    host: str
    availability_zone: str
    #: The most processors that one guest can have.
    vcpus: int
    vcpus_left: int
    memory_mib_left: int
    #: The most volumes, besides its root disk, that one guest can have.
    volumes_max: int

    def fits(self, vcpus: int, memory_mib: int, volumes: int) -> bool:
        """Is there room for one more guest of that size, with so many volumes besides its root disk?"""
        has_power = vcpus <= min(self.vcpus, self.vcpus_left) and memory_mib <= self.memory_mib_left
        return has_power and volumes <= self.volumes_max


def place_servers(
    rooms: Sequence[Room],
    *,
    vcpus: int,
    memory_mib: int,
    count: int,
    volumes: int = 0,
    group: ServerGroup | None = None,
    members: Mapping[str, int] = MappingProxyType({}),
) -> list[Room]:
    """A host for each of the servers, the emptiest first; fewer than `count` where the room ends.

    `members`: how many servers of the group each host has.
    """
    placed: list[Room] = []
    counts = Counter(members)
    for _ in range(count):
        free = [room for room in rooms if room.fits(vcpus, memory_mib, volumes)]
        if group is not None:
            allowed = allowed_hosts(group, counts, [room.host for room in free])
            free = [room for room in free if room.host in allowed]
        if not free:
            break
        room = max(free, key=lambda one: (one.memory_mib_left, one.host))
        room.vcpus_left -= vcpus
        room.memory_mib_left -= memory_mib
        counts[room.host] += 1
        placed.append(room)
    return placed
