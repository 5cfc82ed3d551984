"""S10: a secret inside connection_info reaches the host that needs it, and nobody and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kevel.api.app import APIS
from kevel.cli.config import Config
from kevel.cli.data_dir import DataDir
from kevel.cli.up import Kevel, find_admin, running
from kevel.hypervisor.sim import SimHypervisor
from kevel.storage import directory
from kevel.storage.base import ConnectionInfo, LocalDisk, VolumeFile
from kevel.storage.volume_files import name_file
from kevel.store.attachments import open_of_volume

SECRET = "planted-chap-secret"
ADDRESS = "http://kevel.test"


class Eavesdropper(directory.DirectoryConnector):
    """The host's side, which remembers what it was given."""

    heard: list[ConnectionInfo] = []  # noqa: RUF012 - one for the one host of this module

    async def connect_volume(self, volume: VolumeFile, info: ConnectionInfo) -> LocalDisk:
        self.heard.append(info)
        return await super().connect_volume(volume, info)


def describe_with_secret(volume: VolumeFile, _pool: str | None) -> ConnectionInfo:
    data = {"name": name_file(volume.volume_id), "format": volume.format, "auth_password": SECRET}
    return {"driver_volume_type": "file", "data": data}


@pytest.fixture
async def kevel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kevel]:
    monkeypatch.setattr(directory, "_describe", describe_with_secret)
    monkeypatch.setattr("kevel.cli.up.DirectoryConnector", Eavesdropper)
    Eavesdropper.heard.clear()
    data = DataDir(tmp_path / "data")
    data.open()
    try:
        async with running(Config(guest=str(tmp_path / "none")), data, ADDRESS, SimHypervisor()) as kevel:
            yield kevel
    finally:
        data.close()


@pytest.fixture
async def client(kevel: Kevel, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The admin, who may see everything there is to see."""
    password = (tmp_path / "data/admin-password").read_text().strip()
    user = {"name": "admin", "domain": {"id": "default"}, "password": password}
    scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
    transport = httpx.ASGITransport(app=kevel.app)
    async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
        answer = await client.post("/identity/v3/auth/tokens", json=body)
        assert answer.status_code == 201, answer.text
        client.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
        yield client


async def image_bytes() -> AsyncIterator[bytes]:
    yield bytes(512)


async def until_status(client: httpx.AsyncClient, url: str, kind: str, wanted: str) -> None:
    async with asyncio.timeout(10):
        while (await client.get(url)).json()[kind]["status"] != wanted:
            await asyncio.sleep(0.01)


async def attach(kevel: Kevel, client: httpx.AsyncClient) -> dict[str, str]:
    """A server with a plugged volume; the ids by the names that paths give them."""
    admin = await kevel.services.runtime.store.read(find_admin)
    wanted = {"name": "disk", "disk_format": "raw", "container_format": "bare"}
    image = await kevel.services.images.create(admin, None, wanted)
    await kevel.services.images.upload(admin, image.id, image_bytes())
    flavors: list[dict[str, Any]] = (await client.get("/compute/v2.1/flavors")).json()["flavors"]
    server = {"name": "web", "flavorRef": flavors[0]["id"], "imageRef": image.id, "networks": "none"}
    made = await client.post(
        "/compute/v2.1/servers", json={"server": server}, headers={"OpenStack-API-Version": "compute 2.100"}
    )
    assert made.status_code == 202, made.text
    server_id = made.json()["server"]["id"]
    volume_id = (await client.post("/volume/v3/volumes", json={"volume": {"size": 1}})).json()["volume"]["id"]
    await until_status(client, f"/compute/v2.1/servers/{server_id}", "server", "ACTIVE")
    await until_status(client, f"/volume/v3/volumes/{volume_id}", "volume", "available")
    asked = await client.post(
        f"/compute/v2.1/servers/{server_id}/os-volume_attachments", json={"volumeAttachment": {"volumeId": volume_id}}
    )
    assert asked.status_code == 200, asked.text
    assert SECRET not in asked.text
    await until_status(client, f"/volume/v3/volumes/{volume_id}", "volume", "in-use")
    (view,) = await kevel.services.runtime.store.read(open_of_volume, volume_id)
    return {"server_id": server_id, "volume_id": volume_id, "attachment_id": view.attachment.id}


def readable(ids: dict[str, str]) -> list[tuple[str, str]]:
    """Every GET of every API whose path the ids can fill, with its newest microversion."""
    found = []
    for api in APIS:
        newest = "" if api.versions is None else f"{api.version_service} {api.versions[1][0]}.{api.versions[1][1]}"
        for operation in api.operations:
            if operation.method == "GET" and not operation.path.startswith("/@"):
                path = operation.path
                for name, value in ids.items():
                    path = path.replace(f"{{{name}}}", value)
                if "{" not in path:
                    found.append((api.prefix + path, newest))
    return found


async def test_s10_a_secret_of_an_export_is_in_no_answer_no_file_and_no_log(
    kevel: Kevel, client: httpx.AsyncClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = await attach(kevel, client)
    assert any(info["data"]["auth_password"] == SECRET for info in Eavesdropper.heard), "the host got it"

    urls = readable(ids)
    named = [url for url, _ in urls if any(value in url for value in ids.values())]
    assert len(named) >= 10, "attachments, servers and volumes are among them"
    for url, version in urls:
        answer = await client.get(url, headers={"OpenStack-API-Version": version} if version else {})
        assert answer.status_code < 500, (url, answer.text)
        assert SECRET not in answer.text + str(answer.headers), url

    read = [path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.stat().st_size < 10**8]
    assert any(path.name.startswith("kevel.db") for path in read)
    for path in read:
        assert SECRET.encode() not in path.read_bytes(), path
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
