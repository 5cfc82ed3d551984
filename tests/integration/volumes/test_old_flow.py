"""Cinder's old flow: reserve, connect, attach, detach, as external attachments beside the others."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.integration.store.journal_fold import assert_equal
from tests.integration.volumes.conftest import World, message

INSTANCE = str(uuid.UUID(int=7))
USE = {"instance_uuid": INSTANCE, "mountpoint": "/dev/vdc"}
CONNECTOR = {"host": "metal-1", "initiator": "iqn.1993-08.org.debian:01:aa"}

#: Every action with a body that is right.
ACTIONS: dict[str, Any] = {
    "os-reserve": None,
    "os-unreserve": {},
    "os-begin_detaching": None,
    "os-roll_detaching": None,
    "os-attach": USE,
    "os-detach": None,
    "os-initialize_connection": {"connector": CONNECTOR},
    "os-terminate_connection": {"connector": CONNECTOR},
    "os-force_detach": {"attachment_id": None, "connector": None},
}


async def do(world: World, volume_id: str, action: str, value: Any = None, **more: Any) -> Any:
    """An action that is accepted."""
    answer = await world.act(volume_id, action, value, **more)
    assert answer.status_code == (200 if action == "os-initialize_connection" else 202), answer.text
    return answer.json() if answer.content else None


async def test_the_whole_old_flow(world: World) -> None:
    volume_id = await world.make()
    await do(world, volume_id, "os-reserve")
    assert await world.status(volume_id) == "attaching"
    message(await world.act(volume_id, "os-reserve", None), 400)
    told = await do(world, volume_id, "os-initialize_connection", {"connector": CONNECTOR})
    info = told["connection_info"]
    assert info == {
        "driver_volume_type": "file",
        "data": {
            "name": f"volume-{volume_id}",
            "format": "raw",
            "access_mode": "rw",
            "encrypted": False,
            "cacheable": False,
            "qos_specs": None,
        },
        "enforce_multipath": False,
    }
    assert await do(world, volume_id, "os-initialize_connection", {"connector": CONNECTOR}) == told
    await do(world, volume_id, "os-attach", USE | {"mode": "rw"})
    volume = await world.get(f"/volumes/{volume_id}", "volume")
    assert (volume["status"], volume["metadata"]) == ("in-use", {"attached_mode": "rw"})
    (shown,) = volume["attachments"]
    assert (shown["server_id"], shown["device"], shown["id"]) == (INSTANCE, "/dev/vdc", volume_id)
    await do(world, volume_id, "os-begin_detaching")
    assert await world.status(volume_id) == "detaching"
    assert len((await world.get(f"/volumes/{volume_id}", "volume"))["attachments"]) == 1
    message(await world.act(volume_id, "os-begin_detaching", None), 400)
    await do(world, volume_id, "os-roll_detaching")
    assert await world.status(volume_id) == "in-use"
    await do(world, volume_id, "os-terminate_connection", {"connector": CONNECTOR})
    assert await world.status(volume_id) == "in-use", "the client has not said that it is detached"
    await do(world, volume_id, "os-detach", {"attachment_id": shown["attachment_id"]})
    assert await world.status(volume_id) == "available"
    await world.runtime.store.read(assert_equal, shown["attachment_id"])


async def test_a_reservation_is_given_up(world: World) -> None:
    volume_id = await world.make()
    await do(world, volume_id, "os-unreserve")
    await do(world, volume_id, "os-reserve")
    await do(world, volume_id, "os-unreserve")
    assert await world.status(volume_id) == "available"
    await do(world, volume_id, "os-roll_detaching")
    assert await world.status(volume_id) == "available"


async def test_an_attach_needs_no_reservation_and_a_host_will_do(world: World) -> None:
    volume_id = await world.make()
    await do(world, volume_id, "os-attach", {"host_name": "metal-1", "mountpoint": "/mnt", "mode": "ro"})
    volume = await world.get(f"/volumes/{volume_id}", "volume", caller="admin")
    (shown,) = volume["attachments"]
    assert (shown["server_id"], shown["host_name"], shown["device"]) == (None, "metal-1", "/mnt")
    assert volume["metadata"] == {"attached_mode": "ro"}
    await do(world, volume_id, "os-attach", {"host_name": "metal-1", "mountpoint": "/srv"})
    (again,) = (await world.get(f"/volumes/{volume_id}", "volume"))["attachments"]
    assert (again["attachment_id"], again["device"]) == (shown["attachment_id"], "/srv")
    message(await world.act(volume_id, "os-attach", USE), 400)
    await do(world, volume_id, "os-detach", {})
    assert await world.status(volume_id) == "available"


async def test_naming_a_server_of_ours_plugs_nothing_into_it(world: World) -> None:
    volume_id, server_id = await world.make(), await world.make_server()
    await do(world, volume_id, "os-attach", {"instance_uuid": server_id, "mountpoint": "/dev/vdc"})
    assert await world.status(volume_id) == "in-use"
    (listed,) = await world.get(f"/attachments?instance_id={server_id}", "attachments")
    with pytest.raises(Exception, match="held by instance"):
        await world.try_attach(server_id, volume_id)
    await do(world, volume_id, "os-detach", {"attachment_id": listed["id"]})
    await world.try_attach(server_id, volume_id)


async def test_a_connection_without_a_reservation_makes_one_that_goes_with_it(world: World) -> None:
    volume_id = await world.make()
    await do(world, volume_id, "os-initialize_connection", {"connector": CONNECTOR})
    assert await world.status(volume_id) == "attaching"
    await do(world, volume_id, "os-terminate_connection", {"connector": {"host": "elsewhere"}})
    assert await world.status(volume_id) == "attaching"
    await do(world, volume_id, "os-terminate_connection", {"connector": None})
    assert await world.status(volume_id) == "available"


async def test_an_instance_that_moves_is_connected_on_both_hosts(world: World) -> None:
    volume_id = await world.make()
    await do(world, volume_id, "os-initialize_connection", {"connector": CONNECTOR})
    await do(world, volume_id, "os-attach", USE)
    await do(world, volume_id, "os-initialize_connection", {"connector": CONNECTOR | {"host": "metal-2"}})
    assert await world.status(volume_id) == "in-use"
    other = {"instance_uuid": str(uuid.uuid4()), "mountpoint": "/dev/vdd"}
    message(await world.act(volume_id, "os-attach", other), 400)
    await do(world, volume_id, "os-terminate_connection", {"connector": CONNECTOR})
    await do(world, volume_id, "os-detach")
    assert await world.status(volume_id) == "available"
    assert await world.get("/attachments", "attachments") == []


async def test_a_volume_that_is_held_otherwise_is_not_connected(world: World) -> None:
    volume_id = await world.make()
    await world.attach(volume_id)
    message(await world.act(volume_id, "os-initialize_connection", {"connector": CONNECTOR}), 400)
    message(await world.act(volume_id, "os-attach", USE), 400)
    assert await world.status(volume_id) == "in-use"


async def test_a_read_only_volume_is_attached_to_be_read(world: World) -> None:
    volume_id = await world.make()
    await do(world, volume_id, "os-update_readonly_flag", {"readonly": True})
    message(await world.act(volume_id, "os-attach", USE), 400)
    await do(world, volume_id, "os-attach", USE | {"mode": "ro"})


async def test_in_maintenance_nothing_is_attached_or_detached(world: World) -> None:
    volume_id = await world.make()
    await do(world, volume_id, "os-reset_status", {"status": "maintenance"}, caller="admin")
    for action in ("os-reserve", "os-attach", "os-detach", "os-begin_detaching", "os-initialize_connection"):
        message(await world.act(volume_id, action, ACTIONS[action]), 400)
    assert await world.status(volume_id) == "maintenance"


async def test_an_attachment_of_another_volume_is_not_detached(world: World) -> None:
    volume_id, other, theirs = await world.make(), await world.make(), await world.make(caller="other")
    await do(world, other, "os-attach", USE)
    await do(world, theirs, "os-attach", USE, caller="other")
    (listed,) = await world.get("/attachments", "attachments")
    message(await world.act(volume_id, "os-detach", {"attachment_id": listed["id"]}), 400)
    (foreign,) = await world.get("/attachments", "attachments", caller="other")
    message(await world.act(volume_id, "os-detach", {"attachment_id": foreign["id"]}), 404)
    message(await world.act(volume_id, "os-detach", {"attachment_id": str(uuid.uuid4())}), 404)
    force = {"attachment_id": listed["id"]}
    message(await world.act(volume_id, "os-force_detach", force, caller="admin"), 400)
    assert await world.status(other) == "in-use"


async def test_a_detach_of_nothing_is_done_already(world: World) -> None:
    volume_id = await world.make()
    await do(world, volume_id, "os-detach")
    await do(world, volume_id, "os-terminate_connection", {"connector": CONNECTOR})
    await do(world, volume_id, "os-reserve")
    await do(world, volume_id, "os-detach")
    assert await world.status(volume_id) == "available"


async def test_a_forced_detach_also_takes_the_admins_word_back(world: World) -> None:
    volume_id, server_id = await world.make(), await world.make_server()
    await do(world, volume_id, "os-attach", {"instance_uuid": server_id, "mountpoint": "/dev/vdb"})
    (shown,) = (await world.get(f"/volumes/{volume_id}", "volume"))["attachments"]
    await do(world, volume_id, "os-reset_status", {"status": "error"}, caller="admin")
    force = {"connector": None, "attachment_id": shown["attachment_id"]}
    message(await world.act(volume_id, "os-force_detach", force), 403)
    await do(world, volume_id, "os-force_detach", force, caller="admin")
    assert await world.status(volume_id) == "available"
    await do(world, volume_id, "os-detach")
    message(await world.act(volume_id, "os-force_detach", force, caller="admin"), 404)


async def test_a_volume_that_is_held_is_not_deleted(world: World) -> None:
    volume_id = await world.make()
    await do(world, volume_id, "os-attach", USE)
    assert INSTANCE in message(await world.call("DELETE", f"/volumes/{volume_id}"), 400)
    message(await world.act(volume_id, "os-force_delete", None, caller="admin"), 400)
    await do(world, volume_id, "os-detach")
    assert (await world.call("DELETE", f"/volumes/{volume_id}")).status_code == 202


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_volume_that_is_anothers_or_not_there_is_not_found(world: World, action: str) -> None:
    theirs = await world.make(caller="other")
    caller = "admin" if action == "os-force_detach" else "member"
    if caller == "member":
        message(await world.act(theirs, action, ACTIONS[action], caller=caller), 404)
    message(await world.act(str(uuid.uuid4()), action, ACTIONS[action], caller=caller), 404)
    message(await world.act(theirs, action, ACTIONS[action], caller="reader"), 403)
    assert await world.status(theirs) == "available"


@pytest.mark.parametrize(
    ("action", "value"),
    [
        ("os-attach", {"mountpoint": "/dev/vdb"}),
        ("os-attach", {"instance_uuid": INSTANCE}),
        ("os-attach", {"instance_uuid": INSTANCE, "mountpoint": ""}),
        ("os-attach", {"instance_uuid": "x", "mountpoint": "/dev/vdb"}),
        ("os-attach", USE | {"mode": "wo"}),
        ("os-attach", USE | {"more": 1}),
        ("os-detach", {"attachment_id": "x"}),
        ("os-detach", "text"),
        ("os-initialize_connection", {}),
        ("os-initialize_connection", {"connector": "text"}),
        ("os-initialize_connection", {"connector": {"host": "x" * 20_000}}),
        ("os-terminate_connection", {}),
        ("os-terminate_connection", {"connector": 1}),
    ],
)
async def test_a_wrong_body_changes_nothing(world: World, action: str, value: Any) -> None:
    volume_id = await world.make()
    message(await world.act(volume_id, action, value), 400)
    assert await world.status(volume_id) == "available"
