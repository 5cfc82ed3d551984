"""What other services tell of servers: each event has its own code, and a volume's makes the host look again."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from kevel.domain.ladder import Rung
from kevel.store.hosts import load_host
from tests.integration.compute.conftest import HOST, Stand, message

EVENTS = "/os-server-external-events"
UNKNOWN = "8a9d6f2e-8d0e-4d55-a7a9-9a4cf3c2a001"


async def tell(stand: Stand, *events: dict[str, Any], caller: str = "service", version: str = "2.93") -> httpx.Response:
    return await stand.call("POST", EVENTS, {"events": list(events)}, caller=caller, version=version)


async def host_version(stand: Stand) -> int:
    return (await stand.runtime.store.read(load_host, HOST)).version


async def test_each_event_has_its_own_code(stand: Stand) -> None:
    server_id = await stand.make_server()
    known = {"name": "network-changed", "server_uuid": server_id}
    answer = await tell(stand, known)
    assert (answer.status_code, answer.json()) == (200, {"events": [known | {"status": "completed", "code": 200}]})
    untagged = {"name": "volume-extended", "server_uuid": server_id, "status": "in-progress"}
    missing = {"name": "network-vif-plugged", "server_uuid": UNKNOWN, "tag": "port"}
    answer = await tell(stand, known, untagged, missing)
    assert answer.status_code == 207
    assert [(one["code"], one["status"]) for one in answer.json()["events"]] == [
        (200, "completed"),
        (400, "failed"),
        (404, "failed"),
    ]
    assert (await tell(stand, missing)).status_code == 404
    assert (await tell(stand, known, caller="admin")).status_code == 200
    for caller in ("member", "reader"):
        assert (await tell(stand, known, caller=caller)).status_code == 403


@pytest.mark.parametrize("name", ["volume-extended", "volume-reimaged"])
async def test_news_of_a_volume_make_the_host_look_once_more(stand: Stand, name: str) -> None:
    server_id, volume_id = await stand.make_server(), await stand.make_volume()
    event = {"name": name, "server_uuid": server_id, "tag": volume_id}
    before = await host_version(stand)
    assert (await tell(stand, event)).status_code == 200
    assert await host_version(stand) == before, "the server does not have the volume"
    await stand.attach(server_id, volume_id)
    await stand.host_moved(server_id, volume_id, Rung.PLUGGED)
    before = await host_version(stand)
    assert (await tell(stand, event)).status_code == 200
    assert await host_version(stand) == before + 1


@pytest.mark.parametrize(
    ("version", "event"),
    [
        ("2.50", {"name": "volume-extended"}),
        ("2.92", {"name": "volume-reimaged"}),
        ("2.93", {"name": "power-update"}),
        ("2.93", {"name": "network-changed", "status": "done"}),
        ("2.93", {"name": "network-changed", "server_uuid": "x"}),
        ("2.93", {"name": "network-changed", "stray": 1}),
    ],
)
async def test_what_is_no_event_of_the_microversion_is_refused(
    stand: Stand, version: str, event: dict[str, Any]
) -> None:
    answer = await tell(stand, {"server_uuid": UNKNOWN} | event, version=version)
    assert answer.status_code == 400
    assert message(answer)
    assert (await stand.call("POST", EVENTS, {"events": []}, caller="service")).status_code == 400
