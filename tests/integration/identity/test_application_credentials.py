from __future__ import annotations

from typing import Any

import httpx

from tests.integration.identity.world import World


async def create_credential(world: World, user_id: str, token: str, **fields: Any) -> httpx.Response:
    body = {"application_credential": {"name": "ci", **fields}}
    return await world.call("POST", f"/users/{user_id}/application_credentials", body, token=token)


async def log_in_with(world: World, credential: dict[str, Any], **changes: Any) -> httpx.Response:
    part = {"id": credential["id"], "secret": credential["secret"], **changes}
    identity = {"methods": ["application_credential"], "application_credential": part}
    return await world.authenticate(identity)


async def made(world: World, user_id: str, token: str, **fields: Any) -> dict[str, Any]:
    answer = await create_credential(world, user_id, token, **fields)
    assert answer.status_code == 201, answer.text
    credential: dict[str, Any] = answer.json()["application_credential"]
    return credential


async def test_a_credential_logs_in_to_its_project_with_its_roles(world: World) -> None:
    user, project = await world.create_member("ann")
    token = await world.token_of("ann")
    credential = await made(world, user["id"], token, roles=[{"name": "reader"}], description="d")
    assert credential["project_id"] == project["id"]
    assert [role["name"] for role in credential["roles"]] == ["reader"]
    shown = (await log_in_with(world, credential)).json()["token"]
    assert shown["methods"] == ["application_credential"]
    assert shown["project"]["id"] == project["id"]
    assert [role["name"] for role in shown["roles"]] == ["reader"]
    assert shown["application_credential"] == {"id": credential["id"], "name": "ci", "restricted": True}
    by_name = {"id": None, "name": "ci", "user": {"name": "ann", "domain": {"id": "default"}}}
    assert (await log_in_with(world, credential, **by_name)).status_code == 201
    assert (await log_in_with(world, credential, secret="wrong")).status_code == 401
    assert (await log_in_with(world, credential, id="0" * 32)).status_code == 401


async def test_the_secret_is_shown_once(world: World) -> None:
    user, _ = await world.create_member("ann")
    token = await world.token_of("ann")
    credential = await made(world, user["id"], token, secret="chosen-secret")
    assert credential["secret"] == "chosen-secret"
    path = f"/users/{user['id']}/application_credentials"
    one = (await world.get(f"{path}/{credential['id']}", token=token))["application_credential"]
    listed = (await world.get(f"{path}?name=ci", token=token))["application_credentials"]
    assert listed == [one]
    assert "secret" not in one
    assert one == {key: value for key, value in credential.items() if key != "secret"}
    assert (await world.get(f"{path}?name=other", token=token))["application_credentials"] == []


async def test_a_login_asks_for_no_scope_and_its_token_cannot_be_exchanged(world: World) -> None:
    user, project = await world.create_member("ann")
    credential = await made(world, user["id"], await world.token_of("ann"))
    part = {"id": credential["id"], "secret": credential["secret"]}
    identity = {"methods": ["application_credential"], "application_credential": part}
    assert (await world.authenticate(identity, {"project": {"id": project["id"]}})).status_code == 401
    token = (await log_in_with(world, credential)).headers["X-Subject-Token"]
    assert (await world.authenticate({"methods": ["token"], "token": {"id": token}}, "unscoped")).status_code == 403


async def test_bad_credentials_are_refused(world: World) -> None:
    user, _ = await world.create_member("ann")
    token = await world.token_of("ann")
    bad: tuple[dict[str, Any], ...] = (
        {"roles": [{"name": "admin"}]},
        {"roles": [{"id": "0" * 32}]},
        {"roles": [{}]},
        {"expires_at": "2020-01-01T00:00:00"},
        {"expires_at": "soon"},
        {"expires_at": "0001-01-01T00:00:00+14:00"},
        {"expires_at": "9999-12-31T23:59:59-14:00"},
        {"access_rules": [{"path": "/", "method": "GET", "service": "compute"}]},
        {"name": ""},
        {"name": "x" * 256},
        {"secret": ""},
    )
    for fields in bad:
        answer = await create_credential(world, user["id"], token, **fields)
        assert answer.status_code == 400, fields
    await made(world, user["id"], token, access_rules=[], roles=[], secret=None, expires_at=None)
    assert (await create_credential(world, user["id"], token)).status_code == 409
    unscoped = await world.token_of("ann", scoped=False)
    assert (await create_credential(world, user["id"], unscoped)).status_code == 403
    assert (await create_credential(world, user["id"], world.admin_token)).status_code == 403


async def test_an_expired_credential_and_its_tokens_end(world: World) -> None:
    user, _ = await world.create_member("ann")
    credential = await made(world, user["id"], await world.token_of("ann"), expires_at="2027-01-15T08:10:00")
    assert credential["expires_at"] == "2027-01-15T08:10:00.000000Z"
    answer = await log_in_with(world, credential)
    assert answer.json()["token"]["expires_at"] == credential["expires_at"]
    world.clock.advance(600)
    assert not await world.is_valid(answer.headers["X-Subject-Token"])
    assert (await log_in_with(world, credential)).status_code == 401


async def test_a_restricted_credential_makes_and_deletes_no_others(world: World) -> None:
    user, _ = await world.create_member("ann")
    token = await world.token_of("ann")
    for unrestricted, status in ((False, 403), (True, 201)):
        name = f"c-{unrestricted}"
        credential = await made(world, user["id"], token, name=name, unrestricted=unrestricted)
        theirs = (await log_in_with(world, credential)).headers["X-Subject-Token"]
        assert (await create_credential(world, user["id"], theirs, name=f"{name}-2")).status_code == status
        path = f"/users/{user['id']}/application_credentials/{credential['id']}"
        assert (await world.call("DELETE", path, token=theirs)).status_code == (204 if unrestricted else 403)


async def test_deleting_a_credential_ends_its_tokens_and_only_those(world: World) -> None:
    user, _ = await world.create_member("ann")
    await world.create_member("bob")
    token = await world.token_of("ann")
    credential = await made(world, user["id"], token)
    theirs = (await log_in_with(world, credential)).headers["X-Subject-Token"]
    path = f"/users/{user['id']}/application_credentials/{credential['id']}"
    assert (await world.call("DELETE", path, token=await world.token_of("bob"))).status_code == 403
    assert await world.is_valid(theirs)
    assert (await world.call("DELETE", path)).status_code == 204
    assert not await world.is_valid(theirs)
    assert await world.is_valid(token)
    assert (await log_in_with(world, credential)).status_code == 401
    assert (await world.call("GET", path)).status_code == 404


async def test_a_credential_has_no_role_that_its_user_has_lost(world: World) -> None:
    user, project = await world.create_member("ann")
    await world.assign(user["id"], project["id"], "reader")
    credential = await made(world, user["id"], await world.token_of("ann"))
    roles = f"/projects/{project['id']}/users/{user['id']}/roles"
    await world.call("DELETE", f"{roles}/{await world.role_id('member')}")
    shown = (await log_in_with(world, credential)).json()["token"]
    assert [role["name"] for role in shown["roles"]] == ["reader"]
    await world.call("DELETE", f"{roles}/{await world.role_id('reader')}")
    assert (await log_in_with(world, credential)).status_code == 401
    await world.assign(user["id"], project["id"], "reader")
    await world.call("PATCH", f"/users/{user['id']}", {"user": {"enabled": False}})
    assert (await log_in_with(world, credential)).status_code == 401
