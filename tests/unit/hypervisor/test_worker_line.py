from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import NoReturn

import pytest

from kevel.hypervisor.base import Event, EventKind
from kevel.hypervisor.libvirt import wire, worker


class Ended(Exception):
    """The process would have ended."""


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, worker.Line]]:
    def end() -> NoReturn:
        raise Ended

    monkeypatch.setattr(worker, "end_process", end)
    ours, theirs = socket.socketpair()
    line = worker.Line(theirs)
    yield ours, line
    ours.close()
    theirs.close()
    line._reader.close()


def test_the_child_ends_when_its_parent_hangs_up(link: tuple[socket.socket, worker.Line]) -> None:
    ours, line = link
    ours.close()
    with pytest.raises(Ended):
        line.receive()


def test_the_child_ends_when_its_parent_dies_without_having_read_everything(
    link: tuple[socket.socket, worker.Line],
) -> None:
    ours, line = link
    line.send(wire.Notice(Event(kind=EventKind.LIFECYCLE, server_id="")))
    ours.close()
    with pytest.raises(Ended):
        line.receive()


def test_a_message_arrives_whole(link: tuple[socket.socket, worker.Line]) -> None:
    ours, line = link
    ours.sendall(wire.encode_frame(wire.Request(number=1, act=wire.Start("a", {}))))
    assert b"start_server" in line.receive()
