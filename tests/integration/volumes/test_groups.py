"""Groups of volumes."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from kevel.domain.errors import StepNever
from kevel.domain.ladder import Rung
from tests.integration.stand import PROJECTS
from tests.integration.volumes.conftest import HOST, World, message
from tests.integration.volumes.test_group_types import make_kind
from tests.integration.volumes.test_operations import fail_with


async def ask_group(world: World, **fields: Any) -> httpx.Response:
    kinds = await world.get("/group_types", "group_types")
    kind = kinds[0]["id"] if kinds else await make_kind(world)
    body = {"group": {"group_type": kind, "volume_types": ["standard"], **fields}}
    return await world.call("POST", "/groups", body)


async def make_group(world: World, **fields: Any) -> str:
    answer = await ask_group(world, **fields)
    assert answer.status_code == 202, answer.text
    group_id: str = answer.json()["group"]["id"]
    return group_id


async def change(world: World, group_id: str, **fields: Any) -> httpx.Response:
    return await world.call("PUT", f"/groups/{group_id}", {"group": fields})


async def remove(world: World, group_id: str, **more: Any) -> httpx.Response:
    body = {"delete": {"delete-volumes": more.pop("volumes", False)}}
    return await world.call("POST", f"/groups/{group_id}/action", body, **more)


async def members(world: World, group_id: str) -> list[str]:
    found = await world.get(f"/volumes?group_id={group_id}", "volumes")
    shown = await world.get(f"/groups/{group_id}?list_volume=true", "group")
    assert sorted(one["id"] for one in found) == sorted(shown["volumes"])
    volumes: list[str] = shown["volumes"]
    return volumes


@pytest.mark.parametrize(
    ("version", "more"),
    [
        ("3.13", set()),
        ("3.14", {"group_snapshot_id", "source_group_id"}),
        ("3.25", {"group_snapshot_id", "source_group_id", "volumes"}),
        ("3.38", {"group_snapshot_id", "source_group_id", "volumes", "replication_status"}),
        ("3.58", {"group_snapshot_id", "source_group_id", "volumes", "replication_status", "project_id"}),
    ],
)
async def test_a_group_is_shown_by_its_microversion(world: World, version: str, more: set[str]) -> None:
    answer = await ask_group(world, name=" web ", description="d")
    made = answer.json()["group"]
    assert made == {"id": made["id"], "name": "web"}
    known = {"id", "name", "status", "availability_zone", "created_at", "description", "group_type", "volume_types"}
    query = "?list_volume=True&all_tenants=1"
    shown = await world.get(f"/groups/{made['id']}{query}", "group", version=version, caller="admin")
    assert shown.keys() == known | more
    assert (shown["name"], shown["status"], shown["availability_zone"]) == ("web", "available", "nova")
    (default,) = [one["id"] for one in await world.get("/types", "volume_types")]
    assert shown["volume_types"] == [default]
    assert await world.get(f"/groups/detail{query}", "groups", version=version, caller="admin") == [shown]
    assert await world.get("/groups", "groups", version=version) == [made]
    assert (await world.get(f"/groups/{made['id']}", "group", version=version)).keys() == known | more - {
        "volumes",
        "project_id",
    }


async def test_groups_came_with_3_13(world: World) -> None:
    message(await world.call("GET", "/groups", version="3.12"), 404)
    group_id = await make_group(world)
    message(await world.ask(group_id=group_id, version="3.12"), 400)


async def test_a_volume_is_made_in_a_group_and_goes_with_it(world: World) -> None:
    group_id = await make_group(world)
    volume_id = await world.make(group_id=group_id)
    assert await members(world, group_id) == [volume_id]
    assert (await world.get(f"/volumes/{volume_id}", "volume", version="3.13"))["group_id"] == group_id
    assert "group_id" not in await world.get(f"/volumes/{volume_id}", "volume", version="3.12")
    assert "group" in message(await world.call("DELETE", f"/volumes/{volume_id}"), 400)
    message(await world.act(volume_id, "os-force_delete", None, caller="admin"), 400)
    message(await world.call("POST", "/volume-transfers", {"transfer": {"volume_id": volume_id}}), 400)
    message(await remove(world, group_id), 400)
    assert (await remove(world, group_id, volumes=True)).status_code == 202
    assert (await world.get(f"/groups/{group_id}", "group"))["status"] == "deleting"
    message(await change(world, group_id, name="x"), 400)
    message(await world.ask(group_id=group_id), 400)
    await world.settle()
    message(await world.call("GET", f"/volumes/{volume_id}"), 404)
    message(await world.call("GET", f"/groups/{group_id}"), 404)
    assert await world.get("/groups", "groups") == []


async def test_an_empty_group_is_gone_at_once(world: World) -> None:
    group_id = await make_group(world)
    assert (await remove(world, group_id)).status_code == 202
    message(await world.call("GET", f"/groups/{group_id}"), 404)
    message(await remove(world, group_id), 404)


async def test_volumes_enter_and_leave_a_group(world: World) -> None:
    group_id = await make_group(world)
    one, two = await world.make(group_id=group_id), await world.make()
    await world.attach(two, Rung.PLUGGED)
    answer = await change(world, group_id, name="new", description="d", add_volumes=f"{two},{one}")
    assert (answer.status_code, answer.content) == (202, b"")
    assert sorted(await members(world, group_id)) == sorted([one, two])
    shown = await world.get(f"/groups/{group_id}", "group")
    assert (shown["name"], shown["description"]) == ("new", "d")
    assert (await change(world, group_id, remove_volumes=one)).status_code == 202
    assert await members(world, group_id) == [two]
    assert (await world.call("DELETE", f"/volumes/{one}")).status_code == 202


async def test_a_change_is_made_whole_or_not_at_all(world: World) -> None:
    group_id, other_group = await make_group(world), await make_group(world)
    free, taken, busy = await world.make(), await world.make(group_id=other_group), await world.make()
    await world.act(busy, "os-reset_status", {"status": "error"}, caller="admin")
    foreign = await world.make(caller="other")
    for wrong in (taken, busy, foreign, str(uuid.uuid4())):
        message(await change(world, group_id, name="new", add_volumes=f"{free},{wrong}"), 400)
    message(await change(world, group_id, add_volumes=free, remove_volumes=free), 400)
    message(await change(world, group_id, add_volumes=free, remove_volumes=taken), 400)
    message(await change(world, group_id), 400)
    assert await members(world, group_id) == []
    assert (await world.get(f"/groups/{group_id}", "group"))["name"] is None


async def test_a_group_takes_only_volumes_of_its_types(world: World) -> None:
    await world.call("POST", "/types", {"volume_type": {"name": "fast"}}, caller="admin")
    group_id = await make_group(world, volume_types=["fast"])
    message(await world.ask(group_id=group_id), 400)
    assert (await world.ask(group_id=group_id, volume_type="fast")).status_code == 202
    message(await change(world, group_id, add_volumes=await world.make()), 400)
    assert len(await members(world, group_id)) == 1


async def test_a_group_is_its_projects(world: World) -> None:
    group_id = await make_group(world)
    for method, path, body in (
        ("GET", f"/groups/{group_id}", None),
        ("PUT", f"/groups/{group_id}", {"group": {"name": "x"}}),
        ("POST", f"/groups/{group_id}/action", {"delete": {}}),
    ):
        message(await world.call(method, path, body, caller="other"), 404)
        message(await world.call(method, path.replace(group_id, str(uuid.uuid4())), body), 404)
    message(await world.ask(caller="other", group_id=group_id), 404)
    message(await world.ask(caller="admin", group_id=group_id), 400)
    assert await world.get("/groups/detail", "groups", caller="other") == []
    (seen,) = await world.get("/groups/detail?all_tenants=1", "groups", caller="admin")
    assert seen["project_id"] == PROJECTS["member"]


async def test_lists_have_filters_pages_and_an_order(world: World) -> None:
    ids = [await make_group(world, name=name) for name in ("a", "b", "c")]
    assert [one["id"] for one in await world.get("/groups", "groups")] == ids[::-1]
    answer = await world.call("GET", "/groups?sort_key=name&sort_dir=asc&limit=2")
    assert [one["name"] for one in answer.json()["groups"]] == ["a", "b"]
    (link,) = answer.json()["group_links"]
    assert [one["id"] for one in await world.get(link["href"], "groups")] == ids[2:]
    assert [one["id"] for one in await world.get("/groups?name=b", "groups")] == [ids[1]]
    await world.call("POST", f"/groups/{ids[0]}/action", {"reset_status": {"status": "error"}}, caller="admin")
    assert [one["id"] for one in await world.get("/groups?status=error", "groups")] == [ids[0]]
    assert len(await world.get("/groups?status=available", "groups")) == 2
    for path in ("/groups", "/groups/detail"):
        message(await world.call("GET", f"{path}?sort=colour"), 400)
        message(await world.call("GET", f"{path}?marker=nothing"), 404)
    message(await world.call("GET", f"/groups/{ids[0]}?list_volume=perhaps"), 400)


@pytest.mark.parametrize(
    "fields",
    [
        {"volume_types": []},
        {"volume_types": ["nothing"]},
        {"volume_types": "standard"},
        {"availability_zone": "mars"},
        {"name": "n" * 256},
        {"name": "\0"},
        {"colour": "red"},
        {"group_type": ""},
    ],
)
async def test_a_bad_group_is_refused(world: World, fields: dict[str, Any]) -> None:
    message(await ask_group(world, **fields), 400)
    assert await world.get("/groups", "groups") == []


async def test_a_group_of_an_unknown_type_is_not_found(world: World) -> None:
    message(await ask_group(world, group_type="nothing"), 404)
    hidden = await make_kind(world, "hidden", is_public=False)
    message(await ask_group(world, group_type=hidden), 404)


async def test_a_type_of_groups_stays_while_there_are_groups_of_it(world: World) -> None:
    group_id = await make_group(world, group_type=await make_kind(world))
    kind = (await world.get("/group_types", "group_types"))[0]["id"]
    volume_id = await world.make(group_id=group_id)
    message(await world.call("DELETE", f"/group_types/{kind}", caller="admin"), 400)
    await remove(world, group_id, volumes=True)
    message(await world.call("DELETE", f"/group_types/{kind}", caller="admin"), 400)
    await world.settle()
    message(await world.call("GET", f"/volumes/{volume_id}"), 404)
    assert (await world.call("DELETE", f"/group_types/{kind}", caller="admin")).status_code == 202


async def test_a_group_with_an_attached_or_offered_volume_is_not_deleted(world: World) -> None:
    group_id = await make_group(world)
    volume_id, spare = await world.make(group_id=group_id), await world.make(group_id=group_id)
    server_id = await world.attach(volume_id, Rung.PLUGGED)
    assert volume_id in message(await remove(world, group_id, volumes=True), 400)
    assert await world.status(spare) == "available"
    await world.detach(server_id, volume_id)
    assert (await remove(world, group_id, volumes=True)).status_code == 202


async def test_a_frozen_pool_keeps_the_volumes_and_snapshots_of_groups(world: World) -> None:
    group_id = await make_group(world)
    volume_id = await world.make(volume_type="standard", group_id=group_id)
    answer = await world.call("POST", "/group_snapshots", {"group_snapshot": {"group_id": group_id}})
    taken = answer.json()["group_snapshot"]["id"]
    await world.settle()
    pool = {"host": f"{HOST}@local"}
    assert (await world.call("PUT", "/os-services/freeze", pool, caller="admin")).status_code == 200
    assert "frozen" in message(await world.call("DELETE", f"/group_snapshots/{taken}"), 400)
    assert (await world.call("PUT", "/os-services/thaw", pool, caller="admin")).status_code == 200
    assert (await world.call("DELETE", f"/group_snapshots/{taken}")).status_code == 202
    await world.settle()
    assert (await world.call("PUT", "/os-services/freeze", pool, caller="admin")).status_code == 200
    assert "frozen" in message(await remove(world, group_id, volumes=True), 400)
    assert await world.status(volume_id) == "available"


async def test_a_volume_that_cannot_be_deleted_shows_in_its_group_which_can_be_deleted_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    group_id = await make_group(world)
    await world.make(group_id=group_id)
    with monkeypatch.context() as patch:
        patch.setattr(world.pool, "delete_volume", fail_with(StepNever("It is not permitted.")))
        await remove(world, group_id, volumes=True)
        await world.settle()
    assert (await world.get(f"/groups/{group_id}", "group"))["status"] == "error_deleting"
    assert (await remove(world, group_id, volumes=True)).status_code == 202
    await world.settle()
    message(await world.call("GET", f"/groups/{group_id}"), 404)


async def test_a_reset_puts_a_word_over_a_groups_status_and_makes_nothing_so(world: World) -> None:
    group_id = await make_group(world)
    path = f"/groups/{group_id}/action"
    for word in ("creating", "error", "available"):
        body = {"reset_status": {"status": word}}
        answer = await world.call("POST", path, body, caller="admin", version="3.20")
        assert (answer.status_code, answer.content) == (202, b"")
        assert (await world.get(f"/groups/{group_id}", "group"))["status"] == word
    body = {"reset_status": {"status": "error"}}
    message(await world.call("POST", path, body, caller="admin", version="3.19"), 404)
    message(await world.call("POST", path, body), 403)
    message(await world.call("POST", path.replace(group_id, str(uuid.uuid4())), body, caller="admin"), 404)
    for word in ("colour", "deleting", "in-use"):
        message(await world.call("POST", path, {"reset_status": {"status": word}}, caller="admin"), 400)
    await world.make(group_id=group_id)
    await remove(world, group_id, volumes=True)
    message(await world.call("POST", path, {"reset_status": {"status": "available"}}, caller="admin"), 400)
    assert (await world.get(f"/groups/{group_id}", "group"))["status"] == "deleting"


async def test_a_project_has_no_more_groups_than_its_quota(world: World) -> None:
    quota = {"quota_set": {"groups": 1}}
    assert (await world.call("PUT", f"/os-quota-sets/{PROJECTS['member']}", quota, caller="admin")).status_code == 200
    group_id = await make_group(world)
    assert "groups" in message(await ask_group(world), 413)
    await remove(world, group_id)
    await make_group(world)
