"""S6 where agents are heard: a report about an older revision, or of an earlier epoch, moves nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple

from kevel.domain.assignments import PathReport, ServerReport
from kevel.store.transactions import Tx

_EPOCH = "SELECT epoch FROM hosts WHERE name = ?"
_REVISIONS = {
    "server": "SELECT revision FROM servers WHERE id = ?",
    "path": "SELECT revision FROM paths WHERE id = ?",
}


class Outdated(NamedTuple):
    """A row that the report may not move."""

    kind: str
    id: str
    revision: int


def hold_to_revisions(apply: Callable[..., Any], broken: Callable[[str], None]) -> Callable[..., Any]:
    """The same transaction; `broken` hears when something outdated has moved a row."""

    @wraps(apply)
    def held(
        tx: Tx, host: str, epoch: int, servers: Sequence[ServerReport], paths: Sequence[PathReport], at: int
    ) -> Any:
        fenced = _find(tx, _EPOCH, host) != epoch
        told = [("server", one.server_id, one.revision) for one in servers]
        told += [("path", one.path_id, one.revision) for one in paths]
        rows = [(Outdated(kind, name, _find(tx, _REVISIONS[kind], name)), revision) for kind, name, revision in told]
        result = apply(tx, host, epoch, servers, paths, at)
        for row, revision in rows:
            outdated = fenced or row.revision != revision
            if outdated and _find(tx, _REVISIONS[row.kind], row.id) != row.revision:
                broken(f"S6: an outdated report (revision {revision}, epoch {epoch}) moved {row.kind} {row.id}")
        return result

    return held


def _find(tx: Tx, sql: str, key: str) -> int:
    found = tx.conn.connection.driver_connection.execute(sql, (key,)).fetchone()  # type: ignore[union-attr]
    return -1 if found is None else int(found[0])
