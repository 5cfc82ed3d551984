"""Groups of servers: which hosts a policy leaves to one more server. Pure."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping

import msgspec


class GroupPolicy(enum.Enum):
    """Where a group's servers are to be. The soft ones give way where they cannot be had."""

    AFFINITY = "affinity"
    ANTI_AFFINITY = "anti-affinity"
    SOFT_AFFINITY = "soft-affinity"
    SOFT_ANTI_AFFINITY = "soft-anti-affinity"


class ServerGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group's row."""

    id: str
    project_id: str
    user_id: str
    name: str
    policy: GroupPolicy
    #: Of anti-affinity: servers of the group on one host; None: one.
    per_host_max: int | None
    created_at: int


def allowed_hosts(group: ServerGroup, members: Mapping[str, int], hosts: Collection[str]) -> frozenset[str]:
    """The hosts that may take one more server of the group; `members` says how many of it each host has.

    A soft policy leaves the hosts that serve it best, and so never none of those there are.
    """
    if group.policy is GroupPolicy.AFFINITY:
        return frozenset(host for host in hosts if not members or host in members)
    if group.policy is GroupPolicy.ANTI_AFFINITY:
        return frozenset(host for host in hosts if members.get(host, 0) < (group.per_host_max or 1))
    counts = {host: members.get(host, 0) for host in hosts}
    choose = max if group.policy is GroupPolicy.SOFT_AFFINITY else min
    best = choose(counts.values(), default=0)
    return frozenset(host for host, count in counts.items() if count == best)
