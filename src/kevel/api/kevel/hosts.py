"""Hosts, as operators see them: who may speak for each, and how it is let in and shut out."""

from __future__ import annotations

from typing import Any, Final, Literal

from kevel.api.answers import Answer, name_answer
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.control.hosts.fleet import HostAccount
from kevel.store.hosts import host_is_up


class CredentialView(Answer, kw_only=True):
    """A certificate of the host's agent."""

    serial: str
    issued_at: int
    expires_at: int
    used_at: int | None
    revoked_at: int | None


class ReachView(Answer, kw_only=True):
    """Which of Kevel's directories the host reaches."""

    images: bool
    pools: list[str]


class HostView(Answer, kw_only=True):
    """A host."""

    name: str
    #: "new": its agent has not registered yet.
    state: Literal["new", "up", "unknown"]
    why: str
    #: Its agent has joined from elsewhere; else it runs inside Kevel.
    joined: bool
    #: It has a certificate that is good.
    admitted: bool
    availability_zone: str | None
    epoch: int | None
    registered_at: int | None
    seen_at: int | None
    #: Set: it gets no new servers. "": nobody said why.
    disabled_reason: str | None
    place: str | None
    #: None: all that there is.
    reach: ReachView | None
    credentials: list[CredentialView]


class JoinTokenView(Answer, kw_only=True):
    """What lets an agent in, once. It is told now and never again."""

    host: str
    token: str
    expires_at: int


def _show(account: HostAccount, now: int) -> dict[str, Any]:
    host = account.host
    good = [one for one in account.credentials if one.revoked_at is None and one.expires_at > now]
    state, why = _state(account, now, admitted=bool(good))
    return {
        "name": account.name,
        "state": state,
        "why": why,
        "joined": account.joined,
        "admitted": bool(good),
        "availability_zone": None if host is None else host.availability_zone,
        "epoch": None if host is None else host.epoch,
        "registered_at": None if host is None else host.registered_at,
        "seen_at": None if host is None else host.seen_at,
        "disabled_reason": None if host is None else host.disabled_reason,
        "place": None if host is None else host.place,
        "reach": None
        if host is None or host.reach is None
        else {"images": host.reach.images, "pools": list(host.reach.pools)},
        "credentials": [
            {
                "serial": one.serial,
                "issued_at": one.issued_at,
                "expires_at": one.expires_at,
                "used_at": one.used_at,
                "revoked_at": one.revoked_at,
            }
            for one in account.credentials
        ],
    }


def _state(account: HostAccount, now: int, *, admitted: bool) -> tuple[str, str]:
    if account.host is None:
        return "new", "Its agent has joined and has not registered yet."
    if account.joined and not admitted:
        return "unknown", "Its certificates are revoked or expired: nobody can speak for it until it joins anew."
    if host_is_up(account.host, now):
        return "up", "Its agent has been heard of lately."
    silent_s = (now - account.host.seen_at) // 1_000_000
    return "unknown", f"Its agent has not been heard of for {silent_s} seconds; its guests may run all the same."


async def list_hosts(call: Call) -> Reply:
    """All hosts, by name."""
    now = call.services.runtime.clock.now_us()
    return Reply(body={"hosts": [_show(one, now) for one in await call.services.fleet.list()]})


async def show_host(call: Call) -> Reply:
    """One host."""
    return await _reply(call)


async def make_join_token(call: Call) -> Reply:
    """A token with which one agent becomes this host's, within an hour. An earlier token of the host is void."""
    made = await call.services.fleet.make_join_token(call.path["host_name"])
    shown = {"host": made.host, "token": made.token.text, "expires_at": made.expires_at}
    return Reply(body={"join_token": shown}, headers={"Cache-Control": "no-store"})


async def revoke_host(call: Call) -> Reply:
    """Shut the host's agent out, at once, and void its join token. Its guests keep running."""
    await call.services.fleet.revoke(call.path["host_name"])
    return Reply()


async def _reply(call: Call) -> Reply:
    account = await call.services.fleet.get(call.path["host_name"])
    return Reply(body={"host": _show(account, call.services.runtime.clock.now_us())})


OPERATIONS: Final = (
    Operation(
        name="list_hosts",
        method="GET",
        path="/hosts",
        handler=list_hosts,
        policy=Policy.ADMIN,
        reply=name_answer("hosts", list[HostView]),
    ),
    Operation(
        name="show_host",
        method="GET",
        path="/hosts/{host_name}",
        handler=show_host,
        policy=Policy.ADMIN,
        errors=(404,),
        reply=name_answer("host", HostView),
    ),
    Operation(
        name="make_join_token",
        method="POST",
        path="/hosts/{host_name}/join-token",
        handler=make_join_token,
        policy=Policy.ADMIN,
        errors=(400, 409),
        reply=name_answer("join_token", JoinTokenView),
    ),
    Operation(
        name="revoke_host",
        method="POST",
        path="/hosts/{host_name}/revoke",
        handler=revoke_host,
        policy=Policy.ADMIN,
        success=202,
        errors=(404, 409),
        reply=None,
    ),
)
