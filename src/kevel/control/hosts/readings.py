"""What only a host can tell: consoles, and what guests and hosts use. Read at the host, for each request anew."""

from __future__ import annotations

import msgspec

from kevel.control.attachments.attachments import find_server
from kevel.control.hosts.questions import Questions
from kevel.control.runtime import Runtime
from kevel.domain.errors import Conflict, Unavailable
from kevel.domain.model import Actor, Server, ServerRung
from kevel.domain.questions import (
    ConsoleTail,
    HostUsage,
    MeasureHost,
    MeasureServer,
    ReadConsole,
    ServerUsage,
)
from kevel.store.hosts import Host, load_host
from kevel.store.transactions import Tx


class ServerReading(msgspec.Struct, frozen=True, kw_only=True):
    """What a guest uses, and whose it is."""

    server: Server
    host: Host
    usage: ServerUsage


class Readings:
    """Asks the agents. Every question raises Unavailable when the host does not answer in time."""

    def __init__(self, runtime: Runtime, questions: Questions) -> None:
        self._runtime = runtime
        self._questions = questions

    async def read_console(self, actor: Actor, server_id: str) -> str:
        """The end of what the server's guests wrote to the serial console.

        Raises Conflict for a server that has never been on a host, or is on none.
        """
        server = await self._runtime.store.read_point(find_server, server_id, actor)
        if server.rung < ServerRung.DEFINED:
            raise Conflict(f"Instance {server_id} is not ready")
        sight = await self._questions.ask(server.host, ReadConsole(server_id))
        if not isinstance(sight, ConsoleTail):
            raise _unexpected(server.host)
        return sight.data.decode(errors="replace")

    async def measure_server(self, actor: Actor, server_id: str) -> ServerReading:
        """What the server's guest has used since its start. Raises Conflict when none runs."""
        server, host = await self._runtime.store.read_point(_find_with_host, server_id, actor)
        stopped = Conflict(f"Cannot 'get_diagnostics' instance {server_id} while its guest does not run")
        if server.rung is not ServerRung.RUNNING:
            raise stopped
        sight = await self._questions.ask(server.host, MeasureServer(server_id))
        if not isinstance(sight, ServerUsage):
            raise stopped
        return ServerReading(server=server, host=host, usage=sight)

    async def measure_host(self, host: str) -> HostUsage:
        """How long the host is up, and how busy it is."""
        sight = await self._questions.ask(host, MeasureHost())
        if not isinstance(sight, HostUsage):
            raise _unexpected(host)
        return sight


def _find_with_host(tx: Tx, server_id: str, actor: Actor) -> tuple[Server, Host]:
    server = find_server(tx, server_id, actor)
    return server, load_host(tx, server.host)


def _unexpected(host: str) -> Unavailable:
    return Unavailable(f"Host {host} has answered something else; repeat this later.")
