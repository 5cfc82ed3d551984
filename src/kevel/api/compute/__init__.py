"""The compute API v2.1."""

from __future__ import annotations

from kevel.api.compute import (
    discovery,
    external_events,
    hosts,
    instance_actions,
    migrations,
    readings,
    server_images,
    server_life,
    server_shapes,
    server_shelving,
    servers,
    services,
    usage,
    volume_attachments,
)
from kevel.api.compute.flavors.operations import OPERATIONS as FLAVORS
from kevel.api.compute.groups.operations import GROUPS
from kevel.api.compute.keypairs.operations import KEYPAIRS
from kevel.api.compute.proxies.operations import PROXIES
from kevel.api.compute.quotas.operations import QUOTAS
from kevel.api.compute.shapes import HIGHEST, LOWEST
from kevel.api.compute.tags.operations import TAGS
from kevel.api.operations import Api, ErrorStyle

__all__ = ["API"]

API = Api(
    name="compute",
    prefix="/compute/v2.1",
    operations=(
        *discovery.OPERATIONS,
        *servers.OPERATIONS,
        *server_life.OPERATIONS,
        *server_images.OPERATIONS,
        *server_shapes.OPERATIONS,
        *server_shelving.OPERATIONS,
        *volume_attachments.OPERATIONS,
        *instance_actions.OPERATIONS,
        *migrations.OPERATIONS,
        *usage.OPERATIONS,
        *readings.OPERATIONS,
        *FLAVORS,
        *hosts.OPERATIONS,
        *services.OPERATIONS,
        *external_events.OPERATIONS,
        *KEYPAIRS,
        *GROUPS,
        *TAGS,
        *QUOTAS,
        *PROXIES,
    ),
    error_style=ErrorStyle.COMPUTE,
    versions=(LOWEST, HIGHEST),
    version_service="compute",
    legacy_version_header="X-OpenStack-Nova-API-Version",
    project_in_path=True,
    request_id_headers=("x-compute-request-id", "x-openstack-request-id"),
)
