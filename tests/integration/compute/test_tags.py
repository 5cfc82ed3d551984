"""Tags of servers, and lists that are filtered by them."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from kevel.domain.model import ServerRung
from tests.integration.compute.conftest import Stand, message


async def tags_of(stand: Stand, server_id: str) -> list[str]:
    answer = await stand.call("GET", f"/servers/{server_id}/tags", version="2.26")
    assert answer.status_code == 200, answer.text
    tags: list[str] = answer.json()["tags"]
    shown = (await stand.call("GET", f"/servers/{server_id}", version="2.26")).json()["server"]["tags"]
    assert shown == tags
    return tags


async def test_a_servers_tags_are_a_set(stand: Stand) -> None:
    server_id = await stand.make_server(version="2.52", tags=["b", "a", "b"])
    path = f"/servers/{server_id}/tags"
    assert await tags_of(stand, server_id) == ["a", "b"]
    added = await stand.call("PUT", f"{path}/c", version="2.26")
    assert (added.status_code, added.headers["location"]) == (201, f"http://kevel.test/compute/v2.1{path}/c")
    assert (await stand.call("PUT", f"{path}/c", version="2.26")).status_code == 204
    assert (await stand.call("GET", f"{path}/c", version="2.26")).status_code == 204
    assert (await stand.call("DELETE", f"{path}/a", version="2.26")).status_code == 204
    for method in ("GET", "DELETE"):
        assert (await stand.call(method, f"{path}/a", version="2.26")).status_code == 404
    assert await tags_of(stand, server_id) == ["b", "c"]
    replaced = await stand.call("PUT", path, {"tags": ["x", "y", "x"]}, version="2.26")
    assert replaced.json() == {"tags": ["x", "y"]}
    assert (await stand.call("DELETE", path, version="2.26")).status_code == 204
    assert await tags_of(stand, server_id) == []


@pytest.mark.parametrize("tag", ["\ufeff", "\u78c1\u76d8", "a b\r\n"])
async def test_a_tag_of_any_characters_has_an_address(stand: Stand, tag: str) -> None:
    server_id = await stand.make_server()
    path = f"/servers/{server_id}/tags/{quote(tag)}"
    added = await stand.call("PUT", path, version="2.26")
    assert (added.status_code, added.headers["location"]) == (201, f"http://kevel.test/compute/v2.1{path}")
    assert await tags_of(stand, server_id) == [tag]


async def test_tags_came_with_2_26_and_can_be_given_to_a_new_server_from_2_52_on(stand: Stand) -> None:
    server_id = await stand.make_server()
    for method, path in (
        ("GET", "tags"),
        ("PUT", "tags"),
        ("DELETE", "tags"),
        ("GET", "tags/a"),
        ("PUT", "tags/a"),
        ("DELETE", "tags/a"),
    ):
        assert (await stand.call(method, f"/servers/{server_id}/{path}", version="2.25")).status_code == 404
    assert (await stand.ask_server(version="2.51", tags=["a"])).status_code == 400


@pytest.mark.parametrize("wrong", [["a,b"], ["a/b"], [""], ["t" * 61], "a", [1], [str(at) for at in range(51)]])
async def test_what_is_no_set_of_tags_is_refused(stand: Stand, wrong: object) -> None:
    server_id = await stand.make_server(version="2.52", tags=["a"])
    path = f"/servers/{server_id}/tags"
    assert (await stand.call("PUT", path, {"tags": wrong}, version="2.26")).status_code == 400
    assert (await stand.ask_server(version="2.52", tags=wrong)).status_code == 400
    assert await tags_of(stand, server_id) == ["a"]


async def test_a_server_has_fifty_tags_at_most(stand: Stand) -> None:
    server_id = await stand.make_server(version="2.52", tags=[str(at) for at in range(50)])
    answer = await stand.call("PUT", f"/servers/{server_id}/tags/more", version="2.26")
    assert (answer.status_code, "50" in message(answer)) == (400, True)
    for wrong in ("a,b", "t" * 61):
        assert (await stand.call("PUT", f"/servers/{server_id}/tags/{wrong}", version="2.26")).status_code == 400


async def test_tags_of_another_project_and_of_a_server_that_is_built_are_left_alone(stand: Stand) -> None:
    server_id = await stand.make_server(None)
    path = f"/servers/{server_id}/tags"
    writes = (("PUT", path, {"tags": ["a"]}), ("DELETE", path, None), ("PUT", f"{path}/a", None))
    for method, where, body in (*writes, ("DELETE", f"{path}/a", None)):
        assert (await stand.call(method, where, body, caller="other", version="2.26")).status_code == 404
        assert (await stand.call(method, where, body, version="2.26")).status_code == 409
    for where in (path, f"{path}/a"):
        assert (await stand.call("GET", where, caller="other", version="2.26")).status_code == 404
    await stand.host_saw(server_id, ServerRung.RUNNING)
    for method, where, body in writes:
        assert (await stand.call(method, where, body, version="2.26")).status_code in (200, 201, 204)


async def test_lists_are_filtered_by_tags(stand: Stand) -> None:
    for name, tags in (("ab", ["a", "b"]), ("b", ["b"]), ("none", [])):
        await stand.make_server(name=name, version="2.52", tags=tags)
    for query, wanted in (
        ("tags=a,b", {"ab"}),
        ("tags=b", {"ab", "b"}),
        ("tags-any=a,b", {"ab", "b"}),
        ("not-tags=a,b", {"b", "none"}),
        ("not-tags-any=a,b", {"none"}),
        ("tags=b&not-tags=a", {"b"}),
    ):
        answer = await stand.call("GET", f"/servers?{query}", version="2.26")
        assert {server["name"] for server in answer.json()["servers"]} == wanted, query
        assert (await stand.call("GET", f"/servers?{query}", version="2.25")).status_code == 400
