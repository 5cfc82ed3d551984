"""What users are told of requests that failed later on, under Cinder's numbers."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from kevel.domain.model import OperationKind

#: How long a message is kept and shown; Cinder's own default.
KEPT_S: Final = 30 * 24 * 3600


class Action(enum.Enum):
    """What was being done: Cinder's number, and words. Numbers from 100 are Kevel's own: Cinder has none for them."""

    SCHEDULE_VOLUME = ("001", "schedule allocate volume")
    ATTACH_VOLUME = ("002", "attach volume")
    COPY_VOLUME_TO_IMAGE = ("003", "copy volume to image")
    UPDATE_ATTACHMENT = ("004", "update attachment")
    COPY_IMAGE_TO_VOLUME = ("005", "copy image to volume")
    EXTEND_VOLUME = ("007", "extend volume")
    CREATE_VOLUME = ("008", "create volume from backend storage")
    CREATE_SNAPSHOT = ("009", "create snapshot")
    DELETE_SNAPSHOT = ("010", "delete snapshot")
    CREATE_BACKUP = ("013", "create backup")
    DELETE_BACKUP = ("014", "delete backup")
    RESTORE_BACKUP = ("015", "restore backup")
    REIMAGE_VOLUME = ("016", "reimage volume")
    DELETE_VOLUME = ("100", "delete volume")
    REVERT_VOLUME = ("101", "revert volume to snapshot")
    RETYPE_VOLUME = ("102", "retype volume")
    MIGRATE_VOLUME = ("103", "migrate volume")


class Detail(enum.Enum):
    """Cinder's number for what went wrong."""

    UNKNOWN_ERROR = "001"
    FAILED_TO_UPLOAD_VOLUME = "004"
    NO_BACKEND_AVAILABLE = "003"
    DRIVER_FAILED_EXTEND = "010"
    DRIVER_FAILED_CREATE = "012"
    SNAPSHOT_CREATE_ERROR = "013"
    SNAPSHOT_DELETE_ERROR = "016"
    BACKUP_CREATE_DRIVER_ERROR = "020"
    ATTACH_ERROR = "021"
    DETACH_ERROR = "022"
    BACKUP_DELETE_DRIVER_ERROR = "025"
    BACKUP_RESTORE_ERROR = "026"


#: What is said of a failed operation on a volume.
OF_OPERATION: Final = {
    OperationKind.CREATING: (Action.CREATE_VOLUME, Detail.DRIVER_FAILED_CREATE),
    OperationKind.EXTENDING: (Action.EXTEND_VOLUME, Detail.DRIVER_FAILED_EXTEND),
    OperationKind.DELETING: (Action.DELETE_VOLUME, Detail.UNKNOWN_ERROR),
    OperationKind.DOWNLOADING: (Action.REIMAGE_VOLUME, Detail.UNKNOWN_ERROR),
    OperationKind.UPLOADING: (Action.COPY_VOLUME_TO_IMAGE, Detail.FAILED_TO_UPLOAD_VOLUME),
    OperationKind.REVERTING: (Action.REVERT_VOLUME, Detail.UNKNOWN_ERROR),
    OperationKind.RETYPING: (Action.RETYPE_VOLUME, Detail.UNKNOWN_ERROR),
    OperationKind.MIGRATING: (Action.MIGRATE_VOLUME, Detail.UNKNOWN_ERROR),
}

#: What is said of a failed operation on a snapshot.
OF_SNAPSHOT: Final = {
    OperationKind.CREATING: (Action.CREATE_SNAPSHOT, Detail.SNAPSHOT_CREATE_ERROR),
    OperationKind.DELETING: (Action.DELETE_SNAPSHOT, Detail.SNAPSHOT_DELETE_ERROR),
}

#: What is said of a failed operation on a backup.
OF_BACKUP: Final = {
    OperationKind.CREATING: (Action.CREATE_BACKUP, Detail.BACKUP_CREATE_DRIVER_ERROR),
    OperationKind.DELETING: (Action.DELETE_BACKUP, Detail.BACKUP_DELETE_DRIVER_ERROR),
    OperationKind.RESTORING: (Action.RESTORE_BACKUP, Detail.BACKUP_RESTORE_ERROR),
}

_WORDS: Final = dict(action.value for action in Action)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message about a volume, or about a snapshot or another thing that comes of one."""

    id: str
    project_id: str
    request_id: str
    #: "VOLUME", "VOLUME_SNAPSHOT".
    resource_type: str = "VOLUME"
    resource_uuid: str
    action_id: str
    detail_id: str
    #: The reason in Kevel's words.
    text: str
    created_at: int
    expires_at: int

    @property
    def event_id(self) -> str:
        """Cinder's name for the kind of message."""
        return f"VOLUME_{self.resource_type}_{self.action_id}_{self.detail_id}"

    @property
    def user_message(self) -> str:
        """What was being done, and why it failed."""
        return f"{_WORDS[self.action_id]}: {self.text}"
