"""What is swept of snapshots, copies and backups: what is asked, and what is then missing or left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tests.simulation.users import (
    Request,
    back_up,
    copy_volume,
    delete_backup,
    delete_snapshot,
    delete_volume,
    restore,
    take_snapshot,
)

if TYPE_CHECKING:
    from tests.sweep.operations import Scene

_VOLUMES = "SELECT id, made AND fault IS NULL AS whole FROM volumes WHERE live = 1"
_SNAPSHOTS = "SELECT id, made AND fault IS NULL AS whole FROM snapshots WHERE live = 1"
_BACKUPS = "SELECT id, made AND fault IS NULL AS whole FROM backups WHERE live = 1"


def snapshot(scene: Scene) -> Awaitable[object]:
    """A snapshot of the volume."""
    return scene.ask(take_snapshot(scene.volume))


def copy(scene: Scene) -> Awaitable[object]:
    """A volume from the volume."""
    return scene.ask(copy_volume(scene.volume))


def backup(scene: Scene) -> Awaitable[object]:
    """A backup of the volume."""
    return scene.ask(back_up(scene.volume))


async def restore_one(scene: Scene) -> None:
    """A volume from the first backup that is whole."""
    for row in scene.run.checker.rows(_BACKUPS):
        if row["whole"]:
            await scene.ask(restore(row["id"]))
            return


def _dropping(rows: str, delete: Callable[[str], Request]) -> Callable[[Scene], Awaitable[object]]:
    async def drop(scene: Scene) -> None:
        for row in scene.run.checker.rows(rows):
            if row["id"] != scene.volume:
                await scene.ask(delete(row["id"]))

    return drop


drop_snapshots = _dropping(_SNAPSHOTS, delete_snapshot)
drop_copies = _dropping(_VOLUMES, delete_volume)
_drop_backups = _dropping(_BACKUPS, delete_backup)


async def drop_backups(scene: Scene) -> None:
    """With the snapshot through which a volume in use is backed up, should it have been left in error."""
    await _drop_backups(scene)
    await drop_snapshots(scene)


def _missing(rows: str, what: str) -> Callable[[Scene], list[str]]:
    def find(scene: Scene) -> list[str]:
        whole = [row for row in scene.run.checker.rows(rows) if row["whole"] and row["id"] != scene.volume]
        return ([] if whole else [f"no {what} of {scene.volume} is whole"]) + scene.run.checker.find_unfinished()

    return find


no_snapshot = _missing(_SNAPSHOTS, "snapshot")
no_copy = _missing(_VOLUMES, "copy")
no_backup = _missing(_BACKUPS, "backup")


def kept(scene: Scene) -> list[str]:
    """What is left of snapshots and backups, on their way too."""
    return scene.run.checker.find_kept()


def copies_left(scene: Scene) -> list[str]:
    """What is left of volumes that were made from others, on their way too."""
    rows = [f"row {row['id']}" for row in scene.run.checker.rows(_VOLUMES) if row["id"] != scene.volume]
    there = [f"file of {one}" for one in scene.run.world.backend.volumes if one != scene.volume]
    return rows + there + [one for one in kept(scene) if not one.startswith(("backup", "row"))]
