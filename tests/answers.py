"""Hold every answer of an API against its table: the type of the reply, the status codes of success and of errors."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from kevel.api.openapi import error_codes
from kevel.api.operations import Api, Call, Handler, Operation, Reply
from kevel.domain.errors import CallerError


class Undocumented(AssertionError):
    """An answer that the table does not know."""


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
    if reply.status not in (None, row.success, *row.empties):
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
