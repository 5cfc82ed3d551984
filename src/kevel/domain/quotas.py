"""What a project may have: the resources that are limited, by Cinder's names, and what an operator configures."""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec

#: Cinder's word for a limit that is not there.
UNLIMITED: Final = -1
#: The largest limit that can be set; Cinder's columns hold no more.
LIMIT_MAX: Final = 2**31 - 1

#: What is limited, in the order in which a request is held against it.
RESOURCES: Final = (
    "per_volume_gigabytes",
    "volumes",
    "snapshots",
    "backups",
    "groups",
    "gigabytes",
    "backup_gigabytes",
)
#: Those that have a limit for each volume type besides: `volumes_<name of the type>`.
TYPED_RESOURCES: Final = ("volumes", "snapshots", "gigabytes")

#: The same for servers and what belongs to them, by Nova's names. Of the last ones Kevel has none, whatever is allowed.
SERVER_RESOURCES: Final = (
    "instances",
    "cores",
    "ram",
    "metadata_items",
    "key_pairs",
    "server_groups",
    "server_group_members",
    "injected_files",
    "injected_file_content_bytes",
    "injected_file_path_bytes",
    "fixed_ips",
    "floating_ips",
    "security_groups",
    "security_group_rules",
)
#: What holds where not even the configuration says anything; everything else is unlimited.
FALLBACKS: Final = {
    "metadata_items": 128,
    "key_pairs": 100,
    "server_groups": 10,
    "server_group_members": 10,
    "injected_files": 0,
    "injected_file_content_bytes": 0,
    "injected_file_path_bytes": 0,
}

QuotaLimit = Annotated[int, msgspec.Meta(ge=UNLIMITED, le=LIMIT_MAX)]


class QuotaDefaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[quotas]` table of the configuration file: what each project may have where nobody has said more."""

    volumes: QuotaLimit = UNLIMITED
    #: Volumes and snapshots together.
    gigabytes: QuotaLimit = UNLIMITED
    snapshots: QuotaLimit = UNLIMITED
    per_volume_gigabytes: QuotaLimit = UNLIMITED
    backups: QuotaLimit = UNLIMITED
    backup_gigabytes: QuotaLimit = UNLIMITED
    groups: QuotaLimit = UNLIMITED
    instances: QuotaLimit = UNLIMITED
    #: Virtual processors of all servers.
    cores: QuotaLimit = UNLIMITED
    #: MiB of memory of all servers.
    ram: QuotaLimit = UNLIMITED
    #: Metadata of one server.
    metadata_items: QuotaLimit = FALLBACKS["metadata_items"]
    #: Of one user.
    key_pairs: QuotaLimit = FALLBACKS["key_pairs"]
    server_groups: QuotaLimit = FALLBACKS["server_groups"]
    #: Servers of one group.
    server_group_members: QuotaLimit = FALLBACKS["server_group_members"]


class QuotaKey(NamedTuple):
    """One limited thing: a resource, of one volume type or (with "") of all."""

    resource: str
    volume_type_id: str = ""


class QuotaUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One limited thing of one project."""

    limit: int
    in_use: int
    #: What volumes that are growing will take besides.
    reserved: int
