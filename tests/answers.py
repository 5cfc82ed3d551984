"""Hold every answer of an API against its table: the type of the reply, the status codes of success and of errors.

What each test was answered is noted as well: `tests/answered.py` says which rows of the tables have no test.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from kevel.api.dispatch import ApiApp
from kevel.api.openapi import error_codes
from kevel.api.operations import Api, Call, Caller, Handler, Operation, Reply, Version
from kevel.control.hosts.services import Services
from kevel.domain.errors import CallerError

#: By API, operation and status: the tests that were answered so.
_ANSWERED: dict[tuple[str, str, int], set[str]] = defaultdict(set)


class Undocumented(AssertionError):
    """An answer that the table does not know."""


def answered() -> Iterator[dict[str, Any]]:
    """What the tests were answered so far."""
    for (api, operation, status), tests in sorted(_ANSWERED.items()):
        yield {"api": api, "operation": operation, "status": status, "tests": sorted(tests)}


def note_answered(lines: Iterable[dict[str, Any]]) -> None:
    """Add what the tests of another process were answered."""
    for line in lines:
        _ANSWERED[line["api"], line["operation"], line["status"]].update(line["tests"])


class CheckedApp(ApiApp):
    """An API whose answers are held against its table, and noted."""

    def __init__(self, api: Api, services: Services) -> None:
        super().__init__(checked(api), services)

    async def _identify(self, request: Request, operation: Operation, request_id: str) -> Caller:
        request.state.operation = operation.name
        return await super()._identify(request, operation, request_id)

    async def _answer(self, request: Request, version: Version, request_id: str, headers: dict[str, str]) -> Response:
        response = await super()._answer(request, version, request_id, headers)
        operation = getattr(request.state, "operation", None)
        test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
        if operation is not None and test:
            _ANSWERED[self.api.name, operation, response.status_code].add(test)
        return response


def checked(api: Api) -> Api:
    """The same API, whose handlers fail when they answer what their row does not say."""
    rows = [dataclasses.replace(row, handler=_check_handler(api, row)) for row in api.operations]
    return dataclasses.replace(api, operations=rows)


def _check_handler(api: Api, row: Operation) -> Handler:
    async def carry(call: Call) -> Reply:
        try:
            reply = await row.handler(call)
        except CallerError as error:
            if error.status not in error_codes(api, row):
                raise Undocumented(f"{api.name} {row.name}: {error.status} {error.message}") from error
            raise
        _check_reply(api, row, reply)
        return reply

    return carry


def _check_reply(api: Api, row: Operation, reply: Reply) -> None:
    where = f"{api.name} {row.name}"
    if reply.status not in (None, row.success, *row.empties, *row.others):
        raise Undocumented(f"{where}: status {reply.status}")
    if reply.status in row.empties and reply.status != row.success:
        wanted: Any = None
    else:
        wanted = row.reply
    if wanted is bytes:
        if reply.stream is None:
            raise Undocumented(f"{where}: no bytes")
        return
    body = msgspec.json.decode(reply.body) if isinstance(reply.body, bytes) else msgspec.to_builtins(reply.body)
    if (body is None) is not (wanted is None):
        raise Undocumented(f"{where}: {body!r:.200} where the table says {wanted}")
    try:
        msgspec.convert(body, wanted, strict=True)
    except msgspec.ValidationError as error:
        raise Undocumented(f"{where}: {error}: {body!r:.800}") from error
