"""The image API over a store and files in a temporary directory."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from kevel.api.image import API
from kevel.control.images.images import Images
from kevel.control.runtime import Runtime
from kevel.domain.limits import Limits
from kevel.storage.image_files import ImageFiles
from tests.integration.stand import make_app, make_client, open_runtime

IMAGE_BYTES_MAX = 8 * 1024 * 1024

Connect = Callable[[str], httpx.AsyncClient]


def make_qcow2(path: Path, *options: str, size: str | None = "1G") -> bytes:
    """An empty qcow2 image as qemu-img makes it."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), *([size] if size else [])]
    subprocess.run(command, check=True, timeout=30, capture_output=True)
    return path.read_bytes()


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_runtime(tmp_path) as opened:
        yield opened


@pytest.fixture
async def images(runtime: Runtime, tmp_path: Path) -> Images:
    limits = Limits(image_bytes_max=IMAGE_BYTES_MAX, images_per_project_max=20)
    opened = Images(runtime, ImageFiles(tmp_path), limits)
    await opened.open()
    return opened


@pytest.fixture
async def connect(runtime: Runtime, images: Images) -> AsyncIterator[Connect]:
    """Clients of the image API by caller: reader, member, other, admin, unscoped."""
    app = make_app(API, runtime, images=images)
    async with AsyncExitStack() as clients:
        opened = {name: make_client(app, name) for name in ("reader", "member", "other", "admin", "unscoped", "forged")}
        for client in opened.values():
            await clients.enter_async_context(client)
        yield opened.__getitem__


@pytest.fixture
def member(connect: Connect) -> httpx.AsyncClient:
    return connect("member")


@pytest.fixture
def list_files(tmp_path: Path) -> Callable[[], list[str]]:
    """Names of the files that hold images' bytes now, whole or not."""
    return lambda: sorted(path.name for path in (tmp_path / "images").iterdir())
