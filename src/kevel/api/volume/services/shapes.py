"""What operations on services take and answer."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType, field

from kevel.api.answers import Answer, name_answer
from kevel.api.volume.bodies import Bool, Text

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Host = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9._#@:/+\[\]\-]*$")]
Status = Literal["enabled", "disabled"]
Binary = Literal["", "*", "cinder-api", "cinder-scheduler", "cinder-volume", "cinder-backup"]


class ChooseService(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /os-services/enable and /disable. `service` is an older word for `binary`."""

    host: Host
    binary: Word | UnsetType = UNSET
    service: Word | UnsetType = UNSET
    cluster: Text | None = None


class DisableService(ChooseService, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /os-services/disable-log-reason."""

    disabled_reason: Word


class ChooseHost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /os-services/freeze and /thaw."""

    host: Host
    cluster: Text | None = None


class ChooseLogs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /os-services/get-log. All parts are one process, with one set of levels."""

    binary: Binary = ""
    server: Text | None = None
    prefix: Text | None = None


class SetLogs(ChooseLogs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /os-services/set-log."""

    level: Text


class Cleanup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /workers/cleanup."""

    cluster_name: Text | None = None
    host: Text | None = None
    binary: Literal["cinder-volume", "cinder-scheduler"] | UnsetType = UNSET
    service_id: int | Text | None = None
    is_up: Bool | None = None
    disabled: Bool | None = None
    resource_id: Text | None = None
    resource_type: Literal["Volume", "volume", "Snapshot", "snapshot", ""] | None = None


class Service(Answer, kw_only=True):
    """A part. What is UNSET belongs to pools, or came with a microversion."""

    binary: str
    host: str
    zone: str
    status: Status
    state: Literal["up", "down"]
    updated_at: str
    disabled_reason: str | None
    replication_status: str | UnsetType = UNSET
    active_backend_id: UnsetType | None = UNSET
    frozen: bool | UnsetType = UNSET
    cluster: UnsetType | None = UNSET
    backend_state: Literal["up", "down"] | UnsetType = UNSET


class ChangedService(Answer, kw_only=True):
    """What was said of a part."""

    host: str
    service: str
    binary: str
    status: Status
    disabled: bool
    disabled_reason: str | UnsetType | None = UNSET


class Logs(Answer, kw_only=True):
    """The levels of a process."""

    host: str
    binary: str
    levels: dict[str, str]


class HostOfService(Answer, kw_only=True):
    """A part by its host."""

    host_name: str
    service: str
    zone: str
    service_status: Literal["available", "unavailable"] = field(name="service-status")
    service_state: Status = field(name="service-state")
    last_update: str = field(name="last-update")


class Share(Answer, kw_only=True):
    """What a project, or all of them, have in a pool. Numbers are texts."""

    host: str
    project: str
    volume_count: str
    total_volume_gb: str
    snapshot_count: str
    total_snapshot_gb: str


class Resource(Answer, kw_only=True):
    """A share in its envelope."""

    resource: Share


class Pool(Answer, kw_only=True):
    """What back ends have."""

    name: str
    capabilities: dict[str, Any] | UnsetType = UNSET


class Capabilities(Answer, kw_only=True):
    """What a back end is."""

    namespace: str
    vendor_name: str
    volume_backend_name: str
    pool_name: str | None
    driver_version: str
    storage_protocol: str
    display_name: str | None
    description: str | None
    visibility: str | None
    replication_targets: Annotated[list[str], msgspec.Meta(max_length=0)]
    properties: Annotated[dict[str, str], msgspec.Meta(max_length=0)]


class CleanupAnswer(Answer, kw_only=True):
    """Nothing is ever left to clean up: a part that starts goes on by itself."""

    cleaning: Annotated[list[str], msgspec.Meta(max_length=0)]
    unavailable: Annotated[list[str], msgspec.Meta(max_length=0)]


class Extension(Answer, kw_only=True):
    """A part of the API by the name that it had as an extension."""

    name: str
    alias: str
    description: str
    updated: str
    links: Annotated[list[str], msgspec.Meta(max_length=0)]


class Filters(Answer, kw_only=True):
    """What lists of a resource can be filtered by."""

    resource: str
    filters: list[str]


SERVICES: Final = name_answer("services", list[Service])
LOGS: Final = name_answer("log_levels", list[Logs])
HOSTS: Final = name_answer("hosts", list[HostOfService])
HOST: Final = name_answer("host", list[Resource])
POOLS: Final = name_answer("pools", list[Pool])
CLUSTERS: Final = name_answer("clusters", Annotated[list[str], msgspec.Meta(max_length=0)])
EXTENSIONS: Final = name_answer("extensions", list[Extension])
EXTENSION: Final = name_answer("extension", Extension)
FILTERS: Final = name_answer("resource_filters", list[Filters])
