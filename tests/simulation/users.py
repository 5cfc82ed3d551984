"""What users of a simulated Kevel ask for, and what befalls it besides the faults at single points."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from kevel.control.attachments.attachments import find_server
from kevel.control.backups.backups import NewBackup
from kevel.control.copies.snapshots import NewSnapshot
from kevel.control.servers.life import check_task_state
from kevel.control.servers.servers import NewServer
from kevel.control.servers.shelving import Place
from kevel.control.volumes.volumes import NewVolume
from kevel.domain.errors import NotFound
from kevel.domain.model import Actor, BootKind, ServerGoal
from kevel.domain.server_disks import DiskSource, NewDisk
from kevel.store.attachments import open_of_volume
from kevel.store.images import discard_image, list_images
from kevel.store.server_rows import want_shape
from kevel.store.snapshots import live_snapshots
from kevel.store.transactions import Tx
from tests.simulation.processes import ControlProcess

#: The name of servers that are made with volumes.
MADE = "made"
#: What servers are resized to.
FLAVORS = ("tiny", "1")
USER = Actor(user_id="u", project_id="p", request_id="req-sim", is_admin=True)


class Request(NamedTuple):
    """One thing that a user asks for."""

    name: str
    server: str
    volume: str
    send: Callable[[ControlProcess], Coroutine[Any, Any, Any]]


def attach(server: str, volume: str, *, goes_with_server: bool = False) -> Request:
    """Attach the volume to the server."""
    return Request(
        "attach",
        server,
        volume,
        lambda process: process.attachments.attach(
            USER, server, volume, device=None, tag=None, delete_on_termination=goes_with_server
        ),
    )


def detach(server: str, volume: str) -> Request:
    """Detach it."""
    return Request("detach", server, volume, lambda process: process.attachments.detach(USER, server, volume))


def declare(volume: str) -> Request:
    """Declare an attachment to something that is no server of ours, and have it let in."""
    return Request(
        "declare",
        "",
        volume,
        lambda process: process.workers.external.create(
            USER, volume, instance_id=None, connector={"host": "metal"}, mode=None
        ),
    )


def end_declared(volume: str) -> Request:
    """Have everything shut out and ended that was declared of the volume."""
    return Request("end declared", "", volume, lambda process: _end_declared(process, volume))


async def _end_declared(process: ControlProcess, volume: str) -> None:
    for view in await process.runtime.store.read(open_of_volume, volume):
        if view.attachment.is_external:
            with suppress(NotFound):  # somebody else has ended it
                await process.workers.external.delete(USER, view.attachment.id)


def ask_life(server: str, action: str) -> Request:
    """Have the server started, stopped, paused, unpaused, suspended or resumed."""
    return Request(action, server, "", lambda process: process.servers.ask(USER, server, action))


def rescue(server: str) -> Request:
    """Have it booted from another disk, with its own as the second."""
    return Request(
        "rescue", server, "", lambda process: process.servers.rescue(USER, server, None, takes_volume_root=True)
    )


def rebuild(server: str) -> Request:
    """Give it a new root disk."""
    return Request(
        "rebuild",
        server,
        "",
        lambda process: process.servers.rebuild(
            USER,
            server,
            "image",
            name=None,
            description=msgspec.UNSET,
            metadata=None,
            drops_key=False,
            hostname=None,
            auto_disk=None,
            reimages=True,
        ),
    )


def resize(server: str, flavor: str) -> Request:
    """Give it another flavor, for as long as nobody reverts that."""
    return Request(f"resize to {flavor}", server, "", lambda process: process.servers.resize(USER, server, flavor))


def end_shape(server: str, action: str) -> Request:
    """End a rescue (`unrescue`), or take a resize back (`revertResize`)."""
    return Request(action, server, "", lambda process: process.servers.change_shape(USER, server, action))


def confirm_resize(server: str) -> Request:
    """Keep the new flavor."""
    return Request("confirm resize", server, "", lambda process: process.servers.confirm_resize(USER, server))


def reshape(server: str) -> Request:
    """Have its domain made anew, whatever for."""
    return Request(
        "make anew",
        server,
        "",
        lambda process: process.runtime.store.write(_reshape, server, process.runtime.clock.now_us()),
    )


def shelve(server: str) -> Request:
    """Have it give its host away, with everything kept."""
    return Request("shelve", server, "", lambda process: process.shelving.shelve(USER, server))


def unshelve(server: str) -> Request:
    """Have it run again."""
    return Request("unshelve", server, "", lambda process: process.shelving.unshelve(USER, server, Place()))


def create_image(server: str) -> Request:
    """Have an image made of it."""
    return Request("create image", server, "", lambda process: process.imaging.create_image(USER, server, "kept", {}))


def delete_images() -> Request:
    """Delete all images that were made of servers."""
    return Request(
        "delete images",
        "",
        "",
        lambda process: process.runtime.store.write(_delete_images, process.runtime.clock.now_us()),
    )


def _delete_images(tx: Tx, at: int) -> None:
    for image in list_images(tx, project_id=None):
        if "instance_uuid" in image.properties:
            discard_image(tx, image.id, request_id=USER.request_id, at=at)


def _reshape(tx: Tx, server_id: str, at: int) -> None:
    server = find_server(tx, server_id, USER)
    check_task_state(server, "rebuild")
    extras = msgspec.structs.replace(server.extras, root_number=server.wanted_shape + 1)
    goal, deadline_at = ServerGoal.RUNNING, at + 300_000_000
    want_shape(
        tx, server, "rebuild", "rebuilding", goal=goal, extras=extras, actor=USER, at=at, deadline_at=deadline_at
    )


def stop(server: str) -> Request:
    """Shut the server's guest down."""
    return ask_life(server, "stop")


def start(server: str) -> Request:
    """Start it."""
    return ask_life(server, "start")


def reboot(server: str, kind: BootKind) -> Request:
    """Reboot it, soft or hard."""
    return Request(f"reboot {kind.value}", server, "", lambda process: process.servers.reboot(USER, server, kind))


def extend(volume: str, size_gib: int) -> Request:
    """Grow the volume, attached or not."""
    return Request(
        f"extend to {size_gib}",
        "",
        volume,
        lambda process: process.volumes.extend(USER, volume, size_gib, in_use=True),
    )


def swap(server: str, volume: str, other: str) -> Request:
    """Give the server's guest the other volume in this one's place."""
    return Request("swap", server, volume, lambda process: _swap(process, server, volume, other))


async def _swap(process: ControlProcess, server: str, volume: str, other: str) -> None:
    view = await process.attachments.find(USER, server, volume)
    await process.workers.swaps.swap(USER, view.attachment.id, other)


def cancel_swap(server: str, volume: str) -> Request:
    """Give up the swap of that volume."""
    return Request("cancel swap", server, volume, lambda process: _cancel_swap(process, server, volume))


async def _cancel_swap(process: ControlProcess, server: str, volume: str) -> None:
    view = await process.attachments.find(USER, server, volume)
    await process.workers.swaps.cancel(USER, view.attachment.id)


def create_volume() -> Request:
    """A volume of 1 GiB."""
    return Request("create volume", "", "", lambda process: process.volumes.create(USER, NewVolume(size_gib=1)))


def create_server(name: str, volume: str) -> Request:
    """Make a server that boots from a volume made for it, which goes with it, and that has this volume besides."""
    root = NewDisk(number=0, source=DiskSource.BLANK, source_id=None, boot_index=0, size_gib=1)
    root = msgspec.structs.replace(root, delete_on_termination=True)
    data = NewDisk(number=1, source=DiskSource.VOLUME, source_id=volume, boot_index=None)
    new = NewServer(name=name, description=None, flavor="tiny", image_id="", metadata={}, disks=(root, data))
    return Request("create server", "", volume, lambda process: process.servers.create(USER, new))


def delete_server(server: str) -> Request:
    """Delete the server."""
    return Request("delete server", server, "", lambda process: process.servers.delete(USER, server))


def delete_volume(volume: str) -> Request:
    """Delete the volume."""
    return Request("delete volume", "", volume, lambda process: process.volumes.delete(USER, volume, force=False))


def take_snapshot(volume: str) -> Request:
    """Take a snapshot of the volume, in use or not."""
    new = NewSnapshot(volume_id=volume, in_use=True)
    return Request("snapshot", "", volume, lambda process: process.snapshots.create(USER, new))


def delete_snapshot(snapshot: str) -> Request:
    """Delete it."""
    return Request(
        "delete snapshot", "", snapshot, lambda process: process.snapshots.delete(USER, snapshot, force=False)
    )


def drop_snapshots(volume: str) -> Request:
    """Delete all snapshots of the volume."""
    return Request("drop snapshots", "", volume, lambda process: _drop_snapshots(process, volume))


async def _drop_snapshots(process: ControlProcess, volume: str) -> None:
    for snapshot in await process.runtime.store.read(live_snapshots, volume):
        await process.snapshots.delete(USER, snapshot.id, force=False)


def copy_volume(volume: str) -> Request:
    """Make another volume from it, in use or not."""
    new = NewVolume(source_volume_id=volume)
    return Request("copy volume", "", volume, lambda process: process.volumes.create(USER, new))


def back_up(volume: str) -> Request:
    """Back the volume up, in use or not."""
    new = NewBackup(volume_id=volume, force=True)
    return Request("back up", "", volume, lambda process: process.backups.create(USER, new))


def restore(backup: str) -> Request:
    """Restore it into a new volume."""
    return Request("restore", "", backup, lambda process: process.backups.restore(USER, backup, None, None))


def delete_backup(backup: str) -> Request:
    """Delete it."""
    return Request("delete backup", "", backup, lambda process: process.backups.delete(USER, backup, force=False))


def reset_status(volume: str) -> Request:
    """Take an error of the volume for read, as an operator does."""
    return Request(
        "reset status", "", volume, lambda process: process.volumes.reset_status(USER, volume, "available", None)
    )


def draw_request(dice: random.Random, servers: Sequence[str], volumes: Sequence[str]) -> Request:
    """Something that a user may ask for next."""
    server, volume = dice.choice(servers), dice.choice(volumes)
    requests = {
        attach(server, volume, goes_with_server=dice.random() < 0.1): 10,
        detach(server, volume): 8,
        stop(server): 2,
        start(server): 3,
        reboot(server, dice.choice(list(BootKind))): 2,
        extend(volume, dice.randint(2, 5)): 1,
        delete_server(server): 0.4,
        delete_volume(volume): 0.3,
        declare(volume): 1.5,
        end_declared(volume): 1.5,
        take_snapshot(volume): 1,
        drop_snapshots(volume): 0.7,
        copy_volume(volume): 0.5,
        back_up(volume): 0.5,
        create_server(MADE, volume): 0.8,
        rescue(server): 1,
        rebuild(server): 1,
        resize(server, dice.choice(FLAVORS)): 1.5,
        confirm_resize(server): 0.7,
    }
    requests |= {ask_life(server, action): 1 for action in ("pause", "unpause", "suspend", "resume")}
    requests |= {end_shape(server, action): 1.2 for action in ("unrescue", "revertResize")}
    return dice.choices(list(requests), weights=list(requests.values()))[0]
