"""What agents may ask, as a table. A verb gets the host that the certificate speaks for, and never another name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from kevel.control.hosts.fleet import Fleet
from kevel.control.hosts.hosts import Hosts
from kevel.domain.agents import (
    CensusNews,
    CopyNews,
    Heard,
    JoinRequest,
    Poll,
    ReachNews,
    Registered,
    Registration,
    Reports,
    RotateRequest,
    SwapNews,
)
from kevel.domain.errors import NotFound
from kevel.domain.questions import Answer

#: Of requests without a certificate, and of those with one.
OPEN_BYTES_MAX: Final = 16 * 1024
BODY_BYTES_MAX: Final = 8 * 1024**2


@dataclass(frozen=True)
class AgentServices:
    """What the verbs use."""

    fleet: Fleet
    hosts: Hosts


@dataclass(frozen=True)
class Verb:
    """One verb."""

    path: str
    #: Type of the body.
    body: Any
    answer: Callable[[AgentServices, str, Any], Awaitable[Any]]
    #: Anybody may ask, without a certificate: the host is "" then.
    is_open: bool = False
    #: The certificate is looked at again before the answer goes out: it waited, or carries secrets.
    checks_twice: bool = False


async def show_authority(services: AgentServices, _: str, __: Any) -> Any:
    """The authority's certificate. Whoever has a join token compares its hash, and believes nothing else before."""
    return {"authority": services.fleet.authority.certificate}


async def join(services: AgentServices, _: str, asked: JoinRequest) -> Any:
    """A first certificate for a join token."""
    return await services.fleet.join(asked)


async def rotate(services: AgentServices, host: str, asked: RotateRequest) -> Any:
    """The next certificate."""
    return await services.fleet.rotate(host, asked.request)


async def show_settings(services: AgentServices, host: str, _: Any) -> Any:
    """What the agent has to know before it registers."""
    return services.fleet.settings_for(host)


async def register(services: AgentServices, host: str, asked: Registration) -> Any:
    """Enter the agent; its epoch."""
    return Registered(epoch=await services.fleet.register(host, asked))


async def changes(services: AgentServices, host: str, asked: Poll) -> Any:
    """What changed since a version; waits a while for something to."""
    return await services.fleet.changes(host, asked)


async def report(services: AgentServices, host: str, asked: Reports) -> Any:
    """What the agent saw of servers and paths. 404 when none of them is the host's."""
    foreign = await services.hosts.take_reports(host, asked.epoch, asked.servers, asked.paths)
    if foreign and len(foreign) == len(asked.servers) + len(asked.paths):
        raise NotFound("This host has none of these.")
    return Heard(not_found=foreign)


async def report_copy(services: AgentServices, host: str, asked: CopyNews) -> Any:
    """What the agent saw of a copy."""
    if not await services.hosts.take_copy_report(host, asked.epoch, asked.report):
        raise NotFound("This host has none of these.")
    return Heard()


async def report_swap(services: AgentServices, host: str, asked: SwapNews) -> Any:
    """What the agent saw of a swap."""
    if not await services.hosts.take_swap_report(host, asked.epoch, asked.report):
        raise NotFound("This host has none of these.")
    return Heard()


async def take_census(services: AgentServices, host: str, asked: CensusNews) -> Any:
    """What is really on the host."""
    await services.hosts.take_census(host, asked.epoch, asked.census)
    return Heard()


async def answer(services: AgentServices, host: str, asked: Answer) -> Any:
    """What the agent saw when a request asked it; another host's question cannot be answered."""
    await services.hosts.answer(host, asked)
    return Heard()


async def record_reach(services: AgentServices, host: str, asked: ReachNews) -> Any:
    """What the host reaches now."""
    await services.fleet.record_reach(host, asked.epoch, asked.reach)
    return Heard()


VERBS: Final = (
    Verb("/agent/v1/authority", None, show_authority, is_open=True),
    Verb("/agent/v1/join", JoinRequest, join, is_open=True),
    Verb("/agent/v1/credential", RotateRequest, rotate),
    Verb("/agent/v1/settings", None, show_settings),
    Verb("/agent/v1/register", Registration, register),
    Verb("/agent/v1/changes", Poll, changes, checks_twice=True),
    Verb("/agent/v1/report", Reports, report),
    Verb("/agent/v1/copy", CopyNews, report_copy),
    Verb("/agent/v1/swap", SwapNews, report_swap),
    Verb("/agent/v1/census", CensusNews, take_census),
    Verb("/agent/v1/answer", Answer, answer),
    Verb("/agent/v1/reach", ReachNews, record_reach),
)
