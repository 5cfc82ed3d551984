"""Kevel's attach and detach against the bare libvirt calls: same guest, same file, same run, in turns."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any, Final

from benchmarks.cycles import Cycle, run_cycle
from benchmarks.figures import Figure, Section, median, spread
from benchmarks.http import Connection, log_in
from benchmarks.stand import BOOT_TIMEOUT_S, VOLUME_TIMEOUT_S, boot_server, temporary_kevel
from kevel.cli.console import GuestConsole
from kevel.domain.errors import KevelError
from kevel.domain.model import GIB
from kevel.hypervisor.base import DiskSpec
from kevel.hypervisor.libvirt.domain_xml import build_disk_xml
from kevel.hypervisor.libvirt.root_disk import choose_cache_mode

#: Kevel and bare libvirt take turns: blocks of so many rounds each. Only one process can hold the embedded libvirt.
BLOCKS: Final = 3
BLOCK_ROUNDS: Final = 12
#: Rounds of each block that are not counted: both have just been started.
WARM_UP_ROUNDS: Final = 4
#: Between two looks at the volume. Longer, the watching adds more to what is watched; shorter, it takes its CPU time.
POLL_S: Final = 0.002
#: The emulated guest looks at a new disk for a while; nothing is measured meanwhile, of either.
SETTLE_S: Final = 0.25
BARE_TIMEOUT_S: Final = 120.0


def measure_guest() -> Section:
    """Both ways of plugging one volume into one real guest."""
    bare: list[list[float]] = []
    ours: list[Cycle] = []
    with temporary_kevel("libvirt") as process:
        cloud = process.start()
        server_id = boot_server(cloud, "bench")
        with GuestConsole(process.data / "servers" / server_id / "console.sock") as console:
            console.wait_ready(BOOT_TIMEOUT_S)
        volume_id = cloud.create_volume("bench", 1, VOLUME_TIMEOUT_S)
        for block in range(BLOCKS):
            if block > 0:
                process.start()
            ours += asyncio.run(run_ours(process.data, server_id, volume_id))
            process.stop()
            bare += run_bare(process.data, server_id, volume_id)
    return Section(title="Attach and detach on a real guest, beside the bare libvirt calls", figures=_show(ours, bare))


async def run_ours(data: Path, server_id: str, volume_id: str) -> list[Cycle]:
    """A block of rounds through Kevel's API."""
    cycles: list[Cycle] = []
    async with Connection(log_in(data)) as connection:
        for _ in range(WARM_UP_ROUNDS + BLOCK_ROUNDS):
            await asyncio.sleep(SETTLE_S)
            cycles.append(await run_cycle(connection, server_id, volume_id, poll_s=POLL_S, settle_s=SETTLE_S))
    return cycles[WARM_UP_ROUNDS:]


def run_bare(data: Path, server_id: str, volume_id: str) -> list[list[float]]:
    """A block of rounds of libvirt calls, while Kevel is stopped. Raises KevelError when they fail."""
    (source,) = (data / "volumes").glob(f"volume-{volume_id}*")
    disk = DiskSpec(
        alias=f"ua-{uuid.uuid4()}",
        serial=volume_id,
        source_path=str(source),
        source_format="raw",
        size_bytes=GIB,
        target="sdb",
        unit=1,
    )
    cache = choose_cache_mode(source)
    orders: dict[str, Any] = {
        "root": str(data / "libvirt"),
        "server_id": server_id,
        "disk_xml": build_disk_xml(disk, cache=cache, block_device=False),
        "alias": disk.alias,
        "rounds": WARM_UP_ROUNDS + BLOCK_ROUNDS,
        "settle_s": SETTLE_S,
    }
    command = [sys.executable, "-m", "benchmarks.bare"]
    done = subprocess.run(
        command, input=json.dumps(orders), capture_output=True, text=True, timeout=BARE_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise KevelError(f"The bare libvirt calls failed: {done.stderr[-2000:]}")
    taken: list[list[float]] = json.loads(done.stdout)
    return taken[WARM_UP_ROUNDS:]


def _show(ours: list[Cycle], bare: list[list[float]]) -> list[Figure]:
    figures: list[Figure] = []
    for what, mine, theirs in (
        ("attach", [one.in_use_ms for one in ours], [one[0] for one in bare]),
        ("detach", [one.available_ms for one in ours], [one[1] for one in bare]),
    ):
        ratio = median(mine) / median(theirs)
        figures += spread(f"bare libvirt {what}", theirs)
        figures += spread(f"Kevel's {what}", mine, note="request until the volume says so, looked at every 2 ms")
        figures.append(Figure(name=f"{what}: Kevel / bare, of the medians", value=ratio, unit="x", mark=1.3))
        figures.append(Figure(name=f"{what}: what Kevel adds", value=median(mine) - median(theirs), unit="ms"))
    figures.append(Figure(name="POST attach, median", value=median([one.post_ms for one in ours]), unit="ms"))
    return figures
