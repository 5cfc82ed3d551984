"""What volumes are in the middle of: creating, growing, deleting; failing at it, and dying in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import select

from kevel.domain.errors import StaleWrite, StepNever, StepRetry
from kevel.domain.ladder import Rung
from kevel.domain.model import Actor, Volume
from kevel.runtime.reconciler import DONE, Reconciler, Retry
from kevel.storage.base import VolumeFile
from kevel.store.actions import Action, list_actions
from kevel.store.hosts import load_host
from kevel.store.schema.attachments import journal, paths
from kevel.store.transactions import Tx, Wake
from kevel.store.volumes import begin_delete, load_volume, volume_operation
from tests.integration.volumes.conftest import GIB, HOST, World, message

Act = Callable[[VolumeFile], Awaitable[None]]


def fail_with(error: Exception) -> Act:
    async def fail(volume: VolumeFile) -> None:
        raise error

    return fail


def read_journal(tx: Tx, volume_id: str) -> list[tuple[str, str]]:
    statement = select(journal.c.before, journal.c.after).order_by(journal.c.seq)
    rows = tx.execute(statement.where(journal.c.subject == "volume", journal.c.subject_id == volume_id))
    return [(row.before, row.after) for row in rows]


async def history(world: World, volume_id: str) -> list[tuple[str, str]]:
    return await world.runtime.store.read(read_journal, volume_id)


def file_bytes(world: World, volume_id: str) -> int:
    return (world.root / f"volume-{volume_id}").stat().st_size


async def expire(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the deadlines of everything pass."""
    later = world.runtime.clock.now_us() + 3600 * 10**6
    monkeypatch.setattr(type(world.runtime.clock), "now_us", lambda _: later)


async def test_every_move_is_in_the_journal(world: World) -> None:
    volume_id = await world.make()
    await world.act(volume_id, "os-extend", {"new_size": 2})
    await world.settle()
    await world.call("DELETE", f"/volumes/{volume_id}")
    await world.settle()
    assert await history(world, volume_id) == [
        ("none", "creating"),
        ("creating", "done"),
        ("none", "extending"),
        ("extending", "done"),
        ("none", "deleting"),
        ("deleting", "done"),
    ]


async def test_a_creation_that_can_never_succeed_is_an_error_with_its_reason_and_can_be_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.pool, "create_volume", fail_with(StepNever("There is no space left.")))
    volume_id = await world.make()
    assert await world.status(volume_id) == "error"
    volume = await world.runtime.store.read(load_volume, volume_id)
    assert isinstance(volume, Volume)
    assert volume.fault is not None
    assert (volume.fault.code, volume.fault.message) == ("creating_failed", "There is no space left.")
    assert not volume.made
    assert await world.worker.unfinished() == []
    assert (await world.call("DELETE", f"/volumes/{volume_id}")).status_code == 202
    await world.settle()
    message(await world.call("GET", f"/volumes/{volume_id}"), 404)


async def test_a_passing_failure_is_tried_again_until_it_passes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.pool, "create_volume", fail_with(StepRetry("The disk is slow.")))
    volume_id = (await world.ask()).json()["volume"]["id"]
    outcome = await world.worker.look(volume_id)
    assert isinstance(outcome, Retry)
    assert outcome.reason == "The disk is slow."
    assert await world.status(volume_id) == "creating"
    operation = await world.runtime.store.read(volume_operation, volume_id)
    assert operation is not None
    assert operation.last_error is not None
    assert operation.last_error.message == "The disk is slow."
    monkeypatch.undo()
    assert await world.worker.look(volume_id) is DONE
    assert await world.status(volume_id) == "available"


async def test_a_passing_failure_that_outlasts_the_deadline_is_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.pool, "create_volume", fail_with(StepRetry("The disk is slow.")))
    volume_id = (await world.ask()).json()["volume"]["id"]
    await expire(world, monkeypatch)
    assert await world.worker.look(volume_id) is DONE
    assert await world.status(volume_id) == "error"


@pytest.mark.parametrize("kind", ["creating", "extending", "deleting"])
async def test_an_act_that_was_done_but_not_recorded_is_done_again(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    volume_id = (await world.ask()).json()["volume"]["id"]
    if kind != "creating":
        await world.settle()
    if kind == "extending":
        await world.act(volume_id, "os-extend", {"new_size": 2})
    if kind == "deleting":
        await world.call("DELETE", f"/volumes/{volume_id}")

    async def die(*args: object, **kwargs: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(world.runtime.store, "write", die)
        with pytest.raises(asyncio.CancelledError):
            await world.worker.look(volume_id)
    assert await world.status(volume_id) == kind
    assert await world.worker.unfinished() == [volume_id]
    await world.settle()
    if kind == "deleting":
        message(await world.call("GET", f"/volumes/{volume_id}"), 404)
        assert list(world.root.iterdir()) == []
    else:
        assert await world.status(volume_id) == "available"
        assert file_bytes(world, volume_id) == (2 if kind == "extending" else 1) * GIB


async def test_two_looks_at_once_record_an_operation_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one, both = asyncio.Lock(), asyncio.Barrier(2)
    real = world.pool.create_volume

    async def create_and_wait(volume: VolumeFile) -> None:
        async with one:
            await real(volume)
        await both.wait()

    monkeypatch.setattr(world.pool, "create_volume", create_and_wait)
    volume_id = (await world.ask()).json()["volume"]["id"]
    looks = (world.worker.look(volume_id), world.worker.look(volume_id))
    outcomes = await asyncio.gather(*looks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(StaleWrite) == 1
    assert await world.status(volume_id) == "available"
    assert await history(world, volume_id) == [("none", "creating"), ("creating", "done")]


async def test_a_request_wakes_the_worker_by_itself(world: World) -> None:
    reconciler = Reconciler("volume", world.worker.look, world.runtime.ids, parallel_max=4)

    def hear(wakes: object) -> None:
        for wake in wakes if isinstance(wakes, list) else []:
            assert isinstance(wake, Wake)
            if wake.kind == "volume":
                reconciler.wake(wake.key)

    world.runtime.store.subscribe(hear)
    volume_id = (await world.ask()).json()["volume"]["id"]
    async with asyncio.timeout(20):
        while await world.status(volume_id) == "creating":
            await asyncio.sleep(0.01)
    assert await world.status(volume_id) == "available"
    await reconciler.close()


async def test_deleting_what_is_still_being_made_takes_force_and_gives_the_making_up(world: World) -> None:
    volume_id = (await world.ask()).json()["volume"]["id"]
    message(await world.call("DELETE", f"/volumes/{volume_id}"), 400)
    assert (await world.act(volume_id, "os-force_delete", None, caller="admin")).status_code == 202
    assert await world.status(volume_id) == "deleting"
    await world.settle()
    message(await world.call("GET", f"/volumes/{volume_id}"), 404)
    assert list(world.root.iterdir()) == []
    assert (await history(world, volume_id))[1] == ("creating", "failed")


async def test_a_creation_that_ends_after_it_was_given_up_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    real = world.pool.create_volume

    async def create_slowly(volume: VolumeFile) -> None:
        entered.set()
        await leave.wait()
        await real(volume)

    monkeypatch.setattr(world.pool, "create_volume", create_slowly)
    volume_id = (await world.ask()).json()["volume"]["id"]
    reconciler = Reconciler("volume", world.worker.look, world.runtime.ids, parallel_max=4)
    reconciler.wake(volume_id)
    await entered.wait()
    await world.act(volume_id, "os-force_delete", None, caller="admin")
    reconciler.wake(volume_id)
    leave.set()
    async with asyncio.timeout(20):
        while await world.worker.unfinished():
            await asyncio.sleep(0.01)
    await reconciler.close()
    message(await world.call("GET", f"/volumes/{volume_id}"), 404)
    assert list(world.root.iterdir()) == []


async def test_a_deletion_that_fails_shows_it_and_can_be_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume_id = await world.make()
    with monkeypatch.context() as patch:
        patch.setattr(world.pool, "delete_volume", fail_with(StepNever("It is not permitted.")))
        await world.call("DELETE", f"/volumes/{volume_id}")
        await world.settle()
    assert await world.status(volume_id) == "error_deleting"
    assert (await world.call("DELETE", f"/volumes/{volume_id}")).status_code == 202
    await world.settle()
    message(await world.call("GET", f"/volumes/{volume_id}"), 404)


async def test_an_available_volume_grows(world: World) -> None:
    volume_id = await world.make()
    answer = await world.act(volume_id, "os-extend", {"new_size": "3"}, version="3.0")
    assert (answer.status_code, answer.content) == (202, b"")
    assert await world.status(volume_id) == "extending"
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["size"] == 1
    await world.settle()
    shown = await world.get(f"/volumes/{volume_id}", "volume")
    assert (shown["status"], shown["size"]) == ("available", 3)
    assert file_bytes(world, volume_id) == 3 * GIB


@pytest.mark.parametrize("new_size", [1, 0, -1, "text", 10**30, None])
async def test_a_new_size_that_is_none_or_not_larger_is_refused(world: World, new_size: object) -> None:
    volume_id = await world.make()
    message(await world.act(volume_id, "os-extend", {"new_size": new_size}), 400)
    assert await world.status(volume_id) == "available"


async def test_growing_beyond_the_pools_limit_is_refused(world: World) -> None:
    volume_id = await world.make(size=60)
    other = await world.make(size=10)
    # 100 GiB are the limit, and a volume that grows counts as grown.
    message(await world.act(volume_id, "os-extend", {"new_size": 91}), 413)
    assert (await world.act(volume_id, "os-extend", {"new_size": 90})).status_code == 202
    message(await world.act(other, "os-extend", {"new_size": 11}), 413)
    message(await world.ask(size=1), 413)
    await world.settle()
    assert await world.status(volume_id) == "available"


async def read_actions(world: World, server_id: str) -> list[Action]:
    return await world.runtime.store.read(list_actions, server_id)


async def test_an_attached_volume_grows_from_3_42_and_its_host_is_told(world: World) -> None:
    volume_id = await world.make()
    server_id = await world.attach(volume_id)
    message(await world.act(volume_id, "os-extend", {"new_size": 2}, version="3.41"), 400)
    before = (await world.runtime.store.read(load_host, HOST)).version
    heard: list[Wake] = []
    world.runtime.store.subscribe(heard.extend)
    assert (await world.act(volume_id, "os-extend", {"new_size": 2}, version="3.42")).status_code == 202
    assert await world.status(volume_id) == "extending"
    await world.settle()
    assert await world.status(volume_id) == "in-use"
    assert file_bytes(world, volume_id) == 2 * GIB
    assert (await world.runtime.store.read(load_host, HOST)).version == before + 1
    assert await world.runtime.store.read(read_path_version, volume_id) == before + 1
    assert Wake("host", HOST) in heard
    action = (await read_actions(world, server_id))[0]
    assert (action.action, action.finished_at) == ("extend_volume", None)
    await world.host_moved(server_id, volume_id, Rung.PLUGGED, plugged_bytes=2 * GIB)
    action = (await read_actions(world, server_id))[0]
    assert (action.action, action.result) == ("extend_volume", "Success")


def read_path_version(tx: Tx, volume_id: str) -> int:
    return int(tx.execute(select(paths.c.host_version).where(paths.c.volume_id == volume_id)).scalar_one())


async def test_growing_that_fails_shows_it_and_can_be_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume_id = await world.make()
    await world.attach(volume_id)
    with monkeypatch.context() as patch:
        patch.setattr(world.pool, "grow_volume", fail_with(StepNever("There is no space left.")))
        await world.act(volume_id, "os-extend", {"new_size": 2})
        await world.settle()
    shown = await world.get(f"/volumes/{volume_id}", "volume")
    assert (shown["status"], shown["size"], len(shown["attachments"])) == ("error_extending", 1, 1)
    assert (await world.act(volume_id, "os-extend", {"new_size": 2})).status_code == 202
    await world.settle()
    assert await world.status(volume_id) == "in-use"


async def test_an_attached_qcow2_volume_does_not_grow_and_a_detached_one_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.pool, "volume_format", "qcow2")
    volume_id = await world.make()
    server_id = await world.attach(volume_id)
    assert "qcow2" in message(await world.act(volume_id, "os-extend", {"new_size": 2}), 400)
    await world.detach(server_id, volume_id)
    assert (await world.act(volume_id, "os-extend", {"new_size": 2})).status_code == 202
    await world.settle()
    assert await world.status(volume_id) == "available"


async def test_a_volume_that_is_being_made_cannot_be_attached_grown_or_deleted(world: World) -> None:
    volume_id = (await world.ask()).json()["volume"]["id"]
    message(await world.act(volume_id, "os-extend", {"new_size": 2}), 400)
    message(await world.call("DELETE", f"/volumes/{volume_id}"), 400)
    await world.settle()
    assert await world.status(volume_id) == "available"


def delete_directly(tx: Tx, volume_id: str, at: int) -> None:
    volume = load_volume(tx, volume_id)
    assert volume is not None
    begin_delete(tx, volume, request_id="req-server-delete", at=at)


async def test_deleting_for_a_server_gives_up_what_runs_and_is_not_begun_twice(world: World) -> None:
    volume_id = await world.make()
    await world.act(volume_id, "os-extend", {"new_size": 2})
    for _ in range(2):
        await world.runtime.store.write(delete_directly, volume_id, world.runtime.clock.now_us())
    await world.settle()
    assert await history(world, volume_id) == [
        ("none", "creating"),
        ("creating", "done"),
        ("none", "extending"),
        ("extending", "failed"),
        ("none", "deleting"),
        ("deleting", "done"),
    ]


async def test_a_back_end_that_is_not_configured_any_more_is_an_error_with_that_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume_id = (await world.ask()).json()["volume"]["id"]
    monkeypatch.setattr(world.worker, "_backends", {})
    await world.settle()
    volume = await world.runtime.store.read(load_volume, volume_id)
    assert volume is not None
    assert volume.fault is not None
    assert "local is not configured" in volume.fault.message


MASKS = ["creating", "error", "error_deleting", "attaching", "detaching", "maintenance"]


@pytest.mark.parametrize("word", MASKS)
async def test_a_reset_puts_a_word_over_the_status_that_blocks_until_it_is_taken_away(world: World, word: str) -> None:
    volume_id, server_id = await world.make(), await world.make_server()
    answer = await world.act(volume_id, "os-reset_status", {"status": word}, caller="admin")
    assert (answer.status_code, answer.content) == (202, b"")
    assert await world.status(volume_id) == word
    message(await world.act(volume_id, "os-extend", {"new_size": 2}), 400)
    actor = Actor(user_id="u", project_id="11" * 16, request_id="req-attach")
    with pytest.raises(Exception, match=f"it is {word}"):
        await world.attachments.attach(actor, server_id, volume_id, device=None, tag=None, delete_on_termination=False)
    assert (await world.act(volume_id, "os-reset_status", {"status": "available"}, caller="admin")).status_code == 202
    assert await world.status(volume_id) == "available"
    assert ("available", word) in await history(world, volume_id)


@pytest.mark.parametrize("word", MASKS)
async def test_a_masked_volume_can_be_deleted_by_force(world: World, word: str) -> None:
    volume_id = await world.make()
    await world.act(volume_id, "os-reset_status", {"status": word}, caller="admin")
    assert (await world.act(volume_id, "os-force_delete", None, caller="admin")).status_code == 202
    assert await world.status(volume_id) == "deleting"
    await world.settle()
    message(await world.call("GET", f"/volumes/{volume_id}"), 404)


@pytest.mark.parametrize("rung", [Rung.EXPORTED, Rung.PLUGGED])
async def test_a_reset_never_declares_a_held_volume_available_and_frees_nothing(world: World, rung: Rung) -> None:
    volume_id = await world.make()
    server_id = await world.attach(volume_id, rung)
    truth = await world.status(volume_id)
    for body in (
        {"status": "available"},
        {"attach_status": "detached"},
        {"status": "error", "attach_status": "detached"},
    ):
        message(await world.act(volume_id, "os-reset_status", body, caller="admin"), 400)
    assert await world.status(volume_id) == truth
    await world.act(volume_id, "os-reset_status", {"status": "error"}, caller="admin")
    assert await world.status(volume_id) == "error"
    message(await world.call("DELETE", f"/volumes/{volume_id}"), 400)
    message(await world.act(volume_id, "os-reset_status", {"status": "available"}, caller="admin"), 400)
    if rung is Rung.PLUGGED:
        await world.detach(server_id, volume_id)
        assert await world.status(volume_id) == "error"
        await world.act(volume_id, "os-reset_status", {"status": "available"}, caller="admin")
        assert await world.status(volume_id) == "available"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"status": None},
        {"status": "in-use"},
        {"status": "deleting"},
        {"status": "colour"},
        {"status": 5},
        {"attach_status": "attached"},
        {"migration_status": "migrating"},
        {"colour": "red"},
    ],
)
async def test_a_reset_to_what_is_not_so_is_refused(world: World, body: object) -> None:
    volume_id = await world.make()
    message(await world.act(volume_id, "os-reset_status", body, caller="admin"), 400)
    assert await world.status(volume_id) == "available"


async def test_a_reset_is_for_admins_and_may_say_what_is_so(world: World) -> None:
    volume_id = await world.make()
    message(await world.act(volume_id, "os-reset_status", {"status": "error"}), 403)
    body = {"status": "available", "attach_status": "detached", "migration_status": "none"}
    assert (await world.act(volume_id, "os-reset_status", body, caller="admin")).status_code == 202


async def test_a_volume_that_was_never_made_cannot_be_declared_available(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(world.pool, "create_volume", fail_with(StepNever("There is no space left.")))
        volume_id = await world.make()
    answer = await world.act(volume_id, "os-reset_status", {"status": "available"}, caller="admin")
    assert "never made" in message(answer, 400)
    assert await world.status(volume_id) == "error"
