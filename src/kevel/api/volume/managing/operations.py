"""The rows of managing and unmanaging."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.operations import Operation, Policy, Version
from kevel.api.volume import replies
from kevel.api.volume.managing import handlers, shapes
from kevel.api.volume.rows import act, admin

_QUERY: Final = ("host", "limit", "marker", "offset", "sort")
#: The younger paths for the same.
_SINCE: Final = Version(3, 8)
_list = partial(admin, method="GET", query_names=_QUERY, errors=(400, 404, 503))
_make = partial(admin, method="POST", needs_space=True, success=202, errors=(400, 404, 413, 503))
_make_volume = partial(
    _make, reply=replies.VOLUME, new_id="/volume/id", handler=handlers.manage_volume, body=shapes.ManageVolume
)
_make_snapshot = partial(
    _make,
    reply=shapes.MANAGED_SNAPSHOT,
    new_id="/snapshot/id",
    handler=handlers.manage_snapshot,
    body=shapes.ManageSnapshot,
)
_list_volumes = partial(_list, reply=shapes.VOLUMES)
_list_snapshots = partial(_list, reply=shapes.SNAPSHOTS)

MANAGING: Final = (
    _make_volume(name="manageVolume", path="/os-volume-manage"),
    _list_volumes(name="listManageableVolumes", path="/os-volume-manage", handler=handlers.list_volumes),
    _list_volumes(
        name="listManageableVolumeDetails", path="/os-volume-manage/detail", handler=handlers.list_volume_details
    ),
    _make_volume(name="manageNamedVolume", path="/manageable_volumes", since=_SINCE),
    _list_volumes(
        name="listNamedManageableVolumes", path="/manageable_volumes", handler=handlers.list_volumes, since=_SINCE
    ),
    _list_volumes(
        name="listNamedManageableVolumeDetails",
        path="/manageable_volumes/detail",
        handler=handlers.list_volume_details,
        since=_SINCE,
    ),
    _make_snapshot(name="manageSnapshot", path="/os-snapshot-manage"),
    _list_snapshots(name="listManageableSnapshots", path="/os-snapshot-manage", handler=handlers.list_snapshots),
    _list_snapshots(
        name="listManageableSnapshotDetails", path="/os-snapshot-manage/detail", handler=handlers.list_snapshot_details
    ),
    _make_snapshot(name="manageNamedSnapshot", path="/manageable_snapshots", since=_SINCE),
    _list_snapshots(
        name="listNamedManageableSnapshots", path="/manageable_snapshots", handler=handlers.list_snapshots, since=_SINCE
    ),
    _list_snapshots(
        name="listNamedManageableSnapshotDetails",
        path="/manageable_snapshots/detail",
        handler=handlers.list_snapshot_details,
        since=_SINCE,
    ),
    act(name="unmanageVolume", action="os-unmanage", handler=handlers.unmanage_volume, policy=Policy.ADMIN),
    Operation(
        name="unmanageSnapshot",
        method="POST",
        path="/snapshots/{snapshot_id}/action",
        action="os-unmanage",
        handler=handlers.unmanage_snapshot,
        policy=Policy.ADMIN,
        success=202,
        errors=(400, 404),
        reply=None,
    ),
)
