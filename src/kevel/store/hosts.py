"""Hypervisor hosts: registration, epochs, versions."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, select, update

from kevel.domain.agents import Reach
from kevel.domain.placement import HOST_SILENT_S
from kevel.store.schema.servers import hosts
from kevel.store.transactions import Tx, as_struct, row_columns


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A hypervisor host."""

    name: str
    version: int
    epoch: int
    availability_zone: str
    facts: dict[str, Any]
    registered_at: int
    seen_at: int
    disabled_reason: str | None
    #: Of an agent on another machine: where it is, and which run of it has registered.
    place: str | None
    instance: str | None
    #: What it reaches; None: everything, as the agent inside `kevel up` does.
    reach: Reach | None


def host_is_up(host: Host, at: int) -> bool:
    """Has the host's agent been heard of lately, and may it speak? With its certificates revoked, nobody does."""
    revoked = host.place is not None and host.instance is None
    return not revoked and at - host.seen_at <= HOST_SILENT_S * 1_000_000


_COLUMNS = row_columns(hosts, Host)
_ALL = select(*_COLUMNS).order_by(hosts.c.name)
_ONE = select(*_COLUMNS).where(hosts.c.name == bindparam("of_host"))
_RAISE = (
    update(hosts)
    .where(hosts.c.name == bindparam("of_host"))
    .values(version=hosts.c.version + 1)
    .returning(hosts.c.version)
)
_EPOCH = select(hosts.c.epoch).where(hosts.c.name == bindparam("of_host"))


def register_host(tx: Tx, *, name: str, availability_zone: str, facts: dict[str, Any], at: int) -> int:
    """Enter the host or its new agent; return the agent's epoch. Reports of earlier epochs are refused from now on."""
    known = tx.execute(_EPOCH, {"of_host": name}).scalar()
    if known is None:
        values = {"name": name, "version": 1, "epoch": 1, "registered_at": at}
        values |= {"availability_zone": availability_zone, "facts": facts, "seen_at": at}
        tx.execute(insert(hosts), values)
        return 1
    # An agent that was registered before is told with its next poll.
    raise_version(tx, name)
    statement = update(hosts).where(hosts.c.name == name)
    tx.execute(statement.values(epoch=known + 1, facts=facts, seen_at=at, availability_zone=availability_zone))
    return int(known) + 1


def touch_host(tx: Tx, name: str, at: int) -> None:
    """The host's agent has been heard of."""
    tx.execute(update(hosts).where(hosts.c.name == name).values(seen_at=at))


def set_disabled(tx: Tx, name: str, reason: str | None) -> bool:
    """Give the host no new servers, for that reason ("": none was said), or (None) some again. False: no such host."""
    return tx.execute(update(hosts).where(hosts.c.name == name).values(disabled_reason=reason)).rowcount > 0


def current_epoch(tx: Tx, name: str) -> int | None:
    """The epoch whose reports count; None: no such host."""
    epoch: int | None = tx.execute(_EPOCH, {"of_host": name}).scalar()
    return epoch


def raise_version(tx: Tx, name: str) -> int:
    """The version to stamp on a change that concerns the host; its agent is woken after the commit."""
    tx.wake("host", name)
    return int(tx.execute(_RAISE, {"of_host": name}).scalar_one())


def find_host(tx: Tx, name: str) -> Host | None:
    """The host of that name, if its agent has ever registered."""
    row = tx.execute(_ONE, {"of_host": name}).first()
    return None if row is None else as_struct(Host, row)


def load_host(tx: Tx, name: str) -> Host:
    """The host of that name, which rows refer to and so exists."""
    return as_struct(Host, tx.execute(_ONE, {"of_host": name}).one())


def list_hosts(tx: Tx) -> list[Host]:
    """All hosts by name."""
    return [as_struct(Host, row) for row in tx.execute(_ALL)]
