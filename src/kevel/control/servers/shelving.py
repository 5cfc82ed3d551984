"""Shelving: a server keeps what it has, and gives its place away until it is to run again.

What is on a root disk of its own is kept in an image of the project, as Nova does: any host can make a disk of an
image, and its users see what they pay for. A root disk that is a volume is kept by itself. Volumes stay the server's:
reserved for it, without a path, until a host, the same or another, is to run it again.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

import msgspec

from kevel.control.attachments.attachments import Attachments, find_server
from kevel.control.images.server_images import enter_root_image
from kevel.control.runtime import Runtime
from kevel.control.servers.choosing_hosts import choose_hosts
from kevel.control.servers.life import check_task_state, check_unlocked, check_vm_state
from kevel.domain.errors import Conflict
from kevel.domain.ladder import Goal
from kevel.domain.limits import Limits
from kevel.domain.model import Actor, KeptRoot, Server, ServerGoal, ServerRung, Shelf
from kevel.domain.status import UNSHELVING
from kevel.storage.image_files import ImageFiles
from kevel.store.attachments import holds_of_server, open_of_server
from kevel.store.path_moves import set_goal
from kevel.store.server_groups import group_of_server, load_group
from kevel.store.server_rows import ask_goal, keep_shelved
from kevel.store.transactions import Tx
from kevel.store.volumes import load_volume

_SHELVE_STATES: Final = ("active", "stopped", "paused", "suspended")
_UNSHELVE_STATES: Final = ("shelved", "shelved_offloaded")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a shelved server is to run again. UNSET: where its zone was chosen before; None: anywhere."""

    zone: str | msgspec.UnsetType | None = msgspec.UNSET
    host: str | None = None


class Shelving:
    """The use cases. Every check stands in the transaction that also writes (S9)."""

    def __init__(
        self, runtime: Runtime, attachments: Attachments, images: ImageFiles, limits: Limits, *, offloads: bool = True
    ) -> None:
        self._runtime = runtime
        self._attachments = attachments
        self._images = images
        self._limits = limits
        self._offloads = offloads

    async def shelve(self, actor: Actor, server_id: str) -> None:
        """Stop a server and keep its root disk; then, unless the configuration says otherwise, free its host."""
        ids, at = self._runtime.ids, self._runtime.clock.now_us()
        root = KeptRoot(image_id=ids.uuid(), file=self._images.name_file(ids.uuid()))
        await self._runtime.store.write(_shelve, server_id, actor, root, self._limits, at, offloads=self._offloads)

    async def offload(self, actor: Actor, server_id: str) -> None:
        """Free the host of a shelved server."""
        at = self._runtime.clock.now_us()
        deadline_at = at + int(self._limits.server_timeout_s * 1e6)
        await self._runtime.store.write(_offload, server_id, actor, at, deadline_at)

    async def unshelve(self, actor: Actor, server_id: str, place: Place) -> None:
        """Have a shelved server run again, on another host if it has left its own.

        Raises Invalid for a place that there is not, Conflict where no host has room for it.
        """
        drawn, at = self._runtime.ids.uuid(), self._runtime.clock.now_us()
        deadline_at = at + int(self._limits.server_timeout_s * 1e6)
        await self._runtime.store.write(self._unshelve, server_id, actor, place, drawn, at, deadline_at)

    def _unshelve(
        self, tx: Tx, server_id: str, actor: Actor, place: Place, drawn: str, at: int, deadline_at: int
    ) -> None:
        server = find_server(tx, server_id, actor)
        check_unlocked(server, actor)
        check_vm_state(server, "unshelve", _UNSHELVE_STATES)
        check_task_state(server, "unshelve")
        extras = msgspec.structs.replace(server.extras, task=UNSHELVING)
        if server.rung is not ServerRung.OFFLOADED:
            if place != Place():
                raise Conflict(
                    f"Cannot 'unshelve' instance {server.id} to another place while it is in vm_state shelved: it has "
                    "its place still."
                )
            changes: dict[str, Any] = {}
        else:
            changes = self._choose_place(tx, server, place, at)
            if not isinstance(place.zone, msgspec.UnsetType):
                extras = msgspec.structs.replace(extras, pinned_zone=place.zone)
            extras = msgspec.structs.replace(extras, root_number=server.wanted_shape + 1)
        server = ask_goal(
            tx,
            server,
            ServerGoal.RUNNING,
            "unshelve",
            actor=actor,
            at=at,
            deadline_at=deadline_at,
            extras=extras,
            wanted_boot=server.wanted_boot + 1,
            **changes,
        )
        if changes:
            self._give_paths(tx, server, actor, drawn, at)

    def _choose_place(self, tx: Tx, server: Server, place: Place, at: int) -> dict[str, Any]:
        """Another host, or the same: what changes with it."""
        zone = server.extras.pinned_zone if isinstance(place.zone, msgspec.UnsetType) else place.zone
        group_id = group_of_server(tx, server.id)
        held = open_of_server(tx, server.id)
        volumes = [load_volume(tx, attachment.volume_id) for attachment in held]
        room = choose_hosts(
            tx,
            zone=zone,
            host=place.host,
            flavor=server.flavor,
            volumes=sum(one.boot_index != 0 for one in held),
            group=None if group_id is None else load_group(tx, group_id),
            near=(),
            apart=(),
            pools={volume.backend for volume in volumes if volume is not None},
            makes=False,
            images=any(server.image.get(name) is not None for name in ("file", "kernel_file", "ramdisk_file")),
            count_min=1,
            count_max=1,
            at=at,
        )[0]
        return {
            "host": room.host,
            "availability_zone": room.availability_zone,
            "rung": ServerRung.PLACED,
            "wanted_shape": server.wanted_shape + 1,
        }

    def _give_paths(self, tx: Tx, server: Server, actor: Actor, drawn: str, at: int) -> None:
        """Let the server have its volumes on its host. Ids of paths follow from what was drawn for the request."""
        for attachment in open_of_server(tx, server.id):
            volume = load_volume(tx, attachment.volume_id)
            if volume is None:
                raise AssertionError(f"attachment {attachment.id} has no volume")
            set_goal(
                tx,
                attachment,
                Goal.ATTACHED,
                by="user",
                request_id=actor.request_id,
                actor=f"user:{actor.user_id}",
                at=at,
                deadline_at=server.deadline_at,
                reason=None,
            )
            path_id = str(uuid.uuid5(uuid.UUID(drawn), attachment.id))
            self._attachments.give_path(tx, attachment, volume, path_id, server.host, actor=actor, at=at)


def _shelve(tx: Tx, server_id: str, actor: Actor, root: KeptRoot, limits: Limits, at: int, *, offloads: bool) -> None:
    server = find_server(tx, server_id, actor)
    check_unlocked(server, actor)
    check_vm_state(server, "shelve", _SHELVE_STATES)
    check_task_state(server, "shelve")
    if any(attachment.aside for attachment in holds_of_server(tx, server.id)):
        raise Conflict(f"Cannot 'shelve' instance {server.id} while one of its volumes is swapped for another.")
    has_root = server.image["file"] is not None
    deadline_at = at
    if has_root:
        deadline_at = enter_root_image(
            tx, actor, server, f"{server.name[:247]}-shelved", root, as_is=True, metadata={}, limits=limits, at=at
        )
    shelf = Shelf(root=root if has_root else None, offloads=offloads)
    server = ask_goal(
        tx,
        server,
        ServerGoal.SHELVED,
        "shelve",
        actor=actor,
        at=at,
        # The guest's end, the copy and the host's leave-taking, one after the other.
        deadline_at=deadline_at + 2 * int(limits.server_timeout_s * 1e6),
        extras=msgspec.structs.replace(server.extras, shelf=shelf, task=None),
    )
    if not has_root and server.rung is ServerRung.DEFINED:
        keep_shelved(tx, server, actor=f"user:{actor.user_id}", at=at)


def _offload(tx: Tx, server_id: str, actor: Actor, at: int, deadline_at: int) -> None:
    server = find_server(tx, server_id, actor)
    check_unlocked(server, actor)
    check_vm_state(server, "shelveOffload", ("shelved",))
    check_task_state(server, "shelveOffload")
    ask_goal(
        tx,
        server,
        ServerGoal.OFFLOADED,
        "shelveOffload",
        actor=actor,
        at=at,
        deadline_at=deadline_at,
        extras=msgspec.structs.replace(server.extras, task=None),
    )
