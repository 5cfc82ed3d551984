"""A crowd against `kevel up` on the simulated host: `python -m tests.crowd --help`. Exit code 1: it found something."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from kevel.cli.client import HEADERS, ApiError, Cloud
from kevel.cli.process import KevelProcess
from kevel.storage.marks import MARK_FILE
from tests.crowd.audit import find_unjust
from tests.crowd.users import Shared, User

SERVERS: Final = 20
TIMEOUT_S: Final = 60.0
SETTLE_S: Final = 60.0
SHOWN_MAX: Final = 20


def main() -> int:
    """Run a crowd, empty the place, tell what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.crowd", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1, help="what users ask for; timing still differs")
    wanted = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="kv-"))
    kevel = KevelProcess(root / "d", "--hypervisor", "sim")
    try:
        cloud = kevel.start()
        shared, problems = run_crowd(cloud, root / "d" / "kevel.db", wanted.users, wanted.minutes * 60, wanted.seed)
    finally:
        kevel.kill()
        shutil.rmtree(root, ignore_errors=True)
    for name, count in sorted(shared.answers.items()):
        sys.stdout.write(f"{name}: {count}\n")
    for line in problems[:SHOWN_MAX]:
        sys.stdout.write(f"PROBLEM {line}\n")
    requests, refused = sum(shared.answers.values()), len(shared.refusals)
    sys.stdout.write(f"{wanted.users} users, {requests} requests, {refused} refused, {len(problems)} problems\n")
    return 1 if problems else 0


def run_crowd(cloud: Cloud, database: Path, users: int, seconds: float, seed: int) -> tuple[Shared, list[str]]:
    """What the users did, and what was wrong with the answers or left at the end."""
    servers = [cloud.create_server(f"crowd-{number}", image="judge", flavor="tiny") for number in _furnish(cloud)]
    for server_id in servers:
        cloud.wait_server(server_id, "ACTIVE", SETTLE_S)
    shared = Shared(servers)
    asyncio.run(_ask_all(cloud, shared, users, seconds, seed))
    problems = [*shared.broken, *empty(cloud, database)]
    problems += find_unjust(database, shared.refusals)
    return shared, problems


def _furnish(cloud: Cloud) -> range:
    client = cloud.client
    image = {"name": "judge", "disk_format": "raw", "container_format": "bare", "visibility": "public"}
    image_id = client.post("/image/v2/images", image)["id"]
    headers = {"Content-Type": "application/octet-stream"}
    client.http.put(f"/image/v2/images/{image_id}/file", content=bytes(1 << 20), headers=headers).raise_for_status()
    return range(SERVERS)


async def _ask_all(cloud: Cloud, shared: Shared, users: int, seconds: float, seed: int) -> None:
    known = cloud.client.http
    limits = httpx.Limits(max_connections=users, max_keepalive_connections=users)
    headers = {**HEADERS, "X-Auth-Token": known.headers["X-Auth-Token"]}
    async with httpx.AsyncClient(
        base_url=known.base_url, headers=headers, timeout=TIMEOUT_S, limits=limits, trust_env=False
    ) as http:
        ends_at = time.monotonic() + seconds
        crowd = [User(http, shared, random.Random(f"{seed}/{number}"), 2 * users) for number in range(users)]
        tasks = [asyncio.create_task(user.run(ends_at)) for user in crowd]
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(f"{users} users", total=seconds)
            while time.monotonic() < ends_at:
                await asyncio.sleep(0.5)
                progress.update(
                    task,
                    completed=seconds - (ends_at - time.monotonic()),
                    description=f"{sum(shared.answers.values())} requests",
                )
        await asyncio.gather(*tasks)


def empty(cloud: Cloud, database: Path) -> list[str]:
    """Delete everything, and say what does not go: records, or files."""
    client = cloud.client
    for server in client.get("/compute/v2.1/servers?all_tenants=1")["servers"]:
        client.delete(f"/compute/v2.1/servers/{server['id']}")
    deadline = time.monotonic() + SETTLE_S
    while True:
        snapshots = client.get("/volume/v3/snapshots/detail?all_tenants=1")["snapshots"]
        volumes = client.get("/volume/v3/volumes/detail?all_tenants=1")["volumes"]
        servers = client.get("/compute/v2.1/servers?all_tenants=1")["servers"]
        if not snapshots and not volumes and not servers:
            break
        if time.monotonic() > deadline:
            left = [f"snapshot {one['id']} is {one['status']}" for one in snapshots]
            left += [f"volume {one['id']} is {one['status']}" for one in volumes]
            return left + [f"server {one['id']} is left" for one in servers]
        with contextlib.suppress(ApiError):
            for one in snapshots:
                if one["status"] == "available":
                    client.delete(f"/volume/v3/snapshots/{one['id']}")
            for one in volumes:
                if one["status"] == "available" and not any(
                    snapshot["volume_id"] == one["id"] for snapshot in snapshots
                ):
                    client.delete(f"/volume/v3/volumes/{one['id']}")
        time.sleep(0.2)
    pool = database.parent / "volumes"
    files = [path for path in (pool.iterdir() if pool.is_dir() else ()) if path.is_file()]
    return [f"file {path.name} is left" for path in files if path.name != MARK_FILE]


if __name__ == "__main__":
    sys.exit(main())
