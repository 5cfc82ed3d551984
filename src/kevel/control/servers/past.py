"""What was: resizes, and what servers have used."""

from __future__ import annotations

import msgspec

from kevel.control.attachments.attachments import find_server
from kevel.control.runtime import Runtime
from kevel.domain.errors import Invalid
from kevel.domain.limits import Limits
from kevel.domain.model import Actor, Server
from kevel.store.resizes import Resize, iterate_resizes
from kevel.store.transactions import Tx
from kevel.store.usage import UsageQuery, list_running_between


class ResizeQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which resizes to list. None: not asked for."""

    server_id: str | None = None
    host: str | None = None
    status: str | None = None
    user_id: str | None = None
    project_id: str | None = None
    changed_since: int | None = None
    changed_before: int | None = None

    def takes(self, resize: Resize) -> bool:
        """Is it one of those?"""
        return all(
            wanted is None or wanted == found
            for wanted, found in (
                (self.server_id, resize.server_id),
                (self.host, resize.host),
                (self.status, resize.status),
                (self.user_id, resize.user_id),
                (self.project_id, resize.project_id),
            )
        ) and (self.changed_since or 0) <= resize.changed_at <= (
            resize.changed_at if self.changed_before is None else self.changed_before
        )


class Past:
    """What admins and bills ask of servers, those that are gone included."""

    def __init__(self, runtime: Runtime, limits: Limits) -> None:
        self._runtime = runtime
        self.page_rows_max = limits.page_rows_max

    @property
    def now(self) -> int:
        """Until when there is a past."""
        return self._runtime.clock.now_us()

    async def list_resizes(self, query: ResizeQuery, *, marker: int | None, rows_max: int) -> tuple[list[Resize], bool]:
        """A page of resizes, the newest first, and whether there are more. Raises Invalid for an unknown marker."""
        return await self._runtime.store.read(_list_resizes, query, marker, rows_max)

    async def find(self, actor: Actor, server_id: str) -> Server:
        """A server that is there."""
        return await self._runtime.store.read_point(find_server, server_id, actor)

    async def list_used(self, query: UsageQuery) -> list[Server]:
        """A page of the servers that were there in a span of time."""
        return await self._runtime.store.read(list_running_between, query)


def _list_resizes(tx: Tx, query: ResizeQuery, marker: int | None, rows_max: int) -> tuple[list[Resize], bool]:
    found: list[Resize] = []
    is_behind = marker is None
    for resize in iterate_resizes(tx, query.server_id):
        if not is_behind:
            is_behind = resize.id == marker
        elif query.takes(resize):
            if len(found) == rows_max:
                return found, True
            found.append(resize)
    if not is_behind:
        raise Invalid("The marker is no migration.")
    return found, False
