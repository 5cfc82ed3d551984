"""Resizes, as Nova lists them among its migrations."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from kevel.domain.model import ServerRung
from tests.integration.compute.conftest import FACTS, HOST, Stand, message
from tests.integration.compute.test_server_shapes import act, host_made, make_large
from tests.integration.stand import PROJECTS

#: The keys of a migration, by the microversion that they came with.
KEYS = {
    "id": 1,
    "status": 1,
    "instance_uuid": 1,
    "source_compute": 1,
    "source_node": 1,
    "dest_compute": 1,
    "dest_node": 1,
    "dest_host": 1,
    "old_instance_type_id": 1,
    "new_instance_type_id": 1,
    "created_at": 1,
    "updated_at": 1,
    "migration_type": 23,
    "uuid": 59,
    "user_id": 80,
    "project_id": 80,
}


async def list_migrations(stand: Stand, query: str = "", *, version: str = "2.80") -> list[dict[str, Any]]:
    answer = await stand.call("GET", f"/os-migrations{query}", caller="admin", version=version)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["migrations"])


async def statuses(stand: Stand, query: str = "") -> list[str]:
    return [one["status"] for one in await list_migrations(stand, query)]


async def resize(stand: Stand, server_id: str, *, made: bool = True) -> None:
    assert (await act(stand, server_id, {"resize": {"flavorRef": "large"}})).status_code == 202
    if made:
        await host_made(stand, server_id, ServerRung.RUNNING)


async def make_resized(stand: Stand, *, made: bool = True) -> str:
    server_id = await stand.make_server()
    await resize(stand, server_id, made=made)
    return server_id


async def test_a_resize_is_a_migration_until_it_is_confirmed_and_after(stand: Stand) -> None:
    await make_large(stand)
    assert await list_migrations(stand) == []
    server_id = await make_resized(stand, made=False)
    assert await statuses(stand) == ["migrating"]
    await host_made(stand, server_id, ServerRung.RUNNING)
    assert await statuses(stand) == ["finished"]
    await act(stand, server_id, {"confirmResize": None})
    (shown,) = await list_migrations(stand)
    assert (shown["status"], shown["instance_uuid"]) == ("confirmed", server_id)
    assert shown["updated_at"] > shown["created_at"]


async def test_a_resize_that_is_reverted_or_fails_or_whose_server_is_deleted_says_so(stand: Stand) -> None:
    await make_large(stand)
    server_id = await make_resized(stand)
    await act(stand, server_id, {"revertResize": None})
    assert await statuses(stand) == ["reverting"]
    await host_made(stand, server_id, ServerRung.RUNNING)
    assert await statuses(stand) == ["reverted"]
    await resize(stand, server_id)
    assert await statuses(stand) == ["finished", "reverted"]
    await stand.call("DELETE", f"/servers/{server_id}")
    assert await statuses(stand) == ["confirmed", "reverted"]
    await stand.host_removed(server_id)
    assert await statuses(stand) == ["confirmed", "reverted"]
    server_id = await make_resized(stand, made=False)
    await stand.host_failed(server_id)
    assert await statuses(stand, f"?instance_uuid={server_id}") == ["error"]


@pytest.mark.parametrize("minor", [1, 22, 23, 58, 59, 79, 80, 104])
async def test_a_migration_has_the_keys_of_its_microversion(stand: Stand, minor: int) -> None:
    await make_large(stand)
    await make_resized(stand)
    (shown,) = await list_migrations(stand, version=f"2.{minor}")
    assert shown.keys() == {name for name, since in KEYS.items() if since <= minor}
    assert (shown["source_compute"], shown["dest_compute"]) == (HOST, HOST)
    assert (shown["dest_node"], shown["dest_host"]) == (FACTS["hostname"], FACTS["host_ip"])
    assert shown.get("migration_type", "resize") == "resize"
    assert shown.get("project_id", PROJECTS["member"]) == PROJECTS["member"]


async def test_migrations_are_filtered(stand: Stand) -> None:
    await make_large(stand)
    server_id = await make_resized(stand)
    (shown,) = await list_migrations(stand)
    late = "2099-01-01T00:00:00"
    for query, count in (
        (f"?instance_uuid={server_id}", 1),
        ("?instance_uuid=none", 0),
        (f"?host={HOST}", 1),
        ("?host=other", 0),
        (f"?source_compute={HOST}&host={HOST}", 1),
        (f"?source_compute={HOST}&host=other", 0),
        ("?status=finished", 1),
        ("?status=error", 0),
        ("?migration_type=resize", 1),
        ("?migration_type=live-migration", 0),
        ("?hidden=false", 1),
        ("?hidden=true", 0),
        (f"?project_id={PROJECTS['member']}", 1),
        ("?project_id=none", 0),
        ("?user_id=none", 0),
        (f"?changes-since={shown['updated_at']}", 1),
        (f"?changes-since={late}", 0),
        (f"?changes-before={late}", 1),
        (f"?changes-before={shown['created_at']}", 0),
    ):
        assert len(await list_migrations(stand, query)) == count, query
    # Until a parameter is there, it is ignored, or refused from 2.59 on.
    assert len(await list_migrations(stand, f"?changes-since={late}&limit=0&user_id=none", version="2.58")) == 1
    for query, version in (
        ("changes-before=2020-01-01", "2.65"),
        ("user_id=x", "2.79"),
        ("stray=1", "2.59"),
        ("marker=few", "2.59"),
        (f"marker={uuid.UUID(int=7)}", "2.59"),
        ("marker=0f0dc1a5-5d0d-4f5c-8000-000000000fff", "2.59"),
        ("limit=few", "2.59"),
        ("hidden=perhaps", "2.1"),
        ("changes-since=soon", "2.59"),
        (f"changes-since={late}&changes-before=2020-01-01", "2.66"),
    ):
        answer = await stand.call("GET", f"/os-migrations?{query}", caller="admin", version=version)
        assert answer.status_code == 400, f"{query}: {answer.text}"
        assert message(answer)


async def test_migrations_come_in_pages_the_newest_first(stand: Stand) -> None:
    await make_large(stand)
    server_id = await stand.make_server()
    for _ in range(3):
        await resize(stand, server_id)
        await act(stand, server_id, {"revertResize": None})
        await host_made(stand, server_id, ServerRung.RUNNING)
    whole = await list_migrations(stand)
    assert [one["id"] for one in whole] == sorted((one["id"] for one in whole), reverse=True)
    seen, path = [], "/os-migrations?limit=2"
    while path:
        body = (await stand.call("GET", path, caller="admin", version="2.59")).json()
        seen += body["migrations"]
        (link,) = body.get("migrations_links", [{"href": ""}])
        path = link["href"].partition("/compute/v2.1")[2]
    assert [one["uuid"] for one in seen] == [one["uuid"] for one in whole]
    assert len(seen) == 3


async def test_no_server_is_ever_migrated_live(stand: Stand) -> None:
    server_id = await stand.make_server()
    path = f"/servers/{server_id}/migrations"
    assert (await stand.call("GET", path, caller="admin", version="2.23")).json() == {"migrations": []}
    assert (await stand.call("GET", path, caller="admin", version="2.22")).status_code == 404
    assert (await stand.call("GET", path, version="2.23")).status_code == 403
    assert (await stand.call("GET", "/os-migrations")).status_code == 403
