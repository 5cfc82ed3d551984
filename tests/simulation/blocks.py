"""The data plane's oracle: guests write stamped blocks through their live disks, and every block must stay theirs.

After each effect and each commit every running guest writes a block at the beginning and at the end of every disk that
it has. A block says for whom it was written: the volume, the generation of the path, and a number that only grows. What
counts is where it lands: a disk that a guest has opened stays bound to the storage that it opened, whatever the records
say and whoever has been given the volume since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kevel.hypervisor.base import DiskSpec, PowerState
from tests.simulation.world import World

#: Where the simulated connector puts volumes on a host.
PLACE = "/sim/volume-"


class Block(NamedTuple):
    """What one write left behind."""

    volume: str
    generation: int
    sequence: int
    server: str


class Medium:
    """The storage of one volume, from its making to its deletion."""

    def __init__(self, volume: str) -> None:
        self.volume = volume
        self.last: Block | None = None
        #: Bytes up to which something has been written and acknowledged.
        self.end_bytes = 0


class Blocks:
    """Writes, and sees where it lands. `rows` finds committed rows, as `Checker.rows` does."""

    def __init__(self, world: World, rows: Callable[[str], list[dict[str, Any]]]) -> None:
        self._world = world
        self._rows = rows
        self._media: dict[str, Medium] = {}
        #: What each running guest has open, by server, alias and volume: a disk may change over to another volume.
        self._open: dict[tuple[str, str, str], Medium] = {}
        self.writes = 0

    def write_all(self, name: str) -> None:
        """Every running guest writes to each of its disks. Raises AssertionError; `name` is what has just happened."""
        self._look_at_storage(name)
        disks = {
            (server_id, alias, disk.source_path.removeprefix(PLACE)): disk
            for host in self._world.hosts.values()
            for server_id, server in host.hypervisor.servers.items()
            if server.power is PowerState.RUNNING
            for alias, disk in server.live.items()
        }
        self._open = {key: medium for key, medium in self._open.items() if key in disks}
        if not disks:
            return
        paths = {(row["volume_id"], row["server_id"]): row["generation"] for row in self._rows(_PATHS)}
        claims = {(row["volume_id"], row["holder"]): row["shared"] for row in self._rows(_CLAIMS)}
        for (server_id, alias, volume_id), disk in disks.items():
            if (server_id, alias, volume_id) not in self._open:
                assert volume_id in self._media, f"data after {name}: {server_id} opens {volume_id}, which is not there"
                self._open[server_id, alias, volume_id] = self._media[volume_id]
            generation = paths.get((volume_id, server_id), 0)
            held = generation > 0 and (volume_id, server_id) in claims
            assert held, f"data after {name}: {server_id} writes to volume {volume_id}, which it has been released from"
            self.writes += 1
            block = Block(volume_id, generation, self.writes, server_id)
            shared = claims[volume_id, server_id]
            self._write(name, self._open[server_id, alias, volume_id], block, disk, shared=bool(shared))

    def _write(self, name: str, medium: Medium, block: Block, disk: DiskSpec, *, shared: bool) -> None:
        told = f"data after {name}: {block}"
        assert self._media.get(medium.volume) is medium, f"{told} is lost: its storage has been deleted"
        last = medium.last
        if last is not None and not shared:
            assert last.generation <= block.generation, f"{told} is written over a newer holder's {last}"
        size_bytes = self._world.backend.volumes[medium.volume].size_bytes
        assert disk.size_bytes <= size_bytes, f"{told} is lost: it is beyond the volume's {size_bytes} bytes"
        medium.last = block
        medium.end_bytes = max(medium.end_bytes, disk.size_bytes)

    def _look_at_storage(self, name: str) -> None:
        """What was acknowledged is there still, unless a user has asked for the volume's deletion."""
        volumes = self._world.backend.volumes
        for volume_id in volumes.keys() - self._media.keys():
            self._media[volume_id] = Medium(volume_id)
        for volume_id, medium in list(self._media.items()):
            there = volumes.get(volume_id)
            if there is not None:
                assert there.size_bytes >= medium.end_bytes, f"data after {name}: the end of {volume_id} is cut off"
                continue
            asked = any(row["volume_id"] == volume_id for row in self._rows(_DELETED))
            assert asked or medium.last is None, f"data after {name}: {medium.last} is lost: {volume_id} is gone"
            del self._media[volume_id]


_PATHS = "SELECT volume_id, server_id, generation FROM paths WHERE live = 1"
_CLAIMS = "SELECT volume_id, holder, shared FROM claims WHERE live = 1"
_DELETED = "SELECT subject_id AS volume_id FROM operations WHERE kind = 'deleting' AND subject = 'volume'"
