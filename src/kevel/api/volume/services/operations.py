"""The rows of services, hosts, pools, clusters, and of what the API says of itself."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.operations import Version
from kevel.api.volume import replies
from kevel.api.volume.rows import admin, read
from kevel.api.volume.services import about, handlers, pools, shapes

_CLUSTERS_SINCE: Final = Version(3, 7)
_LOGS_SINCE: Final = Version(3, 32)
_look = partial(admin, method="GET")
_put = partial(admin, method="PUT")

_ABOUT: Final = (
    read(name="listExtensions", reply=shapes.EXTENSIONS, path="/extensions", handler=about.list_extensions),
    read(
        name="showExtension",
        reply=shapes.EXTENSION,
        path="/extensions/{alias}",
        handler=about.show_extension,
        errors=(404,),
    ),
    read(
        name="listResourceFilters",
        reply=shapes.FILTERS,
        query_names=("resource",),
        path="/resource_filters",
        handler=about.list_filters,
        since=Version(3, 33),
    ),
    read(name="listZones", reply=replies.ZONES, path="/os-availability-zone", handler=pools.list_zones),
)

_PARTS: Final = (
    _look(
        name="listServices",
        reply=shapes.SERVICES,
        query_names=("binary", "host"),
        path="/os-services",
        handler=handlers.list_services,
    ),
    _put(
        name="enableService",
        reply=shapes.ChangedService,
        path="/os-services/enable",
        handler=handlers.enable_service,
        errors=(400, 404),
        body=shapes.ChooseService,
    ),
    _put(
        name="disableService",
        reply=shapes.ChangedService,
        path="/os-services/disable",
        handler=handlers.disable_service,
        errors=(400, 404),
        body=shapes.ChooseService,
    ),
    _put(
        name="disableServiceForReason",
        reply=shapes.ChangedService,
        path="/os-services/disable-log-reason",
        handler=handlers.disable_for_reason,
        errors=(400, 404),
        body=shapes.DisableService,
    ),
    _put(
        name="freezeHost",
        reply=None,
        path="/os-services/freeze",
        handler=handlers.freeze_host,
        errors=(400,),
        body=shapes.ChooseHost,
    ),
    _put(
        name="thawHost",
        reply=None,
        path="/os-services/thaw",
        handler=handlers.thaw_host,
        errors=(400,),
        body=shapes.ChooseHost,
    ),
    _put(
        name="showLogLevels",
        reply=shapes.LOGS,
        path="/os-services/get-log",
        handler=handlers.show_logs,
        errors=(400,),
        body=shapes.ChooseLogs,
        since=_LOGS_SINCE,
    ),
    _put(
        name="setLogLevels",
        reply=None,
        path="/os-services/set-log",
        handler=handlers.set_logs,
        success=202,
        errors=(400,),
        body=shapes.SetLogs,
        since=_LOGS_SINCE,
    ),
    _look(name="listHosts", reply=shapes.HOSTS, query_names=("zone",), path="/os-hosts", handler=handlers.list_hosts),
    _look(name="showHost", reply=shapes.HOST, path="/os-hosts/{host}", handler=handlers.show_host, errors=(404,)),
)

_POOLS: Final = (
    _look(
        name="listPools",
        reply=shapes.POOLS,
        query_names=("detail", "name", "volume_type"),
        path="/scheduler-stats/get_pools",
        handler=pools.list_pools,
        errors=(400,),
    ),
    _look(
        name="showCapabilities",
        reply=shapes.Capabilities,
        path="/capabilities/{host}",
        handler=pools.show_capabilities,
        errors=(404,),
    ),
    _look(
        name="listClusters",
        reply=shapes.CLUSTERS,
        path="/clusters",
        handler=pools.list_clusters,
        errors=(400,),
        since=_CLUSTERS_SINCE,
    ),
    _look(
        name="listClusterDetails",
        reply=shapes.CLUSTERS,
        path="/clusters/detail",
        handler=pools.list_clusters,
        errors=(400,),
        since=_CLUSTERS_SINCE,
    ),
    admin(
        name="cleanUpWorkers",
        reply=shapes.CleanupAnswer,
        method="POST",
        path="/workers/cleanup",
        handler=pools.clean_up,
        success=202,
        errors=(400,),
        body=shapes.Cleanup,
        since=Version(3, 24),
    ),
)

SERVICES: Final = (*_ABOUT, *_PARTS, *_POOLS)
