"""Everything that the API handlers use, joined once by the app factory."""

from __future__ import annotations

from dataclasses import dataclass

from kevel.control.attachments.attachments import Attachments
from kevel.control.attachments.explaining import Explaining
from kevel.control.attachments.external import External
from kevel.control.attachments.old_flow import OldFlow
from kevel.control.attachments.swaps import Swaps
from kevel.control.backups.backups import Backups
from kevel.control.copies.snapshots import Snapshots
from kevel.control.copies.volume_contents import VolumeContents
from kevel.control.groups.group_snapshots import GroupSnapshots
from kevel.control.groups.groups import Groups
from kevel.control.hosts.comparison import Comparison
from kevel.control.hosts.fleet import Fleet
from kevel.control.hosts.hosts import Hosts
from kevel.control.hosts.readings import Readings
from kevel.control.identity.identity import Identity
from kevel.control.images.images import Images
from kevel.control.messages import Messages
from kevel.control.pools.pools import Pools
from kevel.control.pools.services import VolumeServices
from kevel.control.quotas import Quotas
from kevel.control.runtime import Runtime
from kevel.control.servers.flavors import Flavors
from kevel.control.servers.groups import ServerGroups
from kevel.control.servers.imaging import Imaging
from kevel.control.servers.keypairs import Keypairs
from kevel.control.servers.past import Past
from kevel.control.servers.quotas import ServerQuotas
from kevel.control.servers.servers import Servers
from kevel.control.servers.shelving import Shelving
from kevel.control.volume_types.encryptions import TypeEncryptions
from kevel.control.volume_types.group_types import GroupTypes
from kevel.control.volume_types.qos_specs import Qos
from kevel.control.volume_types.types import VolumeTypes
from kevel.control.volumes.managing import Managing
from kevel.control.volumes.pool_moves import PoolMoves
from kevel.control.volumes.transfers import Transfers
from kevel.control.volumes.volumes import Volumes
from kevel.runtime.log_levels import LogLevels


@dataclass(frozen=True, kw_only=True)
class Services:
    """The use cases, by resource."""

    runtime: Runtime
    identity: Identity
    images: Images
    flavors: Flavors
    servers: Servers
    readings: Readings
    past: Past
    shelving: Shelving
    imaging: Imaging
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
    fleet: Fleet
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
    swaps: Swaps
