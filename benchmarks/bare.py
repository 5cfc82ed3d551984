"""The bare libvirt calls for one disk, in a process of their own: `python -m benchmarks.bare`, orders as JSON on stdin.

It opens Kevel's own embedded libvirt while Kevel is stopped, so both drive the same QEMU process through the same
driver. What is timed is what any careful caller has to do: attach in one call (running guest and definition); ask for
the removal, wait for the event that says that the guest has let go, take the disk out of the definition.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Final

import libvirt

LIVE: Final = libvirt.VIR_DOMAIN_AFFECT_LIVE
CONFIG: Final = libvirt.VIR_DOMAIN_AFFECT_CONFIG
REMOVED_TIMEOUT_S: Final = 30.0


def run_rounds(root: str, server_id: str, disk_xml: str, alias: str, rounds: int, settle_s: float) -> list[list[float]]:
    """Attach and detach the disk; [attach, detach] in milliseconds for each round."""
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_events, daemon=True).start()
    connection = libvirt.open(f"qemu:///embed?root={root}")
    removed = threading.Event()

    def hear(_connection: object, _domain: object, gone: str, _opaque: object) -> None:
        if gone == alias:
            removed.set()

    connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, hear, None)
    domain = connection.lookupByUUIDString(server_id)
    taken: list[list[float]] = []
    for _ in range(rounds):
        time.sleep(settle_s)
        removed.clear()
        started = time.perf_counter()
        domain.attachDeviceFlags(disk_xml, LIVE | CONFIG)
        attached = time.perf_counter()
        time.sleep(settle_s)
        asked = time.perf_counter()
        domain.detachDeviceAlias(alias, LIVE)
        if not removed.wait(REMOVED_TIMEOUT_S):
            raise TimeoutError(f"the guest has not let go of {alias} within {REMOVED_TIMEOUT_S:g} s")
        domain.detachDeviceAlias(alias, CONFIG)
        taken.append([(attached - started) * 1e3, (time.perf_counter() - asked) * 1e3])
    return taken


def _run_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # or libvirt may probe QEMU anew, as in Kevel's own worker
    print(json.dumps(run_rounds(**json.load(sys.stdin))))
    sys.stdout.flush()
    os._exit(0)  # threads inside libvirt may still run
