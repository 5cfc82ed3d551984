"""Volumes and snapshots that are asked for again under an Idempotency-Key are made once."""

from __future__ import annotations

import pytest

from tests.integration.volumes.conftest import World


@pytest.mark.parametrize("version", ["3.0", "3.53"])
async def test_volumes_and_snapshots_are_made_once(world: World, version: str) -> None:
    volume_id = await world.make()
    for path, body in (
        ("/volumes", {"volume": {"size": 1}}),
        ("/snapshots", {"snapshot": {"volume_id": volume_id}}),
    ):
        headers = {"OpenStack-API-Version": f"volume {version}", "Idempotency-Key": path}
        before = len((await world.call("GET", path)).json()[path[1:]])
        answers = [await world.clients["member"].request("POST", path, json=body, headers=headers) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202], answers[0].text
        assert answers[0].content == answers[1].content
        assert len((await world.call("GET", path)).json()[path[1:]]) == before + 1
        other = await world.clients["member"].request("POST", path, json={path[1:-1]: {"size": 2}}, headers=headers)
        assert other.status_code in (400, 422), other.text
        named = {path[1:-1]: body[path[1:-1]] | {"name": "x"}}
        other = await world.clients["member"].request("POST", path, json=named, headers=headers)
        assert other.status_code == 422, other.text
