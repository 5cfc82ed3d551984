"""Quota sets of the compute API: what is shown at each microversion, who sets it, and what it refuses."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.compute.conftest import Stand, message
from tests.integration.stand import PROJECTS

MINE = f"/os-quota-sets/{PROJECTS['member']}"
CLASS = "/os-quota-class-sets/default"
COMMON = {"instances", "cores", "ram", "metadata_items", "key_pairs"}
GROUPS = {"server_groups", "server_group_members"}
FILES = {"injected_files", "injected_file_content_bytes", "injected_file_path_bytes"}
NETWORK = {"fixed_ips", "floating_ips", "security_groups", "security_group_rules"}


async def set_limits(stand: Stand, *, path: Any = MINE, version: Any = "2.35", **limits: Any) -> httpx.Response:
    return await stand.call("PUT", path, {"quota_set": limits}, caller="admin", version=version)


async def show(stand: Stand, path: str = MINE, *, caller: str = "member", version: str = "2.57") -> dict[str, Any]:
    answer = await stand.call("GET", path, caller=caller, version=version)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json().values()
    return dict(found)


@pytest.mark.parametrize(
    ("version", "keys"),
    [
        ("2.35", COMMON | GROUPS | FILES | NETWORK),
        ("2.36", COMMON | GROUPS | FILES),
        ("2.56", COMMON | GROUPS | FILES),
        ("2.57", COMMON | GROUPS),
    ],
)
async def test_a_set_has_the_resources_of_its_microversion(stand: Stand, version: str, keys: set[str]) -> None:
    for path in (MINE, f"{MINE}/defaults", f"{MINE}/detail", f"{MINE}?user_id=u-member"):
        assert (await show(stand, path, version=version)).keys() == keys | {"id"}
    changed = await set_limits(stand, version=version, cores="7")
    assert changed.json()["quota_set"].keys() == keys
    assert (await show(stand, version=version))["cores"] == 7
    for gone in (FILES | NETWORK) - keys:
        refused = await set_limits(stand, version=version, **{gone: 1})
        assert (refused.status_code, gone in message(refused)) == (400, True)


@pytest.mark.parametrize(
    ("version", "keys"),
    [
        ("2.49", COMMON | FILES | NETWORK),
        ("2.50", COMMON | FILES | GROUPS),
        ("2.57", COMMON | GROUPS),
    ],
)
async def test_a_class_has_the_resources_of_its_microversion(stand: Stand, version: str, keys: set[str]) -> None:
    assert (await show(stand, CLASS, caller="admin", version=version)).keys() == keys | {"id"}
    body = {"quota_class_set": {"cores": 9}}
    changed = await stand.call("PUT", CLASS, body, caller="admin", version=version)
    assert changed.json()["quota_class_set"].keys() == keys
    for gone in (FILES | NETWORK | GROUPS) - keys:
        body = {"quota_class_set": {gone: 1}}
        assert (await stand.call("PUT", CLASS, body, caller="admin", version=version)).status_code == 400


async def test_a_projects_word_counts_more_than_the_class_and_the_users_most(stand: Stand) -> None:
    user = f"{MINE}?user_id=u-member"
    assert (await show(stand))["instances"] == -1
    body = {"quota_class_set": {"instances": 9}}
    assert (await stand.call("PUT", CLASS, body, caller="admin")).status_code == 200
    assert [(await show(stand, path))["instances"] for path in (MINE, user, f"{MINE}/defaults")] == [9, 9, 9]
    await set_limits(stand, instances=5)
    assert [(await show(stand, path))["instances"] for path in (MINE, user, f"{MINE}/defaults")] == [5, 5, 9]
    assert (await set_limits(stand, path=user, instances=2)).json()["quota_set"]["instances"] == 2
    assert [(await show(stand, path))["instances"] for path in (MINE, user)] == [5, 2]
    for more in (6, -1):
        refused = await set_limits(stand, path=user, instances=more)
        assert (refused.status_code, "less than or equal to 5" in message(refused)) == (400, True)
    assert (await stand.call("DELETE", user, caller="admin")).status_code == 202
    assert (await show(stand, user))["instances"] == 5
    await set_limits(stand, path=user, instances=1)
    assert (await stand.call("DELETE", MINE, caller="admin")).status_code == 202
    assert [(await show(stand, path))["instances"] for path in (MINE, user)] == [9, 9]


async def test_quotas_of_volumes_are_left_alone(stand: Stand) -> None:
    from_others = await show(stand, MINE)
    assert not from_others.keys() & {"volumes", "gigabytes"}


async def test_who_may_see_and_set(stand: Stand) -> None:
    other = f"/os-quota-sets/{PROJECTS['other']}"
    for path in (other, f"{other}/detail", f"{other}?user_id=x"):
        assert (await stand.call("GET", path)).status_code == 403
        assert (await stand.call("GET", path, caller="admin")).status_code == 200
    assert (await stand.call("GET", f"{other}/defaults")).status_code == 200
    for method, path, body in (
        ("PUT", MINE, {"quota_set": {"ram": 0}}),
        ("DELETE", MINE, None),
        ("GET", CLASS, None),
        ("PUT", CLASS, {"quota_class_set": {"ram": 0}}),
    ):
        assert (await stand.call(method, path, body)).status_code == 403


@pytest.mark.parametrize(
    "limits", [{"cores": -2}, {"cores": "x"}, {"cores": 2**31}, {"cores": 1.5}, {"pigs": 1}, {"force": "perhaps"}]
)
async def test_what_is_no_limit_is_refused(stand: Stand, limits: dict[str, Any]) -> None:
    before = await show(stand)
    assert (await set_limits(stand, **limits)).status_code == 400
    assert await show(stand) == before
    if "force" not in limits:
        body = {"quota_class_set": limits}
        assert (await stand.call("PUT", CLASS, body, caller="admin")).status_code == 400


async def test_what_is_not_there_is_refused(stand: Stand) -> None:
    assert (await stand.call("GET", "/os-quota-class-sets/gold", caller="admin")).status_code == 404
    body = {"quota_class_set": {"cores": 1}}
    assert (await stand.call("PUT", "/os-quota-class-sets/gold", body, caller="admin")).status_code == 404
    for path in (MINE, f"{MINE}/detail"):
        assert (await stand.call("GET", f"{path}?stray=1", version="2.75")).status_code == 400
        assert (await stand.call("GET", f"{path}?stray=1", version="2.74")).status_code == 200
    long = f"/os-quota-sets/{'x' * 256}"
    for method, path in (("GET", long), ("GET", f"{long}/defaults"), ("GET", f"{long}/detail"), ("DELETE", long)):
        assert (await stand.call(method, path, caller="admin")).status_code == 400
    assert (await stand.call("DELETE", f"{MINE}?stray=1", caller="admin", version="2.75")).status_code == 400


async def test_less_than_is_in_use_needs_force(stand: Stand) -> None:
    await stand.make_server()
    refused = await set_limits(stand, instances=0)
    assert (refused.status_code, "already used and reserved 1" in message(refused)) == (400, True)
    assert (await set_limits(stand, instances=0, force="true")).status_code == 200
    detail = await show(stand, f"{MINE}/detail")
    assert detail["instances"] == {"limit": 0, "in_use": 1, "reserved": 0}
    assert detail["ram"] == {"limit": -1, "in_use": 96, "reserved": 0}


@pytest.mark.parametrize("resource", ["instances", "cores", "ram"])
async def test_a_server_beyond_the_quota_is_refused_in_novas_words(stand: Stand, resource: str) -> None:
    await stand.make_server()
    used = {"instances": 1, "cores": 1, "ram": 96}[resource]
    await set_limits(stand, **{resource: used})
    answer = await stand.ask_server()
    assert answer.status_code == 403
    assert message(answer) == (
        f"Quota exceeded for {resource}: Requested {used}, but already used {used} of {used} {resource}"
    )
    assert (await stand.ask_server(caller="admin")).status_code == 202, "another project has its own"
    assert len((await stand.call("GET", "/servers")).json()["servers"]) == 1


async def test_of_several_servers_as_many_are_made_as_the_quota_allows(stand: Stand) -> None:
    await set_limits(stand, instances=2)
    assert (await stand.ask_server(min_count=3, max_count=4)).status_code == 403
    assert (await stand.ask_server(min_count=1, max_count=4)).status_code == 202
    assert len((await stand.call("GET", "/servers")).json()["servers"]) == 2


async def test_a_users_own_limit_holds_for_him_alone(stand: Stand) -> None:
    await set_limits(stand, path=f"{MINE}?user_id=u-member", instances=0)
    assert (await stand.ask_server()).status_code == 403
    await set_limits(stand, path=f"{MINE}?user_id=somebody", instances=0, force=True)
    await stand.call("DELETE", f"{MINE}?user_id=u-member", caller="admin")
    assert (await stand.ask_server()).status_code == 202


async def test_metadata_beyond_the_quota_is_refused(stand: Stand) -> None:
    await set_limits(stand, metadata_items=1)
    many = {"a": "1", "b": "2"}
    answer = await stand.ask_server(metadata=many)
    assert (answer.status_code, "metadata items" in message(answer)) == (403, True)
    server_id = await stand.make_server(metadata={"a": "1"})
    path = f"/servers/{server_id}/metadata"
    assert (await stand.call("POST", path, {"metadata": {"b": "2"}})).status_code == 403
    assert (await stand.call("PUT", path, {"metadata": {"b": "2"}})).status_code == 200
