"""Types of groups, and their specs."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.integration.volumes.conftest import World, message


async def make_kind(world: World, name: str = "plain", **fields: Any) -> str:
    answer = await world.call("POST", "/group_types", {"group_type": {"name": name, **fields}}, caller="admin")
    assert answer.status_code == 202, answer.text
    type_id: str = answer.json()["group_type"]["id"]
    return type_id


async def test_a_group_type_is_made_shown_changed_and_deleted(world: World) -> None:
    type_id = await make_kind(world, description="quick", group_specs={"a": "b"})
    path = f"/group_types/{type_id}"
    whole = {"id": type_id, "name": "plain", "description": "quick", "is_public": True, "group_specs": {"a": "b"}}
    assert await world.get(path, "group_type", caller="admin") == whole
    del whole["group_specs"]
    assert await world.get(path, "group_type") == whole
    assert await world.get("/group_types", "group_types", version="3.11") == [whole]
    body = {"group_type": {"name": "other", "description": None}}
    changed = (await world.call("PUT", path, body, caller="admin")).json()["group_type"]
    assert (changed["name"], changed["description"]) == ("other", "quick")
    assert (await world.call("DELETE", path, caller="admin")).status_code == 202
    message(await world.call("GET", path, caller="admin"), 404)
    await make_kind(world, "other")


async def test_group_types_came_with_3_11_and_none_is_the_default(world: World) -> None:
    message(await world.call("GET", "/group_types", version="3.10"), 404)
    message(await world.call("GET", "/group_types/default"), 404)


async def test_a_name_is_given_once(world: World) -> None:
    await make_kind(world)
    other = await make_kind(world, "other")
    message(await world.call("POST", "/group_types", {"group_type": {"name": "plain"}}, caller="admin"), 409)
    message(await world.call("PUT", f"/group_types/{other}", {"group_type": {"name": "plain"}}, caller="admin"), 409)


async def test_private_types_are_for_admins_who_choose_what_they_list(world: World) -> None:
    await make_kind(world, "a")
    hidden = await make_kind(world, "b", is_public=False)
    message(await world.call("GET", f"/group_types/{hidden}"), 404)
    cases = {"": ["a"], "?is_public=None": ["a", "b"], "?is_public=False": ["b"], "?is_public=True": ["a"]}
    for query, names in cases.items():
        found = await world.get(f"/group_types{query}", "group_types", caller="admin")
        assert sorted(one["name"] for one in found) == names
        assert [one["name"] for one in await world.get(f"/group_types{query}", "group_types")] == ["a"]
    down = await world.get("/group_types?is_public=none&sort=name:desc", "group_types", caller="admin")
    assert [one["name"] for one in down] == ["b", "a"]
    answer = await world.call("GET", "/group_types?is_public=none&sort=name:asc&limit=1", caller="admin")
    (link,) = answer.json()["group_type_links"]
    assert [one["name"] for one in await world.get(link["href"], "group_types", caller="admin")] == ["b"]
    message(await world.call("GET", "/group_types?sort=colour"), 400)
    message(await world.call("GET", "/group_types?marker=nothing"), 404)


async def test_specs_are_set_shown_and_removed(world: World) -> None:
    path = f"/group_types/{await make_kind(world)}/group_specs"
    answer = await world.call("POST", path, {"group_specs": {"a": "1", "b": "2"}}, caller="admin")
    assert (answer.status_code, answer.json()) == (202, {"group_specs": {"a": "1", "b": "2"}})
    answer = await world.call("PUT", f"{path}/b", {"b": "3"}, caller="admin")
    assert (answer.status_code, answer.json()) == (200, {"b": "3"})
    assert await world.get(path, "group_specs", caller="admin") == {"a": "1", "b": "3"}
    assert await world.get(f"{path}/b", "b", caller="admin") == "3"
    assert (await world.call("DELETE", f"{path}/b", caller="admin")).status_code == 202
    for method in ("GET", "DELETE"):
        message(await world.call(method, f"{path}/b", caller="admin"), 404)
    message(await world.call("PUT", f"{path}/a", {"b": "3"}, caller="admin"), 400)
    many = {"group_specs": {str(number): "x" for number in range(129)}}
    message(await world.call("POST", path, many, caller="admin"), 400)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/group_types", {"group_type": {"name": "x"}}),
        ("PUT", "/group_types/{id}", {"group_type": {"name": "x"}}),
        ("DELETE", "/group_types/{id}", None),
        ("GET", "/group_types/{id}/group_specs", None),
        ("POST", "/group_types/{id}/group_specs", {"group_specs": {"a": "b"}}),
        ("GET", "/group_types/{id}/group_specs/a", None),
        ("PUT", "/group_types/{id}/group_specs/a", {"a": "b"}),
        ("DELETE", "/group_types/{id}/group_specs/a", None),
    ],
)
async def test_changes_are_for_admins_and_need_a_type_that_is_there(
    world: World, method: str, path: str, body: object
) -> None:
    type_id = await make_kind(world)
    message(await world.call(method, path.format(id=type_id), body), 403)
    if "{id}" in path:
        message(await world.call(method, path.format(id=uuid.uuid4()), body, caller="admin"), 404)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": ""},
        {"name": "   "},
        {"name": "\0"},
        {"name": "n" * 256},
        {"name": "x", "colour": "red"},
        {"name": "x", "is_public": "perhaps"},
        {"name": "x", "group_specs": {"": "v"}},
        {"name": "x", "group_specs": {"k": "\0"}},
    ],
)
async def test_a_bad_group_type_is_refused(world: World, fields: object) -> None:
    message(await world.call("POST", "/group_types", {"group_type": fields}, caller="admin"), 400)
    assert await world.get("/group_types", "group_types") == []


async def test_a_change_of_nothing_is_refused(world: World) -> None:
    path = f"/group_types/{await make_kind(world)}"
    message(await world.call("PUT", path, {"group_type": {}}, caller="admin"), 400)
    message(await world.call("PUT", path, {"group_type": {"name": " "}}, caller="admin"), 400)
