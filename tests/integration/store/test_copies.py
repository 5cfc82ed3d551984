"""Orders to copy plugged disks: who gets them, and which reports move them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from sqlalchemy.exc import IntegrityError

from kevel.domain.assignments import CopyAssignment, CopyReport
from kevel.domain.copies import AT_REST, CopyState, DiskCopy
from kevel.domain.errors import StaleWrite
from kevel.domain.ladder import Rung
from kevel.domain.model import Subject
from kevel.store.assignments import changes_for_host
from kevel.store.copies import apply_copy_report, drop_copy, load_copy, order_copy
from kevel.store.hosts import register_host
from kevel.store.transactions import Tx, Wake
from tests.integration.store.life import Life
from tests.things import SECOND, make_reason


class Copied:
    """A plugged volume with an order to copy it."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx
        self.life = Life(tx)
        self.life.attach()
        self.life.settle()
        assert self.life.path.rung is Rung.PLUGGED
        self.order()

    def order(self, copy_id: str = "copy") -> None:
        at = self.life.tick()
        order_copy(
            self.tx,
            copy_id=copy_id,
            subject=Subject.SNAPSHOT,
            subject_id="snapshot",
            path=self.life.path,
            target_path="/pool/target",
            at=at,
            deadline_at=at + 60 * SECOND,
        )

    @property
    def row(self) -> DiskCopy:
        found = load_copy(self.tx, "copy")
        assert found is not None
        return found

    def report(self, host: str = "here", epoch: int = 1, **changes: Any) -> bool:
        report = CopyReport(
            copy_id="copy", revision=self.row.revision, state=CopyState.WANTED, done_bytes=5, total_bytes=10
        )
        report = msgspec.structs.replace(report, **changes)
        return apply_copy_report(self.tx, host, epoch, report, at=self.life.tick())

    def assigned(self, since: int = 0) -> tuple[CopyAssignment, ...]:
        def opened(path_id: str, sealed: bytes) -> dict[str, Any]:
            return {}

        return changes_for_host(self.tx, "here", since, opened, {"sim": frozenset()}).copies


@pytest.fixture
def copied(tx: Tx) -> Copied:
    return Copied(tx)


def test_a_host_gets_the_order_and_whoever_gave_it_hears_of_each_report(copied: Copied) -> None:
    (copy,) = copied.assigned()
    path = copied.life.path
    assert (copy.path_id, copy.attachment_id, copy.volume_id) == (path.id, path.attachment_id, "volume")
    assert (copy.server_id, copy.live, copy.state) == ("server", True, CopyState.WANTED)
    copied.tx.wakes.clear()
    assert copied.report()
    assert (copied.row.done_bytes, copied.row.total_bytes) == (5, 10)
    assert copied.tx.wakes == [Wake("snapshot", "snapshot")]
    assert copied.assigned() == (copy,), "its progress is no news to its agent"


@pytest.mark.parametrize(
    ("state", "reason"), [(CopyState.DONE, None), (CopyState.FAILED, make_reason(AT_REST, "It was detached."))]
)
def test_a_copy_that_has_ended_is_over_for_its_host(copied: Copied, state: CopyState, reason: Any) -> None:
    before = changes(copied)
    assert copied.report(state=state, done_bytes=10, reason=reason)
    assert (copied.row.state, copied.row.reason) == (state, reason)
    assert copied.assigned() == ()
    (told,) = copied.assigned(since=before)
    assert not told.live
    assert not copied.report(state=CopyState.FAILED, reason=make_reason()), "nothing moves it any more"
    assert copied.row.state is state


def test_s6_outdated_reports_change_nothing(copied: Copied) -> None:
    register_host(copied.tx, name="there", availability_zone="nova", facts={}, at=copied.life.at)
    done: dict[str, Any] = {"state": CopyState.DONE}
    assert not copied.report(host="there", **done)
    assert not copied.report(epoch=2, **done)
    assert not copied.report(revision=copied.row.revision - 1, **done)
    assert not copied.report(copy_id="of nobody", **done)
    register_host(copied.tx, name="here", availability_zone="nova", facts={}, at=copied.life.at)
    assert not copied.report(epoch=1, **done)
    assert copied.row.state is CopyState.WANTED
    assert copied.report(epoch=2, **done)


def test_a_dropped_copy_stays_its_hosts_until_that_has_stopped_it(copied: Copied) -> None:
    revision = copied.row.revision
    drop_copy(copied.tx, "copy", at=copied.life.tick())
    (copy,) = copied.assigned()
    assert copy.state is CopyState.DROPPED
    assert not copied.report(revision=revision, state=CopyState.DONE), "too late"
    assert copied.report(state=CopyState.DROPPED)
    assert copied.assigned() == ()
    drop_copy(copied.tx, "copy", at=copied.life.tick())
    assert copied.assigned() == ()


def test_dropping_a_copy_that_is_done_leaves_it_done(copied: Copied) -> None:
    copied.report(state=CopyState.DONE)
    drop_copy(copied.tx, "copy", at=copied.life.tick())
    assert copied.row.state is CopyState.DONE


def test_only_what_is_plugged_can_be_ordered_to_be_copied(copied: Copied) -> None:
    copied.life.report(rung=Rung.CONNECTED, plugged_bytes=None)
    with pytest.raises(StaleWrite):
        copied.order("another")


def test_an_order_is_never_given_twice_under_one_name(copied: Copied) -> None:
    with pytest.raises(IntegrityError):
        copied.order()


def changes(copied: Copied) -> int:
    """The host's version now."""
    return changes_for_host(copied.tx, "here", 1 << 60, lambda *_: {}, {"sim": frozenset()}).version
