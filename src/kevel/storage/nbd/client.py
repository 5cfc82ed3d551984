"""The first words of an NBD client: is the server there, does it answer, and what does it say of the export?

Asked before a guest is touched: QEMU waits for an answer without end, and its guest with it. Synchronous, within one
bound for everything: callers run it in threads.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from typing import Final, NamedTuple, Self

from kevel.domain.errors import StepNever, StepRetry
from kevel.domain.nbd import NbdSource

#: For the whole conversation. A server that needs longer would hold up a guest for as long.
PROBE_TIMEOUT_S: Final = 5.0

_MAGIC: Final = b"NBDMAGICIHAVEOPT"
_OPTION_MAGIC: Final = b"IHAVEOPT"
_REPLY_MAGIC: Final = 0x3E889045565A9
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_OPT_STARTTLS, _OPT_INFO, _OPT_GO = 5, 6, 7
_REP_ACK, _REP_INFO = 1, 3
_REP_ERROR: Final = 1 << 31
_INFO_EXPORT, _INFO_DESCRIPTION = 0, 2
_REPLY: Final = struct.Struct(">QIII")
_REQUEST: Final = struct.Struct(">IHHQQI")
_REQUEST_MAGIC, _CMD_READ = 0x25609513, 0
_SIMPLE_REPLY: Final = struct.Struct(">IIQ")
_SIMPLE_REPLY_MAGIC: Final = 0x67446698
#: Replies to one option, and bytes of one: more is no NBD server.
_REPLIES_MAX: Final = 16
_REPLY_BYTES_MAX: Final = 64 * 1024


class ExportSight(NamedTuple):
    """What a server says of an export."""

    size_bytes: int
    #: Free text of whoever made the export.
    description: str
    #: Its first bytes, as many as were asked for.
    head: bytes


def look_at_export(where: NbdSource, tls: ssl.SSLContext, *, head_bytes: int = 0) -> ExportSight:
    """Ask the server for the export, and for its first bytes if any are wanted.

    Raises StepRetry when the server is not there, does not answer or does not want this host, StepNever when it has no
    such export.
    """
    with _Conversation(where, tls) as talk:
        sight = talk.ask_export(_OPT_GO if head_bytes else _OPT_INFO)
        if not head_bytes:
            return sight
        return sight._replace(head=talk.read(head_bytes))


def check_server(where: NbdSource) -> None:
    """Return when the server answers, or is not there at all; raise StepRetry when it is there and silent.

    A guest gets an error from a server that is gone, and waits for one that hangs.
    """
    until = time.monotonic() + PROBE_TIMEOUT_S
    try:
        with socket.create_connection((where.address, where.port), PROBE_TIMEOUT_S) as link:
            _receive(link, len(_MAGIC), until)
    except ConnectionError:
        return
    except OSError as error:
        raise _silent() from error


class _Conversation:
    def __init__(self, where: NbdSource, tls: ssl.SSLContext) -> None:
        self._until = time.monotonic() + PROBE_TIMEOUT_S
        self._where = where
        try:
            plain = socket.create_connection((where.address, where.port), PROBE_TIMEOUT_S)
        except OSError as error:
            raise _gone() from error
        try:
            self._link = self._secure(plain, tls)
        except BaseException:
            plain.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def _secure(self, plain: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        try:
            greeting = _receive(plain, len(_MAGIC) + 2, self._until)
            flags = int.from_bytes(greeting[len(_MAGIC) :], "big")
            if not greeting.startswith(_MAGIC) or not flags & _FIXED_NEWSTYLE:
                raise _foreign()
            plain.sendall(struct.pack(">I", flags & (_FIXED_NEWSTYLE | _NO_ZEROES)))
            plain.sendall(_option(_OPT_STARTTLS, b""))
            if _read_reply(plain, self._until)[0] != _REP_ACK:
                raise _foreign()
            plain.settimeout(_left(self._until))
            return tls.wrap_socket(plain, server_hostname=self._where.server_name)
        except ssl.SSLError as error:
            raise _unwanted() from error
        except TimeoutError as error:
            raise _silent() from error
        except OSError as error:
            raise _gone() from error

    def ask_export(self, option: int) -> ExportSight:
        name = self._where.name.encode()
        wanted = struct.pack(">I", len(name)) + name + struct.pack(">HH", 1, _INFO_DESCRIPTION)
        size_bytes: int | None = None
        description = ""
        try:
            self._link.sendall(_option(option, wanted))
            for _ in range(_REPLIES_MAX):
                kind, body = _read_reply(self._link, self._until)
                if kind == _REP_ACK and size_bytes is not None:
                    return ExportSight(size_bytes, description, b"")
                if kind & _REP_ERROR:
                    raise StepNever("The storage does not let this host reach the volume.")
                if kind != _REP_INFO or len(body) < 2:
                    break
                about = int.from_bytes(body[:2], "big")
                if about == _INFO_EXPORT and len(body) >= 10:
                    size_bytes = int.from_bytes(body[2:10], "big")
                elif about == _INFO_DESCRIPTION:
                    description = body[2:].decode(errors="replace")
        except TimeoutError as error:
            raise _silent() from error
        except OSError as error:  # under TLS 1.3 the server's no to a certificate comes with its first answer
            raise _unwanted() from error
        raise _foreign()

    def read(self, length: int) -> bytes:
        try:
            self._link.sendall(_REQUEST.pack(_REQUEST_MAGIC, 0, _CMD_READ, 1, 0, length))
            magic, code, _ = _SIMPLE_REPLY.unpack(_receive(self._link, _SIMPLE_REPLY.size, self._until))
            if magic != _SIMPLE_REPLY_MAGIC:
                raise _foreign()
            if code != 0:
                raise StepRetry("The storage cannot read the volume's first bytes.")
            return _receive(self._link, length, self._until)
        except OSError as error:
            raise _silent() from error


def _option(option: int, body: bytes) -> bytes:
    return _OPTION_MAGIC + struct.pack(">II", option, len(body)) + body


def _read_reply(link: socket.socket, until: float) -> tuple[int, bytes]:
    magic, _, kind, length = _REPLY.unpack(_receive(link, _REPLY.size, until))
    if magic != _REPLY_MAGIC or length > _REPLY_BYTES_MAX:
        raise _foreign()
    return kind, _receive(link, length, until)


def _receive(link: socket.socket, length: int, until: float) -> bytes:
    """So many bytes. Raises OSError: TimeoutError when they do not come in time."""
    got = b""
    while len(got) < length:
        link.settimeout(_left(until))
        part = link.recv(length - len(got))
        if not part:
            raise ConnectionResetError("the server has hung up")
        got += part
    return got


def _left(until: float) -> float:
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the server does not answer in time")
    return left_s


def _gone() -> StepRetry:
    return StepRetry("The storage's export server is not there; it is started again, and the host asks again.")


def _silent() -> StepRetry:
    return StepRetry("The storage's export server does not answer; no guest is touched before it does.")


def _unwanted() -> StepRetry:
    return StepRetry("The storage's export server and this host do not accept each other's certificates.")


def _foreign() -> StepRetry:
    return StepRetry("What answers at the storage's address is no export server of Kevel's.")
