"""What QEMU itself holds of a domain's disks, asked through its monitor: behind every call that went before.

libvirt's XML is what libvirt remembers. A libvirt that was killed in mid-attach remembers nothing of it, while QEMU
keeps what had been done: block nodes without a device (an orphan: the next attach may meet "Duplicate nodes"), or even
the device itself (a ghost: the guest has the disk, the XML does not). Both are found here by comparing the two, and
removed.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any, NamedTuple

import libvirt
import libvirt_qemu
import msgspec

from kevel.domain.errors import StepRetry
from kevel.hypervisor.libvirt.domain_xml import ALIAS_PREFIX, DomainView, Unreadable, parse_domain_xml

#: In front of the names of the nodes of copies' targets, and of the filters that copying puts above a disk's node.
COPY_PREFIX = "kc-"
#: libvirt's names for the nodes of disks; other nodes (firmware) are named differently.
NODE_NAME = re.compile(r"^libvirt-(\d{1,18})-", re.ASCII)
#: How long an act waits for QEMU's monitor when something else holds it, before it says "later".
MONITOR_WAIT_S = 2.0
MONITOR_POLL_S = 0.01
#: How long libvirt may take to find that a guest has ended: it waits until the process has been reaped.
END_WAIT_S = 5.0
#: Looks at what QEMU holds until the two accounts agree; libvirt may be in the middle of removing a disk.
LOOKS_MAX = 3


class Refusal(msgspec.Struct, frozen=True):
    """QEMU's no."""

    kind: str = msgspec.field(name="class", default="")
    desc: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What QEMU's monitor says to a command."""

    value: msgspec.Raw = msgspec.field(name="return", default=msgspec.Raw(b"null"))
    error: Refusal | None = None


class ImageInfo(msgspec.Struct, frozen=True, rename="kebab"):
    """What a node reads."""

    virtual_size: int


class Node(msgspec.Struct, frozen=True, rename="kebab"):
    """One of query-named-block-nodes."""

    node_name: str
    drv: str
    image: ImageInfo


class Inserted(msgspec.Struct, frozen=True, rename="kebab"):
    """What a device uses."""

    node_name: str = ""


class Drive(msgspec.Struct, frozen=True):
    """One of query-block."""

    qdev: str = ""
    inserted: Inserted = Inserted()


class Item(msgspec.Struct, frozen=True):
    """One of qom-list."""

    name: str


class FormatNode(NamedTuple):
    """The node of a disk that the guest's device reads from."""

    driver: str
    #: As the guest sees it.
    size_bytes: int


class DiskLook(NamedTuple):
    """The two accounts of a running domain's disks."""

    xml: DomainView
    #: Volume devices that QEMU has and the XML does not, and the number of the node that each uses.
    ghosts: dict[str, int]
    #: Names of block nodes that no disk of the XML accounts for, users before what they use.
    orphans: tuple[str, ...]
    #: The disks' format nodes by number.
    formats: dict[int, FormatNode]
    #: Nodes that belong to copies.
    copying: tuple[str, ...]


def wait_for_monitor(domain: libvirt.virDomain, subject: str) -> None:
    """Return when QEMU's monitor is free; raise StepRetry when it stays occupied.

    A call into an occupied monitor would wait for whatever occupies it, without a bound: a QEMU that hangs would cost
    us the child process again and again. libvirt answers this question without asking QEMU.
    """
    deadline = time.monotonic() + MONITOR_WAIT_S
    while domain.controlInfo()[0] != libvirt.VIR_DOMAIN_CONTROL_OK:
        if time.monotonic() > deadline:
            raise StepRetry(f"{subject}: its QEMU process does not answer.")
        time.sleep(MONITOR_POLL_S)


def wait_for_end(domain: libvirt.virDomain) -> bool:
    """Whether libvirt finds that a guest whose monitor has just been lost has ended, which may take it a moment."""
    deadline = time.monotonic() + END_WAIT_S
    while domain.isActive() and time.monotonic() < deadline:
        time.sleep(MONITOR_POLL_S)
    return not domain.isActive()


def ask_monitor(domain: libvirt.virDomain, command: str, kind: Any = Any, /, **arguments: object) -> Any:
    """One QMP command; its answer as that kind.

    Raises libvirtError when it cannot be asked, QemuRefused when QEMU says no, and Unreadable for any other answer.
    """
    request = json.dumps({"execute": command, "arguments": arguments})
    flags = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT
    text = libvirt_qemu.qemuMonitorCommand(domain, request, flags)
    try:
        answer = msgspec.json.decode(text, type=Answer)
        if answer.error is None:
            return msgspec.json.decode(answer.value, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Unreadable(f"QEMU's answer to {command}: {str(error)[:200]}") from error
    raise QemuRefused(answer.error.kind, answer.error.desc)


class QemuRefused(Exception):
    """QEMU answered a monitor command with an error."""


def look_at_disks(domain: libvirt.virDomain) -> DiskLook:
    """Compare QEMU's account with libvirt's, behind every earlier call on the domain."""
    look = _look_once(domain)
    for _ in range(LOOKS_MAX - 1):
        if not look.ghosts and not look.orphans:
            break
        # The XML was read after QEMU was asked, so a disk that libvirt was just removing looks like an orphan. Asking
        # again comes behind that removal.
        again = _look_once(domain)
        if again == look:
            break
        look = again
    return look


def _look_once(domain: libvirt.virDomain) -> DiskLook:
    nodes = ask_monitor(domain, "query-named-block-nodes", list[Node], flat=True)
    xml = parse_domain_xml(domain.XMLDesc(0))
    orphans: list[str] = []
    formats: dict[int, FormatNode] = {}
    for node in nodes:
        name = node.node_name
        match = NODE_NAME.match(name)
        if match is None:
            continue
        number = int(match[1])
        if number not in xml.known_nodes:
            orphans.append(name)
        elif name.endswith("-format"):
            formats[number] = FormatNode(node.drv, node.image.virtual_size)
    # QEMU gives up no node that a device uses, so a device that the XML does not know shows as an orphan first. Each
    # question takes an emulated guest some 8 ms.
    devices = ask_monitor(domain, "qom-list", list[Item], path="/machine/peripheral") if orphans else ()
    ghosts = {item.name for item in devices if item.name.startswith(ALIAS_PREFIX)} - xml.disks.keys()
    # A format node uses its storage node, which cannot be removed before it.
    orphans.sort(key=lambda name: name.endswith("-storage"))
    copying = tuple(node.node_name for node in nodes if node.node_name.startswith(COPY_PREFIX))
    return DiskLook(xml, _find_nodes(domain, ghosts), tuple(orphans), formats, copying)


def _find_nodes(domain: libvirt.virDomain, ghosts: set[str]) -> dict[str, int]:
    """The node numbers of devices that libvirt does not know; 0 for one that has none."""
    numbers = dict.fromkeys(ghosts, 0)
    for drive in ask_monitor(domain, "query-block", list[Drive]) if ghosts else ():
        match = NODE_NAME.match(drive.inserted.node_name)
        # A path like /machine/peripheral/ALIAS/virtio-backend, or the alias alone.
        for alias in ghosts & set(drive.qdev.split("/")):
            numbers[alias] = int(match[1]) if match is not None else 0
    return numbers


def ask_removal(domain: libvirt.virDomain, alias: str, subject: str) -> None:
    """Ask the guest to let go of a device; returns when asked, and may be repeated as long as libvirt's XML has it.

    QEMU is asked directly. libvirt acts on QEMU's report that the device is gone, whoever asked for it; but its own
    call crashes (libvirt 9.0, use after free) when the device goes between an earlier request and this one, which is
    just when one asks again. Nor does that call tell more: its success means "asked" as well.
    """
    try:
        ask_monitor(domain, "device_del", id=alias)
    except QemuRefused as refusal:
        if "busy" in str(refusal):
            raise StepRetry(f"{subject}: the guest is still busy with an earlier removal.") from refusal
        # Otherwise the request is under way already, or the device has gone and libvirt has not yet been told.


def ask_anew(domain: libvirt.virDomain, number: int) -> None:
    """Have QEMU read from an export that has been made anew: only so does it connect again, and learn the new size.

    A read that fails is no error here: the first one meets the connection that was cut.
    """
    flags = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
    libvirt_qemu.qemuMonitorCommand(domain, f'qemu-io libvirt-{number}-format "read 0 512"', flags)


def clear_leftovers(domain: libvirt.virDomain, look: DiskLook, alias: str) -> DiskLook:
    """Take one step to remove what is left of a disk, and all orphans; the look afterwards says what remains.

    Orphans of any disk go, since QEMU gives up no node that a device uses. A device goes only under the alias that is
    asked for: whether the guest may lose another is for that one's record to say. It leaves when the guest lets go of
    it, like any disk, so this may have to be called again; its nodes go after it.
    """
    if alias in look.ghosts:
        ask_quietly(domain, "device_del", id=alias)
    elif look.orphans:
        for node in look.orphans:
            ask_quietly(domain, "blockdev-del", **{"node-name": node})
        return look_at_disks(domain)
    return look


def is_gone(look: DiskLook, alias: str) -> bool:
    """Whether QEMU has nothing of the disk any more.

    A device that is going is out of QEMU's list some 50 ms before it lets go of its nodes and QEMU reports it deleted.
    So nodes that no device accounts for count as the disk's: a plug in that time would meet them, and libvirt would
    take the report for one about the new device of the same alias.
    """
    unowned = {name for name in look.orphans if _number(name) not in look.ghosts.values()}
    return alias not in look.xml.disks and alias not in look.ghosts and not unowned


def _number(node: str) -> int:
    match = NODE_NAME.match(node)
    return int(match[1]) if match is not None else 0


def ask_quietly(domain: libvirt.virDomain, command: str, **arguments: object) -> None:
    """Ask for a removal whose effect is looked at afterwards: a refusal (in use, gone, already asked) tells no more."""
    try:
        ask_monitor(domain, command, **arguments)
    except QemuRefused:
        return
