"""The worker of the control plane's rungs, with a back end that can be told to refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kevel.control.attachments.paths import PathWorker
from kevel.control.operations.deadlines import GRACE_S, Deadlines
from kevel.control.runtime import Runtime
from kevel.control.secrets import Sealer
from kevel.domain.errors import StaleWrite, StepNever, StepRetry
from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.limits import Limits
from kevel.domain.model import Attachment, ServerGoal
from kevel.domain.model import Path as VolumePath
from kevel.runtime.reconciler import DONE, Again, Retry
from kevel.storage.base import ConnectionInfo, Export, VolumeFile
from kevel.storage.sim import SimBackend
from kevel.store.actions import list_actions
from kevel.store.attachments import load_attachment, load_path
from kevel.store.journal import of_attachment
from kevel.store.path_moves import keep_waiting
from kevel.store.server_moves import set_server_goal
from kevel.store.servers import load_server
from kevel.store.transactions import Tx
from tests.integration.stand import open_runtime
from tests.integration.store.life import Life
from tests.integration.store.rows import insert_ground
from tests.things import SECOND, T0, make_reason

SECRET = "chap-secret-of-the-export"


class StubbornBackend(SimBackend):
    """A pool whose next answers a test decides; each export has a secret."""

    def __init__(self) -> None:
        super().__init__("sim", total_bytes=1 << 40)
        self.errors: list[Exception] = []

    def _answer(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def describe_export(self, export: Export) -> ConnectionInfo:
        info = super().describe_export(export)
        info["data"]["auth_password"] = SECRET
        return info

    async def export_volume(self, export: Export) -> ConnectionInfo:
        self._answer()
        return await super().export_volume(export)

    async def revoke_export(self, export: Export) -> None:
        self._answer()
        await super().revoke_export(export)


class SteppedClock:
    """Stands still until it is told."""

    now = T0

    def now_us(self) -> int:
        return self.now


class Stand:
    def __init__(self, runtime: Runtime, clock: SteppedClock) -> None:
        self.runtime, self.clock = runtime, clock
        self.backend = StubbornBackend()
        self.sealer = Sealer(bytes(64))
        self.worker = PathWorker(runtime, {"sim": self.backend}, self.sealer, Limits())
        self.deadlines = Deadlines(runtime, Limits())

    async def begin(self, *requests: str) -> None:
        """Attach, and let the host do what is asked; the control plane's own steps are the test's."""
        await self.backend.create_volume(VolumeFile(volume_id="volume", size_bytes=1 << 30, format="raw"))

        def run(tx: Tx) -> None:
            insert_ground(tx)
            life = Life(tx)
            life.attach()
            for request in requests:
                getattr(life, request)()

        await self.runtime.store.write(run)
        self.clock.now = T0 + 100 * SECOND

    async def look(self) -> object:
        return await self.worker.look("path-a0")

    async def attachment(self) -> Attachment:
        found = await self.runtime.store.read(load_attachment, "a0")
        assert found is not None
        return found

    async def path(self) -> VolumePath:
        found = await self.runtime.store.read(load_path, "path-a0")
        assert found is not None
        return found


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with open_runtime(tmp_path) as runtime:
        clock = SteppedClock()
        yield Stand(Runtime(store=runtime.store, clock=clock, ids=runtime.ids, executor=runtime.executor), clock)


async def test_a_reserved_path_is_exported_and_handed_to_its_host(stand: Stand) -> None:
    await stand.begin()
    assert await stand.worker.unfinished() == ["path-a0"]
    assert isinstance(await stand.look(), Again)
    path = await stand.path()
    assert (path.rung, path.hands) == (Rung.EXPORTED, Hands.HOST)
    assert list(stand.backend.exports.values()) == ["here"]
    assert await stand.look() is DONE, "it is not the control plane's any more"
    assert await stand.worker.unfinished() == []


async def test_s10_connection_info_is_sealed_for_its_path_alone(stand: Stand, tmp_path: Path) -> None:
    await stand.begin()
    await stand.look()
    path = await stand.path()
    assert path.connection_info is not None
    assert stand.sealer.open(path.id, path.connection_info)["data"]["auth_password"] == SECRET
    with pytest.raises(Exception, match="another key"):
        stand.sealer.open("another path", path.connection_info)
    with pytest.raises(Exception, match="another key"):
        Sealer(b"1" * 64).open(path.id, path.connection_info)
    for file in tmp_path.glob("kevel.db*"):
        assert SECRET.encode() not in file.read_bytes(), file


async def test_a_detached_path_is_revoked_and_released_and_its_export_is_never_made_again(stand: Stand) -> None:
    await stand.begin()
    await stand.look()
    await stand.runtime.store.write(_detach_and_hand_back)
    while not isinstance(await stand.look(), type(DONE)):
        pass
    assert (await stand.path()).rung is Rung.RELEASED
    assert (await stand.attachment()).closed_at is not None
    assert stand.backend.exports == {}
    assert len(stand.backend.revoked) == 1


async def test_a_refused_export_rolls_a_new_attachment_back_with_its_reason(stand: Stand) -> None:
    await stand.begin()
    stand.backend.errors = [StepNever("The pool is gone.")]
    assert await stand.look() is DONE
    attachment = await stand.attachment()
    assert (attachment.goal, attachment.goal_by) == (Goal.DETACHED, "rollback")
    assert attachment.reason is not None
    assert attachment.reason.message == "The pool is gone."


async def test_an_export_that_may_succeed_later_is_tried_again_until_the_deadline(stand: Stand) -> None:
    await stand.begin()
    stand.backend.errors = [StepRetry("Busy."), StepRetry("Busy.")]
    assert isinstance(await stand.look(), Retry)
    assert (await stand.attachment()).goal is Goal.ATTACHED
    stand.clock.now = T0 + 1000 * SECOND
    assert isinstance(await stand.look(), Retry)
    attachment = await stand.attachment()
    assert (attachment.goal, attachment.goal_by) == (Goal.DETACHED, "rollback")


async def test_why_an_export_has_not_succeeded_yet_can_be_read_and_is_told_once(stand: Stand) -> None:
    await stand.begin()
    stand.backend.errors = [StepRetry("Busy."), StepRetry("Busy."), StepRetry("Still busy.")]
    for message in ("Busy.", "Busy.", "Still busy."):
        assert isinstance(await stand.look(), Retry)
        error = (await stand.path()).last_error
        assert error is not None
        assert (error.code, error.message) == ("export_failed", message)
    told = [entry for entry in await stand.runtime.store.read(of_attachment, "a0") if entry.what == "error"]
    assert len(told) == 2
    await stand.look()
    assert (await stand.path()).last_error is None, "it is over"


async def test_a_refused_revocation_never_turns_a_detach_round(stand: Stand) -> None:
    await stand.begin("settle", "detach", "step", "step")
    path = await stand.path()
    assert (path.rung, path.hands) == (Rung.EXPORTED, Hands.CONTROL)
    stand.backend.errors = [StepNever("Somebody else uses it.")]
    assert isinstance(await stand.look(), Retry)
    attachment = await stand.attachment()
    assert (attachment.goal, attachment.goal_by) == (Goal.DETACHED, "user"), "the guest has let go already"
    assert attachment.reason is not None
    assert attachment.reason.message == "Somebody else uses it."
    assert (await stand.path()).rung is Rung.EXPORTED
    while not isinstance(await stand.look(), type(DONE)):
        pass
    assert (await stand.path()).rung is Rung.RELEASED, "it is pursued all the same"


async def test_l1_a_silent_host_ends_a_new_attach_and_lets_a_detach_wait_with_its_reason(stand: Stand) -> None:
    await stand.begin()
    await stand.look()
    stand.clock.now = T0 + int((120 + GRACE_S + 2) * SECOND)
    await stand.deadlines.watch()
    attachment = await stand.attachment()
    assert (attachment.goal, attachment.goal_by) == (Goal.DETACHED, "rollback")
    assert attachment.reason is not None
    assert attachment.reason.code == "host_silent"
    assert (await stand.path()).rung is Rung.EXPORTED, "a silent host keeps its path"
    await stand.deadlines.watch()
    assert (await stand.attachment()).goal_revision == attachment.goal_revision


async def test_a_reason_is_never_put_on_a_newer_request(stand: Stand) -> None:
    await stand.begin("settle")
    older = await stand.attachment()

    def detach(tx: Tx) -> None:
        life = Life(tx)
        life.ids = ["a0"]
        life.detach()

    await stand.runtime.store.write(detach)
    with pytest.raises(StaleWrite):
        await stand.runtime.store.write(keep_waiting, older, make_reason(), at=T0)
    assert (await stand.attachment()).reason is None


def _detach_and_hand_back(tx: Tx) -> None:
    life = Life(tx)
    life.ids, life.at = ["a0"], T0 + 50 * SECOND
    life.detach()
    while life.path.hands is Hands.HOST:
        life.step()


@pytest.mark.parametrize("goal", [ServerGoal.STOPPED, ServerGoal.DELETED])
async def test_l1_a_silent_host_ends_a_servers_request_and_only_a_delete_is_still_pursued(
    stand: Stand, goal: ServerGoal
) -> None:
    await stand.begin("settle")
    deadline_at = T0 + 400 * SECOND

    def ask(tx: Tx) -> None:
        server = load_server(tx, "server")
        assert server is not None
        set_server_goal(tx, server, goal, actor=Life(tx).actor(), at=T0 + 100 * SECOND, deadline_at=deadline_at)

    await stand.runtime.store.write(ask)
    stand.clock.now = deadline_at + int(GRACE_S * SECOND)
    await stand.deadlines.watch()
    assert await stand.runtime.store.read(_open_actions) != [], "it may still answer"
    stand.clock.now += SECOND
    await stand.deadlines.watch()
    assert await stand.runtime.store.read(_open_actions) == []
    server = await stand.runtime.store.read(load_server, "server")
    assert server is not None
    assert server.goal is (ServerGoal.DELETED if goal is ServerGoal.DELETED else ServerGoal.RUNNING)


def _open_actions(tx: Tx) -> list[str]:
    return [one.action for one in list_actions(tx, "server") if one.subject_id == "server" and one.finished_at is None]


async def test_an_export_that_the_storage_has_lost_is_made_again_while_its_host_holds_the_path(stand: Stand) -> None:
    await stand.begin()
    await stand.look()
    before = dict(stand.backend.exports)
    stand.backend.exports.clear()
    stand.backend.errors = [StepRetry("The storage is silent.")]
    assert isinstance(await stand.look(), Retry)
    assert await stand.look() is DONE
    assert stand.backend.exports == before
    path = await stand.path()
    assert (path.rung, path.hands) == (Rung.EXPORTED, Hands.HOST)
    assert path.last_error is not None
    assert path.last_error.message == "The storage is silent."
