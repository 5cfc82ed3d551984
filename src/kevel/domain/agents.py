"""What an agent on another machine and the control plane say to each other, besides assignments and reports.

The protocol is versioned: an agent sends its version with every request, and one that is not spoken here is refused.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from kevel.domain.assignments import CopyReport, HostCensus, PathReport, ServerReport, SwapReport
from kevel.domain.errors import Invalid, KevelError
from kevel.domain.limits import Limits

#: The version that this code's agent speaks, and those that its control plane understands.
PROTOCOL: Final = 1
PROTOCOLS: Final = (1,)
PROTOCOL_HEADER: Final = "kevel-agent-protocol"
#: The name in the certificate of the control plane, whatever address it has.
CONTROL_NAME: Final = "control.kevel"
#: An agent that has not been answered for so long neither plugs a disk nor starts a guest. It spares work that nobody
#: waits for any more; it is no fence (S5). A poll is held for 30 seconds, and the lease outlives two.
LEASE_S: Final = 75.0
#: Reports in one request.
REPORTS_MAX: Final = 256
_HOST_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,62}")
_TOKEN: Final = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{64})")


class Dismissed(KevelError):
    """The control plane does not hear this agent any more."""


class ControlSilent(KevelError):
    """The control plane did not answer."""


def check_host_name(name: str) -> str:
    """The name, if a host can have it. Raises Invalid."""
    if _HOST_NAME.fullmatch(name) is None:
        raise Invalid(
            f"{name[:64]!r} cannot be a host's name: it has to be 1 to 63 letters, digits, dots, hyphens and "
            "underscores, and to begin with a letter or digit."
        )
    return name


class JoinToken(msgspec.Struct, frozen=True):
    """What lets one agent in, once: a secret, and the hash of the authority by which it knows the control plane."""

    secret: str
    authority: str

    def __repr__(self) -> str:
        return "JoinToken(...)"

    __str__ = __repr__

    @property
    def text(self) -> str:
        """As it is shown, once."""
        return f"{self.secret}.{self.authority}"


def read_join_token(text: str) -> JoinToken:
    """The token that was shown as this text. Raises Invalid, without it."""
    found = _TOKEN.fullmatch(text.strip())
    if found is None:
        raise Invalid("This is no join token; `kevel host join-token NAME` makes one.")
    return JoinToken(found[1], found[2])


class PoolPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a pool's directory is, and the mark in it by which a host knows that it reaches the same one."""

    #: The back end's name.
    backend: str
    #: What connection_infos call the pool; None: the default one.
    pool: str | None
    directory: str
    mark: str


class HostSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the control plane tells an agent before it registers."""

    host: str
    limits: Limits
    pools: tuple[PoolPlace, ...]
    #: Images lie in a directory of it; assignments name files relative to it.
    data_dir: str
    images: PoolPlace


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """Which of these directories a host reaches: it has found their marks in them."""

    images: bool
    pools: tuple[str, ...]


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that begins."""

    #: The machine and the agent's directory on it.
    place: str
    #: This run of the agent.
    instance: str
    availability_zone: str
    facts: dict[str, Any]
    reach: Reach


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's epoch."""

    epoch: int


class Poll(msgspec.Struct, frozen=True, kw_only=True):
    """What changed since that version?"""

    epoch: int
    instance: str
    since: int


class ReachNews(msgspec.Struct, frozen=True, kw_only=True):
    """What the host reaches has changed."""

    epoch: int
    reach: Reach


class Reports(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent saw of servers and paths."""

    epoch: int
    servers: tuple[ServerReport, ...] = ()
    paths: tuple[PathReport, ...] = ()


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What became of reports: the ids of things of which this host has none; the others were taken, or are outdated."""

    not_found: tuple[str, ...] = ()


class CopyNews(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent saw of a copy."""

    epoch: int
    report: CopyReport


class SwapNews(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent saw of a swap."""

    epoch: int
    report: SwapReport


class CensusNews(msgspec.Struct, frozen=True, kw_only=True):
    """What is really on the host."""

    epoch: int
    census: HostCensus


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Let me in: the token's secret, and a certificate signing request (PEM) for a key that stays on the host."""

    secret: str
    request: str

    def __repr__(self) -> str:
        return "JoinRequest(...)"

    __str__ = __repr__


class RotateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate for a new key."""

    request: str


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's certificate and the authority's, both PEM; neither is a secret."""

    host: str
    certificate: str
    authority: str
