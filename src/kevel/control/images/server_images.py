"""Images that are made of servers: their records, and the work that fills them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kevel.domain.errors import Forbidden
from kevel.domain.images import (
    ATTRIBUTES,
    READ_ONLY,
    ContainerFormat,
    DiskFormat,
    Image,
    ImageStatus,
    Visibility,
    check_new_properties,
)
from kevel.domain.limits import Limits
from kevel.domain.model import GIB, Actor, KeptRoot, OperationKind, Server, Subject
from kevel.store import images as rows
from kevel.store.operations import begin_operation
from kevel.store.transactions import Tx

#: What the operation's arguments are called: the server, and in what format its root disk is kept; None: it has none of
#: its own, and the image no bytes.
SERVER: Final = "server_id"
FORMAT: Final = "format"
#: Of another image, or of how it came about: what an image that is made of a server does not inherit.
_OWN: Final = ("base_image_ref", "image_type", "instance_uuid", "user_id", "owner_specified.openstack.md5")


def enter_root_image(
    tx: Tx,
    actor: Actor,
    server: Server,
    name: str,
    root: KeptRoot,
    *,
    as_is: bool,
    metadata: Mapping[str, str],
    limits: Limits,
    at: int,
) -> int:
    """Enter the image that the server's root disk is written out as, and begin the work; when that is given up.

    `as_is`: in the root disk's own format, for which its guest must not run; else raw. Raises Forbidden when the
    project has images enough.
    """
    image_format = DiskFormat(server.image["disk_format"]) if as_is else DiskFormat.RAW
    copied_gib = -(-max(server.flavor["disk_gib"] * GIB, int(server.image["virtual_size"])) // GIB)
    insert_server_image(
        tx,
        server,
        name,
        root.image_id,
        properties=describe_server(server, actor, metadata),
        disk_format=image_format,
        min_disk_gib=copied_gib,
        file=root.file,
        limits=limits,
        at=at,
    )
    deadline_at = limits.volume_deadline(at, copied_gib=copied_gib)
    _begin(tx, actor, server, root, image_format.value, at=at, deadline_at=deadline_at)
    return deadline_at


def enter_empty_image(
    tx: Tx,
    actor: Actor,
    server: Server,
    name: str,
    root: KeptRoot,
    properties: dict[str, str],
    *,
    limits: Limits,
    at: int,
) -> None:
    """Enter the image of a server whose disks are volumes: no bytes, and properties that say what it is made of."""
    insert_server_image(
        tx,
        server,
        name,
        root.image_id,
        properties=properties,
        disk_format=DiskFormat.RAW,
        min_disk_gib=0,
        file=root.file,
        limits=limits,
        at=at,
    )
    _begin(tx, actor, server, root, None, at=at, deadline_at=limits.volume_deadline(at))


def _begin(
    tx: Tx, actor: Actor, server: Server, root: KeptRoot, image_format: str | None, *, at: int, deadline_at: int
) -> None:
    begin_operation(
        tx,
        Subject.IMAGE,
        root.image_id,
        OperationKind.UPLOADING,
        volume_id=None,
        actor=f"user:{actor.user_id}",
        request_id=actor.request_id,
        at=at,
        deadline_at=deadline_at,
        args={SERVER: server.id, "file": root.file, FORMAT: image_format},
    )


def insert_server_image(
    tx: Tx,
    server: Server,
    name: str,
    image_id: str,
    *,
    properties: dict[str, str],
    disk_format: DiskFormat,
    min_disk_gib: int,
    file: str,
    limits: Limits,
    at: int,
) -> None:
    """Enter an image of the server's project, whose bytes are still to come. Raises Forbidden when it has enough."""
    if rows.count_images(tx, server.project_id) >= limits.images_per_project_max:
        raise Forbidden(f"The project has {limits.images_per_project_max} images already, which is the most.")
    image = Image(
        id=image_id,
        name=name,
        project_id=server.project_id,
        status=ImageStatus.SAVING,
        visibility=Visibility.PRIVATE,
        disk_format=disk_format,
        container_format=ContainerFormat.BARE,
        size_bytes=None,
        virtual_bytes=None,
        md5=None,
        sha512=None,
        min_disk_gib=min_disk_gib,
        min_ram_mib=int(server.image["min_ram_mib"]),
        protected=False,
        hidden=False,
        properties=properties,
        tags=(),
        file=file,
        created_at=at,
        updated_at=at,
    )
    check_new_properties(properties)
    rows.insert_image(tx, image)


def describe_server(server: Server, actor: Actor, metadata: Mapping[str, str]) -> dict[str, str]:
    """The properties of an image of the server, as Nova gives them: its image's, where it comes from, and what was
    asked for, which wins. What would be another attribute's name is left out.
    """
    inherited = {key: value for key, value in (server.image.get("properties") or {}).items() if key not in _OWN}
    own = {
        "base_image_ref": server.image["id"],
        "image_type": "snapshot",
        "instance_uuid": server.id,
        "user_id": actor.user_id,
    }
    merged = inherited | own | dict(metadata)
    return {key: value for key, value in merged.items() if key not in ATTRIBUTES and key not in READ_ONLY}
