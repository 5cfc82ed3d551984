"""Guests and the storage that serves their disks: no guest is made to wait for a server that hangs.

QEMU waits for an answer without end, and its whole guest with it. So servers are asked first. A guest that a server's
end has stopped goes on when its exports are there again.
"""

from __future__ import annotations

from kevel.domain.assignments import PathAssignment
from kevel.domain.errors import StepNever, StepRetry
from kevel.domain.ladder import Rung
from kevel.host.state import HostState
from kevel.runtime import failpoints
from kevel.storage.base import VolumeFile


def volume_file(path: PathAssignment) -> VolumeFile:
    """The path's volume as its back end knows it."""
    return VolumeFile(volume_id=path.volume_id, size_bytes=path.volume_bytes, format=path.volume_format)


async def check_storage_server(state: HostState, path: PathAssignment) -> None:
    """Raise StepRetry when what serves the path's volume hangs."""
    if path.connection_info is not None:
        connector = state.connectors[path.connection_info["driver_volume_type"]]
        await connector.check_server(volume_file(path), path.connection_info)


async def check_storage_servers(state: HostState, server_id: str) -> None:
    """The same for all disks of a server."""
    for path in _disks_of(state, server_id):
        await check_storage_server(state, path)


async def prove_exports(state: HostState, server_id: str) -> None:
    """Raise StepRetry when one of the server's volumes cannot be reached, or not yet again."""
    for path in _disks_of(state, server_id):
        if path.connection_info is None:
            continue
        connector = state.connectors[path.connection_info["driver_volume_type"]]
        try:
            with failpoints.around("connect_volume"):
                await connector.connect_volume(volume_file(path), path.connection_info)
        except StepNever as error:
            raise StepRetry(error.message) from error


def _disks_of(state: HostState, server_id: str) -> list[PathAssignment]:
    paths = (state.paths.get(path_id) for path_id in state.paths_of.get(server_id, ()))
    return [path for path in paths if path is not None and path.rung >= Rung.CONNECTED]
