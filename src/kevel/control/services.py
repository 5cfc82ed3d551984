"""Everything that the API handlers use, joined once by the app factory."""

from __future__ import annotations

from dataclasses import dataclass

from kevel.control.attachments import Attachments
from kevel.control.backups import Backups
from kevel.control.comparison import Comparison
from kevel.control.explaining import Explaining
from kevel.control.external import External
from kevel.control.flavors import Flavors
from kevel.control.group_snapshots import GroupSnapshots
from kevel.control.group_types import GroupTypes
from kevel.control.groups import Groups
from kevel.control.hosts import Hosts
from kevel.control.identity import Identity
from kevel.control.images import Images
from kevel.control.keypairs import Keypairs
from kevel.control.managing import Managing
from kevel.control.messages import Messages
from kevel.control.old_flow import OldFlow
from kevel.control.pool_moves import PoolMoves
from kevel.control.pools import Pools
from kevel.control.qos_specs import Qos
from kevel.control.quotas import Quotas
from kevel.control.runtime import Runtime
from kevel.control.server_groups import ServerGroups
from kevel.control.server_quotas import ServerQuotas
from kevel.control.servers import Servers
from kevel.control.snapshots import Snapshots
from kevel.control.transfers import Transfers
from kevel.control.type_encryptions import TypeEncryptions
from kevel.control.volume_contents import VolumeContents
from kevel.control.volume_services import VolumeServices
from kevel.control.volume_types import VolumeTypes
from kevel.control.volumes import Volumes
from kevel.runtime.log_levels import LogLevels


@dataclass(frozen=True, kw_only=True)
class Services:
    """The use cases, by resource."""

    runtime: Runtime
    identity: Identity
    images: Images
    flavors: Flavors
    servers: Servers
    keypairs: Keypairs
    server_quotas: ServerQuotas
    server_groups: ServerGroups
    pools: Pools
    pool_moves: PoolMoves
    volumes: Volumes
    managing: Managing
    volume_contents: VolumeContents
    snapshots: Snapshots
    volume_types: VolumeTypes
    attachments: Attachments
    external: External
    old_flow: OldFlow
    hosts: Hosts
    messages: Messages
    transfers: Transfers
    backups: Backups
    quotas: Quotas
    group_types: GroupTypes
    groups: Groups
    qos: Qos
    volume_services: VolumeServices
    log_levels: LogLevels
    type_encryptions: TypeEncryptions
    group_snapshots: GroupSnapshots
    comparison: Comparison
    explaining: Explaining
