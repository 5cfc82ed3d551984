"""A lean HTTP/1.1 client on one kept connection, so that the load generator costs little beside what it measures.

It knows only what Kevel answers: a status line, headers, and a body of the length that Content-Length says.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

import httpx
import msgspec

from kevel.domain.errors import KevelError

#: The microversions that the `openstack` command line uses.
VERSIONS: Final = "compute 2.89, volume 3.71"
ANSWER_BYTES_MAX: Final = 64 << 20
ANSWER_TIMEOUT_S: Final = 30.0


class Login(NamedTuple):
    """Where Kevel is, and a token of its admin."""

    url: str
    token: str


def log_in(data: Path) -> Login:
    """Log in as the data directory's `openrc` says."""
    lines = (data / "openrc").read_text().splitlines()
    said = dict(line.removeprefix("export ").split("=", 1) for line in lines)
    user = {"name": said["OS_USERNAME"], "password": said["OS_PASSWORD"].strip("'"), "domain": {"name": "Default"}}
    scope = {"project": {"name": said["OS_PROJECT_NAME"], "domain": {"name": "Default"}}}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
    answer = httpx.post(f"{said['OS_AUTH_URL']}/auth/tokens", json=body, trust_env=False)
    answer.raise_for_status()
    return Login(said["OS_AUTH_URL"].removesuffix("/identity/v3"), answer.headers["X-Subject-Token"])


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body's JSON."""
        return msgspec.json.decode(self.body)


class Connection:
    """One connection; one request at a time."""

    def __init__(self, login: Login) -> None:
        parts = urlsplit(login.url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        headers = {"Host": parts.netloc, "X-Auth-Token": login.token, "OpenStack-API-Version": VERSIONS}
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.requests = 0

    async def __aenter__(self) -> Self:
        self._streams = await asyncio.open_connection(self._host, self._port, limit=ANSWER_BYTES_MAX)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._streams is not None:
            self._streams[1].close()
            await self._streams[1].wait_closed()

    async def send(self, method: str, path: str, body: Any = None) -> Answer:
        """One request. Raises KevelError with the server's words when it is refused."""
        assert self._streams is not None, "use the connection in an `async with`"
        reader, writer = self._streams
        content = b"" if body is None else msgspec.json.encode(body)
        length = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n" if content else ""
        writer.write(f"{method} {path} HTTP/1.1\r\n{self._headers}{length}\r\n".encode() + content)
        self.requests += 1
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            head = await reader.readuntil(b"\r\n\r\n")
            answer = Answer(int(head[9:12]), await reader.readexactly(_content_length(head)))
        if answer.status >= 400:
            raise KevelError(f"{method} {path}: {answer.status} {answer.body.decode(errors='replace')}")
        return answer


def _content_length(head: bytes) -> int:
    start = head.lower().find(b"\r\ncontent-length:")
    return 0 if start < 0 else int(head[start + 17 : head.find(b"\r\n", start + 2)])
