"""/kevel/v1/hosts: what operators see of hosts, and how they let agents in and shut them out."""

from __future__ import annotations

import pytest

from kevel.api.kevel.hosts import OPERATIONS
from tests.integration.agents.conftest import Stand
from tests.integration.rows import fill_path


async def test_a_host_is_let_in_seen_and_shut_out(stand: Stand) -> None:
    async with stand.client("admin") as client:
        await stand.add("first")
        hosts = (await client.get("/hosts")).json()["hosts"]
        assert [(one["name"], one["state"], one["joined"]) for one in hosts] == [
            ("first", "up", True),
            ("local", "up", False),
        ]
        first = (await client.get("/hosts/first")).json()["host"]
        assert first["reach"] == {"images": True, "pools": ["directory"]}
        assert first["admitted"]
        assert [one["revoked_at"] for one in first["credentials"]] == [None]
        assert (await client.post("/hosts/first/revoke")).status_code == 202
        first = (await client.get("/hosts/first")).json()["host"]
        assert (first["state"], first["admitted"]) == ("unknown", False)
        assert "revoked or expired" in first["why"]


async def test_a_join_token_is_told_once_and_kept_by_no_cache(stand: Stand) -> None:
    async with stand.client("admin") as client:
        answer = await client.post("/hosts/second/join-token")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.json()["join_token"]["token"]) == 129


async def test_a_host_that_has_joined_and_not_begun_is_new(stand: Stand) -> None:
    await stand.join("second")
    async with stand.client("admin") as client:
        second = (await client.get("/hosts/second")).json()["host"]
    assert (second["state"], second["epoch"]) == ("new", None)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/hosts/nobody", 404),
        ("POST", "/hosts/nobody/revoke", 404),
        ("POST", "/hosts/local/revoke", 409),
        ("POST", "/hosts/local/join-token", 409),
        ("POST", "/hosts/-x/join-token", 400),
    ],
)
async def test_what_cannot_be_is_refused(stand: Stand, method: str, path: str, status: int) -> None:
    async with stand.client("admin") as client:
        assert (await client.request(method, path)).status_code == status


async def test_hosts_are_the_admins_business(stand: Stand) -> None:
    for caller in ("reader", "member", "service", "other"):
        async with stand.client(caller) as client:
            for row in OPERATIONS:
                answer = await client.request(row.method, fill_path(row.path, {"host_name": "local"}))
                assert answer.status_code == 403, (caller, row.name)
