"""Images: the records; their bytes lie in files of the data directory."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Integer, Table, Text

from kevel.domain.images import ContainerFormat, DiskFormat, ImageStatus, Visibility
from kevel.store.schema.base import Json, Word, metadata

images = Table(
    "images",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, index=True),
    Column("project_id", Text, nullable=False, index=True),
    Column("status", Word(ImageStatus), nullable=False),
    Column("visibility", Word(Visibility), nullable=False),
    Column("disk_format", Word(DiskFormat)),
    Column("container_format", Word(ContainerFormat)),
    Column("size_bytes", BigInteger),
    Column("virtual_bytes", BigInteger),
    Column("md5", Text),
    Column("sha512", Text),
    Column("min_disk_gib", Integer, nullable=False),
    Column("min_ram_mib", Integer, nullable=False),
    Column("protected", Boolean, nullable=False),
    Column("hidden", Boolean, nullable=False),
    Column("properties", Json(dict[str, str]), nullable=False),
    Column("tags", Json(tuple[str, ...]), nullable=False),
    #: File of the bytes, relative to the data directory; a new name for each upload. Named here before it is made, and
    #: until it has been seen to be gone.
    Column("file", Text, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    CheckConstraint("status IN ('queued', 'saving', 'active', 'deactivated', 'deleted')", name="status"),
    CheckConstraint("visibility IN ('public', 'private', 'shared', 'community')", name="visibility"),
    CheckConstraint("status <> 'queued' OR file IS NULL", name="queued_has_no_bytes"),
    CheckConstraint("status <> 'saving' OR file IS NOT NULL", name="saving_names_its_file"),
    CheckConstraint(
        "status NOT IN ('active', 'deactivated') OR (file IS NOT NULL AND size_bytes IS NOT NULL AND md5 IS NOT NULL"
        " AND sha512 IS NOT NULL AND disk_format IS NOT NULL AND container_format IS NOT NULL)",
        name="active_is_complete",
    ),
)
