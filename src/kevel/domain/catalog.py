"""Kevel's own part of the catalog: computed from the address, with ids that are the same at every start."""

from __future__ import annotations

import uuid
from typing import Final, NamedTuple

from kevel.domain.identity import Endpoint, Region, Service

REGION_ID: Final = "RegionOne"
INTERFACES: Final = ("public", "internal", "admin")
_NAMESPACE: Final = uuid.UUID("6b6c5ad2-8a0c-4a53-9c49-0b5c1d3f6f0e")


class _Own(NamedTuple):
    type: str
    path: str
    description: str


#: Block storage stands here twice: newer clients look for its official type, older ones for "volumev3".
_OWN: Final = (
    _Own("identity", "/identity/v3", "Users, projects and tokens"),
    _Own("compute", "/compute/v2.1", "Servers"),
    _Own("block-storage", "/volume/v3", "Volumes"),
    _Own("volumev3", "/volume/v3", "Volumes, under the type that older clients look for"),
    _Own("image", "/image", "Images"),
)


def built_in_region() -> Region:
    """The region that Kevel's own endpoints are in."""
    return Region(id=REGION_ID, description="", parent_region_id=None, extra={})


def built_in_services() -> list[Service]:
    """Kevel's own services."""
    return [
        Service(
            id=_fixed_id("service", own.type),
            type=own.type,
            name=f"kevel-{own.type}",
            description=own.description,
            enabled=True,
            extra={},
        )
        for own in _OWN
    ]


def built_in_endpoints(origin: str) -> list[Endpoint]:
    """Kevel's own endpoints; `origin` is the address that clients use: "http://192.0.2.1:8774"."""
    return [
        Endpoint(
            id=_fixed_id("endpoint", own.type, interface),
            service_id=_fixed_id("service", own.type),
            interface=interface,
            region_id=REGION_ID,
            url=f"{origin}{own.path}",
            enabled=True,
            extra={},
        )
        for own in _OWN
        for interface in INTERFACES
    ]


def _fixed_id(*names: str) -> str:
    return uuid.uuid5(_NAMESPACE, "/".join(names)).hex


BUILT_IN_IDS: Final = frozenset(
    [REGION_ID] + [service.id for service in built_in_services()] + [endpoint.id for endpoint in built_in_endpoints("")]
)
