from __future__ import annotations

from typing import Any

import pytest

from tests.integration.identity.world import ORIGIN, World
from tests.integration.stores import ON_POSTGRES

#: What each kind needs, a change, and a filter that finds it.
KINDS = [
    ("domain", {"name": "d1"}, {"description": "new"}, "name=d1"),
    ("project", {"name": "p1"}, {"description": "new"}, "name=p1&domain_id=default"),
    ("user", {"name": "u1"}, {"enabled": False}, "name=u1&enabled=True"),
    ("role", {"name": "r1"}, {"description": "new"}, "name=r1"),
    ("service", {"type": "network"}, {"name": "new"}, "type=network"),
    ("region", {"id": "North"}, {"description": "new"}, "limit=1"),
]


@pytest.mark.parametrize(("kind", "fields", "change", "query"), KINDS)
async def test_a_resource_is_created_found_changed_and_deleted(
    world: World, kind: str, fields: dict[str, Any], change: dict[str, Any], query: str
) -> None:
    made = await world.create(kind, **fields, note="kept")
    link = made.pop("links")["self"]
    assert link == f"http://kevel.test/identity/v3/{kind}s/{made['id']}"
    assert kind == "region" or len(made["id"]) == 32
    assert made["note"] == "kept"
    found = (await world.get(f"/{kind}s?{query}"))[f"{kind}s"]
    assert [item["id"] for item in found] == [made["id"]]
    changed = await world.call("PATCH", f"/{kind}s/{made['id']}", {kind: change})
    assert changed.status_code == 200, changed.text
    expected = {**made, **change, "links": {"self": link}}
    assert changed.json()[kind] == expected
    assert (await world.get(f"/{kind}s/{made['id']}"))[kind] == expected
    if kind == "domain":
        assert (await world.call("DELETE", f"/domains/{made['id']}")).status_code == 403
        await world.call("PATCH", f"/domains/{made['id']}", {"domain": {"enabled": False}})
    assert (await world.call("DELETE", f"/{kind}s/{made['id']}")).status_code == 204
    for method in ("GET", "PATCH", "DELETE"):
        answer = await world.call(method, f"/{kind}s/{made['id']}", {kind: change})
        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == f"Could not find {kind}: {made['id']}."


async def test_a_look_up_by_name_gets_404_and_then_the_list_finds_it(world: World) -> None:
    project = await world.create("project", name="p1")
    assert (await world.call("GET", "/projects/p1")).status_code == 404
    assert (await world.get("/projects?name=p1"))["projects"][0]["id"] == project["id"]
    assert (await world.get("/projects?name=p2"))["projects"] == []


@pytest.mark.parametrize("kind", ["domain", "project", "user", "role"])
async def test_a_name_twice_is_a_conflict_and_changes_nothing(world: World, kind: str) -> None:
    first = await world.create(kind, name="one")
    second = await world.create(kind, name="two")
    again = await world.call("POST", f"/{kind}s", {kind: {"name": "one"}})
    renamed = await world.call("PATCH", f"/{kind}s/{second['id']}", {kind: {"name": "one"}})
    for answer in (again, renamed):
        assert answer.status_code == 409
        assert answer.json()["error"]["message"] == f"There is already a {kind} with that name: one."
    assert (await world.get(f"/{kind}s?name=one"))[f"{kind}s"] == [first]
    assert (await world.get(f"/{kind}s/{second['id']}"))[kind] == second


async def test_names_are_unique_in_their_domain_only(world: World) -> None:
    domain = await world.create("domain", name="other")
    for kind in ("project", "user"):
        await world.create(kind, name="same")
        assert (await world.create(kind, name="same", domain_id=domain["id"]))["domain_id"] == domain["id"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("projects", None),
        ("projects", []),
        ("projects", {}),
        ("projects", {"project": 5}),
        ("projects", {"project": {}}),
        ("projects", {"project": {"name": ""}}),
        ("projects", {"project": {"name": "   "}}),
        ("projects", {"project": {"name": 5}}),
        ("projects", {"project": {"name": "x" * 65}}),
        ("projects", {"project": {"name": "x", "enabled": "yes"}}),
        ("projects", {"project": {"name": "x", "description": "y" * 4097}}),
        ("projects", {"project": {"name": "x", "is_domain": True}}),
        ("projects", {"project": {"name": "x", "domain_id": "default", "parent_id": "0" * 32}}),
        ("projects", {"project": {"name": "x", "tags": ["a"]}}),
        ("projects", {"project": {"name": "x", **{f"k{n}": n for n in range(65)}}}),
        ("projects", {"project": {"name": "x", "note": "y" * 17000}}),
        ("users", {"user": {"name": "x" * 256}}),
        ("users", {"user": {"name": "x", "password": ""}}),
        ("users", {"user": {"name": "x", "password": "y" * 1025}}),
        ("roles", {"role": {"name": "x", "domain_id": "default"}}),
        ("services", {"service": {"name": "x"}}),
        ("regions", {"region": {"parent_region_id": "nowhere"}}),
        ("endpoints", {"endpoint": {"service_id": "x", "interface": "public"}}),
        ("endpoints", {"endpoint": {"service_id": "x", "interface": "sideways", "url": "http://a"}}),
        ("endpoints", {"endpoint": {"service_id": "x", "interface": "public", "url": "not a url"}}),
        ("endpoints", {"endpoint": {"service_id": "x", "interface": "public", "url": "http://a"}}),
    ],
)
async def test_a_bad_body_is_400_and_creates_nothing(world: World, path: str, body: Any) -> None:
    before = await world.get(f"/{path}")
    answer = await world.call("POST", f"/{path}", body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["title"] == "Bad Request"
    assert await world.get(f"/{path}") == before


async def test_an_unknown_domain_is_404(world: World) -> None:
    answer = await world.call("POST", "/users", {"user": {"name": "x", "domain_id": "nowhere"}})
    assert answer.status_code == 404


async def test_what_clients_send_beside_the_known_fields_is_kept_and_bounded_and_removable(world: World) -> None:
    project = await world.create("project", name="p")
    user = await world.create("user", name="u", email="u@example.org", project_id=project["id"], options={})
    assert (user["email"], user["project_id"], user["options"]) == ("u@example.org", project["id"], {})
    path = f"/users/{user['id']}"
    for number in range(62):
        assert (await world.call("PATCH", path, {"user": {f"k{number}": number}})).status_code == 200
    assert (await world.call("PATCH", path, {"user": {"one": 1}})).status_code == 400
    changed = (await world.call("PATCH", path, {"user": {"email": None, "id": user["id"]}})).json()["user"]
    assert "email" not in changed
    assert changed["k61"] == 61


async def test_passwords_are_never_shown(world: World) -> None:
    user = await world.create("user", name="u", password="hidden-word")
    changed = await world.call("PATCH", f"/users/{user['id']}", {"user": {"password": "hidden-word-2"}})
    assert changed.status_code == 200
    assert "hidden" not in repr(user) + changed.text + repr(await world.get("/users"))
    assert "argon2" not in repr(user) + changed.text
    assert (await world.log_in("u", "hidden-word-2")).status_code == 201


async def test_a_project_or_user_stays_in_its_domain(world: World) -> None:
    await world.create("domain", name="other")
    other = (await world.get("/domains?name=other"))["domains"][0]["id"]
    project = await world.create("project", name="p")
    answer = await world.call("PATCH", f"/projects/{project['id']}", {"project": {"domain_id": other}})
    assert answer.status_code == 400
    same = await world.call("PATCH", f"/projects/{project['id']}", {"project": {"domain_id": "default"}})
    assert same.status_code == 200


async def test_a_deleted_domain_takes_its_users_and_projects_along(world: World) -> None:
    domain = await world.create("domain", name="other")
    project = await world.create("project", name="p", domain_id=domain["id"])
    user = await world.create("user", name="u", domain_id=domain["id"])
    ann, _ = await world.create_member("ann")
    await world.assign(ann["id"], project["id"], "member")
    await world.call("PATCH", f"/domains/{domain['id']}", {"domain": {"enabled": False}})
    assert (await world.call("DELETE", f"/domains/{domain['id']}")).status_code == 204
    assert (await world.call("GET", f"/projects/{project['id']}")).status_code == 404
    assert (await world.call("GET", f"/users/{user['id']}")).status_code == 404
    left = (await world.get(f"/role_assignments?user.id={ann['id']}"))["role_assignments"]
    assert [item["scope"]["project"]["id"] for item in left] != [project["id"]]
    assert len(left) == 1


async def test_the_default_domain_and_the_fixed_roles_stay(world: World) -> None:
    role = await world.role_id("admin")
    for method, path, body in (
        ("PATCH", "/domains/default", {"domain": {"enabled": False}}),
        ("DELETE", "/domains/default", None),
        ("PATCH", f"/roles/{role}", {"role": {"name": "boss"}}),
        ("DELETE", f"/roles/{role}", None),
    ):
        assert (await world.call(method, path, body)).status_code == 403
    assert await world.is_valid(world.admin_token)


async def test_lists_come_in_pages_that_link_to_the_next(world: World) -> None:
    made = {(await world.create("role", name=f"r{number}"))["id"] for number in range(5)}
    made |= {role["id"] for role in (await world.get("/roles"))["roles"]}
    seen: list[str] = []
    url: str | None = "/identity/v3/roles?limit=3"
    while url is not None:
        page = (await world.http.get(url, headers={"X-Auth-Token": world.admin_token})).json()
        assert len(page["roles"]) <= 3
        seen += [role["id"] for role in page["roles"]]
        url = page["links"]["next"]
    assert len(seen) == len(made) == 10
    assert set(seen) == made
    for bad in ("limit=0", "limit=x", "limit=-1"):
        assert (await world.call("GET", f"/roles?{bad}")).status_code == 400


async def test_an_admin_adds_a_service_with_endpoints_and_everybody_finds_it_in_the_catalog(world: World) -> None:
    await world.create("region", id="North")
    service = await world.create("service", type="network", name="net")
    url = "http://192.0.2.9:9696/$(project_id)s"
    endpoint = await world.create("endpoint", service_id=service["id"], interface="public", url=url, region="North")
    assert (endpoint["region_id"], endpoint["region"]) == ("North", "North")
    found = (await world.get(f"/endpoints?service_id={service['id']}&interface=public"))["endpoints"]
    assert [item["id"] for item in found] == [endpoint["id"]]
    _, project = await world.create_member("ann")
    token = await world.token_of("ann")
    catalog = (await world.get("/auth/catalog", token=token))["catalog"]
    network = next(entry for entry in catalog if entry["type"] == "network")
    assert network["name"] == "net"
    assert network["endpoints"][0]["url"] == f"http://192.0.2.9:9696/{project['id']}"
    assert (await world.call("DELETE", "/regions/North")).status_code == 403
    await world.call("PATCH", f"/endpoints/{endpoint['id']}", {"endpoint": {"enabled": False}})
    catalog = (await world.get("/auth/catalog", token=token))["catalog"]
    assert "network" not in [entry["type"] for entry in catalog]
    assert (await world.call("DELETE", f"/services/{service['id']}")).status_code == 204
    assert (await world.call("GET", f"/endpoints/{endpoint['id']}")).status_code == 404
    assert (await world.call("DELETE", "/regions/North")).status_code == 204


async def test_kevels_own_catalog_can_be_disabled_but_not_moved_or_deleted(world: World) -> None:
    service = (await world.get("/services?type=image"))["services"][0]
    endpoint = (await world.get(f"/endpoints?service_id={service['id']}&interface=public"))["endpoints"][0]
    assert endpoint["url"] == f"{ORIGIN}/image"
    path = f"/endpoints/{endpoint['id']}"
    for method, place, body in (
        ("DELETE", f"/services/{service['id']}", None),
        ("DELETE", path, None),
        ("PATCH", path, {"endpoint": {"url": "http://elsewhere"}}),
        ("PATCH", f"/services/{service['id']}", {"service": {"type": "other"}}),
    ):
        assert (await world.call(method, place, body)).status_code == 403
    assert (await world.call("PATCH", path, {"endpoint": {"enabled": False}})).status_code == 200


async def test_regions_do_not_nest_in_circles(world: World) -> None:
    await world.create("region", id="a")
    await world.create("region", id="b", parent_region_id="a")
    answer = await world.call("PATCH", "/regions/a", {"region": {"parent_region_id": "b"}})
    assert answer.status_code == 400
    assert (await world.call("POST", "/regions", {"region": {"id": "a"}})).status_code == 409
    assert (await world.call("DELETE", "/regions/a")).status_code == 403


async def test_a_member_sees_itself_and_its_project_and_nothing_else(world: World) -> None:
    user, project = await world.create_member("ann")
    other, elsewhere = await world.create_member("bob")
    token = await world.token_of("ann")
    for path in (
        f"/users/{user['id']}",
        f"/projects/{project['id']}",
        "/domains/default",
        "/regions/RegionOne",
        "/regions",
    ):
        assert (await world.call("GET", path, token=token)).status_code == 200, path
    refused = [
        ("GET", f"/users/{other['id']}"),
        ("GET", f"/users/{'0' * 32}"),
        ("GET", f"/projects/{elsewhere['id']}"),
        ("GET", f"/users/{other['id']}/projects"),
        ("GET", f"/users/{other['id']}/application_credentials"),
        ("GET", "/role_assignments"),
        ("PATCH", f"/users/{user['id']}"),
        ("POST", "/regions"),
    ]
    for kind in ("users", "projects", "domains", "roles", "services", "endpoints"):
        refused += [("POST", f"/{kind}"), ("DELETE", f"/{kind}/x"), ("GET", f"/{kind}/x")]
    refused += [("GET", f"/{kind}") for kind in ("roles", "services", "endpoints")]
    for method, path in refused:
        answer = await world.call(method, path, {}, token=token)
        assert answer.status_code == 403, (method, path, answer.text)
        assert answer.json()["error"]["title"] == "Forbidden"


async def test_a_member_finds_itself_and_its_project_by_name_and_no_others(world: World) -> None:
    user, project = await world.create_member("ann")
    await world.create_member("bob")
    token, unscoped = await world.token_of("ann"), await world.token_of("ann", scoped=False)
    for kind, own in (("users", user), ("projects", project)):
        for query in ("", "?name=ann"):
            found = (await world.get(f"/{kind}{query}", token=token))[kind]
            assert [item["id"] for item in found] == [own["id"]]
        assert (await world.get(f"/{kind}?name=bob", token=token))[kind] == []
    assert [item["id"] for item in (await world.get("/domains", token=token))["domains"]] == ["default"]
    assert (await world.get("/projects", token=unscoped))["projects"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/users/%ff",
        "/users/%00",
        "/users/" + "x" * 5000,
        "/projects/..%2f..",
        "/roles/%F0%9F%98%80",
        "/nothing",
        "/users/a/b",
    ],
)
async def test_a_strange_path_is_404(world: World, path: str) -> None:
    answer = await world.call("GET", path)
    assert answer.status_code == 404
    assert len(answer.text) < 300


@pytest.mark.parametrize("query", ["enabled=maybe", "limit=1.5", "limit=", f"limit={'9' * 5000}"])
async def test_a_strange_query_is_400(world: World, query: str) -> None:
    assert (await world.call("GET", f"/projects?{query}")).status_code == 400


@pytest.mark.parametrize("name", [*(() if ON_POSTGRES else ("\x00",)), "a'b\"c;--", "\u202e", "é" * 64, "%", "_"])
async def test_a_strange_name_is_kept_as_it_is(world: World, name: str) -> None:
    project = await world.create("project", name=name)
    answer = await world.http.get(
        "/identity/v3/projects", params={"name": name}, headers={"X-Auth-Token": world.admin_token}
    )
    assert [item["id"] for item in answer.json()["projects"]] == [project["id"]]
    assert answer.json()["projects"][0]["name"] == name


async def test_a_method_that_a_path_does_not_have_is_405_and_bytes_that_are_no_json_400(world: World) -> None:
    assert (await world.call("PUT", "/users")).status_code == 405
    headers = {"X-Auth-Token": world.admin_token, "Content-Type": "application/json"}
    for raw in (b"{", b'{"project": {"name": "\\ud800"}}', b"\xff", b"[" * 100_000):
        answer = await world.http.post("/identity/v3/projects", content=raw, headers=headers)
        assert answer.status_code == 400, raw[:40]
    assert [item["name"] for item in (await world.get("/projects"))["projects"]] == ["admin"]
