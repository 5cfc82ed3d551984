"""The ASGI application of the agents' listener. Bodies and answers are JSON, and carry secrets: none is logged."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kevel.api.agents.verbs import BODY_BYTES_MAX, OPEN_BYTES_MAX, VERBS, AgentServices, Verb
from kevel.domain.agents import PROTOCOL_HEADER, PROTOCOLS
from kevel.domain.errors import CallerError, Fenced, Invalid, NotFound, OverLimit

log = structlog.get_logger(__name__)

#: Where the listener puts the certificate (DER) that TLS has verified, or None.
PEER: Final = "peer_certificate"
#: The answer's code for an agent in whose place another one is.
FENCED: Final = "fenced"
#: For one that holds what this one would need.
REFUSED: Final = "refused"


class AgentsApp:
    """All verbs by their paths."""

    def __init__(self, services: AgentServices) -> None:
        self._services = services
        self._verbs = {verb.path: verb for verb in VERBS}
        self._decoders = {verb.path: msgspec.json.Decoder(verb.body) for verb in VERBS if verb.body is not None}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            answer = Response(msgspec.json.encode(await self._answer(request)), media_type="application/json")
        except Fenced as error:
            answer = _refuse(409, FENCED, error.message)
        except CallerError as error:
            answer = _refuse(error.status, REFUSED, error.message)
        except Exception:
            log.exception("an agent's request failed", path=request.url.path)
            answer = _refuse(500, "internal", "Kevel failed to answer; its log says why.")
        answer.headers["cache-control"] = "no-store"
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Any:
        verb = self._verbs.get(request.url.path)
        if verb is None or request.method != "POST":
            raise NotFound("Agents have no such verb.")
        peer: bytes | None = request.scope.get("state", {}).get(PEER)
        fleet = self._services.fleet
        host = "" if verb.is_open else await fleet.authenticate(peer)
        _check_protocol(request)
        body = await self._read(request, verb)
        try:
            answer = await verb.answer(self._services, host, body)
        except Fenced:
            await fleet.authenticate(peer)  # whose certificate was revoked meanwhile is told that
            raise
        if verb.checks_twice:
            await fleet.authenticate(peer)
        return answer

    async def _read(self, request: Request, verb: Verb) -> Any:
        size_max = OPEN_BYTES_MAX if verb.is_open else BODY_BYTES_MAX
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > size_max:
                raise OverLimit(f"The body is too large; the most is {size_max} bytes.")
        if verb.body is None:
            return None
        try:
            return self._decoders[verb.path].decode(body)
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            # A decoder's message names a place and types, and no value.
            told = str(error)[:200] if isinstance(error, msgspec.ValidationError) else "it is no JSON"
            raise Invalid(f"The body is wrong: {told}.") from None


def _check_protocol(request: Request) -> None:
    spoken = request.headers.get(PROTOCOL_HEADER, "")
    if spoken not in map(str, PROTOCOLS):
        known = ", ".join(map(str, PROTOCOLS))
        raise Invalid(f"The agent speaks version {spoken[:16]!r} of the protocol; this Kevel speaks {known}.")


def _refuse(status: int, code: str, message: str) -> Response:
    body = msgspec.json.encode({"error": {"code": code, "message": message}})
    return Response(body, status, media_type="application/json")
