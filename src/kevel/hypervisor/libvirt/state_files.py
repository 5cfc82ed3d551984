"""What a killed libvirt left of running guests, mended before its successor reads it. All faults are libvirt 9.0's.

*A start that died* before QEMU's process was recorded: it is restored as "starting up" with no process, and its job
"start" with it. Nobody ends that job: every later call on the domain waits for it in vain, in each successor anew. QEMU
itself may run by then. Nobody was told that the guest runs, so what there is of it is ended and its state file removed:
a successor finds it shut off.

*A removal that died* between the guest's answer and libvirt's own account: a successor asks QEMU which devices it has,
and removes those that went since the list in the state file was made. But that list is made anew whenever any device
is plugged, so it may lack the device already, and then the domain keeps a disk for ever that QEMU does not have. With
every disk in the list, the successor's comparison finds what has gone.

*An end that died* between the removal of the state file and that of the guest's directories, which nobody looks for
again. A start that is ended here leaves the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kevel.domain.errors import SetupError
from kevel.hypervisor.libvirt.domain_xml import ALIAS_PREFIX, NAME_PREFIX

_NUMBER: Final = re.compile(rb"<domain [^>]*\bid='(\d+)'")
_NO_PROCESS: Final = re.compile(rb"<domstatus [^>]*pid='0'")
_ALIAS: Final = re.compile(rb"<alias name='(%s[0-9a-f-]{36})'/>" % ALIAS_PREFIX.encode())
_ALIAS_LISTED: Final = re.compile(rb"<device alias='(%s[0-9a-f-]{36})'/>" % ALIAS_PREFIX.encode())
_LISTED: Final = b"\n    <device alias='%s'/>"
_END_WAIT_S: Final = 10.0
_LOOK_S: Final = 0.02
#: Where each running guest has a directory of its own, and how much of a guest's name libvirt puts into its name.
_GUESTS_DIRS: Final = ("lib/qemu", "lib/qemu/channel/target")
_SHORT_NAME_CHARS: Final = 20


def mend_state_files(root: Path) -> list[str]:
    """Mend what is under libvirt's own directory, before libvirt opens it; a line for the log for each.

    Does nothing while another libvirt has the directory. Raises SetupError when a QEMU process does not end.
    """
    with _locked(root / "run" / "qemu" / "driver.pid") as ours:
        if not ours:
            return []
        told = []
        running = set()
        for state in sorted((root / "run" / "qemu").glob(f"{NAME_PREFIX}*.xml")):
            text = state.read_bytes()
            if _NO_PROCESS.search(text):
                _end_guest(root, state.stem)
                state.unlink()
                told.append(f"{state.stem}: its start died with the process that made it; it is shut off")
                continue
            if missing := _find_unlisted(text):
                _replace(state, text.replace(b"<devices>", b"<devices>" + b"".join(map(_LISTED.__mod__, missing)), 1))
                told.append(f"{state.stem}: QEMU is asked about {b', '.join(missing).decode()}")
            if number := _NUMBER.search(text):
                running.add(f"domain-{number[1].decode()}-{state.stem[:_SHORT_NAME_CHARS]}")
        return told + _remove_directories(root, running)


def _remove_directories(root: Path, running: set[str]) -> list[str]:
    """Remove the directories of guests that have ended."""
    left = [path for folder in _GUESTS_DIRS for path in sorted((root / folder).glob(f"domain-*-{NAME_PREFIX}*"))]
    gone = [path for path in left if path.name not in running]
    for path in gone:
        shutil.rmtree(path)
    return [f"{path.name}: a directory in {path.parent} was left of a guest that has ended" for path in gone]


def _find_unlisted(text: bytes) -> list[bytes]:
    """Volume disks of the domain that the state's list of devices lacks."""
    head, opened, domain = text.partition(b"<domain ")
    if not opened or b"<devices>" not in head:
        return []
    return sorted(set(_ALIAS.findall(domain)) - set(_ALIAS_LISTED.findall(head)))


def _replace(path: Path, text: bytes) -> None:
    new = path.with_name(f"{path.name}.new")  # libvirt's own name for it, so it is known as a leftover
    with new.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


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
