"""Requests for the rows of a table, so that a test can speak of all of them: paths, microversions, bodies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import httpx
import msgspec
from msgspec import inspect
from sqlalchemy import text

from kevel.api.operations import NOBODY, Api, Operation, Policy
from kevel.store.schema import metadata
from kevel.store.transactions import Tx

#: An id that nothing has.
NOTHING: Final = "00000000-0000-4000-8000-000000000000"
_VARIABLE: Final = re.compile(r"{(\w+)(?::\w+)?}")
#: Texts of which one fits the pattern of any body.
_TEXTS: Final = ("a", "aaaaaaaa", "1", NOTHING, "eth0", "/dev/vdz", "127.0.0.1", "2026-01-01T00:00:00Z", "b3M=")


def variables(row: Operation) -> set[str]:
    """The variables of the row's path."""
    return set(_VARIABLE.findall(row.path))


def rows_with(api: Api, names: Iterable[str]) -> list[Operation]:
    """The rows that have one of these variables in their paths."""
    return [row for row in api.operations if variables(row) & set(names)]


def fill_path(path: str, things: Mapping[str, str], other: str = "k") -> str:
    """A row's path about these things, and for what they leave open the other one."""
    return _VARIABLE.sub(lambda found: things.get(found[1], other), path)


class Asker:
    """Sends a row's request. The body is the smallest that the row takes, unless there is one under the row's name."""

    def __init__(
        self, api: Api, bodies: Mapping[str, Any], queries: Mapping[str, str] | None = None, *, prefix: str = ""
    ) -> None:
        self._api = api
        self._prefix = prefix
        self._bodies = bodies
        self._queries = queries or {}

    async def send(self, client: httpx.AsyncClient, row: Operation, things: Mapping[str, str]) -> httpx.Response:
        """One request for the row, about these things, at the newest microversion that has it."""
        path = self._prefix + fill_path(row.path, things)
        path += f"?{self._queries[row.name]}" if row.name in self._queries else ""
        headers = {"Content-Type": "application/octet-stream" if row.streams else row.media_type}
        if self._api.versions is not None:
            headers["OpenStack-API-Version"] = f"{self._api.version_service} {row.until or self._api.versions[1]}"
        body = self._bodies.get(row.name, make_body(row))
        content = b"bytes" if row.streams else b"" if body is None else msgspec.json.encode(body)
        return await client.request(row.method, path, content=content, headers=headers)

    async def find_unrefused(
        self,
        client: httpx.AsyncClient,
        rows: Iterable[Operation],
        things: Mapping[str, str],
        wanted: Callable[[Operation], int],
    ) -> list[str]:
        """The rows that answer with another status than the one wanted, and what they say."""
        wrong = []
        for row in rows:
            answer = await self.send(client, row, things)
            if answer.status_code != wanted(row):
                wrong.append(f"{row.name}: {answer.status_code} {answer.text}")
        return wrong


def rows_shut_to(api: Api, role: str) -> list[Operation]:
    """The rows that a caller who has that role only may not call."""
    caller = msgspec.structs.replace(NOBODY, roles=frozenset({role}))
    return [row for row in api.operations if not caller.may(row.policy)]


def needs_admin(row: Operation) -> bool:
    """Is a member refused, whatever the row is asked about?"""
    return row.policy in (Policy.ADMIN, Policy.SERVICE)


def make_body(row: Operation) -> Any:
    """The smallest body that the row takes; None where it takes none."""
    kind = row.body if row.body is not None else row.body_shape
    if kind is not None:
        return _make(inspect.type_info(kind))
    return None if row.action is None else {row.action: None}


def _make(kind: inspect.Type) -> Any:
    match kind:
        case inspect.Metadata(type=inner):
            return _make(inner)
        case inspect.StructType(fields=fields):
            return {field.encode_name: _make(field.type) for field in fields if field.required}
        case inspect.DictType(min_length=least):
            return {_make(kind.key_type): _make(kind.value_type)} if least else {}
        case inspect.ListType(min_length=least):
            return [_make(kind.item_type)] * (least or 0)
        case inspect.UnionType(types=types):
            return _make(types[0])
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.StrType(pattern=pattern, min_length=least):
            fitting = (one for one in _TEXTS if len(one) >= (least or 0) and re.search(pattern or "", one))
            return next(fitting)
        case inspect.IntType(ge=least):
            return 1 if least is None else least
        case inspect.BoolType():
            return True
        case inspect.AnyType():
            return "a"
        case inspect.NoneType():
            return None
    raise AssertionError(f"no value for {kind}")


def read_everything(tx: Tx) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, but for the count of commits."""
    names = metadata.tables.keys() - {"writers"}
    return {name: [tuple(row) for row in tx.execute(text(f"SELECT * FROM {name}"))] for name in names}  # noqa: S608
