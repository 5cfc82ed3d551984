"""The header Idempotency-Key: a request that is made again under its key gets the first one's answer.

Rows of the table that have `once` take it. On any other POST it is refused, since it would promise what does not hold;
what is no POST can be repeated anyhow.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kevel.api.operations import Caller, Operation, Reply, Version
from kevel.domain.errors import Invalid, Repeated, Unavailable
from kevel.store.repeats import KEPT_S, Repeat, find_answer

if TYPE_CHECKING:
    from starlette.requests import Request

    from kevel.api.operations import Call
    from kevel.control.runtime import Runtime

HEADER: Final = "Idempotency-Key"
#: Tells that the answer is the one of an earlier request.
REPLAYED: Final = "Idempotency-Replayed"
KEY_CHARACTERS_MAX: Final = 255


def read_repeat(
    request: Request, operation: Operation, caller: Caller, version: Version, path: str, body: Any, at: int
) -> Repeat | None:
    """The request's key and what it stands for; None: it has none. Raises Invalid."""
    key = request.headers.get(HEADER)
    if key is None or operation.method != "POST":
        return None
    if not operation.once:
        raise Invalid(f"Invalid header {HEADER}: {operation.name} does not take it; leave it out.")
    if not 0 < len(key) <= KEY_CHARACTERS_MAX or not (key.isascii() and key.isprintable()):
        raise Invalid(f"Invalid header {HEADER}: a key has 1 to {KEY_CHARACTERS_MAX} printable ASCII characters.")
    asked = (operation.method, path, request.url.query, str(version), caller.user_id, body)
    digest = hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()
    return Repeat(project_id=caller.project, key=key, fingerprint=digest, at=at)


async def carry_once(runtime: Runtime, operation: Operation, call: Call) -> Reply:
    """Carry out the request, or answer as it was answered before. Raises KeyReused for a key of another request."""
    repeat = call.repeat
    assert repeat is not None, "only requests with a key come here"
    kept = await runtime.store.read(find_answer, repeat)
    if kept is None:
        try:
            return await operation.handler(call)
        except Repeated:
            # Another request under this key was carried out between the look and the transaction.
            kept = await runtime.store.read(find_answer, repeat)
    if kept is None:
        raise Unavailable(f"Another request with this {HEADER} is under way; repeat this one later.")
    body = None if kept.body is None else kept.body.encode()
    return Reply(body=body, headers={**kept.headers, REPLAYED: "true"})


def describe_header() -> dict[str, Any]:
    """The header as the OpenAPI document shows it."""
    return {
        "name": HEADER,
        "in": "header",
        "required": False,
        "description": f"Made again under its key within {KEPT_S // 3600} hours, a request gets the first answer.",
        "schema": {"type": "string", "minLength": 1, "maxLength": KEY_CHARACTERS_MAX},
    }
