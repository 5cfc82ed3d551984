"""What users are told of requests that failed later on, under Cinder's numbers."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from kevel.domain.model import OperationKind

#: How long a message is kept and shown; Cinder's own default.
KEPT_S: Final = 30 * 24 * 3600


class Action(enum.Enum):
    """What was being done: Cinder's number, and words. The number 100 is Kevel's own: Cinder has none for it."""

    ATTACH_VOLUME = ("002", "attach volume")
    UPDATE_ATTACHMENT = ("004", "update attachment")
    EXTEND_VOLUME = ("007", "extend volume")
    CREATE_VOLUME = ("008", "create volume from backend storage")
    DELETE_VOLUME = ("100", "delete volume")


class Detail(enum.Enum):
    """Cinder's number for what went wrong."""

    UNKNOWN_ERROR = "001"
    DRIVER_FAILED_EXTEND = "010"
    DRIVER_FAILED_CREATE = "012"
    ATTACH_ERROR = "021"
    DETACH_ERROR = "022"


#: What is said of a failed operation on a volume.
OF_OPERATION: Final = {
    OperationKind.CREATING: (Action.CREATE_VOLUME, Detail.DRIVER_FAILED_CREATE),
    OperationKind.EXTENDING: (Action.EXTEND_VOLUME, Detail.DRIVER_FAILED_EXTEND),
    OperationKind.DELETING: (Action.DELETE_VOLUME, Detail.UNKNOWN_ERROR),
}

_WORDS: Final = dict(action.value for action in Action)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message about a volume."""

    id: str
    project_id: str
    request_id: str
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
        return f"VOLUME_VOLUME_{self.action_id}_{self.detail_id}"

    @property
    def user_message(self) -> str:
        """What was being done, and why it failed."""
        return f"{_WORDS[self.action_id]}: {self.text}"
