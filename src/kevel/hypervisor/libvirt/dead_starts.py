"""Starts that died with the libvirt that made them, before it had recorded QEMU's process.

libvirt (9.0) restores such a guest as "starting up" with no process, and its job "start" with it. Nobody ends that job:
every later call on the domain waits for it in vain, in each successor anew. QEMU itself may run by then. Nobody was
told that the guest runs, so what there is of it is ended, and its state file removed: a successor finds it shut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kevel.domain.errors import SetupError
from kevel.hypervisor.libvirt.domain_xml import NAME_PREFIX

#: The pid is in the root element's tag, behind a comment.
_HEAD_BYTES: Final = 4096
_NO_PROCESS: Final = re.compile(rb"<domstatus [^>]*pid='0'")
_END_WAIT_S: Final = 10.0
_LOOK_S: Final = 0.02


def clear_dead_starts(root: Path) -> list[str]:
    """End and forget the guests of dead starts; their domains' names. Before libvirt opens the directory.

    Does nothing while another libvirt has it. Raises SetupError when a QEMU process does not end.
    """
    found = []
    with _locked(root / "run" / "qemu" / "driver.pid") as ours:
        for state in sorted((root / "run" / "qemu").glob(f"{NAME_PREFIX}*.xml")) if ours else ():
            with state.open("rb") as file:
                if _NO_PROCESS.search(file.read(_HEAD_BYTES)) is None:
                    continue
            _end_guest(root, state.stem)
            state.unlink()
            found.append(state.stem)
    return found


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """libvirt's own lock on the directory, as long as the block runs; False when somebody else has it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # no libvirt has been here yet
        yield False
        return
    try:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _end_guest(root: Path, name: str) -> None:
    deadline = time.monotonic() + _END_WAIT_S
    while pids := _find_processes(root, name):
        if time.monotonic() > deadline:
            raise SetupError(f"QEMU's process {pids[0]} of {name}, whose start died, does not end.")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_S)


def _find_processes(root: Path, name: str) -> list[int]:
    """QEMU processes of that guest; one that has been ended has no command line any more."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                if f"guest={name},".encode() in words and os.fsencode(root) in words:
                    found.append(int(entry.name))
    return found
