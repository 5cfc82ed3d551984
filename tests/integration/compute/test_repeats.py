"""The header Idempotency-Key: asked again under its key, a request has no second effect, and gets the first answer."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from kevel.runtime import failpoints
from kevel.store.repeats import KEPT_S, REMOVED_MAX
from kevel.store.schema.repeats import kept_answers
from kevel.store.transactions import Tx
from tests.integration.compute.conftest import Stand, message


async def ask(
    stand: Stand, key: str, path: str, body: object, *, caller: str = "member", version: str = "2.100"
) -> httpx.Response:
    headers = {"OpenStack-API-Version": f"compute {version}", "Idempotency-Key": key}
    return await stand.clients[caller].request("POST", path, json=body, headers=headers)


def new_server(stand: Stand, **keys: Any) -> dict[str, Any]:
    return {"server": {"name": "web", "flavorRef": "tiny", "imageRef": stand.image_id, "networks": "none"} | keys}


async def count_servers(stand: Stand, caller: str = "member") -> int:
    return len((await stand.call("GET", "/servers", caller=caller)).json()["servers"])


async def test_a_repeated_request_gets_the_first_answer_and_makes_nothing(stand: Stand) -> None:
    first = await ask(stand, "k", "/servers", new_server(stand))
    assert (first.status_code, "idempotency-replayed" in first.headers) == (202, False)
    again = await ask(stand, "k", "/servers", new_server(stand))
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert (again.headers["location"], again.headers["idempotency-replayed"]) == (first.headers["location"], "true")
    assert again.headers["x-openstack-request-id"] != first.headers["x-openstack-request-id"]
    assert await count_servers(stand) == 1
    assert (await ask(stand, "other", "/servers", new_server(stand))).status_code == 202
    assert await count_servers(stand) == 2


async def test_the_answer_outlives_what_it_speaks_of(stand: Stand) -> None:
    """The repeat is answered, and not carried out: what it names may be gone by then."""
    image_id = await stand.make_image()
    first = await ask(stand, "k", "/servers", new_server(stand, imageRef=image_id))
    assert (await stand.call("DELETE", f"/servers/{first.json()['server']['id']}")).status_code == 204
    again = await ask(stand, "k", "/servers", new_server(stand, imageRef=image_id))
    assert again.json() == first.json()


async def test_requests_at_the_same_time_have_one_effect(stand: Stand) -> None:
    answers = await asyncio.gather(*(ask(stand, "k", "/servers", new_server(stand)) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert await count_servers(stand) == 1


async def test_an_answer_that_a_dying_process_did_not_give_is_given_by_the_next(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die_before_the_answer(name: str) -> None:
        if name == "answer":
            raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "begin", die_before_the_answer)
        with pytest.raises(ConnectionResetError):
            await ask(stand, "k", "/servers", new_server(stand))
    assert await count_servers(stand) == 1
    again = await ask(stand, "k", "/servers", new_server(stand))
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    (server,) = (await stand.call("GET", "/servers")).json()["servers"]
    assert again.json()["server"]["id"] == server["id"]


async def test_a_key_stands_for_one_request(stand: Stand) -> None:
    volume_id, server_id = await stand.make_volume(), await stand.make_server()
    await ask(stand, "k", "/servers", new_server(stand))
    attach = f"/servers/{server_id}/os-volume_attachments"
    for path, body, version in (
        ("/servers", new_server(stand, name="other"), "2.100"),
        ("/servers", new_server(stand), "2.99"),
        ("/servers?x=1", new_server(stand), "2.100"),
        (attach, {"volumeAttachment": {"volumeId": volume_id}}, "2.100"),
        (attach, {"volumeAttachment": {"volumeId": volume_id}}, "2.101"),
    ):
        answer = await ask(stand, "k", path, body, version=version)
        assert answer.status_code == 422, answer.text
        assert "stands for another request" in answer.json()["computeFault"]["message"]
    assert await count_servers(stand) == 2
    assert (await ask(stand, "k", "/servers", new_server(stand), caller="admin")).status_code == 202, "another project"
    assert await count_servers(stand, "admin") == 1


async def test_a_request_that_was_refused_may_be_made_again(stand: Stand) -> None:
    refused = await ask(stand, "k", "/servers", new_server(stand, flavorRef="none"))
    assert refused.status_code == 400
    assert (await ask(stand, "k", "/servers", new_server(stand))).status_code == 202


@pytest.mark.parametrize(("version", "code"), [("2.100", 200), ("2.101", 202)])
async def test_an_attach_is_repeated_where_it_would_be_refused(stand: Stand, version: str, code: int) -> None:
    volume_id, server_id = await stand.make_volume(), await stand.make_server()
    path, body = f"/servers/{server_id}/os-volume_attachments", {"volumeAttachment": {"volumeId": volume_id}}
    first = await ask(stand, "k", path, body, version=version)
    again = await ask(stand, "k", path, body, version=version)
    assert (first.status_code, again.status_code, again.content) == (code, code, first.content)
    without = await stand.call("POST", path, body, version=version)
    assert without.status_code == 400, "without a key, Nova's code"


@pytest.mark.parametrize("key", ["", "k" * 256, "k\x7f"])
async def test_what_is_no_key_is_refused(stand: Stand, key: str) -> None:
    answer = await ask(stand, key, "/servers", new_server(stand))
    assert (answer.status_code, "Idempotency-Key" in message(answer)) == (400, True)
    assert await count_servers(stand) == 0


async def test_a_post_that_does_not_take_a_key_says_so(stand: Stand) -> None:
    answer = await ask(stand, "k", "/os-server-groups", {"server_group": {"name": "g", "policy": "affinity"}})
    assert (answer.status_code, "createServerGroupWithRules does not take it" in message(answer)) == (400, True)
    headers = {"Idempotency-Key": "k"}
    assert (await stand.clients["member"].get("/servers", headers=headers)).status_code == 200


def _age(tx: Tx, by_us: int) -> None:
    tx.conn.execute(kept_answers.update().values(created_at=kept_answers.c.created_at - by_us))


def _count(tx: Tx) -> int:
    return len(tx.conn.execute(kept_answers.select()).all())


async def test_an_answer_is_kept_for_a_day(stand: Stand) -> None:
    store = stand.runtime.store
    for key in ("k", "other"):
        await ask(stand, key, "/servers", new_server(stand))
    await store.write(_age, (KEPT_S - 60) * 1_000_000)
    again = await ask(stand, "k", "/servers", new_server(stand))
    assert again.headers["idempotency-replayed"] == "true"
    await store.write(_age, 120 * 1_000_000)
    assert "idempotency-replayed" not in (await ask(stand, "k", "/servers", new_server(stand))).headers
    assert await count_servers(stand) == 3
    assert await store.read(_count) == 1 <= REMOVED_MAX, "what was too old is gone"
