"""What a guest has used, from libvirt's statistics of its domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import libvirt

from kevel.domain.questions import DiskUsage, ServerUsage
from kevel.hypervisor.libvirt.blocks import wait_for_monitor
from kevel.hypervisor.libvirt.errors import is_process_gone

USAGE_STATS = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)


def measure_domain(domain: libvirt.virDomain, subject: str) -> ServerUsage | None:
    """What the domain's guest has used; None when none runs."""
    try:
        if not domain.isActive():
            return None
        wait_for_monitor(domain, subject)
        ((_, stats),) = domain.connect().domainListGetStats([domain], USAGE_STATS, 0)
    except libvirt.libvirtError as error:
        if not is_process_gone(error):
            raise
        return None
    return None if stats.get("state.state") == libvirt.VIR_DOMAIN_SHUTOFF else read_usage(stats)


def read_usage(stats: Mapping[str, Any]) -> ServerUsage:
    """libvirt's names for what was used, as the port has them."""
    return ServerUsage(
        # A processor that is switched off has no time.
        cpu_times_ns=tuple(stats.get(f"vcpu.{at}.time", 0) for at in range(stats.get("vcpu.current", 0))),
        memory_mib_max=stats.get("balloon.maximum", 0) // 1024,
        memory_mib=stats.get("balloon.current", 0) // 1024,
        disks=tuple(_read_disk(stats, f"block.{at}.") for at in range(stats.get("block.count", 0))),
    )


def _read_disk(stats: Mapping[str, Any], prefix: str) -> DiskUsage:
    return DiskUsage(
        target=stats[f"{prefix}name"],
        read_requests=stats.get(f"{prefix}rd.reqs", 0),
        read_bytes=stats.get(f"{prefix}rd.bytes", 0),
        write_requests=stats.get(f"{prefix}wr.reqs", 0),
        write_bytes=stats.get(f"{prefix}wr.bytes", 0),
    )
