"""Volumes and snapshots of the compute API until 2.35."""

from __future__ import annotations

from typing import Any

import pytest

from kevel.domain.ladder import Rung
from tests.integration.compute.conftest import Stand, message

OLD = "2.35"
ABSENT = "00000000-0000-4000-8000-000000000000"
VOLUME_KEYS = {
    "id", "status", "size", "availabilityZone", "createdAt", "attachments", "displayName", "displayDescription",
    "volumeType", "snapshotId", "metadata",
}  # fmt: skip


async def test_volumes_are_made_shown_listed_and_deleted(stand: Stand) -> None:
    keys = {"size": "2", "display_name": "v", "display_description": "d", "metadata": {"a": "b"}, "volume_type": "std"}
    made = await stand.call("POST", "/os-volumes", {"volume": keys}, version=OLD)
    assert made.status_code == 200
    volume = made.json()["volume"]
    assert set(volume) == VOLUME_KEYS
    assert (volume["displayName"], volume["size"], volume["metadata"]) == ("v", 2, {"a": "b"})
    assert (volume["volumeType"], volume["attachments"], volume["status"]) == ("std", [{}], "creating")
    assert (await stand.call("GET", f"/os-volumes/{volume['id']}", version=OLD)).json()["volume"] == volume
    for path in ("/os-volumes", "/os-volumes/detail"):
        assert (await stand.call("GET", path, version=OLD)).json() == {"volumes": [volume]}
        assert (await stand.call("GET", path, version=OLD, caller="other")).json() == {"volumes": []}
    more = await stand.make_volume()
    page = (await stand.call("GET", "/os-volumes?limit=1&offset=1", version=OLD)).json()["volumes"]
    assert [one["id"] for one in page] == [volume["id"]]
    assert (await stand.call("DELETE", f"/os-volumes/{more}", version=OLD)).status_code == 202
    answer = await stand.call("DELETE", f"/os-volumes/{volume['id']}", version=OLD)
    assert (answer.status_code, "creating" in message(answer)) == (400, True)
    for path in ("/os-volumes", "/os-volumes/detail"):
        assert (await stand.call("GET", f"{path}?limit=x", version=OLD)).status_code == 400


async def test_a_volume_in_use_shows_its_server(stand: Stand) -> None:
    server_id, volume_id = await stand.make_server(), await stand.make_volume()
    await stand.attach(server_id, volume_id)
    await stand.host_moved(server_id, volume_id, Rung.PLUGGED)
    shown = (await stand.call("GET", f"/os-volumes/{volume_id}", version=OLD)).json()["volume"]
    assert shown["attachments"] == [
        {"id": volume_id, "volumeId": volume_id, "serverId": server_id, "device": "/dev/sdb"}
    ]


async def test_snapshots_are_taken_shown_listed_and_deleted(stand: Stand) -> None:
    volume_id = await stand.make_volume()
    keys = {"volume_id": volume_id, "display_name": "s", "force": "True"}
    made = await stand.call("POST", "/os-snapshots", {"snapshot": keys}, version=OLD)
    assert made.status_code == 200
    snapshot = made.json()["snapshot"]
    assert (snapshot["displayName"], snapshot["volumeId"], snapshot["size"]) == ("s", volume_id, 1)
    assert (await stand.call("GET", f"/os-snapshots/{snapshot['id']}", version=OLD)).json()["snapshot"] == snapshot
    for path in ("/os-snapshots", "/os-snapshots/detail"):
        assert (await stand.call("GET", path, version=OLD)).json() == {"snapshots": [snapshot]}
        assert (await stand.call("GET", path, version=OLD, caller="other")).json() == {"snapshots": []}
    for path in ("/os-snapshots", "/os-snapshots/detail"):
        assert (await stand.call("GET", f"{path}?offset=-1", version=OLD)).status_code == 400
    there = await stand.make_snapshot()
    assert (await stand.call("DELETE", f"/os-snapshots/{there}", version=OLD)).status_code == 202
    answer = await stand.call("DELETE", f"/os-snapshots/{snapshot['id']}", version=OLD)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"size": 0},
        {"size": ""},
        {"size": "#$%"},
        {"size": -1},
        {"size": 1, "moon": 1},
        {"size": 1, "volume_type": "none-such"},
        {"size": 1, "snapshot_id": ABSENT},
        {"size": 1, "availability_zone": "moon"},
    ],
)
async def test_a_bad_volume_gets_400(stand: Stand, keys: dict[str, Any]) -> None:
    answer = await stand.call("POST", "/os-volumes", {"volume": keys}, version=OLD)
    assert answer.status_code == 400
    assert await stand.count_volumes() == 0


async def test_what_no_pool_can_hold_is_forbidden(stand: Stand) -> None:
    answer = await stand.call("POST", "/os-volumes", {"volume": {"size": 10**7}}, version=OLD)
    assert answer.status_code == 403
    assert "cannot take" in message(answer)


async def test_a_bad_snapshot_gets_400(stand: Stand) -> None:
    for keys in ({}, {"volume_id": ABSENT}, {"volume_id": ABSENT, "force": "moon"}):
        answer = await stand.call("POST", "/os-snapshots", {"snapshot": keys}, version=OLD)
        assert answer.status_code == 400


async def test_they_are_gone_from_2_36_on(stand: Stand) -> None:
    for path in ("/os-volumes", "/os-volumes/detail", "/os-snapshots", "/os-snapshots/detail"):
        assert (await stand.call("GET", path, version="2.36")).status_code == 404
