from __future__ import annotations

from typing import Any

import pytest

from kevel.domain.ladder import Rung
from kevel.domain.model import ServerRung
from tests.integration.compute.conftest import Stand, message


def at(server_id: str, volume_id: str = "") -> str:
    return f"/servers/{server_id}/os-volume_attachments" + (f"/{volume_id}" if volume_id else "")


async def make_attached(stand: Stand, **keys: Any) -> tuple[str, str]:
    server_id, volume_id = await stand.make_server(), await stand.make_volume()
    assert (await stand.attach(server_id, volume_id, **keys)).status_code == 200
    await stand.host_moved(server_id, volume_id, Rung.PLUGGED)
    return server_id, volume_id


@pytest.mark.parametrize(
    ("minor", "shown_keys", "made_keys"),
    [
        (1, {"id", "serverId", "volumeId", "device"}, {"id", "serverId", "volumeId", "device"}),
        (69, {"id", "serverId", "volumeId", "device"}, {"id", "serverId", "volumeId", "device"}),
        (70, {"id", "serverId", "volumeId", "device", "tag"}, {"id", "serverId", "volumeId", "device", "tag"}),
        (
            79,
            {"id", "serverId", "volumeId", "device", "tag", "delete_on_termination"},
            {"id", "serverId", "volumeId", "device", "tag", "delete_on_termination"},
        ),
        (
            89,
            {"serverId", "volumeId", "device", "tag", "delete_on_termination", "attachment_id", "bdm_uuid"},
            {"id", "serverId", "volumeId", "device", "tag", "delete_on_termination"},
        ),
        (
            101,
            {"serverId", "volumeId", "device", "tag", "delete_on_termination", "attachment_id", "bdm_uuid"},
            None,
        ),
    ],
)
async def test_attachments_have_the_keys_of_the_microversion(
    stand: Stand, minor: int, shown_keys: set[str], made_keys: set[str] | None
) -> None:
    server_id, volume_id, version = await stand.make_server(), await stand.make_volume(), f"2.{minor}"
    body = {"volumeAttachment": {"volumeId": volume_id, "device": None}}
    answer = await stand.call("POST", at(server_id), body, version=version)
    if made_keys is None:
        assert (answer.status_code, answer.content) == (202, b"")
    else:
        assert answer.status_code == 200
        assert set(answer.json()["volumeAttachment"]) == made_keys
    one = (await stand.call("GET", at(server_id, volume_id), version=version)).json()["volumeAttachment"]
    assert set(one) == shown_keys
    assert one["device"] == "/dev/sdb"
    listed = (await stand.call("GET", at(server_id), version=version)).json()
    assert listed == {"volumeAttachments": [one]}


async def test_an_attachment_is_listed_until_nothing_of_it_is_left(stand: Stand) -> None:
    server_id, volume_id = await make_attached(stand, tag="data", delete_on_termination="true")
    shown = (await stand.call("GET", f"/servers/{server_id}", version="2.3")).json()["server"]
    assert shown["os-extended-volumes:volumes_attached"] == [{"id": volume_id, "delete_on_termination": True}]
    answer = await stand.call("DELETE", at(server_id, volume_id))
    assert (answer.status_code, answer.content) == (202, b"")
    assert (await stand.call("GET", at(server_id, volume_id))).status_code == 200
    await stand.host_moved(server_id, volume_id, Rung.EXPORTED)
    assert (await stand.call("GET", at(server_id, volume_id))).status_code == 404
    answer = await stand.call("DELETE", at(server_id, volume_id))
    assert answer.status_code == 404
    shown = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]
    assert shown["os-extended-volumes:volumes_attached"] == []


async def test_a_list_has_pages(stand: Stand) -> None:
    server_id = await stand.make_server()
    for _ in range(3):
        await stand.attach(server_id, await stand.make_volume())
    devices = [
        [one["device"] for one in (await stand.call("GET", f"{at(server_id)}?{query}")).json()["volumeAttachments"]]
        for query in ("", "limit=2", "limit=2&offset=2", "offset=9", "limit=0")
    ]
    assert devices == [["/dev/sdb", "/dev/sdc", "/dev/sdd"], ["/dev/sdb", "/dev/sdc"], ["/dev/sdd"], [], []]
    for query, version in (("limit=-1", "2.1"), ("offset=x", "2.1"), ("bad=1", "2.75")):
        assert (await stand.call("GET", f"{at(server_id)}?{query}", version=version)).status_code == 400
    assert (await stand.call("GET", f"{at(server_id)}?bad=1", version="2.74")).status_code == 200


@pytest.mark.parametrize(
    ("keys", "version", "words"),
    [
        ({"volumeId": "no-id"}, "2.89", "volumeId"),
        ({"volumeId": None}, "2.89", "volumeId"),
        ({"device": "/dev/../x"}, "2.89", "/dev/vdb"),
        ({"device": 7}, "2.89", "device"),
        ({"tag": "a/b"}, "2.89", "tag"),
        ({"tag": "a" * 61}, "2.89", "tag"),
        ({"tag": ""}, "2.89", "tag"),
        ({"tag": "a"}, "2.48", "2.49"),
        ({"delete_on_termination": True}, "2.78", "2.79"),
        ({"delete_on_termination": "perhaps"}, "2.89", "delete_on_termination"),
        ({"mode": "ro"}, "2.89", "mode"),
    ],
)
async def test_a_bad_request_to_attach_is_400_and_attaches_nothing(
    stand: Stand, keys: dict[str, Any], version: str, words: str
) -> None:
    server_id, volume_id = await stand.make_server(), await stand.make_volume()
    body = {"volumeAttachment": {"volumeId": volume_id, **keys}}
    answer = await stand.call("POST", at(server_id), body, version=version)
    assert answer.status_code == 400
    assert words in message(answer)
    assert (await stand.call("GET", at(server_id))).json() == {"volumeAttachments": []}


async def test_who_attaches_what_to_where_is_checked(stand: Stand) -> None:
    server_id, volume_id = await make_attached(stand)
    second, theirs = await stand.make_server(), await stand.make_volume(project="other")
    again = await stand.attach(server_id, volume_id)
    assert again.status_code == 400
    elsewhere = await stand.attach(second, volume_id)
    assert elsewhere.status_code == 400
    assert server_id in message(elsewhere)
    assert (await stand.attach(server_id, theirs)).status_code == 404
    assert (await stand.attach("no-server", volume_id)).status_code == 404
    assert (await stand.attach(server_id, "0" * 32)).status_code == 404
    taken = await stand.attach(server_id, await stand.make_volume(), device="/dev/sdb")
    assert taken.status_code == 409
    building = await stand.make_server(rung=None)
    answer = await stand.attach(building, await stand.make_volume())
    assert answer.status_code == 409
    assert message(answer) == f"Cannot 'attach_volume' instance {building} while it is in vm_state building"


async def test_a_locked_server_keeps_its_volumes(stand: Stand) -> None:
    server_id, volume_id = await make_attached(stand)
    await stand.call("POST", f"/servers/{server_id}/action", {"lock": None})
    answer = await stand.call("DELETE", at(server_id, volume_id))
    assert answer.status_code == 409
    assert message(answer) == f"Instance {server_id} is locked"


async def test_clients_older_than_2_60_do_not_attach_shared_volumes(stand: Stand) -> None:
    server_id, volume_id = await stand.make_server(), await stand.make_volume(multiattach=True)
    body = {"volumeAttachment": {"volumeId": volume_id}}
    answer = await stand.call("POST", at(server_id), body, version="2.59")
    assert answer.status_code == 400
    assert "2.60" in message(answer)
    assert (await stand.call("POST", at(server_id), body, version="2.60")).status_code == 200


async def test_only_delete_on_termination_changes(stand: Stand) -> None:
    server_id, volume_id = await make_attached(stand)
    shown = (await stand.call("GET", at(server_id, volume_id), version="2.85")).json()["volumeAttachment"]
    answer = await stand.call(
        "PUT", at(server_id, volume_id), {"volumeAttachment": {**shown, "delete_on_termination": True}}, version="2.85"
    )
    assert (answer.status_code, answer.content) == (202, b"")
    shown = (await stand.call("GET", at(server_id, volume_id), version="2.89")).json()["volumeAttachment"]
    assert shown["delete_on_termination"] is True
    for keys in ({"device": "/dev/sdz"}, {"tag": "t"}, {"serverId": volume_id}, {"id": server_id}, {"other": 1}, {}):
        body = {"volumeAttachment": {"volumeId": volume_id, **keys} if keys else {}}
        assert (await stand.call("PUT", at(server_id, volume_id), body, version="2.89")).status_code == 400, keys


async def test_a_volume_is_never_exchanged_for_another(stand: Stand) -> None:
    server_id, old = await make_attached(stand)
    new, attached, missing = await stand.make_volume(), await stand.make_volume(), "0" * 32
    await stand.attach(server_id, attached)

    async def swap(old_id: str, new_id: str, *, caller: str = "admin", version: str = "2.1") -> int:
        body = {"volumeAttachment": {"volumeId": new_id}}
        answer = await stand.call("PUT", at(server_id, old_id), body, caller=caller, version=version)
        return answer.status_code

    assert await swap(old, new) == 409
    assert await swap(old, new, version="2.85") == 409
    assert await swap(old, attached) == 400
    assert await swap(old, missing) == 400
    assert await swap(missing, new) == 404
    assert await swap(old, new, caller="member") == 403
    assert await swap(old, new, caller="member", version="2.85") == 403
    assert await swap(old, new, caller="other") == 403


async def test_strays_in_the_query_are_refused_from_2_102_on(stand: Stand) -> None:
    server_id, volume_id = await make_attached(stand)
    path = f"{at(server_id, volume_id)}?stray=1"
    assert (await stand.call("GET", path, version="2.101")).status_code == 200
    for method in ("GET", "DELETE"):
        assert (await stand.call(method, path, version="2.102")).status_code == 400
    assert (await stand.call("GET", at(server_id, volume_id))).status_code == 200


async def test_what_was_asked_of_a_server_is_kept_with_its_end(stand: Stand) -> None:
    server_id, _ = await make_attached(stand)
    path = f"/servers/{server_id}/os-instance-actions"
    actions = (await stand.call("GET", path, version="2.84")).json()["instanceActions"]
    assert [action["action"] for action in actions] == ["attach_volume", "create"]
    request_id = actions[0]["request_id"]
    action = (await stand.call("GET", f"{path}/{request_id}", version="2.84")).json()["instanceAction"]
    (event,) = action["events"]
    assert (event["event"], event["result"], event["details"]) == ("compute_attach_volume", "Success", None)
    assert "host" not in event
    assert len(event["hostId"]) == 56
    for minor, events in ((1, False), (50, False), (51, True), (61, True)):
        shown = (await stand.call("GET", f"{path}/{request_id}", version=f"2.{minor}")).json()["instanceAction"]
        assert ("events" in shown) is events
        assert ("updated_at" in shown) is (minor >= 58)
    for_admin = await stand.call("GET", f"{path}/{request_id}", caller="admin", version="2.62")
    assert for_admin.json()["instanceAction"]["events"][0]["host"] == "host-1"
    assert (await stand.call("GET", f"{path}/req-none")).status_code == 404
    page = (await stand.call("GET", f"{path}?limit=1", version="2.58")).json()
    assert [action["action"] for action in page["instanceActions"]] == ["attach_volume"]
    assert "marker" in page["links"][0]["href"]
    rest = (await stand.call("GET", f"{path}?marker={request_id}", version="2.58")).json()
    assert [action["action"] for action in rest["instanceActions"]] == ["create"]
    for query in ("limit=x", "marker=x", "changes-since=x", "stray=1", "changes-before=2026-01-01"):
        assert (await stand.call("GET", f"{path}?{query}", version="2.58")).status_code == 400


async def test_the_actions_of_a_deleted_server_can_be_read_from_2_21_on(stand: Stand) -> None:
    server_id, volume_id = await make_attached(stand)
    assert (await stand.call("DELETE", f"/servers/{server_id}")).status_code == 204
    await stand.host_saw(server_id, ServerRung.PLACED)
    await stand.host_moved(server_id, volume_id, Rung.EXPORTED)
    path = f"/servers/{server_id}/os-instance-actions"
    assert (await stand.call("GET", path, version="2.20")).status_code == 404
    actions = (await stand.call("GET", path, version="2.21")).json()["instanceActions"]
    assert actions[0]["action"] == "delete"
    assert (await stand.call("GET", path, version="2.21", caller="other")).status_code == 404
