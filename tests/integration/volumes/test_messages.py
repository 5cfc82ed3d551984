"""Why a request failed after it had been accepted: Cinder's messages."""

from __future__ import annotations

from kevel.domain.assignments import Failure, PathReport
from kevel.domain.ladder import Rung
from kevel.domain.messages import KEPT_S
from kevel.domain.model import Actor, Reason
from kevel.store.attachments import find_open, live_paths, open_of_volume
from kevel.store.messages import forget_expired
from kevel.store.path_reports import apply_path_report
from kevel.store.transactions import Tx
from tests.integration.stand import PROJECTS
from tests.integration.volumes.conftest import HOST, Pool, World, message

BUSY = "The guest has no slot left."


def _refuse(tx: Tx, server_id: str, volume_id: str, at: int, text: str) -> None:
    """The host's agent reports that the path's step cannot succeed."""
    attachment = find_open(tx, server_id=server_id, volume_id=volume_id)
    assert attachment is not None
    (path,) = live_paths(tx, attachment.id)
    report = PathReport(
        path_id=path.id,
        revision=path.revision,
        goal_revision=attachment.goal_revision,
        rung=path.rung,
        hands=path.hands,
        plugged_bytes=path.plugged_bytes,
        failure=Failure(reason=Reason(code="plug_failed", message=text, at=at), final=True),
    )
    free = {"local": Pool.effect_free}
    assert apply_path_report(tx, HOST, 1, report, at=at, refusal_deadline_at=at, effect_free=free)


async def fail_attach(world: World, text: str = BUSY, *, project: str = "member") -> str:
    """A volume whose attach its host refused; its id."""
    volume_id = await world.make(caller=project)
    server_id = await world.attach(volume_id, Rung.EXPORTED, project=project)
    await world.runtime.store.write(_refuse, server_id, volume_id, world.runtime.clock.now_us(), text)
    return volume_id


async def test_a_failed_attach_is_told_with_its_reason_under_cinders_numbers(world: World) -> None:
    volume_id = await fail_attach(world)
    (told,) = await world.get("/messages", "messages")
    assert told["event_id"] == "VOLUME_VOLUME_002_021"
    assert told["user_message"] == f"attach volume: {BUSY}"
    assert (told["resource_type"], told["resource_uuid"]) == ("VOLUME", volume_id)
    assert (told["message_level"], told["request_id"]) == ("ERROR", "req-attach")
    assert told["guaranteed_until"] > told["created_at"]
    assert await world.get(f"/messages/{told['id']}", "message") == told


async def test_a_detach_that_the_guest_refused_is_told_too(world: World) -> None:
    volume_id = await world.make()
    server_id = await world.attach(volume_id)
    actor = Actor(user_id="u", project_id=PROJECTS["member"], request_id="req-detach")
    await world.attachments.detach(actor, server_id, volume_id)
    await world.runtime.store.write(_refuse, server_id, volume_id, world.runtime.clock.now_us(), "It is busy.")
    (told,) = await world.get("/messages", "messages")
    assert (told["event_id"], told["request_id"]) == ("VOLUME_VOLUME_004_022", "req-detach")
    assert told["user_message"] == "update attachment: It is busy."
    assert await world.status(volume_id) == "in-use"


async def test_a_volume_that_cannot_be_made_says_why(world: World) -> None:
    world.root.chmod(0o777)
    answer = await world.ask()
    await world.settle()
    world.root.chmod(0o700)
    (told,) = await world.get("/messages", "messages")
    assert (told["event_id"], told["resource_uuid"]) == ("VOLUME_VOLUME_008_012", answer.json()["volume"]["id"])
    assert "writable by nobody else" in told["user_message"]


async def test_a_volume_that_cannot_be_grown_or_deleted_says_why(world: World) -> None:
    volume_id = await world.make()
    world.root.chmod(0o777)
    await world.act(volume_id, "os-extend", {"new_size": 2})
    await world.settle()
    assert await world.status(volume_id) == "error_extending"
    assert (await world.call("DELETE", f"/volumes/{volume_id}")).status_code == 202
    await world.settle()
    assert await world.status(volume_id) == "error_deleting"
    world.root.chmod(0o700)
    told = await world.get("/messages", "messages")
    assert [one["event_id"] for one in told] == ["VOLUME_VOLUME_100_001", "VOLUME_VOLUME_007_010"]
    assert [one["user_message"].partition(":")[0] for one in told] == ["delete volume", "extend volume"]


async def test_the_same_failure_is_told_once(world: World) -> None:
    volume_id = await fail_attach(world)
    before = await world.get("/messages", "messages")
    at = world.runtime.clock.now_us()
    found = await world.runtime.store.read(_holder, volume_id)
    await world.runtime.store.write(_refuse, found, volume_id, at, BUSY)
    await world.runtime.store.write(_refuse, found, volume_id, at, BUSY)
    after = await world.get("/messages", "messages")
    assert len(before) == 1
    assert len(after) == 2, "the rollback's own refusal is another request's"


def _holder(tx: Tx, volume_id: str) -> str:
    (view,) = open_of_volume(tx, volume_id)
    assert view.attachment.server_id is not None
    return view.attachment.server_id


async def test_messages_belong_to_a_project_and_an_admin_sees_all(world: World) -> None:
    await fail_attach(world)
    await fail_attach(world, project="other")
    assert len(await world.get("/messages", "messages")) == 1
    (others,) = await world.get("/messages", "messages", caller="other")
    for method in ("GET", "DELETE"):
        message(await world.call(method, f"/messages/{others['id']}"), 404)
    assert len(await world.get("/messages", "messages", caller="admin")) == 2
    (shown,) = await world.get(f"/messages?project_id={PROJECTS['other']}", "messages", caller="admin")
    assert shown == others


async def test_a_message_is_deleted_by_members_only(world: World) -> None:
    await fail_attach(world)
    (told,) = await world.get("/messages", "messages", caller="reader")
    path = f"/messages/{told['id']}"
    message(await world.call("DELETE", path, caller="reader"), 403)
    assert (await world.call("DELETE", path)).status_code == 204
    message(await world.call("DELETE", path), 404)
    assert await world.get("/messages", "messages") == []


async def test_pages_sorting_and_filters_came_with_3_5(world: World) -> None:
    volumes = [await fail_attach(world) for _ in range(3)]

    async def listed(query: str, version: str = "3.71") -> list[int]:
        rows = await world.get(f"/messages{query}", "messages", version=version)
        return [volumes.index(row["resource_uuid"]) for row in rows]

    assert await listed("") == [2, 1, 0]
    assert await listed("?limit=1", "3.4") == [2, 1, 0]
    assert await listed("?limit=1") == [2]
    assert await listed("?sort=created_at:asc") == [0, 1, 2]
    assert await listed("?sort_key=created_at&sort_dir=asc&limit=2") == [0, 1]
    assert await listed(f"?resource_uuid={volumes[1]}") == [1]
    assert await listed("?event_id=VOLUME_VOLUME_007_010") == []
    first = (await world.call("GET", "/messages?limit=2")).json()
    assert "marker" in first["messages_links"][0]["href"]
    assert await listed(f"?marker={first['messages'][-1]['id']}") == [0]
    message(await world.call("GET", "/messages?marker=none"), 404)
    message(await world.call("GET", "/messages?sort=stray"), 400)
    message(await world.call("GET", "/messages?sort=id:up"), 400)
    assert "stray" in message(await world.call("GET", "/messages?stray=1"), 400)
    assert await listed("?stray=1", "3.30") == [2, 1, 0]


async def test_messages_are_not_there_before_3_3(world: World) -> None:
    message(await world.call("GET", "/messages", version="3.2"), 404)
    assert await world.get("/messages", "messages", version="3.3") == []


async def test_an_expired_message_is_not_shown_and_then_removed(world: World) -> None:
    await fail_attach(world)
    (told,) = await world.get("/messages", "messages")
    now = world.runtime.clock.now_us
    late = now() + int((KEPT_S + 1) * 1e6)
    world.runtime.clock.now_us = lambda: late  # type: ignore[method-assign]
    message(await world.call("GET", f"/messages/{told['id']}"), 404)
    assert await world.get("/messages", "messages") == []
    assert await world.runtime.store.write(forget_expired, late) == 1
    assert await world.runtime.store.write(forget_expired, late) == 0
