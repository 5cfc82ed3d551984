"""Disks in the persistent definition of a domain: taken out, one or all that are not to be there."""

from __future__ import annotations

import libvirt

from kevel.domain.errors import StepRetry
from kevel.hypervisor.base import Disks, is_volume_alias
from kevel.hypervisor.libvirt.domain_xml import parse_domain_xml
from kevel.hypervisor.libvirt.errors import is_device_missing
from kevel.hypervisor.libvirt.views import INACTIVE


def undefine_disk(domain: libvirt.virDomain, alias: str) -> None:
    """Take the disk out of the definition, if it is there."""
    try:
        domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    except libvirt.libvirtError as error:
        if not is_device_missing(error):
            raise


def drop_strays(domain: libvirt.virDomain, disks: Disks) -> tuple[str, ...]:
    """Take disks of volumes that the server is not to have out of its definition; their aliases. Raises StepRetry."""
    strays = _find_strays(domain, disks)
    for alias in strays:
        undefine_disk(domain, alias)
    if strays and _find_strays(domain, disks):
        raise StepRetry(f"Server {domain.UUIDString()}: a disk that it is not to have is still in its definition.")
    return strays


def _find_strays(domain: libvirt.virDomain, disks: Disks) -> tuple[str, ...]:
    there = parse_domain_xml(domain.XMLDesc(INACTIVE)).disks
    return tuple(alias for alias in there if alias not in disks and is_volume_alias(alias))
