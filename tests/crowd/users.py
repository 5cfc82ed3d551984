"""One user of a crowd: picks a volume that everybody uses, and asks for something at random."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any, Final, NamedTuple

import httpx

SIZE_GIB_MAX: Final = 8
#: What a user waits between two requests.
PAUSE_S: Final = 0.2
VOLUMES: Final = "/volume/v3/volumes"


class Refusal(NamedTuple):
    """A request that was not carried out."""

    what: str
    volume_id: str
    server_id: str
    status: int
    message: str
    #: Microseconds since the epoch, around the request.
    asked_at: int
    answered_at: int


class Shared:
    """What all users work on: they add to it and take from it, each behind the other's back."""

    def __init__(self, servers: list[str]) -> None:
        self.servers = servers
        self.volumes: list[str] = []
        self.snapshots: list[str] = []
        self.answers: Counter[str] = Counter()
        self.refusals: list[Refusal] = []
        self.broken: list[str] = []


class User:
    """Asks until the time is over."""

    def __init__(self, http: httpx.AsyncClient, shared: Shared, dice: random.Random, volumes_max: int) -> None:
        self._http = http
        self._shared = shared
        self._dice = dice
        self._volumes_max = volumes_max

    async def run(self, ends_at: float) -> None:
        """Ask, pause, ask again."""
        requests = (
            (self.create, 2),
            (self.attach, 6),
            (self.detach, 6),
            (self.extend, 2),
            (self.delete, 2),
            (self.snapshot, 2),
            (self.delete_snapshot, 2),
            (self.look, 4),
        )
        chosen, weights = [one for one, _ in requests], [weight for _, weight in requests]
        while time.monotonic() < ends_at:
            (ask,) = self._dice.choices(chosen, weights)
            await ask()
            await asyncio.sleep(self._dice.uniform(0, 2 * PAUSE_S))

    async def create(self) -> None:
        """A new volume, as long as there are not too many."""
        if len(self._shared.volumes) >= self._volumes_max:
            return
        answer = await self._ask("create", "POST", VOLUMES, {"volume": {"size": 1}})
        if answer is not None:
            self._shared.volumes.append(answer["volume"]["id"])

    async def attach(self) -> None:
        """Some volume to some server."""
        if volume_id := self._pick(self._shared.volumes):
            server_id = self._dice.choice(self._shared.servers)
            path = f"/compute/v2.1/servers/{server_id}/os-volume_attachments"
            await self._ask("attach", "POST", path, {"volumeAttachment": {"volumeId": volume_id}}, volume_id, server_id)

    async def detach(self) -> None:
        """Some volume from the server that has it."""
        if not (volume_id := self._pick(self._shared.volumes)):
            return
        shown = await self._ask("show", "GET", f"{VOLUMES}/{volume_id}", None, volume_id)
        for one in shown["volume"]["attachments"] if shown is not None else ():
            path = f"/compute/v2.1/servers/{one['server_id']}/os-volume_attachments/{volume_id}"
            await self._ask("detach", "DELETE", path, None, volume_id, one["server_id"])

    async def extend(self) -> None:
        """By a GiB more than it is shown to have."""
        if not (volume_id := self._pick(self._shared.volumes)):
            return
        shown = await self._ask("show", "GET", f"{VOLUMES}/{volume_id}", None, volume_id)
        if shown is not None and shown["volume"]["size"] < SIZE_GIB_MAX:
            body = {"os-extend": {"new_size": shown["volume"]["size"] + 1}}
            await self._ask("extend", "POST", f"{VOLUMES}/{volume_id}/action", body, volume_id)

    async def delete(self) -> None:
        """Some volume, if nobody has it."""
        if volume_id := self._pick(self._shared.volumes):
            answer = await self._ask("delete", "DELETE", f"{VOLUMES}/{volume_id}", None, volume_id)
            if answer is not None and volume_id in self._shared.volumes:
                self._shared.volumes.remove(volume_id)

    async def snapshot(self) -> None:
        """Of some volume, in use or not."""
        if volume_id := self._pick(self._shared.volumes):
            body = {"snapshot": {"volume_id": volume_id}}
            answer = await self._ask("snapshot", "POST", "/volume/v3/snapshots", body, volume_id)
            if answer is not None:
                self._shared.snapshots.append(answer["snapshot"]["id"])

    async def delete_snapshot(self) -> None:
        """Some snapshot."""
        if snapshot_id := self._pick(self._shared.snapshots):
            answer = await self._ask("delete snapshot", "DELETE", f"/volume/v3/snapshots/{snapshot_id}", None)
            if answer is not None and snapshot_id in self._shared.snapshots:
                self._shared.snapshots.remove(snapshot_id)

    async def look(self) -> None:
        """A page of the list."""
        await self._ask("list", "GET", f"{VOLUMES}/detail?limit=20", None)

    def _pick(self, ids: list[str]) -> str:
        return self._dice.choice(ids) if ids else ""

    async def _ask(
        self, what: str, method: str, path: str, body: Any, volume_id: str = "", server_id: str = ""
    ) -> dict[str, Any] | None:
        """The answer's JSON ({} for none); None when it was refused."""
        asked_at = time.time_ns() // 1000
        try:
            answer = await self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            self._shared.answers[f"{what} unanswered"] += 1
            self._shared.broken.append(f"{method} {path}: no answer, {error!r}")
            return None
        answered_at = time.time_ns() // 1000
        self._shared.answers[f"{what} {answer.status_code}"] += 1
        if answer.status_code >= 500:
            self._shared.broken.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            return None
        if answer.is_error:
            refusal = Refusal(what, volume_id, server_id, answer.status_code, answer.text[:300], asked_at, answered_at)
            self._shared.refusals.append(refusal)
            return None
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found
