"""QoS specs: made, changed, given to types, and what of them reaches the hosts of running guests."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from kevel.control.volume_types import qos_specs
from kevel.store.assignments import changes_for_host
from kevel.store.qos_specs import front_end_limits
from tests.integration.volumes.conftest import HOST, World, message
from tests.integration.volumes.test_types import make_type

FREE: Any = {"local": frozenset()}


async def ask(world: World, name: str, **specs: Any) -> Any:
    return await world.call("POST", "/qos-specs", {"qos_specs": {"name": name, **specs}}, caller="admin")


async def make_qos(world: World, name: str, **specs: str) -> str:
    answer = await ask(world, name, **specs)
    assert answer.status_code == 200, answer.text
    specs_id: str = answer.json()["qos_specs"]["id"]
    return specs_id


async def give(world: World, specs_id: str, type_id: str, verb: str = "associate") -> Any:
    return await world.call("GET", f"/qos-specs/{specs_id}/{verb}?vol_type_id={type_id}", caller="admin")


async def tuned(world: World, since: int = 0) -> list[int]:
    """What the host is told of reads a second, of each path that changed after that version."""
    found = await world.runtime.store.read(changes_for_host, HOST, since, lambda _id, _info: {}, FREE)
    return [path.tune.read_iops_sec for path in found.paths]


async def version(world: World) -> int:
    found = await world.runtime.store.read(changes_for_host, HOST, 0, lambda _id, _info: {}, FREE)
    return found.version


async def test_specs_are_made_shown_changed_and_deleted(world: World) -> None:
    answer = await ask(world, " gold ", consumer="front-end", read_iops_sec="2000")
    specs_id = answer.json()["qos_specs"]["id"]
    base = f"http://kevel.test/volume/v3/qos-specs/{specs_id}"
    expected = {
        "qos_specs": {"id": specs_id, "name": "gold", "consumer": "front-end", "specs": {"read_iops_sec": "2000"}},
        "links": [{"rel": "self", "href": base}, {"rel": "bookmark", "href": base.replace("/v3", "")}],
    }
    assert (answer.status_code, answer.json()) == (200, expected)
    path = f"/qos-specs/{specs_id}"
    assert (await world.call("GET", path, caller="admin")).json() == expected
    body = {"qos_specs": {"consumer": "both", "colour": "red"}}
    answer = await world.call("PUT", path, body, caller="admin")
    assert (answer.status_code, answer.json()) == (200, body)
    shown = await world.get(path, "qos_specs", caller="admin")
    assert (shown["consumer"], shown["specs"]) == ("both", {"read_iops_sec": "2000", "colour": "red"})
    answer = await world.call("PUT", f"{path}/delete_keys", {"keys": ["colour"]}, caller="admin")
    assert (answer.status_code, answer.content) == (202, b"")
    missing = {"keys": ["read_iops_sec", "none-such"]}
    message(await world.call("PUT", f"{path}/delete_keys", missing, caller="admin"), 404)
    assert (await world.get(path, "qos_specs", caller="admin"))["specs"] == {"read_iops_sec": "2000"}
    assert (await world.call("DELETE", f"{path}?force=False", caller="admin")).status_code == 202
    message(await world.call("GET", path, caller="admin"), 404)
    assert await world.get("/qos-specs", "qos_specs", caller="admin") == []


@pytest.mark.parametrize(
    "specs",
    [
        {"name": ""},
        {"name": "  "},
        {"name": "q" * 256},
        {"name": "q", "consumer": "nobody"},
        {"name": "q", "consumer": "front-end", "read_iops_sec": "many"},
        {"name": "q", "consumer": "both", "total_iops_sec": "1", "read_iops_sec": "1"},
        {"name": "q", "colour": None},
        {"name": "q", "colour": 1},
        {"name": "q", "colour": "r" * 256},
        {"name": "q", "": "x"},
        {"name": "q", **{f"key{number}": "x" for number in range(129)}},
        {"consumer": "both"},
    ],
)
async def test_bad_specs_are_refused(world: World, specs: dict[str, Any]) -> None:
    message(await world.call("POST", "/qos-specs", {"qos_specs": specs}, caller="admin"), 400)
    assert await world.get("/qos-specs", "qos_specs", caller="admin") == []


async def test_what_the_back_end_keeps_to_is_the_operators_and_what_guests_keep_to_has_to_be_right(
    world: World,
) -> None:
    specs_id = await make_qos(world, "q", read_iops_sec="as it likes")
    path = f"/qos-specs/{specs_id}"
    assert (await world.get(path, "qos_specs", caller="admin"))["consumer"] == "back-end"
    answer = await world.call("PUT", path, {"qos_specs": {"consumer": "front-end"}}, caller="admin")
    assert "read_iops_sec" in message(answer, 400)
    assert (await world.get(path, "qos_specs", caller="admin"))["consumer"] == "back-end"
    message(await world.call("PUT", path, {"qos_specs": {}}, caller="admin"), 400)
    message(await world.call("PUT", f"{path}/delete_keys", {"keys": "read_iops_sec"}, caller="admin"), 400)


async def test_a_name_is_given_once(world: World) -> None:
    await make_qos(world, "gold")
    message(await ask(world, "gold"), 409)


async def test_there_is_a_bound_on_their_number(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qos_specs, "QOS_SPECS_MAX", 1)
    await make_qos(world, "gold")
    message(await ask(world, "silver"), 413)


async def test_specs_hold_for_types_until_they_are_taken_away(world: World) -> None:
    gold, other = await make_qos(world, "gold"), await make_qos(world, "other")
    types = [await make_type(world, name) for name in ("a", "b", "c")]
    for type_id in (*types, types[0]):
        answer = await give(world, gold, type_id)
        assert (answer.status_code, answer.content) == (202, b"")
    path = f"/qos-specs/{gold}/associations"
    found = await world.get(path, "qos_associations", caller="admin")
    assert {(one["id"], one["association_type"]) for one in found} == {(one, "volume_type") for one in types}
    shown = await world.get(f"/types/{types[0]}", "volume_type", caller="admin")
    assert shown["qos_specs_id"] == gold
    assert "qos_specs_id" not in await world.get(f"/types/{types[0]}", "volume_type")
    assert "other QoS specs" in message(await give(world, other, types[0]), 400)
    assert "in use" in message(await world.call("DELETE", f"/qos-specs/{gold}", caller="admin"), 400)
    assert (await give(world, other, types[0], "disassociate")).status_code == 202
    assert len(await world.get(path, "qos_associations", caller="admin")) == 3
    assert (await give(world, gold, types[0], "disassociate")).status_code == 202
    assert (await world.call("DELETE", f"/types/{types[1]}", caller="admin")).status_code == 202
    (left,) = await world.get(path, "qos_associations", caller="admin")
    assert left["name"] == "c"
    answer = await world.call("GET", f"/qos-specs/{gold}/disassociate_all", caller="admin")
    assert (answer.status_code, answer.content) == (202, b"")
    assert await world.get(path, "qos_associations", caller="admin") == []
    assert (await give(world, gold, types[2])).status_code == 202
    assert (await world.call("DELETE", f"/qos-specs/{gold}?force=True", caller="admin")).status_code == 202
    assert (await world.get(f"/types/{types[2]}", "volume_type", caller="admin"))["qos_specs_id"] is None


async def test_only_admins_see_specs_and_unknown_ones_are_not_found(world: World) -> None:
    type_id = await make_type(world, "a")
    specs_id = await make_qos(world, "gold")
    for method, path, body in (
        ("GET", "/qos-specs", None),
        ("POST", "/qos-specs", {"qos_specs": {"name": "q"}}),
        ("GET", "/qos-specs/{id}", None),
        ("PUT", "/qos-specs/{id}", {"qos_specs": {"a": "b"}}),
        ("PUT", "/qos-specs/{id}/delete_keys", {"keys": ["a"]}),
        ("DELETE", "/qos-specs/{id}", None),
        ("GET", "/qos-specs/{id}/associations", None),
        ("GET", f"/qos-specs/{{id}}/associate?vol_type_id={type_id}", None),
        ("GET", f"/qos-specs/{{id}}/disassociate?vol_type_id={type_id}", None),
        ("GET", "/qos-specs/{id}/disassociate_all", None),
    ):
        message(await world.call(method, path.format(id=specs_id), body), 403)
        if "{id}" in path:
            message(await world.call(method, path.format(id=uuid.uuid4()), body, caller="admin"), 404)
    for verb in ("associate", "disassociate"):
        message(await world.call("GET", f"/qos-specs/{specs_id}/{verb}", caller="admin"), 400)
        message(await give(world, specs_id, str(uuid.uuid4()), verb), 404)
    message(await world.call("DELETE", f"/qos-specs/{specs_id}?force=perhaps", caller="admin"), 400)


async def test_lists_have_filters_order_and_pages(world: World) -> None:
    for name, consumer in (("a", "both"), ("b", "front-end"), ("c", "both")):
        await make_qos(world, name, consumer=consumer)

    async def names(query: str) -> list[str]:
        found = await world.get(f"/qos-specs?{query}", "qos_specs", caller="admin")
        return [one["name"] for one in found]

    assert await names("") == ["c", "b", "a"]
    assert await names("consumer=both&sort=name:asc") == ["a", "c"]
    assert await names("name=b") == ["b"]
    body = (await world.call("GET", "/qos-specs?limit=2", caller="admin")).json()
    (link,) = body["qos_specs_links"]
    assert [one["name"] for one in (await world.clients["admin"].get(link["href"])).json()["qos_specs"]] == ["a"]
    message(await world.call("GET", "/qos-specs?sort=colour", caller="admin"), 400)
    message(await world.call("GET", "/qos-specs?marker=none-such", caller="admin"), 404)


async def test_front_end_limits_reach_the_hosts_of_guests_and_follow_changes(world: World) -> None:
    specs_id = await make_qos(world, "gold", consumer="front-end", read_iops_sec="2000")
    type_id = await make_type(world, "fast")
    plain = await make_type(world, "plain")
    volume_id = await world.make(volume_type="fast")
    await world.attach(volume_id)
    assert await tuned(world) == [0]
    seen = await version(world)

    await give(world, specs_id, type_id)
    assert await world.runtime.store.read(front_end_limits, type_id) == {"read_iops_sec": "2000"}
    assert await tuned(world, seen) == [2000]
    seen = await version(world)
    await world.call("PUT", f"/qos-specs/{specs_id}", {"qos_specs": {"read_iops_sec": "3000"}}, caller="admin")
    assert await tuned(world, seen) == [3000]
    seen = await version(world)
    await world.call("PUT", f"/qos-specs/{specs_id}", {"qos_specs": {"consumer": "back-end"}}, caller="admin")
    assert await tuned(world, seen) == [0]
    assert await world.runtime.store.read(front_end_limits, type_id) == {}
    await world.call("PUT", f"/qos-specs/{specs_id}", {"qos_specs": {"consumer": "both"}}, caller="admin")
    seen = await version(world)
    assert (await world.act(volume_id, "os-retype", {"new_type": plain})).status_code == 202
    assert await tuned(world, seen) == [0]
    assert (await world.act(volume_id, "os-retype", {"new_type": "fast"})).status_code == 202
    seen = await version(world)
    await give(world, specs_id, type_id, "disassociate_all")
    assert await tuned(world, seen) == [0]
    seen = await version(world)
    await give(world, specs_id, plain)
    assert await version(world) == seen
