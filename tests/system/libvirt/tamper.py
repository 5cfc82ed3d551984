"""Behind the driver's back: take a disk out of one of a domain's two truths, freeze the guest, or die in a swap.

python -m tests.system.libvirt.tamper DATA_DIR SERVER_ID ALIAS live|config|freeze|pivot
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import libvirt

from tests.system.libvirt.warm import open_here

LIMIT_S = 20.0


def main() -> None:
    """Detach, and wait until it has happened."""
    data_dir, server_id, alias, where = sys.argv[1:]
    connection, _ = open_here(Path(data_dir))
    domain = connection.lookupByUUIDString(server_id)
    if where == "freeze":
        freeze(domain)
        return
    if where == "pivot":
        # libvirt dies as soon as QEMU has been told.
        domain.suspend()
        flags = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT | libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC
        domain.blockJobAbort("sdb", flags)
        os._exit(0)
    live = where == "live"
    domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE if live else libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    deadline = time.monotonic() + LIMIT_S
    while alias in domain.XMLDesc(0 if live else libvirt.VIR_DOMAIN_XML_INACTIVE):
        assert time.monotonic() < deadline, f"{alias} is still there"
        time.sleep(0.05)


def freeze(domain: libvirt.virDomain) -> None:
    """Have the guest's agent freeze it; libvirt takes a moment to find the agent."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            frozen = domain.fsFreeze()
        except libvirt.libvirtError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            assert frozen > 0
            return


if __name__ == "__main__":
    main()
    os._exit(0)  # the thread of libvirt's events never ends
