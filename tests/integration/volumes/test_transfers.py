"""Volumes offered to other projects, and taken."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select

from kevel.domain.ladder import Rung
from kevel.domain.model import Actor
from kevel.store.schema.volumes import snapshots
from kevel.store.transactions import Tx
from tests.integration.rows import read_everything
from tests.integration.stand import PROJECTS
from tests.integration.volumes.conftest import World, message
from tests.integration.volumes.test_encryption import key_of, make_sealed

PLACES = ["/os-volume-transfer", "/volume-transfers"]


async def offer(world: World, volume_id: str, place: str = PLACES[1], **fields: Any) -> dict[str, Any]:
    answer = await world.call("POST", place, {"transfer": {"volume_id": volume_id, **fields}})
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json()["transfer"]
    return made


async def take(
    world: World, transfer: dict[str, Any], *, caller: str = "other", place: str = PLACES[1], **more: Any
) -> httpx.Response:
    body = {"accept": {"auth_key": more.pop("key", transfer["auth_key"])}}
    return await world.call("POST", f"{place}/{transfer['id']}/accept", body, caller=caller, **more)


@pytest.mark.parametrize("place", PLACES)
async def test_an_offered_volume_waits_and_passes_to_who_has_the_key(world: World, place: str) -> None:
    volume_id = await world.make()
    transfer = await offer(world, volume_id, place, name=" mine ")
    assert transfer["name"] == "mine"
    assert await world.status(volume_id) == "awaiting-transfer"
    body = {"accept": {"auth_key": transfer["auth_key"]}}
    answer = await world.call("POST", f"{place}/{transfer['id']}/accept", body, caller="other")
    assert answer.status_code == 202
    assert answer.json()["transfer"].keys() == {"id", "volume_id", "name", "links"}
    shown = await world.get(f"/volumes/{volume_id}", "volume", caller="other")
    assert (shown["status"], shown["user_id"]) == ("available", "u-other")
    assert shown["os-vol-tenant-attr:tenant_id"] == PROJECTS["other"]
    message(await world.call("GET", f"/volumes/{volume_id}"), 404)
    message(await world.call("GET", f"{place}/{transfer['id']}"), 404)
    message(await take(world, transfer), 404)


@pytest.mark.parametrize(
    ("version", "more"),
    [
        ("3.0", set()),
        ("3.54", set()),
        ("3.55", {"no_snapshots"}),
        ("3.57", {"no_snapshots", "source_project_id", "destination_project_id", "accepted"}),
    ],
)
async def test_an_offer_is_shown_by_its_microversion(world: World, version: str, more: set[str]) -> None:
    volume_id = await world.make()
    body = {"transfer": {"volume_id": volume_id}}
    answer = await world.call("POST", "/os-volume-transfer", body, version=version)
    known = {"id", "volume_id", "name", "links", "created_at"}
    made = answer.json()["transfer"]
    assert made.keys() == {*known, "auth_key", *more}
    assert made["name"] is None
    shown = await world.get(f"/os-volume-transfer/{made['id']}", "transfer", version=version)
    assert shown.keys() == known | more
    (listed,) = await world.get("/os-volume-transfer/detail", "transfers", version=version)
    assert listed == shown
    (short,) = await world.get("/os-volume-transfer", "transfers", version=version)
    assert short.keys() == {"id", "volume_id", "name", "links"}


async def test_the_newer_address_came_with_3_55(world: World) -> None:
    message(await world.call("GET", "/volume-transfers", version="3.54"), 404)
    assert await world.get("/volume-transfers", "transfers", version="3.55") == []


async def test_an_offered_volume_cannot_be_attached_deleted_grown_or_offered_again(world: World) -> None:
    volume_id = await world.make()
    await offer(world, volume_id)
    server_id = await world.make_server()
    actor = Actor(user_id="u", project_id=PROJECTS["member"], request_id="req-attach")
    with pytest.raises(Exception, match="awaiting-transfer"):
        await world.attachments.attach(actor, server_id, volume_id, device=None, tag=None, delete_on_termination=False)
    message(await world.call("DELETE", f"/volumes/{volume_id}"), 400)
    message(await world.act(volume_id, "os-extend", {"new_size": 2}), 400)
    assert "awaiting-transfer" in message(
        await world.call("POST", "/volume-transfers", {"transfer": {"volume_id": volume_id}}), 400
    )
    assert await world.status(volume_id) == "awaiting-transfer"


async def test_only_an_available_volume_is_offered(world: World) -> None:
    volume_id = await world.make()
    await world.attach(volume_id, Rung.PLUGGED)
    answer = await world.call("POST", "/volume-transfers", {"transfer": {"volume_id": volume_id}})
    assert "in-use" in message(answer, 400)
    assert await world.get("/volume-transfers", "transfers") == []


@pytest.mark.parametrize("place", PLACES)
async def test_a_wrong_key_takes_nothing(world: World, place: str) -> None:
    volume_id = await world.make()
    transfer = await offer(world, volume_id)
    for key in ("", "wrong", 17, transfer["auth_key"] + "x"):
        message(await take(world, transfer, key=key, place=place), 400)
    assert await world.status(volume_id) == "awaiting-transfer"
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["user_id"] == "u-member"
    message(await world.call("POST", f"{place}/{volume_id}/accept", {"accept": {"auth_key": "x"}}), 404)


async def test_the_key_is_told_once_and_not_kept(world: World) -> None:
    transfer = await offer(world, await world.make())
    assert "auth_key" not in await world.get(f"/volume-transfers/{transfer['id']}", "transfer")
    kept = str(await world.runtime.store.read(read_everything))
    assert transfer["id"] in kept
    assert transfer["auth_key"] not in kept


@pytest.mark.parametrize("place", PLACES)
async def test_an_offer_is_taken_back(world: World, place: str) -> None:
    volume_id = await world.make()
    transfer = await offer(world, volume_id)
    answer = await world.call("DELETE", f"{place}/{transfer['id']}")
    assert (answer.status_code, answer.content) == (202, b"")
    assert await world.status(volume_id) == "available"
    message(await world.call("DELETE", f"{place}/{transfer['id']}"), 404)
    message(await take(world, transfer), 404)
    again = await offer(world, volume_id)
    assert again["id"] != transfer["id"]
    assert again["auth_key"] != transfer["auth_key"]


@pytest.mark.parametrize("place", PLACES)
async def test_offers_are_their_projects(world: World, place: str) -> None:
    volume_id = await world.make()
    transfer = await offer(world, volume_id)
    one = f"{place}/{transfer['id']}"
    message(await world.call("GET", one, caller="other"), 404)
    message(await world.call("DELETE", one, caller="other"), 404)
    assert await world.get(f"{place}/detail", "transfers", caller="other") == []
    message(await world.call("POST", place, {"transfer": {"volume_id": volume_id}}, caller="other"), 404)
    message(await world.call("DELETE", one, caller="reader"), 403)
    assert await world.get(place, "transfers", caller="admin") == []
    (seen,) = await world.get(f"{place}?all_tenants=1", "transfers", caller="admin")
    assert seen["id"] == transfer["id"]


async def test_lists_have_filters_pages_and_an_order(world: World) -> None:
    made = [await offer(world, await world.make(), name=name) for name in ("a", "b", "c")]
    ids = [one["id"] for one in made]
    assert [one["id"] for one in await world.get("/volume-transfers", "transfers", version="3.58")] == ids
    assert [one["id"] for one in await world.get("/volume-transfers", "transfers")] == ids[::-1]
    assert [one["name"] for one in await world.get("/volume-transfers?sort=name:asc", "transfers")] == ["a", "b", "c"]
    answer = await world.call("GET", "/volume-transfers?sort=name:asc&limit=2")
    assert [one["name"] for one in answer.json()["transfers"]] == ["a", "b"]
    (link,) = answer.json()["transfers_links"]
    assert f"marker={ids[1]}" in link["href"]
    assert [one["id"] for one in await world.get(link["href"], "transfers")] == ids[2:]
    assert [one["id"] for one in await world.get("/volume-transfers?name=b", "transfers")] == [ids[1]]
    assert await world.get(f"/volume-transfers?volume_id={ids[0]}", "transfers") == []
    for path in (*PLACES, *(f"{place}/detail" for place in PLACES)):
        message(await world.call("GET", f"{path}?sort=colour"), 400)
        message(await world.call("GET", f"{path}?marker={made[0]['volume_id']}"), 404)


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"transfer": {}},
        {"transfer": {"volume_id": 5}},
        {"transfer": {"volume_id": "x", "name": "n" * 256}},
        {"transfer": {"volume_id": "x", "name": "\0"}},
        {"transfer": {"volume_id": "x", "colour": "red"}},
        {"transfer": {"volume_id": "x", "no_snapshots": "perhaps"}},
    ],
)
async def test_a_bad_offer_is_refused(world: World, body: object) -> None:
    message(await world.call("POST", "/volume-transfers", body), 400)


async def test_snapshots_are_spoken_of_at_the_newer_address_only(world: World) -> None:
    volume_id = await world.make()
    body = {"transfer": {"volume_id": volume_id, "no_snapshots": True}}
    message(await world.call("POST", "/os-volume-transfer", body), 400)
    assert (await offer(world, volume_id, no_snapshots="true"))["no_snapshots"] is True


async def test_deleting_by_force_ends_the_offer(world: World) -> None:
    volume_id = await world.make()
    transfer = await offer(world, volume_id)
    assert (await world.act(volume_id, "os-force_delete", None, caller="admin")).status_code == 202
    message(await world.call("GET", f"/volume-transfers/{transfer['id']}"), 404)
    message(await take(world, transfer), 404)
    await world.settle()
    message(await world.call("GET", f"/volumes/{volume_id}", caller="admin"), 404)


async def test_a_volume_that_is_masked_meanwhile_is_not_handed_over(world: World) -> None:
    volume_id = await world.make()
    transfer = await offer(world, volume_id)
    await world.act(volume_id, "os-reset_status", {"status": "maintenance"}, caller="admin")
    assert "maintenance" in message(await take(world, transfer), 400)
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["user_id"] == "u-member"


def insert_snapshot(tx: Tx, volume_id: str, snapshot_id: str, *, made: bool) -> None:
    values = {
        "id": snapshot_id,
        "volume_id": volume_id,
        "project_id": PROJECTS["member"],
        "user_id": "u-member",
        "name": "",
        "size_gib": 1,
        "backend": "local",
        "format": "raw",
        "metadata": {},
        "made": made,
        "created_at": 1,
        "live": 1,
    }
    tx.execute(insert(snapshots), values)


def owners(tx: Tx) -> list[tuple[str, str]]:
    return [(row.project_id, row.user_id) for row in tx.execute(select(snapshots.c.project_id, snapshots.c.user_id))]


@pytest.mark.parametrize(("no_snapshots", "owner"), [(False, "other"), (True, "member")])
async def test_snapshots_go_with_the_volume_unless_the_offer_says_otherwise(
    world: World, no_snapshots: bool, owner: str
) -> None:
    volume_id = await world.make()
    await world.runtime.store.write(insert_snapshot, volume_id, "s", made=True)
    assert (await take(world, await offer(world, volume_id, no_snapshots=no_snapshots))).status_code == 202
    assert await world.runtime.store.read(owners) == [(PROJECTS[owner], f"u-{owner}")]


async def test_a_volume_is_not_offered_with_a_snapshot_that_is_not_available(world: World) -> None:
    volume_id = await world.make()
    await world.runtime.store.write(insert_snapshot, volume_id, "s", made=False)
    answer = await world.call("POST", "/volume-transfers", {"transfer": {"volume_id": volume_id}})
    assert "snapshot s" in message(answer, 400)
    assert await world.status(volume_id) == "available"
    await offer(world, volume_id, no_snapshots=True)


@pytest.mark.parametrize("resource", ["volumes", "gigabytes", "snapshots", "per_volume_gigabytes"])
async def test_who_has_no_room_for_a_volume_does_not_get_it(world: World, resource: str) -> None:
    place = PLACES[resource == "volumes"]
    volume_id = await world.make()
    await world.runtime.store.write(insert_snapshot, volume_id, "s", made=True)
    transfer = await offer(world, volume_id)
    quota = {"quota_set": {resource: 0}}
    assert (await world.call("PUT", f"/os-quota-sets/{PROJECTS['other']}", quota, caller="admin")).status_code == 200
    assert resource in message(await take(world, transfer, place=place), 413)
    assert await world.status(volume_id) == "awaiting-transfer"
    quota = {"quota_set": {resource: 2}}
    assert (await world.call("PUT", f"/os-quota-sets/{PROJECTS['other']}", quota, caller="admin")).status_code == 200
    assert (await take(world, transfer)).status_code == 202


async def test_an_encrypted_volume_is_offered_from_3_70_and_takes_its_key_along(world: World) -> None:
    volume_id = await make_sealed(world)
    key = await key_of(world, volume_id)
    body: dict[str, Any] = {"transfer": {"volume_id": volume_id}}
    for place, version in ((PLACES[1], "3.69"), (PLACES[0], "3.71")):
        assert "encrypted" in message(await world.call("POST", place, body, version=version), 400)
    body["transfer"]["no_snapshots"] = True
    assert "with its snapshots" in message(await world.call("POST", PLACES[1], body), 400)
    assert (await take(world, await offer(world, volume_id))).status_code == 202
    assert await key_of(world, volume_id) == key
    assert (await world.get(f"/volumes/{volume_id}", "volume", caller="other"))["encrypted"] is True
