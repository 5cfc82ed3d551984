"""All APIs on one port."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from kevel.api.compute import API as COMPUTE
from kevel.api.dispatch import ApiApp
from kevel.api.errors import error_body
from kevel.api.identity import API as IDENTITY
from kevel.api.image import API as IMAGE
from kevel.api.kevel import API as KEVEL
from kevel.api.operations import Api, ErrorStyle
from kevel.api.volume import API as VOLUME
from kevel.control.hosts.services import Services

APIS: tuple[Api, ...] = (IDENTITY, COMPUTE, VOLUME, IMAGE, KEVEL)


class KevelApp:
    """The ASGI application: the first part of the path chooses the API."""

    def __init__(self, services: Services, apis: Sequence[Api] = APIS) -> None:
        self._apps: dict[str, ASGIApp] = {api.root: ApiApp(api, services) for api in apis}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        second = path.find("/", 1)
        app = self._apps.get(path if second < 0 else path[:second])
        if app is None:
            app = _index(path, list(self._apps))
        await app(scope, receive, send)


def _index(path: str, roots: Sequence[str]) -> Response:
    """What is served here, at "/"; 404 anywhere else."""
    if path == "/":
        return Response(msgspec.json.encode({"apis": roots}), 200, media_type="application/json")
    message = f"There is no API at this path; there is one under each of {', '.join(roots)}."
    return Response(
        msgspec.json.encode(error_body(ErrorStyle.COMPUTE, 404, message)), 404, media_type="application/json"
    )
