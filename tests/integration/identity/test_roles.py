from __future__ import annotations

import pytest

from tests.integration.identity.world import World


@pytest.mark.parametrize("place", ["projects/{project}", "domains/default", "system"])
async def test_a_role_is_assigned_checked_listed_and_taken_away(world: World, place: str) -> None:
    user = await world.create("user", name="u")
    project = await world.create("project", name="p")
    role = await world.create("role", name="r")
    roles = f"/{place.format(project=project['id'])}/users/{user['id']}/roles"
    one = f"{roles}/{role['id']}"
    assert (await world.call("HEAD", one)).status_code == 404
    for _ in range(2):
        assert (await world.call("PUT", one)).status_code == 204
    assert (await world.call("HEAD", one)).status_code == 204
    assert (await world.call("GET", one)).status_code == 204
    assert [item["id"] for item in (await world.get(roles))["roles"]] == [role["id"]]
    assert (await world.call("DELETE", one)).status_code == 204
    assert (await world.call("DELETE", one)).status_code == 404
    assert (await world.get(roles))["roles"] == []


async def test_an_assignment_of_what_does_not_exist_is_404(world: World) -> None:
    user, project = await world.create_member("ann")
    role, nothing = await world.role_id("member"), "0" * 32
    for path in (
        f"/projects/{nothing}/users/{user['id']}/roles/{role}",
        f"/projects/{project['id']}/users/{nothing}/roles/{role}",
        f"/projects/{project['id']}/users/{user['id']}/roles/{nothing}",
        f"/domains/{nothing}/users/{user['id']}/roles/{role}",
        f"/system/users/{nothing}/roles/{role}",
    ):
        for method in ("PUT", "HEAD", "GET", "DELETE"):
            assert (await world.call(method, path)).status_code == 404, (method, path)


async def test_assignments_are_listed_by_every_filter_with_names_if_wanted(world: World) -> None:
    user, project = await world.create_member("ann")
    await world.create_member("bob")
    role = await world.role_id("member")
    await world.call("PUT", f"/system/users/{user['id']}/roles/{role}")
    await world.call("PUT", f"/domains/default/users/{user['id']}/roles/{role}")

    async def ask(query: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = (await world.get(f"/role_assignments?{query}"))["role_assignments"]
        return found

    assert len(await ask("")) == 6
    assert len(await ask(f"user.id={user['id']}")) == 3
    assert len(await ask(f"role.id={role}")) == 4
    assert [item["scope"] for item in await ask(f"user.id={user['id']}&scope.system=all")] == [
        {"system": {"all": True}}
    ]
    assert [item["scope"] for item in await ask("scope.domain.id=default")] == [{"domain": {"id": "default"}}]
    assert await ask("group.id=x") == []
    assert await ask("scope.OS-INHERIT:inherited_to=projects") == []
    assert (await world.call("GET", "/role_assignments?scope.domain.id=a&scope.system=all")).status_code == 400
    (named,) = await ask(f"scope.project.id={project['id']}&include_names=True")
    home = {"id": "default", "name": "Default"}
    assert named == {
        "role": {"id": role, "name": "member"},
        "user": {"id": user["id"], "name": "ann", "domain": home},
        "scope": {"project": {"id": project["id"], "name": "ann", "domain": home}},
        "links": {
            "assignment": f"http://kevel.test/identity/v3/projects/{project['id']}/users/{user['id']}/roles/{role}"
        },
    }


async def test_effective_assignments_hold_what_roles_imply(world: World) -> None:
    _, project = await world.create_member("ann")
    path = f"/role_assignments?effective&include_names&scope.project.id={project['id']}"
    found = (await world.get(path))["role_assignments"]
    assert sorted(item["role"]["name"] for item in found) == ["member", "reader"]
    reader = await world.role_id("reader")
    only = (await world.get(f"{path}&role.id={reader}"))["role_assignments"]
    assert [item["role"]["name"] for item in only] == ["reader"]
    plain = (await world.get(path.replace("effective", "effective=false")))["role_assignments"]
    assert [item["role"]["name"] for item in plain] == ["member"]


async def test_users_may_list_their_own_assignments(world: World) -> None:
    user, _ = await world.create_member("ann")
    token = await world.token_of("ann")
    assert len((await world.get(f"/role_assignments?user.id={user['id']}", token=token))["role_assignments"]) == 1
