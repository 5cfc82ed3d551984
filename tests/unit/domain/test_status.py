from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from kevel.domain.ladder import Goal, Rung
from kevel.domain.model import Attachment, BootKind, OperationKind, Path, ServerExtras, ServerGoal, ServerRung
from kevel.domain.status import (
    attachment_status,
    is_complete,
    power_state,
    server_status,
    task_state,
    vm_state,
    volume_status,
)
from tests.things import T0, make_attachment, make_operation, make_path, make_reason, make_server, make_volume

ATTACHED, DETACHED = Goal.ATTACHED, Goal.DETACHED
UNFINISHED = (Rung.RELEASED, Rung.RESERVED, Rung.EXPORTED, Rung.CONNECTED)


def standing(goal: Goal, rung: Rung, **changes: Any) -> tuple[Attachment, list[Path]]:
    paths = [] if rung is Rung.RELEASED else [make_path(rung)]
    return make_attachment(goal=goal, **changes), paths


PLUGGED = standing(ATTACHED, Rung.PLUGGED)
CLIMBING = standing(ATTACHED, Rung.CONNECTED)
GOING = standing(DETACHED, Rung.PLUGGED)
CLOSED = standing(DETACHED, Rung.RELEASED, closed_at=T0)


@pytest.mark.parametrize(
    ("goal", "rung", "status"),
    [
        *((ATTACHED, rung, "attaching") for rung in UNFINISHED if rung is not Rung.RELEASED),
        (ATTACHED, Rung.RELEASED, "reserved"),
        (ATTACHED, Rung.PLUGGED, "attached"),
        *((DETACHED, rung, "detaching") for rung in Rung),
    ],
)
def test_an_open_attachments_status_follows_from_its_goal_and_rung(goal: Goal, rung: Rung, status: str) -> None:
    attachment, paths = standing(goal, rung)
    assert attachment_status(attachment, paths) == status
    assert is_complete(attachment, paths) is (status == "attached")


def test_what_a_server_without_a_host_is_given_is_attached_and_what_it_had_is_reserved() -> None:
    given, paths = standing(ATTACHED, Rung.RELEASED, attached_at=T0)
    assert attachment_status(given, paths) == "attached"
    assert attachment_status(make_attachment(goal=ATTACHED, attached_at=None), []) == "reserved"


def test_a_closed_attachment_is_detached() -> None:
    assert attachment_status(*CLOSED) == "detached"


def test_one_plugged_path_of_two_makes_an_attachment_complete() -> None:
    attachment = make_attachment()
    paths = [make_path(Rung.CONNECTED, id="old"), make_path(Rung.PLUGGED, id="new")]
    assert attachment_status(attachment, paths) == "attached"


@pytest.mark.parametrize(
    ("attachments", "status"),
    [
        ([], "available"),
        ([CLOSED], "available"),
        ([CLIMBING], "attaching"),
        ([PLUGGED], "in-use"),
        ([GOING], "detaching"),
        ([CLOSED, CLIMBING], "attaching"),
        ([GOING, PLUGGED], "in-use"),
        ([CLIMBING, PLUGGED], "in-use"),
        ([GOING, CLIMBING], "attaching"),
    ],
)
def test_a_volumes_status_is_that_of_its_busiest_attachment(
    attachments: list[tuple[Attachment, list[Path]]], status: str
) -> None:
    assert volume_status(make_volume(), None, attachments) == status


@pytest.mark.parametrize("rung", UNFINISHED)
def test_s3_a_volume_is_in_use_only_when_the_guest_has_the_disk(rung: Rung) -> None:
    word = "reserved" if rung is Rung.RELEASED else "attaching"
    assert volume_status(make_volume(), None, [standing(ATTACHED, rung)]) == word


def test_s3_a_volume_is_available_only_when_no_open_attachment_is_left() -> None:
    assert volume_status(make_volume(), None, [standing(DETACHED, Rung.RELEASED)]) == "detaching"


#: Each level of the precedence, highest first: the change to the volume, the operation, the attachments, the word.
LEVELS: list[tuple[dict[str, Any], dict[str, Any] | None, list[tuple[Attachment, list[Path]]], str]] = [
    ({"deleted_at": T0}, None, [], "deleted"),
    ({"mask": "maintenance"}, None, [], "maintenance"),
    ({}, {"kind": OperationKind.EXTENDING}, [], "extending"),
    ({"fault": make_reason("creating_failed")}, None, [], "error"),
    ({}, None, [PLUGGED], "in-use"),
]


def mixed_levels() -> Iterator[tuple[list[int], str]]:
    for chosen in product((False, True), repeat=len(LEVELS)):
        levels = [number for number, there in enumerate(chosen) if there]
        yield levels, LEVELS[levels[0]][3] if levels else "available"


@pytest.mark.parametrize(("levels", "status"), list(mixed_levels()))
def test_mask_operation_fault_and_attachments_speak_in_that_order(levels: list[int], status: str) -> None:
    changes: dict[str, Any] = {}
    operation, attachments = None, []
    for level in levels:
        volume_changes, operation_changes, level_attachments, _ = LEVELS[level]
        changes |= volume_changes
        attachments += level_attachments
        operation = operation if operation_changes is None else make_operation(**operation_changes)
    assert volume_status(make_volume(**changes), operation, attachments) == status


@pytest.mark.parametrize("kind", OperationKind)
def test_a_running_operation_is_the_volumes_status(kind: OperationKind) -> None:
    expected = "maintenance" if kind is OperationKind.MIGRATING else kind.value
    assert volume_status(make_volume(), make_operation(kind=kind), []) == expected


def test_a_finished_operation_is_not() -> None:
    assert volume_status(make_volume(), make_operation(finished_at=T0), []) == "available"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("creating_failed", "error"),
        ("deleting_failed", "error_deleting"),
        ("extending_failed", "error_extending"),
        ("anything_else", "error"),
    ],
)
def test_a_fault_names_the_operation_that_failed(code: str, status: str) -> None:
    assert volume_status(make_volume(fault=make_reason(code)), None, []) == status


RUNNING, STOPPED, DELETED = ServerGoal.RUNNING, ServerGoal.STOPPED, ServerGoal.DELETED
PAUSED, SUSPENDED, HALTED, SAVED = ServerGoal.PAUSED, ServerGoal.SUSPENDED, ServerRung.PAUSED, ServerRung.SUSPENDED
RESET = {"fault": make_reason("reset_by_admin")}
GONE, PLACED, DEFINED, UP = ServerRung.GONE, ServerRung.PLACED, ServerRung.DEFINED, ServerRung.RUNNING
FAULT = {"fault": make_reason()}
RESCUING: dict[str, Any] = {"extras": ServerExtras(task="rescuing"), "wanted_shape": 1}
RESIZED: dict[str, Any] = {"extras": ServerExtras(old_flavor={}, task="resize_migrating")}
NEW = {"launched_at": None, "boot": 0}

#: goal, rung, other changes: vm_state, task_state, status.
SERVERS: list[tuple[ServerGoal, ServerRung, dict[str, Any], str, str | None, str]] = [
    (RUNNING, PLACED, NEW, "building", "spawning", "BUILD"),
    (RUNNING, DEFINED, NEW, "building", "spawning", "BUILD"),
    (RUNNING, UP, {}, "active", None, "ACTIVE"),
    (RUNNING, UP, {"wanted_boot": 2, "boot_kind": BootKind.SOFT}, "active", "rebooting", "REBOOT"),
    (RUNNING, UP, {"wanted_boot": 2, "boot_kind": BootKind.HARD}, "active", "rebooting_hard", "HARD_REBOOT"),
    (RUNNING, DEFINED, {}, "stopped", "powering-on", "SHUTOFF"),
    (RUNNING, DEFINED, {"wanted_boot": 2}, "stopped", "powering-on", "SHUTOFF"),
    (RUNNING, PLACED, {}, "stopped", "powering-on", "SHUTOFF"),
    (STOPPED, UP, {}, "active", "powering-off", "ACTIVE"),
    (STOPPED, DEFINED, {}, "stopped", None, "SHUTOFF"),
    (STOPPED, DEFINED, FAULT, "error", None, "ERROR"),
    (STOPPED, PLACED, NEW | FAULT, "error", None, "ERROR"),
    (RUNNING, UP, FAULT, "active", None, "ACTIVE"),
    (PAUSED, UP, {}, "active", "pausing", "ACTIVE"),
    (PAUSED, HALTED, {}, "paused", None, "PAUSED"),
    (PAUSED, HALTED, FAULT, "paused", None, "PAUSED"),
    (PAUSED, HALTED, RESET, "error", None, "ERROR"),
    (RUNNING, HALTED, {}, "paused", "unpausing", "PAUSED"),
    (RUNNING, HALTED, {"wanted_boot": 2}, "paused", "rebooting_hard", "HARD_REBOOT"),
    (SUSPENDED, UP, {}, "active", "suspending", "ACTIVE"),
    (SUSPENDED, SAVED, {}, "suspended", None, "SUSPENDED"),
    (RUNNING, SAVED, {}, "suspended", "resuming", "SUSPENDED"),
    (STOPPED, SAVED, {}, "suspended", "powering-off", "SUSPENDED"),
    (RUNNING, UP, RESET, "error", None, "ERROR"),
    (RUNNING, UP, RESCUING, "active", "rescuing", "ACTIVE"),
    (RUNNING, DEFINED, RESCUING, "stopped", "rescuing", "SHUTOFF"),
    (RUNNING, DEFINED, RESCUING | {"shape": 1}, "stopped", "rescuing", "SHUTOFF"),
    (RUNNING, UP, {"extras": ServerExtras(rescued=True, task="rescuing")}, "rescued", None, "RESCUE"),
    (STOPPED, DEFINED, {"extras": ServerExtras(rescued=True)}, "rescued", None, "RESCUE"),
    (
        STOPPED,
        DEFINED,
        {"extras": ServerExtras(task="rebuilding"), "wanted_shape": 1},
        "stopped",
        "rebuilding",
        "REBUILD",
    ),
    (RUNNING, UP, RESIZED | {"wanted_shape": 1}, "active", "resize_migrating", "RESIZE"),
    (RUNNING, UP, RESIZED, "resized", None, "VERIFY_RESIZE"),
    (STOPPED, DEFINED, RESIZED, "resized", None, "VERIFY_RESIZE"),
    (STOPPED, DEFINED, RESIZED | FAULT, "error", None, "ERROR"),
    (DELETED, HALTED, {}, "paused", "deleting", "PAUSED"),
    (DELETED, UP, {}, "active", "deleting", "ACTIVE"),
    (DELETED, DEFINED, {}, "stopped", "deleting", "SHUTOFF"),
    (DELETED, PLACED, {}, "stopped", "deleting", "SHUTOFF"),
    (DELETED, PLACED, NEW, "building", "deleting", "BUILD"),
    (DELETED, DEFINED, FAULT, "error", "deleting", "ERROR"),
    (DELETED, GONE, {"deleted_at": T0}, "deleted", None, "DELETED"),
    (DELETED, GONE, {"deleted_at": T0} | FAULT, "deleted", None, "DELETED"),
]


@pytest.mark.parametrize(("goal", "rung", "changes", "vm", "task", "status"), SERVERS)
def test_a_servers_states_follow_from_its_goal_and_rung(
    goal: ServerGoal, rung: ServerRung, changes: dict[str, Any], vm: str, task: str | None, status: str
) -> None:
    server = make_server(goal=goal, rung=rung, **changes)
    assert (vm_state(server), task_state(server), server_status(server)) == (vm, task, status)


@pytest.mark.parametrize(("rung", "number"), [(GONE, 0), (PLACED, 0), (DEFINED, 4), (SAVED, 4), (HALTED, 3), (UP, 1)])
def test_power_state_is_novas_number(rung: ServerRung, number: int) -> None:
    assert power_state(make_server(rung=rung)) == number


def test_every_goal_rung_and_boot_has_a_status() -> None:
    for goal, rung, fault, launched, wanted in product(
        ServerGoal, ServerRung, (None, make_reason()), (None, T0), (1, 2)
    ):
        server = make_server(goal=goal, rung=rung, fault=fault, launched_at=launched, wanted_boot=wanted)
        assert server_status(server)
