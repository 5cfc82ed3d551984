"""Kevel by itself: `kevel up --hypervisor sim` as a process of its own, with no delays in its guests."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.cycles import Cycle, run_cycle, wait_volume
from benchmarks.figures import Figure, Section, median, percentile, spread
from benchmarks.http import Connection, Login, log_in
from benchmarks.machine import cpu_s, resident_mib
from benchmarks.stand import VOLUME_TIMEOUT_S, boot_server, temporary_kevel
from kevel.cli.process import processes_of

#: Between two looks at a volume.
POLL_S: Final = 0.005
WARM_UP_CYCLES: Final = 30
LATENCY_CYCLES: Final = 200
CLIENTS: Final = 8
CLIENT_CYCLES: Final = 60
LIST_ROWS: Final = 1000
LIST_ROUNDS: Final = 30
#: A simulated server holds 255.
VOLUMES_PER_SERVER: Final = 250


def measure_sim() -> Section:
    """All figures of the simulated host, from one process."""
    with temporary_kevel("sim") as process:
        cloud = process.start()
        servers = [boot_server(cloud, f"bench-{number}") for number in range(CLIENTS)]
        volumes = [cloud.create_volume(f"bench-{number}", 1, VOLUME_TIMEOUT_S) for number in range(CLIENTS)]
        figures = asyncio.run(_measure(process.data, list(zip(servers, volumes, strict=True))))
    return Section(title="Kevel with the simulated host", figures=figures)


async def _measure(data: Path, pairs: Sequence[tuple[str, str]]) -> list[Figure]:
    login, (pid,) = log_in(data), processes_of(data)
    async with Connection(login) as connection:
        for _ in range(WARM_UP_CYCLES):
            await run_cycle(connection, *pairs[0], poll_s=POLL_S)
        cycles = [await run_cycle(connection, *pairs[0], poll_s=POLL_S) for _ in range(LATENCY_CYCLES)]
    figures = show_latency(cycles)
    figures += await measure_throughput(pid, login, pairs)
    async with Connection(login) as connection:
        volumes = await make_volumes(connection)
        figures += await measure_list(connection, "/volume/v3/volumes", "volumes")
        figures += await measure_list(connection, "/volume/v3/volumes/detail", "volumes with details")
        await attach_all(connection, volumes, [server for server, _ in pairs])
        figures += await measure_list(connection, "/volume/v3/volumes/detail", "attached volumes with details")
        figures += await measure_list(connection, "/volume/v3/attachments", "attachments")
        figures += await measure_list(connection, "/volume/v3/attachments/detail", "attachments with details")
    figures.append(Figure(name="memory after all of it", value=resident_mib(pid), unit="MiB", mark=150))
    return figures


def show_latency(cycles: Sequence[Cycle]) -> list[Figure]:
    """One client, one volume."""
    post = [one.post_ms for one in cycles]
    return [
        Figure(name="POST attach, median", value=median(post), unit="ms", mark=5, note=f"1 client, n={len(cycles)}"),
        Figure(name="POST attach, p99", value=percentile(post, 99), unit="ms", mark=25),
        *spread("POST until in-use", [one.in_use_ms for one in cycles], mark=15, note="looked at every 5 ms"),
        *spread("DELETE until the answer", [one.delete_ms for one in cycles]),
        *spread("DELETE until available", [one.available_ms for one in cycles]),
    ]


async def measure_throughput(pid: int, login: Login, pairs: Sequence[tuple[str, str]]) -> list[Figure]:
    """Each client has a server and a volume of its own and goes round without a pause."""

    async def go_round(server_id: str, volume_id: str) -> tuple[int, list[Cycle]]:
        async with Connection(login) as connection:
            cycles = [await run_cycle(connection, server_id, volume_id, poll_s=POLL_S) for _ in range(CLIENT_CYCLES)]
            return connection.requests, cycles

    cpu_before, own_before, started = cpu_s(pid), time.process_time(), time.perf_counter()
    done = await asyncio.gather(*(go_round(*pair) for pair in pairs))
    took_s, own_s, kevel_s = time.perf_counter() - started, time.process_time() - own_before, cpu_s(pid) - cpu_before
    cycles = [cycle for _, mine in done for cycle in mine]
    number, requests = len(cycles), sum(count for count, _ in done)
    note = f"{len(pairs)} clients, {number} cycles, {requests / number:.1f} requests each"
    in_use, available = [one.in_use_ms for one in cycles], [one.available_ms for one in cycles]
    return [
        Figure(name="cycles a second", value=number / took_s, unit="", mark=140, at_least=True, note=note),
        Figure(name="CPU of Kevel a cycle", value=kevel_s / number * 1e3, unit="ms", mark=10),
        Figure(name="CPU of the load generator a cycle", value=own_s / number * 1e3, unit="ms"),
        Figure(name="cores busy (Kevel)", value=kevel_s / took_s, unit="", note=f"of {os.cpu_count()}"),
        Figure(name="POST until in-use, median", value=median(in_use), unit="ms", note="under that load"),
        Figure(name="DELETE until available, median", value=median(available), unit="ms", note="under that load"),
    ]


async def make_volumes(connection: Connection) -> list[str]:
    """A thousand volumes, ready to be attached."""
    answers = [
        await connection.send("POST", "/volume/v3/volumes", {"volume": {"name": f"list-{number}", "size": 1}})
        for number in range(LIST_ROWS)
    ]
    volumes = [answer.json()["volume"]["id"] for answer in answers]
    for volume_id in volumes:
        await wait_volume(connection, volume_id, "available", POLL_S)
    return volumes


async def attach_all(connection: Connection, volumes: Sequence[str], servers: Sequence[str]) -> None:
    """Attach every volume."""
    for number, volume_id in enumerate(volumes):
        path = f"/compute/v2.1/servers/{servers[number // VOLUMES_PER_SERVER]}/os-volume_attachments"
        await connection.send("POST", path, {"volumeAttachment": {"volumeId": volume_id}})
    for volume_id in volumes:
        await wait_volume(connection, volume_id, "in-use", POLL_S)


async def measure_list(connection: Connection, path: str, what: str) -> list[Figure]:
    """One list of a thousand rows, the `limit` that clients get at most."""
    taken: list[float] = []
    key = path.split("/")[3]
    for _ in range(LIST_ROUNDS):
        started = time.perf_counter()
        answer = await connection.send("GET", f"{path}?limit={LIST_ROWS}")
        taken.append((time.perf_counter() - started) * 1e3)
        assert len(answer.json()[key]) == LIST_ROWS, f"{path} lists another number of rows than {LIST_ROWS}"
    return spread(f"list of {LIST_ROWS:,} {what}", taken, mark=30)
