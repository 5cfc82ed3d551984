"""The work that is measured: attach a volume and see it `in-use`, detach it and see it `available`."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec

from benchmarks.http import Connection
from kevel.domain.errors import KevelError

WAIT_S_MAX: Final = 30.0


class Cycle(msgspec.Struct, frozen=True):
    """One attach and one detach, in milliseconds since their requests."""

    post_ms: float
    in_use_ms: float
    delete_ms: float
    available_ms: float


async def run_cycle(
    connection: Connection, server_id: str, volume_id: str, *, poll_s: float, settle_s: float = 0.0
) -> Cycle:
    """Attach, wait `settle_s`, detach; look at the volume every `poll_s`."""
    path = f"/compute/v2.1/servers/{server_id}/os-volume_attachments"
    started = time.perf_counter()
    await connection.send("POST", path, {"volumeAttachment": {"volumeId": volume_id}})
    answered = time.perf_counter()
    in_use = await wait_volume(connection, volume_id, "in-use", poll_s)
    await asyncio.sleep(settle_s)
    asked = time.perf_counter()
    await connection.send("DELETE", f"{path}/{volume_id}")
    accepted = time.perf_counter()
    available = await wait_volume(connection, volume_id, "available", poll_s)
    return Cycle(
        post_ms=(answered - started) * 1e3,
        in_use_ms=(in_use - started) * 1e3,
        delete_ms=(accepted - asked) * 1e3,
        available_ms=(available - asked) * 1e3,
    )


async def wait_volume(connection: Connection, volume_id: str, wanted: str, poll_s: float) -> float:
    """Look at the volume every `poll_s` until it has the status; when that was. KevelError after `WAIT_S_MAX`."""
    deadline = time.perf_counter() + WAIT_S_MAX
    wanted_bytes = f'"status":"{wanted}"'.encode()
    while True:
        answer = await connection.send("GET", f"/volume/v3/volumes/{volume_id}")
        now = time.perf_counter()
        if wanted_bytes in answer.body:
            return now
        if now > deadline:
            status = answer.json()["volume"]["status"]
            raise KevelError(f"Volume {volume_id} is still {status}, not {wanted}, after {WAIT_S_MAX:g} s.")
        await asyncio.sleep(poll_s)
