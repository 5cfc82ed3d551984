"""The operations that are swept: what comes before, what is asked, what the same again and the opposite come to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kevel.domain.model import BootKind, ServerRung
from kevel.hypervisor.base import PowerState
from tests.simulation.run import Run
from tests.simulation.users import (
    MADE,
    Request,
    ask_life,
    attach,
    cancel_swap,
    create_image,
    create_server,
    create_volume,
    delete_images,
    delete_server,
    delete_volume,
    detach,
    extend,
    reboot,
    rebuild,
    reset_status,
    reshape,
    shelve,
    start,
    stop,
    swap,
    unshelve,
)
from tests.simulation.world import HostTruth
from tests.sweep import contents

Find = Callable[[], list[str]]


#: A user who waits for the volume to be free asks again and again, longer than any lost message takes.
PATIENCE_TRIES = 150
PATIENCE_S = 1.0
#: What everything gets to come back and look around.
RESTART_S = 6.0


class Scene:
    """Two servers and a volume in a run's world, and questions about them."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.server, self.other = run.servers
        (self.volume,) = run.volumes
        #: Another volume, for operations that need one.
        self.spare = ""

    async def ask(self, request: Request) -> bool:
        """As `Run.ask`."""
        return await self.run.ask(request)

    async def ask_at_once(self, *requests: Request) -> None:
        """Ask for all of them, each as soon as the one before it has been answered, and wait for nothing else."""
        for request in requests:
            await self.run.ask(request)

    def not_attached(self) -> list[str]:
        """What keeps the volume from being in the server."""
        return self.run.checker.find_missing(self.server, self.volume)

    def held(self) -> list[str]:
        """What still holds the volume."""
        return self.run.checker.find_held()

    def not_running(self) -> list[str]:
        """Why the server does not run as it should."""
        return self.find_other_power(PowerState.RUNNING)

    def not_stopped(self) -> list[str]:
        """Why the server is not off as it should be."""
        return self.find_other_power(PowerState.SHUTOFF)

    def find_other_power(self, power: PowerState) -> list[str]:
        """Why the server's guest is not in that state."""
        (row,) = self.run.checker.rows(f"SELECT * FROM servers WHERE id = '{self.server}'")  # noqa: S608
        truth = self.run.world.hosts[row["host"]].hypervisor.servers.get(self.server)
        found = [] if truth is not None and truth.power is power else [f"{self.server} is not {power.name}"]
        return found + self.run.checker.find_unfinished()

    def not_offloaded(self) -> list[str]:
        """What keeps the server from being shelved, without a host, and with its volume."""
        (row,) = self.run.checker.rows(f"SELECT * FROM servers WHERE id = '{self.server}'")  # noqa: S608
        found = [] if row["goal"] == "offloaded" and row["rung"] == ServerRung.OFFLOADED else ["it is not shelved"]
        found += [f"domain on {host.name}" for host in self.run.world.hosts.values() if self._is_on(host)]
        claims = self.run.checker.rows(f"SELECT * FROM claims WHERE live = 1 AND holder = '{self.server}'")  # noqa: S608
        paths = self.run.checker.rows(f"SELECT * FROM paths WHERE live = 1 AND server_id = '{self.server}'")  # noqa: S608
        found += [] if len(claims) == 1 and not paths else [f"{len(claims)} claims and {len(paths)} paths"]
        return found + self.run.checker.find_unfinished()

    def _is_on(self, host: HostTruth) -> bool:
        return self.server in host.hypervisor.servers

    def not_imaged(self) -> list[str]:
        """What keeps an image of the server from being whole."""
        made = self.run.checker.rows("SELECT * FROM images WHERE name = 'kept' AND status = 'active'")
        missing = [row["id"] for row in made if row["file"] not in self.run.world.images.kept]
        return missing + ([] if made else ["there is no image"]) + self.run.checker.find_unfinished()

    def images_there(self) -> list[str]:
        """What is left of images of servers."""
        return [f"file {name}" for name in self.run.world.images.kept] + self.run.checker.find_unfinished()

    def not_back(self) -> list[str]:
        """What a server lacks that was shelved: it runs, with its volume, and nothing is kept for it elsewhere."""
        kept = [f"image {name}" for name in self.run.world.images.kept]
        return self.not_running() + self.not_attached() + kept

    def not_grown_to(self, size_gib: int) -> Find:
        """What keeps the volume from having that size, everywhere."""

        def find() -> list[str]:
            (row,) = self.run.checker.rows(f"SELECT * FROM volumes WHERE id = '{self.volume}'")  # noqa: S608
            there = self.run.world.backend.volumes[self.volume].size_bytes
            grown = row["size_gib"] == size_gib and there == size_gib << 30
            return ([] if grown else [f"{self.volume} has {row['size_gib']} GiB"]) + self.run.checker.find_unfinished()

        return find

    def made_servers(self) -> list[dict[str, Any]]:
        """The servers that the sweep has made with volumes, and that are not deleted yet."""
        return self.run.checker.rows(f"SELECT * FROM servers WHERE deleted_at IS NULL AND name = '{MADE}'")  # noqa: S608

    def not_made(self) -> list[str]:
        """What a server that was asked for with volumes lacks."""
        found = self.made_servers()
        if len(found) != 1:
            return [f"there are {len(found)} servers"]
        (row,) = found
        truth = self.run.world.hosts[row["host"]].hypervisor.servers.get(row["id"])
        if truth is None or truth.power is not PowerState.RUNNING or len(truth.live) != 2:
            return [f"{row['id']} does not run with two disks: {row['fault']}"]
        return self.run.checker.find_missing(row["id"], self.volume) + self.run.checker.find_unfinished()

    def made_there(self) -> list[str]:
        """What is left of servers that were made with volumes."""
        servers = [f"server {row['id']}" for row in self.made_servers()]
        return servers + [f"volume {volume}" for volume in self.made_volumes()] + self.held()

    def made_volumes(self) -> list[str]:
        """The volumes that were made for them, and that are not deleted yet."""
        return [row["id"] for row in self.run.checker.rows(_VOLUMES) if row["id"] not in self.run.volumes]

    def server_there(self) -> list[str]:
        """What is left of a deleted server."""
        gone = [f"row {row['id']}" for row in self.run.checker.rows(_SERVERS) if row["id"] == self.server]
        hosts = self.run.world.hosts.values()
        return gone + [f"domain on {host.name}" for host in hosts if self.server in host.hypervisor.servers]

    def volume_there(self) -> list[str]:
        """What is left of a deleted volume."""
        rows = [f"row {row['id']}" for row in self.run.checker.rows(_VOLUMES) if row["id"] == self.volume]
        return rows + ([f"file of {self.volume}"] if self.volume in self.run.world.backend.volumes else [])


_SERVERS = "SELECT id FROM servers WHERE deleted_at IS NULL"
_VOLUMES = "SELECT id FROM volumes WHERE deleted_at IS NULL"

Step = Callable[[Scene], Awaitable[object]]
Finder = Callable[[Scene], list[str]]


@dataclass(frozen=True)
class Operation:
    """One row of the sweep."""

    name: str
    #: What is asked for, with a fault somewhere on its way.
    ask: Step
    #: The same again, without faults, and what is then missing for it to have worked.
    again: Step
    missing_again: Finder
    #: The opposite, and what is then missing.
    opposite: Step
    missing_opposite: Finder
    #: What comes before, without faults.
    prepare: Sequence[Step] = ()


def _attach(scene: Scene) -> Awaitable[object]:
    return scene.ask(attach(scene.server, scene.volume))


async def _attach_patiently(scene: Scene) -> None:
    """A volume whose last attach is still being rolled back is refused: a user asks until it is free."""
    for _ in range(PATIENCE_TRIES):
        if await scene.ask(attach(scene.server, scene.volume)) or not scene.not_attached():
            return
        await asyncio.sleep(PATIENCE_S)


async def _attach_elsewhere(scene: Scene) -> None:
    for _ in range(PATIENCE_TRIES):
        if await scene.ask(attach(scene.other, scene.volume)) or not _elsewhere(scene):
            return
        await asyncio.sleep(PATIENCE_S)


def _detach(scene: Scene) -> Awaitable[object]:
    return scene.ask(detach(scene.server, scene.volume))


async def _detach_everywhere(scene: Scene) -> None:
    await scene.ask_at_once(detach(scene.server, scene.volume), detach(scene.other, scene.volume))


def _attach_and_detach(scene: Scene) -> Awaitable[object]:
    return scene.ask_at_once(attach(scene.server, scene.volume), detach(scene.server, scene.volume))


async def _hand_over(scene: Scene) -> None:
    """Detach here, and attach there as soon as the volume is free: a user asks until that is accepted."""
    await scene.ask(detach(scene.server, scene.volume))
    await _attach_elsewhere(scene)


def _attach_and_delete(scene: Scene) -> Awaitable[object]:
    return scene.ask_at_once(attach(scene.server, scene.volume), delete_server(scene.server))


def _delete_server(scene: Scene) -> Awaitable[object]:
    return scene.ask(delete_server(scene.server))


def _delete_volume(scene: Scene) -> Awaitable[object]:
    return scene.ask(delete_volume(scene.volume))


def _stop(scene: Scene) -> Awaitable[object]:
    return scene.ask(stop(scene.server))


def _start(scene: Scene) -> Awaitable[object]:
    return scene.ask(start(scene.server))


async def _reshape(scene: Scene) -> None:
    """As what users ask for does it; a server in error is made anew, too."""
    await scene.ask(reshape(scene.server))


def _asking(action: str) -> Step:
    return lambda scene: scene.ask(ask_life(scene.server, action))


def _in(power: PowerState) -> Finder:
    return lambda scene: scene.find_other_power(power)


def _reviving(action: str, power: PowerState) -> Step:
    """The action; on a server that is not there yet, and whose guest has died meanwhile, after a hard reboot."""

    async def ask(scene: Scene) -> None:
        if await scene.ask(ask_life(scene.server, action)) or not scene.find_other_power(power):
            return
        await scene.ask(reboot(scene.server, BootKind.HARD))
        await scene.run.until(scene.run.checker.find_unfinished)
        await scene.ask(ask_life(scene.server, action))

    return ask


def _there_and_back(there: str, back: str) -> Step:
    async def ask(scene: Scene) -> None:
        await scene.ask(ask_life(scene.server, there))
        await scene.run.until(scene.run.checker.find_unfinished)
        await scene.ask(ask_life(scene.server, back))

    return ask


async def _start_or_revive(scene: Scene) -> None:
    """A server that failed to start is in error, and is revived by a hard reboot, as in Nova."""
    if not await scene.ask(start(scene.server)):
        await scene.ask(reboot(scene.server, BootKind.HARD))


def _create_image(scene: Scene) -> Awaitable[object]:
    return scene.ask(create_image(scene.server))


async def _create_image_patiently(scene: Scene) -> None:
    """A server that is in error is revived before an image is made of it."""
    for _ in range(PATIENCE_TRIES):
        if not scene.not_imaged():
            return
        if not await _create_image(scene):
            await _start_or_revive(scene)
        await scene.run.until(scene.run.checker.find_unfinished)


def _delete_images(scene: Scene) -> Awaitable[object]:
    return scene.ask(delete_images())


def _shelve(scene: Scene) -> Awaitable[object]:
    return scene.ask(shelve(scene.server))


def _unshelve(scene: Scene) -> Awaitable[object]:
    return scene.ask(unshelve(scene.server))


async def _shelve_patiently(scene: Scene) -> None:
    """A server that could not be shelved, or came back in error, is revived, and asked for again."""
    for _ in range(PATIENCE_TRIES):
        if not scene.not_offloaded():
            return
        if not await scene.ask(shelve(scene.server)):
            await scene.ask(reboot(scene.server, BootKind.HARD))
        await asyncio.sleep(PATIENCE_S)


async def _unshelve_patiently(scene: Scene) -> None:
    """One that could not be started on its new host is started again, as any other that failed to."""
    for _ in range(PATIENCE_TRIES):
        if not scene.not_back():
            return
        if not await scene.ask(unshelve(scene.server)):
            await _start_or_revive(scene)
        await asyncio.sleep(PATIENCE_S)


def _reboot(scene: Scene) -> Awaitable[object]:
    return scene.ask(reboot(scene.server, BootKind.HARD))


def _extend(scene: Scene) -> Awaitable[object]:
    return scene.ask(extend(scene.volume, 2))


async def _extend_again(scene: Scene) -> None:
    """A volume that failed to grow shows its error until somebody has read it, as in Cinder."""
    await scene.ask(reset_status(scene.volume))
    await scene.ask(extend(scene.volume, 3))


def _create_server(scene: Scene) -> Awaitable[object]:
    return scene.ask(create_server(MADE, scene.volume))


async def _create_patiently(scene: Scene) -> None:
    """A server that could not be built is deleted, and asked for again once its volume is free.

    One whose guest went with its host's power is started.
    """
    for _ in range(PATIENCE_TRIES):
        if not scene.not_made():
            return
        for row in scene.made_servers():
            if row["fault"] is not None:
                await scene.ask(delete_server(row["id"]))
            elif row["goal"] == "stopped":
                await scene.ask(start(row["id"]))
        if not scene.made_servers():
            await _create_server(scene)
        await asyncio.sleep(PATIENCE_S)


async def _delete_made(scene: Scene) -> None:
    """A volume that could not be deleted with its server shows its error until somebody deletes it again."""
    for row in scene.made_servers():
        await scene.ask(delete_server(row["id"]))
    for _ in range(PATIENCE_TRIES):
        if not scene.made_there():
            return
        await asyncio.sleep(PATIENCE_S)
        for volume in scene.made_volumes():
            await scene.ask(delete_volume(volume))


async def _create_and_delete(scene: Scene) -> None:
    await _create_server(scene)
    for row in scene.made_servers():
        await scene.ask(delete_server(row["id"]))


async def _restart(scene: Scene) -> None:
    """Every process dies and comes back, and looks at everything that it finds."""
    for slot in scene.run.slots:
        slot.crash()
    await asyncio.sleep(RESTART_S)


def _elsewhere(scene: Scene) -> list[str]:
    return scene.run.checker.find_missing(scene.other, scene.volume)


async def _make_spare(scene: Scene) -> None:
    await scene.ask(create_volume())
    (scene.spare,) = scene.made_volumes()
    scene.run.volumes.append(scene.spare)


def _swap(scene: Scene) -> Awaitable[object]:
    return scene.ask(swap(scene.server, scene.volume, scene.spare))


async def _swap_patiently(scene: Scene) -> None:
    """A swap that failed leaves the volume that it had; a guest that went with its host's power is started first."""
    for _ in range(PATIENCE_TRIES):
        if not _not_swapped(scene):
            return
        if scene.not_running():
            await _start_or_revive(scene)
        else:
            await _swap(scene)
        await asyncio.sleep(PATIENCE_S)


async def _swap_and_cancel(scene: Scene) -> None:
    await scene.ask_at_once(swap(scene.server, scene.volume, scene.spare), cancel_swap(scene.server, scene.volume))


async def _detach_both(scene: Scene) -> None:
    await scene.ask_at_once(detach(scene.server, scene.volume), detach(scene.server, scene.spare))


def _not_swapped(scene: Scene) -> list[str]:
    return scene.run.checker.find_missing(scene.server, scene.spare)


async def _rebuild_made(scene: Scene) -> None:
    for row in scene.made_servers():
        await scene.ask(rebuild(row["id"]))


async def _rebuild_patiently(scene: Scene) -> None:
    """A server that is there is rebuilt; one whose rebuild failed is in error, and is rebuilt all the same."""
    await _rebuild_made(scene)
    await scene.run.until(scene.run.checker.find_unfinished)
    await _create_patiently(scene)


ATTACHED = (_attach,)
SPARE = (_attach, _make_spare)

OPERATIONS: tuple[Operation, ...] = (
    Operation("attach", _attach, _attach_patiently, Scene.not_attached, _detach, Scene.held),
    Operation("detach", _detach, _detach, Scene.held, _attach_patiently, Scene.not_attached, ATTACHED),
    Operation(
        "detach behind attach",
        _attach_and_detach,
        _attach_and_detach,
        Scene.held,
        _attach_patiently,
        Scene.not_attached,
    ),
    Operation("hand over", _hand_over, _hand_over, _elsewhere, _detach_everywhere, Scene.held, ATTACHED),
    Operation(
        "delete server, volume attached",
        _delete_server,
        _delete_server,
        Scene.server_there,
        _attach_elsewhere,
        _elsewhere,
        ATTACHED,
    ),
    Operation(
        "delete server, half attached",
        _attach_and_delete,
        _delete_server,
        Scene.server_there,
        _attach_elsewhere,
        _elsewhere,
    ),
    Operation(
        "create server with volumes",
        _create_server,
        _create_patiently,
        Scene.not_made,
        _delete_made,
        Scene.made_there,
    ),
    Operation(
        "rebuild server, root on a volume",
        _rebuild_made,
        _rebuild_patiently,
        Scene.not_made,
        _delete_made,
        Scene.made_there,
        (_create_server,),
    ),
    Operation(
        "delete server, half made with volumes",
        _create_and_delete,
        _delete_made,
        Scene.made_there,
        _attach_patiently,
        Scene.not_attached,
    ),
    Operation("delete volume", _delete_volume, _delete_volume, Scene.volume_there, _start, Scene.held),
    Operation("stop", _stop, _stop, Scene.not_stopped, _start_or_revive, Scene.not_running, ATTACHED),
    Operation("start", _start, _start_or_revive, Scene.not_running, _stop, Scene.not_stopped, (_attach, _stop)),
    Operation(
        "suspend",
        _asking("suspend"),
        _reviving("suspend", PowerState.SUSPENDED),
        _in(PowerState.SUSPENDED),
        _asking("resume"),
        Scene.not_running,
        ATTACHED,
    ),
    Operation(
        "resume",
        _asking("resume"),
        _reviving("resume", PowerState.RUNNING),
        Scene.not_running,
        _there_and_back("suspend", "resume"),
        Scene.not_running,
        (_attach, _asking("suspend")),
    ),
    Operation(
        "make anew (rescue, rebuild, resize)",
        _reshape,
        _reshape,
        Scene.not_running,
        _stop,
        Scene.not_stopped,
        ATTACHED,
    ),
    Operation(
        "create image",
        _create_image,
        _create_image_patiently,
        Scene.not_imaged,
        _delete_images,
        Scene.images_there,
        ATTACHED,
    ),
    Operation(
        "shelve",
        _shelve,
        _shelve_patiently,
        Scene.not_offloaded,
        _unshelve_patiently,
        Scene.not_back,
        ATTACHED,
    ),
    Operation(
        "unshelve",
        _unshelve,
        _unshelve_patiently,
        Scene.not_back,
        _shelve_patiently,
        Scene.not_offloaded,
        (_attach, _shelve),
    ),
    Operation("hard reboot", _reboot, _reboot, Scene.not_running, _stop, Scene.not_stopped, ATTACHED),
    Operation(
        "extend, attached",
        _extend,
        _extend_again,
        lambda scene: scene.not_grown_to(3)(),
        _detach,
        Scene.held,
        ATTACHED,
    ),
    Operation("swap", _swap, _swap_patiently, _not_swapped, _detach_both, Scene.held, SPARE),
    Operation("swap, cancelled", _swap_and_cancel, _swap_patiently, _not_swapped, _detach_both, Scene.held, SPARE),
    Operation(
        "snapshot, attached",
        contents.snapshot,
        contents.snapshot,
        contents.no_snapshot,
        contents.drop_snapshots,
        contents.kept,
        ATTACHED,
    ),
    Operation(
        "delete snapshot",
        contents.drop_snapshots,
        contents.drop_snapshots,
        contents.kept,
        contents.snapshot,
        contents.no_snapshot,
        (contents.snapshot,),
    ),
    Operation(
        "volume from volume",
        contents.copy,
        contents.copy,
        contents.no_copy,
        contents.drop_copies,
        contents.copies_left,
    ),
    Operation("backup", contents.backup, contents.backup, contents.no_backup, contents.drop_backups, contents.kept),
    Operation(
        "restore of a backup",
        contents.restore_one,
        contents.restore_one,
        contents.no_copy,
        contents.drop_copies,
        contents.copies_left,
        (contents.backup,),
    ),
    Operation(
        "restart of everything", _restart, _restart, Scene.not_attached, _detach_everywhere, Scene.held, ATTACHED
    ),
)
