"""What every row of the table owes: 403 without the role, 404 for what is not there, 400 for what makes no sense."""

from __future__ import annotations

from typing import Any, Final

import pytest

from kevel.api.identity import API
from kevel.api.operations import Operation, Policy
from kevel.control.identity import passwords
from tests.integration.identity.test_resources import KINDS
from tests.integration.identity.world import World
from tests.integration.rows import NOTHING, Asker, read_everything, rows_shut_to, rows_with

#: What has ids in the paths.
THINGS: Final = ("resource_id", "scope_id", "user_id", "role_id", "credential_id")
#: Bodies of changes that could be.
BODIES: Final[dict[str, Any]] = {
    f"change{kind.capitalize()}": {kind: change} for kind, _, change, _ in (*KINDS, ("endpoint", {}, {}, ""))
}
ASKER: Final = Asker(API, BODIES, prefix=API.prefix)
#: Users do these for themselves only: an admin is refused, too.
OWN: Final = ("changeOwnPassword", "createApplicationCredential")
KINDS_IN_PATHS: Final = [kind for kind, *_ in KINDS] + ["endpoint"]


async def test_a_member_is_refused_what_is_for_admins(world: World) -> None:
    await world.create_member("ann")
    world.http.headers["X-Auth-Token"] = await world.token_of("ann")
    before = await world.store.read(read_everything)
    wrong = await ASKER.find_unrefused(world.http, rows_shut_to(API, "member"), {}, lambda row: 403)
    assert not wrong, "\n".join(wrong)
    assert await world.store.read(read_everything) == before


async def test_what_is_not_there_is_not_found(world: World) -> None:
    world.http.headers["X-Auth-Token"] = world.admin_token
    before = await world.store.read(read_everything)

    def wanted(row: Operation) -> int:
        return 403 if row.name in OWN else 404

    things = dict.fromkeys(THINGS, NOTHING)
    wrong = await ASKER.find_unrefused(world.http, rows_with(API, THINGS), things, wanted)
    assert not wrong, "\n".join(wrong)
    assert await world.store.read(read_everything) == before


async def test_nobody_does_for_others_what_users_do_for_themselves(world: World) -> None:
    user, _ = await world.create_member("ann")
    await world.create_member("bob")
    world.http.headers["X-Auth-Token"] = await world.token_of("bob")
    before = await world.store.read(read_everything)
    rows = [row for row in rows_with(API, ("user_id",)) if row.policy is Policy.TOKEN]
    things = {"user_id": user["id"], "credential_id": NOTHING}
    wrong = await ASKER.find_unrefused(world.http, rows, things, lambda row: 403)
    assert not wrong, "\n".join(wrong)
    assert await world.store.read(read_everything) == before


@pytest.mark.parametrize("kind", KINDS_IN_PATHS)
async def test_a_list_is_asked_for_a_number_of_rows(world: World, kind: str) -> None:
    assert (await world.call("GET", f"/{kind}s?limit=few")).status_code == 400


async def test_a_users_projects_are_asked_for_a_number_of_rows(world: World) -> None:
    user, _ = await world.create_member("ann")
    assert (await world.call("GET", f"/users/{user['id']}/projects?limit=few")).status_code == 400


@pytest.mark.parametrize("kind", KINDS_IN_PATHS)
async def test_what_is_made_or_changed_has_to_be_an_object(world: World, kind: str) -> None:
    assert (await world.call("POST", f"/{kind}s", {kind: [5]})).status_code == 400
    answer = await world.call("PATCH", f"/{kind}s/{NOTHING}", {kind: [5]})
    assert answer.status_code == 400, answer.text


async def test_a_project_in_an_unknown_domain_is_404(world: World) -> None:
    answer = await world.call("POST", "/projects", {"project": {"name": "p", "domain_id": "nowhere"}})
    assert answer.status_code == 404


async def test_an_endpoint_is_shown_changed_and_deleted(world: World) -> None:
    service = await world.create("service", type="network")
    endpoint = await world.create("endpoint", service_id=service["id"], interface="public", url="http://a")
    path = f"/endpoints/{endpoint['id']}"
    assert (await world.get(path))["endpoint"] == endpoint
    changed = await world.call("PATCH", path, {"endpoint": {"url": "http://b"}})
    assert changed.json()["endpoint"] == endpoint | {"url": "http://b"}
    assert (await world.call("PATCH", path, {"endpoint": {"service_id": "none"}})).status_code == 400
    assert (await world.call("DELETE", path)).status_code == 204
    assert (await world.call("GET", path)).status_code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_a_token_is_asked_about_by_a_header(world: World, method: str) -> None:
    assert (await world.call(method, "/auth/tokens")).status_code == 400
    world.http.headers["X-Subject-Token"] = "unknown"
    assert (await world.call(method, "/auth/tokens")).status_code == 404


async def test_logins_beyond_those_that_wait_are_put_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    user, _ = await world.create_member("ann")
    token = await world.token_of("ann")
    change = {"user": {"password": "pw-new", "original_password": "pw-ann"}}
    credential = {"application_credential": {"name": "c"}}
    monkeypatch.setattr(passwords, "HASHES_WAITING_MAX", 0)
    assert (await world.log_in("ann", "pw-ann")).status_code == 503
    assert (await world.call("POST", f"/users/{user['id']}/password", change, token=token)).status_code == 503
    path = f"/users/{user['id']}/application_credentials"
    assert (await world.call("POST", path, credential, token=token)).status_code == 503
    monkeypatch.undo()
    assert (await world.log_in("ann", "pw-ann")).status_code == 201
    answer = await world.call("POST", f"/users/{user['id']}/password", {"user": {"password": ""}}, token=token)
    assert answer.status_code == 400
