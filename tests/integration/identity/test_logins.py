from __future__ import annotations

from typing import Any

import httpx
import pytest

from kevel.domain.errors import SetupError
from tests.integration.identity.world import ORIGIN, World


def shown(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    token: dict[str, Any] = answer.json()["token"]
    return token


async def test_discovery_needs_no_token(world: World) -> None:
    root = await world.http.get("/identity")
    assert root.status_code == 300
    assert root.json()["versions"]["values"][0]["id"] == "v3.14"
    for path in ("/identity/v3", "/identity/v3/"):
        version = (await world.http.get(path)).json()["version"]
        assert version["links"] == [{"rel": "self", "href": "http://kevel.test/identity/v3/"}]


async def test_a_project_token_says_who_where_and_what(world: World) -> None:
    user, project = await world.create_member("ann")
    answer = await world.log_in("ann", "pw-ann", {"project": {"id": project["id"]}})
    token = shown(answer)
    assert answer.headers["X-Subject-Token"]
    assert token["methods"] == ["password"]
    assert token["user"] == {
        "id": user["id"],
        "name": "ann",
        "domain": {"id": "default", "name": "Default"},
        "password_expires_at": None,
    }
    assert token["project"] == {
        "id": project["id"],
        "name": "ann",
        "domain": {"id": "default", "name": "Default"},
    }
    assert [role["name"] for role in token["roles"]] == ["member", "reader"]
    assert token["issued_at"] == "2027-01-15T08:00:00.000000Z"
    assert token["expires_at"] == "2027-01-15T09:00:00.000000Z"
    assert len(token["audit_ids"]) == 1
    assert {entry["type"] for entry in token["catalog"]} == {
        "identity",
        "compute",
        "block-storage",
        "volumev3",
        "image",
    }
    compute = next(entry for entry in token["catalog"] if entry["type"] == "compute")
    assert {(item["interface"], item["url"], item["region"]) for item in compute["endpoints"]} == {
        (interface, f"{ORIGIN}/compute/v2.1", "RegionOne") for interface in ("public", "internal", "admin")
    }


async def test_admin_holds_the_roles_that_admin_implies(world: World) -> None:
    scope = {"project": {"name": "admin", "domain": {"name": "Default"}}}
    token = shown(await world.log_in("admin", world.admin_password, scope))
    assert [role["name"] for role in token["roles"]] == ["admin", "manager", "member", "reader"]


async def test_nocatalog_leaves_the_catalog_out(world: World) -> None:
    _, project = await world.create_member("ann")
    scope = {"project": {"id": project["id"]}}
    assert "catalog" not in shown(await world.log_in("ann", "pw-ann", scope, query="?nocatalog"))


async def test_without_a_scope_the_default_project_counts_if_the_user_may_enter_it(world: World) -> None:
    user, project = await world.create_member("ann")
    assert "project" not in shown(await world.log_in("ann", "pw-ann"))
    await world.call("PATCH", f"/users/{user['id']}", {"user": {"default_project_id": project["id"]}})
    assert shown(await world.log_in("ann", "pw-ann"))["project"]["id"] == project["id"]
    unscoped = shown(await world.log_in("ann", "pw-ann", "unscoped"))
    assert not {"project", "roles", "catalog"} & unscoped.keys()
    await world.call("PATCH", f"/projects/{project['id']}", {"project": {"enabled": False}})
    assert "project" not in shown(await world.log_in("ann", "pw-ann"))


async def test_system_and_domain_scopes_need_a_role_there(world: World) -> None:
    user, _ = await world.create_member("ann")
    for scope in ({"system": {"all": True}}, {"domain": {"id": "default"}}, {"domain": {"name": "Default"}}):
        assert (await world.log_in("ann", "pw-ann", scope)).status_code == 401
    reader = await world.role_id("reader")
    assert (await world.call("PUT", f"/system/users/{user['id']}/roles/{reader}")).status_code == 204
    assert (await world.call("PUT", f"/domains/default/users/{user['id']}/roles/{reader}")).status_code == 204
    assert shown(await world.log_in("ann", "pw-ann", {"system": {"all": True}}))["system"] == {"all": True}
    assert shown(await world.log_in("ann", "pw-ann", {"domain": {"name": "Default"}}))["domain"]["id"] == "default"


@pytest.mark.parametrize(
    "user",
    [
        {"name": "ann", "domain": {"id": "default"}, "password": "wrong"},
        {"name": "nobody", "domain": {"id": "default"}, "password": "pw-ann"},
        {"name": "ann", "domain": {"id": "elsewhere"}, "password": "pw-ann"},
        {"id": "0" * 32, "password": "pw-ann"},
        {"name": "unset", "domain": {"id": "default"}, "password": "pw-ann"},
    ],
    ids=["wrong password", "unknown user", "unknown domain", "unknown id", "no password set"],
)
async def test_every_failed_login_gets_the_same_401(world: World, user: dict[str, Any]) -> None:
    await world.create_member("ann")
    await world.create("user", name="unset")
    answer = await world.authenticate({"methods": ["password"], "password": {"user": user}})
    assert answer.status_code == 401
    assert answer.json()["error"] == {
        "code": 401,
        "title": "Unauthorized",
        "message": "The credentials are wrong, have expired or are disabled.",
    }
    assert answer.headers["WWW-Authenticate"] == 'Keystone uri="http://kevel.test/identity"'


async def test_a_project_that_is_not_ones_own_cannot_be_told_from_one_that_does_not_exist(world: World) -> None:
    await world.create_member("ann")
    _, other = await world.create_member("bob")
    theirs = await world.log_in("ann", "pw-ann", {"project": {"id": other["id"]}})
    nothing = await world.log_in("ann", "pw-ann", {"project": {"id": "0" * 32}})
    assert theirs.status_code == nothing.status_code == 401
    assert theirs.json() == nothing.json()


PASSWORD = {"methods": ["password"], "password": {"user": {"id": "a", "password": "b"}}}


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"auth": {}},
        {"auth": {"identity": {"methods": []}}},
        {"auth": {"identity": {"methods": ["password"]}}},
        {"auth": {"identity": {"methods": ["password", "token"], "token": {"id": "x"}}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "a", "password": "b"}}}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"password": "b"}}}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "a", "password": 5}}}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "a", "password": "b" * 1025}}}}},
        {"auth": {"identity": PASSWORD, "scope": {}}},
        {"auth": {"identity": PASSWORD, "scope": "everything"}},
        {"auth": {"identity": PASSWORD, "scope": {"project": {"name": "a"}}}},
        {"auth": {"identity": PASSWORD, "scope": {"project": {"id": "a"}, "domain": {"id": "b"}}}},
        {"auth": {"identity": PASSWORD, "scope": {"OS-TRUST:trust": {"id": "a"}}}},
        {"auth": {"identity": PASSWORD, "scope": {"system": {"all": False}}}},
        {"auth": {"identity": {"methods": ["application_credential"], "application_credential": {"secret": "x"}}}},
    ],
)
async def test_a_malformed_login_is_400_in_keystones_shape(world: World, body: Any) -> None:
    answer = await world.call("POST", "/auth/tokens", body, token="")
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == 400
    assert error["title"] == "Bad Request"
    assert error["message"]


async def test_an_unknown_method_is_401(world: World) -> None:
    assert (await world.authenticate({"methods": ["totp"]})).status_code == 401


async def test_a_token_made_from_another_ends_no_later_and_names_it(world: World) -> None:
    await world.create_member("ann")
    first = shown(await world.log_in("ann", "pw-ann", "unscoped"))
    source = await world.token_of("ann", scoped=False)
    world.clock.advance(600)
    scope = {"project": {"name": "ann", "domain": {"id": "default"}}}
    answer = await world.authenticate({"methods": ["token"], "token": {"id": source}}, scope)
    token = shown(answer)
    assert token["expires_at"] == first["expires_at"]
    assert token["methods"] == ["password", "token"]
    assert len(token["audit_ids"]) == 2
    assert token["project"]["name"] == "ann"
    assert (await world.authenticate({"methods": ["token"], "token": {"id": "forged"}})).status_code == 401


async def test_missing_forged_and_expired_tokens_are_401(world: World) -> None:
    await world.create_member("ann")
    token = await world.token_of("ann")
    for bad in ("", "forged", "x" * 5000, "\x7f"):
        answer = await world.call("GET", "/auth/projects", token=bad)
        assert answer.status_code == 401, bad
        assert answer.json()["error"]["title"] == "Unauthorized"
    world.clock.advance(3599)
    assert await world.is_valid(token)
    world.clock.advance(1)
    assert not await world.is_valid(token)


async def test_a_user_sees_the_own_token_and_an_admin_or_service_any(world: World) -> None:
    await world.create_member("ann")
    await world.create_member("bob")
    await world.create_member("neutron", role="service")
    ann, bob, neutron = [await world.token_of(name) for name in ("ann", "bob", "neutron")]

    async def ask(method: str, token: str, subject: str) -> httpx.Response:
        headers = {"X-Auth-Token": token, "X-Subject-Token": subject}
        return await world.http.request(method, "/identity/v3/auth/tokens", headers=headers)

    for token in (ann, neutron, world.admin_token):
        answer = await ask("GET", token, ann)
        assert answer.status_code == 200
        assert answer.headers["X-Subject-Token"] == ann
        assert answer.json()["token"]["user"]["name"] == "ann"
        head = await ask("HEAD", token, ann)
        assert (head.status_code, head.content) == (200, b"")
    assert (await ask("GET", bob, ann)).status_code == 403
    assert (await ask("DELETE", bob, ann)).status_code == 403
    assert (await ask("DELETE", neutron, ann)).status_code == 403
    assert (await ask("GET", ann, "forged")).status_code == 404
    assert (await world.call("GET", "/auth/tokens", token=ann)).status_code == 400
    assert (await ask("DELETE", ann, ann)).status_code == 204
    assert not await world.is_valid(ann)
    assert (await ask("GET", bob, bob)).status_code == 200


async def test_catalog_projects_and_domains_are_ones_own(world: World) -> None:
    user, project = await world.create_member("ann")
    await world.create_member("bob")
    token = await world.token_of("ann")
    assert [item["id"] for item in (await world.get("/auth/projects", token=token))["projects"]] == [project["id"]]
    assert (await world.get("/auth/domains", token=token))["domains"] == []
    assert [item["name"] for item in (await world.get("/auth/domains"))["domains"]] == []
    assert len((await world.get("/auth/catalog", token=token))["catalog"]) == 5
    unscoped = await world.token_of("ann", scoped=False)
    assert (await world.call("GET", "/auth/catalog", token=unscoped)).status_code == 403
    mine = await world.get(f"/users/{user['id']}/projects", token=token)
    assert [item["id"] for item in mine["projects"]] == [project["id"]]


async def test_expired_tokens_are_deleted_as_new_ones_come(world: World) -> None:
    await world.create_member("ann")
    for _ in range(3):
        await world.token_of("ann")
    world.clock.advance(3600)
    await world.token_of("ann")
    rows = await world.store.read(lambda tx: tx.conn.exec_driver_sql("SELECT count(*) FROM tokens").scalar_one())
    assert rows == 1


async def test_a_token_is_not_stored_in_the_clear(world: World) -> None:
    rows = await world.store.read(lambda tx: tx.conn.exec_driver_sql("SELECT * FROM tokens").fetchall())
    assert rows
    assert world.admin_token not in repr(rows)
    users = await world.store.read(lambda tx: tx.conn.exec_driver_sql("SELECT * FROM users").fetchall())
    assert world.admin_password not in repr(users)
    assert "$argon2id$" in repr(users)


def test_a_token_lifetime_out_of_bounds_is_refused_at_the_start(world: World) -> None:
    with pytest.raises(SetupError, match="token lifetime is 5 s"):
        type(world.identity)(world.identity._runtime, token_lifetime_s=5)
