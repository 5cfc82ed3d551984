"""Who may speak for a host: join tokens and certificates, and what agents on other machines tell of themselves.

The functions here are the only writers of the two tables.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, insert, or_, select, update

from kevel.domain.agents import Registration
from kevel.domain.errors import Conflict, Fenced
from kevel.domain.ladder import Hands
from kevel.store.hosts import current_epoch, find_host, raise_version, register_host
from kevel.store.schema.agents import host_credentials, join_tokens
from kevel.store.schema.attachments import paths
from kevel.store.schema.base import LIVE
from kevel.store.schema.servers import hosts, servers
from kevel.store.transactions import Tx, as_struct, row_columns


class HostCredential(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that was given to a host's agent."""

    serial: str
    host: str
    issued_at: int
    expires_at: int
    used_at: int | None
    revoked_at: int | None


_COLUMNS = row_columns(host_credentials, HostCredential)
_ONE = select(*_COLUMNS).where(host_credentials.c.serial == bindparam("of_serial"))
_OF_HOST = select(*_COLUMNS).where(host_credentials.c.host == bindparam("of_host"))
_TOKEN = select(join_tokens.c.host, join_tokens.c.expires_at, join_tokens.c.key_digest).where(
    join_tokens.c.digest == bindparam("of_digest")
)
_SERVER_ON = select(servers.c.id).where(servers.c.host == bindparam("of_host"), servers.c.deleted_at.is_(None)).limit(1)
_PATH_ON = (
    select(paths.c.id)
    .where(paths.c.host == bindparam("of_host"), paths.c.live == LIVE, paths.c.hands == Hands.HOST)
    .limit(1)
)


def enter_join_token(tx: Tx, *, host: str, digest: str, at: int, expires_at: int) -> None:
    """Let an agent of that host in, once; an earlier token of the host lets nobody in any more."""
    tx.execute(delete(join_tokens).where(or_(join_tokens.c.host == host, join_tokens.c.expires_at < at)))
    values = {"digest": digest, "host": host, "created_at": at, "expires_at": expires_at, "key_digest": None}
    tx.execute(insert(join_tokens), values)


def spend_join_token(tx: Tx, *, digest: str, key_digest: str, at: int) -> str | None:
    """The host that the token is for, if it may be used: by one key only. None: it may not."""
    row = tx.execute(_TOKEN, {"of_digest": digest}).first()
    if row is None or row.expires_at < at or row.key_digest not in (None, key_digest):
        return None
    tx.execute(update(join_tokens).where(join_tokens.c.digest == digest).values(key_digest=key_digest))
    return str(row.host)


def enter_credential(tx: Tx, *, serial: str, host: str, at: int, expires_at: int) -> None:
    """Keep that the host's agent gets that certificate; forget those that nobody can use any more."""
    tx.execute(delete(host_credentials).where(host_credentials.c.host == host, host_credentials.c.expires_at < at))
    values = {"serial": serial, "host": host, "issued_at": at, "expires_at": expires_at}
    tx.execute(insert(host_credentials), values | {"used_at": None, "revoked_at": None})


def find_credential(tx: Tx, serial: str) -> HostCredential | None:
    """The certificate of that serial number, revoked or not."""
    row = tx.execute(_ONE, {"of_serial": serial}).first()
    return None if row is None else as_struct(HostCredential, row)


def credentials_of(tx: Tx, host: str) -> list[HostCredential]:
    """Every certificate that the host's agents were given, expired ones aside."""
    return [as_struct(HostCredential, row) for row in tx.execute(_OF_HOST, {"of_host": host})]


def hosts_with_credentials(tx: Tx) -> dict[str, list[HostCredential]]:
    """The certificates of all hosts that have, or had, one."""
    found: dict[str, list[HostCredential]] = {}
    for row in tx.execute(select(*_COLUMNS).order_by(host_credentials.c.issued_at)):
        found.setdefault(row.host, []).append(as_struct(HostCredential, row))
    return found


def use_credential(tx: Tx, credential: HostCredential, at: int) -> None:
    """It was used for the first time: whoever has an earlier one of the host's is out."""
    mine = host_credentials.c.serial == credential.serial
    tx.execute(update(host_credentials).where(mine, host_credentials.c.used_at.is_(None)).values(used_at=at))
    tx.execute(
        update(host_credentials)
        .where(host_credentials.c.host == credential.host, host_credentials.c.issued_at < credential.issued_at)
        .where(host_credentials.c.revoked_at.is_(None))
        .values(revoked_at=at)
    )


def revoke_credentials(tx: Tx, host: str, at: int) -> bool:
    """End every certificate and token of the host, and what its agent has under way. False: there are none."""
    tokens = tx.execute(delete(join_tokens).where(join_tokens.c.host == host)).rowcount
    open_ones = (host_credentials.c.host == host, host_credentials.c.revoked_at.is_(None))
    ended = tx.execute(update(host_credentials).where(*open_ones).values(revoked_at=at)).rowcount
    if (epoch := current_epoch(tx, host)) is not None and ended:
        # A report that is under way is refused, and a poll that waits is woken and told.
        raise_version(tx, host)
        tx.execute(update(hosts).where(hosts.c.name == host).values(epoch=epoch + 1, instance=None))
    return bool(tokens or ended)


def register_agent(tx: Tx, host: str, new: Registration, at: int) -> int:
    """Enter the host or its new agent; the epoch. Raises Conflict for an agent that cannot have what the host has."""
    known = find_host(tx, host)
    if known is not None and known.place not in (None, new.place) and _holds_anything(tx, host):
        raise Conflict(
            f"Host {host} has servers or volumes, and they are with its agent in another place ({known.place}). An "
            "agent here could not know whether its guests still run; move them away first, or start that one again."
        )
    epoch = register_host(tx, name=host, availability_zone=new.availability_zone, facts=new.facts, at=at)
    values: dict[str, Any] = {"place": new.place, "instance": new.instance, "reach": new.reach}
    tx.execute(update(hosts).where(hosts.c.name == host).values(**values))
    return epoch


def _holds_anything(tx: Tx, host: str) -> bool:
    return any(tx.execute(found, {"of_host": host}).first() is not None for found in (_SERVER_ON, _PATH_ON))


def check_instance(tx: Tx, host: str, epoch: int, instance: str) -> None:
    """Raise Fenced when another agent has registered in this one's place.

    A later epoch of the same one is its own registration, carried twice.
    """
    known = find_host(tx, host)
    if known is None or (known.epoch != epoch and known.instance != instance):
        raise Fenced


def record_reach(tx: Tx, host: str, epoch: int, reach: Any) -> None:
    """What the host reaches now. Raises Fenced."""
    if current_epoch(tx, host) != epoch:
        raise Fenced
    tx.execute(update(hosts).where(hosts.c.name == host).values(reach=reach))
