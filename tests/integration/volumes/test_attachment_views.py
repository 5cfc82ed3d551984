"""Attachments as the block storage API shows them."""

from __future__ import annotations

import uuid

import pytest

from kevel.domain.ladder import Rung
from tests.integration.stand import PROJECTS
from tests.integration.volumes.conftest import World, message

UNKNOWN = "00000000-0000-4000-8000-0000000000ff"


async def test_an_attachment_is_shown_without_what_a_host_connects_by(world: World) -> None:
    volume_id = await world.make()
    server_id = await world.attach(volume_id)
    (listed,) = await world.get("/attachments/detail", "attachments")
    assert listed["attached_at"]
    assert listed | {"attached_at": "", "id": ""} == {
        "id": "",
        "status": "attached",
        "instance": server_id,
        "volume_id": volume_id,
        "attached_at": "",
        "detached_at": "",
        "attach_mode": "rw",
        "connection_info": {},
    }
    assert await world.get(f"/attachments/{listed['id']}", "attachment") == listed
    (short,) = await world.get("/attachments", "attachments")
    assert short == {key: listed[key] for key in ("id", "status", "instance", "volume_id")}


async def test_the_mode_is_the_volumes(world: World) -> None:
    volume_id = await world.make()
    await world.act(volume_id, "os-update_readonly_flag", {"readonly": True})
    await world.attach(volume_id)
    (listed,) = await world.get("/attachments/detail", "attachments")
    assert listed["attach_mode"] == "ro"
    assert (await world.get(f"/attachments/{listed['id']}", "attachment"))["attach_mode"] == "ro"


async def test_projects_see_their_own_attachments_and_an_admin_who_asks_all(world: World) -> None:
    volume_id, theirs = await world.make(), await world.make(caller="other")
    await world.attach(volume_id)
    await world.attach(theirs, project="other")
    (mine,) = await world.get("/attachments?all_tenants=True", "attachments")
    assert mine["volume_id"] == volume_id
    message(await world.call("GET", f"/attachments/{mine['id']}", caller="other"), 404)
    assert (await world.get(f"/attachments/{mine['id']}", "attachment", caller="admin"))["id"] == mine["id"]
    assert await world.get("/attachments", "attachments", caller="admin") == []
    assert len(await world.get("/attachments?all_tenants=True", "attachments", caller="admin")) == 2
    assert PROJECTS["member"] != PROJECTS["other"]


async def test_a_list_is_filtered_and_cut_newest_first(world: World) -> None:
    volumes = [await world.make() for _ in range(3)]
    servers = [await world.attach(volume_id) for volume_id in volumes[:2]]
    await world.attach(volumes[2], Rung.EXPORTED)
    for query, expected in (
        ("", [2, 1, 0]),
        (f"volume_id={volumes[1]}", [1]),
        (f"instance_id={servers[0]}", [0]),
        ("status=attaching", [2]),
        ("attach_status=attached", [1, 0]),
        ("limit=1&offset=1", [1]),
        ("limit=0", []),
    ):
        found = await world.get(f"/attachments/detail?{query}", "attachments")
        assert [one["volume_id"] for one in found] == [volumes[number] for number in expected]
    body = (await world.call("GET", "/attachments?limit=2")).json()
    (link,) = body["attachments_links"]
    answer = await world.clients["member"].get(link["href"], headers={"OpenStack-API-Version": "volume 3.71"})
    assert [one["volume_id"] for one in answer.json()["attachments"]] == [volumes[0]]
    message(await world.call("GET", f"/attachments?marker={uuid.uuid4()}"), 404)


@pytest.mark.parametrize("path", ["/attachments", "/attachments/detail", f"/attachments/{UNKNOWN}"])
async def test_attachments_are_there_from_3_27(world: World, path: str) -> None:
    message(await world.call("GET", path, version="3.26"), 404)


@pytest.mark.parametrize("attachment_id", [UNKNOWN, "no-uuid"])
async def test_an_unknown_attachment_is_not_found(world: World, attachment_id: str) -> None:
    message(await world.call("GET", f"/attachments/{attachment_id}"), 404)
