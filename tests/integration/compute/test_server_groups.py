"""Server groups: shapes at every microversion, and whose they are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx
import pytest

from kevel.store.hosts import register_host
from kevel.store.transactions import Tx
from tests.integration.compute.conftest import FACTS, HOST, Stand, message
from tests.integration.stand import PROJECTS

GROUPS = "/os-server-groups"
BY_VERSION = {"2.1": "anti-affinity", "2.14": "affinity", "2.15": "soft-affinity", "2.63": "soft-anti-affinity"}


async def make_group(stand: Stand, *, caller: str = "member", version: str = "2.64", **keys: Any) -> dict[str, Any]:
    body = {"server_group": {"name": "g", "policy": "affinity"} | keys}
    answer = await stand.call("POST", GROUPS, body, caller=caller, version=version)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["server_group"])


@pytest.mark.parametrize("version", [*BY_VERSION, "2.64"])
async def test_a_group_is_made_shown_and_deleted(stand: Stand, version: str) -> None:
    wanted: dict[str, Any] = {"policies": [BY_VERSION.get(version, "")]}
    if version == "2.64":
        wanted = {"policy": "anti-affinity", "rules": {"max_server_per_host": 2}}
    body = {"server_group": {"name": "g", **wanted}}
    answer = await stand.call("POST", GROUPS, body, version=version)
    assert answer.status_code == 200, answer.text
    group = answer.json()["server_group"]
    old: dict[str, Any] = {} if version == "2.64" else {"metadata": {}}
    owner = {} if version == "2.1" else {"project_id": PROJECTS["member"], "user_id": "u-member"}
    assert group == {"id": group["id"], "name": "g", "members": [], **wanted, **old, **owner}
    assert (await stand.call("GET", GROUPS, version=version)).json() == {"server_groups": [group]}
    path = f"{GROUPS}/{group['id']}"
    assert (await stand.call("GET", path, version=version)).json() == {"server_group": group}
    assert (await stand.call("DELETE", path, version=version)).status_code == 204
    for method in ("GET", "DELETE"):
        assert (await stand.call(method, path, version=version)).status_code == 404
    assert (await stand.call("GET", GROUPS, version=version)).json() == {"server_groups": []}


@pytest.mark.parametrize(
    ("version", "keys"),
    [
        ("2.14", {"policies": ["soft-affinity"]}),
        ("2.14", {"policies": []}),
        ("2.14", {"policy": "affinity"}),
        ("2.63", {"policies": ["affinity", "anti-affinity"]}),
        ("2.63", {"policies": ["near"]}),
        ("2.64", {"policies": ["affinity"]}),
        ("2.64", {"policy": "affinity", "rules": {"max_server_per_host": 2}}),
        ("2.64", {"policy": "anti-affinity", "rules": {"max_server_per_host": 0}}),
        ("2.64", {"policy": "anti-affinity", "rules": {"stray": 1}}),
        ("2.64", {"policy": "affinity", "name": ""}),
        ("2.64", {"policy": "affinity", "name": " g"}),
        ("2.64", {"policy": "affinity", "name": "g" * 256}),
    ],
)
async def test_what_is_no_group_is_refused(stand: Stand, version: str, keys: dict[str, Any]) -> None:
    answer = await stand.call("POST", GROUPS, {"server_group": {"name": "g"} | keys}, version=version)
    assert answer.status_code == 400, answer.text
    assert message(answer)
    assert (await stand.call("GET", GROUPS)).json() == {"server_groups": []}


async def test_groups_belong_to_their_project(stand: Stand) -> None:
    mine, theirs = await make_group(stand), await make_group(stand, caller="other")
    for method in ("GET", "DELETE"):
        assert (await stand.call(method, f"{GROUPS}/{theirs['id']}")).status_code == 404
    listed = (await stand.call("GET", GROUPS, version="2.64")).json()["server_groups"]
    assert listed == [mine]
    everywhere = f"{GROUPS}?all_projects=True"
    assert (await stand.call("GET", everywhere)).status_code == 403
    found = (await stand.call("GET", everywhere, caller="admin", version="2.64")).json()["server_groups"]
    assert found == [mine, theirs]
    paged = f"{everywhere}&limit=1&offset=1"
    assert (await stand.call("GET", paged, caller="admin", version="2.64")).json()["server_groups"] == [theirs]
    assert (await stand.call("GET", f"{GROUPS}?limit=x")).status_code == 400
    assert (await stand.call("GET", f"{GROUPS}?stray=1", version="2.75")).status_code == 400
    for version, keys in (("2.14", {"policies": ["affinity"]}), ("2.64", {"policy": "affinity"})):
        body = {"server_group": {"name": "g", **keys}}
        assert (await stand.call("POST", GROUPS, body, caller="reader", version=version)).status_code == 403
    assert (await stand.call("DELETE", f"{GROUPS}/{mine['id']}", caller="reader")).status_code == 403


async def test_the_quota_bounds_groups(stand: Stand) -> None:
    quota = f"/os-quota-sets/{PROJECTS['member']}"
    body = {"quota_set": {"server_groups": 1}}
    assert (await stand.call("PUT", quota, body, caller="admin")).status_code == 200
    await make_group(stand)
    for version, keys in (
        ("2.14", {"policies": ["affinity"]}),
        ("2.63", {"policies": ["affinity"]}),
        ("2.64", {"policy": "affinity"}),
    ):
        answer = await stand.call("POST", GROUPS, {"server_group": {"name": "g", **keys}}, version=version)
        assert (answer.status_code, "too many server groups" in message(answer)) == (403, True)
    absolute = (await stand.call("GET", "/limits")).json()["limits"]["absolute"]
    assert (absolute["maxServerGroups"], absolute["totalServerGroupsUsed"]) == (1, 1)


def _enter_host(tx: Tx, name: str, at: int) -> None:
    register_host(tx, name=name, availability_zone="nova", facts=FACTS, at=at)


async def hosts_of(stand: Stand, group_id: str) -> list[str]:
    """Where the group's servers were placed, in the order of their making."""
    members = (await stand.call("GET", f"{GROUPS}/{group_id}")).json()["server_group"]["members"]
    hosts = []
    for server_id in members:
        shown = (await stand.call("GET", f"/servers/{server_id}", caller="admin")).json()["server"]
        hosts.append(shown["OS-EXT-SRV-ATTR:host"])
    return hosts


async def ask(stand: Stand, hints: object, *, count: int = 1, caller: str = "member") -> httpx.Response:
    keys = {"name": "web", "flavorRef": "tiny", "imageRef": stand.image_id, "networks": "none", "min_count": count}
    return await stand.call(
        "POST", "/servers", {"server": keys, "os:scheduler_hints": hints}, caller=caller, version="2.100"
    )


@pytest.mark.parametrize(
    ("keys", "placed", "refused"),
    [
        ({"policy": "affinity"}, [3], None),
        ({"policy": "anti-affinity"}, [1, 1], "anti-affinity"),
        ({"policy": "anti-affinity", "rules": {"max_server_per_host": 2}}, [2, 2], "anti-affinity"),
        ({"policy": "soft-affinity"}, [3], None),
        ({"policy": "soft-anti-affinity"}, [2, 2], None),
    ],
    ids=str,
)
async def test_a_groups_policy_says_where_its_servers_go(
    stand: Stand, keys: dict[str, Any], placed: list[int], refused: str | None
) -> None:
    await stand.runtime.store.write(_enter_host, "host-2", stand.now)
    group = await make_group(stand, **keys)
    for _ in range(sum(placed)):
        answer = await ask(stand, {"group": group["id"]})
        assert answer.status_code == 202, answer.text
    assert sorted(Counter(await hosts_of(stand, group["id"])).values()) == placed
    if refused is not None:
        answer = await ask(stand, {"group": group["id"]})
        assert (answer.status_code, refused in message(answer)) == (409, True)


async def test_a_server_shows_its_group_and_its_hint(stand: Stand) -> None:
    group = await make_group(stand)
    server_id = (await ask(stand, {"group": group["id"]})).json()["server"]["id"]
    shown = (await stand.call("GET", f"/servers/{server_id}", version="2.100")).json()["server"]
    assert (shown["server_groups"], shown["scheduler_hints"]) == ([group["id"]], {"group": group["id"]})
    assert (await stand.call("DELETE", f"{GROUPS}/{group['id']}")).status_code == 204
    shown = (await stand.call("GET", f"/servers/{server_id}", version="2.100")).json()["server"]
    assert (shown["server_groups"], shown["scheduler_hints"]) == ([], {"group": group["id"]})


async def test_servers_that_are_asked_for_together_keep_to_the_policy(stand: Stand) -> None:
    await stand.runtime.store.write(_enter_host, "host-2", stand.now)
    group = await make_group(stand, policy="anti-affinity")
    assert (await ask(stand, {"group": group["id"]}, count=3)).status_code == 409
    assert (await ask(stand, {"group": group["id"]}, count=2)).status_code == 202
    assert sorted(await hosts_of(stand, group["id"])) == [HOST, "host-2"]


async def test_a_hint_that_names_no_group_of_ones_own_is_refused(stand: Stand) -> None:
    theirs = await make_group(stand, caller="other")
    for hints in ({"group": theirs["id"]}, {"group": "x"}, {"group": 7}, {"query": "x"}, ["group"], "group"):
        answer = await ask(stand, hints)
        assert answer.status_code == 400, (hints, answer.text)
    assert (await stand.call("GET", "/servers")).json()["servers"] == []
    assert (await ask(stand, {})).status_code == 202


async def test_the_quota_bounds_the_servers_of_a_group(stand: Stand) -> None:
    quota = f"/os-quota-sets/{PROJECTS['member']}"
    await stand.call("PUT", quota, {"quota_set": {"server_group_members": 1}}, caller="admin")
    group = await make_group(stand)
    assert (await ask(stand, {"group": group["id"]})).status_code == 202
    answer = await ask(stand, {"group": group["id"]})
    assert (answer.status_code, "too many servers in group" in message(answer)) == (403, True)


async def test_a_server_is_placed_beside_or_away_from_others(stand: Stand) -> None:
    await stand.runtime.store.write(_enter_host, "host-2", stand.now)
    first = (await ask(stand, {})).json()["server"]["id"]

    async def host_of(server_id: str) -> str:
        shown = (await stand.call("GET", f"/servers/{server_id}", caller="admin")).json()["server"]
        return str(shown["OS-EXT-SRV-ATTR:host"])

    beside = (await ask(stand, {"same_host": first})).json()["server"]["id"]
    away = (await ask(stand, {"different_host": [first, beside]})).json()["server"]["id"]
    assert await host_of(beside) == await host_of(first) != await host_of(away)
    refused = await ask(stand, {"different_host": [first, away]})
    assert (refused.status_code, "2 not what was asked for" in message(refused)) == (409, True)
    refused = await ask(stand, {"same_host": [first], "different_host": [first]})
    assert refused.status_code == 409
    assert (await ask(stand, {"same_host": first}, caller="other")).status_code == 400
    nonsense: tuple[object, ...] = ("x", 7, ["x"], {}, [first] * 101)
    for wrong in nonsense:
        assert (await ask(stand, {"same_host": wrong})).status_code == 400
