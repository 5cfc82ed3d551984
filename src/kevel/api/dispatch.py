"""One request through the table: version, row, token, policy, query, body, handler, answer."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog
from starlette.datastructures import URL
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from kevel.api.errors import error_body
from kevel.api.openapi import document_row
from kevel.api.operations import (
    DOCUMENT_PATH,
    NOBODY,
    VERSIONS_PATH,
    Api,
    Call,
    Caller,
    ErrorStyle,
    Operation,
    Policy,
    Reply,
    Version,
)
from kevel.api.repeats import carry_once, read_repeat
from kevel.api.versions import read_version
from kevel.control.hosts.services import Services
from kevel.domain.errors import (
    CallerError,
    Forbidden,
    Invalid,
    NotFound,
    OverLimit,
    Unauthenticated,
    Unsupported,
)
from kevel.runtime import failpoints

log = structlog.get_logger(__name__)

#: Largest JSON body.
BODY_BYTES_MAX: Final = 1024 * 1024
#: Names by which clients reach us, remembered.
ORIGINS_MAX: Final = 64
#: Of what is wrong with a body: it repeats keys that the client made up.
REASON_CHARACTERS_MAX: Final = 400
#: The role that a token in X-Service-Token has to have.
SERVICE_ROLE: Final = "service"
_PROJECT: Final = re.compile(r"/([0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(/.*)")


class NotAllowed(CallerError):
    """The method is not allowed for this resource."""

    status = 405


class ApiApp:
    """An ASGI application for one API."""

    def __init__(self, api: Api, services: Services) -> None:
        self.api = api
        self._services = services
        #: Actions at any microversion, by path.
        self._actions = {(row.path, row.action) for row in api.operations if row.action is not None}
        by_path: dict[str, list[Operation]] = defaultdict(list)
        for operation in (*api.operations, document_row(api)):
            by_path[operation.path].append(operation)
        # Fixed paths first: "/volumes/detail" must not be taken for "/volumes/{volume_id}".
        ordered = sorted(by_path, key=lambda path: [part.startswith("{") for part in path.split("/")])
        self._routes: dict[tuple[int, str], list[tuple[Route, list[Operation]]]] = defaultdict(list)
        for path in ordered:
            self._routes[_shape(path)].append((Route(path, _no_endpoint), by_path[path]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request_id = f"req-{self._services.runtime.ids.uuid()}"
        headers = dict.fromkeys(self.api.request_id_headers, request_id)
        try:
            version = self._choose_version(request)
        except CallerError as error:
            response = self._error(error.status, error.message, None, headers)
        else:
            headers.update(self._version_headers(version))
            response = await self._answer(request, version, request_id, headers)
        if request.method not in ("GET", "HEAD"):
            failpoints.begin("answer")
        await response(scope, receive, send)

    async def _answer(self, request: Request, version: Version, request_id: str, headers: dict[str, str]) -> Response:
        try:
            reply, success = await self._carry(request, version, request_id)
        except CallerError as error:
            return self._error(error.status, error.message, request, headers)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception:
            log.exception("request failed", api=self.api.name, path=request.url.path, request_id=request_id)
            message = f"Kevel met an error of its own; its log has the cause under {request_id}."
            return self._error(500, message, request, headers)
        headers.update(reply.headers)
        status = reply.status or success
        if reply.stream is not None:
            return StreamingResponse(reply.stream, status, headers, reply.media_type)
        if reply.body is None:
            return Response(None, status, headers)
        body = reply.body if isinstance(reply.body, bytes) else msgspec.json.encode(reply.body)
        return Response(body, status, headers, reply.media_type)

    async def _carry(self, request: Request, version: Version, request_id: str) -> tuple[Reply, int]:
        path, project_id = self._split_project(request.scope["path"])
        rows, variables = self._find_rows(request.method, path, version)
        body = None if rows[0].streams else await self._read_body(request)
        operation = self._choose_row(rows, body)
        caller = await self._identify(request, operation, request_id)
        if project_id is not None and project_id != caller.project_id and not caller.is_admin:
            raise Invalid(
                f"Malformed request URL: the URL's project {project_id} is not the token's project {caller.project_id}."
            )
        at = self._services.runtime.clock.now_us()
        repeat = read_repeat(request, operation, caller, version, path, body, at)
        if operation.needs_space and not self._services.runtime.has_space():
            raise OverLimit("Kevel's data directory is short of disk space; free some and try again.")
        call = Call(
            services=self._services,
            caller=caller,
            version=version,
            path=variables,
            query=_convert_query(operation, request),
            query_items=request.query_params.multi_items(),
            body=_convert_body(operation, body),
            base_url=f"{_origin(request)}{self.api.prefix}",
            request=request,
            repeat=repeat,
        )
        if repeat is not None:
            return await carry_once(self._services.runtime, operation, call), operation.success
        return await operation.handler(call), operation.success

    def _split_project(self, path: str) -> tuple[str, str | None]:
        if path.rstrip("/") in (self.api.root, f"{self.api.root}/versions"):
            return VERSIONS_PATH, None
        if path == f"{self.api.root}/openapi.json":
            return DOCUMENT_PATH, None
        path = path.removeprefix(self.api.prefix) or "/"
        if self.api.project_in_path and (match := _PROJECT.fullmatch(path)):
            return match[2], match[1]
        return path, None

    def _find_rows(self, method: str, path: str, version: Version) -> tuple[list[Operation], Mapping[str, str]]:
        if path.endswith("/") and len(path) > 1:
            if self.api.error_style is ErrorStyle.COMPUTE:
                raise NotFound  # "/volumes/" names a volume without an id, in Nova and Cinder
            path = path.rstrip("/") or "/"
        known = False
        for route, operations in self._routes.get(_shape(path), ()):
            match, child = route.matches({"type": "http", "method": "GET", "path": path, "root_path": ""})
            if match is Match.NONE:
                continue
            known = True
            wanted = "GET" if method == "HEAD" and not any(row.method == "HEAD" for row in operations) else method
            rows = [row for row in operations if row.method == wanted and row.serves(version)]
            if rows:
                return rows, child["path_params"]
            if any(row.method == wanted for row in operations):
                raise NotFound("The resource could not be found at this microversion.")
        if known:
            raise NotAllowed
        raise NotFound

    async def _identify(self, request: Request, operation: Operation, request_id: str) -> Caller:
        if operation.policy is Policy.PUBLIC:
            return NOBODY
        secret = request.headers.get("x-auth-token")
        if not secret:
            raise Unauthenticated
        token = await self._services.identity.find_token(secret)
        caller = Caller(
            user_id=token.user_id,
            user_name=token.user_name,
            user_domain_id=token.user_domain_id,
            project_id=token.project_id,
            roles=frozenset(token.roles),
            request_id=request_id,
            service_user_id=await self._identify_service(request),
        )
        if not caller.may(operation.policy):
            raise Forbidden(f"Policy does not allow {operation.name} to be performed with the roles of this token.")
        return caller

    async def _identify_service(self, request: Request) -> str | None:
        """Which service calls for the user; a token that is not a service's is refused, as Cinder can be told to."""
        secret = request.headers.get("x-service-token")
        if secret is None:
            return None
        token = await self._services.identity.find_token(secret)
        if SERVICE_ROLE not in token.roles:
            raise Unauthenticated("The token in X-Service-Token is not one of a service.")
        return token.user_id

    async def _read_body(self, request: Request) -> Any:
        """The JSON body, or None if there is none. Raises OverLimit, Unsupported or Invalid."""
        chunks: list[bytes] = []
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > BODY_BYTES_MAX:
                raise OverLimit(f"The request body is too large; the most is {BODY_BYTES_MAX} bytes.")
            chunks.append(chunk)
        raw = b"".join(chunks)
        if not raw or request.method in ("GET", "HEAD"):
            return None
        media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if media_type != "application/json" and not _is_patch(media_type):
            raise Unsupported(f"The content type {media_type[:64]!r} is not supported; use application/json.")
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid(f"The request body is not valid JSON: {error}.") from error

    def _choose_version(self, request: Request) -> Version:
        if self.api.versions is None:
            return Version(0, 0)
        wanted = _wanted_version(request, self.api)
        return self.api.versions[0] if wanted is None else read_version(self.api, wanted)

    def _choose_row(self, rows: Sequence[Operation], body: Any) -> Operation:
        if rows[0].action is None:
            return rows[0]
        if not isinstance(body, dict) or len(body) != 1:
            raise Invalid("The request body of an action has to be an object with one key, the action's name.")
        (name,) = body
        for row in rows:
            if row.action == name:
                return row
        if (rows[0].path, name) in self._actions:
            raise NotFound(f"The action {name} is not there at this microversion.")
        raise Invalid(f"There is no such action: {name[:64]}.")

    def _version_headers(self, version: Version | None) -> dict[str, str]:
        if self.api.versions is None:
            return {}
        shown = version or self.api.versions[0]
        headers = {"OpenStack-API-Version": f"{self.api.version_service} {shown}", "Vary": "OpenStack-API-Version"}
        if self.api.legacy_version_header is not None:
            headers[self.api.legacy_version_header] = str(shown)
            headers["Vary"] += f", {self.api.legacy_version_header}"
        return headers

    def _error(self, status: int, message: str, request: Request | None, headers: Mapping[str, str]) -> Response:
        headers = {**self._version_headers(None), **headers}
        if status == 401 and request is not None:
            headers["WWW-Authenticate"] = f'Keystone uri="{_origin(request)}/identity"'
        if status in (413, 429):
            headers["Retry-After"] = "0"
        body = msgspec.json.encode(error_body(self.api.error_style, status, message))
        return Response(body, status, headers, "application/json")


def _shape(path: str) -> tuple[int, str]:
    """What a path and every route that it can match have in common: how many parts, and the first of them."""
    return path.count("/"), path[1:].partition("/")[0]


def _origin(request: Request) -> str:
    scope = request.scope
    return _build_origin(scope.get("scheme", "http"), request.headers.get("host"), tuple(scope.get("server") or ()))


@functools.lru_cache(maxsize=ORIGINS_MAX)
def _build_origin(scheme: str, host: str | None, server: tuple[str, int] | tuple[()]) -> str:
    """Where a client has reached us; a client's name for it is taken if it is a name at all."""
    headers = [] if host is None else [(b"host", host.encode("latin-1"))]
    url = URL(scope={"scheme": scheme, "server": server or None, "path": "/", "query_string": b"", "headers": headers})
    return f"{url.scheme}://{url.netloc}"


def _is_patch(media_type: str) -> bool:
    return media_type.startswith("application/openstack-images-v2.1-json-patch")


def _wanted_version(request: Request, api: Api) -> str | None:
    header = request.headers.get("openstack-api-version")
    if header is not None:
        for item in header.split(","):
            words = item.split()
            if len(words) == 2 and words[0].lower() == api.version_service:
                return words[1]
    if api.legacy_version_header is not None:
        legacy = request.headers.get(api.legacy_version_header)
        return legacy.strip() if legacy is not None else None
    return None


def _convert_query(operation: Operation, request: Request) -> Any:
    if operation.query is None:
        return None
    try:
        return msgspec.convert(dict(request.query_params), operation.query, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"Invalid query parameters: {_plain(error)}.") from error


def _convert_body(operation: Operation, body: Any) -> Any:
    if operation.body is None:
        return body
    if body is None:
        raise Invalid("The request needs a JSON body.")
    try:
        return msgspec.convert(body, operation.body, strict=True)
    except msgspec.ValidationError as error:
        raise Invalid(f"Invalid input for {_plain(error)}.") from error


def _plain(error: msgspec.ValidationError) -> str:
    """msgspec says 'Expected `int`, got `str` - at `$.volume.size`': put the place first, as Nova does."""
    text, _, place = str(error).partition(" - at `")
    place = place.rstrip("`").removeprefix("$").removeprefix(".") or "the request"
    return f"{place}: {text[:REASON_CHARACTERS_MAX]}".replace("`", "'")


async def _no_endpoint(request: Request) -> Response:
    raise AssertionError("routes are used for matching only")
