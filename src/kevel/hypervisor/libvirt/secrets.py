"""Passphrases, lent to libvirt for the length of one call.

libvirt hands a passphrase on to QEMU when a disk is plugged or a guest started, and needs it never again. A definition
names it by an id made of the disk's alias. libvirt's daemon keeps it in memory and forgets it after the call. The
embedded libvirt (9.0) crashes over secrets that live in memory only, and when it is to forget any: so there the
directory of its secrets lies in memory, and after the call the passphrase is overwritten.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import stat
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import libvirt

from kevel.domain.encryption import Passphrase
from kevel.domain.errors import StepNever
from kevel.hypervisor.base import Disks

_NAMESPACE: Final = uuid.UUID("1b0c0a3e-52d9-4c37-9d5b-2f3b8d8f6a10")
#: A file system in memory, on every Linux.
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the directory in it is checked to be ours alone
OVERWRITTEN: Final = b"-"
#: Names the data directory's libvirt that a directory of secrets belongs to.
_OWNER: Final = "owner"


def name_secret(alias: str) -> str:
    """The id under which the passphrase of a disk is lent."""
    return str(uuid.uuid5(_NAMESPACE, alias))


def choose_keys(disks: Disks) -> dict[str, Passphrase]:
    """What is to be lent for these disks: the passphrases of those that are encrypted."""
    return {alias: passphrase for alias, passphrase in disks.items() if passphrase is not None}


class Lender:
    """Lends passphrases on one connection; `keeps`: it is an embedded one, whose secrets never go."""

    def __init__(self, connection: libvirt.virConnect, *, keeps: bool, safe: bool = True) -> None:
        self._connection = connection
        self._keeps = keeps
        self._safe = safe

    @contextlib.contextmanager
    def lent(self, passphrases: Mapping[str, Passphrase]) -> Iterator[None]:
        """Inside, libvirt knows the passphrases of these disks, by alias. Raises StepNever where none would be safe."""
        if passphrases and not self._safe:
            raise StepNever(f"This host has no directory of Kevel's alone in {MEMORY} to hand over keys in.")
        with contextlib.ExitStack() as stack:
            if passphrases and self._keeps:
                stack.enter_context(_shown_to_driver(self._connection))
            for alias, passphrase in passphrases.items():
                secret = self._connection.secretDefineXML(self._describe(alias))
                stack.callback(self._take_back, secret)
                secret.setValue(passphrase.value.encode())
            yield

    def _describe(self, alias: str) -> str:
        secret = ET.Element("secret", ephemeral="no" if self._keeps else "yes", private="yes")
        ET.SubElement(secret, "uuid").text = name_secret(alias)
        usage = ET.SubElement(secret, "usage", type="volume")
        ET.SubElement(usage, "volume").text = alias
        return ET.tostring(secret, encoding="unicode")

    def _take_back(self, secret: libvirt.virSecret) -> None:
        with contextlib.suppress(libvirt.libvirtError):  # its connection is gone, and it with that
            if self._keeps:
                secret.setValue(OVERWRITTEN)
            else:
                secret.undefine()


class _Private(NamedTuple):
    """Functions of libvirt's own daemons, which its public API has not."""

    set_connection: Any
    set_identity: Any
    system: int


@functools.cache
def _find_private() -> _Private | None:
    try:
        library = ctypes.CDLL("libvirt.so.0")
        found = _Private(library.virSetConnectSecret, library.virIdentitySetCurrent, 0)
        find_system = library.virIdentityGetSystem
    except (OSError, AttributeError):
        return None
    found.set_connection.argtypes = found.set_identity.argtypes = [ctypes.c_void_p]
    find_system.restype = ctypes.c_void_p
    system = find_system()
    return None if system is None else found._replace(system=system)


@contextlib.contextmanager
def _shown_to_driver(connection: libvirt.virConnect) -> Iterator[None]:
    """Inside, the embedded QEMU driver looks for secrets on this connection, when this thread calls it.

    Left to itself it would open one, by an address that lacks its directory (libvirt 9.0). And private secrets are for
    libvirt's own drivers, which it tells by the identity that a thread acts under.
    """
    private = _find_private()
    if private is None:
        raise StepNever("The libvirt of this host cannot be handed keys while it is embedded in Kevel.")
    read = ctypes.pythonapi.PyCapsule_GetPointer
    read.argtypes, read.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    private.set_identity(private.system)
    private.set_connection(read(connection._o, b"virConnectPtr"))  # noqa: SLF001 - the binding has no other way
    try:
        yield
    finally:
        private.set_connection(None)
        private.set_identity(None)


def keep_secrets_in_memory(root: Path) -> bool:
    """Put the directory that an embedded libvirt keeps its secrets in into memory, and empty it.

    False: that cannot be, and no passphrase may be lent.
    """
    link, place = root / "etc" / "secrets", _find_place(root)
    try:
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
        found = place.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            if link.is_symlink():
                link.unlink()  # libvirt makes a directory of its own, which is lent nothing
            return False
        for left in place.iterdir():
            left.unlink()
        (place / _OWNER).write_text(str(root))
        _forget_orphans()
        if not link.is_symlink():
            if link.exists():
                link.rmdir()
            link.symlink_to(place)
        return link.readlink() == place
    except OSError:
        return False


def forget_secrets(root: Path) -> None:
    """Remove what `keep_secrets_in_memory` made, once no libvirt has it open any more."""
    _remove(_find_place(root))


def _forget_orphans() -> None:
    """Remove the directories of Kevels that were killed and whose data directory is gone."""
    for place in MEMORY.glob(f"kevel-{os.geteuid()}-*"):
        with contextlib.suppress(OSError):
            if not Path((place / _OWNER).read_text()).exists():
                _remove(place)


def _remove(place: Path) -> None:
    with contextlib.suppress(OSError):
        for left in place.iterdir():
            left.unlink()
        place.rmdir()


def _find_place(root: Path) -> Path:
    return MEMORY / f"kevel-{os.geteuid()}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"
