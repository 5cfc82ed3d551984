"""A guest's serial console, for the demo and the tests: run a command inside, read what it printed and its exit code.

The tiny guest obeys each line that comes in, and prints `RC=<exit code>` after it.
"""

from __future__ import annotations

import re
import secrets
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

#: The guest's terminal takes no longer line.
COMMAND_BYTES_MAX = 4000
#: A command that prints more is not for a console.
OUTPUT_BYTES_MAX = 1 << 20
CONNECT_POLL_S = 0.05
#: A guest that is still booting loses what is typed, so the question whether it is ready is asked again.
ASK_AGAIN_S = 0.5


class ConsoleError(Exception):
    """The guest's console did not answer as it should."""


class CommandResult(NamedTuple):
    """How a command in the guest ended."""

    code: int
    output: str


class GuestConsole:
    """The console behind a unix socket. It takes one visitor at a time, so use it in a `with` and leave."""

    def __init__(self, socket_path: Path | str) -> None:
        self._path = str(socket_path)
        self._socket: socket.socket | None = None
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the console to others."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def wait_ready(self, timeout_s: float) -> None:
        """Return when the guest's shell answers. Raises ConsoleError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.run("true", timeout_s=min(ASK_AGAIN_S, max(0.0, deadline - time.monotonic())))
            except ConsoleError:
                if time.monotonic() > deadline:
                    raise ConsoleError(f"the guest behind {self._path} was not ready within {timeout_s:g} s") from None
            else:
                return

    def run(self, command: str, timeout_s: float = 20.0) -> CommandResult:
        """Run one line of shell in the guest. Raises ConsoleError when it does not end within `timeout_s`."""
        if "\n" in command or len(command.encode()) > COMMAND_BYTES_MAX:
            raise ValueError(f"a command is one line of at most {COMMAND_BYTES_MAX} bytes")
        deadline = time.monotonic() + timeout_s
        # The mark tells this command's output from what earlier ones, given up, still print.
        mark = secrets.token_hex(8)
        connection = self._connect(deadline)
        try:
            connection.settimeout(max(CONNECT_POLL_S, deadline - time.monotonic()))
            connection.sendall(f"echo {mark}; {command}\n".encode())
        except OSError as error:
            self.close()
            raise ConsoleError(f"the console {self._path} was closed") from error
        answer = re.compile(mark.encode() + rb"\n(?P<out>.*?)RC=(?P<code>\d+)\n", re.DOTALL)
        text = self._receive_until(answer, deadline)
        return CommandResult(int(text["code"]), text["out"].decode(errors="replace"))

    def _connect(self, deadline: float) -> socket.socket:
        while self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(self._path)
            except OSError as error:
                connection.close()
                if time.monotonic() > deadline:
                    raise ConsoleError(f"nobody is behind {self._path}") from error
                time.sleep(CONNECT_POLL_S)
            else:
                self._socket = connection
        return self._socket

    def _receive_until(self, pattern: re.Pattern[bytes], deadline: float) -> re.Match[bytes]:
        assert self._socket is not None
        while (match := pattern.search(self._received)) is None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise ConsoleError(f"no answer in time; the console's last words: {self._received[-200:]!r}")
            self._socket.settimeout(left_s)
            try:
                chunk = self._socket.recv(65536)
            except TimeoutError:
                continue
            if not chunk:
                self.close()
                raise ConsoleError(f"the console {self._path} was closed")
            self._received = (self._received + chunk.replace(b"\r", b""))[-OUTPUT_BYTES_MAX:]
        self._received = self._received[match.end() :]
        return match
