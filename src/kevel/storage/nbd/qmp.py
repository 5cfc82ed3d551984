"""A storage daemon's monitor: commands in JSON over a unix socket. Synchronous: callers run it in threads."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

#: What a command may take; a daemon that needs longer than this does not answer.
ANSWER_TIMEOUT_S: Final = 5.0
#: An account of 10,000 exports has about 3 MB.
LINE_BYTES_MAX: Final = 64 << 20
#: Events that may lie in front of an answer.
LINES_MAX: Final = 100_000


class QmpSilent(Exception):
    """The daemon is not there, has gone, or does not answer in time. What was asked may have been done."""


class QmpRefused(Exception):
    """The daemon said no."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


class _Refusal(msgspec.Struct, frozen=True):
    kind: str = msgspec.field(name="class", default="")
    desc: str = ""


class _Line(msgspec.Struct, frozen=True):
    """What a daemon sends; its greeting and its events have neither part."""

    value: msgspec.Raw = msgspec.field(name="return", default=msgspec.Raw(b""))
    error: _Refusal | None = None


class Qmp:
    """One conversation. The daemon has one at a time; others wait for its end."""

    def __init__(self, folder: Path, name: str) -> None:
        """Connect to the socket of that name. Raises QmpSilent."""
        self._until = time.monotonic() + ANSWER_TIMEOUT_S
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._rest = b""
        try:
            self._connect(folder, name)
            self._read_line()  # the greeting
            self.ask("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def _connect(self, folder: Path, name: str) -> None:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise QmpSilent(f"{folder}: {error.strerror}") from error
        try:
            self._socket.settimeout(ANSWER_TIMEOUT_S)
            # By the folder's descriptor: a unix socket's whole path may have 107 bytes only.
            self._socket.connect(f"/proc/self/fd/{fd}/{name}")
        except OSError as error:
            raise QmpSilent(f"{folder}/{name}: {error}") from error
        finally:
            os.close(fd)

    def ask(self, command: str, kind: Any = Any, /, **arguments: object) -> Any:
        """One command; its answer as that kind. Underscores in arguments' names stand for dashes.

        Raises QmpRefused and QmpSilent.
        """
        self._until = time.monotonic() + ANSWER_TIMEOUT_S
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        try:
            self._socket.sendall(json.dumps({"execute": command, "arguments": named}).encode() + b"\n")
        except OSError as error:
            raise QmpSilent(f"{command}: {error}") from error
        for _ in range(LINES_MAX):
            try:
                line = msgspec.json.decode(self._read_line(), type=_Line)
                if line.error is not None:
                    raise QmpRefused(line.error.kind, line.error.desc)
                if line.value:
                    return msgspec.json.decode(line.value, type=kind)
            except msgspec.MsgspecError as error:
                raise QmpSilent(f"{command}: its answer cannot be read: {str(error)[:200]}") from error
        raise QmpSilent(f"{command}: nothing but events came")

    def _read_line(self) -> bytes:
        while b"\n" not in self._rest:
            left_s = self._until - time.monotonic()
            if left_s <= 0 or len(self._rest) > LINE_BYTES_MAX:
                raise QmpSilent("the daemon does not answer in time")
            try:
                self._socket.settimeout(left_s)
                part = self._socket.recv(1 << 16)
            except OSError as error:
                raise QmpSilent(f"the daemon does not answer: {error}") from error
            if not part:
                raise QmpSilent("the daemon has closed the conversation")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def close(self) -> None:
        """End the conversation."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
