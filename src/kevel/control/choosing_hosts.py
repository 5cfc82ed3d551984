"""Which hosts take new servers, by what the records say of hosts and of the servers on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kevel.domain.errors import Conflict, Invalid
from kevel.domain.placement import HOST_SILENT_S, VCPUS_RATIO, Room, place_servers
from kevel.store import servers as rows
from kevel.store.hosts import Host, list_hosts
from kevel.store.transactions import Tx


def host_is_up(host: Host, at: int) -> bool:
    """Has the host's agent been heard of lately?"""
    return at - host.seen_at <= HOST_SILENT_S * 1_000_000


def choose_hosts(
    tx: Tx,
    *,
    zone: str | None,
    host: str | None,
    flavor: Mapping[str, Any],
    volumes: int,
    count_min: int,
    count_max: int,
    at: int,
) -> list[Room]:
    """A host for each of `count_min` to `count_max` servers of a flavor, with so many volumes besides their root disks.

    `zone` and `host`: None is any. Raises Invalid for what there is not, and Conflict when there is room for too few.
    """
    hosts = list_hosts(tx)
    zones = {one.availability_zone for one in hosts}
    if zone is not None and zone not in zones:
        raise Invalid(f"The requested availability zone {zone!r} is not available; there is: {_words(zones)}.")
    if host is not None and not any(_is_named(one, host) for one in hosts):
        raise Invalid(f"Compute host {host} could not be found.")
    wanted = [one for one in hosts if zone in (None, one.availability_zone) and (host is None or _is_named(one, host))]
    rooms = _rooms(tx, wanted, at)
    vcpus, memory_mib = flavor["vcpus"], flavor["ram_mib"]
    placed = place_servers(rooms, vcpus=vcpus, memory_mib=memory_mib, volumes=volumes, count=count_max)
    if len(placed) < count_min:
        limits = ", ".join(f"{room.host} takes {room.volumes_max}" for room in rooms if room.volumes_max < volumes)
        raise Conflict(
            f"No valid host was found. {len(rooms)} of {len(hosts)} hosts can be used, and there is room for "
            f"{len(placed)} of {count_min} servers with {vcpus} vCPUs and {memory_mib} MiB of memory"
            + (f" and {volumes} volumes: {limits} in one server besides its root disk." if limits else ".")
        )
    return placed


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
