"""What projects have used, counted from the rows of their servers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kevel.store.servers import load_server, update_shown
from kevel.store.transactions import Tx
from tests.integration.compute.conftest import Stand, message
from tests.integration.stand import PROJECTS

PATH = "/os-simple-tenant-usage"
HOUR_US = 3_600_000_000


def span(stand: Stand, start_h: float, end_h: float) -> str:
    """A span that begins and ends so many hours from now."""
    now = datetime.fromtimestamp(stand.now / 1e6, tz=UTC)
    start, end = ((now + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S.%f") for hours in (start_h, end_h))
    return f"start={start}&end={end}"


async def make_used(stand: Stand, hours: float, *, ended_h: float | None = None, **keys: Any) -> str:
    """A server that was started so many hours ago, and is gone since `ended_h` hours."""
    server_id = await stand.make_server(**keys)

    def date_back(tx: Tx) -> None:
        server = load_server(tx, server_id)
        assert server is not None
        values = {"launched_at": stand.now - int(hours * HOUR_US)}
        if ended_h is not None:
            values["terminated_at"] = stand.now - int(ended_h * HOUR_US)
        update_shown(tx, server, at=stand.now, **values)

    await stand.runtime.store.write(date_back)
    return server_id


async def show(stand: Stand, path: str, *, version: str = "2.1", caller: str = "admin") -> Any:
    answer = await stand.call("GET", path, caller=caller, version=version)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_hours_count_inside_the_span_only(stand: Stand) -> None:
    await make_used(stand, 10)
    await make_used(stand, 10, ended_h=8)
    await make_used(stand, 10, ended_h=9.5)
    await make_used(stand, 2, flavorRef="1")
    usage = (await show(stand, f"{PATH}/{PROJECTS['member']}?{span(stand, -9, -1)}"))["tenant_usage"]
    hours = {
        name: sorted(round(one["hours"], 2) for one in usage["server_usages"] if one["flavor"] == name)
        for name in {one["flavor"] for one in usage["server_usages"]}
    }
    assert sorted(hours.values()) == [[1.0], [1.0, 8.0]]
    assert round(usage["total_hours"], 2) == 10.0
    assert round(usage["total_vcpus_usage"], 2) == 10.0
    assert round(usage["total_memory_mb_usage"]) == 9 * 96 + 512
    ended = next(one for one in usage["server_usages"] if one["ended_at"] is not None)
    assert (ended["state"], ended["uptime"] // 3600) == ("terminated", 2)
    running = next(one for one in usage["server_usages"] if one["ended_at"] is None)
    assert (running["state"], running["tenant_id"], running["name"]) == ("active", PROJECTS["member"], "web")


async def test_a_project_without_servers_has_used_nothing(stand: Stand) -> None:
    await stand.make_server(rung=None)  # never started
    for caller, project in (("member", PROJECTS["member"]), ("other", PROJECTS["other"])):
        assert await show(stand, f"{PATH}/{project}", caller=caller) == {"tenant_usage": {}}
    assert await show(stand, PATH) == {"tenant_usages": []}


async def test_all_projects_usage_is_for_admins_and_tells_servers_when_asked(stand: Stand) -> None:
    await make_used(stand, 3)
    await make_used(stand, 1, caller="admin")
    path = f"{PATH}?{span(stand, -2, 5)}"
    first, second = (await show(stand, path))["tenant_usages"]
    assert (first["tenant_id"], second["tenant_id"]) == (PROJECTS["member"], PROJECTS["admin"])
    assert (round(first["total_hours"], 1), round(second["total_hours"], 1)) == (2.0, 1.0)
    assert "server_usages" not in first
    for yes in ("1", "True"):
        (first, _) = (await show(stand, f"{path}&detailed={yes}"))["tenant_usages"]
        assert len(first["server_usages"]) == 1
    assert (await stand.call("GET", path)).status_code == 403
    answer = await stand.call("GET", f"{PATH}/{PROJECTS['other']}")
    assert (answer.status_code, message(answer)) == (403, "You may read what your own project uses.")
    assert (await show(stand, f"{PATH}/{PROJECTS['member']}?{span(stand, -2, 0)}"))["tenant_usage"]["server_usages"]


@pytest.mark.parametrize("collection", [PATH, f"{PATH}/{PROJECTS['member']}"])
async def test_usage_comes_in_pages_from_2_40_on(stand: Stand, collection: str) -> None:
    made = {await make_used(stand, 1) for _ in range(3)}
    query, key = span(stand, -2, 0), "tenant_usages" if collection == PATH else "tenant_usage"

    def servers(body: Any) -> list[str]:
        projects = body[key] if collection == PATH else [body[key]]
        return [one["instance_id"] for project in projects for one in project.get("server_usages", [])]

    whole = await show(stand, f"{collection}?{query}&detailed=1&limit=1&marker=x", version="2.39")
    assert set(servers(whole)) == made
    assert f"{key}_links" not in whole
    seen, path = [], f"{collection}?{query}&detailed=1&limit=2"
    while path:
        body = await show(stand, path, version="2.40")
        seen += servers(body)
        (link,) = body.get(f"{key}_links", [{"href": ""}])
        path = link["href"].partition("/compute/v2.1")[2]
    assert sorted(seen) == sorted(made)


async def test_without_pages_all_servers_are_counted_however_many(stand: Stand) -> None:
    for _ in range(2):
        await make_used(stand, 1)
    stand.past.page_rows_max = 1
    usage = (await show(stand, f"{PATH}/{PROJECTS['member']}?{span(stand, -2, 0)}"))["tenant_usage"]
    assert len(usage["server_usages"]) == 2


@pytest.mark.parametrize("collection", [PATH, f"{PATH}/{PROJECTS['member']}"])
async def test_a_span_that_is_none_is_refused(stand: Stand, collection: str) -> None:
    for query, version in (
        ("start=yesterday", "2.1"),
        ("end=2020-01-01", "2.1"),
        ("start=2020-01-02T00:00:00&end=2020-01-01T00:00:00", "2.1"),
        ("limit=few", "2.40"),
        ("marker=none", "2.40"),
        ("stray=1", "2.75"),
    ):
        answer = await stand.call("GET", f"{collection}?{query}", caller="admin", version=version)
        assert answer.status_code == 400, f"{query}: {answer.text}"
    for query in ("start=2020-01-01T00:00:00", "start=2020-01-01%2000:00:00.000000&end=2021-01-01T00:00:00", "stray=1"):
        assert await show(stand, f"{collection}?{query}", version="2.74")
