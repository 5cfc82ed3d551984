"""Which hosts take new servers, by what the records say of hosts and of the servers on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from kevel.control.attachments.attachments import find_server
from kevel.domain.errors import Conflict, Invalid, NotFound
from kevel.domain.model import Actor
from kevel.domain.placement import VCPUS_RATIO, Room, place_servers
from kevel.domain.server_groups import ServerGroup
from kevel.store import servers as rows
from kevel.store.hosts import Host, host_is_up, list_hosts, set_disabled
from kevel.store.server_groups import count_by_host
from kevel.store.servers import Used
from kevel.store.transactions import Tx


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    """A host, whether it is up, and what lives on it."""

    host: Host
    up: bool
    used: Sequence[Used]


def view_hosts(tx: Tx, at: int) -> list[HostView]:
    """All hosts with the servers that live on them."""
    used = rows.list_used(tx)
    return [
        HostView(host=host, up=host_is_up(host, at), used=[one for one in used if one.host == host.name])
        for host in list_hosts(tx)
    ]


def disable_host(tx: Tx, name: str, reason: str | None) -> None:
    """Place no new servers on the host, for that reason, or (None) some again. Raises NotFound."""
    if not set_disabled(tx, name, reason):
        raise NotFound(f"Compute host {name[:64]} could not be found.")


def choose_hosts(
    tx: Tx,
    *,
    zone: str | None,
    host: str | None,
    flavor: Mapping[str, Any],
    volumes: int,
    group: ServerGroup | None,
    near: Collection[str],
    apart: Collection[str],
    pools: Collection[str],
    makes: bool,
    images: bool,
    count_min: int,
    count_max: int,
    at: int,
) -> list[Room]:
    """A host for each of `count_min` to `count_max` servers of a flavor, with so many volumes besides their root disks.

    `zone` and `host`: None is any; `group`: whose policy holds; `near`: hosts of which one is to be taken, where there
    are any, and `apart`: of which none; `pools` and `images`: what the host has to reach; `makes`: volumes are made
    with the server, so that it has to reach some pool. Raises Invalid for what there is not, and Conflict when
    there is room for too few: it says what is in the way on how many hosts.
    """
    hosts = list_hosts(tx)
    zones = {one.availability_zone for one in hosts}
    if zone is not None and zone not in zones:
        raise Invalid(f"The requested availability zone {zone!r} is not available; there is: {_words(zones)}.")
    if host is not None and not any(_is_named(one, host) for one in hosts):
        raise Invalid(f"Compute host {host} could not be found.")
    wanted = [
        one
        for one in hosts
        if zone in (None, one.availability_zone)
        and (host is None or _is_named(one, host))
        and (not near or one.name in near)
        and one.name not in apart
    ]
    near_enough = [one for one in wanted if reaches(one, pools, makes=makes, images=images)]
    rooms = _rooms(tx, near_enough, at)
    vcpus, memory_mib = flavor["vcpus"], flavor["ram_mib"]
    members = Counter[str]() if group is None else count_by_host(tx, group.id)
    placed = place_servers(
        rooms, vcpus=vcpus, memory_mib=memory_mib, volumes=volumes, count=count_max, group=group, members=members
    )
    if len(placed) >= count_min:
        return placed
    # What the servers that would have found room leave of it counts, as it did for the one that found none.
    full = [room for room in rooms if not room.fits(vcpus, memory_mib, 0)]
    narrow = [room for room in rooms if room not in full and volumes > room.volumes_max]
    bounds = " or ".join(str(bound) for bound in sorted({room.volumes_max for room in narrow}))
    barred = 0 if group is None else len(rooms) - len(full) - len(narrow)
    policy = "" if group is None else group.policy.value
    reasons = (
        (len(hosts) - len(wanted), "not what was asked for by availability zone, name or hint"),
        (len(wanted) - len(near_enough), f"out of reach of {_storage(pools, makes=makes, images=images)}"),
        (len(near_enough) - len(rooms), "disabled or not heard of"),
        (len(full), f"without room for {vcpus} more vCPUs and {memory_mib} MiB of memory"),
        (len(narrow), f"unable to give one server {volumes} volumes besides its root disk (at most {bounds})"),
        (barred, f"ruled out by the policy {policy} of the server group"),
    )
    told = "; ".join(f"{number} {words}" for number, words in reasons if number) or "none"
    raise Conflict(
        f"No valid host was found. There is room for {len(placed)} of {count_min} servers. "
        f"Of {len(hosts)} hosts: {told}."
    )


def reaches(host: Host, pools: Collection[str], *, makes: bool = False, images: bool = False) -> bool:
    """Does the host reach these pools, some pool at all (`makes`), and the images? An agent inside Kevel does."""
    reach = host.reach
    if reach is None:
        return True
    return set(pools) <= set(reach.pools) and (bool(reach.pools) or not makes) and (reach.images or not images)


def _storage(pools: Collection[str], *, makes: bool, images: bool) -> str:
    names = [f"the storage pool {name}" for name in sorted(pools)]
    names += ["any storage pool"] if makes else []
    return " or ".join([*names, *(["the images"] if images else [])])


def hosts_of(tx: Tx, actor: Actor, server_ids: Sequence[str]) -> frozenset[str]:
    """The hosts of servers that a request names. Raises Invalid for one that is not the actor's."""
    try:
        return frozenset(find_server(tx, server_id, actor).host for server_id in server_ids)
    except NotFound as error:
        raise Invalid(error.message) from error


def _is_named(host: Host, name: str) -> bool:
    """Is it the name of the host, or the hypervisor's own?"""
    return name in (host.name, host.facts.get("hostname"))


def _words(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _rooms(tx: Tx, hosts: Sequence[Host], at: int) -> list[Room]:
    rooms = {
        host.name: Room(
            host=host.name,
            availability_zone=host.availability_zone,
            vcpus=int(host.facts["vcpus"]),
            vcpus_left=int(host.facts["vcpus"]) * VCPUS_RATIO,
            memory_mib_left=int(host.facts["memory_mib"]),
            volumes_max=int(host.facts["max_volumes"]),
        )
        for host in hosts
        if host.disabled_reason is None and host_is_up(host, at)
    }
    for used in rows.list_used(tx):
        if (room := rooms.get(used.host)) is not None:
            room.vcpus_left -= used.flavor["vcpus"]
            room.memory_mib_left -= used.flavor["ram_mib"]
    return list(rooms.values())
