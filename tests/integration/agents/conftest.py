"""A control plane that listens to agents on a real loopback socket with TLS, and agents of simulated hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from kevel.api.kevel import API
from kevel.cli.agent import join_once, running_agent
from kevel.cli.agents_listener import listening_to_agents
from kevel.cli.config import AgentConfig, Config
from kevel.cli.data_dir import DataDir
from kevel.cli.up import Kevel, bind, find_admin, running
from kevel.control.servers.servers import NewServer
from kevel.control.volumes.volumes import NewVolume
from kevel.domain.flavors import Flavor
from kevel.domain.model import Actor
from kevel.domain.server_disks import DiskSource, NewDisk
from kevel.domain.status import server_status
from kevel.host.credential import HEADERS, NAMED, AgentKey, CredentialFile, join_control
from kevel.host.remote import RemoteControl
from kevel.hypervisor.sim import SimHypervisor
from tests.integration.stand import make_app, make_client
from tests.integration.template import put_database

SETTLE_S = 20.0
SMALL = Flavor(
    id="small",
    name="small",
    vcpus=1,
    ram_mib=96,
    disk_gib=0,
    ephemeral_gib=0,
    swap_mib=0,
    is_public=True,
    description=None,
    extra_specs={},
)


class AgentHost:
    """One host: its directory, its simulated hypervisor, and its agent while that runs."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.data = DataDir(root / f"agent-{name}")
        self.data.open()
        self.hypervisor = SimHypervisor()
        self._running: list[AsyncExitStack] = []
        self.control: RemoteControl | None = None

    @property
    def credential(self) -> CredentialFile:
        known = self.data.read_agent_credential()
        assert known is not None
        return known

    async def start(self) -> RemoteControl:
        self._running.append(AsyncExitStack())
        work = running_agent(AgentConfig(hypervisor="sim"), self.data, self.credential, self.hypervisor)
        self.control = await self._running[-1].enter_async_context(work)
        return self.control

    async def stop(self) -> None:
        while self._running:
            await self._running.pop().aclose()


class Stand:
    """The control plane, and the hosts that have joined."""

    def __init__(self, root: Path, kevel: Kevel, address: str, actor: Actor, stack: AsyncExitStack) -> None:
        self.root = root
        self.kevel = kevel
        self.address = address
        self.actor = actor
        self.services = kevel.services
        self.app = make_app(API, self.services.runtime, fleet=self.services.fleet)
        self._stack = stack

    def client(self, caller: str) -> httpx.AsyncClient:
        """Kevel's own API, as that caller."""
        return make_client(self.app, caller)

    async def token(self, name: str) -> str:
        return (await self.services.fleet.make_join_token(name)).token.text

    async def join(self, name: str) -> AgentHost:
        """A host that has joined, and whose agent is yet to start."""
        host = AgentHost(self.root, name)
        self._stack.callback(host.data.close)
        self._stack.push_async_callback(host.stop)
        made = await self.services.fleet.make_join_token(name)
        await join_once(AgentConfig(control=self.address), host.data, made.token)
        return host

    async def add(self, name: str) -> AgentHost:
        """A host whose agent works."""
        host = await self.join(name)
        await host.start()
        return host

    async def credential(self, name: str) -> CredentialFile:
        """A certificate of that host, without an agent."""
        made = await self.services.fleet.make_join_token(name)
        return await join_control(self.address, made.token, AgentKey())

    @asynccontextmanager
    async def speaking(self, credential: CredentialFile) -> AsyncIterator[Speaker]:
        """A client that shows the certificate."""
        context = credential.make_context()
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=10) as http:
            yield Speaker(http, self.address)

    async def make_server(self, *volumes: str, host: str | None = None) -> str:
        disks = [
            NewDisk(number=number, source=DiskSource.VOLUME, source_id=volume, boot_index=0 if number == 0 else None)
            for number, volume in enumerate(volumes)
        ]
        new = NewServer(
            name="box",
            description=None,
            flavor="small",
            image_id="" if volumes else await self.find_image(),
            metadata={},
            disks=tuple(disks),
            host=host,
        )
        (server,) = await self.services.servers.create(self.actor, new)
        return server.id

    async def make_volume(self) -> str:
        view = await self.services.volumes.create(self.actor, NewVolume(size_gib=1, name="disk"))
        await self.until_volume(view.volume.id, "available")
        return view.volume.id

    async def find_image(self) -> str:
        return next(one.id for one in await self.services.images.list_visible(self.actor) if one.name == "tiny")

    async def attach(self, server_id: str, volume_id: str) -> None:
        await self.services.attachments.attach(
            self.actor, server_id, volume_id, device=None, tag=None, delete_on_termination=False
        )

    async def until_server(self, server_id: str, status: str) -> None:
        async def has_it() -> bool:
            return server_status((await self.services.servers.get(self.actor, server_id)).server) == status

        await until(has_it)

    async def until_volume(self, volume_id: str, status: str) -> None:
        async def has_it() -> bool:
            return (await self.services.volumes.get(self.actor, volume_id)).status == status

        await until(has_it)


class Speaker:
    """Speaks the agents' protocol by hand."""

    def __init__(self, http: httpx.AsyncClient, address: str) -> None:
        self.http = http
        self._url = f"https://{address}/agent/v1/"

    async def ask(self, verb: str, body: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
        content = b"" if body is None else msgspec.json.encode(body)
        sent = HEADERS if headers is None else headers
        return await self.http.post(self._url + verb, content=content, headers=sent, extensions=NAMED)


async def until(reached: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(SETTLE_S):
        while not await reached():
            await asyncio.sleep(0.02)


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    data = DataDir(tmp_path / "kevel")
    data.open()
    put_database(data.database)
    guest = tmp_path / "guest"
    guest.mkdir()
    for name in ("vmlinuz", "initrd.img", "tiny.img"):
        (guest / name).write_bytes(bytes(512))
    config = Config(hypervisor="sim", agents="127.0.0.1:0", guest=str(guest))
    sock = bind(config.agents)
    async with AsyncExitStack() as stack:
        stack.callback(data.close)
        kevel = await stack.enter_async_context(running(config, data, "http://kevel.test", SimHypervisor()))
        await stack.enter_async_context(listening_to_agents(kevel.services, sock))
        address = "{}:{}".format(*sock.getsockname()[:2])
        actor = await kevel.services.runtime.store.read(find_admin)
        await kevel.services.flavors.create(SMALL)
        yield Stand(tmp_path, kevel, address, actor, stack)
