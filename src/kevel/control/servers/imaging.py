"""Images of servers: of a root disk of their own a copy, of volumes snapshots and an image that names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from kevel.control.attachments.attachments import find_server
from kevel.control.copies.snapshots import NewSnapshot, begin_snapshot
from kevel.control.images.server_images import describe_server, enter_empty_image, enter_root_image
from kevel.control.runtime import Runtime
from kevel.control.servers.life import check_task_state, check_unlocked, check_vm_state
from kevel.domain.devices import device_prefix, volume_bus
from kevel.domain.errors import Forbidden, OverLimit
from kevel.domain.images import MAPPING
from kevel.domain.limits import Limits
from kevel.domain.model import Actor, Attachment, KeptRoot, Server, Snapshot
from kevel.domain.server_disks import DISKS_MAX
from kevel.storage.image_files import ImageFiles
from kevel.store.attachments import open_of_server
from kevel.store.server_rows import begin_imaging
from kevel.store.transactions import Tx

_STATES: Final = ("active", "stopped", "paused", "suspended")


class Imaging:
    """The use case. Every check stands in the transaction that also writes (S9)."""

    def __init__(self, runtime: Runtime, images: ImageFiles, limits: Limits) -> None:
        self._runtime = runtime
        self._images = images
        self._limits = limits

    async def create_image(self, actor: Actor, server_id: str, name: str, metadata: Mapping[str, str]) -> str:
        """Start to make an image of a server; its id. The server goes on meanwhile.

        Raises Conflict for its state, Invalid for a volume that cannot be copied, Forbidden for a quota.
        """
        ids, at = self._runtime.ids, self._runtime.clock.now_us()
        root = KeptRoot(image_id=ids.uuid(), file=self._images.name_file(ids.uuid()))
        drawn = [ids.uuid() for _ in range(DISKS_MAX)]
        await self._runtime.store.write(
            _create_image, server_id, actor, name, dict(metadata), root, drawn, self._limits, at
        )
        return root.image_id


def _create_image(
    tx: Tx,
    server_id: str,
    actor: Actor,
    name: str,
    metadata: dict[str, str],
    root: KeptRoot,
    drawn: Sequence[str],
    limits: Limits,
    at: int,
) -> None:
    server = find_server(tx, server_id, actor)
    check_unlocked(server, actor)
    check_vm_state(server, "createImage", _STATES)
    check_task_state(server, "createImage")
    if server.image["file"] is not None:
        enter_root_image(tx, actor, server, name, root, as_is=False, metadata=metadata, limits=limits, at=at)
    else:
        attachments = open_of_server(tx, server.id)
        properties = describe_server(server, actor, metadata) | {
            "bdm_v2": "True",
            "root_device_name": f"/dev/{device_prefix(server.image)}a",
            MAPPING: _map_disks(tx, actor, server, attachments, name, drawn, limits, at),
        }
        enter_empty_image(tx, actor, server, name, root, properties, limits=limits, at=at)
    begin_imaging(tx, server, root.image_id, actor=actor, at=at)


def _map_disks(
    tx: Tx,
    actor: Actor,
    server: Server,
    attachments: Sequence[Attachment],
    name: str,
    drawn: Sequence[str],
    limits: Limits,
    at: int,
) -> str:
    """Begin a snapshot of each of the volumes; what a server is made of that is made of the image, as JSON."""
    items = []
    for attachment, snapshot_id in zip(attachments, drawn, strict=False):
        new = NewSnapshot(volume_id=attachment.volume_id, name=f"snapshot for {name}"[:255], in_use=True)
        try:
            snapshot = begin_snapshot(tx, actor, new, snapshot_id=snapshot_id, at=at, limits=limits)
        except OverLimit as error:
            raise Forbidden(error.message) from error
        items.append(_describe_disk(server, attachment, snapshot))
    return msgspec.json.encode(items).decode()


def _describe_disk(server: Server, attachment: Attachment, snapshot: Snapshot) -> dict[str, Any]:
    return {
        "source_type": "snapshot",
        "destination_type": "volume",
        "snapshot_id": snapshot.id,
        "volume_size": snapshot.size_gib,
        "boot_index": attachment.boot_index,
        "device_name": attachment.device,
        "device_type": "disk",
        "disk_bus": volume_bus(server.image),
        "delete_on_termination": attachment.delete_on_termination,
        "tag": attachment.tag,
    }
