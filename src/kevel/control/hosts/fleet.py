"""Agents on other machines: who may speak for a host, and what it is told before it begins.

An agent is known by its certificate alone, and a certificate speaks for one host: nothing else that an agent sends
says whose things it may see or change (S11).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from kevel.control.hosts.authority import Authority, IssuedCertificate, key_digest, read_request, read_serial
from kevel.control.hosts.hosts import Hosts
from kevel.control.runtime import Runtime
from kevel.domain.agents import (
    Credential,
    HostSettings,
    JoinRequest,
    JoinToken,
    Poll,
    Reach,
    Registration,
    check_host_name,
)
from kevel.domain.assignments import Assignments
from kevel.domain.errors import Conflict, NotFound, Unauthenticated
from kevel.store import agents as rows
from kevel.store.hosts import Host, list_hosts
from kevel.store.transactions import Tx

log = structlog.get_logger(__name__)

#: How long a join token may be used.
TOKEN_LIFETIME_S: Final = 3600


class HostAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A host, and who may speak for it."""

    name: str
    #: None: its agent has not registered yet.
    host: Host | None
    #: Its agent is on another machine or in another process, and has had certificates.
    joined: bool
    credentials: Sequence[rows.HostCredential]


class FreshToken(msgspec.Struct, frozen=True, kw_only=True):
    """A join token, told once."""

    host: str
    token: JoinToken
    expires_at: int


class Fleet:
    """The use cases of joined hosts. `settings` has no host's name in it."""

    def __init__(
        self, runtime: Runtime, hosts: Hosts, inside: str, settings: HostSettings, authority: Authority | None
    ) -> None:
        """`inside`: the host whose agent runs in this process. `authority`: None when no agents are listened to."""
        self._runtime = runtime
        self._hosts = hosts
        self._inside = inside
        self._settings = settings
        self._authority = authority

    @property
    def authority(self) -> Authority:
        """Whoever signs certificates. Raises Conflict when no agents are listened to."""
        if self._authority is None:
            raise Conflict("Kevel does not listen to agents; start it with --agents HOST:PORT.")
        return self._authority

    async def make_join_token(self, host: str) -> FreshToken:
        """A token that lets one agent of that host in, once. Raises Invalid and Conflict."""
        if check_host_name(host) == self._inside:
            raise Conflict(f"Host {host} is the one whose agent runs inside this Kevel; choose another name.")
        token = JoinToken(self._runtime.ids.secret(), self.authority.digest)
        at = self._runtime.clock.now_us()
        expires_at = at + TOKEN_LIFETIME_S * 1_000_000
        digest = _digest(token.secret)
        await self._runtime.store.write(rows.enter_join_token, host=host, digest=digest, at=at, expires_at=expires_at)
        return FreshToken(host=host, token=token, expires_at=expires_at)

    async def join(self, asked: JoinRequest) -> Credential:
        """A first certificate for whoever has a token. The same key may ask again: the answer may have been lost."""
        request = read_request(asked.request)
        at = self._runtime.clock.now_us()
        host = await self._runtime.store.write(
            rows.spend_join_token, digest=_digest(asked.secret), key_digest=key_digest(request), at=at
        )
        if host is None:
            raise Unauthenticated("This join token is unknown, spent, or too old; `kevel host join-token` makes one.")
        issued = self.authority.issue(host, request)
        await self._enter(host, issued, at)
        log.warning("an agent has joined", host=host, serial=issued.serial)
        return Credential(host=host, certificate=issued.certificate, authority=self.authority.certificate)

    async def rotate(self, host: str, request_pem: str) -> Credential:
        """Another certificate for another key; the old one ends when this one is first used."""
        issued = self.authority.issue(host, read_request(request_pem))
        await self._enter(host, issued, self._runtime.clock.now_us())
        return Credential(host=host, certificate=issued.certificate, authority=self.authority.certificate)

    async def _enter(self, host: str, issued: IssuedCertificate, at: int) -> None:
        await self._runtime.store.write(
            rows.enter_credential, serial=issued.serial, host=host, at=at, expires_at=issued.expires_at
        )

    async def authenticate(self, certificate_der: bytes | None) -> str:
        """The host that whoever has this certificate, which TLS has verified, speaks for. Raises Unauthenticated."""
        if certificate_der is None:
            raise Unauthenticated("This needs the certificate of a host's agent.")
        serial, at = read_serial(certificate_der), self._runtime.clock.now_us()
        known = await self._runtime.store.read_point(rows.find_credential, serial)
        if known is None:
            raise Unauthenticated("This certificate is not known; the agent has to join anew.")
        if known.revoked_at is not None:
            raise Unauthenticated(f"This certificate of host {known.host} was revoked, or a later one is in use.")
        if known.expires_at <= at:
            raise Unauthenticated(f"This certificate of host {known.host} has expired; the agent has to join anew.")
        if known.used_at is None:
            await self._runtime.store.write(rows.use_credential, known, at)
        return known.host

    def settings_for(self, host: str) -> HostSettings:
        """What the host's agent has to know before it registers."""
        return msgspec.structs.replace(self._settings, host=host)

    async def register(self, host: str, new: Registration) -> int:
        """Enter the agent; its epoch. Raises Conflict when its host has things, and they are with another."""
        return await self._runtime.store.write(rows.register_agent, host, new, self._runtime.clock.now_us())

    async def changes(self, host: str, poll: Poll) -> Assignments:
        """What changed, as `Hosts.changes`. Raises Fenced once another agent has registered for the host."""
        store = self._runtime.store
        await store.read_point(rows.check_instance, host, poll.epoch, poll.instance)
        found = await self._hosts.changes(host, poll.since)
        await store.read_point(rows.check_instance, host, poll.epoch, poll.instance)
        return found

    async def record_reach(self, host: str, epoch: int, reach: Reach) -> None:
        """What the host reaches now. Raises Fenced."""
        await self._runtime.store.write(rows.record_reach, host, epoch, reach)

    async def revoke(self, host: str) -> None:
        """End every certificate and token of the host, at once. Its guests keep running. Raises NotFound, Conflict."""
        if host == self._inside:
            raise Conflict(f"The agent of host {host} runs inside this Kevel, and has no certificate to revoke.")
        at = self._runtime.clock.now_us()
        if not await self._runtime.store.write(rows.revoke_credentials, host, at):
            raise NotFound(f"There is no certificate and no join token of a host {host[:64]} to revoke.")

    async def list(self) -> list[HostAccount]:
        """All hosts by name, those that are yet to register too."""
        return await self._runtime.store.read(_list)

    async def get(self, name: str) -> HostAccount:
        """One host. Raises NotFound."""
        found = [one for one in await self.list() if one.name == name]
        if not found:
            raise NotFound(f"Host {name[:64]} could not be found.")
        return found[0]


def _list(tx: Tx) -> list[HostAccount]:
    hosts = {host.name: host for host in list_hosts(tx)}
    credentials = rows.hosts_with_credentials(tx)
    return [
        HostAccount(name=name, host=hosts.get(name), joined=name in credentials, credentials=credentials.get(name, []))
        for name in sorted(hosts.keys() | credentials.keys())
    ]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
