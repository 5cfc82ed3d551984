"""Images: the records, their bytes, and what servers get of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from kevel.control.runtime import Runtime
from kevel.domain.errors import CallerError, Conflict, Forbidden, Invalid, NotFound, OverLimit, Unavailable
from kevel.domain.images import (
    ATTRIBUTES,
    ATTRIBUTES_OF_IMAGES,
    READ_ONLY,
    TAG_CHARS_MAX,
    DiskFormat,
    Image,
    ImageForServer,
    ImageStatus,
    Visibility,
    check_formats,
    may_change,
    may_see,
    remove_property,
    set_attribute,
)
from kevel.domain.limits import Limits
from kevel.domain.model import Actor, Volume
from kevel.domain.qcow2 import Qcow2Error, parse_qcow2
from kevel.storage.image_files import ImageFiles, ImageWriter, WrittenBytes
from kevel.store import images as rows
from kevel.store.transactions import Tx

log = structlog.get_logger(__name__)

#: Uploads at a time, and downloads at a time: each holds a file, a buffer and now and then a thread.
TRANSFERS_MAX: Final = 16
#: Bytes that go to the disk in one call.
BLOCK_BYTES: Final = 1024 * 1024
#: Disk formats that a server's root disk can be made of, and what they are to a hypervisor.
KERNEL: Final = ("kernel_id", DiskFormat.AKI)
RAMDISK: Final = ("ramdisk_id", DiskFormat.ARI)
_ROOT_FORMATS: Final = {DiskFormat.RAW: "raw", DiskFormat.AMI: "raw", DiskFormat.QCOW2: "qcow2"}


class UploadStalled(CallerError):
    """Nothing has come of the upload for too long."""

    status = 408


class Change(NamedTuple):
    """One step of a patch: "add", "replace" or "remove" one attribute or custom property."""

    verb: str
    name: str
    value: object = None


class ImageBytes(NamedTuple):
    """An image's bytes, to be read once."""

    image: Image
    #: None while the image has no bytes.
    stream: AsyncIterator[bytes] | None


class Images:
    """The use cases. Every check stands in the transaction that also writes (S9)."""

    def __init__(self, runtime: Runtime, files: ImageFiles, limits: Limits) -> None:
        self._runtime = runtime
        self._files = files
        self._limits = limits
        self._uploads: set[str] = set()
        self._downloads: set[int] = set()

    async def open(self) -> None:
        """Make ready: end what an earlier process left half done. To be called before the first request."""
        run = self._runtime.executor.run
        await run(self._files.open)
        for file in await self._runtime.store.read(rows.list_doomed_files):
            await self._remove_file(file)
        present = await run(self._files.list_files)
        for file in await self._runtime.store.read(rows.find_unknown_files, present):
            # Never removed: an older database that was put back knows nothing of newer images.
            log.warning("no image is recorded for this file", file=file)

    async def list_visible(self, actor: Actor) -> list[Image]:
        """All images that the actor may see, hidden ones and other projects' community images included."""
        return await self._runtime.store.read(rows.list_images, project_id=None if actor.is_admin else actor.project_id)

    async def show(self, actor: Actor, image_id: str) -> Image:
        """One image. Raises NotFound."""
        return await self._runtime.store.read(_load_visible, actor, image_id)

    async def create(self, actor: Actor, image_id: str | None, values: Mapping[str, object]) -> Image:
        """Enter an image without bytes. `values` are attributes and properties by Glance's names."""
        now = self._runtime.clock.now_us()
        image = _blank_image(image_id or self._runtime.ids.uuid(), actor.project_id, now)
        for name, value in values.items():
            image = set_attribute(actor, image, name, value)
        check_formats(image)
        await self._runtime.store.write(_create_image, image, self._limits.images_per_project_max)
        return image

    async def change(self, actor: Actor, image_id: str, changes: Sequence[Change]) -> Image:
        """Carry out the changes, all or none."""
        return await self._runtime.store.write(_change_image, actor, image_id, changes, self._runtime.clock.now_us())

    async def add_tag(self, actor: Actor, image_id: str, tag: str) -> None:
        """Put a tag on the image; an image has each tag once."""
        await self._runtime.store.write(_add_tag, actor, image_id, tag, self._runtime.clock.now_us())

    async def remove_tag(self, actor: Actor, image_id: str, tag: str) -> None:
        """Take a tag off the image. Raises NotFound when it has none such."""
        await self._runtime.store.write(_remove_tag, actor, image_id, tag, self._runtime.clock.now_us())

    async def set_active(self, actor: Actor, image_id: str, *, active: bool) -> None:
        """Shut a complete image's bytes off from use, or open them again. Raises Forbidden when it is not complete."""
        now = self._runtime.clock.now_us()
        await self._runtime.store.write(_set_active, actor, image_id, active=active, now=now)

    async def delete(self, actor: Actor, image_id: str) -> None:
        """Delete the image. Servers that were made from it have disks of their own.

        Raises Conflict while a server has not copied it yet, and for the kernel or ramdisk that a server boots from.
        """
        now = self._runtime.clock.now_us()
        file = await self._runtime.store.write(_delete_image, actor, image_id, now)
        # The file of an upload under way is removed by the upload, which finds its image gone.
        if file is not None and file not in self._uploads:
            await self._remove_file(file)

    async def upload(
        self, actor: Actor, image_id: str, chunks: AsyncIterator[bytes], declared_bytes: int | None = None
    ) -> None:
        """Fill a queued image. When this returns the image is active; when it raises, the image is queued again.

        Raises Conflict for an image that is not queued, Invalid for bytes that are not what was declared, OverLimit
        when they are too many or the disk is full, UploadStalled.
        """
        if declared_bytes is not None and declared_bytes > self._limits.image_bytes_max:
            raise OverLimit(f"The image is too large; the most is {self._limits.image_bytes_max} bytes.")
        await self._end_lost_upload(actor, image_id)
        file = self._files.name_file(self._runtime.ids.uuid())
        with self._take_upload(file):
            now = self._runtime.clock.now_us()
            image = await self._runtime.store.write(_begin_upload, actor, image_id, file, now)
            writer = self._files.create_file(file, self._limits.image_bytes_max)
            try:
                await self._receive(writer, chunks)
                written = await self._runtime.executor.run(writer.written)
                filled = _fill_image(image, written, declared_bytes)
                await self._runtime.executor.run(writer.seal)
            except BaseException:
                await self._abandon(file, writer)
                raise
            now = self._runtime.clock.now_us()
            try:
                await self._runtime.store.write(_finish_upload, filled, now)
            except Exception:
                # Not when this task is cancelled: the commit may still come, and then the file is the image's.
                await self._abandon(file, writer)
                raise

    async def download(self, actor: Actor, image_id: str) -> ImageBytes:
        """The image's bytes. They stay readable to the end, even if the image is deleted meanwhile."""
        image = await self.show(actor, image_id)
        if image.status is ImageStatus.DEACTIVATED:
            raise Forbidden(f"Image {image_id} is deactivated; its bytes can be read when it is active again.")
        if image.status is not ImageStatus.ACTIVE or image.file is None:
            return ImageBytes(image, None)
        if len(self._downloads) >= TRANSFERS_MAX:
            raise Unavailable(f"{TRANSFERS_MAX} images are being downloaded already; try again later.")
        stream = self._read_blocks(image.file)
        # Runs up to the first, empty block: the file is open now, and whoever drops the stream closes it.
        await anext(stream)
        return ImageBytes(image, stream)

    async def get_for_server(self, actor: Actor, image_id: str) -> ImageForServer:
        """What a server is made of. Raises NotFound, or Invalid when no server can be made of it."""
        return await self._runtime.store.read(_load_for_server, actor, image_id)

    async def bootstrap_tiny(self, actor: Actor, *, kernel: Path, ramdisk: Path, disk: Path) -> None:
        """Register the tiny guest as public images `tiny`, `tiny-kernel` and `tiny-ramdisk` of the actor's project.

        What is there already is left as it is. The actor has to be an admin.
        """
        kernel_id = await self._register(
            actor, "tiny-kernel", kernel, {"disk_format": "aki", "container_format": "aki"}
        )
        ramdisk_id = await self._register(
            actor, "tiny-ramdisk", ramdisk, {"disk_format": "ari", "container_format": "ari"}
        )
        values = {"disk_format": "raw", "container_format": "bare", "min_ram": 96}
        values |= {"kernel_id": kernel_id, "ramdisk_id": ramdisk_id}
        values |= {"os_command_line": "console=ttyS0 panic=-1 quiet cryptomgr.notests nokaslr"}
        await self._register(actor, "tiny", disk, values)

    async def _register(self, actor: Actor, name: str, source: Path, values: Mapping[str, object]) -> str:
        image = await self._runtime.store.read(rows.find_image, name=name, project_id=actor.project_id)
        if image is None:
            image = await self.create(actor, None, {"name": name, "visibility": "public", **values})
        if image.status is ImageStatus.QUEUED:
            await self.upload(actor, image.id, self._read_source(source))
        return image.id

    @contextmanager
    def _take_upload(self, file: str) -> Iterator[None]:
        if len(self._uploads) >= TRANSFERS_MAX:
            raise Unavailable(f"{TRANSFERS_MAX} images are being uploaded already; try again later.")
        self._uploads.add(file)
        try:
            yield
        finally:
            self._uploads.discard(file)

    async def _receive(self, writer: ImageWriter, chunks: AsyncIterator[bytes]) -> None:
        """Write the chunks in blocks, so that small chunks do not cost a thread's turn each."""
        block = bytearray()
        ended = False
        while not ended:
            try:
                async with asyncio.timeout(self._limits.upload_idle_s):
                    block += await anext(chunks)
            except StopAsyncIteration:
                ended = True
            except TimeoutError as error:
                raise UploadStalled(f"Nothing came of the upload for {self._limits.upload_idle_s:g} s.") from error
            if len(block) >= BLOCK_BYTES or (ended and block):
                await self._runtime.executor.run(writer.write, bytes(block))
                block.clear()

    async def _end_lost_upload(self, actor: Actor, image_id: str) -> None:
        """An upload that nobody carries on (its task was cancelled, or its file could not be removed) is undone."""
        image = await self.show(actor, image_id)
        if image.status is ImageStatus.SAVING and image.file is not None and image.file not in self._uploads:
            if image.file in await self._runtime.store.read(rows.files_of_volumes):
                raise Conflict(f"Image {image_id} is being made of a volume; it takes no bytes.")
            await self._remove_file(image.file)

    async def _abandon(self, file: str, writer: ImageWriter) -> None:
        await self._runtime.executor.run(writer.abandon)
        await self._remove_file(file)

    async def _remove_file(self, file: str) -> None:
        """Remove the file, then forget it. What fails here is done at the next upload or start: the record names it."""
        try:
            await self._runtime.executor.run(self._files.remove_file, file)
            await self._runtime.store.write(rows.forget_file, file)
        except (OSError, Unavailable):
            log.exception("an image's file could not be removed", file=file)

    async def _read_blocks(self, file: str) -> AsyncIterator[bytes]:
        descriptor = await self._runtime.executor.run(self._files.open_file, file)
        self._downloads.add(descriptor)
        try:
            yield b""
            async for block in self._read_all(descriptor):
                yield block
        finally:
            self._downloads.discard(descriptor)
            self._files.close_file(descriptor)

    async def _read_source(self, source: Path) -> AsyncIterator[bytes]:
        descriptor = await self._runtime.executor.run(self._files.open_source, source)
        try:
            async for block in self._read_all(descriptor):
                yield block
        finally:
            self._files.close_file(descriptor)

    async def _read_all(self, descriptor: int) -> AsyncIterator[bytes]:
        at = 0
        while block := await self._runtime.executor.run(self._files.read_block, descriptor, at, BLOCK_BYTES):
            yield block
            at += len(block)


def _blank_image(image_id: str, project_id: str, now: int) -> Image:
    return Image(
        id=image_id,
        name=None,
        project_id=project_id,
        status=ImageStatus.QUEUED,
        visibility=Visibility.SHARED,
        disk_format=None,
        container_format=None,
        size_bytes=None,
        virtual_bytes=None,
        md5=None,
        sha512=None,
        min_disk_gib=0,
        min_ram_mib=0,
        protected=False,
        hidden=False,
        properties={},
        tags=(),
        file=None,
        created_at=now,
        updated_at=now,
    )


def _fill_image(image: Image, written: WrittenBytes, declared_bytes: int | None) -> Image:
    """The image with what is known of its bytes. Raises Invalid when they are not what was declared."""
    if declared_bytes is not None and declared_bytes != written.size_bytes:
        raise Invalid(f"{declared_bytes} bytes were announced and {written.size_bytes} came.")
    if written.size_bytes == 0:
        raise Invalid("The upload is empty.")
    virtual_bytes: int | None = None
    if image.disk_format is DiskFormat.QCOW2:
        try:
            virtual_bytes = parse_qcow2(written.head, written.size_bytes).virtual_bytes
        except Qcow2Error as error:
            raise Invalid(error.message) from error
    elif image.disk_format in _ROOT_FORMATS:
        virtual_bytes = written.size_bytes
    return msgspec.structs.replace(
        image,
        size_bytes=written.size_bytes,
        virtual_bytes=virtual_bytes,
        md5=written.md5,
        sha512=written.sha512,
    )


def _load_visible(tx: Tx, actor: Actor, image_id: str) -> Image:
    image = rows.load_image(tx, image_id)
    if image is None or not may_see(actor, image):
        raise NotFound(f"No image found with ID {image_id}")
    return image


def _load_own(tx: Tx, actor: Actor, image_id: str) -> Image:
    image = _load_visible(tx, actor, image_id)
    if not may_change(actor, image):
        raise Forbidden(f"Image {image_id} belongs to another project.")
    return image


def _create_image(tx: Tx, image: Image, images_max: int) -> None:
    if rows.count_images(tx, image.project_id) >= images_max:
        raise OverLimit(f"The project has {images_max} images already, which is the most.")
    rows.insert_image(tx, image)


def _change_image(tx: Tx, actor: Actor, image_id: str, changes: Sequence[Change], now: int) -> Image:
    image = _load_own(tx, actor, image_id)
    for change in changes:
        is_property = change.name not in ATTRIBUTES and change.name not in READ_ONLY
        if is_property and change.verb != "add" and change.name not in image.properties:
            raise Conflict(f"Image {image_id} has no property {change.name!r}.")
        if change.verb == "remove":
            image = remove_property(image, change.name)
        else:
            image = set_attribute(actor, image, change.name, change.value)
    check_formats(image)
    image = msgspec.structs.replace(image, updated_at=now)
    rows.update_image(tx, image)
    return image


def _add_tag(tx: Tx, actor: Actor, image_id: str, tag: str, now: int) -> None:
    image = _load_own(tx, actor, image_id)
    if not 0 < len(tag) <= TAG_CHARS_MAX:
        raise Invalid(f"A tag has to have 1 to {TAG_CHARS_MAX} characters.")
    image = set_attribute(actor, image, "tags", [*image.tags, tag])
    rows.update_image(tx, msgspec.structs.replace(image, updated_at=now))


def _remove_tag(tx: Tx, actor: Actor, image_id: str, tag: str, now: int) -> None:
    image = _load_own(tx, actor, image_id)
    if tag not in image.tags:
        raise NotFound(f"Image {image_id} has no tag {tag!r}.")
    rest = tuple(other for other in image.tags if other != tag)
    rows.update_image(tx, msgspec.structs.replace(image, tags=rest, updated_at=now))


def _delete_image(tx: Tx, actor: Actor, image_id: str, now: int) -> str | None:
    """Make the image a tombstone; return the file that is to go."""
    image = _load_own(tx, actor, image_id)
    if image.protected:
        raise Forbidden(f"Image {image_id} is protected and cannot be deleted.")
    if image.file is not None and rows.is_file_in_use(tx, image.file):
        raise Conflict(f"Image {image_id} is in use: a server is being made of it, or boots from it.")
    rows.update_image(tx, msgspec.structs.replace(image, status=ImageStatus.DELETED, updated_at=now))
    return image.file


def _begin_upload(tx: Tx, actor: Actor, image_id: str, file: str, now: int) -> Image:
    """Name the file that is to be made (S2)."""
    image = _load_own(tx, actor, image_id)
    if image.status is not ImageStatus.QUEUED:
        raise Conflict(f"Image {image_id} is {image.status.value}; only a queued image takes bytes.")
    if image.disk_format is None or image.container_format is None:
        raise Invalid(f"Image {image_id} needs its disk_format and container_format before its bytes.")
    image = msgspec.structs.replace(image, status=ImageStatus.SAVING, file=file, updated_at=now)
    rows.update_image(tx, image)
    return image


def _finish_upload(tx: Tx, filled: Image, now: int) -> None:
    """Make the image active; whatever else was changed meanwhile stays changed."""
    image = msgspec.structs.replace(
        rows.load_upload(tx, filled),
        status=ImageStatus.ACTIVE,
        size_bytes=filled.size_bytes,
        virtual_bytes=filled.virtual_bytes,
        md5=filled.md5,
        sha512=filled.sha512,
        updated_at=now,
    )
    rows.update_image(tx, image)


def _set_active(tx: Tx, actor: Actor, image_id: str, *, active: bool, now: int) -> None:
    image = _load_own(tx, actor, image_id)
    if image.status not in (ImageStatus.ACTIVE, ImageStatus.DEACTIVATED):
        raise Forbidden(f"Image {image_id} is {image.status.value}; only an active image can be deactivated, and back.")
    status = ImageStatus.ACTIVE if active else ImageStatus.DEACTIVATED
    if image.status is not status:
        rows.update_image(tx, msgspec.structs.replace(image, status=status, updated_at=now))


def _load_for_server(tx: Tx, actor: Actor, image_id: str) -> ImageForServer:
    image = _load_visible(tx, actor, image_id)
    if image.status is not ImageStatus.ACTIVE:
        raise Invalid(f"Image {image_id} is {image.status.value}; a server needs an active image.")
    root_format = None if image.disk_format is None else _ROOT_FORMATS.get(image.disk_format)
    if root_format is None or image.file is None or image.size_bytes is None or image.virtual_bytes is None:
        raise Invalid(f"Image {image_id} is no disk: a server cannot be made of it.")
    return ImageForServer(
        id=image.id,
        name=image.name,
        disk_format=root_format,
        file=image.file,
        size=image.size_bytes,
        virtual_size=image.virtual_bytes,
        min_disk_gib=image.min_disk_gib,
        min_ram_mib=image.min_ram_mib,
        kernel_file=_load_boot_file(tx, actor, f"Image {image.id}", image.properties, KERNEL),
        ramdisk_file=_load_boot_file(tx, actor, f"Image {image.id}", image.properties, RAMDISK),
        properties=image.properties,
    )


def describe_volume_root(
    tx: Tx, actor: Actor, volume: Volume, image_id: str, *, disk_bus: str | None
) -> ImageForServer:
    """What a server is made of whose root disk is that volume, by what the volume keeps of its image.

    `image_id` is what is shown as the server's image: "" for most. Raises Invalid for a kernel that is not there.
    """
    known = volume.image_metadata or {}
    properties = {key: value for key, value in known.items() if key not in ATTRIBUTES_OF_IMAGES}
    least_mib = known.get("min_ram", "")
    return ImageForServer(
        id=image_id,
        name=known.get("image_name"),
        disk_format=volume.format,
        file=None,
        size=0,
        virtual_size=0,
        min_disk_gib=0,
        min_ram_mib=int(least_mib) if least_mib.isdecimal() and len(least_mib) < 9 else 0,
        kernel_file=_load_boot_file(tx, actor, f"Volume {volume.id}", properties, KERNEL),
        ramdisk_file=_load_boot_file(tx, actor, f"Volume {volume.id}", properties, RAMDISK),
        properties=properties,
        disk_bus=disk_bus,
    )


def _load_boot_file(
    tx: Tx, actor: Actor, subject: str, properties: Mapping[str, str], kind: tuple[str, DiskFormat]
) -> str | None:
    """The file of the kernel or ramdisk that an image's properties name; None when they name none."""
    name, wanted = kind
    other_id = properties.get(name)
    if not other_id:
        return None
    other = rows.load_image(tx, other_id)
    usable = other is not None and may_see(actor, other) and other.status is ImageStatus.ACTIVE
    if other is None or not usable or other.disk_format is not wanted:
        raise Invalid(f"{subject} names {other_id} as its {name}, which is no active image of format {wanted.value}.")
    return other.file
