"""Attachments that explain themselves: the account, the journal as it grows, and "look again now"."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from kevel.control.runtime import Runtime
from kevel.domain.errors import NotFound
from kevel.domain.ladder import Hands, Rung
from kevel.domain.limits import Limits
from kevel.domain.model import Actor
from kevel.runtime.reconciler import BACKOFF_MAX_S
from kevel.storage.base import Backend
from kevel.store.accounts import Account, AccountFilter, ask_look, find_attachment, list_accounts, load_account
from kevel.store.attachments import all_of_server
from kevel.store.journal import Line, lines_of
from kevel.store.servers import load_server
from kevel.store.transactions import Tx, Wake

#: The longest wait for a journal's next line.
WAIT_S_MAX: Final = 30.0
#: Requests that wait for lines; beyond them, one is answered at once with what there is.
WAITERS_MAX: Final = 1000
#: An agent looks again within this time at what is not where it should be: its longest backoff, jitter included.
HOST_LOOK_S_MAX: Final = BACKOFF_MAX_S * 1.25


class NextLook(msgspec.Struct, frozen=True, kw_only=True):
    """When an unfinished attachment is looked at next, if nothing happens before."""

    #: The exact moment, where it is known here; microseconds.
    at: int | None = None
    #: The longest that it can take.
    within_s: float | None = None


class Explaining:
    """The use cases. `next_look_s` asks the control plane's reconciler about a path."""

    def __init__(
        self,
        runtime: Runtime,
        backends: Mapping[str, Backend],
        limits: Limits,
        next_look_s: Callable[[str], float | None],
    ) -> None:
        self._runtime = runtime
        self._limits = limits
        self._next_look_s = next_look_s
        self._effect_free: dict[str, Container[Rung]] = {
            name: backend.effect_free for name, backend in backends.items()
        }
        #: Those who wait for an attachment's next line.
        self._waiters: dict[str, set[asyncio.Event]] = {}
        runtime.store.subscribe(self._hear)

    def _hear(self, wakes: Sequence[Wake]) -> None:
        if not self._waiters:
            return
        for wake in wakes:
            if wake.kind == "attachment":
                for waiter in self._waiters.get(wake.key, ()):
                    waiter.set()

    async def account(self, actor: Actor, attachment_id: str) -> Account:
        """All that is known of an attachment, open or closed; NotFound."""
        now = self._runtime.clock.now_us()
        return await self._runtime.store.read(_account, attachment_id, actor, self._effect_free, now)

    async def accounts(self, wanted: AccountFilter) -> tuple[list[Account], bool]:
        """One page of attachments, newest first, and whether more follow; the caller has set the project."""
        now = self._runtime.clock.now_us()
        return await self._runtime.store.read(list_accounts, wanted, self._effect_free, now)

    async def accounts_of_server(self, actor: Actor, server_id: str) -> list[Account]:
        """Every attachment that the server has had, oldest first; a server that is gone keeps its history."""
        now = self._runtime.clock.now_us()
        return await self._runtime.store.read(_of_server, server_id, actor, self._effect_free, now)

    async def journal(
        self, actor: Actor, attachment_id: str, *, since: int, limit: int, wait_s: float = 0.0
    ) -> list[Line]:
        """The attachment's lines after that one; when there is none, those that come within `wait_s`."""
        store = self._runtime.store
        waiter = asyncio.Event()
        waiters = self._waiters.setdefault(attachment_id, set())
        waiters.add(waiter)
        try:
            lines = await store.read(_lines, attachment_id, actor, since, limit)
            crowded = sum(map(len, self._waiters.values())) > WAITERS_MAX
            if lines or wait_s <= 0 or crowded:
                return lines
            with suppress(TimeoutError):
                await asyncio.wait_for(waiter.wait(), min(wait_s, WAIT_S_MAX))
            return await store.read(_lines, attachment_id, actor, since, limit)
        finally:
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(attachment_id, None)

    async def retry(self, actor: Actor, attachment_id: str) -> None:
        """Look again now, on the control plane and on the host; NotFound, or Conflict when it is closed."""
        await self._runtime.store.write(ask_look, attachment_id, actor, self._runtime.clock.now_us())

    def next_look(self, account: Account) -> NextLook:
        """When it is tried next: exact where the control plane holds it, else the most that it takes."""
        if account.explanation.waits_for in ("nobody", "client") or not account.paths:
            return NextLook()
        path = account.paths[0].path
        if path.hands is Hands.HOST:
            return NextLook(within_s=HOST_LOOK_S_MAX)
        after_s = self._next_look_s(path.id)
        if after_s is None:
            return NextLook(within_s=self._limits.sweep_every_s)
        return NextLook(at=self._runtime.clock.now_us() + int(after_s * 1e6), within_s=after_s)


def _account(tx: Tx, attachment_id: str, actor: Actor, effect_free: Mapping[str, Container[Rung]], now: int) -> Account:
    return load_account(tx, find_attachment(tx, attachment_id, actor), effect_free, now)


def _of_server(
    tx: Tx, server_id: str, actor: Actor, effect_free: Mapping[str, Container[Rung]], now: int
) -> list[Account]:
    server = load_server(tx, server_id)
    if server is None or not (actor.is_admin or server.project_id == actor.project_id):
        raise NotFound(f"Instance {server_id[:64]} could not be found.")
    return [load_account(tx, one, effect_free, now) for one in all_of_server(tx, server_id)]


def _lines(tx: Tx, attachment_id: str, actor: Actor, since: int, limit: int) -> list[Line]:
    return lines_of(tx, find_attachment(tx, attachment_id, actor).id, since, limit)
