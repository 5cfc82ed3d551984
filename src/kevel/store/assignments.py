"""What a host's agent has to know, read in one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

from sqlalchemy import Row, and_, bindparam, or_, select

from kevel.domain.assignments import Assignments, PathAssignment, ServerAssignment, name_disk
from kevel.domain.devices import volume_bus
from kevel.domain.encryption import Passphrase
from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.model import GIB
from kevel.domain.placement import is_boot_disk
from kevel.domain.server_life import LEAVES_HOST
from kevel.domain.tuning import tune_from_specs
from kevel.store.copies import copies_for_host
from kevel.store.qos_specs import FRONT_END
from kevel.store.schema.attachments import attachments, paths
from kevel.store.schema.base import LIVE
from kevel.store.schema.servers import hosts, servers
from kevel.store.schema.volume_types import qos_specs
from kevel.store.schema.volumes import IS_WITHHELD, operations, volume_keys, volume_types, volumes
from kevel.store.swaps import swaps_for_host
from kevel.store.transactions import Tx
from kevel.store.volume_keys import KEY_SEAL

#: Opens what is sealed under a name: a path's connection_info under its id, a volume's key; pure.
OpenInfo = Callable[[str, bytes], dict[str, Any]]

_VERSION = select(hosts.c.version, hosts.c.epoch, hosts.c.census_wanted).where(hosts.c.name == bindparam("of_host"))
_PATHS = (
    select(
        paths.c.id,
        paths.c.attachment_id,
        paths.c.volume_id,
        paths.c.server_id,
        paths.c.generation,
        paths.c.rung,
        paths.c.hands,
        paths.c.revision,
        attachments.c.goal,
        attachments.c.goal_revision,
        attachments.c.goal_by,
        attachments.c.deadline_at,
        attachments.c.established,
        attachments.c.aside,
        attachments.c.serial,
        servers.c.goal.label("server_goal"),
        servers.c.image,
        paths.c.connection_info,
        volumes.c.size_gib,
        volumes.c.format,
        paths.c.plugged_bytes,
        attachments.c.device,
        attachments.c.unit,
        volumes.c.readonly,
        volumes.c.multiattach,
        volumes.c.backend,
        qos_specs.c.specs.label("limits"),
        volumes.c.encryption_key_id,
        volume_keys.c.sealed.label("sealed_key"),
        operations.c.id.label("withheld_by"),
    )
    .join(attachments, attachments.c.id == paths.c.attachment_id)
    .join(servers, servers.c.id == paths.c.server_id)
    .join(volumes, volumes.c.id == paths.c.volume_id)
    .outerjoin(volume_keys, volume_keys.c.id == volumes.c.encryption_key_id)
    .join(volume_types, volume_types.c.id == volumes.c.volume_type_id)
    .outerjoin(qos_specs, and_(qos_specs.c.id == volume_types.c.qos_specs_id, qos_specs.c.consumer.in_(FRONT_END)))
    .outerjoin(operations, IS_WITHHELD)
    .where(paths.c.host == bindparam("of_host"), paths.c.host_version > bindparam("since"))
    .where(or_(paths.c.live == LIVE, bindparam("since") > 0))
)
_SERVERS = select(
    servers.c.id,
    servers.c.goal,
    servers.c.goal_revision,
    servers.c.deadline_at,
    servers.c.rung,
    servers.c.revision,
    servers.c.wanted_boot,
    servers.c.boot,
    servers.c.boot_kind,
    servers.c.launched_at,
    servers.c.flavor,
    servers.c.image,
    servers.c.wanted_shape,
    servers.c.shape,
    servers.c.extras,
).where(
    servers.c.host == bindparam("of_host"),
    servers.c.host_version > bindparam("since"),
    or_(servers.c.deleted_at.is_(None), bindparam("since") > 0),
)
_BOOT_DISKS = (
    select(servers.c.id, servers.c.launched_at, servers.c.extras, attachments.c.id.label("attachment_id"))
    .add_columns(attachments.c.volume_id, attachments.c.boot_index)
    .join(attachments, attachments.c.server_id == servers.c.id)
    .where(servers.c.host == bindparam("of_host"), servers.c.host_version > bindparam("since"))
    .where(attachments.c.live == LIVE, attachments.c.goal == Goal.ATTACHED, attachments.c.aside.is_(False))
)


def changes_for_host(
    tx: Tx, host: str, since: int, open_info: OpenInfo, effect_free: Mapping[str, Container[Rung]]
) -> Assignments:
    """Everything of the host that changed after that version; all that is live for version 0."""
    version, epoch, census_wanted = tx.execute(_VERSION, {"of_host": host}).one()
    if version <= since:
        return Assignments(version=version, epoch=epoch, servers=(), paths=(), census_wanted=census_wanted or 0)
    values = {"of_host": host, "since": since}
    return Assignments(
        version=version,
        epoch=epoch,
        servers=_servers(tx, values),
        paths=tuple(_path(row, open_info, effect_free) for row in tx.execute(_PATHS, values)),
        copies=copies_for_host(tx, host, since),
        swaps=swaps_for_host(tx, host, since),
        census_wanted=census_wanted or 0,
    )


def _servers(tx: Tx, values: Mapping[str, Any]) -> tuple[ServerAssignment, ...]:
    boot_disks: dict[str, dict[str, str]] = {}
    for row in tx.execute(_BOOT_DISKS, values):
        launched, shelved = row.launched_at is not None, row.extras.shelf is not None
        if is_boot_disk(row.boot_index, launched=launched, shelved=shelved):
            boot_disks.setdefault(row.id, {})[name_disk(row.attachment_id)] = row.volume_id
    return tuple(_server(row, boot_disks.get(row.id, {})) for row in tx.execute(_SERVERS, values))


def _server(row: Row[Any], boot_disks: dict[str, str]) -> ServerAssignment:
    return ServerAssignment(
        id=row.id,
        goal=row.goal,
        goal_revision=row.goal_revision,
        deadline_at=row.deadline_at,
        rung=row.rung,
        revision=row.revision,
        wanted_boot=row.wanted_boot,
        boot=row.boot,
        boot_kind=row.boot_kind,
        launched=row.launched_at is not None,
        flavor=row.flavor,
        image=row.image,
        boot_disks=boot_disks,
        wanted_shape=row.wanted_shape,
        shape=row.shape,
        extras=row.extras,
    )


def _open_key(row: Row[Any], open_info: OpenInfo) -> Passphrase | None:
    """What opens the volume; None for one that is not encrypted, and for one whose key is destroyed."""
    if row.sealed_key is None:
        return None
    return Passphrase(open_info(f"{KEY_SEAL}{row.encryption_key_id}", row.sealed_key)["passphrase"])


def _path(row: Row[Any], open_info: OpenInfo, effect_free: Mapping[str, Container[Rung]]) -> PathAssignment:
    free = effect_free[row.backend]
    held = row.hands is Hands.HOST  # secrets are for whom has something to do with them (S10)
    info = open_info(row.id, row.connection_info) if held and row.connection_info is not None else None
    return PathAssignment(
        id=row.id,
        attachment_id=row.attachment_id,
        volume_id=row.volume_id,
        server_id=row.server_id,
        generation=row.generation,
        rung=row.rung,
        hands=row.hands,
        revision=row.revision,
        goal=row.goal,
        goal_revision=row.goal_revision,
        goal_by=row.goal_by,
        deadline_at=row.deadline_at,
        established=row.established,
        server_wanted=row.server_goal not in LEAVES_HOST,
        connection_info=info,
        volume_bytes=row.size_gib * GIB,
        volume_format=row.format,
        plugged_bytes=row.plugged_bytes,
        device=row.device,
        unit=row.unit,
        bus=volume_bus(row.image),
        read_only=row.readonly,
        shareable=row.multiattach,
        tune=tune_from_specs(row.limits or {}, row.size_gib),
        passphrase=_open_key(row, open_info) if held else None,
        effect_free=tuple(rung for rung in Rung if rung in free),
        withheld=row.withheld_by is not None,
        aside=row.aside,
        known_as=row.serial,
    )
