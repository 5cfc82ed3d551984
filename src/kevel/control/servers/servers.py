"""Servers: the use cases. Every check stands in the transaction that also writes (S9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from kevel.control.attachments.attachments import find_server
from kevel.control.images.images import Images, describe_volume_root
from kevel.control.pools.pools import PoolRoom
from kevel.control.runtime import Runtime
from kevel.control.servers.choosing_hosts import HostView, choose_hosts, disable_host, hosts_of, view_hosts
from kevel.control.servers.disks import DiskIds, ServerDisks, pools_of, rooms_near
from kevel.control.servers.flavors import Flavors
from kevel.control.servers.groups import check_members, find_hinted_group
from kevel.control.servers.life import (
    ask_confirm,
    ask_life,
    ask_reboot,
    ask_restore,
    ask_shape,
    check_unlocked,
    reset_state,
)
from kevel.control.servers.records import (
    ServerChanges,
    ServerNews,
    change_metadata,
    change_record,
    change_tags,
    check_name,
    hear_news,
    lock_server,
    unlock_server,
)
from kevel.control.servers.shapes import (
    Rebuild,
    ask_rebuild,
    ask_rescue,
    ask_resize,
    check_memory,
    check_metadata_size,
    check_sizes,
)
from kevel.domain.devices import check_scsi_model
from kevel.domain.errors import Conflict, Invalid, NotFound
from kevel.domain.flavors import Flavor, check_usable
from kevel.domain.images import ImageForServer
from kevel.domain.limits import Limits
from kevel.domain.model import (
    Actor,
    Attachment,
    BootKind,
    Server,
    ServerExtras,
    ServerGoal,
    ServerRung,
)
from kevel.domain.placement import Room
from kevel.domain.server_disks import NewDisk
from kevel.store import servers as rows
from kevel.store.actions import Action, list_actions
from kevel.store.attachments import open_of_server, open_of_servers, open_of_volume
from kevel.store.hosts import Host, list_hosts, load_host
from kevel.store.images import has_files
from kevel.store.keypairs import load_keypair
from kevel.store.repeats import Once, once_only
from kevel.store.server_groups import group_of_server, join_group
from kevel.store.server_moves import set_server_goal
from kevel.store.server_quotas import bound_servers
from kevel.store.servers import ServerQuery, load_server
from kevel.store.transactions import Tx
from kevel.store.volumes import find_volume

#: Servers made by one request.
COUNT_MAX: Final = 100
#: Pairs in a server's metadata, whatever the quota allows.
METADATA_MAX: Final = 1024


class NewServer(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asks for."""

    name: str
    description: str | None
    flavor: str
    #: "" when the root disk is one of the volumes.
    image_id: str
    metadata: dict[str, str]
    #: Volumes that it is made with. One of boot index 0 is the root disk; without one, the image is copied to it.
    disks: tuple[NewDisk, ...] = ()
    #: The bus that was asked for the root disk, and so for all volumes; None: as its image says.
    root_bus: str | None = None
    #: May volumes be among them that several servers can have?
    takes_shared: bool = True
    tags: frozenset[str] = frozenset()
    #: Of the user's key pairs.
    key_name: str | None = None
    access_v4: str = ""
    access_v6: str = ""
    hostname: str = ""
    auto_disk: bool = False
    #: The scheduler hints as they were sent, and what they say: the server group that it is to join, and servers with
    #: one of which it is to be on a host, or with none of them.
    hints: dict[str, Any] = msgspec.field(default_factory=dict)
    group_id: str | None = None
    same_host: tuple[str, ...] = ()
    different_host: tuple[str, ...] = ()
    #: Availability zone and host that were asked for; None: any.
    zone: str | None = None
    host: str | None = None
    count_min: int = 1
    count_max: int = 1

    @property
    def root(self) -> NewDisk | None:
        """The root disk, if it is a volume."""
        return next((disk for disk in self.disks if disk.is_root), None)


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of one server and its disks."""

    server_id: str
    disks: Sequence[DiskIds]


class ServerView(msgspec.Struct, frozen=True, kw_only=True):
    """A server with what its users see beside it."""

    server: Server
    #: Open attachments: a volume is listed until nothing of it is left.
    attachments: Sequence[Attachment]
    host: Host
    #: The server group that it was made in; not looked up for lists.
    group_id: str | None = None


class Servers:
    """What the compute API asks of servers and hosts."""

    def __init__(self, runtime: Runtime, images: Images, flavors: Flavors, disks: ServerDisks, limits: Limits) -> None:
        self._runtime = runtime
        self._disks = disks
        self._images = images
        self._flavors = flavors
        self._limits = limits

    @property
    def page_rows_max(self) -> int:
        """The longest page of a list."""
        return self._limits.page_rows_max

    def _now(self) -> tuple[int, int]:
        at = self._runtime.clock.now_us()
        return at, at + int(self._limits.server_timeout_s * 1e6)

    async def image_properties(self, actor: Actor, image_id: str) -> dict[str, str]:
        """The properties of an image that a request names; none of one that is not there, which is said elsewhere."""
        if not image_id:
            return {}
        try:
            return (await self._images.show(actor, image_id)).properties
        except NotFound:
            return {}

    async def create(self, actor: Actor, new: NewServer, *, once: Once[list[Server]] | None = None) -> list[Server]:
        """Accept servers: durable when this returns, with their hosts chosen.

        Raises Invalid for an image or flavor that cannot be used, Conflict when no host has room.
        """
        flavor = await self._find_flavor(actor, new.flavor)
        image = None if new.root is not None else await self._find_image(actor, new.image_id)
        if image is not None:
            check_sizes(flavor, image)
        rooms = await self._disks.measure(new.disks)
        at, deadline_at = self._now()
        drawn = [
            Drawn(server_id=self._runtime.ids.uuid(), disks=self._disks.draw_ids(new.disks, at))
            for _ in range(new.count_max)
        ]
        reservation_id = f"r-{self._runtime.ids.uuid()[:8]}"
        blank = Server(
            id="",
            project_id=actor.project_id,
            user_id=actor.user_id,
            name=new.name,
            description=new.description,
            flavor=msgspec.to_builtins(flavor),
            image={} if image is None else msgspec.to_builtins(image) | {"disk_bus": new.root_bus},
            host="",
            availability_zone="",
            metadata=new.metadata,
            goal=ServerGoal.RUNNING,
            goal_revision=1,
            goal_request_id=actor.request_id,
            deadline_at=deadline_at,
            rung=ServerRung.PLACED,
            revision=1,
            wanted_boot=1,
            boot=0,
            boot_kind=BootKind.HARD,
            key_name=new.key_name,
            locked=False,
            fault=None,
            created_at=at,
            updated_at=at,
            launched_at=None,
            terminated_at=None,
            deleted_at=None,
            extras=ServerExtras(
                reservation_id=reservation_id,
                pinned_zone=new.zone,
                access_v4=new.access_v4,
                access_v6=new.access_v6,
                hostname=new.hostname,
                auto_disk=new.auto_disk,
                tags=tuple(sorted(new.tags)),
                hints=new.hints,
            ),
        )
        return await self._runtime.store.write(once_only(once, self._create), actor, new, blank, drawn, rooms)

    def _create(
        self,
        tx: Tx,
        actor: Actor,
        new: NewServer,
        blank: Server,
        drawn: Sequence[Drawn],
        rooms: Sequence[PoolRoom],
    ) -> list[Server]:
        if blank.image and not has_files(tx, blank.image):
            raise Invalid(f"Image {new.image_id} was deleted just now.")
        if new.key_name is not None and load_keypair(tx, actor.user_id, new.key_name) is None:
            raise Invalid(f"Invalid key_name provided: {new.key_name!r} is none of your key pairs.")
        flavor = blank.flavor
        per_server = {"instances": 1, "cores": flavor["vcpus"], "ram": flavor["ram_mib"]}
        count = bound_servers(tx, actor, per_server, count_min=new.count_min, count_max=new.count_max)
        check_metadata_size(tx, actor, new.metadata)
        group = None if new.group_id is None else find_hinted_group(tx, new.group_id, actor)
        placed = choose_hosts(
            tx,
            zone=new.zone,
            host=new.host,
            flavor=blank.flavor,
            volumes=sum(not disk.is_root for disk in new.disks),
            group=group,
            near=hosts_of(tx, actor, new.same_host),
            apart=hosts_of(tx, actor, new.different_host),
            pools=pools_of(tx, actor, new.disks),
            makes=bool(rooms),
            images=bool(blank.image),
            count_min=new.count_min,
            count_max=count,
            at=blank.created_at,
        )
        made = [
            self._enter(tx, actor, new, _name_server(blank, one.server_id, room, at, len(placed)), one, rooms)
            for at, (one, room) in enumerate(zip(drawn, placed, strict=False))
        ]
        if group is not None:
            check_members(tx, actor, group, len(made))
            for server in made:
                join_group(tx, group.id, server.id)
        return made

    def _enter(
        self, tx: Tx, actor: Actor, new: NewServer, server: Server, drawn: Drawn, rooms: Sequence[PoolRoom]
    ) -> Server:
        """Enter one server and what it is made with, all or nothing."""
        at, disks = server.created_at, self._disks
        rooms = rooms_near(tx, server.host, rooms)
        volumes = disks.enter_volumes(tx, actor, server.id, new.disks, drawn.disks, rooms, at)
        if not new.takes_shared and any(volume.multiattach for volume in volumes):
            raise Invalid("Multiattach volumes are only supported starting with compute API version 2.60.")
        # Its own time begins when the last of its volumes is there.
        extra_us = disks.deadline(new.disks, volumes, at) - at
        server = msgspec.structs.replace(server, deadline_at=server.deadline_at + extra_us)
        root = next((volume for disk, volume in zip(new.disks, volumes, strict=True) if disk.is_root), None)
        if root is not None:
            image = describe_volume_root(tx, actor, root, new.image_id, disk_bus=new.root_bus)
            check_memory(server.flavor["ram_mib"], image)
            server = msgspec.structs.replace(server, image=msgspec.to_builtins(image))
        check_scsi_model(server.image)
        rows.insert_server(tx, server, actor)
        disks.attach(tx, actor, server, new.disks, volumes, drawn.disks)
        return server

    async def list_page(
        self, query: ServerQuery, fits: Callable[[Server], bool] | None = None
    ) -> tuple[list[Server], bool]:
        """One page of servers, and whether there are more."""
        return await self._runtime.store.read(rows.list_servers, query, fits)

    async def list_views_page(
        self, query: ServerQuery, fits: Callable[[Server], bool] | None = None
    ) -> tuple[list[ServerView], bool]:
        """The same with all that is shown of a server."""
        return await self._runtime.store.read(_list_views, query, fits)

    async def get(self, actor: Actor, server_id: str) -> ServerView:
        """One server."""
        return await self._runtime.store.read_point(_view, server_id, actor)

    async def update(self, actor: Actor, server_id: str, changes: ServerChanges) -> ServerView:
        """Change what only users see. Raises Invalid for an availability zone that the server is not in."""
        at, _ = self._now()
        return await self._runtime.store.write(_update, server_id, actor, at, changes)

    async def hear(self, actor: Actor, news: Sequence[ServerNews]) -> list[bool]:
        """Take news of servers of any project; which of them are there."""
        return await self._runtime.store.write(hear_news, list(news))

    async def change_metadata(
        self, actor: Actor, server_id: str, change: Callable[[dict[str, str]], dict[str, str]]
    ) -> dict[str, str]:
        """Replace the metadata by what `change`, a pure function, makes of it."""
        at, _ = self._now()
        return await self._runtime.store.write(change_metadata, server_id, actor, at, change)

    async def change_tags(
        self, actor: Actor, server_id: str, change: Callable[[frozenset[str]], frozenset[str]]
    ) -> list[str]:
        """Replace the tags by what `change`, a pure function, makes of them; the tags afterwards, sorted."""
        at, _ = self._now()
        return await self._runtime.store.write(change_tags, server_id, actor, at, change)

    async def ask(self, actor: Actor, server_id: str, action: str) -> None:
        """Ask for one of `kevel.control.servers.life.WISHES`: start, stop, pause, and so on."""
        await self._runtime.store.write(ask_life, server_id, actor, action, *self._now())

    async def change_shape(self, actor: Actor, server_id: str, action: str) -> None:
        """End a rescue ("unrescue"), or give a resized server its old flavor back ("revertResize")."""
        await self._runtime.store.write(ask_shape, server_id, actor, action, *self._now())

    async def restore(self, actor: Actor, server_id: str) -> None:
        """Restore a deleted server: always a Conflict, since none is kept."""
        await self._runtime.store.read_point(ask_restore, server_id, actor)

    async def confirm_resize(self, actor: Actor, server_id: str) -> None:
        """Keep a resized server's new flavor."""
        await self._runtime.store.write(ask_confirm, server_id, actor, self._now()[0])

    async def rescue(
        self, actor: Actor, server_id: str, image_id: str | None, *, takes_volume_root: bool = False
    ) -> None:
        """Boot a server from a copy of an image, its own for None; `takes_volume_root`: also one that has a volume."""
        await self._runtime.store.read_point(find_server, server_id, actor)  # before anything that the body names
        image = None if image_id is None else await self._find_image(actor, image_id)
        await self._runtime.store.write(
            ask_rescue, server_id, actor, image, *self._now(), takes_volume_root=takes_volume_root
        )

    async def rebuild(
        self,
        actor: Actor,
        server_id: str,
        image_id: str,
        *,
        name: str | None,
        description: str | msgspec.UnsetType | None,
        metadata: dict[str, str] | None,
        drops_key: bool,
        hostname: str | None,
        auto_disk: bool | None,
        reimages: bool = False,
    ) -> ServerView:
        """Give a server a new root disk, made of the image; `reimages`: also one whose root disk is a volume."""
        await self._runtime.store.read_point(find_server, server_id, actor)
        image = await self._find_image(actor, image_id)
        new = Rebuild(
            image=image,
            name=name,
            description=description,
            metadata=metadata,
            drops_key=drops_key,
            hostname=hostname,
            auto_disk=auto_disk,
        )
        await self._runtime.store.write(
            ask_rebuild, server_id, actor, new, *self._now(), limits=self._limits, reimages=reimages
        )
        return await self.get(actor, server_id)

    async def resize(self, actor: Actor, server_id: str, flavor_id: str, *, auto_disk: bool | None = None) -> None:
        """Give a server another flavor on its host, until that is confirmed or reverted."""
        await self._runtime.store.read_point(find_server, server_id, actor)
        flavor = await self._find_flavor(actor, flavor_id)
        await self._runtime.store.write(ask_resize, server_id, actor, flavor, auto_disk, *self._now())

    async def _find_flavor(self, actor: Actor, flavor_id: str) -> Flavor:
        try:
            flavor = await self._flavors.get(actor, flavor_id)
        except NotFound as error:
            # The body names it, not the address: Nova answers 400.
            raise Invalid(error.message) from error
        check_usable(flavor)
        return flavor

    async def _find_image(self, actor: Actor, image_id: str) -> ImageForServer:
        try:
            return await self._images.get_for_server(actor, image_id)
        except NotFound as error:
            # The body names it, not the address: Nova answers 400.
            raise Invalid(error.message) from error

    async def reset_state(self, actor: Actor, server_id: str, state: str) -> None:
        """Put "error" over the server's state, or ("active") take that or its fault away."""
        await self._runtime.store.write(reset_state, server_id, actor, state, *self._now())

    async def reboot(self, actor: Actor, server_id: str, kind: BootKind) -> None:
        """Reboot; a hard one also starts a server that stopped or failed."""
        await self._runtime.store.write(ask_reboot, server_id, actor, kind, *self._now())

    async def delete(self, actor: Actor, server_id: str) -> None:
        """Delete, whatever state the server is in; asking again is fine."""
        await self._runtime.store.write(_delete, server_id, actor, *self._now())

    async def lock(self, actor: Actor, server_id: str, *, reason: str | None) -> None:
        """Keep all but admins from changing the server."""
        await self._runtime.store.write(lock_server, server_id, actor, self._now()[0], reason)

    async def unlock(self, actor: Actor, server_id: str) -> None:
        """Undo a lock."""
        await self._runtime.store.write(unlock_server, server_id, actor, self._now()[0])

    async def actions(self, actor: Actor, server_id: str, *, deleted: bool) -> tuple[Server, list[Action]]:
        """What was asked of the server, newest first; with `deleted`, of a server that is gone too."""
        return await self._runtime.store.read(_actions, server_id, actor, deleted)

    async def refuse_swap(self, actor: Actor, server_id: str, old_id: str, new_id: str) -> None:
        """Say why one volume of a server cannot be exchanged for another: Kevel has no such operation for users.

        Always raises: NotFound for the server or the old volume, Invalid for the new one, Conflict else, as Nova does
        for whoever is not Cinder.
        """
        await self._runtime.store.read(_refuse_swap, server_id, old_id, new_id, actor)

    async def list_hosts(self) -> list[HostView]:
        """All hosts with the servers that live on them."""
        return await self._runtime.store.read(view_hosts, self._now()[0])

    async def set_disabled(self, host: str, reason: str | None) -> None:
        """Place no new servers on the host, for that reason ("": none was said), or (None) some again; NotFound."""
        await self._runtime.store.write(disable_host, host, reason)


def _name_server(blank: Server, server_id: str, room: Room, at: int, count: int) -> Server:
    """One of the servers of a request: its id, name, place among them, and host."""
    server = msgspec.structs.replace(
        blank,
        id=server_id,
        name=blank.name if count == 1 else f"{blank.name}-{at + 1}",
        host=room.host,
        availability_zone=room.availability_zone,
        extras=msgspec.structs.replace(blank.extras, launch_index=at),
    )
    check_name(server.name)
    return server


def _view(tx: Tx, server_id: str, actor: Actor) -> ServerView:
    server = find_server(tx, server_id, actor)
    return ServerView(
        server=server,
        attachments=open_of_server(tx, server_id),
        host=load_host(tx, server.host),
        group_id=group_of_server(tx, server_id),
    )


def _list_views(tx: Tx, query: ServerQuery, fits: Callable[[Server], bool] | None) -> tuple[list[ServerView], bool]:
    found, more = rows.list_servers(tx, query, fits)
    attached = open_of_servers(tx, [server.id for server in found])
    hosts = {host.name: host for host in list_hosts(tx)}
    views = [
        ServerView(
            server=server,
            attachments=[view.attachment for view in attached.get(server.id, ())],
            host=hosts[server.host],
        )
        for server in found
    ]
    return views, more


def _delete(tx: Tx, server_id: str, actor: Actor, at: int, deadline_at: int) -> None:
    server = find_server(tx, server_id, actor)
    check_unlocked(server, actor)
    if server.goal is ServerGoal.DELETED and server.deadline_at > at:
        return
    set_server_goal(tx, server, ServerGoal.DELETED, actor=actor, at=at, deadline_at=deadline_at)


def _update(tx: Tx, server_id: str, actor: Actor, at: int, changes: ServerChanges) -> ServerView:
    change_record(tx, server_id, actor, at, changes)
    return _view(tx, server_id, actor)


def _actions(tx: Tx, server_id: str, actor: Actor, deleted: bool) -> tuple[Server, list[Action]]:
    server = load_server(tx, server_id)
    gone = server is not None and server.deleted_at is not None
    if server is None or not gone or not deleted or not (actor.is_admin or server.project_id == actor.project_id):
        server = find_server(tx, server_id, actor)
    return server, list_actions(tx, server_id)


def _refuse_swap(tx: Tx, server_id: str, old_id: str, new_id: str, actor: Actor) -> None:
    server = find_server(tx, server_id, actor)
    if old_id not in {attachment.volume_id for attachment in open_of_server(tx, server.id)}:
        raise NotFound(f"Volume {old_id} is not attached to instance {server_id}.")
    try:
        find_volume(tx, new_id, actor)
    except NotFound as error:
        raise Invalid(error.message) from error
    if open_of_volume(tx, new_id):
        raise Invalid(f"Volume {new_id} is attached already; only a free volume could take the place of {old_id}.")
    raise Conflict(
        f"Volume {old_id} of instance {server_id} cannot be exchanged for another: detach it, and attach {new_id}."
    )
