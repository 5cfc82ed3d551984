"""Rescue, rebuild and resize: what is asked for, what is shown meanwhile, and what becomes of the volumes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kevel.control.copies.copies import Copies
from kevel.control.volumes.worker import VolumeWorker
from kevel.domain.devices import volume_bus
from kevel.domain.ladder import Rung
from kevel.domain.model import Reason, Server, ServerRung
from kevel.store.images import is_file_in_use
from kevel.store.servers import load_server
from kevel.store.volumes import change_volume
from tests.integration.compute.conftest import Stand, message

DEFINED, RUNNING = ServerRung.DEFINED, ServerRung.RUNNING
LARGE = {"name": "large", "ram": 128, "vcpus": 2, "disk": 3, "id": "large"}


async def act(stand: Stand, server_id: str, body: dict[str, Any], *, version: str = "2.90", **more: Any) -> Any:
    return await stand.call("POST", f"/servers/{server_id}/action", body, version=version, **more)


async def show(stand: Stand, server_id: str) -> tuple[str, str | None]:
    shown = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]
    return shown["status"], shown["OS-EXT-STS:task_state"]


async def host_made(stand: Stand, server_id: str, *rungs: ServerRung) -> None:
    """The host has ended the guest, made the domain anew, and gone on."""
    await stand.host_saw(server_id, DEFINED)
    await stand.host_saw(server_id, DEFINED, made=True)
    for rung in rungs:
        await stand.host_saw(server_id, rung)


async def find(stand: Stand, server_id: str) -> Server:
    server = await stand.runtime.store.read(load_server, server_id)
    assert server is not None
    return server


async def make_large(stand: Stand, **keys: Any) -> None:
    answer = await stand.call("POST", "/flavors", {"flavor": LARGE | keys}, caller="admin")
    assert answer.status_code == 200, answer.text


async def last_action(stand: Stand, server_id: str) -> tuple[str, str | None]:
    path = f"/servers/{server_id}/os-instance-actions"
    (last, *_) = (await stand.call("GET", path, version="2.84")).json()["instanceActions"]
    shown = (await stand.call("GET", f"{path}/{last['request_id']}", version="2.84")).json()["instanceAction"]
    return shown["action"], shown["events"][0]["result"]


@pytest.mark.parametrize("first", [RUNNING, DEFINED])
async def test_a_server_is_rescued_and_unrescued_with_its_volume_in_it(stand: Stand, first: ServerRung) -> None:
    server_id, volume_id = await stand.make_server(), await stand.make_volume()
    await stand.attach(server_id, volume_id)
    await stand.host_moved(server_id, volume_id, Rung.PLUGGED)
    if first is DEFINED:
        await act(stand, server_id, {"os-stop": None})
        await stand.host_saw(server_id, DEFINED)
    answer = await act(stand, server_id, {"rescue": None})
    assert (answer.status_code, answer.json()) == (200, {})
    assert (await show(stand, server_id))[1] == "rescuing"
    await host_made(stand, server_id)
    assert (await show(stand, server_id))[1] == "rescuing"
    await stand.host_saw(server_id, RUNNING)
    assert await show(stand, server_id) == ("RESCUE", None)
    assert await last_action(stand, server_id) == ("rescue", "Success")
    for body in ({"rescue": None}, {"os-stop": None}, {"reboot": {"type": "HARD"}}, {"pause": None}):
        assert (await act(stand, server_id, body)).status_code == 409
    assert (await stand.attach(server_id, await stand.make_volume())).status_code == 409
    gone = await stand.call("DELETE", f"/servers/{server_id}/os-volume_attachments/{volume_id}")
    assert gone.status_code == 409
    assert (await act(stand, server_id, {"unrescue": None})).status_code == 202
    assert await show(stand, server_id) == ("RESCUE", "unrescuing")
    await host_made(stand, server_id, RUNNING)
    assert await show(stand, server_id) == ("ACTIVE", None)
    assert await last_action(stand, server_id) == ("unrescue", "Success")
    shown = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]
    assert [one["id"] for one in shown["os-extended-volumes:volumes_attached"]] == [volume_id]


async def test_the_rescue_image_is_kept_until_it_is_copied(stand: Stand) -> None:
    server_id, image_id = await stand.make_server(), await stand.make_image(name="other")
    answer = await act(stand, server_id, {"rescue": {"rescue_image_ref": image_id, "adminPass": "x"}})
    assert answer.status_code == 200
    rescue = (await find(stand, server_id)).extras.rescue
    assert rescue is not None
    assert rescue["id"] == image_id
    assert await stand.runtime.store.read(is_file_in_use, rescue["file"])
    await host_made(stand, server_id, RUNNING)
    assert not await stand.runtime.store.read(is_file_in_use, rescue["file"])


async def boot_from_volume(stand: Stand, **keys: Any) -> tuple[str, str]:
    """A running server and the volume that is its root disk."""
    root = await stand.make_volume(bootable=True)
    disk = {"uuid": root, "source_type": "volume", "destination_type": "volume", "boot_index": 0} | keys
    server_id = await stand.make_server(rung=None, imageRef="", block_device_mapping_v2=[disk])
    await stand.host_moved(server_id, root, Rung.PLUGGED)
    await stand.host_saw(server_id, RUNNING)
    return server_id, root


async def test_a_server_that_boots_from_a_volume_is_rescued_beside_it_from_2_87_on(stand: Stand) -> None:
    server_id, root = await boot_from_volume(stand)
    image_id = await stand.make_image(name="rescue", hw_rescue_bus="usb")
    body = {"rescue": {"rescue_image_ref": image_id}}
    answer = await act(stand, server_id, body, version="2.86")
    assert (answer.status_code, "Cannot rescue a volume-backed instance" in message(answer)) == (400, True)
    answer = await act(stand, server_id, {"rescue": None})
    assert (answer.status_code, "name one by rescue_image_ref" in message(answer)) == (400, True)
    assert (await act(stand, server_id, body, version="2.87")).status_code == 200
    rescue = (await find(stand, server_id)).extras.rescue
    assert rescue is not None
    assert (rescue["id"], rescue["place"]) == (image_id, {"bus": "usb", "is_cdrom": False})
    await host_made(stand, server_id, RUNNING)
    assert await show(stand, server_id) == ("RESCUE", None)
    assert await stand.rung_of(server_id, root) is Rung.PLUGGED
    assert (await act(stand, server_id, {"unrescue": None})).status_code == 202
    await host_made(stand, server_id, RUNNING)
    assert await show(stand, server_id) == ("ACTIVE", None)
    assert await stand.rung_of(server_id, root) is Rung.PLUGGED


async def test_a_rescue_image_that_asks_for_a_place_that_there_is_not_is_refused(stand: Stand) -> None:
    server_id = await stand.make_server()
    image_id = await stand.make_image(name="rescue", hw_rescue_bus="ide", hw_rescue_device="cdrom")
    answer = await act(stand, server_id, {"rescue": {"rescue_image_ref": image_id}})
    assert (answer.status_code, "scsi, sata, usb" in message(answer)) == (400, True)
    assert await show(stand, server_id) == ("ACTIVE", None)


async def test_a_rescue_that_fails_is_forgotten_and_a_hard_reboot_boots_the_server_itself(stand: Stand) -> None:
    server_id = await stand.make_server()
    await act(stand, server_id, {"rescue": None})
    await stand.host_saw(server_id, DEFINED)
    await stand.host_failed(server_id)
    assert await show(stand, server_id) == ("ERROR", None)
    assert await last_action(stand, server_id) == ("rescue", "Error")
    server = await find(stand, server_id)
    assert (server.extras.rescue, server.is_reshaping) == (None, False)
    assert (await act(stand, server_id, {"reboot": {"type": "HARD"}})).status_code == 202
    await stand.host_saw(server_id, RUNNING, made=True)
    assert await show(stand, server_id) == ("ACTIVE", None)


async def test_a_rescued_guest_that_ends_leaves_a_server_that_can_be_unrescued(stand: Stand) -> None:
    server_id = await stand.make_server()
    await act(stand, server_id, {"rescue": None})
    await host_made(stand, server_id, RUNNING)
    await stand.host_saw(server_id, DEFINED, ended=Reason(code="guest_ended", message="", at=stand.now))
    assert await show(stand, server_id) == ("RESCUE", None)
    assert (await act(stand, server_id, {"unrescue": None})).status_code == 202
    await stand.host_saw(server_id, DEFINED, made=True)
    await stand.host_saw(server_id, RUNNING)
    assert await show(stand, server_id) == ("ACTIVE", None)


@pytest.mark.parametrize(
    ("minor", "more", "less"),
    [
        (1, set(), {"key_name", "user_data", "OS-EXT-STS:vm_state"}),
        (54, {"key_name"}, {"user_data", "OS-EXT-STS:vm_state"}),
        (57, {"key_name", "user_data"}, {"OS-EXT-STS:vm_state"}),
        (75, {"key_name", "user_data", "OS-EXT-STS:vm_state"}, set()),
    ],
)
async def test_a_rebuild_answers_with_the_server_as_the_microversion_has_it(
    stand: Stand, minor: int, more: set[str], less: set[str]
) -> None:
    server_id = await stand.make_server()
    answer = await act(stand, server_id, {"rebuild": {"imageRef": stand.image_id}}, version=f"2.{minor}")
    assert answer.status_code == 202
    assert answer.headers["location"].endswith(f"/servers/{server_id}")
    shown = answer.json()["server"]
    assert shown["status"] == "REBUILD"
    assert more <= set(shown)
    assert not less & set(shown)


@pytest.mark.parametrize("first", [RUNNING, DEFINED])
async def test_a_rebuild_changes_the_image_and_what_else_is_given_and_ends_as_it_began(
    stand: Stand, first: ServerRung
) -> None:
    server_id, image_id = await stand.make_server(), await stand.make_image(name="other")
    volume_id = await stand.make_volume()
    await stand.attach(server_id, volume_id)
    await stand.host_moved(server_id, volume_id, Rung.PLUGGED)
    if first is DEFINED:
        await act(stand, server_id, {"os-stop": None})
        await stand.host_saw(server_id, DEFINED)
    keys = {"imageRef": image_id, "name": "new", "description": "d", "metadata": {"a": "b"}, "adminPass": "x"}
    assert (await act(stand, server_id, {"rebuild": keys})).status_code == 202
    assert await show(stand, server_id) == ("REBUILD", "rebuilding")
    assert (await find(stand, server_id)).extras.root_number == 1
    if first is DEFINED:
        await stand.host_saw(server_id, DEFINED, made=True)
        assert await show(stand, server_id) == ("SHUTOFF", None)
    else:
        await host_made(stand, server_id, RUNNING)
        assert await show(stand, server_id) == ("ACTIVE", None)
    assert await last_action(stand, server_id) == ("rebuild", "Success")
    shown = (await stand.call("GET", f"/servers/{server_id}", version="2.90")).json()["server"]
    assert (shown["image"]["id"], shown["name"], shown["description"]) == (image_id, "new", "d")
    assert shown["metadata"] == {"a": "b"}
    assert [one["id"] for one in shown["os-extended-volumes:volumes_attached"]] == [volume_id]


async def rebuild(stand: Stand, server_id: str, version: str = "2.93") -> Any:
    return await act(stand, server_id, {"rebuild": {"imageRef": stand.image_id}}, version=version)


async def volume_status(stand: Stand, volume_id: str) -> str:
    return (await stand.volumes.get(stand.actor, volume_id)).status


async def test_a_server_that_boots_from_a_volume_gets_another_image_from_2_93_on(stand: Stand) -> None:
    server_id, root = await boot_from_volume(stand)
    answer = await rebuild(stand, server_id, "2.92")
    assert (answer.status_code, "different image for a volume-backed server" in message(answer)) == (400, True)
    assert await volume_status(stand, root) == "in-use"
    answer = await rebuild(stand, server_id)
    assert (answer.status_code, answer.json()["server"]["image"]) == (202, "")
    assert await show(stand, server_id) == ("REBUILD", "rebuilding")
    assert await volume_status(stand, root) == "downloading"
    assert (await rebuild(stand, server_id)).status_code == 409
    server = await find(stand, server_id)
    assert server.image["properties"] == {}
    assert server.extras.root_number == 0


async def test_the_image_that_a_root_volume_has_already_is_taken_before_2_93_and_leaves_it_as_it_is(
    stand: Stand,
) -> None:
    server_id, root = await boot_from_volume(stand)
    known = {"image_id": stand.image_id}
    await stand.runtime.store.write(lambda tx: change_volume(tx, root, image_metadata=known))
    answer = await act(stand, server_id, {"rebuild": {"imageRef": stand.image_id, "name": "new"}}, version="2.92")
    assert (answer.status_code, answer.json()["server"]["name"]) == (202, "new")
    assert await volume_status(stand, root) == "in-use"
    await host_made(stand, server_id, RUNNING)
    assert await show(stand, server_id) == ("ACTIVE", None)


async def test_a_rebuild_fails_with_the_root_volume_that_gets_no_image_and_can_be_asked_for_again(stand: Stand) -> None:
    server_id, root = await boot_from_volume(stand)
    assert (await rebuild(stand, server_id)).status_code == 202
    await stand.host_saw(server_id, DEFINED)
    worker = VolumeWorker(stand.runtime, {"sim": stand.backend}, Copies(stand.runtime))  # which has no images
    await worker.look(root)
    shown = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]
    assert (shown["status"], shown["fault"]["message"]) == ("ERROR", f"Volume {root}: There are no images here.")
    assert await last_action(stand, server_id) == ("rebuild", "Error")
    assert await volume_status(stand, root) == "error"
    assert (await rebuild(stand, server_id)).status_code == 202
    assert await volume_status(stand, root) == "downloading"


async def test_a_root_volume_with_which_something_is_done_gets_no_image(stand: Stand) -> None:
    server_id, root = await boot_from_volume(stand)
    await rebuild(stand, server_id)
    await act(stand, server_id, {"os-resetState": {"state": "error"}}, caller="admin")
    answer = await rebuild(stand, server_id)
    assert (answer.status_code, f"Volume {root}" in message(answer)) == (409, True)


async def test_a_root_volume_of_two_servers_gets_no_image(stand: Stand) -> None:
    root = await stand.make_volume(bootable=True, multiattach=True)
    disk = {"uuid": root, "source_type": "volume", "destination_type": "volume", "boot_index": 0}
    servers = [await stand.make_server(rung=None, imageRef="", block_device_mapping_v2=[disk]) for _ in range(2)]
    for server_id in servers:
        await stand.host_moved(server_id, root, Rung.PLUGGED)
        await stand.host_saw(server_id, RUNNING)
    answer = await rebuild(stand, servers[0])
    assert (answer.status_code, "in 2 servers" in message(answer)) == (409, True)


async def test_a_rebuilt_servers_volumes_stay_on_their_bus_whatever_the_image_would_have(stand: Stand) -> None:
    server_id, volume_id = await stand.make_server(), await stand.make_volume()
    image_id = await stand.make_image(name="other", hw_disk_bus="virtio")
    await stand.attach(server_id, volume_id)
    await stand.host_moved(server_id, volume_id, Rung.PLUGGED)
    assert (await act(stand, server_id, {"rebuild": {"imageRef": image_id}})).status_code == 202
    assert volume_bus((await find(stand, server_id)).image) == "scsi"
    alone = await stand.make_server()
    assert (await act(stand, alone, {"rebuild": {"imageRef": image_id}})).status_code == 202
    assert volume_bus((await find(stand, alone)).image) == "virtio"


@pytest.mark.parametrize("ended", [False, True], ids=["the guest does not go", "the domain cannot be made"])
@pytest.mark.parametrize(
    ("first", "action", "shown"),
    [
        (None, {"resize": {"flavorRef": "large"}}, "ACTIVE"),
        (None, {"rebuild": {"imageRef": "other"}}, "ACTIVE"),
        (None, {"rescue": {"rescue_image_ref": "other"}}, "ACTIVE"),
        ({"rescue": None}, {"unrescue": None}, "RESCUE"),
        ({"resize": {"flavorRef": "large"}}, {"revertResize": None}, "VERIFY_RESIZE"),
    ],
)
async def test_a_shape_that_does_not_come_about_leaves_the_server_as_it_was(
    stand: Stand, first: dict[str, Any] | None, action: dict[str, Any], shown: str, ended: bool
) -> None:
    await make_large(stand)
    server_id, image_id = await stand.make_server(), await stand.make_image(name="other")
    if first is not None:
        await act(stand, server_id, first)
        await host_made(stand, server_id, RUNNING)
    before = (await find(stand, server_id)).made_of
    other = json.loads(json.dumps(action).replace("other", image_id))
    assert (await act(stand, server_id, other)).status_code in (200, 202)
    if ended:
        await stand.host_saw(server_id, DEFINED)
    await stand.host_failed(server_id)
    server = await find(stand, server_id)
    assert server.made_of == before
    assert not server.is_reshaping
    assert await show(stand, server_id) == ("ERROR" if ended else shown, None)
    assert await last_action(stand, server_id) == (next(iter(action)), "Error")


async def test_the_image_that_a_server_has_is_kept_until_the_one_that_it_is_to_have_is_copied(stand: Stand) -> None:
    server_id, image_id = await stand.make_server(), await stand.make_image(name="other")
    file = (await find(stand, server_id)).image["file"]
    assert not await stand.runtime.store.read(is_file_in_use, file)
    await act(stand, server_id, {"rebuild": {"imageRef": image_id}})
    assert await stand.runtime.store.read(is_file_in_use, file)
    await host_made(stand, server_id, RUNNING)
    assert not await stand.runtime.store.read(is_file_in_use, file)


@pytest.mark.parametrize("end", ["confirmResize", "revertResize"])
@pytest.mark.parametrize("first", [RUNNING, DEFINED])
async def test_a_resize_waits_to_be_confirmed_or_reverted(stand: Stand, first: ServerRung, end: str) -> None:
    await make_large(stand)
    server_id, volume_id = await stand.make_server(), await stand.make_volume()
    if first is DEFINED:
        await act(stand, server_id, {"os-stop": None})
        await stand.host_saw(server_id, DEFINED)
    for key in ("confirmResize", "revertResize"):
        assert (await act(stand, server_id, {key: None})).status_code == 409
    assert (await act(stand, server_id, {"resize": {"flavorRef": "large"}})).status_code == 202
    assert await show(stand, server_id) == ("RESIZE", "resize_migrating")
    back = () if first is DEFINED else (RUNNING,)
    await host_made(stand, server_id, *back)
    assert await show(stand, server_id) == ("VERIFY_RESIZE", None)
    assert await last_action(stand, server_id) == ("resize", "Success")
    for body in ({"os-start": None}, {"os-stop": None}, {"rebuild": {"imageRef": stand.image_id}}):
        assert (await act(stand, server_id, body)).status_code == 409
    assert (await stand.attach(server_id, volume_id)).status_code == 200
    await stand.host_moved(server_id, volume_id, Rung.PLUGGED)
    answer = await act(stand, server_id, {end: None})
    settled = ("SHUTOFF" if first is DEFINED else "ACTIVE", None)
    if end == "confirmResize":
        assert answer.status_code == 204
    else:
        assert answer.status_code == 202
        assert await show(stand, server_id) == ("REVERT_RESIZE", "resize_reverting")
        await host_made(stand, server_id, *back)
    assert await show(stand, server_id) == settled
    assert await last_action(stand, server_id) == (end, "Success")
    shown = (await stand.call("GET", f"/servers/{server_id}", version="2.90")).json()["server"]
    assert shown["flavor"]["original_name"] == ("large" if end == "confirmResize" else "tiny")
    assert [one["id"] for one in shown["os-extended-volumes:volumes_attached"]] == [volume_id]


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"resize": {"flavorRef": "none-such"}}, 400, "none-such"),
        ({"resize": {"flavorRef": "tiny"}}, 400, "must change flavor"),
        ({"resize": {}}, 400, "flavorRef"),
        ({"resize": {"flavorRef": "large", "size": 1}}, 400, "size"),
        ({"resize": None}, 400, "resize"),
        ({"resize": {"flavorRef": "huge"}}, 400, "No valid host"),
        ({"resize": {"flavorRef": "large"}}, 403, "Quota exceeded for cores"),
        ({"rebuild": {"imageRef": "0" * 32}}, 400, "0000"),
        ({"rebuild": {"imageRef": "web"}}, 400, "no image's id"),
        ({"rebuild": {}}, 400, "imageRef"),
        ({"rebuild": {"imageRef": "{image}", "key_name": "k"}}, 400, "key_name"),
        ({"rebuild": {"imageRef": "{image}", "personality": []}}, 400, "personality"),
        ({"rebuild": {"imageRef": "{image}", "preserve_ephemeral": True}}, 400, "ephemeral"),
        ({"rebuild": {"imageRef": "{image}", "name": " x"}}, 400, "no space at either end"),
        ({"rescue": {"rescue_image_ref": "0" * 32}}, 400, "0000"),
        ({"rescue": {"rescue_image_ref": "web"}}, 400, "no image's id"),
        ({"rescue": {"with": "it"}}, 400, "with"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    stand: Stand, body: dict[str, Any], code: int, words: str
) -> None:
    await make_large(stand)
    await make_large(stand, id="huge", name="huge", ram=1 << 30)
    server_id = await stand.make_server()
    if code == 403:
        quota = {"quota_set": {"cores": 1}}
        project = (await find(stand, server_id)).project_id
        answer = await stand.call("PUT", f"/os-quota-sets/{project}", quota, caller="admin")
        assert answer.status_code == 200, answer.text
    if body.get("rebuild", {}).get("imageRef") == "{image}":
        body = {"rebuild": body["rebuild"] | {"imageRef": stand.image_id}}
    answer = await act(stand, server_id, body)
    assert (answer.status_code, words in message(answer)) == (code, True), message(answer)
    assert await show(stand, server_id) == ("ACTIVE", None)


@pytest.mark.parametrize(
    "body",
    [
        {"rescue": None},
        {"unrescue": None},
        {"rebuild": {"imageRef": "{image}"}},
        {"resize": {"flavorRef": "large"}},
        {"confirmResize": None},
        {"revertResize": None},
    ],
)
async def test_locked_paused_and_foreign_servers_keep_their_shape(stand: Stand, body: dict[str, Any]) -> None:
    await make_large(stand)
    if "rebuild" in body:
        body = {"rebuild": {"imageRef": stand.image_id}}
    server_id = await stand.make_server()
    assert (await act(stand, server_id, body, caller="other")).status_code == 404
    await act(stand, server_id, {"pause": None})
    await stand.host_saw(server_id, ServerRung.PAUSED)
    assert "vm_state paused" in message(await act(stand, server_id, body))
    await act(stand, server_id, {"lock": None}, version="2.1")
    assert message(await act(stand, server_id, body)) == f"Instance {server_id} is locked"
    assert (await find(stand, server_id)).wanted_shape == 0


async def test_a_root_disk_only_grows(stand: Stand) -> None:
    await make_large(stand)
    await make_large(stand, id="larger", name="larger", disk=5)
    server_id = await stand.make_server(flavorRef="larger")
    answer = await act(stand, server_id, {"resize": {"flavorRef": "large"}})
    assert (answer.status_code, "only grows" in message(answer)) == (400, True)


async def test_a_reset_gives_a_change_of_shape_up(stand: Stand) -> None:
    server_id = await stand.make_server()
    await act(stand, server_id, {"rescue": None})
    answer = await act(stand, server_id, {"os-resetState": {"state": "active"}}, caller="admin")
    assert answer.status_code == 202
    assert await show(stand, server_id) == ("ACTIVE", None)
    server = await find(stand, server_id)
    assert (server.is_reshaping, server.extras.rescue, server.extras.task) == (False, None, None)
