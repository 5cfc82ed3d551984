"""The attachments API for what is no server of ours, over a directory, whose exports have no effect of their own."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from kevel.domain.errors import Invalid
from kevel.domain.ladder import Rung
from kevel.store.schema.attachments import paths
from kevel.store.transactions import Tx
from tests.integration.store.journal_fold import assert_equal
from tests.integration.volumes.conftest import World, message
from tests.integration.volumes.test_encryption import make_sealed

CONNECTOR = {"host": "metal-1", "initiator": "iqn.1993-08.org.debian:01:aa", "mountpoint": "/dev/vdb"}
INSTANCE = str(uuid.UUID(int=7))


async def declare(world: World, volume_id: str, *, version: str = "3.71", caller: str = "member", **fields: Any) -> Any:
    """A new attachment."""
    answer = await ask(world, volume_id, version=version, caller=caller, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()["attachment"]


async def ask(
    world: World, volume_id: str, *, version: str = "3.71", caller: str = "member", **fields: Any
) -> httpx.Response:
    body = {"attachment": {"volume_uuid": volume_id, **fields}}
    return await world.call("POST", "/attachments", body, version=version, caller=caller)


async def connect(world: World, attachment_id: str, connector: dict[str, Any], **more: Any) -> httpx.Response:
    return await world.call("PUT", f"/attachments/{attachment_id}", {"attachment": {"connector": connector}}, **more)


async def complete(world: World, attachment_id: str, **more: Any) -> httpx.Response:
    return await world.call("POST", f"/attachments/{attachment_id}/action", {"os-complete": attachment_id}, **more)


async def delete(world: World, attachment_id: str, **more: Any) -> httpx.Response:
    return await world.call("DELETE", f"/attachments/{attachment_id}", **more)


async def test_an_attachment_is_reserved_connected_completed_and_deleted(world: World) -> None:
    volume_id = await world.make()
    reserved = await declare(world, volume_id, instance_uuid=INSTANCE, connector={})
    assert reserved | {"id": ""} == {
        "id": "",
        "status": "reserved",
        "instance": INSTANCE,
        "volume_id": volume_id,
        "attached_at": "",
        "detached_at": "",
        "attach_mode": "null",
        "connection_info": {},
    }
    assert await world.status(volume_id) == "reserved"
    attaching = (await connect(world, reserved["id"], CONNECTOR)).json()["attachment"]
    assert (attaching["status"], attaching["attach_mode"]) == ("attaching", "rw")
    assert attaching["attached_at"]
    assert attaching["connection_info"] == {
        "driver_volume_type": "file",
        "name": f"volume-{volume_id}",
        "format": "raw",
        "attachment_id": reserved["id"],
        "access_mode": "rw",
        "encrypted": False,
        "cacheable": False,
        "qos_specs": None,
        "enforce_multipath": False,
    }
    assert await world.status(volume_id) == "attaching"
    assert (await complete(world, reserved["id"])).status_code == 204
    assert (await complete(world, reserved["id"])).status_code == 204, "asked again, it is so already"
    volume = await world.get(f"/volumes/{volume_id}", "volume", caller="admin")
    assert volume["status"] == "in-use"
    assert volume["metadata"] == {"attached_mode": "rw"}
    (shown,) = volume["attachments"]
    assert shown | {"attached_at": ""} == {
        "id": volume_id,
        "attachment_id": reserved["id"],
        "volume_id": volume_id,
        "server_id": INSTANCE,
        "host_name": "metal-1",
        "device": "/dev/vdb",
        "attached_at": "",
    }
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["attachments"][0]["host_name"] is None
    await world.runtime.store.read(assert_equal, reserved["id"])
    answer = await delete(world, reserved["id"])
    assert (answer.status_code, answer.json()) == (200, {"attachments": []})
    assert await world.status(volume_id) == "available"
    await world.runtime.store.read(assert_equal, reserved["id"])
    message(await delete(world, reserved["id"]), 404)


async def test_with_a_connector_it_is_connected_at_once(world: World) -> None:
    volume_id = await world.make()
    made = await declare(world, volume_id, connector=CONNECTOR | {"enforce_multipath": True}, mode="ro")
    assert (made["status"], made["attach_mode"], made["instance"]) == ("attaching", "ro", None)
    assert made["connection_info"]["enforce_multipath"] is True
    assert made["connection_info"]["access_mode"] == "ro"
    (listed,) = await world.get("/attachments/detail", "attachments")
    assert listed == made == await world.get(f"/attachments/{made['id']}", "attachment")


async def test_of_an_encrypted_volume_it_is_said(world: World) -> None:
    volume_id = await make_sealed(world)
    made = await declare(world, volume_id, connector=CONNECTOR)
    assert made["connection_info"]["encrypted"] is True
    assert "passphrase" not in str(made)


async def test_of_a_read_only_volume_the_mode_is_ro(world: World) -> None:
    volume_id = await world.make()
    await world.act(volume_id, "os-update_readonly_flag", {"readonly": True})
    made = await declare(world, volume_id, connector=CONNECTOR, mode="rw")
    assert made["attach_mode"] == "ro"
    assert made["connection_info"]["access_mode"] == "ro"


async def test_a_mode_in_the_connector_counts_where_none_was_asked_for(world: World) -> None:
    made = await declare(world, await world.make(), version="3.53", connector=CONNECTOR | {"mode": "ro"})
    assert made["attach_mode"] == "ro"


async def test_a_volume_that_is_not_shared_has_one_consumer(world: World) -> None:
    volume_id = await world.make()
    held = await declare(world, volume_id, instance_uuid=INSTANCE)
    text = message(await ask(world, volume_id, instance_uuid=str(uuid.uuid4())), 400)
    assert f"instance {INSTANCE}" in text
    message(await world.act(volume_id, "os-reserve", None), 400)
    server_id = await world.make_server()
    with pytest.raises(Invalid, match=f"held by instance {INSTANCE}"):
        await world.try_attach(server_id, volume_id)
    await delete(world, held["id"])
    await world.try_attach(server_id, volume_id)
    assert f"instance {server_id}" in message(await ask(world, volume_id), 400)


async def test_the_same_instance_may_be_connected_from_two_hosts_while_it_moves(world: World) -> None:
    volume_id = await world.make()
    first = await declare(world, volume_id, instance_uuid=INSTANCE, connector=CONNECTOR)
    message(await ask(world, volume_id, instance_uuid=INSTANCE), 400)
    await complete(world, first["id"])
    second = await declare(world, volume_id, instance_uuid=INSTANCE)
    assert "duplicate connectors" in message(await connect(world, second["id"], CONNECTOR), 400)
    assert (await connect(world, second["id"], CONNECTOR | {"host": "metal-2"})).status_code == 200
    left = (await delete(world, first["id"])).json()["attachments"]
    assert [one["id"] for one in left] == [second["id"]]
    message(await ask(world, volume_id, instance_uuid=str(uuid.uuid4())), 400)
    await delete(world, second["id"])
    assert await world.status(volume_id) == "available"


async def test_another_connector_takes_the_place_of_the_first(world: World) -> None:
    volume_id = await world.make()
    made = await declare(world, volume_id, connector=CONNECTOR)
    again = (await connect(world, made["id"], CONNECTOR)).json()["attachment"]
    assert again["connection_info"] == made["connection_info"]
    moved = await connect(world, made["id"], {"host": "metal-2"})
    assert moved.status_code == 200
    found = await world.runtime.store.read(paths_of, made["id"])
    assert [(path["host"], path["rung"]) for path in found] == [("metal-1", Rung.RELEASED), ("metal-2", Rung.EXPORTED)]
    await world.runtime.store.read(assert_equal, made["id"])


def paths_of(tx: Tx, attachment_id: str) -> list[dict[str, Any]]:
    columns = select(paths.c.host, paths.c.rung, paths.c.generation).where(paths.c.attachment_id == attachment_id)
    return [row._asdict() for row in sorted(tx.execute(columns), key=lambda row: row.generation)]


@pytest.mark.parametrize("status", ["error", "error_deleting", "maintenance"])
async def test_a_volume_in_no_order_takes_no_consumer(world: World, status: str) -> None:
    volume_id = await world.make()
    held = await declare(world, volume_id)
    await world.act(volume_id, "os-reset_status", {"status": status}, caller="admin")
    message(await ask(world, volume_id), 400)
    answer = await connect(world, held["id"], CONNECTOR)
    if status.startswith("error"):
        message(answer, 409)
    assert (await delete(world, held["id"])).status_code == 200


@pytest.mark.parametrize(
    ("fields", "version"),
    [
        ({"volume_uuid": "x"}, "3.71"),
        ({"instance_uuid": "x"}, "3.71"),
        ({"connector": "x"}, "3.71"),
        ({"mode": "wo"}, "3.71"),
        ({"mode": "ro"}, "3.53"),
        ({"more": 1}, "3.71"),
        ({"connector": {"host": "x" * 20_000}}, "3.71"),
    ],
)
async def test_a_wrong_body_makes_nothing(world: World, fields: dict[str, Any], version: str) -> None:
    volume_id = await world.make()
    body = {"attachment": {"volume_uuid": volume_id, **fields}}
    message(await world.call("POST", "/attachments", body, version=version), 400)
    assert await world.status(volume_id) == "available"


async def test_what_is_unknown_or_anothers_is_not_found(world: World) -> None:
    volume_id, theirs = await world.make(), await world.make(caller="other")
    held = await declare(world, volume_id, connector=CONNECTOR)
    message(await ask(world, theirs), 404)
    message(await ask(world, str(uuid.uuid4())), 404)
    for attachment_id, caller in ((held["id"], "other"), (str(uuid.uuid4()), "member"), ("no-uuid", "member")):
        message(await world.call("GET", f"/attachments/{attachment_id}", caller=caller), 404)
        message(await connect(world, attachment_id, CONNECTOR, caller=caller), 404)
        message(await complete(world, attachment_id, caller=caller), 404)
        message(await delete(world, attachment_id, caller=caller), 404)
    assert await world.status(volume_id) == "attaching"


@pytest.mark.parametrize("connector", [{}, None, "text"])
async def test_to_connect_takes_a_connector(world: World, connector: Any) -> None:
    held = await declare(world, await world.make())
    message(await connect(world, held["id"], connector), 400)


async def test_calls_come_with_their_microversions(world: World) -> None:
    volume_id = await world.make()
    message(await ask(world, volume_id, version="3.26"), 404)
    held = await declare(world, volume_id, version="3.27", connector=CONNECTOR)
    message(await complete(world, held["id"], version="3.43"), 404)
    message(await connect(world, held["id"], CONNECTOR, version="3.26"), 404)
    message(await delete(world, held["id"], version="3.26"), 404)
    message(await world.call("POST", f"/attachments/{held['id']}/action", {"os-begin": None}), 400)


async def test_readers_list_but_are_told_of_no_connection_and_change_nothing(world: World) -> None:
    volume_id = await world.make()
    held = await declare(world, volume_id, connector=CONNECTOR)
    shown = await world.get(f"/attachments/{held['id']}", "attachment", caller="reader")
    assert shown == held | {"connection_info": {}}
    message(await ask(world, volume_id, caller="reader"), 403)
    message(await delete(world, held["id"], caller="reader"), 403)
    assert (await world.get(f"/attachments/{held['id']}", "attachment", caller="admin")) == held


async def test_lists_take_cinders_filters(world: World) -> None:
    volumes = [await world.make() for _ in range(3)]
    first = await declare(world, volumes[0], instance_uuid=INSTANCE)
    second = await declare(world, volumes[1], connector=CONNECTOR)
    server_id = await world.attach(volumes[2])
    for query, expected in (
        (f"instance_id={INSTANCE}", [volumes[0]]),
        (f"instance_id={server_id}", [volumes[2]]),
        (f"volume_id={volumes[1]}", [volumes[1]]),
        ("status=reserved", [volumes[0]]),
        ("attach_status=attaching", [volumes[1]]),
        ("status=attached", [volumes[2]]),
        ("sort=created_at:asc&limit=2", volumes[:2]),
        ("sort_key=created_at&sort_dir=asc&offset=1", volumes[1:]),
        ("status=detaching", []),
    ):
        found = await world.get(f"/attachments?{query}", "attachments")
        assert [one["volume_id"] for one in found] == expected, query
    page = await world.get(f"/attachments?marker={second['id']}", "attachments")
    assert [one["id"] for one in page] == [first["id"]]
    for path in ("/attachments", "/attachments/detail"):
        message(await world.call("GET", f"{path}?sort=flavour"), 400)
        message(await world.call("GET", f"{path}?sort=id:up"), 400)
        message(await world.call("GET", f"{path}?marker={uuid.uuid4()}"), 404)


# What a server of ours uses, nobody takes from it here (CVE-2023-2088).


async def test_what_a_server_of_ours_uses_is_released_through_the_compute_api_alone(world: World) -> None:
    volume_id = await world.make()
    await world.attach(volume_id)
    (listed,) = await world.get("/attachments", "attachments")
    attachment_id = listed["id"]
    tokens: list[dict[str, str]] = [{}, {"X-Service-Token": "service"}]
    for headers in tokens:
        for caller in ("member", "admin"):
            more: dict[str, Any] = {"caller": caller, "extra": headers}
            assert "compute API" in message(await delete(world, attachment_id, **more), 409)
            message(await connect(world, attachment_id, CONNECTOR, **more), 409)
            message(await complete(world, attachment_id, **more), 409)
            for which in (None, {}, {"attachment_id": attachment_id}):
                message(await world.act(volume_id, "os-detach", which, **more), 409)
            for connector in ({}, {"host": "host-1"}, None, "text"):
                message(await world.act(volume_id, "os-terminate_connection", {"connector": connector}, **more), 409)
            message(await world.act(volume_id, "os-begin_detaching", None, **more), 400)
        force = {"attachment_id": attachment_id, "connector": None}
        message(await world.act(volume_id, "os-force_detach", force, caller="admin", extra=headers), 409)
    reset = {"attach_status": "detached"}
    message(await world.act(volume_id, "os-reset_status", reset, caller="admin"), 400)
    assert await world.status(volume_id) == "in-use"


@pytest.mark.parametrize("token", ["nobody", "member", "admin", ""])
async def test_a_service_token_that_is_none_is_refused(world: World, token: str) -> None:
    volume_id = await world.make()
    held = await declare(world, volume_id)
    answer = await delete(world, held["id"], extra={"X-Service-Token": token})
    assert answer.status_code == 401
    assert await world.status(volume_id) == "reserved"


async def test_what_another_service_has_connected_only_that_service_releases(world: World) -> None:
    volume_id = await world.make()
    service = {"X-Service-Token": "service"}
    body = {"attachment": {"volume_uuid": volume_id, "instance_uuid": INSTANCE, "connector": CONNECTOR}}
    made = (await world.call("POST", "/attachments", body, extra=service)).json()["attachment"]
    assert made["connection_info"]
    assert (await world.get(f"/attachments/{made['id']}", "attachment"))["connection_info"] == {}
    for caller in ("member", "admin"):
        assert "another service" in message(await delete(world, made["id"], caller=caller), 409)
        message(await world.act(volume_id, "os-detach", None, caller=caller), 409)
        message(await world.act(volume_id, "os-terminate_connection", {"connector": {}}, caller=caller), 409)
    assert (await delete(world, made["id"], extra=service)).status_code == 200
    assert await world.status(volume_id) == "available"


async def test_an_admins_reset_is_the_way_out_when_that_service_is_gone(world: World) -> None:
    volume_id = await world.make()
    body = {"attachment": {"volume_uuid": volume_id, "instance_uuid": INSTANCE, "connector": CONNECTOR}}
    await world.call("POST", "/attachments", body, extra={"X-Service-Token": "service"})
    message(await world.act(volume_id, "os-reset_status", {"attach_status": "detached"}), 403)
    reset = {"status": "available", "attach_status": "detached"}
    assert (await world.act(volume_id, "os-reset_status", reset, caller="admin")).status_code == 202
    assert await world.status(volume_id) == "available"
    assert await world.get("/attachments", "attachments") == []


async def test_a_reset_cannot_declare_what_is_attached_available(world: World) -> None:
    volume_id = await world.make()
    held = await declare(world, volume_id, connector=CONNECTOR)
    await complete(world, held["id"])
    message(await world.act(volume_id, "os-reset_status", {"status": "available"}, caller="admin"), 400)
    await world.act(volume_id, "os-reset_status", {"status": "error"}, caller="admin")
    answer = await world.act(volume_id, "os-reset_status", {"status": "in-use"}, caller="admin")
    assert answer.status_code == 202
    assert await world.status(volume_id) == "in-use"


# Shared volumes.


async def test_twenty_consumers_of_a_shared_volume_come_and_go_at_once(world: World) -> None:
    await world.call("POST", "/types", {"volume_type": {"name": "shared"}}, caller="admin")
    types = await world.get("/types", "volume_types", caller="admin")
    type_id = next(one["id"] for one in types if one["name"] == "shared")
    specs = {"extra_specs": {"multiattach": "<is> True"}}
    await world.call("POST", f"/types/{type_id}/extra_specs", specs, caller="admin")
    volume_id = await world.make(volume_type="shared")
    servers = [await world.make_server() for _ in range(10)]
    outsiders = [
        declare(world, volume_id, instance_uuid=str(uuid.uuid4()), connector={"host": f"metal-{number}"})
        for number in range(10)
    ]
    made = await asyncio.gather(*outsiders, *(world.try_attach(server_id, volume_id) for server_id in servers))
    assert len({one["id"] for one in made[:10]}) == 10
    await asyncio.gather(*(complete(world, one["id"]) for one in made[:10]))
    for server_id in servers:
        await world.host_moved(server_id, volume_id, Rung.PLUGGED)
    assert len((await world.get(f"/volumes/{volume_id}", "volume"))["attachments"]) == 20
    message(await world.act(volume_id, "os-detach", None), 400)
    answers = await asyncio.gather(*(delete(world, one["id"]) for one in made[:10]))
    assert {answer.status_code for answer in answers} == {200}
    assert len((await world.get(f"/volumes/{volume_id}", "volume"))["attachments"]) == 10
    for server_id in servers:
        await world.detach(server_id, volume_id)
    assert await world.status(volume_id) == "available"


async def test_two_deletes_at_once_release_once(world: World) -> None:
    volume_id = await world.make()
    held = await declare(world, volume_id, connector=CONNECTOR)
    answers = await asyncio.gather(*(delete(world, held["id"]) for _ in range(5)))
    assert sorted({answer.status_code for answer in answers}) in ([200], [200, 404])
    assert await world.status(volume_id) == "available"
    await declare(world, volume_id)
