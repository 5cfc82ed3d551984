"""What an operation is: a row of the table that router, validation, policy and the OpenAPI document come from."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from kevel.domain.errors import Forbidden
from kevel.domain.model import Actor
from kevel.store.repeats import KeptAnswer, Once, Repeat

if TYPE_CHECKING:
    from starlette.requests import Request

    from kevel.control.hosts.services import Services

T = TypeVar("T")


class Version(NamedTuple):
    """A microversion; compares as numbers (2.9 < 2.10)."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


class Policy(enum.Enum):
    """Who may call an operation. Nova's and Cinder's default rules in their scoped form."""

    #: Anybody, without a token.
    PUBLIC = "public"
    #: Any valid token, unscoped ones too.
    TOKEN = "token"  # noqa: S105 - a word, not a secret
    #: A role in the token's project, reader or better.
    READER = "reader"
    MEMBER = "member"
    ADMIN = "admin"
    #: Another service, or an admin.
    SERVICE = "service"


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, as the token says."""

    user_id: str
    user_name: str
    user_domain_id: str
    project_id: str | None
    roles: frozenset[str]
    request_id: str
    #: The service that calls for this user, as its own token (X-Service-Token) proves.
    service_user_id: str | None = None

    @property
    def is_admin(self) -> bool:
        """May see and do everything."""
        return "admin" in self.roles

    def may(self, policy: Policy) -> bool:
        """Does the policy allow this caller?"""
        if policy in (Policy.PUBLIC, Policy.TOKEN) or self.is_admin:
            return True
        if policy is Policy.READER:
            return not self.roles.isdisjoint(("reader", "member", "service"))
        if policy is Policy.MEMBER:
            return "member" in self.roles
        return policy is Policy.SERVICE and "service" in self.roles

    @property
    def project(self) -> str:
        """The project of a scoped token; Forbidden for any other token."""
        if self.project_id is None:
            raise Forbidden("This request needs a token that is scoped to a project.")
        return self.project_id


#: Stands in for the caller of a public operation.
NOBODY = Caller(user_id="", user_name="", user_domain_id="", project_id=None, roles=frozenset(), request_id="req-none")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, checked: what a handler gets."""

    services: Services
    caller: Caller
    #: The microversion in force; (0, 0) in an API without microversions.
    version: Version
    #: Variables of the path.
    path: Mapping[str, str]
    #: Query parameters: the operation's `query` type, or None.
    query: Any
    #: Every query parameter as sent, repeated ones included.
    query_items: Sequence[tuple[str, str]]
    #: The body as the operation's `body` type, or None.
    body: Any
    #: The API's own address as the client sees it: "http://host:port/compute/v2.1".
    base_url: str
    request: Request
    #: The key under which the request may be made again, and what it stands for.
    repeat: Repeat | None = None

    def once(self, answer: Callable[[T], Reply]) -> Once[T] | None:
        """How the use case's transaction keeps the answer that is made of its result; None: there is no key."""
        if self.repeat is None:
            return None
        return Once(repeat=self.repeat, answer=lambda result: keep_reply(answer(result)))

    @property
    def actor(self) -> Actor:
        """The caller as transactions know it; Forbidden without a project."""
        caller = self.caller
        return Actor(
            user_id=caller.user_id,
            project_id=caller.project,
            request_id=caller.request_id,
            is_admin=caller.is_admin,
            service_user_id=caller.service_user_id,
        )


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a handler answers. `body` None sends no body; bytes are sent as they are."""

    body: Any = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: For answers that are no JSON: an async iterator of bytes.
    stream: Any = None
    media_type: str = "application/json"


def keep_reply(reply: Reply) -> KeptAnswer:
    """The reply as it is kept for a repeated request."""
    body = None if reply.body is None else msgspec.json.encode(reply.body).decode()
    return KeptAnswer(headers=dict(reply.headers), body=body)


Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation: several rows may share path and method and differ in `action` or in their microversions."""

    #: Unique in its API; the OpenAPI operationId.
    name: str
    method: str
    #: Starlette path below the API's prefix: "/servers/{server_id}/action".
    path: str
    handler: Handler
    policy: Policy
    #: Status code of success.
    success: int = 200
    #: Status codes of the errors that the operation itself can answer, besides 401, 403 and 500.
    errors: tuple[int, ...] = ()
    #: For ".../action": the key of the body that chooses this row.
    action: str | None = None
    #: Struct of the JSON body (the whole of it); None: any body is ignored.
    body: Any = None
    #: Type of a body that the handler converts itself (`body` is None then): the document shows it.
    body_shape: Any = None
    #: Media type of the body.
    media_type: str = "application/json"
    #: Struct of the query parameters; None: anything is accepted, and ignored but for `query_names`.
    query: Any = None
    #: Query parameters that the handler reads itself, as texts.
    query_names: tuple[str, ...] = ()
    #: Headers without which the request is refused, besides the token.
    headers: tuple[str, ...] = ()
    #: Type of the answer's JSON; bytes: no JSON; None: no body; Any: JSON that the table says nothing of.
    reply: Any = Any
    #: Status codes of success without a body, besides `success`.
    empties: tuple[int, ...] = ()
    #: Status codes of success with the same body, besides `success`.
    others: tuple[int, ...] = ()
    #: JSON pointer of the new thing's id in the answer: the variable that follows this row's path in other rows' paths.
    new_id: str | None = None
    since: Version | None = None
    until: Version | None = None
    #: The handler reads the body itself, as a stream.
    streams: bool = False
    #: Takes the header Idempotency-Key.
    once: bool = False
    #: Refused with 413 while the data directory is short of space, so that what frees something can still be recorded.
    needs_space: bool = False

    def serves(self, version: Version) -> bool:
        """Is this row in force at that microversion?"""
        return (self.since is None or version >= self.since) and (self.until is None or version <= self.until)


class ErrorStyle(enum.Enum):
    """How an API shapes its errors."""

    #: {"badRequest": {"code": 400, "message": "..."}}
    COMPUTE = "compute"
    #: {"error": {"code": 400, "message": "...", "title": "Bad Request"}}
    IDENTITY = "identity"


#: The path of the row that answers for the API's root ("/compute"), which lists its versions.
VERSIONS_PATH = "/@versions"
#: The path of the row that answers for the API's document ("/compute/openapi.json").
DOCUMENT_PATH = "/@document"


@dataclass(frozen=True, kw_only=True)
class Api:
    """One API: its place, its microversions and its table."""

    name: str
    #: "/compute/v2.1"
    prefix: str
    operations: Sequence[Operation]
    error_style: ErrorStyle
    #: None: no microversions.
    versions: tuple[Version, Version] | None = None
    #: Name in the OpenStack-API-Version header ("compute", "volume").
    version_service: str = ""
    #: An older header for the same thing.
    legacy_version_header: str | None = None
    #: Paths may begin with the project's id, which has to be the token's.
    project_in_path: bool = False
    #: Names of the headers that carry the request's id.
    request_id_headers: tuple[str, ...] = ("x-openstack-request-id",)

    @property
    def root(self) -> str:
        """Where discovery begins: "/compute" for "/compute/v2.1"."""
        return self.prefix.rpartition("/")[0]
