"""What backups take and answer."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType, field

from kevel.api.answers import Answer, Link, name_answer, name_list
from kevel.api.volume.bodies import Bool, Metadata, Text
from kevel.control.backups.backups import RECORD_CHARACTERS_MAX


class BackupFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A backup as it is asked for."""

    volume_id: Text
    snapshot_id: Text | None = None
    name: Text | None = None
    description: Text | None = None
    container: Text | None = None
    incremental: Bool | None = None
    force: Bool | None = None


class BackupFieldsV343(BackupFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From 3.43."""

    metadata: Metadata | None = None


class BackupFieldsV351(BackupFieldsV343, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From 3.51."""

    availability_zone: Text | None = None


class CreateBackup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /backups until 3.42."""

    backup: BackupFields


class CreateBackupV343(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /backups from 3.43."""

    backup: BackupFieldsV343


class CreateBackupV351(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /backups from 3.51."""

    backup: BackupFieldsV351


class BackupChanges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What PUT may change."""

    name: Text | UnsetType | None = UNSET
    description: Text | UnsetType | None = UNSET


class BackupChangesV343(BackupChanges, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From 3.43."""

    metadata: Metadata | UnsetType = UNSET


class UpdateBackup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /backups/{id} until 3.42."""

    backup: BackupChanges | None


class UpdateBackupV343(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PUT /backups/{id} from 3.43."""

    backup: BackupChangesV343 | None


class RestoreFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Into which volume; null: into a new one, of that name."""

    volume_id: Text | None = None
    name: Text | None = None


class RestoreBackup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /backups/{id}/restore."""

    restore: RestoreFields | None


class RecordFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record as it was exported."""

    backup_service: Text
    backup_url: Annotated[str, msgspec.Meta(min_length=1, max_length=RECORD_CHARACTERS_MAX)]


class ImportRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /backups/import_record."""

    record: RecordFields = field(name="backup-record")


class BackupSummary(Answer, kw_only=True):
    """A line of the short list."""

    id: str
    name: str | None
    links: list[Link]


class Backup(BackupSummary, kw_only=True):
    """A backup. What is UNSET came with a microversion, or is for admins."""

    status: str
    size: int
    object_count: int
    availability_zone: str
    container: str | None
    created_at: str
    updated_at: str | None
    description: str | None
    fail_reason: str | None
    volume_id: str
    is_incremental: bool
    has_dependent_backups: bool
    snapshot_id: str | None
    data_timestamp: str
    project_id: str | UnsetType = field(name="os-backup-project-attr:project_id", default=UNSET)
    metadata: dict[str, str] | UnsetType = UNSET
    user_id: str | UnsetType = UNSET


class Restore(Answer, kw_only=True):
    """What is restored where."""

    backup_id: str
    volume_id: str
    volume_name: str


class Record(Answer, kw_only=True):
    """A backup's record."""

    backup_service: str
    backup_url: str


BACKUPS: Final = name_list("backups", BackupSummary, count=int)
BACKUP_DETAILS: Final = name_list("backups", Backup, count=int)
BACKUP: Final = name_answer("backup", Backup)
BACKUP_SUMMARY: Final = name_answer("backup", BackupSummary)
RESTORE: Final = name_answer("restore", Restore)
RECORD: Final = name_answer("backup-record", Record)
