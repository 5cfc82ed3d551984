"""A full disk: what needs space is refused, what frees something goes through."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import httpx

from kevel.cli.config import Config
from kevel.cli.data_dir import DataDir
from kevel.cli.up import running
from kevel.hypervisor.sim import SimHypervisor


async def test_without_spare_space_nothing_is_taken_on_and_everything_can_be_let_go_of() -> None:
    with tempfile.TemporaryDirectory(prefix="kv-") as name:
        directory = DataDir(Path(name))
        directory.open()
        transport_url = "http://kevel"
        async with running(Config(), directory, transport_url, SimHypervisor()) as kevel:
            transport = httpx.ASGITransport(kevel.app)
            async with httpx.AsyncClient(transport=transport, base_url=transport_url) as client:
                client.headers["X-Auth-Token"] = await log_in(client, directory.read_admin_password() or "")
                made = await client.post("/volume/v3/volumes", json={"volume": {"size": 1}})
                assert made.status_code == 202
                await asyncio.sleep(0.5)
                os.truncate(directory.ballast, 0)
                refused = await client.post("/volume/v3/volumes", json={"volume": {"size": 1}})
                assert refused.status_code == 413
                assert "short of disk space" in refused.json()["overLimit"]["message"]
                assert len((await client.get("/volume/v3/volumes")).json()["volumes"]) == 1
                path = f"/volume/v3/volumes/{made.json()['volume']['id']}"
                assert (await client.post(f"{path}/action", json={"os-extend": {"new_size": 2}})).status_code == 413
                assert (await client.delete(path)).status_code == 202
        directory.close()


async def log_in(client: httpx.AsyncClient, password: str) -> str:
    domain = {"name": "Default"}
    user = {"name": "admin", "password": password, "domain": domain}
    identity = {"methods": ["password"], "password": {"user": user}}
    body = {"auth": {"identity": identity, "scope": {"project": {"name": "admin", "domain": domain}}}}
    return (await client.post("/identity/v3/auth/tokens", json=body)).headers["X-Subject-Token"]
