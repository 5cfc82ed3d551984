"""Images below the API: what servers get, the first images, crashes, and what the schema refuses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from kevel.control.images import images as control
from kevel.control.images.images import TRANSFERS_MAX, Change, Images
from kevel.control.runtime import Runtime
from kevel.domain.errors import Conflict, Invalid, NotFound, Unavailable
from kevel.domain.images import ImageStatus
from kevel.domain.limits import Limits
from kevel.domain.model import Actor
from kevel.storage.image_files import ImageFiles
from kevel.store import images as rows
from kevel.store.transactions import Tx

Files = Callable[[], list[str]]

MEMBER = Actor(user_id="u1", project_id="11" * 16, request_id="req-1")
OTHER = Actor(user_id="u2", project_id="22" * 16, request_id="req-2")
ADMIN = Actor(user_id="u3", project_id="33" * 16, request_id="req-3", is_admin=True)
RAW = {"disk_format": "raw", "container_format": "bare"}
AKI = {"disk_format": "aki", "container_format": "aki"}
ARI = {"disk_format": "ari", "container_format": "ari"}


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def make_active(images: Images, actor: Actor, values: dict[str, Any], content: bytes = b"bytes") -> str:
    image = await images.create(actor, None, values)
    await images.upload(actor, image.id, chunks(content))
    return image.id


@contextlib.asynccontextmanager
async def held_upload(images: Images, image_id: str) -> AsyncIterator[asyncio.Task[None]]:
    """An upload that has sent some bytes and waits for more; it is cancelled at the end."""
    begun, never = asyncio.Event(), asyncio.Event()

    async def hold() -> AsyncIterator[bytes]:
        yield bytes(control.BLOCK_BYTES)
        begun.set()
        await never.wait()

    task = asyncio.create_task(images.upload(MEMBER, image_id, hold()))
    await begun.wait()
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def patient(runtime: Runtime, tmp_path: Path) -> Images:
    """Images that wait long for the next chunk."""
    return Images(runtime, ImageFiles(tmp_path), Limits(upload_idle_s=30))


async def test_a_server_gets_the_files_and_formats(images: Images, tmp_path: Path) -> None:
    kernel = await make_active(images, MEMBER, AKI, b"kernel")
    ramdisk = await make_active(images, MEMBER, ARI, b"ramdisk")
    values: dict[str, Any] = {**RAW, "name": "disk", "min_disk": 1, "min_ram": 96}
    image_id = await make_active(images, MEMBER, {**values, "kernel_id": kernel, "ramdisk_id": ramdisk}, b"root")
    got = await images.get_for_server(MEMBER, image_id)
    assert (got.id, got.name, got.disk_format, got.size, got.virtual_size) == (image_id, "disk", "raw", 4, 4)
    assert (got.min_disk_gib, got.min_ram_mib) == (1, 96)
    assert got.properties == {"kernel_id": kernel, "ramdisk_id": ramdisk}
    assert got.file is not None
    assert got.kernel_file is not None
    assert got.ramdisk_file is not None
    files = [(tmp_path / name).read_bytes() for name in (got.file, got.kernel_file, got.ramdisk_file)]
    assert files == [b"root", b"kernel", b"ramdisk"]


async def test_an_ami_is_a_raw_disk(images: Images) -> None:
    image_id = await make_active(images, MEMBER, {"disk_format": "ami", "container_format": "ami"})
    got = await images.get_for_server(MEMBER, image_id)
    assert (got.disk_format, got.virtual_size, got.kernel_file, got.ramdisk_file) == ("raw", 5, None, None)


async def test_no_server_is_made_of_what_is_no_whole_visible_disk(images: Images) -> None:
    queued = (await images.create(MEMBER, None, RAW)).id
    with pytest.raises(Invalid, match="queued"):
        await images.get_for_server(MEMBER, queued)
    kernel = await make_active(images, MEMBER, AKI)
    with pytest.raises(Invalid, match="no disk"):
        await images.get_for_server(MEMBER, kernel)
    disk = await make_active(images, MEMBER, RAW)
    for image_id in (disk, "no such", "../x"):
        with pytest.raises(NotFound):
            await images.get_for_server(OTHER, image_id)
    await images.get_for_server(ADMIN, disk)


async def test_a_kernel_has_to_be_a_kernel_that_the_caller_may_see(images: Images) -> None:
    disk = await make_active(images, MEMBER, RAW)
    theirs = await make_active(images, OTHER, AKI)
    queued = (await images.create(MEMBER, None, AKI)).id
    for kernel_id in (disk, theirs, queued, "no such"):
        image_id = await make_active(images, MEMBER, {**RAW, "kernel_id": kernel_id})
        with pytest.raises(Invalid, match="kernel_id"):
            await images.get_for_server(MEMBER, image_id)


async def test_the_tiny_guest_is_registered_once_for_everybody(
    images: Images, tmp_path: Path, list_files: Files
) -> None:
    sources = {name: tmp_path / name for name in ("vmlinuz", "initrd.img", "tiny.img")}
    for name, path in sources.items():
        path.write_bytes(name.encode() * 1000)

    async def bootstrap() -> None:
        await images.bootstrap_tiny(
            ADMIN, kernel=sources["vmlinuz"], ramdisk=sources["initrd.img"], disk=sources["tiny.img"]
        )

    await bootstrap()
    first = {image.name: image for image in await images.list_visible(OTHER)}
    assert first.keys() == {"tiny", "tiny-kernel", "tiny-ramdisk"}
    got = await images.get_for_server(OTHER, first["tiny"].id)
    assert got.properties["os_command_line"].startswith("console=ttyS0")
    assert (got.kernel_file, got.ramdisk_file) == (first["tiny-kernel"].file, first["tiny-ramdisk"].file)
    assert got.kernel_file is not None
    assert (tmp_path / got.kernel_file).read_bytes() == sources["vmlinuz"].read_bytes()
    files = list_files()
    await bootstrap()
    assert {image.name: image for image in await images.list_visible(OTHER)} == first
    assert list_files() == files


async def test_a_tiny_guest_that_was_half_registered_is_completed(images: Images, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    half = await images.create(ADMIN, None, {**AKI, "name": "tiny-kernel", "visibility": "public"})
    await images.bootstrap_tiny(ADMIN, kernel=source, ramdisk=source, disk=source)
    assert (await images.show(ADMIN, half.id)).status is ImageStatus.ACTIVE
    assert len(await images.list_visible(ADMIN)) == 3


@pytest.mark.parametrize("crash", ["recorded", "partly written", "sealed", "deleted"])
async def test_a_crash_in_an_upload_leaves_an_image_that_waits_for_bytes(
    runtime: Runtime, images: Images, tmp_path: Path, list_files: Files, crash: str
) -> None:
    """The state of disk and rows after each effect of an upload is made by hand, then a new process starts."""
    kept = await make_active(images, MEMBER, RAW)
    image_id = (await images.create(MEMBER, None, RAW)).id
    file = "images/0c0c0c0c-0000-4000-8000-000000000000"
    await runtime.store.write(control._begin_upload, MEMBER, image_id, file, 0)
    writer = ImageFiles(tmp_path).create_file(file, 1000)
    if crash != "recorded":
        writer.write(b"half")
    if crash in ("sealed", "deleted"):
        writer.seal()
    if crash == "deleted":
        await runtime.store.write(control._delete_image, MEMBER, image_id, 1)
    images = Images(runtime, ImageFiles(tmp_path), Limits())
    await images.open()
    assert [f"images/{name}" for name in list_files()] == [(await images.show(MEMBER, kept)).file]
    if crash == "deleted":
        with pytest.raises(NotFound):
            await images.show(MEMBER, image_id)
        with pytest.raises(Conflict):
            await images.create(MEMBER, image_id, RAW)
    else:
        assert (await images.show(MEMBER, image_id)).status is ImageStatus.QUEUED
        await images.upload(MEMBER, image_id, chunks(b"whole"))
        assert (await images.show(MEMBER, image_id)).size_bytes == 5
    writer.abandon()


async def test_a_file_that_no_record_names_is_left_alone(runtime: Runtime, tmp_path: Path) -> None:
    stray = tmp_path / "images" / "stray"
    stray.parent.mkdir()
    stray.write_bytes(b"somebody's")
    await Images(runtime, ImageFiles(tmp_path), Limits()).open()
    assert stray.read_bytes() == b"somebody's"


async def test_a_cancelled_upload_leaves_an_image_that_waits_for_bytes(patient: Images, list_files: Files) -> None:
    await patient.open()
    image_id = (await patient.create(MEMBER, None, RAW)).id
    async with held_upload(patient, image_id) as task:
        assert (await patient.show(MEMBER, image_id)).status is ImageStatus.SAVING
        task.cancel()
        await asyncio.wait([task])
    assert (await patient.show(MEMBER, image_id)).status is ImageStatus.QUEUED
    assert list_files() == []


async def test_an_upload_that_nobody_carries_on_gives_way_to_the_next(
    runtime: Runtime, images: Images, tmp_path: Path, list_files: Files
) -> None:
    image_id = (await images.create(MEMBER, None, RAW)).id
    file = "images/0c0c0c0c-0000-4000-8000-000000000000"
    await runtime.store.write(control._begin_upload, MEMBER, image_id, file, 0)
    writer = ImageFiles(tmp_path).create_file(file, 1000)
    writer.write(b"half")
    await images.upload(MEMBER, image_id, chunks(b"whole"))
    shown = await images.show(MEMBER, image_id)
    assert (shown.status, shown.size_bytes) == (ImageStatus.ACTIVE, 5)
    assert [f"images/{name}" for name in list_files()] == [shown.file]
    writer.abandon()
    with pytest.raises(NotFound):
        writer.write(b"late")


async def test_uploads_at_a_time_are_bounded(patient: Images) -> None:
    await patient.open()
    async with contextlib.AsyncExitStack() as held:
        for _ in range(TRANSFERS_MAX):
            image_id = (await patient.create(MEMBER, None, RAW)).id
            await held.enter_async_context(held_upload(patient, image_id))
        one_more = (await patient.create(MEMBER, None, RAW)).id
        with pytest.raises(Unavailable):
            await patient.upload(MEMBER, one_more, chunks(b"x"))
    await patient.upload(MEMBER, one_more, chunks(b"x"))


async def test_downloads_at_a_time_are_bounded(images: Images) -> None:
    image_id = await make_active(images, MEMBER, RAW)
    streams = [(await images.download(MEMBER, image_id)).stream for _ in range(TRANSFERS_MAX)]
    with pytest.raises(Unavailable):
        await images.download(MEMBER, image_id)
    for stream in streams:
        assert stream is not None
        assert [part async for part in stream] == [b"bytes"]
    assert (await images.download(MEMBER, image_id)).stream is not None


async def test_an_image_without_its_file_is_an_error_and_not_a_hole(
    images: Images, tmp_path: Path, list_files: Files
) -> None:
    image_id = await make_active(images, MEMBER, RAW)
    (name,) = list_files()
    (tmp_path / "images" / name).unlink()
    with pytest.raises(NotFound, match="bytes"):
        await images.download(MEMBER, image_id)
    await images.delete(MEMBER, image_id)


async def test_a_change_keeps_what_it_does_not_name(images: Images) -> None:
    image_id = await make_active(images, MEMBER, {**RAW, "os_distro": "debian"})
    before = await images.show(MEMBER, image_id)
    after = await images.change(MEMBER, image_id, [Change("add", "name", "new")])
    assert (after.name, after.properties, after.file, after.sha512) == (
        "new",
        before.properties,
        before.file,
        before.sha512,
    )
    assert after.updated_at > before.updated_at


@pytest.mark.parametrize(
    "change",
    [
        "status = 'active', file = NULL",
        "sha512 = NULL",
        "size_bytes = NULL",
        "disk_format = NULL",
        "status = 'saving', file = NULL",
        "status = 'queued'",
        "status = 'killed'",
        "visibility = 'everybody'",
    ],
)
async def test_the_schema_refuses_an_image_that_cannot_be(images: Images, runtime: Runtime, change: str) -> None:
    image_id = await make_active(images, MEMBER, RAW)

    def write(tx: Tx) -> None:
        tx.execute(text(f"UPDATE images SET {change} WHERE id = :id"), {"id": image_id})  # noqa: S608 - see above

    with pytest.raises(IntegrityError):
        await runtime.store.write(write)


async def test_two_images_never_share_a_file(images: Images, runtime: Runtime) -> None:
    first, second = [await make_active(images, MEMBER, RAW) for _ in range(2)]
    file = (await images.show(MEMBER, first)).file

    def write(tx: Tx) -> None:
        tx.execute(text("UPDATE images SET file = :file WHERE id = :id"), {"file": file, "id": second})

    with pytest.raises(IntegrityError):
        await runtime.store.write(write)
    assert await runtime.store.read(rows.list_doomed_files) == []
