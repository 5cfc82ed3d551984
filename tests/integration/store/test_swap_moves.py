"""Swaps: the exchange of two attachments' volumes, and which reports and requests move one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kevel.domain.assignments import SwapReport
from kevel.domain.errors import Conflict
from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.model import GIB, Reason, ServerGoal
from kevel.domain.swaps import GIVEN_UP, Swap, SwapState
from kevel.store.attachments import (
    AttachmentView,
    holds_of_server,
    load_attachment,
    load_path,
    open_of_server,
    open_of_volume,
)
from kevel.store.path_moves import NewAttachment, ask_detach, give_up, move_path, open_attachment
from kevel.store.server_moves import set_server_goal
from kevel.store.swap_moves import apply_swap_report, open_swap
from kevel.store.swaps import load_swap, newest_swap, swaps_for_host
from kevel.store.transactions import Tx
from kevel.store.volumes import insert_volume, load_volume
from tests.integration.store.life import SEALED, Life
from tests.things import SECOND, make_volume


class Swapped:
    """A plugged volume, another one on its host, and a swap of the two."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx
        self.life = Life(tx)
        self.life.attach()
        self.life.settle()
        self.kept = self.life.attachment.id
        insert_volume(tx, make_volume(id="new"))
        self._open_aside()
        swap = Swap(
            id="swap",
            attachment_id=self.kept,
            aside_id="aside",
            server_id="server",
            host="here",
            old_volume_id="volume",
            new_volume_id="new",
            state=SwapState.COPYING,
            revision=1,
            done_bytes=0,
            total_bytes=GIB,
            reason=None,
            request_id="req-swap",
            created_at=self.life.tick(),
            deadline_at=self.life.at + 60 * SECOND,
            finished_at=None,
        )
        open_swap(tx, swap, actor=self.life.actor())

    def _open_aside(self) -> None:
        volume, at = load_volume(self.tx, "new"), self.life.tick()
        assert volume is not None
        aside = NewAttachment(
            attachment_id="aside",
            claim_id="claim-aside",
            path_id="path-aside",
            server_id="server",
            host="here",
            device="/dev/sdb",
            unit=1,
            tag=None,
            delete_on_termination=False,
            deadline_at=at + 60 * SECOND,
            aside=True,
        )
        open_attachment(self.tx, aside, volume, actor=self.life.actor(), at=at, seal_export=None)
        for rung in (Rung.EXPORTED, Rung.CONNECTED):
            path = load_path(self.tx, "path-aside")
            assert path is not None
            move_path(self.tx, path, rung=rung, hands=Hands.HOST, actor="x", at=at, connection_info=SEALED)

    @property
    def row(self) -> Swap:
        found = load_swap(self.tx, "swap")
        assert found is not None
        return found

    def report(self, state: SwapState, *, host: str = "here", epoch: int = 1, **changes: Any) -> bool:
        report = SwapReport(swap_id="swap", revision=self.row.revision, state=state)
        report = msgspec.structs.replace(report, **changes)
        at = self.life.tick()
        return apply_swap_report(self.tx, host, epoch, report, at=at, deadline_at=at + SECOND)

    def goal(self, attachment_id: str) -> Goal:
        found = load_attachment(self.tx, attachment_id)
        assert found is not None
        return found.goal

    def holder(self, volume: str) -> AttachmentView:
        (view,) = open_of_volume(self.tx, volume)
        return view

    def listed(self) -> list[str]:
        return [one.volume_id for one in open_of_server(self.tx, "server")]


@pytest.fixture
def swapped(tx: Tx) -> Swapped:
    return Swapped(tx)


def test_before_the_exchange_the_server_has_the_old_volume_and_both_are_held(swapped: Swapped) -> None:
    assert swapped.listed() == ["volume"]
    assert [one.id for one in holds_of_server(swapped.tx, "server")] == [swapped.kept, "aside"]
    (assigned,) = swaps_for_host(swapped.tx, "here", 0)
    assert (assigned.old_path_id, assigned.new_path_id) == (f"path-{swapped.kept}", "path-aside")
    assert swapped.report(SwapState.COPYING, done_bytes=5, total_bytes=10)
    assert (swapped.row.state, swapped.row.done_bytes, swapped.row.revision) == (SwapState.COPYING, 5, 1)


def test_the_exchange_gives_the_attachment_the_new_volume_and_lets_go_of_the_old_one(swapped: Swapped) -> None:
    before = load_attachment(swapped.tx, swapped.kept)
    assert swapped.report(SwapState.PIVOTING)
    assert swapped.report(SwapState.SWAPPED)
    assert swapped.listed() == ["new"]
    kept, old = swapped.holder("new"), swapped.holder("volume")
    assert before is not None
    assert (kept.attachment.id, kept.attachment.serial) == (swapped.kept, "volume")
    assert (kept.attachment.device, kept.attachment.unit) == (before.device, before.unit)
    assert (old.attachment.id, old.attachment.goal) == ("aside", Goal.DETACHED)
    ((new_path,), (old_path,)) = (kept.paths, old.paths)
    assert (new_path.id, new_path.rung, new_path.plugged_bytes) == ("path-aside", Rung.PLUGGED, GIB)
    assert (old_path.id, old_path.rung, old_path.hands) == (f"path-{swapped.kept}", Rung.CONNECTED, Hands.HOST)
    assert (swapped.row.state, swaps_for_host(swapped.tx, "here", 0)) == (SwapState.SWAPPED, ())
    for rung, hands in ((Rung.EXPORTED, Hands.CONTROL), (Rung.RESERVED, Hands.CONTROL), (Rung.RELEASED, Hands.CONTROL)):
        (path,) = swapped.holder("volume").paths
        move_path(swapped.tx, path, rung=rung, hands=hands, actor="x", at=swapped.life.tick())
    assert open_of_volume(swapped.tx, "volume") == []
    if swapped.tx.conn.dialect.name == "sqlite":
        assert swapped.tx.conn.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def test_s6_reports_that_are_outdated_or_out_of_order_change_nothing(swapped: Swapped) -> None:
    assert not swapped.report(SwapState.PIVOTING, epoch=0)
    assert not swapped.report(SwapState.PIVOTING, host="there")
    assert not swapped.report(SwapState.PIVOTING, revision=7)
    assert not swapped.report(SwapState.PIVOTING, swap_id="none")
    assert swapped.report(SwapState.SWAPPED)  # nobody has said that it may change over
    assert (swapped.row.state, swapped.listed()) == (SwapState.COPYING, ["volume"])
    swapped.report(SwapState.PIVOTING)
    assert swapped.report(SwapState.SWAPPED)
    assert not swapped.report(SwapState.FAILED)
    assert not swapped.report(SwapState.SWAPPED)
    assert swapped.listed() == ["new"]


@pytest.mark.parametrize("state", [SwapState.COPYING, SwapState.PIVOTING])
def test_a_failed_swap_keeps_the_old_volume_and_rolls_the_new_one_back(swapped: Swapped, state: SwapState) -> None:
    swapped.report(state)
    reason = Reason(code="swap_failed", message="It would not.", at=5)
    assert swapped.report(SwapState.FAILED, reason=reason)
    assert (swapped.row.state, swapped.row.reason) == (SwapState.FAILED, reason)
    assert (swapped.goal(swapped.kept), swapped.goal("aside")) == (Goal.ATTACHED, Goal.DETACHED)


def test_a_users_detach_of_either_ends_a_swap_that_is_still_copying(swapped: Swapped) -> None:
    kept = load_attachment(swapped.tx, swapped.kept)
    assert kept is not None
    at = swapped.life.tick()
    ask_detach(swapped.tx, kept, actor=swapped.life.actor(), at=at, deadline_at=at + SECOND)
    assert swapped.row.state is SwapState.CANCELLED
    assert (swapped.goal(swapped.kept), swapped.goal("aside")) == (Goal.DETACHED, Goal.DETACHED)
    assert newest_swap(swapped.tx, "aside") == swapped.row


def test_what_may_change_over_at_any_moment_is_nobodys_to_give_up_but_the_servers_deletion(swapped: Swapped) -> None:
    swapped.report(SwapState.PIVOTING)
    for attachment_id in (swapped.kept, "aside"):
        found = load_attachment(swapped.tx, attachment_id)
        assert found is not None
        at = swapped.life.tick()
        with pytest.raises(Conflict, match="detach_volume"):
            ask_detach(swapped.tx, found, actor=swapped.life.actor(), at=at, deadline_at=at + SECOND)
    aside = load_attachment(swapped.tx, "aside")
    assert aside is not None
    late = Reason(code="host_silent", message="It does not answer.", at=swapped.life.tick())
    give_up(swapped.tx, aside, late, at=late.at, actor="control", deadline_at=late.at, with_server=False)
    assert (swapped.goal("aside"), swapped.row.state) == (Goal.ATTACHED, SwapState.PIVOTING)
    server, at = swapped.life.server, swapped.life.tick()
    set_server_goal(swapped.tx, server, ServerGoal.DELETED, actor=swapped.life.actor(), at=at, deadline_at=at + SECOND)
    assert swapped.row.state is SwapState.FAILED
    assert swapped.row.reason is not None
    assert swapped.row.reason.code in (GIVEN_UP, "host_silent")
    assert (swapped.goal(swapped.kept), swapped.goal("aside")) == (Goal.DETACHED, Goal.DETACHED)
