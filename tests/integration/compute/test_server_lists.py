from __future__ import annotations

from typing import Any

import pytest

from kevel.domain.model import ServerRung
from tests.integration.compute.conftest import Stand, message


async def names(stand: Stand, query: str, *, caller: str = "member", version: str | None = None) -> list[str]:
    answer = await stand.call("GET", f"/servers?{query}", caller=caller, version=version)
    assert answer.status_code == 200, answer.text
    return [server["name"] for server in answer.json()["servers"]]


async def test_lists_are_filtered_as_asked(stand: Stand) -> None:
    web = await stand.make_server(name="web-1")
    await stand.make_server(name="web-2", rung=None)
    await stand.make_server(name="db (main)", flavorRef="1", availability_zone="nova")
    await stand.call("POST", f"/servers/{web}/action", {"os-stop": None})
    await stand.host_saw(web, ServerRung.DEFINED)
    wanted: dict[str, set[str]] = {
        "": {"web-1", "web-2", "db (main)"},
        "name=web": {"web-1", "web-2"},
        "name=^web-[0-9]%2B$": {"web-1", "web-2"},
        "name=db%20(main)": {"db (main)"},
        "name=none": set(),
        "status=SHUTOFF": {"web-1"},
        "status=shutoff&status=BUILD": {"web-1", "web-2"},
        "status=NONSENSE": set(),
        "flavor=1": {"db (main)"},
        f"image={stand.image_id}": {"web-1", "web-2", "db (main)"},
        "image=other": set(),
        f"uuid={web}": {"web-1"},
        "vm_state=building": {"web-2"},
        "task_state=spawning": {"web-2"},
        "power_state=1": {"db (main)"},
        "availability_zone=moon": set(),
        "locked=true": set(),
        "pinned_availability_zone=nova": {"db (main)"},
        "user_id=u-member": {"web-1", "web-2", "db (main)"},
        "user_id=u-other": set(),
        "changes-since=2099-01-01T00:00:00Z": set(),
        "changes-since=2001-01-01T00:00:00": {"web-1", "web-2", "db (main)"},
        "deleted=False&all_tenants=False": {"web-1", "web-2", "db (main)"},
        "host=host-9": {"web-1", "web-2", "db (main)"},
    }
    for query, expected in wanted.items():
        assert set(await names(stand, query)) == expected, query
    assert set(await names(stand, "all_tenants=1&host=host-9", caller="admin")) == set()


async def test_changes_since_shows_what_is_gone(stand: Stand) -> None:
    server_id = await stand.make_server()
    await stand.call("DELETE", f"/servers/{server_id}")
    await stand.host_saw(server_id, ServerRung.PLACED)
    assert await names(stand, "") == []
    answer = await stand.call("GET", "/servers/detail?changes-since=2001-01-01T00:00:00Z")
    assert [server["status"] for server in answer.json()["servers"]] == ["DELETED"]


async def test_only_admins_see_all_projects(stand: Stand) -> None:
    await stand.make_server(name="mine")
    assert (await stand.call("GET", "/servers?all_tenants=1")).status_code == 403
    assert await names(stand, "", caller="admin") == []
    assert await names(stand, "all_tenants=True", caller="admin") == ["mine"]
    assert await names(stand, f"all_tenants=1&project_id={'11' * 16}", caller="admin") == ["mine"]
    assert await names(stand, f"all_tenants=1&project_id={'22' * 16}", caller="admin") == []
    assert await names(stand, f"project_id={'11' * 16}", caller="admin") == []
    assert await names(stand, f"project_id={'11' * 16}", caller="other") == []


async def test_pages_follow_each_other_by_their_links(stand: Stand) -> None:
    made = [await stand.make_server(name=f"s{number}") for number in range(5)]
    seen: list[str] = []
    path: str | None = "/servers/detail?limit=2&sort_key=created_at&sort_dir=asc"
    for _ in range(4):
        if path is None:
            break
        body = (await stand.call("GET", path)).json()
        seen += [server["id"] for server in body["servers"]]
        links = {link["rel"]: link["href"] for link in body.get("servers_links", [])}
        path = links.get("next")
    assert path is None
    assert seen == made
    assert await names(stand, "limit=0") == []
    assert await names(stand, f"marker={made[1]}&name=s&limit=1&sort_key=display_name&sort_dir=asc") == ["s2"]
    assert await names(stand, "sort_key=display_name&sort_dir=desc&sort_key=uuid&sort_dir=asc&limit=2") == ["s4", "s3"]


async def test_a_page_is_never_longer_than_the_limit_of_the_configuration(stand: Stand) -> None:
    for _ in range(11):
        await stand.make_server()
    body: dict[str, Any] = (await stand.call("GET", "/servers?limit=1000")).json()
    assert len(body["servers"]) == 10
    assert "servers_links" in body


@pytest.mark.parametrize(
    ("query", "version"),
    [
        ("limit=-1", None),
        ("limit=two", None),
        ("marker=none", None),
        ("sort_key=secret", None),
        ("sort_key=uuid&sort_dir=up", None),
        ("sort_key=uuid&sort_dir=asc&sort_dir=asc", None),
        ("changes-since=yesterday", None),
        ("locked=perhaps", None),
        ("ip=10.0.0.1", None),
        ("tags=a", None),
        ("power_state=on", None),
        (f"name={'x' * 256}", None),
        ("nonsense=1", "2.75"),
    ],
)
async def test_a_malformed_query_is_400(stand: Stand, query: str, version: str | None) -> None:
    answer = await stand.call("GET", f"/servers/detail?{query}", version=version)
    assert answer.status_code == 400
    assert message(answer)


async def test_unknown_query_parameters_were_ignored_before_2_75(stand: Stand) -> None:
    await stand.make_server(name="a")
    assert await names(stand, "nonsense=1", version="2.74") == ["a"]
