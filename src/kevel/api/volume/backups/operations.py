"""The rows of backups."""

from __future__ import annotations

from functools import partial
from typing import Final

from kevel.api.operations import Version
from kevel.api.volume.backups import handlers, shapes
from kevel.api.volume.rows import PAGE_QUERY, admin, read, write
from kevel.api.volume.snapshots.shapes import ResetStatus

_ONE: Final = "/backups/{backup_id}"
_QUERY: Final = (*PAGE_QUERY, "all_tenants", "project_id", "with_count", "status", "name~", *handlers.FILTERS)
_create = partial(
    write,
    reply=shapes.BACKUP_SUMMARY,
    new_id="/backup/id",
    needs_space=True,
    method="POST",
    path="/backups",
    handler=handlers.create_backup,
    success=202,
    errors=(400, 404, 413),
)
_update = partial(
    write,
    reply=shapes.BACKUP_SUMMARY,
    method="PUT",
    path=_ONE,
    handler=handlers.update_backup,
    errors=(400, 404),
)

BACKUPS: Final = (
    read(
        name="listBackups",
        reply=shapes.BACKUPS,
        query_names=_QUERY,
        new_id="/backups/0/id",
        path="/backups",
        handler=handlers.list_backups,
        errors=(400, 404),
    ),
    read(
        name="listBackupDetails",
        reply=shapes.BACKUP_DETAILS,
        query_names=_QUERY,
        path="/backups/detail",
        handler=handlers.list_details,
        errors=(400, 404),
    ),
    _create(name="createBackup", body=shapes.CreateBackup, until=Version(3, 42)),
    _create(name="createMarkedBackup", body=shapes.CreateBackupV343, since=Version(3, 43), until=Version(3, 50)),
    _create(name="createZonedBackup", body=shapes.CreateBackupV351, since=Version(3, 51)),
    admin(
        name="importBackup",
        reply=shapes.BACKUP_SUMMARY,
        method="POST",
        path="/backups/import_record",
        handler=handlers.import_record,
        success=201,
        errors=(400, 413),
        body=shapes.ImportRecord,
    ),
    read(name="showBackup", reply=shapes.BACKUP, path=_ONE, handler=handlers.show_backup, errors=(404,)),
    _update(name="updateBackup", body=shapes.UpdateBackup, since=Version(3, 9), until=Version(3, 42)),
    _update(name="updateMarkedBackup", body=shapes.UpdateBackupV343, since=Version(3, 43)),
    write(
        name="deleteBackup",
        reply=None,
        method="DELETE",
        path=_ONE,
        handler=handlers.delete_backup,
        success=202,
        errors=(400, 404),
    ),
    write(
        name="restoreBackup",
        reply=shapes.RESTORE,
        needs_space=True,
        method="POST",
        path=f"{_ONE}/restore",
        handler=handlers.restore_backup,
        success=202,
        errors=(400, 404, 413, 503),
        body=shapes.RestoreBackup,
    ),
    admin(
        name="exportBackup",
        reply=shapes.RECORD,
        method="GET",
        path=f"{_ONE}/export_record",
        handler=handlers.export_record,
        errors=(400, 404),
    ),
    admin(
        name="resetBackupStatus",
        reply=None,
        method="POST",
        path=f"{_ONE}/action",
        action="os-reset_status",
        handler=handlers.reset_status,
        success=202,
        errors=(400, 404),
        body=ResetStatus,
    ),
    admin(
        name="forceDeleteBackup",
        reply=None,
        method="POST",
        path=f"{_ONE}/action",
        action="os-force_delete",
        handler=handlers.force_delete_backup,
        success=202,
        errors=(400, 404),
    ),
)
