"""Warm start, for tests only: boot a guest once, save it, and restore clones of it in about a second each.

    python -m tests.system.libvirt.warm save    DATA_DIR BUS SERVER_ID SAVED_FILE
    python -m tests.system.libvirt.warm restore DATA_DIR BUS SERVER_ID SAVED_FILE

A process of its own, since one process can open only one embedded libvirt. It uses the driver's own session to define
the server, so the clone is just what the driver would have made. libvirt restores a domain only under the name it was
saved with, so the header of the saved file is rewritten: magic (16 bytes), five little-endian words (version, length of
the text that follows, running, compressed, offset of libvirt's cookie in it), 92 bytes in all, then the text, then
QEMU's stream.
"""

from __future__ import annotations

import os
import re
import struct
import sys
from pathlib import Path

import libvirt

from kevel.cli.console import GuestConsole
from kevel.hypervisor.base import DomainSpec, VolumeBus
from kevel.hypervisor.libvirt.session import Session
from kevel.hypervisor.libvirt.worker import open_connection, prepare_embedded, start_event_loop

REPO = Path(__file__).resolve().parents[3]
GUEST = REPO / ".cache" / "guest"
CMDLINE = "console=ttyS0 panic=-1 quiet cryptomgr.notests nokaslr"
BOOT_LIMIT_S = 90.0
MIB = 1 << 20

HEADER_BYTES = 92
WORDS = struct.Struct("<5I")
WORDS_AT = 16


def make_guest_spec(server_id: str, volume_bus: VolumeBus, *, cmdline: str = CMDLINE) -> DomainSpec:
    """A server that boots the tiny guest."""
    return DomainSpec(
        server_id=server_id,
        memory_mib=96,
        vcpus=1,
        image_path=str(GUEST / "tiny.img"),
        image_format="raw",
        root_bytes=0,
        kernel_path=str(GUEST / "vmlinuz"),
        initrd_path=str(GUEST / "initrd.img"),
        cmdline=cmdline,
        volume_bus=volume_bus,
    )


def save(data_dir: Path, bus: VolumeBus, server_id: str, saved: Path) -> None:
    """Boot a guest until its shell answers and save it to a file."""
    connection, session = open_here(data_dir)
    session.define_server(make_guest_spec(server_id, bus))
    session.start_server(server_id, {})
    with GuestConsole(data_dir / "servers" / server_id / "console.sock") as console:
        console.wait_ready(BOOT_LIMIT_S)
    connection.lookupByUUIDString(server_id).save(str(saved))
    session.undefine_server(server_id)


def restore(data_dir: Path, bus: VolumeBus, server_id: str, saved: Path) -> None:
    """Define a server and let it run from where the saved guest stood."""
    connection, session = open_here(data_dir)
    session.define_server(make_guest_spec(server_id, bus))
    clone = data_dir / "clone.saved"
    rewrite_header(saved, clone, data_dir, server_id)
    connection.restoreFlags(str(clone), None, libvirt.VIR_DOMAIN_SAVE_RUNNING)
    clone.unlink()


def rewrite_header(saved: Path, clone: Path, data_dir: Path, server_id: str) -> None:
    """Copy a saved guest under another server's name, id and files."""
    content = saved.read_bytes()
    version, length, running, compressed, cookie_at = WORDS.unpack_from(content, WORDS_AT)
    text = content[HEADER_BYTES : HEADER_BYTES + length]
    xml, cookie = (text[:cookie_at], text[cookie_at:]) if cookie_at else (text, b"")
    old_server = re.search(rb"<source mode='bind' path='([^']*)/console.sock'", xml)
    old_id = re.search(rb"<uuid>([^<]*)</uuid>", xml)
    assert old_server is not None
    assert old_id is not None
    xml = xml.rstrip(b"\0").replace(old_server[1], str(data_dir / "servers" / server_id).encode())
    xml = xml.replace(old_id[1], server_id.encode()) + b"\0"
    words = WORDS.pack(version, len(xml) + len(cookie), running, compressed, len(xml) if cookie_at else 0)
    with clone.open("wb") as file:
        file.write(content[:WORDS_AT] + words + content[WORDS_AT + WORDS.size : HEADER_BYTES] + xml + cookie)
        file.write(content[HEADER_BYTES + length :])


def open_here(data_dir: Path) -> tuple[libvirt.virConnect, Session]:
    """Open the data directory's libvirt in this process."""
    prepare_embedded(data_dir / "libvirt")
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    start_event_loop()
    connection = open_connection(f"qemu:///embed?root={data_dir / 'libvirt'}")
    return connection, Session(connection, data_dir / "servers", kvm=False, dir_mode=0o700)


if __name__ == "__main__":
    act, data_dir_text, bus_text, server_id_text, saved_text = sys.argv[1:]
    {"save": save, "restore": restore}[act](Path(data_dir_text), VolumeBus(bus_text), server_id_text, Path(saved_text))
    os._exit(0)  # the thread of libvirt's events never ends
