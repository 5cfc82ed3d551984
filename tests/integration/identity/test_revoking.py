"""Taking a right away ends the tokens that carry it, at once, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kevel.domain.errors import Unauthenticated
from kevel.domain.identity import UserRef, WantedScope
from kevel.store import tokens
from kevel.store.tokens import NewToken, Proof
from tests.integration.identity.world import World, open_world

Act = Callable[[World, dict[str, Any], dict[str, Any]], Awaitable[int]]


async def disable_user(world: World, user: dict[str, Any], project: dict[str, Any]) -> int:
    return (await world.call("PATCH", f"/users/{user['id']}", {"user": {"enabled": False}})).status_code


async def delete_user(world: World, user: dict[str, Any], project: dict[str, Any]) -> int:
    return (await world.call("DELETE", f"/users/{user['id']}")).status_code


async def reset_password(world: World, user: dict[str, Any], project: dict[str, Any]) -> int:
    return (await world.call("PATCH", f"/users/{user['id']}", {"user": {"password": "new"}})).status_code


async def change_own_password(world: World, user: dict[str, Any], project: dict[str, Any]) -> int:
    body = {"user": {"original_password": "pw-ann", "password": "new"}}
    token = await world.token_of("ann")
    return (await world.call("POST", f"/users/{user['id']}/password", body, token=token)).status_code


async def disable_project(world: World, user: dict[str, Any], project: dict[str, Any]) -> int:
    return (await world.call("PATCH", f"/projects/{project['id']}", {"project": {"enabled": False}})).status_code


async def delete_project(world: World, user: dict[str, Any], project: dict[str, Any]) -> int:
    return (await world.call("DELETE", f"/projects/{project['id']}")).status_code


async def remove_role(world: World, user: dict[str, Any], project: dict[str, Any]) -> int:
    path = f"/projects/{project['id']}/users/{user['id']}/roles/{await world.role_id('member')}"
    return (await world.call("DELETE", path)).status_code


@pytest.mark.parametrize(
    ("act", "ends_unscoped"),
    [
        (disable_user, True),
        (delete_user, True),
        (reset_password, True),
        (change_own_password, True),
        (disable_project, False),
        (delete_project, False),
        (remove_role, False),
    ],
)
@pytest.mark.parametrize("cached_tokens_max", [0, 1024])
async def test_tokens_end_with_the_right_that_they_carry(
    tmp_path: Path, act: Act, ends_unscoped: bool, cached_tokens_max: int
) -> None:
    async with open_world(tmp_path, cached_tokens_max=cached_tokens_max) as world:
        user, project = await world.create_member("ann")
        await world.create_member("bob")
        scoped, unscoped = await world.token_of("ann"), await world.token_of("ann", scoped=False)
        bob = await world.token_of("bob")
        assert all([await world.is_valid(token) for token in (scoped, unscoped, bob)])
        assert await act(world, user, project) in (200, 204)
        assert not await world.is_valid(scoped)
        assert await world.is_valid(unscoped) is not ends_unscoped
        assert await world.is_valid(bob)
        assert await world.is_valid(world.admin_token)


async def test_disabling_a_domain_ends_its_users_and_projects_tokens(world: World) -> None:
    domain = await world.create("domain", name="away")
    project = await world.create("project", name="p", domain_id=domain["id"])
    user = await world.create("user", name="u", domain_id=domain["id"], password="pw")
    ann, _ = await world.create_member("ann")
    for user_id in (user["id"], ann["id"]):
        await world.assign(user_id, project["id"], "member")
    scope = {"project": {"id": project["id"]}}
    inside = {"methods": ["password"], "password": {"user": {"id": user["id"], "password": "pw"}}}
    theirs = (await world.authenticate(inside, scope)).headers["X-Subject-Token"]
    visiting = (await world.log_in("ann", "pw-ann", scope)).headers["X-Subject-Token"]
    home = await world.token_of("ann")
    await world.call("PATCH", f"/domains/{domain['id']}", {"domain": {"enabled": False}})
    assert [await world.is_valid(token) for token in (theirs, visiting, home)] == [False, False, True]
    assert (await world.authenticate(inside)).status_code == 401
    assert (await world.log_in("ann", "pw-ann", scope)).status_code == 401


async def test_a_role_renamed_or_deleted_is_in_no_token(world: World) -> None:
    role = await world.create("role", name="operator")
    await world.create_member("ann", role="operator")
    for change in (
        world.call("PATCH", f"/roles/{role['id']}", {"role": {"name": "steersman"}}),
        world.call("DELETE", f"/roles/{role['id']}"),
    ):
        token = await world.token_of("ann")
        assert (await change).status_code in (200, 204)
        assert not await world.is_valid(token)
    assert (
        await world.log_in("ann", "pw-ann", {"project": {"name": "ann", "domain": {"id": "default"}}})
    ).status_code == 401


async def test_a_renamed_user_is_shown_by_the_new_name_under_an_old_token(world: World) -> None:
    user, _ = await world.create_member("ann")
    token = await world.token_of("ann")
    assert (await world.identity.find_token(token)).user_name == "ann"
    await world.call("PATCH", f"/users/{user['id']}", {"user": {"name": "anna"}})
    assert (await world.identity.find_token(token)).user_name == "anna"


async def test_a_password_changed_during_a_login_gives_no_token(world: World) -> None:
    user, _ = await world.create_member("ann")
    found = await world.store.read(tokens.find_login, UserRef(id=user["id"]))
    assert found is not None
    proof = Proof(user_id=user["id"], password_hash=found[1])
    await world.call("PATCH", f"/users/{user['id']}", {"user": {"password": "new"}})
    now = world.clock.now_us()
    new = NewToken(hash="h", audit_id="a", now=now, expires_at=now + 1)
    with pytest.raises(Unauthenticated):
        await world.store.write(tokens.issue_token, new, proof, WantedScope())


async def test_the_wrong_original_password_changes_nothing(world: World) -> None:
    user, _ = await world.create_member("ann")
    token = await world.token_of("ann")
    body = {"user": {"original_password": "wrong", "password": "new"}}
    assert (await world.call("POST", f"/users/{user['id']}/password", body, token=token)).status_code == 401
    assert await world.is_valid(token)
    body["user"]["original_password"] = "pw-ann"
    assert (await world.call("POST", f"/users/{user['id']}/password", body)).status_code == 403
    assert (await world.log_in("ann", "pw-ann")).status_code == 201


async def test_a_token_read_before_its_end_is_not_remembered_after_it(world: World) -> None:
    """The read begins, the token is revoked, and only then does the read come back."""
    await world.create_member("ann")
    token = await world.token_of("ann")
    read = world.store.read
    gate = asyncio.Event()

    async def read_slowly(fn: Any, *args: Any, **kwargs: Any) -> Any:
        result = await read(fn, *args, **kwargs)
        if fn is tokens.find_token:
            await gate.wait()
        return result

    world.store.read = read_slowly  # type: ignore[method-assign]
    early = asyncio.create_task(world.identity.find_token(token))
    await asyncio.sleep(0.1)
    await world.identity.revoke_token(token)
    gate.set()
    await early
    with pytest.raises(Unauthenticated):
        await world.identity.find_token(token)


async def test_a_cancelled_revocation_that_was_committed_counts(world: World) -> None:
    await world.create_member("ann")
    token = await world.token_of("ann")
    assert await world.is_valid(token)
    task = asyncio.create_task(world.identity.revoke_token(token))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await world.store.write(lambda tx: None)
    assert not await world.is_valid(token)


async def test_the_cache_is_bounded(tmp_path: Path) -> None:
    async with open_world(tmp_path, cached_tokens_max=2) as world:
        await world.create_member("ann")
        for _ in range(5):
            assert await world.is_valid(await world.token_of("ann"))
        assert len(world.identity._cached) <= 2
