"""Limits of projects, and what the projects have, counted from the rows themselves: so it cannot drift.

`check_room_for` runs in the transaction that makes something. Writers run one after the other, so two requests never
take the same room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec
from sqlalchemy import and_, bindparam, delete, func, insert, or_, select

from kevel.domain.errors import OverLimit
from kevel.domain.model import OperationKind, Subject
from kevel.domain.quotas import (
    FALLBACKS,
    RESOURCES,
    TYPED_RESOURCES,
    UNLIMITED,
    QuotaDefaults,
    QuotaKey,
    QuotaUsage,
)
from kevel.store.backups import count_backups
from kevel.store.groups import count_groups
from kevel.store.pool_moves import running_moves
from kevel.store.schema.base import LIVE
from kevel.store.schema.quotas import quota_limits
from kevel.store.schema.volumes import operations, snapshots, volumes
from kevel.store.statements import Rows
from kevel.store.transactions import Tx
from kevel.store.volume_types import load_type

OwnerKind = Literal["user", "project", "class", "configuration"]
#: The class whose limits hold for every project that has none of its own.
DEFAULT_CLASS: Final = "default"
#: Whose word counts, the strongest last.
_PRECEDENCE: Final = {"configuration": 0, "class": 1, "project": 2, "user": 3}

_OF_DEFAULTS = or_(
    quota_limits.c.owner_kind == "configuration",
    and_(quota_limits.c.owner_kind == "class", quota_limits.c.owner == DEFAULT_CLASS),
)
_DEFAULTS = select(quota_limits).where(_OF_DEFAULTS)
_IN_FORCE = select(quota_limits).where(
    or_(
        _OF_DEFAULTS,
        and_(quota_limits.c.owner_kind == "project", quota_limits.c.owner == bindparam("of_project")),
    )
)
_IN_FORCE_FOR_USER = select(quota_limits).where(
    or_(
        _OF_DEFAULTS,
        and_(quota_limits.c.owner_kind == "project", quota_limits.c.owner == bindparam("of_project")),
        and_(quota_limits.c.owner_kind == "user", quota_limits.c.owner == bindparam("of_user")),
    )
)
_INSERT = insert(quota_limits)
_CLEAR = delete(quota_limits).where(
    quota_limits.c.owner_kind == bindparam("of_kind"), quota_limits.c.owner == bindparam("of_owner")
)
_CLEAR_SOME = _CLEAR.where(quota_limits.c.resource.in_(bindparam("of_resources", expanding=True)))
_CLEAR_USERS = delete(quota_limits).where(
    quota_limits.c.owner_kind == "user",
    func.substr(quota_limits.c.owner, 1, bindparam("length")) == bindparam("prefix"),
)
_CLEAR_ONE = _CLEAR.where(
    quota_limits.c.resource == bindparam("of_resource"), quota_limits.c.volume_type_id == bindparam("of_type")
)
_CLEAR_TYPE = delete(quota_limits).where(quota_limits.c.volume_type_id == bindparam("of_type"))

_VOLUMES = (
    select(
        volumes.c.volume_type_id,
        func.count().label("number"),
        func.sum(volumes.c.size_gib).label("total_gib"),
    )
    .where(volumes.c.project_id == bindparam("of_project"), volumes.c.live == LIVE)
    .group_by(volumes.c.volume_type_id)
)
_GROWING = (
    select(volumes.c.volume_type_id, volumes.c.size_gib, operations.c.args)
    .join(volumes, volumes.c.id == operations.c.subject_id)
    .where(
        operations.c.subject == Subject.VOLUME,
        operations.c.finished_at.is_(None),
        operations.c.kind == OperationKind.EXTENDING,
        volumes.c.project_id == bindparam("of_project"),
        volumes.c.live == LIVE,
    )
)
_SNAPSHOTS = (
    select(
        volumes.c.volume_type_id,
        func.count().label("number"),
        func.sum(snapshots.c.size_gib).label("total_gib"),
    )
    .join(volumes, volumes.c.id == snapshots.c.volume_id)
    .where(snapshots.c.project_id == bindparam("of_project"), snapshots.c.live == LIVE)
    .group_by(volumes.c.volume_type_id)
)


class Counted(msgspec.Struct, frozen=True):
    """What a project has; a key that is missing counts 0."""

    in_use: Counter[QuotaKey]
    reserved: Counter[QuotaKey]

    def total(self, key: QuotaKey) -> int:
        """With what is under way."""
        return self.in_use[key] + self.reserved[key]


def configure_defaults(tx: Tx, defaults: QuotaDefaults) -> None:
    """Write down what the configuration says, in place of what it said at the last start."""
    tx.execute(_CLEAR, {"of_kind": "configuration", "of_owner": ""})
    for resource, limit in msgspec.structs.asdict(defaults).items():
        if limit != FALLBACKS.get(resource, UNLIMITED):
            _insert(tx, "configuration", "", QuotaKey(resource), limit)


def set_limits(tx: Tx, kind: OwnerKind, owner: str, limits: Mapping[QuotaKey, int]) -> None:
    """Set these limits of a project or class, and leave its others."""
    for key, limit in limits.items():
        values = {"of_kind": kind, "of_owner": owner, "of_resource": key.resource, "of_type": key.volume_type_id}
        tx.execute(_CLEAR_ONE, values)
        _insert(tx, kind, owner, key, limit)


def clear_limits(tx: Tx, kind: OwnerKind, owner: str, resources: Sequence[str]) -> None:
    """The project or user has the defaults again of these resources."""
    tx.execute(_CLEAR_SOME, {"of_kind": kind, "of_owner": owner, "of_resources": resources})


def clear_limits_of_users(tx: Tx, project_id: str) -> None:
    """No user of the project has limits of his own."""
    prefix = name_member(project_id, "")
    tx.execute(_CLEAR_USERS, {"prefix": prefix, "length": len(prefix)})


def name_member(project_id: str, user_id: str) -> str:
    """The owner of a user's own limits in a project."""
    return f"{project_id}:{user_id}"


def clear_limits_of_type(tx: Tx, volume_type_id: str) -> None:
    """The type is deleted: so are its limits."""
    tx.execute(_CLEAR_TYPE, {"of_type": volume_type_id})


def _insert(tx: Tx, kind: OwnerKind, owner: str, key: QuotaKey, limit: int) -> None:
    values = {"owner_kind": kind, "owner": owner, "resource": key.resource, "volume_type_id": key.volume_type_id}
    tx.execute(_INSERT, values | {"upper_limit": limit})


def default_limits(tx: Tx) -> dict[QuotaKey, int]:
    """What holds for a project that has no limits of its own; what is missing is unlimited."""
    return _strongest(tx.execute(_DEFAULTS))


def limits_in_force(tx: Tx, project_id: str, user_id: str | None = None) -> dict[QuotaKey, int]:
    """What holds for the project, or for one user in it; what is missing is unlimited."""
    if user_id is None:
        return _strongest(tx.execute(_IN_FORCE, {"of_project": project_id}))
    values = {"of_project": project_id, "of_user": name_member(project_id, user_id)}
    return _strongest(tx.execute(_IN_FORCE_FOR_USER, values))


def _strongest(rows: Rows) -> dict[QuotaKey, int]:
    limits: dict[QuotaKey, int] = {}
    for row in sorted(rows, key=lambda row: _PRECEDENCE[row.owner_kind]):
        limits[QuotaKey(row.resource, row.volume_type_id)] = row.upper_limit
    return limits


def count_usage(tx: Tx, project_id: str) -> Counted:
    """What the project has. Whatever is not a tombstone counts, failed and half-made things too."""
    in_use: Counter[QuotaKey] = Counter()
    reserved: Counter[QuotaKey] = Counter()
    of_project = {"of_project": project_id}
    for row in tx.execute(_VOLUMES, of_project):
        _add(in_use, "volumes", row.volume_type_id, int(row.number))
        _add(in_use, "gigabytes", row.volume_type_id, int(row.total_gib))
    for row in tx.execute(_SNAPSHOTS, of_project):
        _add(in_use, "snapshots", row.volume_type_id, int(row.number))
        _add(in_use, "gigabytes", row.volume_type_id, int(row.total_gib))
    for row in tx.execute(_GROWING, of_project):
        _add(reserved, "gigabytes", row.volume_type_id, max(0, int(row.args["size_gib"]) - row.size_gib))
    for of_project_id, size_gib, move in running_moves(tx):
        if of_project_id == project_id and move.volume_type_id is not None:
            reserved[QuotaKey("volumes", move.volume_type_id)] += 1
            reserved[QuotaKey("gigabytes", move.volume_type_id)] += size_gib
    in_use[QuotaKey("backups")], in_use[QuotaKey("backup_gigabytes")] = count_backups(tx, project_id)
    in_use[QuotaKey("groups")] = count_groups(tx, project_id)
    return Counted(in_use, reserved)


def _add(counts: Counter[QuotaKey], resource: str, volume_type_id: str, number: int) -> None:
    counts[QuotaKey(resource)] += number
    counts[QuotaKey(resource, volume_type_id)] += number


def check_room_for(
    tx: Tx, project_id: str, demand: Mapping[str, int], *, volume_type_id: str | None = None, of_type_only: bool = False
) -> None:
    """Raise OverLimit if the project may not have so much more.

    `demand` is by resource; `per_volume_gigabytes` in it is the size of the one volume. With a volume type, the limits
    of that type are looked at too; `of_type_only` for what the project has already, and only changes its type.
    """
    wanted = {} if of_type_only else {QuotaKey(resource): number for resource, number in demand.items()}
    if volume_type_id is not None:
        typed = (resource for resource in TYPED_RESOURCES if resource in demand)
        wanted |= {QuotaKey(resource, volume_type_id): demand[resource] for resource in typed}
    limits = limits_in_force(tx, project_id)
    bounded = [key for key in wanted if limits.get(key, UNLIMITED) != UNLIMITED and wanted[key] > 0]
    if not bounded:
        return
    counted = count_usage(tx, project_id)
    for key in sorted(bounded, key=lambda key: RESOURCES.index(key.resource)):
        usage, limit = counted.total(key), limits[key]
        if usage + wanted[key] > limit:
            raise OverLimit(_refusal(tx, key, limit=limit, usage=usage, wanted=wanted[key]))


def _refusal(tx: Tx, key: QuotaKey, *, limit: int, usage: int, wanted: int) -> str:
    name = key.resource
    if key.volume_type_id:
        volume_type = load_type(tx, key.volume_type_id)
        name = f"{name}_{volume_type.name if volume_type is not None else key.volume_type_id}"
    unit = " GiB" if key.resource.endswith("gigabytes") else ""
    if key.resource == "per_volume_gigabytes":
        return f"Quota exceeded for {name}: a volume may have {limit}{unit}, and {wanted}{unit} were asked for."
    return f"Quota exceeded for {name}: {usage} of {limit}{unit} are taken, and {wanted} more were asked for."


def show_usage(limits: Mapping[QuotaKey, int], counted: Counted, key: QuotaKey) -> QuotaUsage:
    """Limit and usage of one thing side by side."""
    return QuotaUsage(limit=limits.get(key, UNLIMITED), in_use=counted.in_use[key], reserved=counted.reserved[key])
