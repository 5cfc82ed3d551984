"""Named points at which a process can be made to kill itself, for the torture harness (`tests/torture`).

Inert unless the environment says otherwise when the process starts: one check of a global per point. `NAMES` lists
every point, so that a harness kills at each of them without anybody having to remember a new one:

    KEVEL_FAILPOINTS="plug_disk.done=kill@3,commit.begin=kill"

kills the process with SIGKILL the third time that a disk has been plugged and not yet been recorded, or before the
first COMMIT, whichever comes first. With KEVEL_FAILPOINTS_SPENT naming a file, the point is written there before the
kill, and a point that stands there does not kill again: a process that is started anew with the same environment goes
on.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kevel.domain.errors import SetupError

VARIABLE: Final = "KEVEL_FAILPOINTS"
SPENT_VARIABLE: Final = "KEVEL_FAILPOINTS_SPENT"

#: What the storage is asked to do.
STORAGE_EFFECTS: Final = (
    "create_volume",
    "grow_volume",
    "delete_volume",
    "create_volume_from",
    "rewrite_volume",
    "create_snapshot",
    "delete_snapshot",
    "write_image",
    "take_file",
    "make_target",
    "seal_target",
    "export_volume",
    "revoke_export",
    "connect_volume",
    "disconnect_volume",
)
#: What is done in the backups' directory.
BACKUP_EFFECTS: Final = ("create_backup", "restore_backup", "delete_backup")
#: What is done in the images' directory for images of servers.
IMAGE_EFFECTS: Final = ("make_part", "take_written", "remove_image")
#: What the hypervisor is asked to do.
HYPERVISOR_EFFECTS: Final = (
    "define_server",
    "start_server",
    "ask_shutdown",
    "ask_reboot",
    "power_off",
    "pause_guest",
    "unpause_guest",
    "suspend_guest",
    "resume_guest",
    "undefine_server",
    "plug_disk",
    "unplug_disk",
    "resize_disk",
    "tune_disk",
    "copy_disk",
    "copy_root",
    "end_copy",
    "swap_disk",
    "end_swap",
)
#: In front of a hypervisor's effect: the point lies in the driver's own child process, around the call to libvirt.
CHILD: Final = "child."
#: `commit`: around COMMIT in the store's writer. `answer`: an answer is ready, what it says is stored, nothing is sent.
NAMES: Final = (
    *(
        f"{effect}.{moment}"
        for effect in (*STORAGE_EFFECTS, *BACKUP_EFFECTS, *IMAGE_EFFECTS, *HYPERVISOR_EFFECTS)
        for moment in ("begin", "done")
    ),
    *(f"{CHILD}{effect}.{moment}" for effect in HYPERVISOR_EFFECTS for moment in ("begin", "done")),
    "commit.begin",
    "commit.done",
    "answer.begin",
)
_POINT: Final = re.compile(r"(?P<name>[a-z_.]+)=kill(?:@(?P<number>[1-9]\d{0,5}))?")

#: Passes left until the kill, by name; empty: inert.
_left: dict[str, int] = {}
_lock = threading.Lock()
_spent_file: Path | None = None


def arm(environment: Mapping[str, str]) -> None:
    """Arm the points that the environment names, and only those. Raises SetupError for what it does not understand."""
    global _spent_file  # noqa: PLW0603 - the points are the process's, like its environment
    _left.clear()
    _spent_file = Path(environment[SPENT_VARIABLE]) if SPENT_VARIABLE in environment else None
    for item in filter(None, environment.get(VARIABLE, "").split(",")):
        match = _POINT.fullmatch(item.strip())
        if match is None or match["name"] not in NAMES:
            raise SetupError(
                f"{VARIABLE} has {item[:64]!r}; it takes points like plug_disk.done=kill or commit.begin=kill@3."
            )
        _left[match["name"]] = int(match["number"] or 1)


def begin(effect: str) -> None:
    """The point before an effect."""
    if _left:
        _pass(f"{effect}.begin")


def done(effect: str) -> None:
    """The point after an effect, before anything is recorded of it."""
    if _left:
        _pass(f"{effect}.done")


@contextmanager
def around(effect: str) -> Iterator[None]:
    """Both points. An effect that failed is not done."""
    begin(effect)
    yield
    done(effect)


def _pass(name: str) -> None:
    with _lock:
        if name not in _left:
            return
        _left[name] -= 1
        if _left[name] > 0:
            return
        del _left[name]
        if _spent_file is not None:
            if _spent_file.exists() and name in _spent_file.read_text().split():
                return
            with _spent_file.open("a") as file:
                file.write(f"{name}\n")
        os.kill(os.getpid(), signal.SIGKILL)
