"""Error bodies in the shapes that clients of Nova, Cinder and Keystone know."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from kevel.api.operations import ErrorStyle

#: Nova's and Cinder's names for error codes; any other code is a computeFault, in both.
_NAMES: Final = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}


def error_body(style: ErrorStyle, status: int, message: str) -> dict[str, Any]:
    """The JSON body of an error."""
    if style is ErrorStyle.IDENTITY:
        return {"error": {"code": status, "message": message, "title": HTTPStatus(status).phrase}}
    inner: dict[str, Any] = {"code": status, "message": message}
    if status in (413, 429):
        inner["retryAfter"] = "0"
    return {_NAMES.get(status, "computeFault"): inner}
