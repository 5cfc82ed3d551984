"""A guest's memory in libvirt's managed save file: pausing, suspending and resuming a domain.

The file is whole or it is nothing: libvirt marks one that is being written as partial, and a partial one cannot be
read. And it is used once: a guest that has gone on from it has written its disks, so that going on from it again would
corrupt them. Therefore the guest is restored paused, and does not run before the file is seen to be gone.
"""

from __future__ import annotations

import os
from pathlib import Path

import libvirt

from kevel.domain.errors import StepNever, StepRetry
from kevel.hypervisor.base import Disks, DiskView, is_volume_alias
from kevel.hypervisor.libvirt.blocks import look_at_disks, wait_for_monitor
from kevel.hypervisor.libvirt.domain_xml import Unreadable, parse_domain_xml
from kevel.hypervisor.libvirt.secrets import Lender, choose_keys
from kevel.runtime.files import sync_directory


def pause_guest(domain: libvirt.virDomain, subject: str) -> None:
    """See the port."""
    _need_guest(domain, subject)
    if domain.state()[0] != libvirt.VIR_DOMAIN_PAUSED:
        domain.suspend()


def unpause_guest(domain: libvirt.virDomain, subject: str, save_dir: Path | None) -> None:
    """See the port."""
    _need_guest(domain, subject)
    go_on(domain, save_dir)


def go_on(domain: libvirt.virDomain, save_dir: Path | None) -> None:
    """Let an active domain run; what is left of a suspension goes first."""
    drop_memory(domain, save_dir)
    if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
        domain.resume()


def suspend_guest(domain: libvirt.virDomain, subject: str, save_dir: Path | None) -> None:
    """See the port. `save_dir` is where libvirt writes; None when that is not ours to sync."""
    if not domain.isActive():
        if find_memory(domain) is None:
            raise StepRetry(f"{subject}: the guest is not running any more.")
    else:
        wait_for_monitor(domain, subject)
        if look_at_disks(domain).copying:
            raise StepRetry(f"{subject}: one of its disks is being copied; it is suspended afterwards.")
        drop_memory(domain, save_dir)
        domain.managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING)
    if save_dir is not None:
        _sync_memory(save_dir / f"{domain.name()}.save")


def resume_guest(domain: libvirt.virDomain, subject: str, lender: Lender, disks: Disks, save_dir: Path | None) -> None:
    """See the port."""
    if not domain.isActive():
        there = find_memory(domain)
        if there is None:
            raise StepNever(f"{subject}: no memory of the guest is kept.")
        if any(disk.alias not in disks and is_volume_alias(disk.alias) for disk in there):
            raise StepNever(f"{subject}: the guest's memory has a disk that is not the server's any more.")
        if any(disk.encrypted and disks.get(disk.alias) is None for disk in there):
            raise StepRetry(f"{subject}: the key of one of its encrypted volumes has not arrived yet.")
        with lender.lent(choose_keys(disks)):
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    # libvirt has removed the file by now, and does not sync that: after a loss of power it would be used again.
    _sync_names(save_dir)
    go_on(domain, save_dir)


def find_memory(domain: libvirt.virDomain) -> tuple[DiskView, ...] | None:
    """The disks in the memory that is kept of a domain that does not run; None: no whole memory is kept."""
    if not domain.hasManagedSaveImage():
        return None
    try:
        return tuple(parse_domain_xml(domain.managedSaveGetXMLDesc()).disks.values())
    except (libvirt.libvirtError, Unreadable):
        return None  # it was never finished


def drop_memory(domain: libvirt.virDomain, save_dir: Path | None) -> None:
    """Forget the memory that is kept of a domain, for good, and what is left of a suspension that died."""
    if domain.hasManagedSaveImage():
        domain.managedSaveRemove()
        _sync_names(save_dir)


def _sync_names(save_dir: Path | None) -> None:
    if save_dir is not None and save_dir.exists():
        sync_directory(save_dir)


def _need_guest(domain: libvirt.virDomain, subject: str) -> None:
    if not domain.isActive():
        raise StepRetry(f"{subject}: the guest is not running any more.")
    wait_for_monitor(domain, subject)


def _sync_memory(file: Path) -> None:
    """libvirt writes the file's mark of being whole last, and does not sync it."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(file.parent)
