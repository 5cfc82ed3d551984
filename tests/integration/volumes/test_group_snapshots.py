"""Snapshots of groups, and groups made of them or of other groups."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from kevel.domain.errors import StepNever
from tests.integration.stand import PROJECTS
from tests.integration.volumes.conftest import World, message
from tests.integration.volumes.test_backups import read, silent, write
from tests.integration.volumes.test_groups import make_group, members, remove
from tests.integration.volumes.test_operations import fail_with


async def ask(world: World, group_id: str, *, caller: str = "member", **fields: Any) -> httpx.Response:
    body = {"group_snapshot": {"group_id": group_id, **fields}}
    return await world.call("POST", "/group_snapshots", body, caller=caller)


async def take(world: World, group_id: str, **fields: Any) -> str:
    answer = await ask(world, group_id, **fields)
    assert answer.status_code == 202, answer.text
    await world.settle_all()
    snapshot_id: str = answer.json()["group_snapshot"]["id"]
    assert (await show(world, snapshot_id))["status"] == "available"
    return snapshot_id


async def show(world: World, snapshot_id: str, **more: Any) -> dict[str, Any]:
    shown: dict[str, Any] = await world.get(f"/group_snapshots/{snapshot_id}", "group_snapshot", **more)
    return shown


async def drop(world: World, snapshot_id: str, **more: Any) -> httpx.Response:
    return await world.call("DELETE", f"/group_snapshots/{snapshot_id}", **more)


async def copy_group(world: World, **fields: Any) -> httpx.Response:
    version = fields.pop("version", "3.71")
    caller = fields.pop("caller", "member")
    return await world.call("POST", "/groups/action", {"create-from-src": fields}, version=version, caller=caller)


async def make_pair(world: World) -> tuple[str, str, str]:
    """A group and its two volumes, each with its own contents."""
    group_id = await make_group(world, name="g")
    one, two = await world.make(group_id=group_id, name="1"), await world.make(group_id=group_id, name="2")
    for volume_id, content in ((one, b"one"), (two, b"two")):
        write(world, volume_id, content)
    return group_id, one, two


async def test_all_volumes_of_a_group_are_taken_and_go_together(world: World) -> None:
    group_id, one, two = await make_pair(world)
    answer = await ask(world, group_id, name="s", description="d")
    made = answer.json()["group_snapshot"]
    group_type = (await world.get(f"/groups/{group_id}", "group"))["group_type"]
    assert made == {"id": made["id"], "name": "s", "group_type_id": group_type}
    assert (await show(world, made["id"]))["status"] == "creating"
    message(await drop(world, made["id"]), 400)
    await world.settle_all()
    shown = await show(world, made["id"])
    assert (shown["status"], shown["group_id"], shown["description"]) == ("available", group_id, "d")
    taken = await world.get("/snapshots/detail", "snapshots")
    assert {one["volume_id"] for one in taken} == {one, two}
    assert {one["group_snapshot_id"] for one in taken} == {made["id"]}
    message(await world.call("DELETE", f"/snapshots/{taken[0]['id']}"), 400)
    assert "group snapshots" in message(await remove(world, group_id, volumes=True), 400)
    assert (await drop(world, made["id"])).status_code == 202
    assert (await show(world, made["id"]))["status"] == "deleting"
    assert (await drop(world, made["id"])).status_code == 202
    await world.settle_all()
    message(await world.call("GET", f"/group_snapshots/{made['id']}"), 404)
    assert await world.get("/snapshots", "snapshots") == []
    assert (await remove(world, group_id, volumes=True)).status_code == 202


@pytest.mark.parametrize("source", ["group", "snapshot"])
async def test_a_group_is_made_of_another_or_of_its_snapshot(world: World, source: str) -> None:
    group_id, one, two = await make_pair(world)
    fields: dict[str, Any] = {"source_group_id": group_id}
    if source == "snapshot":
        fields = {"group_snapshot_id": await take(world, group_id)}
        write(world, one, b"ONE")
    answer = await copy_group(world, name="copy", **fields)
    assert answer.status_code == 202, answer.text
    copy_id = answer.json()["group"]["id"]
    assert (await world.get(f"/groups/{copy_id}", "group"))["status"] == "creating"
    await world.settle_all()
    shown = await world.get(f"/groups/{copy_id}", "group")
    assert (shown["status"], shown["name"]) == ("available", "copy")
    assert (shown["source_group_id"], shown["group_snapshot_id"]) == (
        fields.get("source_group_id"),
        fields.get("group_snapshot_id"),
    )
    copies = await members(world, copy_id)
    assert sorted(read(world, volume_id, 3) for volume_id in copies) == [b"one", b"two"]
    assert not set(copies) & {one, two}


async def test_a_group_is_not_copied_while_the_pool_does_not_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    group_id, _, _ = await make_pair(world)
    monkeypatch.setattr(world.pool, "capacity", silent)
    message(await copy_group(world, source_group_id=group_id), 503)
    assert len(await world.get("/groups", "groups")) == 1


async def test_a_copy_that_fails_shows_in_its_group(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    group_id, _, _ = await make_pair(world)
    with monkeypatch.context() as patch:
        patch.setattr(world.pool, "create_volume_from", lambda *args: fail_with(StepNever("It is full."))(args[0]))
        copy_id = (await copy_group(world, source_group_id=group_id)).json()["group"]["id"]
        await world.settle()
    assert (await world.get(f"/groups/{copy_id}", "group"))["status"] == "error"
    assert (await remove(world, copy_id, volumes=True)).status_code == 202
    await world.settle()
    message(await world.call("GET", f"/groups/{copy_id}"), 404)


async def test_a_snapshot_that_fails_shows_in_its_group_snapshot(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    group_id, _, _ = await make_pair(world)
    with monkeypatch.context() as patch:
        patch.setattr(world.pool, "create_snapshot", lambda *args: fail_with(StepNever("It is full."))(args[0]))
        snapshot_id = (await ask(world, group_id)).json()["group_snapshot"]["id"]
        await world.settle()
    assert (await show(world, snapshot_id))["status"] == "error"
    message(await copy_group(world, group_snapshot_id=snapshot_id), 400)
    assert (await drop(world, snapshot_id)).status_code == 202
    await world.settle_all()
    assert await world.get("/group_snapshots", "group_snapshots") == []


async def test_copies_are_made_of_one_whole_source(world: World) -> None:
    group_id = await make_group(world)
    message(await ask(world, group_id), 400)
    message(await copy_group(world, source_group_id=group_id), 400)
    message(await copy_group(world), 400)
    message(await copy_group(world, source_group_id=group_id, group_snapshot_id=group_id), 400)
    message(await copy_group(world, source_group_id=str(uuid.uuid4())), 404)
    message(await copy_group(world, group_snapshot_id=str(uuid.uuid4())), 404)
    message(await copy_group(world, source_group_id=group_id, caller="other"), 404)
    message(await copy_group(world, source_group_id=group_id, version="3.13"), 404)
    await world.ask(group_id=group_id)
    message(await ask(world, group_id), 400)
    message(await copy_group(world, source_group_id=group_id), 400)
    assert len(await world.get("/groups", "groups")) == 1
    assert await world.get("/group_snapshots", "group_snapshots") == []


async def test_what_there_is_no_room_for_is_not_begun(world: World) -> None:
    group_id, _, _ = await make_pair(world)
    path = f"/os-quota-sets/{PROJECTS['member']}"
    for resource, call in (
        ("snapshots", ask(world, group_id)),
        ("groups", copy_group(world, source_group_id=group_id)),
    ):
        await world.call("PUT", path, {"quota_set": {resource: 1}}, caller="admin")
        assert resource in message(await call, 413)
    assert await world.get("/snapshots", "snapshots") == []
    assert len(await world.get("/volumes", "volumes")) == 2


async def test_a_group_snapshot_is_its_projects(world: World) -> None:
    group_id, _, _ = await make_pair(world)
    message(await ask(world, group_id, caller="other"), 404)
    snapshot_id = await take(world, group_id)
    for method in ("GET", "DELETE"):
        message(await world.call(method, f"/group_snapshots/{snapshot_id}", caller="other"), 404)
        message(await world.call(method, f"/group_snapshots/{uuid.uuid4()}"), 404)
    assert await world.get("/group_snapshots/detail", "group_snapshots", caller="other") == []
    query = "/group_snapshots/detail?all_tenants=1"
    (seen,) = await world.get(query, "group_snapshots", caller="admin")
    assert seen["project_id"] == PROJECTS["member"]
    (seen,) = await world.get(query, "group_snapshots", caller="admin", version="3.57")
    assert "project_id" not in seen
    message(await world.call("GET", "/group_snapshots", version="3.13"), 404)


async def test_lists_have_filters_pages_and_an_order_from_3_29(world: World) -> None:
    group_id, _, _ = await make_pair(world)
    ids = [await take(world, group_id, name=name) for name in ("a", "b")]
    assert [one["id"] for one in await world.get("/group_snapshots", "group_snapshots")] == ids[::-1]
    answer = (await world.call("GET", "/group_snapshots?sort=name:asc&limit=1")).json()
    assert answer["group_snapshots"] == [{"id": ids[0], "name": "a"}]
    (link,) = answer["group_snapshot_links"]
    assert [one["id"] for one in await world.get(link["href"], "group_snapshots")] == ids[1:]
    assert len(await world.get("/group_snapshots?limit=1", "group_snapshots", version="3.28")) == 2
    assert [one["id"] for one in await world.get("/group_snapshots?name=b", "group_snapshots")] == ids[1:]
    assert await world.get("/group_snapshots?status=error", "group_snapshots") == []
    for path in ("/group_snapshots", "/group_snapshots/detail"):
        message(await world.call("GET", f"{path}?sort=colour"), 400)
        message(await world.call("GET", f"{path}?marker=nothing"), 404)


async def test_a_reset_puts_a_word_over_the_status_and_makes_nothing_so(world: World) -> None:
    group_id, _, _ = await make_pair(world)
    snapshot_id = await take(world, group_id)
    path = f"/group_snapshots/{snapshot_id}/action"
    for word in ("creating", "error", "available"):
        body = {"reset_status": {"status": word}}
        answer = await world.call("POST", path, body, caller="admin", version="3.19")
        assert (answer.status_code, answer.content) == (202, b"")
        assert (await show(world, snapshot_id))["status"] == word
    body = {"reset_status": {"status": "error"}}
    message(await world.call("POST", path, body, caller="admin", version="3.18"), 404)
    message(await world.call("POST", path, body), 403)
    message(await world.call("POST", path.replace(snapshot_id, str(uuid.uuid4())), body, caller="admin"), 404)
    message(await world.call("POST", path, {"reset_status": {"status": "colour"}}, caller="admin"), 400)
    await drop(world, snapshot_id)
    message(await world.call("POST", path, {"reset_status": {"status": "available"}}, caller="admin"), 400)


@pytest.mark.parametrize("fields", [{"name": "n" * 256}, {"name": "\0"}, {"colour": "red"}, {"group_id": 5}])
async def test_a_bad_group_snapshot_is_refused(world: World, fields: dict[str, Any]) -> None:
    group_id, _, _ = await make_pair(world)
    body = {"group_snapshot": {"group_id": group_id, **fields}}
    message(await world.call("POST", "/group_snapshots", body), 400)
