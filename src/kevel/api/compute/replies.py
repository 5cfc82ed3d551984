"""The types of the compute API's answers."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import UNSET, UnsetType, field

from kevel.api.answers import Answer, Link, name_answer, name_list


class ServerSummary(Answer, kw_only=True):
    """The short form of lists."""

    id: str
    name: str
    links: list[Link]


class Accepted(Answer, kw_only=True):
    """What is told of a server that has just been asked for."""

    id: str
    links: list[Link]
    disk_config: Literal["AUTO", "MANUAL"] = field(name="OS-DCF:diskConfig")
    security_groups: list[Any]


class AcceptedAnswer(Answer, kw_only=True):
    """The first server of a request, or, where that was asked for, what its servers have in common."""

    server: Accepted | UnsetType = UNSET
    reservation_id: str | UnsetType = UNSET


class ServerImage(Answer, kw_only=True):
    """The image that a server was made from."""

    id: str
    links: list[Link]
    properties: dict[str, Any] | UnsetType = UNSET


class FlavorLink(Answer, kw_only=True):
    """The flavor until 2.46."""

    id: str
    links: list[Link]


class ServerFlavor(Answer, kw_only=True):
    """The flavor from 2.47 on, as it was when the server was made."""

    vcpus: int
    ram: int
    disk: int
    ephemeral: int
    swap: int
    original_name: str
    extra_specs: dict[str, str]


class Fault(Answer, kw_only=True):
    """Why a server is in ERROR."""

    code: int
    created: str
    message: str


class ServerVolume(Answer, kw_only=True):
    """A volume in a server."""

    id: str
    delete_on_termination: bool | UnsetType = UNSET


class ServerBasics(Answer, kw_only=True):
    """The keys that every answer about a whole server has."""

    id: str
    name: str
    status: Literal[
        "DELETED",
        "ERROR",
        "BUILD",
        "ACTIVE",
        "PAUSED",
        "SUSPENDED",
        "SHUTOFF",
        "RESCUE",
        "REBUILD",
        "RESIZE",
        "VERIFY_RESIZE",
        "SHELVED",
        "SHELVED_OFFLOADED",
        "REVERT_RESIZE",
        "REBOOT",
        "HARD_REBOOT",
    ]
    tenant_id: str
    user_id: str
    metadata: dict[str, str]
    host_id: str = field(name="hostId")
    image: ServerImage | Literal[""]
    flavor: dict[str, Any]
    created: str
    updated: str
    addresses: dict[str, Any]
    access_v4: str = field(name="accessIPv4")
    access_v6: str = field(name="accessIPv6")
    links: list[Link]
    disk_config: Literal["AUTO", "MANUAL"] = field(name="OS-DCF:diskConfig")
    progress: int | UnsetType = UNSET
    fault: Fault | UnsetType = UNSET
    locked: bool | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    tags: list[str] | UnsetType = UNSET
    trusted_image_certificates: UnsetType | None = UNSET
    locked_reason: str | UnsetType | None = UNSET


class Server(ServerBasics, kw_only=True):
    """All that is shown of a server; UNSET came with a microversion, or is for admins."""

    zone: str | None = field(name="OS-EXT-AZ:availability_zone")
    config_drive: str
    key_name: str | None
    launched_at: str | None = field(name="OS-SRV-USG:launched_at")
    terminated_at: str | None = field(name="OS-SRV-USG:terminated_at")
    task_state: str | None = field(name="OS-EXT-STS:task_state")
    vm_state: str = field(name="OS-EXT-STS:vm_state")
    power_state: int = field(name="OS-EXT-STS:power_state")
    volumes: list[ServerVolume] = field(name="os-extended-volumes:volumes_attached")
    host: str | UnsetType | None = field(name="OS-EXT-SRV-ATTR:host", default=UNSET)
    instance_name: str | UnsetType = field(name="OS-EXT-SRV-ATTR:instance_name", default=UNSET)
    hypervisor_hostname: str | UnsetType | None = field(name="OS-EXT-SRV-ATTR:hypervisor_hostname", default=UNSET)
    hostname: str | UnsetType = field(name="OS-EXT-SRV-ATTR:hostname", default=UNSET)
    kernel_id: str | UnsetType = field(name="OS-EXT-SRV-ATTR:kernel_id", default=UNSET)
    ramdisk_id: str | UnsetType = field(name="OS-EXT-SRV-ATTR:ramdisk_id", default=UNSET)
    launch_index: int | UnsetType = field(name="OS-EXT-SRV-ATTR:launch_index", default=UNSET)
    reservation_id: str | UnsetType | None = field(name="OS-EXT-SRV-ATTR:reservation_id", default=UNSET)
    root_device_name: str | UnsetType = field(name="OS-EXT-SRV-ATTR:root_device_name", default=UNSET)
    user_data: UnsetType | None = field(name="OS-EXT-SRV-ATTR:user_data", default=UNSET)
    host_status: Literal["UP", "UNKNOWN", "MAINTENANCE", ""] | UnsetType = UNSET
    server_groups: list[Any] | UnsetType = UNSET
    pinned_availability_zone: str | UnsetType | None = UNSET
    scheduler_hints: dict[str, Any] | UnsetType = UNSET


class Rebuilt(ServerBasics, kw_only=True):
    """What a rebuild answers until 2.74."""

    key_name: str | UnsetType | None = UNSET
    user_data: UnsetType | None = UNSET


class RebuiltWhole(Server, kw_only=True):
    """What it answers from 2.75 on."""

    sent_user_data: UnsetType | None = field(name="user_data", default=UNSET)


class VolumeAttachment(Answer, kw_only=True):
    """A volume in a server. `id` is there until 2.88, the attachment's own ids from 2.89 on."""

    server_id: str = field(name="serverId")
    volume_id: str = field(name="volumeId")
    device: str | None
    id: str | UnsetType = UNSET
    tag: str | UnsetType | None = UNSET
    delete_on_termination: bool | UnsetType = UNSET
    attachment_id: str | UnsetType = UNSET
    bdm_uuid: str | UnsetType = UNSET


class Event(Answer, kw_only=True):
    """A step of an action."""

    event: str
    start_time: str
    finish_time: str | None
    result: str | None
    traceback: UnsetType | None = UNSET
    host_id: str | UnsetType = field(name="hostId", default=UNSET)
    host: str | UnsetType | None = UNSET
    details: str | UnsetType | None = UNSET


class Action(Answer, kw_only=True):
    """Something that was asked of a server."""

    action: str
    instance_uuid: str
    request_id: str
    user_id: str
    project_id: str
    start_time: str
    message: str | None
    updated_at: str | UnsetType = UNSET
    events: list[Event] | UnsetType = UNSET


class FlavorSummary(Answer, kw_only=True):
    """A flavor in the short list."""

    id: str
    name: str
    links: list[Link]
    description: str | UnsetType | None = UNSET


class Flavor(FlavorSummary, kw_only=True):
    """A whole flavor."""

    ram: int
    disk: int
    vcpus: int
    swap: int | str
    ephemeral: int = field(name="OS-FLV-EXT-DATA:ephemeral")
    is_public: bool = field(name="os-flavor-access:is_public")
    disabled: bool | UnsetType = field(name="OS-FLV-DISABLED:disabled", default=UNSET)
    rxtx_factor: float | UnsetType = UNSET
    extra_specs: dict[str, str] | UnsetType = UNSET


class State(Answer, kw_only=True):
    """Is it usable?"""

    available: bool


class ServiceState(State, kw_only=True):
    """A service of a host in a zone."""

    active: bool
    updated_at: str | None


class Zone(Answer, kw_only=True):
    """An availability zone; its hosts are for admins."""

    zone_name: str = field(name="zoneName")
    zone_state: State = field(name="zoneState")
    hosts: dict[str, dict[str, ServiceState]] | None


class Service(Answer, kw_only=True):
    """The part of Kevel that looks after a host."""

    id: int | str
    binary: str
    host: str
    zone: str
    status: Literal["enabled", "disabled"]
    state: Literal["up", "down"]
    updated_at: str | None
    disabled_reason: str | None
    forced_down: bool | UnsetType = UNSET


class HostServer(Answer, kw_only=True):
    """A server of a host."""

    uuid: str
    name: str


class HypervisorSummary(Answer, kw_only=True):
    """A host in the short list."""

    id: int | str
    hypervisor_hostname: str
    state: Literal["up", "down"]
    status: Literal["enabled", "disabled"]
    servers: list[HostServer] | UnsetType = UNSET


class HypervisorService(Answer, kw_only=True):
    """The service of a host."""

    id: int | str
    host: str
    disabled_reason: str | None


class Hypervisor(HypervisorSummary, kw_only=True):
    """A host. What it has and what of it is used was shown until 2.87."""

    hypervisor_type: str
    hypervisor_version: int
    host_ip: str
    service: HypervisorService
    uptime: str | UnsetType | None = UNSET
    vcpus: int | UnsetType = UNSET
    vcpus_used: int | UnsetType = UNSET
    memory_mb: int | UnsetType = UNSET
    memory_mb_used: int | UnsetType = UNSET
    free_ram_mb: int | UnsetType = UNSET
    local_gb: int | UnsetType = UNSET
    local_gb_used: int | UnsetType = UNSET
    free_disk_gb: int | UnsetType = UNSET
    disk_available_least: UnsetType | None = UNSET
    current_workload: int | UnsetType = UNSET
    running_vms: int | UnsetType = UNSET
    cpu_info: str | dict[str, Any] | UnsetType = UNSET


class CpuDetails(Answer, kw_only=True):
    """A processor of a guest; `time` in nanoseconds."""

    id: int
    time: int
    utilisation: None


class DiskDetails(Answer, kw_only=True):
    """What a guest has done with a disk; errors are not counted."""

    read_bytes: int
    read_requests: int
    write_bytes: int
    write_requests: int
    errors_count: None


class MemoryDetails(Answer, kw_only=True):
    """In MiB."""

    maximum: int
    used: int


class Diagnostics(Answer, kw_only=True):
    """What a guest uses, from 2.48 on."""

    state: Literal["running"]
    driver: str
    hypervisor: str
    hypervisor_os: str
    uptime: int
    config_drive: bool
    num_cpus: int
    num_disks: int
    num_nics: int
    cpu_details: list[CpuDetails]
    disk_details: list[DiskDetails]
    nic_details: list[Any]
    memory_details: MemoryDetails


class Uptime(HypervisorSummary, kw_only=True):
    """A host with how long it is up."""

    uptime: str


class Limits(Answer, kw_only=True):
    """Limits of a project."""

    rate: list[Any]
    absolute: dict[str, int]


class Version(Answer, kw_only=True):
    """A version of the API."""

    id: str
    status: str
    version: str
    min_version: str
    updated: str
    links: list[Link]
    media_types: list[dict[str, str]] | UnsetType = field(name="media-types", default=UNSET)


VERSIONS: Final = name_answer("versions", list[Version])
VERSION: Final = name_answer("version", Version)
ACCEPTED: Final = AcceptedAnswer
SERVERS: Final = name_list("servers", ServerSummary)
SERVER_DETAILS: Final = name_list("servers", Server)
SERVER: Final = name_answer("server", Server)
#: What PUT answers until 2.74; from 2.75 on it is a whole server.
UPDATED: Final = name_answer("server", ServerBasics)
REBUILT: Final = name_answer("server", Rebuilt)
REBUILT_WHOLE: Final = name_answer("server", RebuiltWhole)
#: A password that nobody has set is not told.
NOTHING: Final = dict[str, str]
IMAGE_ID: Final = name_answer("image_id", str)
METADATA: Final = name_answer("metadata", dict[str, str])
META: Final = name_answer("meta", dict[str, str])
ADDRESSES: Final = name_answer("addresses", dict[str, Any])
ATTACHMENTS: Final = name_answer("volumeAttachments", list[VolumeAttachment])
ATTACHMENT: Final = name_answer("volumeAttachment", VolumeAttachment)
ACTIONS: Final = name_answer("instanceActions", list[Action], links=list[Link])
ACTION: Final = name_answer("instanceAction", Action)
FLAVORS: Final = name_list("flavors", FlavorSummary)
FLAVOR_DETAILS: Final = name_list("flavors", Flavor)
FLAVOR: Final = name_answer("flavor", Flavor)
SPECS: Final = name_answer("extra_specs", dict[str, str])
ZONES: Final = name_answer("availabilityZoneInfo", list[Zone])
SERVICES: Final = name_answer("services", list[Service])
HYPERVISORS: Final = name_answer("hypervisors", list[HypervisorSummary])
HYPERVISOR_DETAILS: Final = name_answer("hypervisors", list[Hypervisor])
STATISTICS: Final = name_answer("hypervisor_statistics", dict[str, int | None])
UPTIME: Final = name_answer("hypervisor", Uptime)
HYPERVISOR: Final = name_answer("hypervisor", Hypervisor)
CONSOLE: Final = name_answer("output", str)
AGGREGATES: Final = name_answer("aggregates", list[Any])
LIMITS: Final = name_answer("limits", Limits)
