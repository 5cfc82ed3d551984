"""Backups: the use cases. What is checked is checked inside the transaction that writes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kevel.control.copies.snapshots import check_copyable
from kevel.control.pools.placing import check_backups_taken
from kevel.control.runtime import Runtime
from kevel.control.volume_types.keys import refuse_encrypted
from kevel.control.volumes.volumes import NewVolume, Volumes
from kevel.domain.errors import Invalid, StepError
from kevel.domain.limits import Limits
from kevel.domain.model import (
    BACKUP_CHAIN_MAX,
    GIB,
    Actor,
    BackedVolume,
    Backup,
    OperationKind,
    Snapshot,
    Subject,
    Volume,
)
from kevel.storage.backup_files import BackupFiles, BackupOrigin
from kevel.store import backups as rows
from kevel.store.backups import BACKUP_ARG, VOLUME_ARG, BackupView
from kevel.store.operations import begin_operation, give_up_operation
from kevel.store.pages import Listed, Page
from kevel.store.quotas import check_room_for
from kevel.store.snapshots import (
    begin_create_snapshot,
    begin_delete_snapshot,
    find_snapshot,
    load_snapshot,
    view_snapshot,
)
from kevel.store.transactions import Tx
from kevel.store.volume_lists import VolumeView, view_volume
from kevel.store.volumes import change_volume, find_volume

#: Under that name an operation keeps the snapshot that a volume in use is backed up through.
THROUGH_ARG: Final = "through_snapshot_id"
#: Cinder's word for the kind of store in an exported record; its tools look for the beginning.
SERVICE: Final = "cinder.backup.drivers.kevel.directory"
#: Most characters of an exported record.
RECORD_CHARACTERS_MAX: Final = 256 * 1024
#: Words that an admin may put over a backup's status.
MASKS: Final = frozenset({"error", "error_deleting"})
_DELETABLE: Final = frozenset({"available", "error", "error_deleting"})
_RESTORABLE_TO: Final = frozenset({"available", "error_restoring"})


class NewBackup(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    volume_id: str
    snapshot_id: str | None = None
    name: str | None = None
    description: str | None = None
    container: str | None = None
    incremental: bool = False
    #: A volume in use, too.
    force: bool = False
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    availability_zone: str | None = None


class BackupRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is exported of a backup, to be imported where its files are and its row is not."""

    id: str
    volume_id: str
    snapshot_id: str | None
    parent_id: str | None
    name: str | None
    description: str | None
    container: str | None
    metadata: dict[str, str]
    size_gib: int
    chain: list[str]
    checksum: str
    stored_bytes: int
    chunk_count: int
    volume: BackedVolume
    data_at: int


class Backups:
    """Backups of volumes, in a directory."""

    def __init__(
        self, runtime: Runtime, files: BackupFiles, volumes: Volumes, limits: Limits, *, availability_zone: str
    ) -> None:
        self._runtime = runtime
        self._files = files
        self._volumes = volumes
        self._limits = limits
        self._availability_zone = availability_zone

    async def create(self, actor: Actor, new: NewBackup) -> Backup:
        """Start to back a volume or a snapshot up."""
        if new.availability_zone not in (None, self._availability_zone):
            raise Invalid(
                f"Availability zone '{new.availability_zone}' is invalid; backups are made in "
                f"'{self._availability_zone}'."
            )
        ids = self._runtime.ids
        return await self._runtime.store.write(
            _create,
            actor,
            new,
            self._availability_zone,
            backup_id=ids.uuid(),
            through_id=ids.uuid(),
            at=self._runtime.clock.now_us(),
            limits=self._limits,
        )

    async def get(self, actor: Actor, backup_id: str) -> BackupView:
        """The backup; NotFound."""
        return await self._runtime.store.read_point(rows.find_backup, backup_id, actor)

    async def list(
        self, project_id: str | None, page: Page, *, equal: Mapping[str, str], status: str | None, name_part: str | None
    ) -> Listed[BackupView]:
        """One page of a project's backups (None: of all)."""
        return await self._runtime.store.read(
            rows.list_backups, project_id, page, equal=equal, status=status, name_part=name_part
        )

    async def update(self, actor: Actor, backup_id: str, changes: Mapping[str, Any]) -> Backup:
        """Change name, description or metadata (which is replaced whole)."""
        at = self._runtime.clock.now_us()
        return await self._runtime.store.write(_update, actor, backup_id, dict(changes), at)

    async def delete(self, actor: Actor, backup_id: str, *, force: bool) -> None:
        """Start to delete a backup that no other builds on."""
        at = self._runtime.clock.now_us()
        deadline_at = self._limits.volume_deadline(at)
        await self._runtime.store.write(_delete, actor, backup_id, force=force, at=at, deadline_at=deadline_at)

    async def restore(self, actor: Actor, backup_id: str, volume_id: str | None, name: str | None) -> tuple[str, str]:
        """Start to restore the backup into a volume, or (None) into a new one; the volume's id and name."""
        if volume_id is None:
            view = await self.get(actor, backup_id)
            new = NewVolume(
                size_gib=view.backup.size_gib, name=name or f"restore_backup_{backup_id}", backup_id=backup_id
            )
            volume = (await self._volumes.create(actor, new)).volume
        else:
            at = self._runtime.clock.now_us()
            volume = await self._runtime.store.write(_restore, actor, backup_id, volume_id, at=at, limits=self._limits)
        return volume.id, volume.name

    async def reset_status(self, actor: Actor, backup_id: str, status: str) -> None:
        """Put a word over the status, or take word and fault away where the backup is available beneath."""
        await self._runtime.store.write(_reset_status, actor, backup_id, status, self._runtime.clock.now_us())

    async def export_record(self, actor: Actor, backup_id: str) -> str:
        """The backup's record as a text, for `import_record`."""
        view = await self.get(actor, backup_id)
        if view.status != "available":
            raise Invalid(
                f"Invalid backup: backup {backup_id} is {view.status}; to be exported it has to be available."
            )
        known = msgspec.structs.asdict(view.backup)
        record = BackupRecord(**{name: known[name] for name in BackupRecord.__struct_fields__})
        return base64.b64encode(msgspec.json.encode(record)).decode()

    async def import_record(self, actor: Actor, service: str, text: str) -> Backup:
        """Enter a backup whose files are in the directory; they are held against the record's checksum."""
        if service != SERVICE:
            raise Invalid(f"Invalid input for backup_service: it has to be {SERVICE}.")
        record = _read_record(text)
        try:
            origin = BackupOrigin(files_id=record.chain[0], checksum=record.checksum)
            head = await self._runtime.executor.run(self._files.check, origin)
        except StepError as error:
            raise Invalid(f"Invalid backup: {error.message}") from error
        if (head.volume_id, head.size_bytes, list(head.files)) != (
            record.volume_id,
            record.size_gib * GIB,
            record.chain,
        ):
            raise Invalid(f"Invalid backup: the files of {record.chain[0]} are not what the record says of them.")
        backup = Backup(
            **msgspec.structs.asdict(record),
            project_id=actor.project_id,
            user_id=actor.user_id,
            availability_zone=self._availability_zone,
            made=True,
            created_at=self._runtime.clock.now_us(),
        )
        return await self._runtime.store.write(_import, actor, backup)


def _create(
    tx: Tx,
    actor: Actor,
    new: NewBackup,
    availability_zone: str,
    *,
    backup_id: str,
    through_id: str,
    at: int,
    limits: Limits,
) -> Backup:
    check_backups_taken(tx)
    view = view_volume(tx, find_volume(tx, new.volume_id, actor))
    volume = view.volume
    refuse_encrypted(volume, "backed up")
    snapshot = _find_snapshot(tx, actor, new, volume)
    if snapshot is None:
        _check_volume(view, force=new.force)
    size_gib = volume.size_gib if snapshot is None else snapshot.size_gib
    data_at = at if snapshot is None else snapshot.created_at
    check_room_for(tx, actor.project_id, {"backups": 1, "backup_gigabytes": size_gib})
    parent = rows.choose_parent(tx, actor.project_id, volume.id, data_at) if new.incremental else None
    backup = Backup(
        id=backup_id,
        project_id=actor.project_id,
        user_id=actor.user_id,
        volume_id=volume.id,
        snapshot_id=new.snapshot_id,
        parent_id=None if parent is None else parent.id,
        name=new.name,
        description=new.description,
        container=new.container,
        availability_zone=availability_zone,
        metadata=new.metadata,
        size_gib=size_gib,
        chain=[backup_id, *([] if parent is None else parent.chain)],
        volume=BackedVolume(
            name=volume.name,
            description=volume.description,
            metadata=volume.metadata,
            volume_type_id=volume.volume_type_id,
            bootable=volume.bootable,
            image_metadata=volume.image_metadata,
        ),
        data_at=data_at,
        created_at=at,
    )
    rows.insert_backup(tx, backup)
    deadline_at = limits.volume_deadline(at, copied_gib=size_gib)
    args: dict[str, Any] = {}
    if snapshot is None:
        args[VOLUME_ARG] = volume.id
        _begin_on_volume(tx, actor, backup, at=at, deadline_at=deadline_at)
        if view.status == "in-use":
            check_copyable(tx, volume.id)
            args[THROUGH_ARG] = through_id
            _begin_snapshot(tx, actor, backup, volume, through_id, at=at, deadline_at=deadline_at)
    begin_operation(
        tx,
        Subject.BACKUP,
        backup.id,
        OperationKind.CREATING,
        volume_id=volume.id,
        reads=new.snapshot_id or args.get(THROUGH_ARG) or volume.id,
        actor="user",
        request_id=actor.request_id,
        at=at,
        deadline_at=deadline_at,
        args=args,
    )
    return backup


def _find_snapshot(tx: Tx, actor: Actor, new: NewBackup, volume: Volume) -> Snapshot | None:
    if new.snapshot_id is None:
        return None
    view = view_snapshot(tx, find_snapshot(tx, new.snapshot_id, actor))
    if view.snapshot.volume_id != volume.id:
        raise Invalid(f"Invalid volume: snapshot {new.snapshot_id} is not of volume {volume.id}.")
    if view.status != "available":
        raise Invalid(
            f"Invalid snapshot: snapshot {new.snapshot_id} is {view.status}; to be backed up it has to be available."
        )
    return view.snapshot


def _check_volume(view: VolumeView, *, force: bool) -> None:
    volume_id = view.volume.id
    if view.status == "in-use" and not force:
        raise Invalid(f"Invalid volume: volume {volume_id} is in-use; such a volume is backed up with the force flag.")
    if view.status not in ("available", "in-use"):
        raise Invalid(
            f"Invalid volume: volume {volume_id} is {view.status}; to be backed up it has to be available or in-use."
        )


def _begin_on_volume(tx: Tx, actor: Actor, backup: Backup, *, at: int, deadline_at: int) -> None:
    begin_operation(
        tx,
        Subject.VOLUME,
        backup.volume_id,
        OperationKind.BACKING_UP,
        volume_id=backup.volume_id,
        actor="user",
        request_id=actor.request_id,
        at=at,
        deadline_at=deadline_at,
        args={BACKUP_ARG: backup.id},
    )


def _begin_snapshot(
    tx: Tx, actor: Actor, backup: Backup, volume: Volume, snapshot_id: str, *, at: int, deadline_at: int
) -> None:
    """Guests go on writing a volume in use: what is backed up is a snapshot of it, which goes when that is done."""
    snapshot = Snapshot(
        id=snapshot_id,
        volume_id=volume.id,
        project_id=volume.project_id,
        user_id=actor.user_id,
        name=f"backup_{backup.id}",
        description="Taken for a backup; Kevel deletes it when the backup has ended.",
        size_gib=volume.size_gib,
        backend=volume.backend,
        format=volume.format,
        metadata={},
        created_at=at,
    )
    begin_create_snapshot(tx, snapshot, request_id=actor.request_id, at=at, deadline_at=deadline_at)


def end_snapshot(tx: Tx, snapshot_id: str, *, request_id: str, at: int, deadline_at: int) -> None:
    """Let go of the snapshot that a volume in use was backed up through."""
    snapshot = load_snapshot(tx, snapshot_id)
    if snapshot is not None and snapshot.deleted_at is None:
        begin_delete_snapshot(tx, snapshot, request_id=request_id, at=at, deadline_at=deadline_at)


def _update(tx: Tx, actor: Actor, backup_id: str, changes: dict[str, Any], at: int) -> Backup:
    rows.find_backup(tx, backup_id, actor)
    rows.change_backup(tx, backup_id, **changes, updated_at=at)
    return rows.find_backup(tx, backup_id, actor).backup


def _delete(tx: Tx, actor: Actor, backup_id: str, *, force: bool, at: int, deadline_at: int) -> None:
    view = rows.find_backup(tx, backup_id, actor)
    if view.status not in _DELETABLE and not force:
        raise Invalid(
            f"Invalid backup: backup {backup_id} is {view.status}; to be deleted it has to be "
            f"{', '.join(sorted(_DELETABLE))}."
        )
    if view.has_children:
        raise Invalid(f"Invalid backup: incremental backups build on backup {backup_id}; delete them first.")
    running = rows.backup_operation(tx, backup_id)
    if running is not None:
        if running.kind is OperationKind.DELETING:
            return
        if running.kind is OperationKind.RESTORING:
            raise Invalid(f"Invalid backup: a volume is restored from backup {backup_id}; wait until that has ended.")
        give_up_operation(tx, running, actor="user", at=at)
        rows.finish_on_volume(tx, running, actor="user", at=at)
        through_id = running.args.get(THROUGH_ARG)
        if through_id is not None:
            end_snapshot(tx, through_id, request_id=actor.request_id, at=at, deadline_at=deadline_at)
    rows.change_backup(tx, backup_id, fault=None, mask=None, updated_at=at)
    begin_operation(
        tx,
        Subject.BACKUP,
        backup_id,
        OperationKind.DELETING,
        volume_id=None,
        actor="user",
        request_id=actor.request_id,
        at=at,
        deadline_at=deadline_at,
    )


def _restore(tx: Tx, actor: Actor, backup_id: str, volume_id: str, *, at: int, limits: Limits) -> Volume:
    rows.find_backup(tx, backup_id, actor)
    view = view_volume(tx, find_volume(tx, volume_id, actor))
    if view.status not in _RESTORABLE_TO or view.attachments:
        raise Invalid(f"Invalid volume: volume {volume_id} is {view.status}; to be restored to it has to be available.")
    refuse_encrypted(view.volume, "restored to")
    backup = rows.find_restorable(tx, backup_id, actor, view.volume.size_gib)
    change_volume(tx, volume_id, fault=None, updated_at=at)
    deadline_at = limits.volume_deadline(at, copied_gib=view.volume.size_gib)
    rows.begin_restore(tx, backup, volume_id, request_id=actor.request_id, at=at, deadline_at=deadline_at)
    return view.volume


def _reset_status(tx: Tx, actor: Actor, backup_id: str, status: str, at: int) -> None:
    view = rows.find_backup(tx, backup_id, actor)
    if status in MASKS:
        rows.change_backup(tx, backup_id, mask=status, updated_at=at)
        return
    if status != "available":
        words = ", ".join(sorted({*MASKS, "available"}))
        raise Invalid(f"Invalid input for status: a backup's can be reset to {words}, not to '{status[:64]}'.")
    if not view.backup.made:
        raise Invalid(f"Invalid backup: backup {backup_id} was never made; delete it and make another one.")
    rows.change_backup(tx, backup_id, mask=None, fault=None, updated_at=at)
    truth = rows.find_backup(tx, backup_id, actor).status
    if truth != status:
        raise Invalid(f"Invalid backup: backup {backup_id} is {truth} and cannot be declared {status}.")


def _read_record(text: str) -> BackupRecord:
    try:
        if len(text) > RECORD_CHARACTERS_MAX:
            raise ValueError
        record = msgspec.json.decode(base64.b64decode(text, validate=True), type=BackupRecord)
    except (binascii.Error, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Invalid("Invalid input for backup_url: it is not a record that Kevel exported.") from error
    if record.size_gib < 1 or not record.chain or len(record.chain) > BACKUP_CHAIN_MAX:
        raise Invalid("Invalid input for backup_url: its record contradicts itself.")
    return record


def _import(tx: Tx, actor: Actor, backup: Backup) -> Backup:
    known = rows.load_backup(tx, backup.id)
    if known is not None and known.deleted_at is None:
        raise Invalid(f"Invalid backup: there is a backup {backup.id} already.")
    parent = None if backup.parent_id is None else rows.load_backup(tx, backup.parent_id)
    chain = [] if parent is None or parent.deleted_at is not None else parent.chain
    if chain != backup.chain[1:]:
        raise Invalid(
            f"Invalid backup: backup {backup.id} builds on {str(backup.parent_id)[:64]}, which is not here; import it "
            "first."
        )
    check_room_for(tx, actor.project_id, {"backups": 1, "backup_gigabytes": backup.size_gib})
    rows.insert_backup(tx, backup)
    return backup
