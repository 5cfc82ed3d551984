from __future__ import annotations

from typing import Any

import pytest

from kevel.domain.model import Reason, ServerRung
from tests.integration.compute.conftest import FACTS, Stand, message

KEYS_2_1 = {
    "id", "name", "status", "tenant_id", "user_id", "metadata", "hostId", "image", "flavor", "created", "updated",
    "addresses", "accessIPv4", "accessIPv6", "links", "OS-DCF:diskConfig", "progress", "OS-EXT-AZ:availability_zone",
    "config_drive", "key_name", "OS-SRV-USG:launched_at", "OS-SRV-USG:terminated_at", "OS-EXT-STS:task_state",
    "OS-EXT-STS:vm_state", "OS-EXT-STS:power_state", "os-extended-volumes:volumes_attached",
}  # fmt: skip
#: What each microversion adds to the answer for one server, for a member.
ADDED = [
    (9, {"locked"}),
    (19, {"description"}),
    (26, {"tags"}),
    (63, {"trusted_image_certificates"}),
    (71, {"server_groups"}),
    (73, {"locked_reason"}),
    (90, {"OS-EXT-SRV-ATTR:hostname"}),
    (96, {"pinned_availability_zone"}),
    (100, {"scheduler_hints"}),
]


async def test_a_server_is_made_and_shown_as_building_until_its_host_runs_it(stand: Stand) -> None:
    answer = await stand.ask_server(metadata={"a": "b"}, min_count=1, max_count=1)
    assert answer.status_code == 202
    made = answer.json()["server"]
    assert answer.headers["location"].endswith(f"/compute/v2.1/servers/{made['id']}")
    assert "adminPass" not in made
    shown = (await stand.call("GET", f"/servers/{made['id']}", version="2.100")).json()["server"]
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("BUILD", "spawning")
    assert shown["image"]["id"] == stand.image_id
    assert shown["flavor"]["original_name"] == "tiny"
    assert shown["metadata"] == {"a": "b"}
    await stand.host_saw(made["id"], ServerRung.RUNNING)
    shown = (await stand.call("GET", f"/servers/{made['id']}")).json()["server"]
    assert (shown["status"], shown["OS-EXT-STS:power_state"]) == ("ACTIVE", 1)
    assert shown["OS-SRV-USG:launched_at"] is not None


@pytest.mark.parametrize("minor", [1, 3, 8, 9, 18, 19, 26, 46, 47, 63, 70, 71, 73, 90, 96, 98, 100, 104])
async def test_a_server_has_the_keys_of_the_microversion(stand: Stand, minor: int) -> None:
    server_id = await stand.make_server()
    answer = await stand.call("GET", f"/servers/{server_id}", version=f"2.{minor}")
    assert answer.headers["openstack-api-version"] == f"compute 2.{minor}"
    assert answer.headers["x-openstack-nova-api-version"] == f"2.{minor}"
    shown = answer.json()["server"]
    expected = KEYS_2_1.union(*(keys for since, keys in ADDED if minor >= since))
    assert set(shown) == expected
    assert ("vcpus" in shown["flavor"]) == (minor >= 47)
    assert ("links" in shown["flavor"]) == (minor < 47)
    assert ("properties" in shown["image"]) == (minor >= 98)


async def test_admins_see_where_a_server_is_and_members_do_not(stand: Stand) -> None:
    server_id = await stand.make_server()
    answer = await stand.call("GET", f"/servers/{server_id}", caller="admin", version="2.16")
    shown = answer.json()["server"]
    assert shown["OS-EXT-SRV-ATTR:host"] == "host-1"
    assert shown["OS-EXT-SRV-ATTR:hypervisor_hostname"] == FACTS["hostname"]
    assert shown["OS-EXT-SRV-ATTR:root_device_name"] == "/dev/sda"
    assert shown["host_status"] == "UP"
    mine = (await stand.call("GET", f"/servers/{server_id}", version="2.16")).json()["server"]
    assert not any(key.startswith("OS-EXT-SRV-ATTR") for key in mine)
    assert "host-1" not in str(mine)


async def test_another_projects_server_does_not_exist(stand: Stand) -> None:
    server_id = await stand.make_server()
    path = f"/servers/{server_id}"
    calls: list[tuple[str, str, Any]] = [
        ("GET", path, None),
        ("PUT", path, {"server": {"name": "mine"}}),
        ("DELETE", path, None),
        ("POST", f"{path}/action", {"os-stop": None}),
        ("POST", f"{path}/action", {"lock": None}),
        ("GET", f"{path}/metadata", None),
        ("POST", f"{path}/metadata", {"metadata": {"a": "b"}}),
        ("GET", f"{path}/ips", None),
        ("GET", f"{path}/os-volume_attachments", None),
        ("GET", f"{path}/os-instance-actions", None),
    ]
    for method, at, body in calls:
        answer = await stand.call(method, at, body, caller="other")
        assert answer.status_code == 404, (method, at)
        assert message(answer) == f"Instance {server_id} could not be found."
    assert (await stand.call("GET", "/servers/detail", caller="other")).json() == {"servers": []}
    assert (await stand.call("GET", path)).json()["server"]["status"] == "ACTIVE"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"name": ""}, "name"),
        ({"name": " x"}, "no space at either end"),
        ({"name": "x" * 256}, "name"),
        ({"name": "a\nb"}, "control characters"),
        ({"name": 7}, "name"),
        ({"flavorRef": "none-such"}, "none-such"),
        ({"imageRef": "none-such"}, "no image's id"),
        ({"imageRef": "0" * 32}, "0000"),
        ({"imageRef": ""}, "boot_index 0 to boot from"),
        ({"networks": [{"uuid": "x"}]}, "no networks"),
        ({"networks": "all"}, "networks"),
        ({"networks": None}, "'networks' is a required property"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"a": "b" * 256}}, "metadata"),
        ({"metadata": {"a/b": "c"}}, "metadata"),
        ({"metadata": {"": "c"}}, "metadata"),
        ({"metadata": {"a": "\x00"}}, "metadata"),
        ({"description": "a\x00"}, "description"),
        ({"min_count": 0}, "min_count"),
        ({"min_count": 3, "max_count": 2}, "min_count"),
        ({"max_count": 10**30}, "max_count"),
        ({"min_count": "many"}, "min_count"),
        ({"availability_zone": "moon"}, "there is: nova"),
        ({"user_data": "Zm9v"}, "user_data"),
        ({"key_name": "k"}, "none of your key pairs"),
        ({"adminPass": 7}, "adminPass"),
        ({"security_groups": [{"name": "default"}]}, "security_groups"),
        ({"config_drive": True}, "config drive"),
        ({"tags": ["a,b"]}, "tags"),
        ({"return_reservation_id": "perhaps"}, "return_reservation_id"),
        ({"OS-DCF:diskConfig": "auto"}, "diskConfig"),
        ({"hostname": "-web"}, "hostname"),
        ({"hostname": "web", "min_count": 2}, "hostname"),
        ({"hostname": "h"}, "hostname"),
        ({"block_device_mapping_v2": [{"source_type": "volume", "uuid": "x", "boot_index": 0}]}, "no volume's id"),
        ({"block_device_mapping_v2": "x"}, "list"),
        ({"unknown": 1}, "unknown"),
        ({"description": "d" * 256}, "description"),
    ],
)
async def test_a_bad_request_for_a_server_gets_400_and_makes_nothing(
    stand: Stand, keys: dict[str, Any], words: str
) -> None:
    body = {"name": "web", "flavorRef": "tiny", "imageRef": stand.image_id, "networks": "none", **keys}
    if keys.get("networks", "") is None:
        del body["networks"]
    answer = await stand.call("POST", "/servers", {"server": body}, version="2.100")
    assert answer.status_code == 400
    assert words in message(answer)
    assert (await stand.call("GET", "/servers")).json() == {"servers": []}


async def test_the_openstack_commands_own_request_is_accepted(stand: Stand) -> None:
    disk = {
        "uuid": stand.image_id,
        "boot_index": 0,
        "source_type": "image",
        "destination_type": "local",
        "delete_on_termination": True,
    }
    answer = await stand.ask_server(networks="auto", block_device_mapping_v2=[disk], min_count=1, max_count=1)
    assert answer.status_code == 202


async def test_newer_keys_are_unknown_to_older_microversions(stand: Stand) -> None:
    answer = await stand.ask_server(version="2.18", networks=None, description="d")
    assert answer.status_code == 400
    assert "2.19" in message(answer)
    made = await stand.make_server(version="2.1", networks=None)
    shown = (await stand.call("GET", f"/servers/{made}", version="2.19")).json()["server"]
    assert shown["description"] == "web"


async def test_an_image_too_large_or_not_ready_is_refused(stand: Stand) -> None:
    needs = await stand.make_image(min_ram=4096)
    answer = await stand.ask_server(imageRef=needs)
    assert answer.status_code == 400
    assert "4096 MiB" in message(answer)
    needs = await stand.make_image(min_disk=5)
    answer = await stand.ask_server(imageRef=needs, flavorRef="1")
    assert answer.status_code == 400
    assert "5 GiB" in message(answer)


async def test_a_server_that_no_host_has_room_for_is_refused_at_once(stand: Stand) -> None:
    answer = await stand.ask_server(flavorRef="2", min_count=1, max_count=3)
    assert answer.status_code == 202
    found = (await stand.call("GET", "/servers")).json()["servers"]
    assert [server["name"] for server in found] == ["web"]
    answer = await stand.ask_server()
    assert answer.status_code == 409
    assert message(answer).startswith("No valid host was found.")
    await stand.call("DELETE", f"/servers/{found[0]['id']}")
    await stand.host_saw(found[0]["id"], ServerRung.PLACED)


async def test_several_servers_of_one_request_have_numbered_names(stand: Stand) -> None:
    answer = await stand.ask_server(min_count=2, max_count="3")
    assert answer.status_code == 202
    shown = (await stand.call("GET", "/servers/detail?sort_key=display_name&sort_dir=asc", caller="admin",
                              version="2.3")).json()["servers"]  # fmt: skip
    assert shown == []
    path = "/servers/detail?all_tenants=1&sort_key=display_name&sort_dir=asc"
    shown = (await stand.call("GET", path, caller="admin", version="2.3")).json()["servers"]
    assert [server["name"] for server in shown] == ["web-1", "web-2", "web-3"]
    assert [server["OS-EXT-SRV-ATTR:launch_index"] for server in shown] == [0, 1, 2]
    assert len({server["OS-EXT-SRV-ATTR:reservation_id"] for server in shown}) == 1


async def test_only_admins_choose_a_host(stand: Stand) -> None:
    for keys in ({"availability_zone": "nova:host-1"}, {"host": "host-1"}, {"hypervisor_hostname": FACTS["hostname"]}):
        assert (await stand.ask_server(**keys)).status_code == 403
    image_id = await stand.make_image()
    assert (await stand.ask_server(caller="admin", imageRef=image_id, host="host-1")).status_code == 202
    answer = await stand.ask_server(caller="admin", imageRef=image_id, availability_zone="nova:host-9")
    assert answer.status_code == 400
    assert "host-9" in message(answer)


async def test_stop_start_and_reboots_follow_the_host(stand: Stand) -> None:
    server_id = await stand.make_server()

    async def act(body: dict[str, Any]) -> int:
        return (await stand.call("POST", f"/servers/{server_id}/action", body)).status_code

    async def status() -> tuple[str, str | None]:
        shown = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]
        return shown["status"], shown["OS-EXT-STS:task_state"]

    assert await act({"os-stop": None}) == 202
    assert await status() == ("ACTIVE", "powering-off")
    await stand.host_saw(server_id, ServerRung.DEFINED)
    assert await status() == ("SHUTOFF", None)
    assert await act({"os-start": None}) == 202
    assert await status() == ("SHUTOFF", "powering-on")
    await stand.host_saw(server_id, ServerRung.RUNNING)
    assert await act({"reboot": {"type": "SOFT"}}) == 202
    assert await status() == ("REBOOT", "rebooting")
    assert await act({"reboot": {"type": "hard"}}) == 202
    assert await status() == ("HARD_REBOOT", "rebooting_hard")
    await stand.host_saw(server_id, ServerRung.RUNNING)
    assert await status() == ("ACTIVE", None)


@pytest.mark.parametrize(
    ("rung", "body", "text"),
    [
        (ServerRung.RUNNING, {"os-start": None}, "Cannot 'start' instance {id} while it is in vm_state active"),
        (ServerRung.DEFINED, {"os-stop": None}, "Cannot 'stop' instance {id} while it is in vm_state stopped"),
        (ServerRung.DEFINED, {"reboot": {"type": "SOFT"}},
         "Cannot 'reboot' instance {id} while it is in vm_state stopped"),
        (None, {"os-stop": None}, "Cannot 'stop' instance {id} while it is in vm_state building"),
        (None, {"reboot": {"type": "HARD"}}, "Cannot 'reboot' instance {id} while it is in vm_state building"),
    ],
)  # fmt: skip
async def test_an_action_in_the_wrong_state_is_409_in_novas_words(
    stand: Stand, rung: ServerRung | None, body: dict[str, Any], text: str
) -> None:
    server_id = await stand.make_server(None if rung is None else ServerRung.RUNNING)
    if rung is ServerRung.DEFINED:
        await stand.call("POST", f"/servers/{server_id}/action", {"os-stop": None})
        await stand.host_saw(server_id, rung)
    answer = await stand.call("POST", f"/servers/{server_id}/action", body)
    assert answer.status_code == 409
    assert message(answer) == text.format(id=server_id)


@pytest.mark.parametrize(
    "body",
    [{"reboot": {}}, {"reboot": {"type": "WARM"}}, {"reboot": None}, {"os-rename": None}, {}, [],
     {"os-stop": None, "os-start": None}, "os-stop", {"lock": {"locked_reason": "x" * 256}}, {"lock": {"why": "x"}}],
)  # fmt: skip
async def test_a_malformed_action_is_400(stand: Stand, body: object) -> None:
    server_id = await stand.make_server()
    answer = await stand.call("POST", f"/servers/{server_id}/action", body, version="2.104")
    assert answer.status_code == 400
    assert message(answer)


async def test_deleting_is_accepted_again_and_ends_with_404(stand: Stand) -> None:
    server_id = await stand.make_server()
    assert (await stand.call("DELETE", f"/servers/{server_id}")).status_code == 204
    assert (await stand.call("DELETE", f"/servers/{server_id}")).status_code == 204
    shown = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]
    assert shown["OS-EXT-STS:task_state"] == "deleting"
    await stand.host_saw(server_id, ServerRung.PLACED)
    assert (await stand.call("GET", f"/servers/{server_id}")).status_code == 404
    assert (await stand.call("DELETE", f"/servers/{server_id}")).status_code == 404
    listed = await stand.call("GET", "/servers/detail?all_tenants=1&deleted=True", caller="admin")
    assert [(one["id"], one["status"]) for one in listed.json()["servers"]] == [(server_id, "DELETED")]
    assert (await stand.call("GET", "/servers?deleted=True")).json() == {"servers": []}
    assert (await stand.call("GET", "/servers?status=DELETED")).status_code == 403


async def test_a_failed_server_shows_its_fault_and_a_hard_reboot_tries_again(stand: Stand) -> None:
    server_id = await stand.make_server()
    ended = Reason(code="guest_ended", message="The guest crashed.", at=stand.now)
    await stand.host_saw(server_id, ServerRung.DEFINED, ended=ended)
    shown = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]
    assert shown["status"] in ("SHUTOFF", "ERROR")
    answer = await stand.call("POST", f"/servers/{server_id}/action", {"reboot": {"type": "HARD"}})
    assert answer.status_code == 202
    await stand.host_saw(server_id, ServerRung.RUNNING)
    assert (await stand.call("GET", f"/servers/{server_id}")).json()["server"]["status"] == "ACTIVE"


async def test_a_failure_of_nothing_that_was_asked_for_leaves_a_server_as_it_is(stand: Stand) -> None:
    async def status() -> str:
        return str((await stand.call("GET", f"/servers/{server_id}")).json()["server"]["status"])

    server_id = await stand.make_server()
    await stand.host_failed(server_id)
    assert await status() == "ACTIVE"
    await stand.host_saw(server_id, ServerRung.DEFINED, ended=Reason(code="guest_ended", message="", at=stand.now))
    assert await status() == "SHUTOFF"
    await stand.host_failed(server_id)
    assert await status() == "SHUTOFF"
    answer = await stand.call("POST", f"/servers/{server_id}/action", {"os-start": None})
    assert answer.status_code == 202


async def test_a_stop_leaves_the_error_of_an_older_request_behind(stand: Stand) -> None:
    server_id = await stand.make_server()
    await stand.call("POST", f"/servers/{server_id}/action", {"reboot": {"type": "SOFT"}})
    await stand.host_failed(server_id)
    assert (await stand.call("POST", f"/servers/{server_id}/action", {"os-stop": None})).status_code == 202
    await stand.host_saw(server_id, ServerRung.DEFINED)
    assert (await stand.call("GET", f"/servers/{server_id}")).json()["server"]["status"] == "SHUTOFF"


async def test_a_locked_server_is_left_alone_by_all_but_admins(stand: Stand) -> None:
    server_id = await stand.make_server()
    path = f"/servers/{server_id}"
    body = {"lock": {"locked_reason": "keep"}}
    assert (await stand.call("POST", f"{path}/action", body, version="2.73")).status_code == 202
    shown = (await stand.call("GET", path, version="2.73")).json()["server"]
    assert (shown["locked"], shown["locked_reason"]) == (True, "keep")
    for method, at, sent in (
        ("POST", f"{path}/action", {"os-stop": None}),
        ("DELETE", path, None),
        ("POST", f"{path}/metadata", {"metadata": {}}),
    ):
        answer = await stand.call(method, at, sent)
        assert answer.status_code == 409
        assert message(answer) == f"Instance {server_id} is locked"
    assert (await stand.call("POST", f"{path}/action", {"unlock": None})).status_code == 202
    await stand.call("POST", f"{path}/action", {"lock": None}, caller="admin")
    assert (await stand.call("POST", f"{path}/action", {"unlock": None})).status_code == 403
    assert (await stand.call("POST", f"{path}/action", {"os-stop": None}, caller="admin")).status_code == 202


async def test_readers_look_and_change_nothing(stand: Stand) -> None:
    server_id = await stand.make_server()
    assert (await stand.call("GET", f"/servers/{server_id}", caller="reader")).status_code == 200
    for method, path, body in (
        ("DELETE", f"/servers/{server_id}", None),
        ("POST", f"/servers/{server_id}/action", {"os-stop": None}),
        ("PUT", f"/servers/{server_id}", {"server": {"name": "n"}}),
    ):
        assert (await stand.call(method, path, body, caller="reader")).status_code == 403
    assert (await stand.ask_server(caller="reader")).status_code == 403


async def test_name_and_description_change_and_nothing_else_does(stand: Stand) -> None:
    server_id = await stand.make_server()
    answer = await stand.call("PUT", f"/servers/{server_id}", {"server": {"name": "db"}})
    assert answer.status_code == 200
    assert answer.json()["server"]["name"] == "db"
    assert "OS-EXT-STS:vm_state" not in answer.json()["server"]
    answer = await stand.call("PUT", f"/servers/{server_id}", {"server": {"description": "d"}}, version="2.75")
    assert answer.json()["server"]["description"] == "d"
    assert answer.json()["server"]["OS-EXT-STS:vm_state"] == "active"
    for keys in (
        {"name": ""},
        {"name": "x" * 256},
        {"flavorRef": "1"},
        {"accessIPv4": "::1"},
        {"accessIPv6": "10.0.0.1"},
        {"hostname": "h"},
    ):
        answer = await stand.call("PUT", f"/servers/{server_id}", {"server": keys}, version="2.100")
        assert answer.status_code == 400, keys
    shown = (await stand.call("GET", f"/servers/{server_id}", version="2.19")).json()["server"]
    assert (shown["name"], shown["description"]) == ("db", "d")


async def test_metadata_is_merged_replaced_and_removed(stand: Stand) -> None:
    server_id = await stand.make_server(metadata={"a": "1"})
    path = f"/servers/{server_id}/metadata"
    answer = await stand.call("POST", path, {"metadata": {"b": "2"}})
    assert (answer.status_code, answer.json()) == (200, {"metadata": {"a": "1", "b": "2"}})
    assert (await stand.call("PUT", path, {"metadata": {"c": "3"}})).json() == {"metadata": {"c": "3"}}
    answer = await stand.call("PUT", f"{path}/c", {"meta": {"c": "4"}})
    assert (answer.status_code, answer.json()) == (200, {"meta": {"c": "4"}})
    assert (await stand.call("GET", f"{path}/c")).json() == {"meta": {"c": "4"}}
    assert (await stand.call("PUT", f"{path}/c", {"meta": {"d": "4"}})).status_code == 400
    assert (await stand.call("PUT", f"{path}/c", {"meta": {}})).status_code == 400
    assert (await stand.call("DELETE", f"{path}/c")).status_code == 204
    assert (await stand.call("DELETE", f"{path}/c")).status_code == 404
    assert (await stand.call("GET", f"{path}/c")).status_code == 404
    many = {"metadata": {str(number): "" for number in range(129)}}
    assert (await stand.call("POST", path, many)).status_code == 403
    assert (await stand.call("GET", path)).json() == {"metadata": {}}
    assert (await stand.call("GET", f"/servers/{server_id}/ips")).json() == {"addresses": {}}


async def test_a_server_keeps_the_name_of_its_key_pair(stand: Stand) -> None:
    pair = {"keypair": {"name": "mine", "type": "ssh"}}
    assert (await stand.call("POST", "/os-keypairs", pair, version="2.91")).status_code == 201
    server_id = await stand.make_server(key_name="mine")
    assert (await stand.call("DELETE", "/os-keypairs/mine")).status_code == 202
    shown = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]
    assert shown["key_name"] == "mine"
    assert (await stand.call("GET", "/servers?key_name=mine")).json()["servers"][0]["id"] == server_id
    assert (await stand.call("GET", "/servers?key_name=other")).json()["servers"] == []
    assert (await stand.ask_server(key_name="mine")).status_code == 400


async def test_the_reservation_alone_is_answered_where_that_is_asked_for(stand: Stand) -> None:
    answer = await stand.ask_server(return_reservation_id=True, min_count=2)
    assert (answer.status_code, answer.json().keys()) == (202, {"reservation_id"})
    wanted = f"/servers?reservation_id={answer.json()['reservation_id']}"
    assert len((await stand.call("GET", wanted)).json()["servers"]) == 2
    assert (await stand.ask_server(return_reservation_id="no")).json().keys() == {"server"}


async def test_the_addresses_that_users_write_down_are_kept(stand: Stand) -> None:
    server_id = await stand.make_server(accessIPv6="2001:2001:0::3")
    path = f"/servers/{server_id}"
    shown = (await stand.call("GET", path)).json()["server"]
    assert (shown["accessIPv4"], shown["accessIPv6"]) == ("", "2001:2001::3")
    for body, wanted in (
        ({"accessIPv4": "1.1.1.1"}, ("1.1.1.1", "2001:2001::3")),
        ({"accessIPv6": None}, ("1.1.1.1", "")),
        ({"accessIPv4": ""}, ("", "")),
    ):
        changed = (await stand.call("PUT", path, {"server": body})).json()["server"]
        assert (changed["accessIPv4"], changed["accessIPv6"]) == wanted
    assert (await stand.ask_server(accessIPv4="none")).status_code == 400


async def test_a_server_is_pinned_to_its_own_availability_zone_or_to_none(stand: Stand) -> None:
    server_id = await stand.make_server()
    path = f"/servers/{server_id}"
    for zone in ("nova", None):
        answer = await stand.call("PUT", path, {"server": {"pinned_availability_zone": zone}}, version="2.104")
        assert answer.json()["server"]["pinned_availability_zone"] == zone
        shown = (await stand.call("GET", path, version="2.96")).json()["server"]
        assert shown["pinned_availability_zone"] == zone
    for wrong, version in (("mars", "2.104"), ("nova", "2.103"), (7, "2.104")):
        answer = await stand.call("PUT", path, {"server": {"pinned_availability_zone": wrong}}, version=version)
        assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("rung", [ServerRung.DEFINED, ServerRung.PLACED], ids=["shut down", "its definition lost"])
async def test_a_stop_has_a_result_whatever_its_host_finds_of_the_server(stand: Stand, rung: ServerRung) -> None:
    server_id = await stand.make_server(None)
    early = await stand.call("POST", f"/servers/{server_id}/action", {"os-stop": None})
    assert early.status_code == 409, "before its first start there is nothing to stop, and nothing is begun"
    await stand.host_saw(server_id, ServerRung.RUNNING)
    assert (await stand.call("POST", f"/servers/{server_id}/action", {"os-stop": None})).status_code == 202
    await stand.host_saw(server_id, rung)
    path = f"/servers/{server_id}/os-instance-actions"
    listed = (await stand.call("GET", path, version="2.84")).json()["instanceActions"]
    assert [one["action"] for one in listed] == ["stop", "create"]
    shown = (await stand.call("GET", f"{path}/{listed[0]['request_id']}", version="2.84")).json()["instanceAction"]
    assert [event["result"] for event in shown["events"]] == ["Success"]


async def test_the_host_name_and_the_disk_config_that_users_choose_are_kept(stand: Stand) -> None:
    long = f"{'x' * 60}.example.org"
    answer = await stand.ask_server(version="2.94", hostname=long, **{"OS-DCF:diskConfig": "AUTO"})
    assert answer.json()["server"]["OS-DCF:diskConfig"] == "AUTO"
    path = f"/servers/{answer.json()['server']['id']}"
    for body, wanted in (
        ({}, (long, "AUTO")),
        ({"hostname": "web-1", "OS-DCF:diskConfig": "MANUAL"}, ("web-1", "MANUAL")),
    ):
        changed = (await stand.call("PUT", path, {"server": body}, version="2.94")).json()["server"]
        assert (changed["OS-EXT-SRV-ATTR:hostname"], changed["OS-DCF:diskConfig"]) == wanted
    await stand.host_saw(path.rpartition("/")[2], ServerRung.RUNNING)
    resized = await stand.call(
        "POST", f"{path}/action", {"resize": {"flavorRef": "1", "OS-DCF:diskConfig": "AUTO"}}, version="2.94"
    )
    assert resized.status_code == 202, resized.text
    assert (await stand.call("GET", path)).json()["server"]["OS-DCF:diskConfig"] == "AUTO"
    for name, version in ((long, "2.93"), ("a.b", "2.90"), ("web", "2.89")):
        assert (await stand.call("PUT", path, {"server": {"hostname": name}}, version=version)).status_code == 400


@pytest.mark.parametrize("keys", [{"swap": 64}, {"OS-FLV-EXT-DATA:ephemeral": 1}], ids=str)
async def test_a_flavor_with_more_disks_than_kevel_gives_makes_no_server(stand: Stand, keys: dict[str, int]) -> None:
    flavor = {"id": "more", "name": "more", "ram": 64, "disk": 1, "vcpus": 1} | keys
    assert (await stand.call("POST", "/flavors", {"flavor": flavor}, caller="admin")).status_code == 200
    refused = await stand.ask_server(flavorRef="more")
    assert (refused.status_code, "choose one without" in message(refused)) == (400, True)
    server_id = await stand.make_server()
    refused = await stand.call("POST", f"/servers/{server_id}/action", {"resize": {"flavorRef": "more"}})
    assert (refused.status_code, "choose one without" in message(refused)) == (400, True)
