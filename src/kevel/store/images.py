"""Image rows. A file is named by its row before it is made, and until it has been seen to be gone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from sqlalchemy import Text, bindparam, func, insert, or_, select, type_coerce, update

from kevel.domain.errors import Conflict, NotFound
from kevel.domain.images import Image, ImageStatus, Visibility
from kevel.domain.model import OperationKind, ServerRung, Subject
from kevel.store.operations import begin_operation, give_up_operation, is_read, running_operation
from kevel.store.schema.images import images
from kevel.store.schema.servers import servers
from kevel.store.schema.volumes import operations
from kevel.store.transactions import Tx, as_struct, row_columns

_COLUMNS = row_columns(images, Image)
_SEEN = images.c.status != ImageStatus.DELETED
_IMAGE = select(*_COLUMNS).where(images.c.id == bindparam("of_id"), _SEEN)
_BY_NAME = select(*_COLUMNS).where(images.c.name == bindparam("of_name"), _SEEN).order_by(images.c.created_at)
_ANY_ID = select(images.c.id).where(images.c.id == bindparam("of_id"))
_COUNT = select(func.count()).select_from(images).where(images.c.project_id == bindparam("of_project"), _SEEN)
_FILES = select(images.c.file).where(images.c.status.in_((ImageStatus.ACTIVE, ImageStatus.DEACTIVATED)))
_SERVERS = select(servers.c.image, servers.c.rung, servers.c.wanted_shape, servers.c.shape, servers.c.extras).where(
    servers.c.deleted_at.is_(None)
)
_UPLOADS = select(operations.c.args).where(
    operations.c.finished_at.is_(None), operations.c.kind == OperationKind.UPLOADING
)
_UPDATE = update(images).where(images.c.id == bindparam("of_id"))


def load_image(tx: Tx, image_id: str) -> Image | None:
    """The image; None when there is none or it was deleted."""
    row = tx.execute(_IMAGE, {"of_id": image_id}).first()
    return None if row is None else as_struct(Image, row)


def find_image(tx: Tx, *, name: str, project_id: str) -> Image | None:
    """The project's oldest image of that name."""
    found = (as_struct(Image, row) for row in tx.execute(_BY_NAME, {"of_name": name}))
    return next((image for image in found if image.project_id == project_id), None)


def list_images(tx: Tx, *, project_id: str | None) -> list[Image]:
    """All images that the project owns or may see (None: all images of all projects)."""
    statement = select(*_COLUMNS).where(_SEEN)
    if project_id is not None:
        shown = images.c.visibility.in_((Visibility.PUBLIC, Visibility.COMMUNITY))
        statement = statement.where(or_(images.c.project_id == project_id, shown))
    return [as_struct(Image, row) for row in tx.execute(statement)]


def count_images(tx: Tx, project_id: str) -> int:
    """How many images the project owns."""
    return int(tx.execute(_COUNT, {"of_project": project_id}).scalar_one())


def insert_image(tx: Tx, image: Image) -> None:
    """Enter a new image. Raises Conflict when its id is or was another's."""
    if tx.execute(_ANY_ID, {"of_id": image.id}).first() is not None:
        raise Conflict(f"Image ID {image.id} already exists.")
    tx.execute(insert(images), msgspec.structs.asdict(image))


def update_image(tx: Tx, image: Image) -> None:
    """Write the image as it is now; the transaction has read it."""
    values = msgspec.structs.asdict(image)
    tx.execute(_UPDATE.values({key: value for key, value in values.items() if key != "id"}), {"of_id": image.id})


def has_files(tx: Tx, image: Mapping[str, Any]) -> bool:
    """Are the bytes of a server's image, kernel and ramdisk all still kept? A server may then be recorded with them."""
    wanted = {file for key in ("file", "kernel_file", "ramdisk_file") if (file := image.get(key)) is not None}
    return set(tx.execute(_FILES.where(images.c.file.in_(wanted))).scalars()) == wanted


def is_file_in_use(tx: Tx, file: str) -> bool:
    """Does a server still need the file: it boots from it each time, or has not copied it yet; or a volume?"""
    if is_read(tx, file):
        return True
    named = or_(*(type_coerce(column, Text).contains(file) for column in (servers.c.image, servers.c.extras)))
    for row in tx.execute(_SERVERS.where(named)):
        is_copied = row.rung > ServerRung.PLACED and row.shape == row.wanted_shape
        shelf, before = row.extras.shelf, row.extras.before
        if shelf is not None and shelf.root is not None:
            # What it had of its image is kept in the other one until it runs again.
            is_copied = True
            if file == shelf.root.file:
                return True
        for image in (row.image, row.extras.rescue, *((before.image, before.rescue) if before else ())):
            if image is None:
                continue
            if file in (image.get("kernel_file"), image.get("ramdisk_file")):
                return True
            if image.get("file") == file and not is_copied:
                return True
    return False


def discard_image(tx: Tx, image_id: str, *, request_id: str, at: int) -> None:
    """Delete an image that was made for one purpose, and has served it: its worker removes the file."""
    image = load_image(tx, image_id)
    running = running_operation(tx, Subject.IMAGE, image_id)
    if running is not None:
        give_up_operation(tx, running, actor="control", at=at)
    if image is not None:
        update_image(tx, msgspec.structs.replace(image, status=ImageStatus.DELETED, updated_at=at))
        if image.file is not None:
            begin_operation(
                tx,
                Subject.IMAGE,
                image_id,
                OperationKind.DELETING,
                volume_id=None,
                actor="control",
                request_id=request_id,
                at=at,
                deadline_at=at,
                args={"file": image.file},
            )


def load_upload(tx: Tx, begun: Image) -> Image:
    """The image as it is now, still filled by the upload that it began with. Raises NotFound when that is not so."""
    image = load_image(tx, begun.id)
    if image is None or image.status is not ImageStatus.SAVING or image.file != begun.file:
        raise NotFound(f"The image {begun.id} was deleted while it was uploaded.")
    return image


def forget_file(tx: Tx, file: str) -> None:
    """The file has been seen to be gone: its image waits for bytes again, or is a mere tombstone."""
    tx.execute(
        update(images)
        .where(images.c.file == file, images.c.status == ImageStatus.SAVING)
        .values(status=ImageStatus.QUEUED, file=None)
    )
    tx.execute(update(images).where(images.c.file == file, images.c.status == ImageStatus.DELETED).values(file=None))


def files_of_volumes(tx: Tx) -> set[str]:
    """Files of images that are being made of volumes."""
    return {str(row.args["file"]) for row in tx.execute(_UPLOADS)}


def list_doomed_files(tx: Tx) -> list[str]:
    """Files of uploads that never ended and of deleted images."""
    doomed = images.c.status.in_((ImageStatus.SAVING, ImageStatus.DELETED))
    files = tx.execute(select(images.c.file).where(doomed, images.c.file.is_not(None))).scalars()
    kept = files_of_volumes(tx)
    return [file for file in files if file not in kept]


def find_unknown_files(tx: Tx, files: Collection[str]) -> list[str]:
    """Those of the files that no record names."""
    known = set(tx.execute(select(images.c.file).where(images.c.file.is_not(None))).scalars())
    return sorted(set(files) - known)
