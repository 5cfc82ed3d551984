"""Making a server's domain anew on its host: rescue, rebuild, resize. Volumes stay attached through all of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from kevel.control.attachments.attachments import find_server
from kevel.control.copies.volume_contents import begin_reimage
from kevel.control.images.images import describe_volume_root
from kevel.control.servers.life import check_task_state, check_unlocked, check_vm_state
from kevel.domain.devices import check_scsi_model, volume_bus
from kevel.domain.errors import Conflict, Forbidden, Invalid
from kevel.domain.flavors import Flavor
from kevel.domain.images import MAPPING, ImageForServer
from kevel.domain.ladder import Goal
from kevel.domain.limits import Limits
from kevel.domain.model import GIB, Actor, Attachment, Server, ServerGoal
from kevel.domain.placement import VCPUS_RATIO
from kevel.domain.quotas import UNLIMITED
from kevel.domain.rescues import place_rescue_disk
from kevel.domain.status import vm_state
from kevel.store.attachments import open_of_server
from kevel.store.hosts import load_host
from kevel.store.images import has_files
from kevel.store.path_moves import set_goal
from kevel.store.path_rows import name_user
from kevel.store.server_quotas import check_server_limit, server_limits, server_usage
from kevel.store.server_rows import want_shape
from kevel.store.servers import list_used
from kevel.store.swaps import running_swap
from kevel.store.transactions import Tx
from kevel.store.volume_lists import view_volume
from kevel.store.volumes import find_volume, load_volume, volume_operation

#: Pairs in a server's metadata, whatever the quota allows.
METADATA_MAX: Final = 1024
_REBUILD_STATES: Final = ("active", "stopped", "error")
_RESCUE_STATES: Final = ("active", "stopped", "error")
_RESIZE_STATES: Final = ("active", "stopped")


class Rebuild(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild changes besides the root disk. None: nothing."""

    image: ImageForServer
    name: str | None = None
    description: str | msgspec.UnsetType | None = msgspec.UNSET
    metadata: dict[str, str] | None = None
    #: It names its key pair no more.
    drops_key: bool = False
    hostname: str | None = None
    auto_disk: bool | None = None


def check_metadata_size(tx: Tx, actor: Actor, metadata: Collection[str]) -> None:
    """Raise Forbidden, as Nova does, for more pairs than a server may have."""
    check_server_limit(tx, actor, "metadata_items", len(metadata), "Maximum number of metadata items exceeded")
    if len(metadata) > METADATA_MAX:
        raise Forbidden(f"A server has at most {METADATA_MAX} metadata items, and these are {len(metadata)}.")


def check_memory(ram_mib: int, image: ImageForServer) -> None:
    """Raise Invalid when a server with that memory cannot be made of the image."""
    if ram_mib < image.min_ram_mib:
        raise Invalid(
            f"Flavor's memory is too small for requested image: it is {ram_mib} MiB, and image "
            f"{image.id or image.name} needs {image.min_ram_mib} MiB."
        )


def check_sizes(flavor: Flavor, image: ImageForServer) -> None:
    """Raise Invalid when a server of that flavor cannot be made of the image."""
    check_memory(flavor.ram_mib, image)
    # A flavor with 0 makes the root disk as large as the image.
    if not flavor.disk_gib:
        return
    needed_gib = max(image.min_disk_gib, -(-image.virtual_size // GIB))
    if flavor.disk_gib < needed_gib:
        raise Invalid(
            f"Flavor's disk is too small for requested image: it is {flavor.disk_gib} GiB, and image {image.id} needs "
            f"{needed_gib} GiB."
        )


def ask_rescue(
    tx: Tx,
    server_id: str,
    actor: Actor,
    image: ImageForServer | None,
    at: int,
    deadline_at: int,
    *,
    takes_volume_root: bool,
) -> None:
    """Boot the server from a copy of an image, its own if none is given; its disks stay where they are.

    Only its own root disk becomes the second, unless the image says how the rescue disk is to be put beside it.
    """
    server = find_server(tx, server_id, actor)
    check_unlocked(server, actor)
    check_vm_state(server, "rescue", _RESCUE_STATES)
    check_task_state(server, "rescue")
    has_volume_root = _find_volume_root(tx, server) is not None
    if has_volume_root and not takes_volume_root:
        raise Invalid(f"Cannot rescue a volume-backed instance: {server.id} can be rescued from microversion 2.87 on.")
    rescue = server.image if image is None else msgspec.to_builtins(image)
    if rescue["file"] is None:
        raise Invalid(
            f"Cannot rescue a volume-backed instance without an image: {server.id} has none of its own; name one by "
            "rescue_image_ref."
        )
    if image is not None and MAPPING in image.properties:
        raise Invalid(f"Requested rescue image '{image.id}' is not supported: it defines block devices.")
    place = place_rescue_disk(rescue["properties"], volume_bus(server.image), has_volume_root=has_volume_root)
    if not has_files(tx, rescue):
        raise Invalid(f"Image {rescue['id']} is not there any more; name another one to rescue the server with.")
    want_shape(
        tx,
        server,
        "rescue",
        "rescuing",
        goal=ServerGoal.RUNNING,
        extras=msgspec.structs.replace(
            server.extras,
            rescue=rescue | {"number": server.wanted_shape + 1, "place": msgspec.to_builtins(place)},
        ),
        actor=actor,
        at=at,
        deadline_at=deadline_at,
    )


def ask_rebuild(
    tx: Tx,
    server_id: str,
    actor: Actor,
    new: Rebuild,
    at: int,
    deadline_at: int,
    *,
    limits: Limits,
    reimages: bool,
) -> None:
    """Give the server a new root disk, made of the image; what was on the old one is gone.

    A volume that is its root disk gets the image if `reimages`, and is left as it is if not.
    """
    server = find_server(tx, server_id, actor)
    check_unlocked(server, actor)
    check_vm_state(server, "rebuild", _REBUILD_STATES)
    check_task_state(server, "rebuild")
    root = _find_volume_root(tx, server)
    if root is None:
        image = _check_new_image(tx, server, new.image)
    elif reimages:
        image, deadline_at = _reimage_root(tx, actor, server, root, new.image, at, deadline_at, limits)
    else:
        image = _keep_root(tx, server, root, new.image)
    shown: dict[str, Any] = {}
    if new.name is not None:
        shown["name"] = new.name
    if new.description is not msgspec.UNSET:
        shown["description"] = new.description
    if new.drops_key:
        shown["key_name"] = None
    if new.metadata is not None:
        check_metadata_size(tx, actor, new.metadata)
        shown["metadata"] = new.metadata
    want_shape(
        tx,
        server,
        "rebuild",
        "rebuilding",
        goal=ServerGoal.STOPPED if vm_state(server) == "stopped" else ServerGoal.RUNNING,
        extras=msgspec.structs.replace(
            server.extras,
            root_number=server.wanted_shape + 1 if root is None else server.extras.root_number,
            hostname=server.extras.hostname if new.hostname is None else new.hostname,
            auto_disk=server.extras.auto_disk if new.auto_disk is None else new.auto_disk,
        ),
        actor=actor,
        at=at,
        deadline_at=deadline_at,
        image=image,
        **shown,
    )


def ask_resize(
    tx: Tx, server_id: str, actor: Actor, flavor: Flavor, auto_disk: bool | None, at: int, deadline_at: int
) -> None:
    """Give the server another flavor on its host, until that is confirmed or reverted."""
    server = find_server(tx, server_id, actor)
    check_unlocked(server, actor)
    check_vm_state(server, "resize", _RESIZE_STATES)
    check_task_state(server, "resize")
    if flavor.id == server.flavor["id"]:
        raise Invalid("When resizing, instances must change flavor!")
    if _find_volume_root(tx, server) is None and flavor.disk_gib < server.flavor["disk_gib"]:
        raise Invalid(
            f"Resize to flavor {flavor.id} would make the root disk smaller: it has {server.flavor['disk_gib']} GiB, "
            f"and a root disk only grows."
        )
    _check_room(tx, server, flavor)
    _check_quotas(tx, actor, server, flavor)
    want_shape(
        tx,
        server,
        "resize",
        "resize_migrating",
        goal=server.goal,
        extras=msgspec.structs.replace(
            server.extras,
            old_flavor=server.flavor,
            auto_disk=server.extras.auto_disk if auto_disk is None else auto_disk,
        ),
        actor=actor,
        at=at,
        deadline_at=deadline_at,
        flavor=msgspec.to_builtins(flavor),
    )


def _check_new_image(tx: Tx, server: Server, image: ImageForServer) -> dict[str, Any]:
    """What the server is made of from now on, whose root disk is made of the image. Raises Invalid."""
    if not has_files(tx, msgspec.to_builtins(image)):
        raise Invalid(f"Image {image.id} was deleted just now.")
    check_sizes(msgspec.convert(server.flavor, Flavor), image)
    if open_of_server(tx, server.id):
        # Its volumes stay on the bus where they are, whatever the new image would have.
        image = msgspec.structs.replace(image, disk_bus=volume_bus(server.image))
    made_of: dict[str, Any] = msgspec.to_builtins(image)
    check_scsi_model(made_of)
    return made_of


def _reimage_root(
    tx: Tx,
    actor: Actor,
    server: Server,
    root: Attachment,
    image: ImageForServer,
    at: int,
    deadline_at: int,
    limits: Limits,
) -> tuple[dict[str, Any], int]:
    """Have the image put into the root volume; what the server is made of then, and by when it should be rebuilt."""
    volume = view_volume(tx, find_volume(tx, root.volume_id, actor))
    if len(volume.attachments) > 1:
        raise Conflict(
            f"Volume {root.volume_id}, the root disk of {server.id}, is in {len(volume.attachments)} servers; it gets "
            "another image only while it is in one."
        )
    if volume_operation(tx, root.volume_id) is not None:
        raise Conflict(
            f"Volume {root.volume_id}, the root disk of {server.id}, is {volume.status}; wait until it is done."
        )
    if running_swap(tx, root.id) is not None:
        raise Conflict(f"Volume {root.volume_id}, the root disk of {server.id}, is being swapped; wait for its end.")
    check_memory(server.flavor["ram_mib"], image)
    # First the guest gets its time to end; and the server its own once the image is there.
    imaged_at = limits.volume_deadline(deadline_at, copied_gib=volume.volume.size_gib)
    source = begin_reimage(tx, actor, volume.volume, image.id, at=at, deadline_at=imaged_at, server_id=server.id)
    imaged = msgspec.structs.replace(volume.volume, image_metadata=source.metadata)
    root_image = describe_volume_root(tx, actor, imaged, server.image["id"], disk_bus=volume_bus(server.image))
    made_of: dict[str, Any] = msgspec.to_builtins(root_image)
    check_scsi_model(made_of)
    deadline_at += imaged_at - at
    # The host lets go of it, and has it again by then.
    set_goal(
        tx,
        root,
        Goal.ATTACHED,
        by="user",
        request_id=actor.request_id,
        actor=name_user(actor),
        at=at,
        deadline_at=deadline_at,
        reason=None,
    )
    return made_of, deadline_at


def _keep_root(tx: Tx, server: Server, root: Attachment, image: ImageForServer) -> dict[str, Any]:
    """Raise Invalid for another image than that of the root volume, which is left as it is."""
    volume = load_volume(tx, root.volume_id)
    if volume is None or (volume.image_metadata or {}).get("image_id") != image.id:
        raise Invalid(
            f"Image {image.id} is unacceptable: Unable to rebuild with a different image for a volume-backed server; "
            "microversion 2.93 can."
        )
    return server.image


def _find_volume_root(tx: Tx, server: Server) -> Attachment | None:
    """By which the server has the volume that is its root disk, if one is."""
    return next((attachment for attachment in open_of_server(tx, server.id) if attachment.boot_index == 0), None)


def _check_room(tx: Tx, server: Server, flavor: Flavor) -> None:
    """The server stays on its host, so there has to be room for what it grows by."""
    facts = load_host(tx, server.host).facts
    others = [used for used in list_used(tx, host=server.host) if used.id != server.id]
    vcpus_left = int(facts["vcpus"]) * VCPUS_RATIO - sum(used.flavor["vcpus"] for used in others)
    memory_left = int(facts["memory_mib"]) - sum(used.flavor["ram_mib"] for used in others)
    if flavor.vcpus > int(facts["vcpus"]) or flavor.vcpus > vcpus_left or flavor.ram_mib > memory_left:
        raise Invalid(
            f"No valid host found for resize: the server stays on its host, which has room for {vcpus_left} vCPUs and "
            f"{memory_left} MiB, and flavor {flavor.id} has {flavor.vcpus} vCPUs and {flavor.ram_mib} MiB."
        )


def _check_quotas(tx: Tx, actor: Actor, server: Server, flavor: Flavor) -> None:
    grows = {"cores": flavor.vcpus - server.flavor["vcpus"], "ram": flavor.ram_mib - server.flavor["ram_mib"]}
    for user_id in (None, server.user_id):
        limits = server_limits(tx, server.project_id, user_id)
        used = server_usage(tx, server.project_id, user_id)
        for name, more in grows.items():
            if more > 0 and limits[name] != UNLIMITED and used[name] + more > limits[name]:
                raise Forbidden(
                    f"Quota exceeded for {name}: Requested {more}, but already used {used[name]} of {limits[name]} "
                    f"{name}"
                )
