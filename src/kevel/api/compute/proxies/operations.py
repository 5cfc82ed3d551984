"""The rows of volumes and snapshots in the compute API; 2.36 took them away."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.compute.proxies import handlers, shapes
from kevel.api.compute.shapes import v
from kevel.api.operations import Operation, Policy

_read = partial(Operation, method="GET", policy=Policy.READER, until=v(35))
_list = partial(_read, query_names=("limit", "offset"), errors=(400,))
_volumes = partial(_list, handler=handlers.list_volumes, reply=shapes.VOLUMES)
_snapshots = partial(_list, handler=handlers.list_snapshots, reply=shapes.SNAPSHOTS)
_create = partial(Operation, method="POST", policy=Policy.MEMBER, until=v(35), needs_space=True, errors=(400, 403))
_delete = partial(
    Operation, method="DELETE", policy=Policy.MEMBER, until=v(35), reply=None, success=202, errors=(400, 404)
)

PROXIES: Final = (
    _volumes(name="listProxyVolumes", path="/os-volumes", new_id="/volumes/0/id"),
    _volumes(name="listProxyVolumesDetail", path="/os-volumes/detail"),
    _read(
        name="showProxyVolume",
        path="/os-volumes/{volume_id}",
        handler=handlers.show_volume,
        reply=shapes.VOLUME,
        errors=(404,),
    ),
    _create(
        name="createProxyVolume",
        path="/os-volumes",
        handler=handlers.create_volume,
        reply=shapes.VOLUME,
        body=shapes.VolumeBody,
        new_id="/volume/id",
    ),
    _delete(name="deleteProxyVolume", path="/os-volumes/{volume_id}", handler=handlers.delete_volume),
    _snapshots(name="listProxySnapshots", path="/os-snapshots", new_id="/snapshots/0/id"),
    _snapshots(name="listProxySnapshotsDetail", path="/os-snapshots/detail"),
    _read(
        name="showProxySnapshot",
        path="/os-snapshots/{snapshot_id}",
        handler=handlers.show_snapshot,
        reply=shapes.SNAPSHOT,
        errors=(404,),
    ),
    _create(
        name="createProxySnapshot",
        path="/os-snapshots",
        handler=handlers.create_snapshot,
        reply=shapes.SNAPSHOT,
        body=shapes.SnapshotBody,
        new_id="/snapshot/id",
    ),
    _delete(name="deleteProxySnapshot", path="/os-snapshots/{snapshot_id}", handler=handlers.delete_snapshot),
)
