"""Another volume in the place of a plugged disk: a job of libvirt's own (blockcopy), and the change over to it.

libvirt has to know of this job, since the disk is another file afterwards. It keeps up with the guest's writes in both
(they are done when both have them), until it is told to pivot. libvirt writes its definition of the domain after QEMU
has pivoted, so a guest that went on between the two would have written what its next start does not find. Therefore its
processors stand still for that moment; whoever finds a domain whose guest has another volume than its definition says
writes the definition first (`settle_definition`).
"""

from __future__ import annotations

import stat
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final

import libvirt
import msgspec

from kevel.domain.errors import StepNever, StepRetry
from kevel.hypervisor.base import SwapSpec, SwapStage, SwapView
from kevel.hypervisor.libvirt.blocks import wait_for_monitor
from kevel.hypervisor.libvirt.domain_xml import ALIAS_PREFIX, Unreadable, build_target_xml
from kevel.hypervisor.libvirt.views import INACTIVE

COPY_FLAGS: Final = (
    libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT
    | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
    | libvirt.VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES
)
#: How long libvirt may take to show a disk as it is after a pivot that QEMU has made, or a job's end.
SETTLE_WAIT_S: Final = 5.0
SETTLE_POLL_S: Final = 0.01


class SwapDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A volume disk with what fills another volume behind it."""

    alias: str
    serial: str
    target: str
    #: libvirt's word: "file" or "block".
    kind: str
    path: str
    format: str
    mirror_path: str | None
    #: Both are equal.
    ready: bool


def swap_once(domain: libvirt.virDomain, swap: SwapSpec, subject: str, *, cache: str, pivot: bool) -> SwapView | None:
    """Take a step of the swap; see the port."""
    defined = _find_disk(domain, INACTIVE, swap.alias)
    if not domain.isActive():
        swapped = defined is not None and defined.path == swap.new_path
        return SwapView(stage=SwapStage.SWAPPED) if swapped else None
    wait_for_monitor(domain, subject)
    disk = _find_disk(domain, 0, swap.alias)
    if disk is None:
        return None
    if disk.serial != swap.serial or disk.path not in (swap.old_path, swap.new_path):
        raise StepNever(f"{subject}: another volume is plugged under {swap.alias}.")
    if disk.path == swap.new_path:
        settle_definition(domain)
        return SwapView(stage=SwapStage.SWAPPED)
    if disk.mirror_path != swap.new_path:
        if disk.mirror_path is not None:
            _abort(domain, disk, subject)  # of an earlier swap, given up since
        if pivot:
            return None
        return _begin(domain, disk, swap, cache)
    if pivot and disk.ready:
        _pivot(domain, swap, subject)
        return SwapView(stage=SwapStage.SWAPPED)
    job = domain.blockJobInfo(disk.target, 0) or {}
    stage = SwapStage.READY if disk.ready else SwapStage.COPYING
    return SwapView(stage=stage, done_bytes=int(job.get("cur", 0)), total_bytes=int(job.get("end", 0)))


def end_swap(domain: libvirt.virDomain, new_path: str, subject: str) -> bool:
    """Stop what fills that file; False: a disk of the domain has become it."""
    for flags in (0, INACTIVE) if domain.isActive() else (INACTIVE,):
        if any(disk.path == new_path for disk in _list_disks(domain, flags)):
            return False
    if domain.isActive():
        wait_for_monitor(domain, subject)
        for disk in _list_disks(domain, 0):
            if disk.mirror_path == new_path:
                _abort(domain, disk, subject)
    return True


def end_swap_of(domain: libvirt.virDomain, alias: str, subject: str) -> None:
    """Stop what fills another volume from that disk."""
    disk = _find_disk(domain, 0, alias)
    if disk is not None and disk.mirror_path is not None:
        _abort(domain, disk, subject)


def settle_definition(domain: libvirt.virDomain) -> None:
    """Have the definition say what the guest's disks are: one that has pivoted may not be in it yet."""
    live = {disk.alias: disk for disk in _list_disks(domain, 0)}
    root = _read_xml(domain.XMLDesc(INACTIVE))
    changed = False
    for element in root.iterfind("devices/disk"):
        defined = _read_disk(element)
        seen = None if defined is None else live.get(defined.alias)
        if defined is None or seen is None or (defined.path, defined.format) == (seen.path, seen.format):
            continue
        source, driver = element.find("source"), element.find("driver")
        if source is not None and driver is not None:
            for name in ("file", "dev"):
                source.attrib.pop(name, None)
            element.set("type", seen.kind)
            source.set("dev" if seen.kind == "block" else "file", seen.path)
            driver.set("type", seen.format)
            changed = True
    if changed:
        domain.connect().defineXML(ET.tostring(root, encoding="unicode"))


def _begin(domain: libvirt.virDomain, disk: SwapDisk, swap: SwapSpec, cache: str) -> SwapView:
    path = Path(swap.new_path)
    block_device = path.exists() and stat.S_ISBLK(path.stat().st_mode)
    xml = build_target_xml(swap.new_path, swap.new_format, disk.target, cache=cache, block_device=block_device)
    domain.blockCopy(disk.target, xml, {}, COPY_FLAGS)
    return SwapView(stage=SwapStage.COPYING)


def _pivot(domain: libvirt.virDomain, swap: SwapSpec, subject: str) -> None:
    """Change over, with the guest's processors still until the definition has it too."""
    runs = domain.state()[0] != libvirt.VIR_DOMAIN_PAUSED
    if runs:
        domain.suspend()
    try:
        disk = _find_disk(domain, 0, swap.alias)
        if disk is None:
            raise StepRetry(f"{subject}: the guest has lost the disk.")
        domain.blockJobAbort(disk.target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
        _wait_for(domain, swap.alias, swap.new_path, subject)
        settle_definition(domain)
        defined = _find_disk(domain, INACTIVE, swap.alias)
        if defined is None or defined.path != swap.new_path:
            raise StepRetry(f"{subject}: the definition does not have the new volume yet.")
    finally:
        # A guest whose definition could not be written stays still: who observes it next writes it first.
        if runs and domain.isActive() and _is_settled(domain):
            domain.resume()


def _is_settled(domain: libvirt.virDomain) -> bool:
    defined = {disk.alias: disk.path for disk in _list_disks(domain, INACTIVE)}
    return all(defined.get(disk.alias, disk.path) == disk.path for disk in _list_disks(domain, 0))


def _abort(domain: libvirt.virDomain, disk: SwapDisk, subject: str) -> None:
    domain.blockJobAbort(disk.target, 0)
    _wait_for(domain, disk.alias, disk.path, subject)


def _wait_for(domain: libvirt.virDomain, alias: str, path: str, subject: str) -> None:
    """Return when the guest's disk is that file and nothing is filled behind it any more."""
    deadline = time.monotonic() + SETTLE_WAIT_S
    while True:
        disk = _find_disk(domain, 0, alias)
        if disk is None or (disk.path == path and disk.mirror_path is None):
            return
        if time.monotonic() > deadline:
            raise StepRetry(f"{subject}: QEMU takes its time to change the disk over.")
        time.sleep(SETTLE_POLL_S)


def _find_disk(domain: libvirt.virDomain, flags: int, alias: str) -> SwapDisk | None:
    return next((disk for disk in _list_disks(domain, flags) if disk.alias == alias), None)


def _list_disks(domain: libvirt.virDomain, flags: int) -> list[SwapDisk]:
    root = _read_xml(domain.XMLDesc(flags))
    return [disk for element in root.iterfind("devices/disk") if (disk := _read_disk(element)) is not None]


def _read_xml(text: str) -> ET.Element:
    try:
        return ET.fromstring(text)
    except ET.ParseError as error:
        raise Unreadable(f"libvirt's XML of a domain: {str(error)[:200]}") from error


def _read_disk(element: ET.Element) -> SwapDisk | None:
    alias, target, driver = element.find("alias"), element.find("target"), element.find("driver")
    if alias is None or target is None or driver is None or not alias.get("name", "").startswith(ALIAS_PREFIX):
        return None
    mirror = element.find("mirror")
    return SwapDisk(
        alias=alias.get("name", ""),
        serial=element.findtext("serial", ""),
        target=target.get("dev", ""),
        kind=element.get("type", ""),
        path=_find_path(element.find("source")),
        format=driver.get("type", ""),
        mirror_path=None if mirror is None else _find_path(mirror.find("source")),
        ready=mirror is not None and mirror.get("ready") == "yes",
    )


def _find_path(source: ET.Element | None) -> str:
    return "" if source is None else source.get("file") or source.get("dev") or ""
