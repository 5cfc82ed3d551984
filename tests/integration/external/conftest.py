"""The block storage API and the control plane's workers over a back end whose exports have effects, and can fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from kevel.api.volume import API
from kevel.cli.engine import Workers
from kevel.control.messages import Messages
from kevel.control.pools.pools import Pools
from kevel.control.runtime import Runtime
from kevel.control.secrets import Sealer
from kevel.control.volumes.volumes import Volumes
from kevel.domain.limits import Limits
from kevel.domain.model import GIB
from kevel.storage.base import ConnectionInfo, Export, VolumeFile
from kevel.storage.sim import SimBackend
from kevel.store.attachments import open_of_volume
from kevel.store.transactions import Tx
from kevel.store.volumes import insert_volume
from tests.integration.stand import PROJECTS, make_app, make_client, open_runtime
from tests.integration.store.rows import insert_ground
from tests.things import make_volume

SECRET = "chap-secret-of-the-export"
VOLUME = "00000000-0000-4000-8000-00000000000a"
LIMITS = Limits(export_wait_s=2.0, sweep_every_s=0.2, compare_every_s=0.2)
UNTIL_S = 15.0


class Storage(SimBackend):
    """A pool whose next answers a test decides; it remembers the calls, and each export has a secret."""

    def __init__(self) -> None:
        super().__init__("sim", total_bytes=1 << 40)
        #: What the next calls raise.
        self.errors: list[Exception] = []
        self.calls: list[str] = []
        #: While it is not set, calls wait.
        self.answers = asyncio.Event()
        self.answers.set()

    async def _take(self, call: str, export: Export) -> None:
        self.calls.append(f"{call} {export.host}")
        await self.answers.wait()
        if self.errors:
            raise self.errors.pop(0)

    def describe_export(self, export: Export) -> ConnectionInfo:
        info = super().describe_export(export)
        info["data"]["auth_password"] = SECRET
        return info

    async def export_volume(self, export: Export) -> ConnectionInfo:
        await self._take("export", export)
        return await super().export_volume(export)

    async def revoke_export(self, export: Export) -> None:
        await self._take("revoke", export)
        await super().revoke_export(export)


class World:
    """One volume, and a control plane that can be killed and started again."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.storage = Storage()
        for volume_id in (VOLUME, "volume"):
            self.storage.volumes[volume_id] = VolumeFile(volume_id=volume_id, size_bytes=GIB, format="raw")
        self.clients: dict[str, httpx.AsyncClient] = {}
        self.workers: Workers
        self._requests: list[asyncio.Task[httpx.Response]] = []

    def start(self) -> None:
        """Start the control plane, with the API before it."""
        backends, sealer = {"sim": self.storage}, Sealer(bytes(64))
        self.workers = Workers(self.runtime, backends, sealer, LIMITS)
        pools = Pools(self.runtime, backends, LIMITS, host="here", availability_zone="nova")
        volumes = Volumes(self.runtime, pools, LIMITS)
        self.app = make_app(
            API,
            self.runtime,
            pools=pools,
            volumes=volumes,
            attachments=self.workers.attachments,
            external=self.workers.external,
            old_flow=self.workers.old_flow,
            messages=Messages(self.runtime),
        )
        self.clients = {name: make_client(self.app, name) for name in PROJECTS}
        self.workers.start()

    async def kill(self) -> None:
        """End the control plane where it stands; requests under way get no answer."""
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        await self.workers.close()
        for client in self.clients.values():
            await client.aclose()

    async def call(
        self, method: str, path: str, body: object = None, *, caller: str = "member", version: str = "3.71"
    ) -> httpx.Response:
        headers = {"OpenStack-API-Version": f"volume {version}"}
        return await self.clients[caller].request(method, path, json=body, headers=headers)

    def begin(self, method: str, path: str, body: object = None, **more: str) -> asyncio.Task[httpx.Response]:
        """A request whose answer is waited for later."""
        self._requests.append(asyncio.create_task(self.call(method, path, body, **more)))
        return self._requests[-1]

    async def declare(self, **fields: Any) -> httpx.Response:
        """POST an attachment of the volume."""
        return await self.call("POST", "/attachments", {"attachment": {"volume_uuid": VOLUME, **fields}})

    async def act(self, name: str, value: object, caller: str = "member") -> httpx.Response:
        return await self.call("POST", f"/volumes/{VOLUME}/action", {name: value}, caller=caller)

    async def attachments(self) -> list[Any]:
        """The open attachments."""
        return await self.runtime.store.read(open_of_volume, VOLUME)

    async def status(self) -> str:
        answer = await self.call("GET", f"/volumes/{VOLUME}")
        return str(answer.json()["volume"]["status"])

    async def until_status(self, status: str) -> None:
        async with asyncio.timeout(UNTIL_S):
            while await self.status() != status:
                await asyncio.sleep(0.02)

    async def until_called(self, number: int) -> None:
        """Wait until the storage has been called so often."""
        async with asyncio.timeout(UNTIL_S):
            while len(self.storage.calls) < number:
                await asyncio.sleep(0.01)


def _insert(tx: Tx) -> None:
    insert_ground(tx)
    insert_volume(tx, make_volume(id=VOLUME, project_id=PROJECTS["member"]))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(open_runtime(tmp_path))
        await runtime.store.write(_insert)
        made = World(runtime)
        made.start()
        stack.push_async_callback(made.kill)
        yield made
