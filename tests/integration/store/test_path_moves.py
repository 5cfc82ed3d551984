"""The transactions that move attachments, paths and servers: flips, outdated reports, history (S4, S6, S11, S12)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from kevel.domain.errors import StaleWrite
from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.model import GIB, Attachment, OperationKind, ServerGoal, ServerRung
from kevel.domain.status import volume_status
from kevel.store.actions import Action, list_actions
from kevel.store.attachments import live_paths, open_of_volume
from kevel.store.hosts import register_host
from kevel.store.journal import of_attachment
from kevel.store.path_moves import NewAttachment, keep_waiting, move_path, open_attachment, set_goal
from kevel.store.schema import metadata
from kevel.store.transactions import Tx, Wake
from kevel.store.volumes import change_volume, volume_operation
from tests.integration.store import journal_fold
from tests.integration.store.life import EFFECTFUL, FREE, SEALED, Life
from tests.integration.store.rows import insert_server
from tests.things import SECOND, T0, make_reason

BACK_ENDS = pytest.mark.parametrize("free", [EFFECTFUL, FREE], ids=["every rung has an effect", "files"])


def everything(tx: Tx) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables."""
    return {
        name: [tuple(row) for row in tx.conn.execute(text(f'SELECT * FROM "{name}" ORDER BY 1'))]  # noqa: S608
        for name in metadata.tables
    }


def actions(life: Life, name: str) -> list[Action]:
    return [action for action in list_actions(life.tx, "server") if action.action == name]


def goal_of(attachment: Attachment) -> tuple[Goal, str]:
    return attachment.goal, attachment.goal_by


def plugged(tx: Tx, free: frozenset[Rung] = EFFECTFUL) -> Life:
    life = Life(tx, free)
    life.attach()
    life.settle()
    assert life.path.rung is Rung.PLUGGED
    return life


# What an attach and a detach come to


@BACK_ENDS
def test_an_attach_climbs_to_plugged_and_is_established_then(tx: Tx, free: frozenset[Rung]) -> None:
    life = Life(tx, free)
    life.attach()
    new = life.attachment
    life.settle()
    assert life.path.rung is Rung.PLUGGED
    assert (new.established, life.attachment.established) == (False, True)
    assert (new.attached_at, life.attachment.attached_at) == (None, life.at)
    assert [action.result for action in actions(life, "attach_volume")] == ["Success"]


@BACK_ENDS
def test_a_detach_leaves_nothing_but_tombstones(tx: Tx, free: frozenset[Rung]) -> None:
    life = plugged(tx, free)
    life.detach()
    life.settle()
    path = life.path
    assert (path.rung, path.hands, path.connection_info, path.plugged_bytes) == (
        Rung.RELEASED,
        Hands.CONTROL,
        None,
        None,
    )
    assert life.attachment.closed_at == life.at
    assert not life.is_open()
    assert tx.conn.execute(text("SELECT count(*) FROM claims WHERE live = 1")).scalar_one() == 0
    assert [action.result for action in actions(life, "detach_volume")] == ["Success"]


@BACK_ENDS
def test_a_detach_at_any_moment_of_an_attach_only_turns_it_round(tx: Tx, free: frozenset[Rung]) -> None:
    for steps in range(4):
        life = Life(tx, free)
        life.ids = [f"earlier-{steps}-{number}" for number in range(steps)]
        life.attach()
        for _ in range(steps):
            life.step()
        life.detach()
        life.settle()
        assert not life.is_open(), steps
        journal_fold.assert_equal(tx, life.ids[-1])
        assert life.attachment.reason is None


def test_s3_connection_info_is_there_from_the_export_to_the_revocation(tx: Tx) -> None:
    life = Life(tx)
    life.attach()
    assert life.path.connection_info is None
    while life.step():
        assert life.path.connection_info == SEALED
    life.detach()
    while life.path.rung > Rung.EXPORTED:
        life.step()
        assert life.path.connection_info == SEALED
    life.step()
    assert life.path.connection_info is None


def test_s6_each_attachment_has_a_generation_of_its_own(tx: Tx) -> None:
    life = Life(tx)
    generations = []
    for _ in range(3):
        life.attach()
        generations.append(life.path.generation)
        life.detach()
        life.settle()
    assert generations == [1, 2, 3]


def test_s1_a_volume_that_is_held_is_not_claimed_again(tx: Tx) -> None:
    life = plugged(tx)
    with pytest.raises(IntegrityError):
        life.attach()


def test_whoever_has_to_act_next_is_woken(tx: Tx) -> None:
    life = Life(tx)
    life.attach()
    assert Wake("path", life.path.id) in tx.wakes, "the export is the control plane's"
    tx.wakes.clear()
    life.step()
    follower = Wake("attachment", life.attachment.id)
    assert set(tx.wakes) == {Wake("host", "here"), follower}, "now it is the host's; and who follows it has news"
    life.settle()
    tx.wakes.clear()
    life.detach()
    assert set(tx.wakes) == {Wake("host", "here"), follower}
    tx.wakes.clear()
    while life.path.hands is Hands.HOST:
        life.step()
    assert Wake("path", life.path.id) in tx.wakes


# Who turns a goal round (give_up)


def test_a_new_attachment_that_fails_for_good_rolls_back_with_its_reason(tx: Tx) -> None:
    life = Life(tx)
    life.attach()
    life.step()
    life.fail("plug_failed")
    assert goal_of(life.attachment) == (Goal.DETACHED, "rollback")
    assert life.attachment.reason is not None
    assert life.attachment.reason.code == "plug_failed"
    (action,) = actions(life, "attach_volume")
    assert (action.result, action.details) == ("Error", "It would not.")
    life.settle()
    assert not life.is_open()
    assert life.attachment.reason.code == "plug_failed", "the reason outlives the attachment"


def test_an_export_that_is_refused_for_good_rolls_back_too(tx: Tx) -> None:
    life = Life(tx)
    life.attach()
    life.give_up()
    assert goal_of(life.attachment) == (Goal.DETACHED, "rollback")
    life.settle()
    assert not life.is_open()


def test_a_failure_that_may_pass_turns_nothing_round_and_is_shown(tx: Tx) -> None:
    life = Life(tx)
    life.attach()
    life.step()
    life.fail("plug_failed", final=False)
    assert goal_of(life.attachment) == (Goal.ATTACHED, "user")
    assert life.path.last_error is not None
    assert life.path.last_error.code == "plug_failed"
    life.settle()
    assert life.path.last_error is None, "a move forgets the error before it"


def test_an_established_attachment_is_never_given_away_by_a_failure(tx: Tx) -> None:
    life = plugged(tx)
    life.report(rung=Rung.CONNECTED, plugged_bytes=None)
    life.fail("plug_failed")
    assert goal_of(life.attachment) == (Goal.ATTACHED, "user")
    assert life.attachment.reason is not None, "and the reason is kept"
    life.settle()
    assert life.path.rung is Rung.PLUGGED


def test_a_detach_that_the_guest_refuses_ends_attached_with_its_reason(tx: Tx) -> None:
    life = plugged(tx)
    life.detach()
    life.fail()
    assert goal_of(life.attachment) == (Goal.ATTACHED, "refusal")
    assert life.attachment.reason is not None
    assert life.attachment.reason.code == "guest_refused"
    (action,) = actions(life, "detach_volume")
    assert (action.result, action.details) == ("Error", "It would not.")
    views = [(view.attachment, view.paths) for view in open_of_volume(tx, "volume")]
    assert volume_status(life.volume, None, views) == "in-use"


def test_l2_after_a_refusal_the_user_may_ask_again_and_that_request_may_flip_again(tx: Tx) -> None:
    life = plugged(tx)
    for _ in range(2):
        life.detach()
        life.fail()
        assert goal_of(life.attachment) == (Goal.ATTACHED, "refusal")
    life.detach()
    assert life.attachment.reason is None
    life.settle()
    assert not life.is_open()


def test_one_request_causes_at_most_one_flip(tx: Tx) -> None:
    life = Life(tx)
    life.attach()
    life.step()
    life.fail("plug_failed")
    revision = life.attachment.goal_revision
    for _ in range(3):
        life.fail("unplug_failed")
    assert goal_of(life.attachment) == (Goal.DETACHED, "rollback"), "a rollback that is refused stays, and waits"
    assert life.attachment.goal_revision == revision


def test_a_refused_goal_is_not_turned_round_once_more(tx: Tx) -> None:
    life = plugged(tx)
    life.detach()
    life.fail()
    life.report(rung=Rung.CONNECTED, plugged_bytes=None)
    life.fail("plug_failed")
    assert goal_of(life.attachment) == (Goal.ATTACHED, "refusal")


def test_a_detach_of_a_new_attachment_that_is_refused_stays(tx: Tx) -> None:
    life = Life(tx)
    life.attach()
    life.step()
    life.detach()
    life.fail("unplug_failed")
    assert goal_of(life.attachment) == (Goal.DETACHED, "user"), "it was never attached: there is nothing to go back to"


def test_a_servers_deletion_is_never_turned_round(tx: Tx) -> None:
    life = plugged(tx)
    life.delete_server()
    life.fail()
    assert goal_of(life.attachment) == (Goal.DETACHED, "server")


def test_a_refusal_reported_behind_a_servers_deletion_turns_nothing_round(tx: Tx) -> None:
    life = plugged(tx)
    life.detach()
    asked_for = life.attachment.goal_revision
    life.delete_server()
    assert goal_of(life.attachment) == (Goal.DETACHED, "server")
    life.fail(goal_revision=asked_for)
    life.fail()
    assert goal_of(life.attachment) == (Goal.DETACHED, "server")
    life.settle()
    assert life.server.deleted_at is not None


def test_a_failure_of_an_older_request_turns_no_newer_goal_round(tx: Tx) -> None:
    life = plugged(tx)
    older = life.attachment.goal_revision
    life.detach()
    life.fail(goal_revision=older)
    assert goal_of(life.attachment) == (Goal.DETACHED, "user")
    assert life.path.last_error is not None, "it is history all the same"


def test_a_plug_that_lands_during_the_rollback_does_not_make_it_established(tx: Tx) -> None:
    life = Life(tx)
    life.attach()
    life.step()
    life.fail("plug_failed")
    life.report(rung=Rung.PLUGGED, plugged_bytes=GIB)
    assert not life.attachment.established
    life.fail()
    assert goal_of(life.attachment) == (Goal.DETACHED, "rollback")
    life.settle()
    assert not life.is_open()


def test_a_goal_is_changed_by_compare_and_set_only(tx: Tx) -> None:
    life = plugged(tx)
    stale = life.attachment
    life.detach()
    before = everything(tx)
    with pytest.raises(StaleWrite):
        set_goal(
            tx,
            stale,
            Goal.DETACHED,
            by="user",
            request_id="req",
            actor="user:u",
            at=life.at,
            deadline_at=life.at,
            reason=None,
        )
    assert everything(tx) == before


def test_a_path_is_moved_by_compare_and_set_only(tx: Tx) -> None:
    life = Life(tx)
    life.attach()
    stale = life.path
    life.step()
    with pytest.raises(StaleWrite):
        move_path(tx, stale, rung=Rung.EXPORTED, hands=Hands.HOST, actor="control", at=life.at, connection_info=SEALED)


def test_waiting_says_why_and_ends_the_users_waiting_but_not_the_goal(tx: Tx) -> None:
    life = plugged(tx)
    life.detach()
    keep_waiting(tx, life.attachment, make_reason("host_silent", "The host is silent."), at=life.at)
    assert goal_of(life.attachment) == (Goal.DETACHED, "user")
    (action,) = actions(life, "detach_volume")
    assert (action.result, action.details) == ("Error", "The host is silent.")
    life.settle()
    assert not life.is_open()


# Whose reports count (S6, S11)


def outdated_revision(life: Life) -> bool:
    return life.report(revision=life.path.revision - 1, rung=Rung.CONNECTED)


def future_revision(life: Life) -> bool:
    return life.report(revision=life.path.revision + 1, rung=Rung.CONNECTED)


def other_host(life: Life) -> bool:
    return life.report(host="there", rung=Rung.CONNECTED)


def unknown_host(life: Life) -> bool:
    return life.report(host="nowhere", rung=Rung.CONNECTED)


def unknown_path(life: Life) -> bool:
    return life.report(path_id="path-of-nobody", rung=Rung.CONNECTED)


def outdated_failure(life: Life) -> bool:
    return life.fail(revision=life.path.revision - 1)


@pytest.mark.parametrize(
    "outdated", [outdated_revision, future_revision, other_host, unknown_host, unknown_path, outdated_failure]
)
def test_s6_s11_a_report_that_does_not_count_changes_nothing(tx: Tx, outdated: Callable[[Life], bool]) -> None:
    register_host(tx, name="there", availability_zone="nova", facts={}, at=T0)
    life = plugged(tx)
    life.detach()
    before, woken = everything(tx), list(tx.wakes)
    assert outdated(life) is False
    assert everything(tx) == before
    assert tx.wakes == woken


def test_s6_an_agent_of_an_earlier_epoch_is_not_heard(tx: Tx) -> None:
    life = plugged(tx)
    epoch = register_host(tx, name="here", availability_zone="nova", facts={"max_volumes": 8}, at=T0)
    assert epoch == 2
    before = everything(tx)
    assert life.report(epoch=1, rung=Rung.CONNECTED) is False
    assert life.host_removed_server() is False
    assert everything(tx) == before
    assert life.report(epoch=2, rung=Rung.CONNECTED, plugged_bytes=None) is True


def test_a_host_is_not_heard_about_a_path_that_it_has_handed_back(tx: Tx) -> None:
    life = plugged(tx)
    life.detach()
    while life.path.hands is Hands.HOST:
        life.step()
    before = everything(tx)
    assert life.report(rung=Rung.PLUGGED, hands=Hands.HOST, plugged_bytes=GIB) is False
    assert everything(tx) == before


def test_a_repeated_report_is_taken_once(tx: Tx) -> None:
    life = plugged(tx)
    revision = life.path.revision
    assert life.report(rung=Rung.CONNECTED, plugged_bytes=None) is True
    before = everything(tx)
    assert life.report(revision=revision, rung=Rung.CONNECTED, plugged_bytes=None) is False
    assert everything(tx) == before


def test_s11_a_server_of_another_host_is_not_moved(tx: Tx) -> None:
    register_host(tx, name="there", availability_zone="nova", facts={}, at=T0)
    insert_server(tx, "abroad", host="there", rung=ServerRung.RUNNING)
    life = Life(tx)
    life.delete_server()
    before = everything(tx)
    tx.conn.execute(text("UPDATE servers SET host = 'there' WHERE id = 'server'"))
    assert life.host_removed_server() is False
    tx.conn.execute(text("UPDATE servers SET host = 'here' WHERE id = 'server'"))
    assert everything(tx) == before


# The end of a server (S4)


@BACK_ENDS
def test_s4_a_deleted_server_is_a_tombstone_only_when_its_last_path_is_gone(tx: Tx, free: frozenset[Rung]) -> None:
    life = plugged(tx, free)
    life.delete_server()
    assert life.host_removed_server()
    waiting = life.server
    assert (waiting.rung, waiting.deleted_at) == (ServerRung.PLACED, None)
    life.settle()
    assert (life.server.rung, life.server.deleted_at) == (ServerRung.GONE, life.at)
    assert life.attachment.closed_at is not None
    assert [action.result for action in actions(life, "delete")] == ["Success"]
    journal_fold.assert_equal(tx, life.ids[-1])


def test_a_deleted_server_without_volumes_ends_with_its_hosts_word(tx: Tx) -> None:
    life = Life(tx)
    life.delete_server()
    waiting = life.server
    assert waiting.deleted_at is None, "nobody has seen yet that nothing is left"
    assert life.host_removed_server()
    assert life.server.deleted_at == life.at


def test_an_open_attach_ends_with_an_error_when_its_server_is_deleted(tx: Tx) -> None:
    life = Life(tx)
    life.attach()
    life.delete_server()
    (action,) = actions(life, "attach_volume")
    assert action.result == "Error"
    life.settle()
    assert not life.is_open()


@pytest.mark.parametrize("goes", [True, False])
def test_a_volume_goes_with_its_server_only_where_that_was_asked_for(tx: Tx, goes: bool) -> None:
    life = Life(tx)
    life.attach(delete_on_termination=goes)
    life.settle()
    life.delete_server()
    assert volume_operation(tx, "volume") is None, "not before the server has let go of it"
    life.settle()
    operation = volume_operation(tx, "volume")
    assert (operation is not None and operation.kind is OperationKind.DELETING) is goes


def test_a_volume_that_was_detached_before_stays(tx: Tx) -> None:
    life = Life(tx)
    life.attach(delete_on_termination=True)
    life.settle()
    life.detach()
    life.settle()
    life.delete_server()
    life.host_removed_server()
    assert volume_operation(tx, "volume") is None


def test_a_shared_volume_that_another_server_has_stays_when_one_server_goes(tx: Tx) -> None:
    change_volume(tx, "volume", multiattach=True)
    insert_server(tx, "other")
    life = Life(tx)
    life.attach(delete_on_termination=True)
    life.settle()
    second = NewAttachment(
        attachment_id="b",
        claim_id="claim-b",
        path_id="path-b",
        server_id="other",
        host="here",
        device="/dev/sdb",
        unit=1,
        tag=None,
        delete_on_termination=True,
        deadline_at=life.at,
    )
    open_attachment(tx, second, life.volume, actor=life.actor(), at=life.tick(), seal_export=None)
    life.delete_server()
    life.settle()
    assert not life.is_open()
    assert volume_operation(tx, "volume") is None, "the other server still has it"


# The journal, which is S12


def test_s12_the_journal_says_who_moved_what_for_which_request_and_how_long_it_took(tx: Tx) -> None:
    life = Life(tx)
    life.attach()
    life.step()
    life.report(rung=Rung.CONNECTED, took_us=7)
    lines = [(entry.what, entry.before, entry.after, entry.actor, entry.took_us) for entry in of_attachment(tx, "a0")]
    assert lines == [
        ("goal", "none", "attached", "user:u-member", None),
        ("rung", "released", "reserved", "user:u-member", None),
        ("rung", "reserved", "exported", "control", None),
        ("rung", "exported", "connected", "host:here", 7),
    ]
    assert {entry.request_id for entry in of_attachment(tx, "a0")} == {"req-1"}


def test_s12_a_grown_disk_and_a_path_handed_back_and_forth_are_in_the_journal(tx: Tx) -> None:
    life = plugged(tx)
    life.report(plugged_bytes=2 * GIB)
    life.detach()
    while life.path.hands is Hands.HOST:
        life.step()
    life.give_up()
    journal_fold.assert_equal(tx, "a0")
    assert "size" in {entry.what for entry in of_attachment(tx, "a0")}


OPERATIONS = (
    "attach",
    "detach",
    "step",
    "step",
    "step",
    "final failure",
    "failure",
    "older failure",
    "outdated report",
    "lost disk",
    "grown disk",
    "control gives up",
    "silent host",
    "delete server",
    "forget later",
)


class Random:
    """Applies operations by name, each where it makes sense."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.flips: dict[str, int] = {}

    def apply(self, name: str) -> None:
        life = self.life
        if name == "attach":
            if not life.is_open() and life.server.goal is not ServerGoal.DELETED:
                life.attach()
            return
        if not life.ids:
            return
        before = life.attachment
        self._apply(name)
        after = life.attachment
        if after.goal_revision != before.goal_revision and after.goal_by in ("rollback", "refusal"):
            assert after.goal_request_id == before.goal_request_id
            self.flips[after.goal_request_id] = self.flips.get(after.goal_request_id, 0) + 1
        if before.established and not self._asked_to_go(name):
            assert after.goal is before.goal or after.goal_by == "refusal", "an established one is never given away"

    def _asked_to_go(self, name: str) -> bool:
        return name in ("detach", "delete server")

    def _apply(self, name: str) -> None:  # noqa: C901 - one line for each thing that can happen
        life, path = self.life, self.life.path
        held = path.hands is Hands.HOST
        alive = life.server.goal is not ServerGoal.DELETED
        if name == "detach" and life.is_open() and alive:
            life.detach()
        elif name == "step":
            life.step()
        elif name == "final failure" and held:
            assert life.fail()
        elif name == "failure" and held:
            assert life.fail(final=False)
        elif name == "older failure" and held:
            goal = life.attachment.goal
            assert life.fail(goal_revision=life.attachment.goal_revision - 1)
            assert life.attachment.goal is goal
        elif name == "outdated report":
            assert life.report(revision=path.revision - 1, rung=Rung.PLUGGED, hands=Hands.HOST) is False
        elif name == "lost disk" and path.rung is Rung.PLUGGED:
            assert life.report(rung=Rung.CONNECTED, plugged_bytes=None)
        elif name == "grown disk" and path.rung is Rung.PLUGGED and path.plugged_bytes is not None:
            assert life.report(plugged_bytes=path.plugged_bytes + GIB)
        elif name == "control gives up" and not held and life.is_open() and life.attachment.goal is Goal.ATTACHED:
            life.give_up()
        elif name == "silent host" and life.is_open():
            keep_waiting(life.tx, life.attachment, make_reason("host_silent"), at=life.tick())
        elif name == "delete server" and alive:
            life.delete_server()
        elif name == "forget later":
            change_volume(life.tx, "volume", updated_at=life.tick())


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from(OPERATIONS), min_size=4, max_size=30), free=st.sampled_from([EFFECTFUL, FREE]))
def test_s12_after_anything_that_can_happen_the_state_is_the_fold_of_its_journal(
    tx: Tx, names: list[str], free: frozenset[Rung]
) -> None:
    tx.conn.exec_driver_sql("SAVEPOINT example")
    try:
        life = Life(tx, free)
        random = Random(life)
        for name in ("attach", *names):
            random.apply(name)
            for attachment_id in life.ids:
                journal_fold.assert_equal(tx, attachment_id)
        assert all(count == 1 for count in random.flips.values()), "one request causes at most one flip"
        life.settle()
        wanted = life.attachment.goal is Goal.ATTACHED
        assert life.path.rung is (Rung.PLUGGED if wanted else Rung.RELEASED), "and everything ends where it should"
        assert bool(live_paths(tx, life.ids[-1])) is wanted
        for attachment_id in life.ids:
            journal_fold.assert_equal(tx, attachment_id)
    finally:
        tx.conn.exec_driver_sql("ROLLBACK TO example")
        tx.conn.exec_driver_sql("RELEASE example")


def test_the_fold_notices_a_move_without_its_line(tx: Tx) -> None:
    plugged(tx)
    tx.conn.execute(text("UPDATE paths SET rung = 3"))
    with pytest.raises(AssertionError):
        journal_fold.assert_equal(tx, "a0")
    tx.conn.execute(text("UPDATE paths SET rung = 4"))
    journal_fold.assert_equal(tx, "a0")
    tx.conn.execute(text("DELETE FROM journal WHERE what = 'rung' AND after = 'plugged'"))
    with pytest.raises(AssertionError):
        journal_fold.assert_equal(tx, "a0")


def test_deadlines_of_a_flip_are_those_it_was_given(tx: Tx) -> None:
    life = plugged(tx)
    life.detach()
    life.fail()
    assert life.attachment.deadline_at == life.at + 120 * SECOND
    assert life.attachment.goal_at == life.at
