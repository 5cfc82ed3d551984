"""The agents' own listener: TLS with Kevel's own authority; every certificate that is shown has to be of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kevel.api.agents.app import PEER, AgentsApp
from kevel.api.agents.verbs import AgentServices
from kevel.cli.config import Config
from kevel.cli.data_dir import DataDir
from kevel.control.hosts.authority import Authority, make_authority
from kevel.control.hosts.fleet import Fleet
from kevel.control.hosts.hosts import Hosts
from kevel.control.hosts.services import Services
from kevel.control.runtime import Runtime
from kevel.domain.agents import HostSettings, PoolPlace
from kevel.domain.errors import SetupError
from kevel.runtime.tls import load_chain
from kevel.storage.directory import DirectoryBackend
from kevel.storage.marks import mark_directory
from kevel.store.agents import credentials_of

#: What open connections get when Kevel stops.
DRAIN_S: Final = 1
IDLE_CONNECTION_S: Final = 120
#: Connections at a time; hosts have two or three each.
CONNECTIONS_MAX: Final = 4096


class _PeerProtocol(HttpToolsProtocol):
    """Hands on the certificate that TLS has verified: requests find it in their `state`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        peer = None if tls is None else tls.getpeercert(binary_form=True)
        self.app_state = {**self.app_state, PEER: peer}


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def _configure(app: AgentsApp, context: ssl.SSLContext) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_PeerProtocol,
        ssl_context_factory=lambda _config, _default: context,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=IDLE_CONNECTION_S,
        timeout_graceful_shutdown=DRAIN_S,
    )


def make_server_context(authority: Authority) -> ssl.SSLContext:
    """TLS 1.3 only. A certificate is asked for; without one, a client gets no further than joining."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=authority.certificate)
    context.num_tickets = 0  # nobody comes back without showing the certificate again
    load_chain(context, authority.make_control())
    return context


async def open_fleet(
    config: Config, data: DataDir, runtime: Runtime, backends: Iterable[DirectoryBackend], hosts: Hosts
) -> Fleet:
    """What joined hosts need of the control plane. Raises SetupError when one has the name of the host inside."""
    if await runtime.store.read(credentials_of, config.host):
        raise SetupError(
            f"Host {config.host} has an agent of its own; give the one inside this Kevel another name (`host`)."
        )
    authority = None
    if config.agents:
        clock = runtime.clock
        authority = Authority(data.agents_authority(lambda: make_authority(clock)), clock)
    return Fleet(runtime, hosts, config.host, await _describe_places(config, data, backends, runtime), authority)


async def _describe_places(
    config: Config, data: DataDir, backends: Iterable[DirectoryBackend], runtime: Runtime
) -> HostSettings:
    """What agents on other machines are told, with the marks by which they know the directories."""
    pools = []
    for backend in backends:
        mark = await runtime.executor.run(mark_directory, backend.root, runtime.ids.uuid())
        pools.append(PoolPlace(backend=backend.name, pool=backend.pool, directory=str(backend.root), mark=mark))
    images = data.subdirectory("images")
    mark = await runtime.executor.run(mark_directory, images, runtime.ids.uuid())
    return HostSettings(
        host="",
        limits=config.limits,
        pools=tuple(pools),
        data_dir=str(data.root),
        images=PoolPlace(backend="images", pool=None, directory=str(images), mark=mark),
    )


@contextlib.asynccontextmanager
async def listening_to_agents(services: Services, sock: socket.socket) -> AsyncIterator[None]:
    """Answer agents on the socket. Raises Conflict when there is no authority."""
    app = AgentsApp(AgentServices(fleet=services.fleet, hosts=services.hosts))
    server = _Server(_configure(app, make_server_context(services.fleet.authority)))
    serving = asyncio.create_task(server.serve(sockets=[sock]), name="agents")
    try:
        yield  # the socket listens already: who comes before the server is up waits
    finally:
        server.should_exit = True
        services.hosts.end_polls()
        await serving
