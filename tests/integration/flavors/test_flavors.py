"""Flavors through the compute API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from kevel.api.compute.flavors.operations import OPERATIONS
from kevel.api.compute.shapes import HIGHEST, LOWEST
from kevel.api.operations import Api, ErrorStyle
from kevel.control.runtime import Runtime
from kevel.control.servers import flavors as control_flavors
from kevel.control.servers.flavors import Flavors
from kevel.domain.errors import NotFound
from kevel.domain.model import Actor
from tests.integration.stand import PROJECTS, make_app, make_client, open_runtime

API = Api(
    name="compute",
    prefix="/compute/v2.1",
    operations=OPERATIONS,
    error_style=ErrorStyle.COMPUTE,
    versions=(LOWEST, HIGHEST),
    version_service="compute",
)
MEMBER = Actor(user_id="u1", project_id="11" * 16, request_id="req-1")
ADMIN = Actor(user_id="u3", project_id="33" * 16, request_id="req-3", is_admin=True)
SMALL = {"name": "small", "ram": 128, "vcpus": 1, "disk": 1}

Connect = Callable[[str], httpx.AsyncClient]


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_runtime(tmp_path) as opened:
        yield opened


@pytest.fixture
async def flavors(runtime: Runtime) -> Flavors:
    made = Flavors(runtime)
    await made.bootstrap()
    return made


@pytest.fixture
async def connect(runtime: Runtime, flavors: Flavors) -> AsyncIterator[Connect]:
    app = make_app(API, runtime, flavors=flavors)
    async with AsyncExitStack() as clients:
        opened = {name: make_client(app, name) for name in ("reader", "member", "admin", "forged")}
        for client in opened.values():
            await clients.enter_async_context(client)
        yield opened.__getitem__


@pytest.fixture
def admin(connect: Connect) -> httpx.AsyncClient:
    return connect("admin")


@pytest.fixture
def reader(connect: Connect) -> httpx.AsyncClient:
    return connect("reader")


def at(minor: int) -> dict[str, str]:
    return {"OpenStack-API-Version": f"compute 2.{minor}"}


async def create(client: httpx.AsyncClient, minor: int = 61, **values: Any) -> httpx.Response:
    return await client.post("/flavors", json={"flavor": {**SMALL, **values}}, headers=at(minor))


def assert_message(answer: httpx.Response, status: int, words: str = "") -> None:
    assert answer.status_code == status, answer.text
    (error,) = answer.json().values()
    assert error["code"] == status
    assert words in error["message"]


async def names(client: httpx.AsyncClient, **query: str) -> list[str]:
    answer = await client.get("/flavors", params=query)
    assert answer.status_code == 200, answer.text
    return [flavor["name"] for flavor in answer.json()["flavors"]]


async def test_a_new_kevel_has_flavors_and_a_deleted_one_stays_deleted(
    flavors: Flavors, admin: httpx.AsyncClient
) -> None:
    assert await names(admin) == ["m1.tiny", "m1.small", "tiny"]
    assert (await admin.delete("/flavors/tiny")).status_code == 202
    await flavors.bootstrap()
    assert await names(admin) == ["m1.tiny", "m1.small"]


@pytest.mark.parametrize(
    ("minor", "swap", "more"),
    [
        (1, "", {"rxtx_factor", "OS-FLV-DISABLED:disabled"}),
        (54, "", {"rxtx_factor", "OS-FLV-DISABLED:disabled"}),
        (55, "", {"rxtx_factor", "OS-FLV-DISABLED:disabled", "description"}),
        (61, "", {"rxtx_factor", "OS-FLV-DISABLED:disabled", "description", "extra_specs"}),
        (75, 0, {"rxtx_factor", "OS-FLV-DISABLED:disabled", "description", "extra_specs"}),
        (101, 0, {"rxtx_factor", "OS-FLV-DISABLED:disabled", "description", "extra_specs"}),
        (102, 0, {"description", "extra_specs"}),
    ],
)
async def test_a_flavor_looks_as_its_microversion_says(
    reader: httpx.AsyncClient, minor: int, swap: object, more: set[str]
) -> None:
    always = {"id", "name", "links", "ram", "disk", "vcpus", "swap"}
    always |= {"OS-FLV-EXT-DATA:ephemeral", "os-flavor-access:is_public"}
    one = (await reader.get("/flavors/1", headers=at(minor))).json()["flavor"]
    assert one.keys() == always | more
    assert (one["ram"], one["disk"], one["vcpus"], one["swap"]) == (512, 1, 1, swap)
    assert one["links"] == [
        {"rel": "self", "href": "http://kevel.test/compute/v2.1/flavors/1"},
        {"rel": "bookmark", "href": "http://kevel.test/compute/flavors/1"},
    ]
    listed = (await reader.get("/flavors/detail", headers=at(minor))).json()["flavors"]
    assert listed[0] == one
    brief = (await reader.get("/flavors", headers=at(minor))).json()["flavors"][0]
    assert brief.keys() == {"id", "name", "links"} | ({"description"} & more)


async def test_a_created_flavor_is_shown_and_can_be_deleted(admin: httpx.AsyncClient, flavors: Flavors) -> None:
    answer = await create(admin, id=None, swap=0, rxtx_factor=1.0, description="for tests")
    assert answer.status_code == 200
    made = answer.json()["flavor"]
    assert len(made["id"]) == 36
    assert (await admin.get(f"/flavors/{made['id']}", headers=at(61))).json()["flavor"] == made
    answer = await admin.delete(f"/flavors/{made['id']}")
    assert (answer.status_code, answer.content) == (202, b"")
    assert_message(await admin.get(f"/flavors/{made['id']}"), 404, "could not be found")
    assert_message(await admin.delete(f"/flavors/{made['id']}"), 404)
    with pytest.raises(NotFound):
        await flavors.get(ADMIN, made["id"])


@pytest.mark.parametrize("minor", [54, 101, 102])
async def test_a_flavor_is_made_once_and_not_one_too_many(
    admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, minor: int
) -> None:
    assert (await create(admin, minor, id="mine")).status_code == 200
    assert_message(await create(admin, minor, id="mine"), 409)
    monkeypatch.setattr(control_flavors, "FLAVORS_MAX", 4)
    assert_message(await create(admin, minor, id="one-more", name="one-more"), 413)
    assert len(await names(admin)) == 4


@pytest.mark.parametrize(("given", "stored"), [("auto", None), ("a b", "a b"), (7, "7"), ("auto.1", "auto.1")])
async def test_an_id_is_taken_or_made(admin: httpx.AsyncClient, given: object, stored: str | None) -> None:
    made = (await create(admin, id=given)).json()["flavor"]
    assert made["id"] == stored or (stored is None and len(made["id"]) == 36)


@pytest.mark.parametrize(
    ("minor", "changes", "status"),
    [
        (61, {"ram": 0}, 400),
        (61, {"ram": -1}, 400),
        (61, {"ram": "much"}, 400),
        (61, {"ram": 10**30}, 400),
        (61, {"ram": str(10**30)}, 400),
        (61, {"ram": 2**31}, 400),
        (61, {"ram": None}, 400),
        (61, {"ram": 1.5}, 400),
        (61, {"vcpus": 0}, 400),
        (61, {"vcpus": True}, 400),
        (61, {"disk": -1}, 400),
        (61, {"name": ""}, 400),
        (61, {"name": " x"}, 400),
        (61, {"name": "x" * 256}, 400),
        (61, {"name": "a\u0000b"}, 400),
        (61, {"id": "../x"}, 400),
        (61, {"id": " x"}, 400),
        (61, {"id": "x" * 256}, 400),
        (61, {"os-flavor-access:is_public": "maybe"}, 400),
        (61, {"rxtx_factor": 0}, 400),
        (61, {"rxtx_factor": "nan"}, 400),
        (61, {"rxtx_factor": "fast"}, 400),
        (61, {"description": "x" * 65536}, 400),
        (61, {"colour": "red"}, 400),
        (54, {"description": "too early"}, 400),
        (102, {"rxtx_factor": 1.0}, 400),
        (61, {"name": "tiny"}, 409),
        (61, {"id": "tiny"}, 409),
    ],
)
async def test_a_bad_flavor_is_refused_and_changes_nothing(
    admin: httpx.AsyncClient, minor: int, changes: dict[str, Any], status: int
) -> None:
    assert_message(await create(admin, minor, **changes), status)
    assert await names(admin, is_public="None") == ["m1.tiny", "m1.small", "tiny"]


async def test_numbers_may_be_texts(admin: httpx.AsyncClient) -> None:
    made = (await create(admin, ram="256", vcpus="2", disk="0", rxtx_factor="2.5")).json()["flavor"]
    assert made["rxtx_factor"] == 2.5
    assert (made["ram"], made["vcpus"], made["disk"]) == (256, 2, 0)


async def test_only_an_admin_changes_flavors(connect: Connect) -> None:
    for caller in ("reader", "member"):
        client = connect(caller)
        assert_message(await create(client), 403)
        assert_message(await client.delete("/flavors/tiny"), 403)
        assert_message(await client.post("/flavors/tiny/os-extra_specs", json={"extra_specs": {"a": "b"}}), 403)
    assert_message(await connect("forged").get("/flavors"), 401)


async def test_a_private_flavor_exists_for_admins_only(
    admin: httpx.AsyncClient, reader: httpx.AsyncClient, flavors: Flavors
) -> None:
    await create(admin, id="secret", name="secret", **{"os-flavor-access:is_public": False})
    for path in ("/flavors/secret", "/flavors/secret/os-extra_specs"):
        assert_message(await reader.get(path), 404)
        assert (await admin.get(path)).status_code == 200
    for query in ({}, {"is_public": "None"}, {"is_public": "false"}):
        assert "secret" not in await names(reader, **query)
    assert "secret" not in await names(admin)
    assert "secret" in await names(admin, is_public="None")
    assert await names(admin, is_public="false") == ["secret"]
    with pytest.raises(NotFound):
        await flavors.get(MEMBER, "secret")
    assert (await flavors.get(ADMIN, "secret")).ram_mib == 128


async def access(client: httpx.AsyncClient, action: str, tenant: object, minor: int = 7) -> httpx.Response:
    path = "/flavors/secret/action"
    return await client.post(path, json={action: {"tenant": tenant}}, headers=at(minor))


async def test_a_private_flavor_exists_for_the_projects_on_its_access_list(
    admin: httpx.AsyncClient, reader: httpx.AsyncClient, flavors: Flavors
) -> None:
    await create(admin, id="secret", name="secret", **{"os-flavor-access:is_public": False})
    assert (await admin.get("/flavors/secret/os-flavor-access")).json() == {"flavor_access": []}
    granted = {"flavor_access": [{"flavor_id": "secret", "tenant_id": PROJECTS["reader"]}]}
    assert (await access(admin, "addTenantAccess", PROJECTS["reader"])).json() == granted
    assert (await admin.get("/flavors/secret/os-flavor-access")).json() == granted
    assert "secret" in await names(reader)
    assert (await reader.get("/flavors/secret")).status_code == 200
    assert "secret" not in await names(admin), "the admin's own project is not on the list"
    assert_message(await access(admin, "addTenantAccess", PROJECTS["reader"]), 409)
    assert (await access(admin, "removeTenantAccess", PROJECTS["reader"])).json() == {"flavor_access": []}
    assert_message(await access(admin, "removeTenantAccess", PROJECTS["reader"]), 404)
    assert "secret" not in await names(reader)
    await access(admin, "addTenantAccess", PROJECTS["reader"])
    assert (await admin.delete("/flavors/secret")).status_code == 202
    await create(admin, id="secret", name="secret", **{"os-flavor-access:is_public": False})
    assert "secret" not in await names(reader), "the list goes with the flavor"


async def test_an_access_list_is_refused_where_there_can_be_none(
    admin: httpx.AsyncClient, reader: httpx.AsyncClient
) -> None:
    assert_message(await admin.get("/flavors/tiny/os-flavor-access"), 404)
    assert_message(await admin.get("/flavors/none/os-flavor-access"), 404)
    assert_message(await access(admin, "addTenantAccess", "11"), 404)
    assert_message(await access(admin, "removeTenantAccess", "11"), 404)
    await create(admin, id="secret", name="secret")
    assert_message(await access(admin, "addTenantAccess", "11"), 409)
    assert (await access(admin, "addTenantAccess", "11", minor=6)).status_code == 200
    for wrong in ("", "a b", None, 7):
        assert_message(await access(admin, "addTenantAccess", wrong), 400)
        assert_message(await access(admin, "removeTenantAccess", wrong), 400)
    assert_message(await reader.get("/flavors/secret/os-flavor-access"), 403)
    assert_message(await access(reader, "addTenantAccess", "11"), 403)
    assert_message(await access(reader, "removeTenantAccess", "11"), 403)


async def test_a_list_is_filtered_sorted_and_paged(reader: httpx.AsyncClient) -> None:
    assert await names(reader, minRam="512") == ["m1.tiny", "m1.small"]
    assert await names(reader, minDisk="2") == ["m1.small"]
    assert await names(reader, sort_key="memory_mb", sort_dir="desc") == ["m1.small", "m1.tiny", "tiny"]
    assert await names(reader, sort_key="description") == ["m1.tiny", "m1.small", "tiny"]
    assert await names(reader, marker="1", limit="1") == ["m1.small"]
    first = (await reader.get("/flavors/detail", params={"limit": "2"})).json()
    (link,) = first["flavors_links"]
    assert (link["rel"], link["href"]) == ("next", "http://kevel.test/compute/v2.1/flavors/detail?limit=2&marker=2")
    second = (await reader.get(link["href"])).json()
    assert [flavor["name"] for flavor in second["flavors"]] == ["tiny"]
    assert "flavors_links" not in second


@pytest.mark.parametrize(
    "query",
    ["limit=-1", "limit=x", "marker=nobody", "sort_key=colour", "sort_dir=up", "minRam=x", "minDisk=-1"],
)
async def test_a_bad_list_query_is_refused(reader: httpx.AsyncClient, query: str) -> None:
    assert (await reader.get(f"/flavors/detail?{query}")).status_code == 400
    assert_message(await reader.get(f"/flavors?{query}"), 400)


async def test_unknown_query_parameters_are_refused_from_2_75(reader: httpx.AsyncClient) -> None:
    assert (await reader.get("/flavors?colour=red", headers=at(74))).status_code == 200
    assert_message(await reader.get("/flavors?colour=red", headers=at(75)), 400, "colour")


async def test_a_description_changes_from_2_55(admin: httpx.AsyncClient) -> None:
    body = {"flavor": {"description": "new"}}
    assert_message(await admin.put("/flavors/tiny", json=body, headers=at(54)), 404)
    answer = await admin.put("/flavors/tiny", json=body, headers=at(55))
    assert (answer.status_code, answer.json()["flavor"]["description"]) == (200, "new")
    answer = await admin.put("/flavors/tiny", json={"flavor": {"description": None}}, headers=at(55))
    assert answer.json()["flavor"]["description"] is None
    bad_bodies: list[dict[str, Any]] = [{}, {"flavor": {}}, {"flavor": {"ram": 1}}]
    for bad in (*bad_bodies, {"flavor": {"description": "x", "ram": 1}}):
        assert_message(await admin.put("/flavors/tiny", json=bad, headers=at(55)), 400)
    assert_message(await admin.put("/flavors/nobody", json=body, headers=at(55)), 404)


async def test_extra_specs_are_set_changed_and_removed(admin: httpx.AsyncClient, reader: httpx.AsyncClient) -> None:
    path = "/flavors/tiny/os-extra_specs"
    assert (await reader.get(path)).json() == {"extra_specs": {}}
    answer = await admin.post(path, json={"extra_specs": {"hw:numa": "1", "a b": "x"}})
    assert (answer.status_code, answer.json()) == (200, {"extra_specs": {"hw:numa": "1", "a b": "x"}})
    answer = await admin.put(f"{path}/hw:numa", json={"hw:numa": "2"})
    assert (answer.status_code, answer.json()) == (200, {"hw:numa": "2"})
    assert (await reader.get(f"{path}/hw:numa")).json() == {"hw:numa": "2"}
    assert (await admin.delete(f"{path}/a b")).status_code == 200
    assert (await reader.get(path)).json() == {"extra_specs": {"hw:numa": "2"}}
    shown = (await reader.get("/flavors/tiny", headers=at(61))).json()["flavor"]
    assert shown["extra_specs"] == {"hw:numa": "2"}
    for answer in (
        await admin.delete(f"{path}/a b"),
        await reader.get(f"{path}/a b"),
        await admin.post("/flavors/nobody/os-extra_specs", json={"extra_specs": {"a": "b"}}),
    ):
        assert_message(answer, 404)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"extra_specs": {}},
        {"extra_specs": {"a/b": "x"}},
        {"extra_specs": {"": "x"}},
        {"extra_specs": {"a": 1}},
        {"extra_specs": {"a": None}},
        {"extra_specs": {"a": "x" * 256}},
        {"extra_specs": {"x" * 256: "x"}},
        {"extra_specs": {f"p{number}": "x" for number in range(129)}},
        {"extra_specs": {"a": "b"}, "more": 1},
    ],
)
async def test_bad_extra_specs_are_refused(admin: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert_message(await admin.post("/flavors/tiny/os-extra_specs", json=body), 400)
    assert (await admin.get("/flavors/tiny/os-extra_specs")).json() == {"extra_specs": {}}


async def test_an_extra_spec_is_changed_where_the_path_says(admin: httpx.AsyncClient) -> None:
    for body in ({"b": "x"}, {"a": "x", "b": "x"}, {}):
        assert_message(await admin.put("/flavors/tiny/os-extra_specs/a", json=body), 400)
