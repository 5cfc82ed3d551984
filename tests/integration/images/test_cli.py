"""The real `openstack` command: images and flavors, as the README's user types them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import uvicorn

from kevel.api.app import APIS, KevelApp
from kevel.control.hosts.services import Services
from kevel.control.identity.identity import Identity
from kevel.control.images.images import Images
from kevel.control.servers.flavors import Flavors
from kevel.domain.limits import Limits
from kevel.storage.image_files import ImageFiles
from tests.answers import checked
from tests.integration.identity.test_cli import Cli, Served
from tests.integration.images.conftest import make_qcow2
from tests.integration.stand import open_runtime
from tests.openstack_command import CommandFailed


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Cli]:
    async with open_runtime(tmp_path) as runtime:
        identity, flavors = Identity(runtime), Flavors(runtime)
        images = Images(runtime, ImageFiles(tmp_path), Limits())
        await images.open()
        await flavors.bootstrap()
        services = SimpleNamespace(runtime=runtime, identity=identity, images=images, flavors=flavors)
        app = KevelApp(cast("Services", services), [checked(api) for api in APIS])
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_level="warning"))
        task = asyncio.create_task(server.serve())
        while not server.started:
            assert not task.done(), "the server ended"
            await asyncio.sleep(0.01)
        origin = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        password = await identity.bootstrap(origin)
        assert password is not None
        served = Served(origin, password)
        yield served.admin
        await served.close()
        server.should_exit = True
        await task


async def test_images_are_created_listed_shown_saved_and_deleted(admin: Cli, tmp_path: Path) -> None:
    raw, qcow2, saved = tmp_path / "disk.raw", tmp_path / "disk.qcow2", tmp_path / "saved"
    raw.write_bytes(os.urandom(5 * 1024 * 1024))
    make_qcow2(qcow2, size="64M")
    made = await admin.show(
        "image", "create", "kernel", "--file", str(raw), "--disk-format", "aki", "--container-format", "aki"
    )
    assert (made["status"], made["disk_format"], made["size"]) == ("active", "aki", 5 * 1024 * 1024)
    words = ("--file", str(raw), "--public", "--property", f"kernel_id={made['id']}", "--tag", "t", "--min-ram", "96")
    made = await admin.show("image", "create", "disk", *words)
    assert (made["status"], made["disk_format"], made["visibility"], made["tags"]) == ("active", "raw", "public", ["t"])
    made = await admin.show("image", "create", "cow", "--file", str(qcow2), "--disk-format", "qcow2")
    assert (made["status"], made["virtual_size"]) == ("active", 64 * 1024 * 1024)
    listed = await admin.show("image", "list")
    assert sorted((item["Name"], item["Status"]) for item in listed) == [
        ("cow", "active"),
        ("disk", "active"),
        ("kernel", "active"),
    ]
    shown = await admin.show("image", "show", "disk")
    assert shown["properties"]["kernel_id"] == next(item["ID"] for item in listed if item["Name"] == "kernel")
    assert (await admin.run("image", "save", "disk", "--file", str(saved))) == ""
    assert saved.read_bytes() == raw.read_bytes()
    await admin.run("image", "set", "disk", "--name", "root", "--property", "os_distro=debian")
    await admin.run("image", "unset", "root", "--property", "kernel_id", "--tag", "t")
    shown = await admin.show("image", "show", "root")
    assert (shown["properties"]["os_distro"], shown["tags"]) == ("debian", [])
    assert "kernel_id" not in shown["properties"]
    assert (await admin.run("image", "delete", "root", "cow", "kernel")) == ""
    assert await admin.show("image", "list") == []


async def test_a_bad_image_is_refused_with_its_reason(admin: Cli, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.qcow2"
    make_qcow2(overlay, "-u", "-b", "/etc/passwd", "-F", "raw")
    with pytest.raises(CommandFailed, match="backing file"):
        await admin.run("image", "create", "bad", "--file", str(overlay), "--disk-format", "qcow2")
    with pytest.raises(CommandFailed, match="No Image found for nobody"):
        await admin.run("image", "show", "nobody")


async def test_flavors_are_created_listed_shown_and_deleted(admin: Cli) -> None:
    listed = await admin.show("flavor", "list")
    assert [(item["ID"], item["Name"]) for item in listed] == [("1", "m1.tiny"), ("2", "m1.small"), ("tiny", "tiny")]
    words = ("--ram", "128", "--disk", "1", "--vcpus", "1", "--property", "a=b", "--description", "d", "--private")
    made = await admin.show("flavor", "create", "nano", *words)
    shown = await admin.show("flavor", "show", "nano")
    assert (shown["id"], shown["ram"], shown["description"]) == (made["id"], 128, "d")
    assert (shown["properties"], shown["os-flavor-access:is_public"]) == ({"a": "b"}, False)
    assert "nano" in [item["Name"] for item in await admin.show("flavor", "list", "--all", "--long")]
    assert (await admin.run("flavor", "delete", "nano")) == ""
    with pytest.raises(CommandFailed, match="nano"):
        await admin.run("flavor", "show", "nano")
