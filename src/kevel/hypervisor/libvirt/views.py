"""A domain as the port shows it: libvirt's account, and QEMU's where it was asked."""

from __future__ import annotations

import libvirt
import msgspec

from kevel.hypervisor.base import DiskView, PowerState, ServerView
from kevel.hypervisor.libvirt.blocks import DiskLook, FormatNode
from kevel.hypervisor.libvirt.domain_xml import parse_domain_xml
from kevel.hypervisor.libvirt.memory import find_memory

INACTIVE = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE

STOP_REASONS = {
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: "destroyed",
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED: "migrated",
    libvirt.VIR_DOMAIN_SHUTOFF_SAVED: "saved",
    libvirt.VIR_DOMAIN_SHUTOFF_FAILED: "failed",
    libvirt.VIR_DOMAIN_SHUTOFF_DAEMON: "crashed",
}


def view_server(domain: libvirt.virDomain, server_id: str, look: DiskLook | None = None) -> ServerView:
    """The domain as the port shows it; without QEMU's account, sizes and leftovers are not told."""
    state, reason = domain.state()
    persistent = tuple(parse_domain_xml(domain.XMLDesc(INACTIVE)).disks.values()) if domain.isPersistent() else ()
    if not domain.isActive():
        kept = find_memory(domain)
        if kept is not None:
            return ServerView(
                server_id=server_id, power=PowerState.SUSPENDED, boot_id="", live=kept, persistent=persistent
            )
        crashed = state == libvirt.VIR_DOMAIN_CRASHED or STOP_REASONS.get(reason) == "crashed"
        return ServerView(
            server_id=server_id,
            power=PowerState.CRASHED if crashed else PowerState.SHUTOFF,
            boot_id="",
            live=(),
            persistent=persistent,
            stop_reason="crashed" if crashed else STOP_REASONS.get(reason, "unknown"),
        )
    xml = look.xml if look is not None else parse_domain_xml(domain.XMLDesc(0))
    formats = look.formats if look is not None else {}
    return ServerView(
        server_id=server_id,
        # A guest that sleeps by itself (PMSUSPENDED) runs, as far as anybody outside is concerned.
        power=PowerState.PAUSED if state == libvirt.VIR_DOMAIN_PAUSED else PowerState.RUNNING,
        waits_for_disk=state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR,
        boot_id=xml.boot_id,
        live=tuple(_add_size(disk, formats.get(xml.nodes.get(disk.alias, 0))) for disk in xml.disks.values()),
        persistent=persistent,
        orphans=(*sorted(look.ghosts), *look.orphans) if look is not None else (),
    )


def _add_size(disk: DiskView, node: FormatNode | None) -> DiskView:
    return disk if node is None else msgspec.structs.replace(disk, size_bytes=node.size_bytes)
