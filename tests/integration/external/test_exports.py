"""External attachments where the storage has to let consumers in and shut them out, and does not always."""

from __future__ import annotations

import asyncio
from itertools import groupby
from typing import Any

import pytest
from sqlalchemy import select

from kevel.control.operations.deadlines import GRACE_S, Deadlines
from kevel.control.runtime import Runtime
from kevel.domain.errors import StepNever, StepRetry, StepUnknown
from kevel.domain.ladder import Goal, Hands, Rung
from kevel.domain.model import Actor
from kevel.store.accounts import AccountFilter
from kevel.store.schema.attachments import journal, paths
from kevel.store.transactions import Tx
from tests.integration.control.test_path_worker import SteppedClock
from tests.integration.external.conftest import LIMITS, SECRET, UNTIL_S, VOLUME, World
from tests.integration.stand import PROJECTS
from tests.integration.store.journal_fold import assert_equal

INSTANCE = "00000000-0000-4000-8000-0000000000ff"
CONNECTOR = {"host": "metal-1", "initiator": "iqn.1993-08.org.debian:01:aa"}
ACTOR = Actor(user_id="u", project_id=PROJECTS["member"], request_id="req-look")


def stored(tx: Tx) -> list[Any]:
    return list(tx.execute(select(paths.c.id, paths.c.rung, paths.c.hands, paths.c.connection_info, paths.c.live)))


def told(tx: Tx) -> list[Any]:
    return list(tx.execute(select(journal.c.what, journal.c.before, journal.c.after, journal.c.detail)))


async def why(world: World, attachment_id: str) -> tuple[str, str]:
    account = await world.workers.explaining.account(ACTOR, attachment_id)
    return account.explanation.waits_for, account.explanation.why


async def unfinished(world: World) -> list[str]:
    wanted = AccountFilter(project_id=None, unfinished=True, limit=10)
    found, _ = await world.workers.explaining.accounts(wanted)
    return [account.attachment.id for account in found]


async def test_the_answer_comes_when_the_consumer_is_let_in_and_when_it_is_shut_out(world: World) -> None:
    answer = await world.declare(connector=CONNECTOR)
    assert answer.status_code == 200, answer.text
    made = answer.json()["attachment"]
    assert list(world.storage.exports.values()) == ["metal-1"]
    assert made["connection_info"]["auth_password"] == SECRET
    (path,) = await world.runtime.store.read(stored)
    assert (path.rung, path.hands) == (Rung.EXPORTED, Hands.CONTROL)
    assert SECRET.encode() not in path.connection_info, "S10: sealed at rest"
    world.storage.answers.clear()
    called = len(world.storage.calls)
    ending = world.begin("DELETE", f"/attachments/{made['id']}")
    await world.until_called(called + 1)
    assert not ending.done(), "S13: no answer reports a release early"
    assert await world.status() == "detaching"
    assert (await world.declare()).status_code == 400, "S4: not free before the storage has confirmed"
    world.storage.answers.set()
    assert (await ending).status_code == 200
    assert world.storage.exports == {}
    assert await world.status() == "available"
    assert SECRET not in str(await world.runtime.store.read(told))
    await world.runtime.store.read(assert_equal, made["id"])


@pytest.mark.parametrize("error", [StepNever("No such initiator."), StepRetry("Busy."), StepUnknown("Lost.")])
async def test_a_consumer_that_is_not_let_in_leaves_nothing(world: World, error: Exception) -> None:
    world.storage.errors = [error] * (1 if isinstance(error, StepNever) else 1000)
    asked = world.begin("POST", "/attachments", {"attachment": {"volume_uuid": VOLUME, "connector": CONNECTOR}})
    if not isinstance(error, StepNever):
        await world.until_called(1)
        await asyncio.sleep(2.5)
        world.storage.errors = []
    answer = await asked
    assert answer.status_code == 500, answer.text
    assert ("No such initiator." in answer.text) == isinstance(error, StepNever)
    await world.until_status("available")
    assert world.storage.exports == {}
    assert await world.attachments() == []
    (message,) = (await world.call("GET", "/messages")).json()["messages"]
    assert message["resource_uuid"] == VOLUME
    assert (await world.declare(connector=CONNECTOR)).status_code == 200


async def test_an_attachment_that_cannot_be_connected_is_reserved_again(world: World) -> None:
    made = (await world.declare()).json()["attachment"]
    world.storage.errors = [StepNever("No such initiator.")]
    body = {"attachment": {"connector": CONNECTOR}}
    answer = await world.call("PUT", f"/attachments/{made['id']}", body)
    assert answer.status_code == 500
    assert "No such initiator." in answer.text
    assert await world.status() == "reserved"
    waits_for, text = await why(world, made["id"])
    assert waits_for == "client"
    assert "No such initiator" in text
    assert (await world.call("PUT", f"/attachments/{made['id']}", body)).status_code == 200
    assert await world.status() == "attaching"
    await world.runtime.store.read(assert_equal, made["id"])


async def test_the_old_consumer_is_shut_out_before_the_new_one_is_let_in(world: World) -> None:
    made = (await world.declare(connector=CONNECTOR)).json()["attachment"]
    answer = await world.call("PUT", f"/attachments/{made['id']}", {"attachment": {"connector": {"host": "metal-2"}}})
    assert answer.status_code == 200, answer.text
    # Each rung downwards begins by undoing what may stand above it.
    assert [call for call, _ in groupby(world.storage.calls)] == ["export metal-1", "revoke metal-1", "export metal-2"]
    assert list(world.storage.exports.values()) == ["metal-2"]
    await world.runtime.store.read(assert_equal, made["id"])


async def test_a_delete_meets_a_create_that_waits(world: World) -> None:
    world.storage.answers.clear()
    asked = world.begin("POST", "/attachments", {"attachment": {"volume_uuid": VOLUME, "connector": CONNECTOR}})
    await world.until_called(1)
    (view,) = await world.attachments()
    ending = world.begin("DELETE", f"/attachments/{view.attachment.id}")
    again = world.begin("DELETE", f"/attachments/{view.attachment.id}")
    await world.until_status("detaching")
    world.storage.answers.set()
    assert (await ending).status_code == 200
    assert (await again).status_code in (200, 404)
    assert (await asked).status_code == 404
    await world.until_status("available")
    assert world.storage.exports == {}


@pytest.mark.parametrize("version", ["3.27", "3.71"])
async def test_who_is_shut_out_by_another_request_while_it_waits_is_told_so(world: World, version: str) -> None:
    world.storage.answers.clear()
    body = {"attachment": {"volume_uuid": VOLUME, "connector": CONNECTOR}}
    asked = world.begin("POST", "/attachments", body, version=version)
    await world.until_called(1)
    (view,) = await world.attachments()
    other = {"attachment": {"connector": {"host": "metal-2"}}}
    changing = world.begin("PUT", f"/attachments/{view.attachment.id}", other)
    async with asyncio.timeout(UNTIL_S):
        while not (await world.attachments())[0].path.dropped:
            await asyncio.sleep(0.02)
    world.storage.answers.set()
    assert (await changing).status_code == 200
    assert (await asked).status_code == 409
    assert list(world.storage.exports.values()) == ["metal-2"]


async def test_a_connection_that_is_ended_while_it_waits_is_told_so(world: World) -> None:
    await world.act("os-reserve", None)
    world.storage.answers.clear()
    body = {"os-initialize_connection": {"connector": CONNECTOR}}
    asked = world.begin("POST", f"/volumes/{VOLUME}/action", body)
    await world.until_called(1)
    assert (await world.act("os-terminate_connection", {"connector": CONNECTOR})).status_code == 202
    world.storage.answers.set()
    assert (await asked).status_code == 409
    async with asyncio.timeout(UNTIL_S):
        while (await world.attachments())[0].paths:
            await asyncio.sleep(0.02)
    assert world.storage.exports == {}


async def test_at_older_microversions_a_failure_is_told_alike(world: World) -> None:
    world.storage.errors = [StepNever("No such initiator.")]
    body = {"attachment": {"volume_uuid": VOLUME, "connector": CONNECTOR}}
    assert (await world.call("POST", "/attachments", body, version="3.27")).status_code == 500
    assert (await world.call("POST", "/attachments", body, version="3.27", caller="other")).status_code == 404


async def test_a_release_that_is_not_confirmed_in_time_is_told_and_pursued(world: World) -> None:
    made = (await world.declare(connector=CONNECTOR)).json()["attachment"]
    world.storage.errors = [StepRetry("The target is busy.")] * 1000
    answer = await world.call("DELETE", f"/attachments/{made['id']}")
    assert answer.status_code == 500
    assert await world.status() == "detaching"
    waits_for, text = await why(world, made["id"])
    assert waits_for == "storage"
    assert "The target is busy" in text
    world.storage.errors = []
    await world.until_status("available")
    assert world.storage.exports == {}


@pytest.mark.parametrize("made_before", [False, True])
async def test_a_crash_while_a_consumer_is_let_in_costs_no_state(world: World, made_before: bool) -> None:
    world.storage.answers.clear()
    world.begin("POST", "/attachments", {"attachment": {"volume_uuid": VOLUME, "connector": CONNECTOR}})
    await world.until_called(1)
    await world.kill()
    (view,) = await world.attachments()
    if made_before:  # the effect has landed, and the record has not been written
        world.storage.exports[f"{view.path.id}-{view.path.generation}"] = "metal-1"
    world.storage.answers.set()
    world.start()
    async with asyncio.timeout(UNTIL_S):
        while (await world.attachments())[0].path.rung is not Rung.EXPORTED:
            await asyncio.sleep(0.02)
    assert await world.status() == "attaching"
    assert (await world.call("DELETE", f"/attachments/{view.attachment.id}")).status_code == 200
    assert world.storage.exports == {}
    assert await world.status() == "available"


async def test_a_crash_while_a_consumer_is_shut_out_is_finished_by_the_sweep(world: World) -> None:
    made = (await world.declare(connector=CONNECTOR)).json()["attachment"]
    world.storage.answers.clear()
    world.begin("DELETE", f"/attachments/{made['id']}")
    await world.until_called(2)
    await world.kill()
    world.storage.answers.set()
    world.start()
    await world.until_status("available")
    assert world.storage.exports == {}


async def test_a_storage_that_never_answers_ends_the_request_though_nobody_waits(world: World) -> None:
    world.storage.answers.clear()
    world.begin("POST", "/attachments", {"attachment": {"volume_uuid": VOLUME, "connector": CONNECTOR}})
    await world.until_called(1)
    await world.kill()
    later = SteppedClock()
    runtime = world.runtime
    later.now = runtime.clock.now_us() + int((LIMITS.export_wait_s + GRACE_S + 1) * 1e6)
    watching = Runtime(store=runtime.store, clock=later, ids=runtime.ids, executor=runtime.executor)
    await Deadlines(watching, LIMITS).watch()
    (view,) = await world.attachments()
    assert (view.attachment.goal, view.attachment.goal_by) == (Goal.DETACHED, "rollback")
    assert view.attachment.reason.code == "storage_silent"
    world.storage.answers.set()
    world.start()
    await world.until_status("available")
    assert world.storage.exports == {}


async def test_a_client_may_take_its_time(world: World) -> None:
    made = (await world.declare(connector=CONNECTOR)).json()["attachment"]
    later = SteppedClock()
    runtime = world.runtime
    later.now = runtime.clock.now_us() + int(1e12)
    watching = Runtime(store=runtime.store, clock=later, ids=runtime.ids, executor=runtime.executor)
    await Deadlines(watching, LIMITS).watch()
    (view,) = await world.attachments()
    assert (view.attachment.id, view.attachment.goal, view.attachment.reason) == (made["id"], Goal.ATTACHED, None)


async def test_an_export_that_the_storage_has_lost_is_made_again(world: World) -> None:
    await world.declare(connector=CONNECTOR)
    ((name, host),) = world.storage.exports.items()
    world.storage.exports.clear()
    async with asyncio.timeout(UNTIL_S):
        while not world.storage.exports:
            await asyncio.sleep(0.02)
    assert world.storage.exports == {name: host}
    calls = len(world.storage.calls)
    await asyncio.sleep(0.7)
    assert len(world.storage.calls) == calls, "an export at rest is left alone"


async def test_an_export_that_came_to_be_after_its_release_is_revoked(world: World) -> None:
    made = (await world.declare(connector=CONNECTOR)).json()["attachment"]
    ((name, host),) = world.storage.exports.items()
    await world.call("DELETE", f"/attachments/{made['id']}")
    world.storage.exports[name] = host
    async with asyncio.timeout(UNTIL_S):
        while world.storage.exports:
            await asyncio.sleep(0.02)


async def test_an_examination_finds_nothing_to_say_of_external_attachments_in_order(world: World) -> None:
    await world.declare(connector=CONNECTOR)
    await world.workers.comparison.compare_storage()
    known = await world.workers.comparison.known()
    assert [finding for finding in known.findings if finding.subject != "host:here"] == []


async def test_each_stage_says_for_whom_it_waits(world: World) -> None:
    reserved = (await world.declare(instance_uuid=INSTANCE)).json()["attachment"]
    assert await why(world, reserved["id"]) == (
        "client",
        (
            f"The external attachment of instance {INSTANCE}, declared through the attachments API,"
            " has claimed the volume and waits for its client to connect it, or to give it up."
        ),
    )
    await world.call("PUT", f"/attachments/{reserved['id']}", {"attachment": {"connector": CONNECTOR}})
    waits_for, text = await why(world, reserved["id"])
    assert (waits_for, "waits for its client to say that it is attached" in text) == ("client", True)
    assert await unfinished(world) == [reserved["id"]]
    await world.call("POST", f"/attachments/{reserved['id']}/action", {"os-complete": None})
    waits_for, text = await why(world, reserved["id"])
    assert (waits_for, "Kevel plugs nothing for it" in text) == ("nobody", True)
    assert await unfinished(world) == []
    await world.act("os-begin_detaching", None)
    waits_for, text = await why(world, reserved["id"])
    assert (waits_for, "waits for its client to end it" in text) == ("client", True)
    await world.act("os-detach", None)
    await world.until_status("available")
    assert await why(world, reserved["id"]) == (
        "nobody",
        (
            f"The external attachment of instance {INSTANCE}, declared through the attachments API,"
            " was ended by its client; nothing is left of it."
        ),
    )
    await world.act("os-reserve", None)
    (view,) = await world.attachments()
    waits_for, text = await why(world, view.attachment.id)
    assert (waits_for, "no name yet, declared through an action of the volume, os-reserve," in text) == ("client", True)


async def test_the_old_flow_lets_in_and_shuts_out_too(world: World) -> None:
    await world.act("os-reserve", None)
    answer = await world.act("os-initialize_connection", {"connector": CONNECTOR})
    assert answer.json()["connection_info"]["data"]["auth_password"] == SECRET
    await world.act("os-attach", {"host_name": "metal-1", "mountpoint": "/dev/sdb"})
    assert await world.status() == "in-use"
    await world.act("os-terminate_connection", {"connector": CONNECTOR})
    async with asyncio.timeout(UNTIL_S):
        while world.storage.exports:
            await asyncio.sleep(0.02)
    assert await world.status() == "in-use"
    await world.act("os-detach", None)
    await world.until_status("available")


async def test_a_connection_that_fails_without_a_reservation_leaves_none(world: World) -> None:
    world.storage.errors = [StepNever("No such initiator.")]
    answer = await world.act("os-initialize_connection", {"connector": CONNECTOR})
    assert answer.status_code == 500
    await world.until_status("available")
    await world.act("os-reserve", None)
    world.storage.errors = [StepNever("No such initiator.")]
    assert (await world.act("os-initialize_connection", {"connector": CONNECTOR})).status_code == 500
    assert await world.status() == "attaching", "the reservation was another request's"


async def test_a_reset_of_the_attach_status_ends_what_is_connected(world: World) -> None:
    made = (await world.declare(connector=CONNECTOR)).json()["attachment"]
    await world.call("POST", f"/attachments/{made['id']}/action", {"os-complete": None})
    reset = {"status": "available", "attach_status": "detached"}
    assert (await world.act("os-reset_status", reset, "admin")).status_code == 202
    await world.until_status("available")
    assert world.storage.exports == {}
