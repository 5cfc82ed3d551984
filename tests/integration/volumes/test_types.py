"""Volume types and what they mean for volumes."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from kevel.control.volume_types.types import VolumeTypes
from tests.integration.volumes.conftest import World, message


async def make_type(world: World, name: str, **fields: Any) -> str:
    answer = await world.call("POST", "/types", {"volume_type": {"name": name, **fields}}, caller="admin")
    assert answer.status_code == 200, answer.text
    type_id: str = answer.json()["volume_type"]["id"]
    return type_id


async def test_there_is_a_default_type_from_the_start_and_only_one(world: World) -> None:
    await VolumeTypes(world.runtime).bootstrap()
    (only,) = await world.get("/types", "volume_types")
    assert (only["name"], only["is_public"], only["extra_specs"]) == ("standard", True, {})
    assert await world.get("/types/default", "volume_type") == only
    assert await world.get(f"/types/{only['id']}", "volume_type") == only


async def test_a_type_is_made_shown_changed_and_deleted(world: World) -> None:
    fields = {"description": "quick", "os-volume-type-access:is_public": True, "extra_specs": {"a": "b"}}
    type_id = await make_type(world, "fast", **fields)
    shown = await world.get(f"/types/{type_id}", "volume_type", caller="admin")
    assert shown == {
        "id": type_id,
        "name": "fast",
        "description": "quick",
        "is_public": True,
        "os-volume-type-access:is_public": True,
        "extra_specs": {"a": "b"},
        "qos_specs_id": None,
    }
    body = {"volume_type": {"name": "faster", "description": None}}
    changed = (await world.call("PUT", f"/types/{type_id}", body, caller="admin")).json()["volume_type"]
    assert (changed["name"], changed["description"]) == ("faster", None)
    assert (await world.call("DELETE", f"/types/{type_id}", caller="admin")).status_code == 202
    message(await world.call("GET", f"/types/{type_id}", caller="admin"), 404)
    await make_type(world, "faster")


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"volume_type": {}},
        {"volume_type": {"name": ""}},
        {"volume_type": {"name": "   "}},
        {"volume_type": {"name": "n" * 256}},
        {"volume_type": {"name": "x", "description": "d" * 256}},
        {"volume_type": {"name": "x", "colour": "red"}},
        {"volume_type": {"name": "x", "os-volume-type-access:is_public": "perhaps"}},
        {"volume_type": {"name": "x", "extra_specs": {"multiattach": "True"}}},
        {"volume_type": {"name": "x", "extra_specs": {"": "v"}}},
        {"volume_type": {"name": "x"}, "colour": "red"},
    ],
)
async def test_a_bad_type_is_refused(world: World, body: object) -> None:
    message(await world.call("POST", "/types", body, caller="admin"), 400)
    assert len(await world.get("/types", "volume_types", caller="admin")) == 1


async def test_a_name_is_given_once(world: World) -> None:
    type_id = await make_type(world, "fast")
    message(await world.call("POST", "/types", {"volume_type": {"name": "fast"}}, caller="admin"), 409)
    body = {"volume_type": {"name": "standard"}}
    message(await world.call("PUT", f"/types/{type_id}", body, caller="admin"), 409)
    message(await world.call("PUT", f"/types/{type_id}", {"volume_type": {}}, caller="admin"), 400)


async def test_the_default_type_keeps_its_name_and_stays(world: World) -> None:
    default = await world.get("/types/default", "volume_type")
    path = f"/types/{default['id']}"
    message(await world.call("PUT", path, {"volume_type": {"name": "other"}}, caller="admin"), 400)
    message(await world.call("DELETE", path, caller="admin"), 400)
    body = {"volume_type": {"description": "changed"}}
    assert (await world.call("PUT", path, body, caller="admin")).status_code == 200


async def test_a_type_of_live_volumes_stays_and_one_of_deleted_volumes_may_go(world: World) -> None:
    type_id = await make_type(world, "fast")
    volume_id = await world.make(volume_type="fast")
    message(await world.call("DELETE", f"/types/{type_id}", caller="admin"), 400)
    await world.call("DELETE", f"/volumes/{volume_id}")
    await world.settle()
    assert (await world.call("DELETE", f"/types/{type_id}", caller="admin")).status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/types", {"volume_type": {"name": "x"}}),
        ("PUT", "/types/{id}", {"volume_type": {"name": "x"}}),
        ("DELETE", "/types/{id}", None),
        ("POST", "/types/{id}/extra_specs", {"extra_specs": {"a": "b"}}),
        ("PUT", "/types/{id}/extra_specs/a", {"a": "b"}),
        ("DELETE", "/types/{id}/extra_specs/a", None),
    ],
)
async def test_only_admins_change_types_and_unknown_ones_are_not_found(
    world: World, method: str, path: str, body: object
) -> None:
    type_id = await make_type(world, "fast", extra_specs={"a": "c"})
    message(await world.call(method, path.format(id=type_id), body), 403)
    if "{id}" in path:
        message(await world.call(method, path.format(id=uuid.uuid4()), body, caller="admin"), 404)
    shown = await world.get(f"/types/{type_id}", "volume_type", caller="admin")
    assert (shown["name"], shown["extra_specs"]) == ("fast", {"a": "c"})


async def test_a_private_type_is_for_admins(world: World) -> None:
    type_id = await make_type(world, "secret", **{"os-volume-type-access:is_public": False})
    assert [one["name"] for one in await world.get("/types", "volume_types")] == ["standard"]
    message(await world.call("GET", f"/types/{type_id}"), 404)
    message(await world.ask(volume_type="secret"), 404)
    message(await world.ask(volume_type=type_id), 404)
    for query, names in (("None", ["secret", "standard"]), ("True", ["standard"]), ("False", ["secret"])):
        found = await world.get(f"/types?is_public={query}", "volume_types", caller="admin")
        assert [one["name"] for one in found] == names
    assert (await world.ask(volume_type="secret", caller="admin")).status_code == 202
    path = f"/types/{type_id}/os-volume-type-access"
    assert await world.get(path, "volume_type_access", caller="admin") == []
    message(await world.call("GET", path), 403)
    default = await world.get("/types/default", "volume_type")
    message(await world.call("GET", f"/types/{default['id']}/os-volume-type-access", caller="admin"), 404)


async def test_types_have_pages(world: World) -> None:
    for number in range(3):
        await make_type(world, f"t{number}")
    body = (await world.call("GET", "/types?limit=3")).json()
    assert [one["name"] for one in body["volume_types"]] == ["t2", "t1", "t0"]
    (link,) = body["volume_types_links"]
    body = (await world.clients["member"].get(link["href"])).json()
    assert [one["name"] for one in body["volume_types"]] == ["standard"]
    assert "volume_types_links" not in body


async def test_extra_specs_are_set_shown_and_removed_and_users_see_what_concerns_them(world: World) -> None:
    type_id = await make_type(world, "fast")
    path = f"/types/{type_id}/extra_specs"
    specs = {"multiattach": "<is> True", "inner": "x"}
    answer = await world.call("POST", path, {"extra_specs": specs}, caller="admin")
    assert (answer.status_code, answer.json()) == (200, {"extra_specs": specs})
    assert await world.get(path, "extra_specs", caller="admin") == specs
    assert await world.get(path, "extra_specs") == {"multiattach": "<is> True"}
    assert (await world.call("PUT", f"{path}/inner", {"inner": "y"}, caller="admin")).json() == {"inner": "y"}
    message(await world.call("PUT", f"{path}/inner", {"other": "y"}, caller="admin"), 400)
    assert await world.get(f"{path}/inner", "inner", caller="admin") == "y"
    message(await world.call("GET", f"{path}/inner"), 404)
    assert (await world.call("DELETE", f"{path}/inner", caller="admin")).status_code == 202
    message(await world.call("DELETE", f"{path}/inner", caller="admin"), 404)
    message(await world.call("POST", path, {"extra_specs": {}}, caller="admin"), 400)
    message(await world.call("PUT", f"{path}/multiattach", {"multiattach": "yes"}, caller="admin"), 400)
    assert await world.get(path, "extra_specs", caller="admin") == {"multiattach": "<is> True"}


async def test_a_multiattach_type_makes_shared_volumes_that_several_servers_hold(world: World) -> None:
    await make_type(world, "shared", extra_specs={"multiattach": "<is> True"})
    volume_id = await world.make(volume_type="shared")
    shown = await world.get(f"/volumes/{volume_id}", "volume")
    assert (shown["multiattach"], shown["volume_type"]) == (True, "shared")
    servers = {await world.attach(volume_id), await world.attach(volume_id)}
    shown = await world.get(f"/volumes/{volume_id}", "volume")
    assert shown["status"] == "in-use"
    assert {one["server_id"] for one in shown["attachments"]} == servers


async def test_shared_volumes_are_raw_whatever_the_pools_format_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.pool, "volume_format", "qcow2")
    await make_type(world, "shared", extra_specs={"multiattach": "<is> True"})
    volume_id, plain = await world.make(volume_type="shared"), await world.make()
    assert (world.root / f"volume-{volume_id}").read_bytes()[:4] == bytes(4)
    assert (world.root / f"volume-{plain}").read_bytes()[:4] == b"QFI\xfb"
    answer = await world.act(plain, "os-retype", {"new_type": "shared"})
    assert "cannot be shared" in message(answer, 400)


async def test_a_type_for_another_back_end_makes_no_volumes(world: World) -> None:
    await make_type(world, "ceph", extra_specs={"volume_backend_name": "ceph"})
    await make_type(world, "here", extra_specs={"volume_backend_name": "local"})
    assert await world.status(await world.make(volume_type="ceph")) == "error"
    volume_id = await world.make(volume_type="here")
    message(await world.act(volume_id, "os-retype", {"new_type": "ceph"}), 400)


async def test_a_volume_gets_another_type(world: World) -> None:
    type_id = await make_type(world, "fast")
    await make_type(world, "shared", extra_specs={"multiattach": "<is> True"})
    volume_id = await world.make()
    answer = await world.act(volume_id, "os-retype", {"new_type": "fast", "migration_policy": "never"})
    assert (answer.status_code, answer.content) == (202, b"")
    shown = await world.get(f"/volumes/{volume_id}", "volume")
    assert (shown["volume_type"], shown["volume_type_id"]) == ("fast", type_id)
    message(await world.act(volume_id, "os-retype", {"new_type": "fast"}), 400)
    message(await world.act(volume_id, "os-retype", {"new_type": "none-such"}), 404)
    message(await world.act(volume_id, "os-retype", {"new_type": "standard", "migration_policy": "perhaps"}), 400)
    server_id = await world.attach(volume_id)
    assert (await world.act(volume_id, "os-retype", {"new_type": "standard"})).status_code == 202
    message(await world.act(volume_id, "os-retype", {"new_type": "shared"}), 400)
    await world.detach(server_id, volume_id)
    assert (await world.act(volume_id, "os-retype", {"new_type": "shared"})).status_code == 202
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["multiattach"] is True
    await world.attach(volume_id)
    message(await world.act(volume_id, "os-retype", {"new_type": "standard"}), 400)
