"""Copies of the disks of running guests: a job of QEMU's own, of which libvirt need not know.

The job is a mirror: it copies everything, then keeps up with what the guest writes until it is told to end, and so its
point in time is its end. QEMU's backup job, whose point is its beginning, would let the guest's own writes fail when
the target is full; a mirror that cannot write its target only fails itself. The job and the node of its target are
named after the copy, so whoever looks finds it again, whatever has died meanwhile except QEMU.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from contextlib import AbstractContextManager
from typing import NamedTuple

import libvirt
import msgspec

from kevel.domain.errors import StepNever, StepRetry
from kevel.hypervisor.base import CopySpec, CopyView, RootCopySpec
from kevel.hypervisor.libvirt.blocks import COPY_PREFIX, QemuRefused, ask_monitor, ask_quietly, look_at_disks
from kevel.hypervisor.libvirt.domain_xml import parse_domain_xml

#: QEMU takes 31 letters for a node's name, which is less than an id has; a job's name may be longer.
NAME_LETTERS = 24
JOB_NAME = re.compile(r"^kevel\.(?P<copy>[0-9a-z-]{1,64})\.(?P<alias>ua-[0-9a-z-]{1,64})$", re.ASCII)
#: How long a job may take to end once it has been told to. It finishes what is under way, and no more.
END_WAIT_S = 5.0
END_POLL_S = 0.01
CONCLUDED = "concluded"
#: In the names of jobs, the root disk, which has no alias of Kevel's.
ROOT = "ua-root"


class Job(msgspec.Struct, frozen=True, rename="kebab"):
    """One of query-jobs."""

    id: str
    status: str
    current_progress: int = 0
    total_progress: int = 0
    error: str | None = None


class Target(NamedTuple):
    """A copy, as its job is named: of the disk under that alias, into that file."""

    copy_id: str
    alias: str
    target_path: str


def find_jobs(domain: libvirt.virDomain) -> dict[str, Job]:
    """Kevel's copies in QEMU, by copy id."""
    jobs = ask_monitor(domain, "query-jobs", list[Job])
    return {match["copy"]: job for job in jobs if (match := JOB_NAME.match(job.id)) is not None}


def copy_once(
    domain: libvirt.virDomain, copy: CopySpec, frozen: AbstractContextManager[None], subject: str, *, direct: bool
) -> CopyView | None:
    """Take a step of the copy; None: the running guest has no such disk.

    `frozen` holds the guest still for the instant that the copy is of; `direct`: the target can be written past the
    page cache.
    """
    disk = parse_domain_xml(domain.XMLDesc(0)).disks.get(copy.alias)
    if disk is None:
        end_copy(domain, copy.copy_id, subject)
        return None
    if disk.serial != copy.serial:
        raise StepNever(f"{subject}: another volume is plugged under {copy.alias}.")
    if disk.encrypted:
        # The node that a mirror reads is behind the decryption: the copy would be in clear.
        raise StepNever(f"{subject}: an encrypted volume is copied while no running guest has it.")
    return _take_step(domain, Target(copy.copy_id, copy.alias, copy.target_path), None, frozen, subject, direct=direct)


def copy_root_once(
    domain: libvirt.virDomain,
    copy: RootCopySpec,
    node: int,
    frozen: AbstractContextManager[None],
    subject: str,
    *,
    direct: bool,
) -> CopyView:
    """The same for the running guest's own root disk, which is that node."""
    return _take_step(domain, Target(copy.copy_id, ROOT, copy.target_path), node, frozen, subject, direct=direct)


def _take_step(
    domain: libvirt.virDomain,
    copy: Target,
    node: int | None,
    frozen: AbstractContextManager[None],
    subject: str,
    *,
    direct: bool,
) -> CopyView:
    job = find_jobs(domain).get(copy.copy_id)
    if job is None:
        return _begin(domain, copy, node, subject, direct=direct)
    if job.status == "ready":
        with frozen:
            ask_monitor(domain, "block-job-cancel", device=job.id)  # of a mirror that has caught up: complete it
            job = _wait_for_end(domain, copy.copy_id, subject)
    if job.status != CONCLUDED:
        return CopyView(done=False, done_bytes=job.current_progress, total_bytes=job.total_progress)
    return _conclude(domain, copy, job, subject)


def _begin(domain: libvirt.virDomain, copy: Target, node: int | None, subject: str, *, direct: bool) -> CopyView:
    look = look_at_disks(domain)
    number = look.xml.nodes.get(copy.alias, 0) if node is None else node
    source = look.formats.get(number)
    if source is None:
        raise StepRetry(f"{subject}: QEMU does not name the disk's node.")
    name = name_node(copy.copy_id)
    _remove_node(domain, name)  # left by an attempt that died before it had made the job
    _size_target(copy.target_path, source.size_bytes, subject)
    # Past the page cache where that can be: QEMU, and the guest with it, would wait for all of it to be written out
    # when the target is closed.
    file = {"driver": "file", "filename": copy.target_path, "discard": "unmap", "cache": {"direct": direct}}
    try:
        ask_monitor(
            domain,
            "blockdev-add",
            **{"node-name": name, "driver": "raw", "discard": "unmap", "cache": {"direct": direct}},
            file=file,
        )
        ask_monitor(
            domain,
            "blockdev-mirror",
            **{"job-id": f"kevel.{copy.copy_id}.{copy.alias}", "filter-node-name": f"{name}-f"},
            **{"copy-mode": "write-blocking", "auto-dismiss": False, "on-target-error": "report"},
            device=f"libvirt-{number}-format",
            target=name,
            sync="full",
        )
    except QemuRefused as refusal:
        _remove_node(domain, name)
        raise StepRetry(f"{subject}: QEMU does not begin a copy of the disk for now.") from refusal
    return CopyView(done=False, done_bytes=0, total_bytes=source.size_bytes)


def _size_target(path: str, size_bytes: int, subject: str) -> None:
    """Make the target as large as the guest's disk: QEMU copies between equals only. Others' files are not touched."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise StepNever(f"{subject}: the file for its copy cannot be opened.") from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
            raise StepNever(f"{subject}: what is in the place of its copy is not a file that Kevel made.")
        os.ftruncate(fd, size_bytes)
    except OSError as error:
        raise StepNever(f"{subject}: the file for its copy cannot have the disk's size.") from error
    finally:
        os.close(fd)


def _conclude(domain: libvirt.virDomain, copy: Target, job: Job, subject: str) -> CopyView:
    """The job has ended: let go of the target, and make sure that it is on the disk before anybody is told."""
    if job.error is None:
        # Before the job's name goes: whoever repeats this finds that it has succeeded.
        _remove_node(domain, name_node(copy.copy_id))
        fd = os.open(copy.target_path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    _remove(domain, copy.copy_id, job, subject)
    if job.error is not None:
        if "No space left" in job.error:
            raise StepNever(f"{subject}: there is no space left for the copy.")
        raise StepRetry(f"{subject}: the copy has failed, it is begun anew.")
    return CopyView(done=True, done_bytes=job.total_progress, total_bytes=job.total_progress)


def end_copy(domain: libvirt.virDomain, copy_id: str, subject: str) -> None:
    """Stop a copy and remove what is left of it in QEMU; its target stays as it is."""
    _remove(domain, copy_id, find_jobs(domain).get(copy_id), subject)


def end_copies_of(domain: libvirt.virDomain, alias: str, subject: str) -> None:
    """Stop all copies of a disk."""
    for copy_id, job in find_jobs(domain).items():
        match = JOB_NAME.match(job.id)
        if match is not None and match["alias"] == alias:
            _remove(domain, copy_id, job, subject)


def clear_unused_nodes(domain: libvirt.virDomain, nodes: tuple[str, ...]) -> tuple[str, ...]:
    """Remove targets without a job, which an attempt left that died in between; return the ids of the copies."""
    jobs = find_jobs(domain)
    used = {name_node(copy_id) for copy_id in jobs}
    for node in nodes:
        if node not in used and not node.endswith("-f"):
            _remove_node(domain, node)
    return tuple(sorted(jobs))


def name_node(copy_id: str) -> str:
    """The name of the node of a copy's target."""
    return COPY_PREFIX + hashlib.sha256(copy_id.encode()).hexdigest()[:NAME_LETTERS]


def _remove(domain: libvirt.virDomain, copy_id: str, job: Job | None, subject: str) -> None:
    if job is not None:
        if job.status != CONCLUDED:
            ask_quietly(domain, "job-cancel", id=job.id)
            _wait_for_end(domain, copy_id, subject)
        ask_quietly(domain, "job-dismiss", id=job.id)
    _remove_node(domain, name_node(copy_id))


def _remove_node(domain: libvirt.virDomain, node: str) -> None:
    ask_quietly(domain, "blockdev-del", **{"node-name": node})


def _wait_for_end(domain: libvirt.virDomain, copy_id: str, subject: str) -> Job:
    deadline = time.monotonic() + END_WAIT_S
    while True:
        job = find_jobs(domain).get(copy_id)
        if job is None:
            raise StepRetry(f"{subject}: the copy is gone.")
        if job.status == CONCLUDED:
            return job
        if time.monotonic() > deadline:
            raise StepRetry(f"{subject}: the copy takes its time to end.")
        time.sleep(END_POLL_S)
