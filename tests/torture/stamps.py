"""The data plane's oracle: guests write stamped blocks, and every block of every volume is accounted for.

A *session* is one time of one volume in one guest. A shell loop in the guest opens the disk once and appends blocks to
the session's own region of the volume, each with volume, session and number in it and each synced before it counts it
as written. So a region holds a row of its session's stamps and zeros behind them; anything else is another's block.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

BLOCK_BYTES: Final = 512
#: Blocks between the beginnings of two regions; the first region stays empty.
REGION_BLOCKS: Final = 256
BLOCKS_MAX: Final = 240
#: The guest's pause between two writes.
PAUSE_US: Final = 120_000
REGION_BYTES: Final = REGION_BLOCKS * BLOCK_BYTES
#: A block may be caught in the middle of being written; then it is looked at again.
LOOKS_MAX: Final = 3


@dataclass
class Session:
    """One writer."""

    number: int
    server_id: str
    #: Which of the volume's regions is its own, from 1.
    region: int
    #: Blocks that the guest has counted, as far as it was asked: it had been told that they are on the disk.
    counted: int = 0
    #: Once the volume has left that guest: how many blocks there are. No more may come.
    ended: int | None = None

    @property
    def count_file(self) -> str:
        """Where the guest keeps its count."""
        return f"/tmp/count-{self.number}"


@dataclass
class VolumeStamps:
    """All that may stand on one volume."""

    volume_id: str
    sessions: dict[int, Session] = field(default_factory=dict)

    def begin(self, number: int, server_id: str) -> Session:
        """A new writer. Numbers are never used twice on any volume."""
        session = Session(number, server_id, len(self.sessions) + 1)
        self.sessions[number] = session
        return session

    def command(self, session: Session, disk: str) -> str:
        """The line of shell that starts the writer in the guest; its exit code is not 0 if it cannot."""
        first = self.first_block(session)
        write = f'echo "{self.words(session.number)} $n" | dd bs={BLOCK_BYTES} count=1 conv=sync,fsync >&3 2>/dev/null'
        loop = (
            f"n=0; while [ $n -lt {BLOCKS_MAX} ]; do n=$((n+1)); {write} || break; "
            f"echo $n >{session.count_file}; usleep {PAUSE_US}; done"
        )
        # The disk is opened once: a disk that comes later under the same name is never written to.
        seek = f"dd if=/dev/null bs={BLOCK_BYTES} count=0 seek={first} >&3 2>/dev/null"
        return f"exec 3<>/dev/{disk} && {seek} && {{ ({loop}) </dev/null >/dev/null 2>&1 & }}"

    def words(self, number: int) -> str:
        """What each stamp of a session begins with."""
        return f"kevel {self.volume_id} {number}"

    def stamp(self, number: int, block: int) -> bytes:
        """The block that the session writes as its `block`th, from 1."""
        return f"{self.words(number)} {block}\n".encode().ljust(BLOCK_BYTES, b"\0")

    def first_block(self, session: Session) -> int:
        """Where the session's region begins on the volume."""
        return session.region * REGION_BLOCKS

    def find_wrong(self, file: Path) -> list[str]:
        """What stands on the volume and should not, or should and does not."""
        wrong: list[str] = []
        for _ in range(LOOKS_MAX):
            wrong = self._look(file)
            if not wrong:
                break
        return wrong

    def _look(self, file: Path) -> list[str]:
        wrong: list[str] = []
        fd = os.open(file, os.O_RDONLY)
        try:
            for session in self.sessions.values():
                start = self.first_block(session) * BLOCK_BYTES
                wrong += self._check_region(session, os.pread(fd, REGION_BYTES, start))
            end = (len(self.sessions) + 1) * REGION_BYTES
            wrong += self._check_empty(fd, 0, REGION_BYTES)
            wrong += self._check_empty(fd, end, os.fstat(fd).st_size)
        finally:
            os.close(fd)
        return wrong

    def _check_region(self, session: Session, region: bytes) -> list[str]:
        blocks = [region[at : at + BLOCK_BYTES] for at in range(0, len(region), BLOCK_BYTES)]
        there = next((n for n, block in enumerate(blocks) if not any(block)), len(blocks))
        who = f"volume {self.volume_id}, session {session.number} (server {session.server_id})"
        wrong = [
            f"{who}: block {n} is {block[:96].rstrip(bytes(1))!r}"
            for n, block in enumerate(blocks, 1)
            if any(block) and (n > there or block != self.stamp(session.number, n))
        ]
        if there < session.counted:
            wrong.append(f"{who}: the guest was told that {session.counted} blocks are stored, {there} are there")
        if session.ended is not None and there != session.ended:
            wrong.append(f"{who}: {session.ended} blocks when the volume was released, {there} now")
        return wrong[:5]

    def _check_empty(self, fd: int, start: int, end: int) -> list[str]:
        position = start
        while position < end:
            try:
                position = os.lseek(fd, position, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                break
            if position >= end:
                break
            hole = min(os.lseek(fd, position, os.SEEK_HOLE), end)
            if any(os.pread(fd, hole - position, position)):
                return [f"volume {self.volume_id}: bytes at {position} that nobody wrote"]
            position = hole
        return []

    def end(self, session: Session, file: Path) -> None:
        """The volume has left that guest for good: what is there now is all that will ever be."""
        if session.ended is None:
            with file.open("rb") as opened:
                opened.seek(self.first_block(session) * BLOCK_BYTES)
                region = opened.read(REGION_BYTES)
            blocks = (region[at : at + BLOCK_BYTES] for at in range(0, len(region), BLOCK_BYTES))
            session.ended = next((n for n, block in enumerate(blocks) if not any(block)), REGION_BLOCKS)
