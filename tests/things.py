"""Volumes, servers, attachments and paths as tests need them: whole, with whatever the test speaks of replaced."""

from __future__ import annotations

from typing import Any

import msgspec

from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.model import (
    Actor,
    Attachment,
    BootKind,
    Operation,
    OperationKind,
    Path,
    Reason,
    Server,
    ServerGoal,
    ServerRung,
    Subject,
    Volume,
)

PROJECT = "11" * 16
USER = "u-member"
#: The instant at which tests begin, in microseconds.
T0 = 1_750_000_000_000_000
SECOND = 1_000_000

ACTOR = Actor(user_id=USER, project_id=PROJECT, request_id="req-first")


def make_reason(code: str = "storage_full", message: str = "There is no room.") -> Reason:
    return Reason(code=code, message=message, at=T0)


def make_volume(**changes: Any) -> Volume:
    volume = Volume(
        id="volume",
        project_id=PROJECT,
        user_id=USER,
        name="data",
        description=None,
        size_gib=1,
        volume_type_id="type",
        backend="sim",
        format="raw",
        availability_zone="nova",
        metadata={},
        bootable=False,
        readonly=False,
        multiattach=False,
        made=True,
        fault=None,
        mask=None,
        generation=0,
        created_at=T0,
        updated_at=None,
        deleted_at=None,
    )
    return msgspec.structs.replace(volume, **changes)


def make_operation(**changes: Any) -> Operation:
    operation = Operation(
        id=1,
        volume_id="volume",
        kind=OperationKind.EXTENDING,
        subject=Subject.VOLUME,
        subject_id="volume",
        args={"size_gib": 2},
        request_id="req-extend",
        created_at=T0,
        deadline_at=T0 + 60 * SECOND,
        finished_at=None,
        last_error=None,
    )
    return msgspec.structs.replace(operation, **changes)


def make_server(**changes: Any) -> Server:
    server = Server(
        id="server",
        project_id=PROJECT,
        user_id=USER,
        name="web",
        description=None,
        flavor={"name": "tiny", "vcpus": 1, "ram_mib": 64, "disk_gib": 0, "extra_specs": {}},
        image={"id": "image", "disk_format": "raw", "file": "images/one", "properties": {}},
        host="here",
        availability_zone="nova",
        metadata={},
        goal=ServerGoal.RUNNING,
        goal_revision=1,
        goal_request_id="req-create",
        deadline_at=T0 + 300 * SECOND,
        rung=ServerRung.RUNNING,
        revision=1,
        wanted_boot=1,
        boot=1,
        boot_kind=BootKind.HARD,
        key_name=None,
        locked=False,
        fault=None,
        created_at=T0,
        updated_at=T0,
        launched_at=T0,
        terminated_at=None,
        deleted_at=None,
    )
    return msgspec.structs.replace(server, **changes)


def make_attachment(**changes: Any) -> Attachment:
    attachment = Attachment(
        id="attachment",
        volume_id="volume",
        server_id="server",
        project_id=PROJECT,
        goal=Goal.ATTACHED,
        goal_revision=1,
        goal_request_id="req-attach",
        goal_by="user",
        goal_at=T0,
        deadline_at=T0 + 120 * SECOND,
        established=False,
        device="/dev/sdb",
        unit=1,
        tag=None,
        delete_on_termination=False,
        boot_index=None,
        reason=None,
        created_at=T0,
        attached_at=None,
        closed_at=None,
    )
    return msgspec.structs.replace(attachment, **changes)


def make_path(rung: Rung = Rung.RESERVED, **changes: Any) -> Path:
    path = Path(
        id="path",
        attachment_id="attachment",
        volume_id="volume",
        server_id="server",
        host="here",
        generation=1,
        rung=rung,
        hands=Hands.HOST if rung > Rung.EXPORTED else Hands.CONTROL,
        revision=1,
        connection_info=b"sealed" if rung >= Rung.EXPORTED else None,
        plugged_bytes=None,
        last_error=None,
        changed_at=T0,
    )
    return msgspec.structs.replace(path, **changes)
