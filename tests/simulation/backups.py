"""Backups as the simulated world keeps them, and the threads in which they would be written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kevel.domain.errors import StepNever
from kevel.storage.backup_files import BackupHead, BackupOrigin, BackupWritten
from kevel.storage.base import CopyWatch, LocalFile
from tests.simulation.images import EFFECTS as IMAGE_EFFECTS
from tests.simulation.images import SimImages

if TYPE_CHECKING:
    from tests.simulation.world import Caller, World

T = TypeVar("T")

#: The effects by what is called; as the failpoints name them.
EFFECTS: Final = {"write": "create_backup", "restore": "restore_backup", "remove": "delete_backup"}
#: What is kept of a backup's contents.
CONTENTS_BYTES_MAX: Final = 64 * 1024


class SimBackups:
    """`kevel.storage.backup_files.BackupFiles`, in memory."""

    def __init__(self) -> None:
        #: The ground truth: heads and contents by id.
        self.kept: dict[str, tuple[BackupHead, bytes]] = {}

    def write(
        self, head: BackupHead, source: LocalFile, parent: BackupOrigin | None, watch: CopyWatch
    ) -> BackupWritten:
        watch.check()
        if head.files_id not in self.kept:
            with Path(source.path).open("rb") as file:
                self.kept[head.files_id] = (head, file.read(CONTENTS_BYTES_MAX))
        if self.kept[head.files_id][0] != head:
            raise StepNever("There is another backup in its place already.")
        return BackupWritten(checksum=_checksum(head.files_id), stored_bytes=0, chunk_count=0)

    def restore(self, origin: BackupOrigin, target: LocalFile, watch: CopyWatch) -> None:
        watch.check()
        if origin.files_id not in self.kept or origin.checksum != _checksum(origin.files_id):
            raise StepNever("The backup is not there.")
        with Path(target.path).open("r+b") as file:
            file.write(self.kept[origin.files_id][1])

    def remove(self, files_id: str) -> None:
        self.kept.pop(files_id, None)


def _checksum(files_id: str) -> str:
    return hashlib.sha256(files_id.encode()).hexdigest()


class SimExecutor:
    """Runs what touches backups and images as effects of the world. Nothing else in a simulated run needs a thread."""

    def __init__(self, world: World, caller: Caller, outside: Context) -> None:
        self._world = world
        self._caller = caller
        self._outside = outside

    async def run(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        named = {SimBackups: EFFECTS, SimImages: IMAGE_EFFECTS}.get(type(getattr(fn, "__self__", None)), {})
        name = named.get(fn.__name__)
        if name is None:
            raise AssertionError("the simulator has no threads")

        async def effect() -> T:
            return fn(*args, **kwargs)

        return await self._world.make_call(self._caller, name, effect, self._outside, None)
