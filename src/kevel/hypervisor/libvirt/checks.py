"""What an act makes sure of before it touches a domain."""

from __future__ import annotations

import uuid
from pathlib import Path

from kevel.domain.errors import StepNever
from kevel.hypervisor.base import DiskSpec
from kevel.hypervisor.libvirt.domain_xml import LUKS, DomainView


def check_id(server_id: str) -> str:
    """Ids become paths and names, so only a UUID in its usual form will do."""
    try:
        if str(uuid.UUID(server_id)) == server_id:
            return server_id
    except ValueError:
        pass
    raise StepNever("A server id must be a UUID in lower case.")


def has_disk(xml: DomainView, disk: DiskSpec, subject: str) -> bool:
    """Whether the domain has the disk; StepNever when its alias names another volume there."""
    found = xml.disks.get(disk.alias)
    if found is not None and (found.source_path, found.serial) != (disk.source_path, disk.serial):
        raise StepNever(f"{subject}: another volume is plugged under {disk.alias}.")
    if found is not None and found.encrypted != (disk.source_format == LUKS):
        raise StepNever(f"{subject}: the disk under {disk.alias} is not as encrypted as the volume.")
    return found is not None


def measure_file(path: str) -> int:
    """Its size; 0 when it is not there."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0
