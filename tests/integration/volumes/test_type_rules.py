"""What types mean: who may use them, whose default they are, sizes, zones, extra specs, encryption."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from kevel.control.volume_types import types as volume_types
from kevel.store.volume_types import TypeEncryption, put_encryption
from tests.integration.stand import PROJECTS
from tests.integration.volumes.conftest import World, message
from tests.integration.volumes.test_types import make_type

PRIVATE = {"os-volume-type-access:is_public": False}
LUKS: dict[str, Any] = {
    "provider": "luks",
    "control_location": "front-end",
    "cipher": "aes-xts-plain64",
    "key_size": 256,
}


async def access(world: World, type_id: str, verb: str, project: str = "member", caller: str = "admin") -> Any:
    body = {f"{verb}ProjectAccess": {"project": PROJECTS.get(project, project)}}
    return await world.call("POST", f"/types/{type_id}/action", body, caller=caller)


async def encrypt(world: World, type_id: str, **fields: Any) -> Any:
    body = {"encryption": fields}
    return await world.call("POST", f"/types/{type_id}/encryption", body, caller="admin")


async def test_a_private_type_is_used_by_the_projects_that_it_is_open_to(world: World) -> None:
    type_id = await make_type(world, "secret", **PRIVATE)
    answer = await access(world, type_id, "add")
    assert (answer.status_code, answer.content) == (202, b"")
    assert (await access(world, type_id, "add", "other")).status_code == 202
    message(await access(world, type_id, "add"), 409)
    shown = await world.get(f"/types/{type_id}/os-volume-type-access", "volume_type_access", caller="admin")
    expected = [{"volume_type_id": type_id, "project_id": PROJECTS[name]} for name in ("member", "other")]
    assert shown == expected
    assert [one["name"] for one in await world.get("/types", "volume_types")] == ["secret", "standard"]
    assert (await world.get(f"/types/{type_id}", "volume_type"))["is_public"] is False
    volume_id = await world.make(volume_type="secret")

    assert (await access(world, type_id, "remove")).status_code == 202
    message(await access(world, type_id, "remove"), 404)
    message(await world.call("GET", f"/types/{type_id}"), 404)
    message(await world.ask(volume_type="secret"), 404)
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["volume_type"] == "secret"
    assert (await world.ask(volume_type=type_id, caller="other")).status_code == 202


async def test_who_may_use_a_type_is_for_admins_to_say_and_of_private_types(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = (await world.get("/types/default", "volume_type"))["id"]
    private = await make_type(world, "secret", **PRIVATE)
    for verb in ("add", "remove"):
        assert "public" in message(await access(world, default, verb), 400)
        message(await access(world, private, verb, caller="member"), 403)
        message(await access(world, str(uuid.uuid4()), verb), 404)
        for body in ({}, {"project": ""}, {"project": "p" * 256}, {"project": 1}, {"project": "p", "more": 1}):
            answer = await world.call(
                "POST", f"/types/{private}/action", {f"{verb}ProjectAccess": body}, caller="admin"
            )
            message(answer, 400)
    monkeypatch.setattr(volume_types, "ACCESS_MAX", 1)
    await access(world, private, "add")
    assert "make it public" in message(await access(world, private, "add", "other"), 400)


async def test_a_project_has_a_default_type_of_its_own(world: World) -> None:
    type_id = await make_type(world, "fast")
    path = f"/default-types/{PROJECTS['member']}"
    body = {"default_type": {"volume_type": "fast"}}
    message(await world.call("GET", path, caller="admin"), 404)
    answer = await world.call("PUT", path, body, caller="admin")
    expected = {"project_id": PROJECTS["member"], "volume_type_id": type_id}
    assert (answer.status_code, answer.json()) == (200, {"default_type": expected})
    assert (await world.call("PUT", path, body, caller="admin")).status_code == 200
    assert await world.get(path, "default_type", caller="admin") == expected
    assert await world.get("/default-types", "default_types", caller="admin") == [expected]
    assert (await world.get("/types/default", "volume_type"))["name"] == "fast"
    assert (await world.get("/types/default", "volume_type", caller="other"))["name"] == "standard"
    volume_id = await world.make()
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["volume_type"] == "fast"
    assert "default of a project" in message(await world.call("DELETE", f"/types/{type_id}", caller="admin"), 400)
    answer = await world.call("DELETE", path, caller="admin")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await world.call("DELETE", path, caller="admin")).status_code == 204
    assert (await world.get("/types/default", "volume_type"))["name"] == "standard"


async def test_there_is_a_bound_on_the_number_of_default_types(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume_types, "ACCESS_MAX", 1)
    body = {"default_type": {"volume_type": "standard"}}
    for project, status in (("member", 200), ("other", 400), ("member", 200)):
        path = f"/default-types/{PROJECTS[project]}"
        assert (await world.call("PUT", path, body, caller="admin")).status_code == status


async def test_default_types_are_for_admins_since_3_62(world: World) -> None:
    path = f"/default-types/{PROJECTS['member']}"
    body = {"default_type": {"volume_type": "standard"}}
    for method, where in (("GET", "/default-types"), ("GET", path), ("PUT", path), ("DELETE", path)):
        message(await world.call(method, where, body), 403)
        message(await world.call(method, where, body, caller="admin", version="3.61"), 404)
    for bad in ({"volume_type": "none-such"}, {"volume_type": ""}, {}, {"volume_type": "standard", "more": 1}):
        message(await world.call("PUT", path, {"default_type": bad}, caller="admin"), 400)
    assert await world.get("/default-types", "default_types", caller="admin") == []


@pytest.mark.parametrize(
    "specs",
    [
        {"multiattach": "yes"},
        {"cacheable": "yes"},
        {"cacheable": "<is> True", "multiattach": "<is> True"},
        {"provisioning:min_vol_size": "small"},
        {"provisioning:max_vol_size": "-1"},
        {"provisioning:min_vol_size": "3", "provisioning:max_vol_size": "2"},
        {"RESKEY:availability_zones": " , "},
        {f"key{number}": "x" for number in range(129)},
        {"key with ?": "x"},
    ],
)
async def test_a_spec_that_means_something_has_to_say_it_clearly(world: World, specs: dict[str, str]) -> None:
    message(
        await world.call("POST", "/types", {"volume_type": {"name": "x", "extra_specs": specs}}, caller="admin"), 400
    )
    type_id = await make_type(world, "fast")
    message(await world.call("POST", f"/types/{type_id}/extra_specs", {"extra_specs": specs}, caller="admin"), 400)
    assert await world.get(f"/types/{type_id}/extra_specs", "extra_specs", caller="admin") == {}


async def test_extra_specs_of_a_type_in_use_stay_as_they_are(world: World) -> None:
    type_id = await make_type(world, "fast", extra_specs={"vendor:a": "b"})
    volume_id = await world.make(volume_type="fast")
    path = f"/types/{type_id}/extra_specs"
    for method, where, body in (
        ("POST", path, {"extra_specs": {"vendor:a": "c"}}),
        ("PUT", f"{path}/vendor:a", {"vendor:a": "c"}),
        ("DELETE", f"{path}/vendor:a", None),
    ):
        assert "in use" in message(await world.call(method, where, body, caller="admin"), 400)
    assert await world.get(path, "extra_specs", caller="admin") == {"vendor:a": "b"}
    await world.call("DELETE", f"/volumes/{volume_id}")
    await world.settle()
    assert (await world.call("DELETE", f"{path}/vendor:a", caller="admin")).status_code == 202


async def test_a_type_bounds_the_size_of_its_volumes(world: World) -> None:
    specs = {"provisioning:min_vol_size": "2", "provisioning:max_vol_size": "3"}
    await make_type(world, "bounded", extra_specs=specs)
    assert "2 GiB at least" in message(await world.ask(volume_type="bounded", size=1), 400)
    assert "3 GiB at most" in message(await world.ask(volume_type="bounded", size=4), 400)
    volume_id = await world.make(volume_type="bounded", size=2)
    message(await world.act(volume_id, "os-extend", {"new_size": 4}), 400)
    assert (await world.act(volume_id, "os-extend", {"new_size": 3})).status_code == 202
    plain = await world.make(size=1)
    message(await world.act(plain, "os-retype", {"new_type": "bounded"}), 400)


async def test_a_type_names_the_zones_of_its_volumes(world: World) -> None:
    await make_type(world, "far", extra_specs={"RESKEY:availability_zones": "north, south"})
    await make_type(world, "near", extra_specs={"RESKEY:availability_zones": "north,nova"})
    assert "north, south" in message(await world.ask(volume_type="far"), 400)
    message(await world.ask(volume_type="far", availability_zone="nova"), 400)
    assert (await world.ask(volume_type="near", availability_zone="nova")).status_code == 202
    assert (await world.ask(volume_type="near")).status_code == 202


async def test_types_are_listed_by_their_extra_specs_since_3_52(world: World) -> None:
    await make_type(world, "a", extra_specs={"multiattach": "<is> True", "inner": "x"})
    await make_type(world, "b", extra_specs={"inner": "y"})

    async def names(query: str, **more: Any) -> list[str]:
        return [one["name"] for one in await world.get(f"/types?{query}", "volume_types", **more)]

    assert await names("extra_specs={'multiattach':'<is> True'}") == ["a"]
    assert await names("extra_specs={'inner':'y'}", caller="admin") == ["b"]
    assert await names("extra_specs={'inner':'y'}") == []
    assert await names("extra_specs={'inner':'y'}", version="3.51") == ["b", "a", "standard"]
    message(await world.call("GET", "/types?extra_specs=inner"), 400)
    assert await names("sort=name:asc") == ["a", "b", "standard"]
    assert await names("name=a") == ["a"]


async def test_an_admin_sees_public_types_unless_asked_for_all(world: World) -> None:
    await make_type(world, "secret", **PRIVATE)
    assert len(await world.get("/types", "volume_types", caller="admin")) == 1
    assert len(await world.get("/types?is_public=None", "volume_types", caller="admin")) == 2
    message(await world.call("GET", "/types?is_public=perhaps", caller="admin"), 400)
    message(await world.call("GET", f"/types?marker={uuid.uuid4()}"), 404)


async def test_there_is_a_bound_on_the_number_of_types(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume_types, "TYPES_MAX", 1)
    message(await world.call("POST", "/types", {"volume_type": {"name": "x"}}, caller="admin"), 413)


async def test_the_encryption_of_a_type_is_made_shown_changed_and_deleted(world: World) -> None:
    type_id = await make_type(world, "sealed")
    path = f"/types/{type_id}/encryption"
    assert (await world.call("GET", path, caller="admin")).json() == {}
    answer = await encrypt(world, type_id, **LUKS, more="ignored")
    made = answer.json()["encryption"]
    encryption_id = made["encryption_id"]
    assert made == {"volume_type_id": type_id, "encryption_id": encryption_id, **LUKS}
    shown = (await world.call("GET", path, caller="admin")).json()
    assert shown.items() > made.items()
    assert (shown["deleted"], shown["deleted_at"], shown["updated_at"]) == (False, None, None)
    message(await encrypt(world, type_id, **LUKS), 400)
    changes = {"provider": "SomeProvider", "key_size": "128", "control_location": "back-end"}
    answer = await world.call("PUT", f"{path}/{encryption_id}", {"encryption": changes}, caller="admin")
    assert (answer.status_code, answer.json()) == (200, {"encryption": changes | {"key_size": 128}})
    for key, value in {"cipher": "aes-xts-plain64", "key_size": 128, "provider": "SomeProvider"}.items():
        assert (await world.call("GET", f"{path}/{key}", caller="admin")).json() == {key: value}
    message(await world.call("GET", f"{path}/colour", caller="admin"), 404)
    other = uuid.uuid4()
    message(await world.call("PUT", f"{path}/{other}", {"encryption": changes}, caller="admin"), 404)
    message(await world.call("DELETE", f"{path}/{other}", caller="admin"), 404)
    answer = await world.call("DELETE", f"{path}/{encryption_id}", caller="admin")
    assert (answer.status_code, answer.content) == (202, b"")
    assert (await world.call("GET", path, caller="admin")).json() == {}
    message(await world.call("DELETE", f"{path}/{encryption_id}", caller="admin"), 404)


@pytest.mark.parametrize(
    "changes",
    [
        {"provider": None},
        {"provider": "p" * 256},
        {"control_location": "elsewhere"},
        {"cipher": "c" * 256},
        {"key_size": -1},
        {"key_size": "many"},
        {"key_size": 2**31},
    ],
)
async def test_a_bad_encryption_is_refused(world: World, changes: dict[str, Any]) -> None:
    type_id = await make_type(world, "sealed")
    message(await encrypt(world, type_id, **(LUKS | changes)), 400)
    made = (await encrypt(world, type_id, **LUKS)).json()["encryption"]
    path = f"/types/{type_id}/encryption"
    message(await world.call("PUT", f"{path}/{made['encryption_id']}", {"encryption": changes}, caller="admin"), 400)
    assert (await world.call("GET", path, caller="admin")).json()["updated_at"] is None


async def test_an_encryption_needs_provider_and_control_location(world: World) -> None:
    type_id = await make_type(world, "sealed")
    for name in ("provider", "control_location"):
        message(await encrypt(world, type_id, **{key: value for key, value in LUKS.items() if key != name}), 400)


async def test_the_encryption_of_a_type_in_use_stays_as_it_is(world: World) -> None:
    type_id = await make_type(world, "plain")
    await world.make(volume_type="plain")
    assert "in use" in message(await encrypt(world, type_id, **LUKS), 400)
    found = TypeEncryption(id="one", volume_type_id=type_id, created_at=1, updated_at=None, **LUKS)
    await world.runtime.store.write(put_encryption, found)
    path = f"/types/{type_id}/encryption"
    assert "in use" in message(await world.call("PUT", f"{path}/one", {"encryption": LUKS}, caller="admin"), 400)
    assert "in use" in message(await world.call("DELETE", f"{path}/one", caller="admin"), 400)
    assert (await world.call("GET", path, caller="admin")).json()["encryption_id"] == "one"


async def test_encryption_is_for_admins_and_unknown_types_have_none(world: World) -> None:
    type_id = await make_type(world, "sealed")
    for method, path in (
        ("GET", "/types/{id}/encryption"),
        ("POST", "/types/{id}/encryption"),
        ("GET", "/types/{id}/encryption/cipher"),
        ("PUT", "/types/{id}/encryption/one"),
        ("DELETE", "/types/{id}/encryption/one"),
    ):
        body = {"encryption": LUKS}
        message(await world.call(method, path.format(id=type_id), body), 403)
        message(await world.call(method, path.format(id=uuid.uuid4()), body, caller="admin"), 404)


async def test_a_volume_that_is_to_be_encrypted_is_never_made_plain(world: World) -> None:
    type_id = await make_type(world, "sealed")
    await encrypt(world, type_id, **LUKS)
    sealed_id = await world.make(volume_type="sealed")
    assert (await world.get(f"/volumes/{sealed_id}", "volume"))["encrypted"] is True
    volume_id = await world.make()
    message(await world.act(volume_id, "os-retype", {"new_type": "sealed"}), 400)
