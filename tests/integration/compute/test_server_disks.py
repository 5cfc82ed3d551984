"""Servers that are made with volumes: what may be asked for, what is entered at once, and what follows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kevel.control.copies.copies import Copies
from kevel.control.volumes.worker import VolumeWorker
from kevel.domain.ladder import Rung
from kevel.domain.model import ServerRung
from kevel.store.servers import load_server
from tests.integration.compute.conftest import Stand, message

ABSENT = "00000000-0000-4000-8000-000000000000"


def boot(volume_id: str, **keys: Any) -> dict[str, Any]:
    """The block device that a server boots from."""
    return {
        "uuid": volume_id,
        "source_type": "volume",
        "destination_type": "volume",
        "boot_index": 0,
        **keys,
    }


def data(volume_id: str, **keys: Any) -> dict[str, Any]:
    """A block device besides."""
    return boot(volume_id, boot_index=-1, **keys)


def blank(**keys: Any) -> dict[str, Any]:
    """A volume that is made for the server, empty."""
    return {"source_type": "blank", "destination_type": "volume", "volume_size": 1, "boot_index": None, **keys}


async def ask(stand: Stand, *disks: dict[str, Any], **keys: Any) -> Any:
    return await stand.ask_server(**{"imageRef": "", "block_device_mapping_v2": list(disks), **keys})


async def make(stand: Stand, *disks: dict[str, Any], **keys: Any) -> str:
    answer = await ask(stand, *disks, **keys)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["server"]["id"])


async def show(stand: Stand, server_id: str, version: str = "2.100", caller: str = "member") -> dict[str, Any]:
    answer = await stand.call("GET", f"/servers/{server_id}", version=version, caller=caller)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["server"])


async def attachments(stand: Stand, server_id: str) -> list[dict[str, Any]]:
    answer = await stand.call("GET", f"/servers/{server_id}/os-volume_attachments", version="2.100")
    return list(answer.json()["volumeAttachments"])


async def status_of(stand: Stand, volume_id: str) -> str:
    return (await stand.volumes.get(stand.actor, volume_id)).status


async def work(stand: Stand, volume_id: str) -> None:
    """Have the volume's worker make it."""
    worker = VolumeWorker(stand.runtime, {"sim": stand.backend}, Copies(stand.runtime))
    await worker.look(volume_id)


async def test_a_server_boots_from_a_volume_which_is_claimed_at_once(stand: Stand) -> None:
    root, more = await stand.make_volume(bootable=True), await stand.make_volume()
    server_id = await make(stand, boot(root, delete_on_termination=True), data(more, tag="db", device_name="vdq"))
    assert await status_of(stand, root) == await status_of(stand, more) == "attaching"
    shown = await show(stand, server_id)
    assert (shown["image"], shown["status"]) == ("", "BUILD")
    assert shown["os-extended-volumes:volumes_attached"] == [
        {"id": root, "delete_on_termination": True},
        {"id": more, "delete_on_termination": False},
    ]
    listed = await attachments(stand, server_id)
    assert [(one["volumeId"], one["device"], one["tag"]) for one in listed] == [
        (root, "/dev/sda", None),
        (more, "/dev/vdq", "db"),
    ]
    for volume_id in (root, more):
        await stand.host_moved(server_id, volume_id, Rung.PLUGGED)
        assert await status_of(stand, volume_id) == "in-use"
    await stand.host_saw(server_id, ServerRung.RUNNING)
    assert (await show(stand, server_id))["status"] == "ACTIVE"
    old = await show(stand, server_id, "2.2")
    assert old["os-extended-volumes:volumes_attached"] == [{"id": root}, {"id": more}]
    admins = await show(stand, server_id, caller="admin")
    assert admins["OS-EXT-SRV-ATTR:root_device_name"] == "/dev/sda"


async def test_the_making_of_a_server_is_its_only_action(stand: Stand) -> None:
    server_id = await make(stand, boot(await stand.make_volume(bootable=True)))
    listed = (await stand.call("GET", f"/servers/{server_id}/os-instance-actions")).json()["instanceActions"]
    assert [action["action"] for action in listed] == ["create"]


async def test_a_volume_in_one_server_is_refused_to_another_and_nothing_is_made(stand: Stand) -> None:
    volume_id, other = await stand.make_volume(bootable=True), await stand.make_volume(bootable=True)
    first = await make(stand, boot(volume_id))
    answer = await ask(stand, boot(other), data(volume_id))
    assert answer.status_code == 400
    said = message(answer)
    assert f"block device 1 (volume {volume_id})" in said
    assert first in said
    assert await status_of(stand, other) == "available"
    answer = await ask(stand, boot(other), data(other))
    assert (answer.status_code, "given twice" in message(answer)) == (400, True)


async def test_volumes_are_made_for_the_server_and_given_to_its_host_then(stand: Stand) -> None:
    root = await stand.make_volume(bootable=True)
    server_id = await make(stand, boot(root), blank(delete_on_termination=True))
    (_, made) = await attachments(stand, server_id)
    volume = (await stand.volumes.get(stand.actor, made["volumeId"])).volume
    assert (volume.name, volume.size_gib, volume.project_id) == (f"{server_id}-blank-vol", 1, stand.actor.project_id)
    assert await status_of(stand, volume.id) == "creating"
    assert await stand.rung_of(server_id, volume.id) is Rung.RESERVED
    assert await stand.waits_for(server_id) == {root, volume.id}
    await work(stand, volume.id)
    assert await status_of(stand, volume.id) == "attaching"
    await stand.look_at_path(server_id, volume.id)
    assert await stand.rung_of(server_id, volume.id) is Rung.EXPORTED


async def test_a_server_is_made_with_volumes_of_an_image_and_of_a_snapshot(stand: Stand) -> None:
    of_image = {
        "uuid": stand.image_id,
        "source_type": "image",
        "destination_type": "volume",
        "boot_index": 0,
        "volume_size": 2,
    }
    server_id = await make(stand, of_image, volume_type := blank(volume_type="std", boot_index=1))
    assert volume_type["boot_index"] == 1
    (root, more) = await attachments(stand, server_id)
    volume = (await stand.volumes.get(stand.actor, root["volumeId"])).volume
    assert (volume.size_gib, volume.bootable, volume.name) == (2, True, "")
    assert (volume.image_metadata or {})["image_id"] == stand.image_id
    assert (await stand.volumes.get(stand.actor, more["volumeId"])).type_name == "std"
    shown = await show(stand, server_id)
    assert shown["image"] == ""
    snapshot_id = await stand.make_snapshot(bootable=True)
    of_snapshot = {
        "uuid": snapshot_id,
        "source_type": "snapshot",
        "destination_type": "volume",
        "boot_index": "0",
    }
    server_id = await make(stand, of_snapshot)
    ((root),) = await attachments(stand, server_id)
    assert (await stand.volumes.get(stand.actor, root["volumeId"])).volume.snapshot_id == snapshot_id


async def test_each_of_several_servers_gets_volumes_of_its_own(stand: Stand) -> None:
    local = {"uuid": stand.image_id, "source_type": "image", "destination_type": "local", "boot_index": 0}
    await make(stand, local, blank(), imageRef=stand.image_id, min_count=2)
    servers = (await stand.call("GET", "/servers")).json()["servers"]
    found = {one["volumeId"] for server in servers for one in await attachments(stand, server["id"])}
    assert (len(servers), len(found)) == (2, 2)
    answer = await ask(stand, local, data(await stand.make_volume()), imageRef=stand.image_id, min_count=2)
    assert answer.status_code == 400
    assert "multiple instances" in message(answer)


async def test_a_volume_that_cannot_be_made_fails_its_server_with_a_fault_that_names_it(stand: Stand) -> None:
    server_id = await make(stand, boot(await stand.make_volume(bootable=True)), blank())
    (_, made) = await attachments(stand, server_id)
    stand.backend.total_bytes = 0
    await work(stand, made["volumeId"])
    shown = await show(stand, server_id)
    assert shown["status"] == "ERROR"
    assert f"Volume {made['volumeId']}: it could not be made" in shown["fault"]["message"]
    assert await status_of(stand, made["volumeId"]) == "error"
    # The server keeps what it was made with until it is deleted.
    assert len(await attachments(stand, server_id)) == 2
    actions = (await stand.call("GET", f"/servers/{server_id}/os-instance-actions")).json()["instanceActions"]
    assert actions[0]["message"] == "Error"


@pytest.mark.parametrize(
    ("caller", "body", "action"),
    [
        ("member", {"reboot": {"type": "HARD"}}, "reboot"),
        ("member", {"rescue": {"rescue_image_ref": "{image}"}}, "rescue"),
        ("admin", {"os-resetState": {"state": "active"}}, "create"),
    ],
)
async def test_a_server_whose_volume_could_not_be_made_fails_at_once_whenever_it_is_to_start(
    stand: Stand, caller: str, body: dict[str, Any], action: str
) -> None:
    server_id = await make(stand, boot(await stand.make_volume(bootable=True)), blank())
    (_, made) = await attachments(stand, server_id)
    stand.backend.total_bytes = 0
    await work(stand, made["volumeId"])
    if action == "rescue":
        body = {"rescue": {"rescue_image_ref": stand.image_id}}
    answer = await stand.call("POST", f"/servers/{server_id}/action", body, caller=caller, version="2.90")
    assert answer.status_code in (200, 202), answer.text
    shown = await show(stand, server_id)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ERROR", None)
    assert f"Volume {made['volumeId']}: it could not be made: " in shown["fault"]["message"]
    assert shown["fault"]["message"].count("could not be made") == 1
    path = f"/servers/{server_id}/os-instance-actions"
    (last, *_) = (await stand.call("GET", path)).json()["instanceActions"]
    assert (last["action"], last["message"]) == (action, "Error")
    (event, *_) = (await stand.call("GET", f"{path}/{last['request_id']}", version="2.84")).json()["instanceAction"][
        "events"
    ]
    assert made["volumeId"] in event["details"]


async def test_a_disk_that_cannot_be_plugged_fails_the_server_that_waits_for_it(stand: Stand) -> None:
    root = await stand.make_volume(bootable=True)
    server_id = await make(stand, boot(root))
    await stand.host_refused(server_id, root, "The disk is too thick.")
    shown = await show(stand, server_id)
    assert (shown["status"], shown["fault"]["message"]) == ("ERROR", f"Volume {root}: The disk is too thick.")
    answer = await stand.call("DELETE", f"/servers/{server_id}")
    assert answer.status_code == 204


async def test_s13_a_server_whose_guest_may_have_been_started_is_in_error_once_its_host_says_that_none_runs(
    stand: Stand,
) -> None:
    root = await stand.make_volume(bootable=True)
    server_id = await make(stand, boot(root))
    await stand.host_saw(server_id, ServerRung.DEFINED)
    await stand.host_refused(server_id, root, "The disk is too thick.")
    shown = await show(stand, server_id)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("BUILD", "spawning")
    server = await stand.runtime.store.read(load_server, server_id)
    assert server is not None
    assert server.extras.doomed is not None
    assert server.extras.doomed.message == f"Volume {root}: The disk is too thick."
    await stand.host_failed(server_id)
    shown = await show(stand, server_id)
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ERROR", None)
    server = await stand.runtime.store.read(load_server, server_id)
    assert server is not None
    assert server.extras.doomed is None


async def test_a_deleted_server_gives_its_volumes_back_or_takes_them_along(stand: Stand) -> None:
    root, kept = await stand.make_volume(bootable=True), await stand.make_volume()
    server_id = await make(stand, boot(root, delete_on_termination=True), data(kept), blank(delete_on_termination=True))
    made = (await attachments(stand, server_id))[2]["volumeId"]
    assert (await stand.call("DELETE", f"/servers/{server_id}")).status_code == 204
    await stand.look_at_path(server_id, made)  # it never reached the host: the control plane lets it go
    assert await status_of(stand, made) == "deleting"
    assert (await show(stand, server_id))["OS-EXT-STS:task_state"] == "deleting"
    await stand.host_removed(server_id)
    for volume_id in (root, kept):
        await stand.host_moved(server_id, volume_id, Rung.EXPORTED)
    assert (await stand.call("GET", f"/servers/{server_id}")).status_code == 404
    assert (await status_of(stand, root), await status_of(stand, kept)) == ("deleting", "available")


async def test_a_volume_with_snapshots_stays_when_its_server_goes(stand: Stand) -> None:
    volume_id = await stand.make_volume(bootable=True)
    await stand.make_snapshot(of_volume=volume_id)
    server_id = await make(stand, boot(volume_id, delete_on_termination=True))
    await stand.call("DELETE", f"/servers/{server_id}")
    await stand.host_removed(server_id)
    await stand.host_moved(server_id, volume_id, Rung.EXPORTED)
    assert await status_of(stand, volume_id) == "available"


async def test_the_root_volume_is_not_detached(stand: Stand) -> None:
    root = await stand.make_volume(bootable=True)
    server_id = await make(stand, boot(root))
    answer = await stand.call("DELETE", f"/servers/{server_id}/os-volume_attachments/{root}")
    assert answer.status_code == 400
    assert "root device" in message(answer)


@pytest.mark.parametrize(
    ("disks", "keys", "words"),
    [
        ([blank()], {}, "boot_index 0"),
        ([blank(boot_index=1)], {}, "boot_index 0"),
        ([blank(boot_index=0), blank(boot_index=2)], {}, "0, 1, 2 and so on"),
        ([blank(boot_index=0), blank(boot_index=0)], {}, "0, 1, 2 and so on"),
        ([blank(boot_index="first")], {}, "boot_index has to be a number"),
        ([blank(boot_index=True)], {}, "boot_index has to be a number"),
        ([blank(boot_index=0, volume_size=None)], {}, "non-zero size"),
        ([blank(boot_index=0, volume_size="x")], {}, "volume_size has to be"),
        ([blank(boot_index=0, volume_size=0)], {}, "volume_size has to be"),
        ([blank(boot_index=0, uuid=ABSENT)], {}, "Invalid device UUID"),
        ([blank(boot_index=0, destination_type="local")], {}, "no ephemeral"),
        ([blank(boot_index=0, destination_type="moon")], {}, "local or volume"),
        ([blank(boot_index=0, source_type="moon")], {}, "Invalid source_type"),
        ([blank(boot_index=0, disk_bus="moon")], {}, "disk_bus has to be one of"),
        ([blank(boot_index=0, device_type="floppy")], {}, "floppy"),
        ([blank(boot_index=0, guest_format="swap")], {}, "guest_format"),
        ([blank(boot_index=0, tag="a,b")], {}, "a tag has"),
        ([blank(boot_index=0, volume_type="none-such")], {}, "none-such"),
        ([blank(boot_index=0, volume_type=7)], {}, "volume_type has to be"),
        ([blank(boot_index=0, device_name="a b")], {}, "device_name"),
        ([blank(boot_index=0), blank(device_name="sda")], {}, "/dev/sda"),
        ([blank(boot_index=0, moon=1)], {}, "'moon' was unexpected"),
        ([blank(boot_index=0, delete_on_termination="maybe")], {}, "no boolean"),
        ([blank(boot_index=0, delete_on_termination=[])], {}, "has to be a boolean"),
        ([blank(boot_index=0, no_device="true")], {}, "has to have boot_index 0"),
        ([boot(ABSENT)], {}, f"volume {ABSENT}"),
        ([boot(ABSENT, source_type="snapshot")], {}, f"snapshot {ABSENT}"),
        ([boot(ABSENT, source_type="image", volume_size=1)], {}, f"image {ABSENT}"),
        ([boot("moon")], {}, "no volume's id"),
        ([boot(ABSENT, volume_type="std")], {}, "volume_type with source_type=volume"),
        ([boot(ABSENT, destination_type="local")], {}, "only be mapped with destination_type volume"),
        ([boot(ABSENT, uuid=None)], {}, "Missing device UUID"),
        ([boot(ABSENT)], {"version": "2.40", "tag": "t"}, "'tag' was unexpected"),
        ([boot(ABSENT)], {"version": "2.66", "volume_type": "std"}, "'volume_type' was unexpected"),
        ([blank(boot_index=0)] + [blank()] * 5, {}, "besides its root disk (at most 4)"),
        ([blank(boot_index=0, volume_size=10**7)], {}, "block device 0 (blank)"),
    ],
)
async def test_a_bad_block_device_is_named_and_nothing_is_made(
    stand: Stand, disks: list[dict[str, Any]], keys: dict[str, Any], words: str
) -> None:
    version = keys.get("version", "2.100")
    first = disks[0] | {name: value for name, value in keys.items() if name != "version"}
    answer = await ask(stand, first, *disks[1:], version=version)
    assert answer.status_code in (400, 403, 409)
    assert words in message(answer)
    assert (await stand.call("GET", "/servers")).json() == {"servers": []}
    assert await stand.count_volumes() == 0


async def test_a_tag_is_taken_at_2_32_and_from_2_42_on(stand: Stand) -> None:
    for version, taken in (("2.31", False), ("2.32", True), ("2.33", False), ("2.41", False), ("2.42", True)):
        networks = "none" if version >= "2.37" else None
        answer = await ask(stand, blank(boot_index=0, tag="t"), version=version, networks=networks)
        assert (answer.status_code == 202) is taken, (version, answer.text)


async def test_the_root_has_to_be_bootable(stand: Stand) -> None:
    answer = await ask(stand, boot(await stand.make_volume()))
    assert answer.status_code == 400
    assert "not bootable" in message(answer)


async def test_another_projects_volume_is_not_found(stand: Stand) -> None:
    theirs = await stand.make_volume(project="other", bootable=True)
    answer = await ask(stand, boot(theirs))
    assert answer.status_code == 400
    assert "could not be found" in message(answer)


async def test_a_shared_volume_needs_2_60(stand: Stand) -> None:
    shared = await stand.make_volume(bootable=True, multiattach=True)
    answer = await ask(stand, boot(shared), version="2.59")
    assert answer.status_code == 400
    assert "2.60" in message(answer)
    await make(stand, boot(shared), version="2.60")
    await make(stand, boot(shared), version="2.60")


async def test_novas_older_form_is_understood(stand: Stand) -> None:
    root, more = await stand.make_volume(bootable=True), await stand.make_volume()
    old = [
        {"device_name": "vda", "volume_id": root, "delete_on_termination": "1"},
        {"device_name": "vdb", "volume_id": more},
    ]
    server_id = await make(stand, imageRef="", block_device_mapping=old, block_device_mapping_v2=None)
    listed = await attachments(stand, server_id)
    assert [(one["volumeId"], one["delete_on_termination"]) for one in listed] == [(root, True), (more, False)]
    answer = await ask(stand, boot(root), block_device_mapping=old)
    assert "different block_device_mapping syntaxes" in message(answer)
    for bad in ([{"device_name": "vdb", "virtual_name": "swap"}], [{"device_name": "vdb"}]):
        answer = await ask(stand, block_device_mapping=bad, block_device_mapping_v2=None)
        assert answer.status_code == 400
        assert "block device 0" in message(answer)


async def test_a_local_root_is_described_as_it_is_and_no_otherwise(stand: Stand) -> None:
    local = {"uuid": stand.image_id, "source_type": "image", "destination_type": "local", "boot_index": 0}
    for keys, words in (
        ({"volume_size": 5}, "volume_size"),
        ({"delete_on_termination": False}, "always goes with its server"),
        ({"boot_index": -1}, "Mapping image to local"),
    ):
        answer = await ask(stand, local | keys, imageRef=stand.image_id)
        assert answer.status_code == 400
        assert words in message(answer)
    answer = await ask(stand, local)
    assert "Mapping image to local" in message(answer)


async def test_the_root_disks_bus_is_the_bus_of_all_volumes(stand: Stand) -> None:
    server_id = await make(stand, blank(boot_index=0, disk_bus="virtio"), blank(disk_bus="virtio"), blank())
    assert [one["device"] for one in await attachments(stand, server_id)] == ["/dev/vda", "/dev/vdb", "/dev/vdc"]
    answer = await ask(stand, blank(boot_index=0, disk_bus="virtio"), blank(disk_bus="sata"))
    assert (answer.status_code, "on the bus virtio" in message(answer)) == (400, True)
    answer = await ask(stand, blank(boot_index=0, disk_bus="ide"))
    assert (answer.status_code, "scsi, virtio, sata" in message(answer)) == (400, True)
    local = {"uuid": stand.image_id, "source_type": "image", "destination_type": "local", "boot_index": 0}
    server_id = await make(stand, local | {"disk_bus": "virtio"}, blank(), imageRef=stand.image_id)
    assert [one["device"] for one in await attachments(stand, server_id)] == ["/dev/vdb"]


async def test_a_running_guest_with_sata_disks_neither_gets_nor_loses_one(stand: Stand) -> None:
    root, more = await stand.make_volume(bootable=True), await stand.make_volume()
    server_id = await make(stand, boot(root, disk_bus="sata"), data(more))
    for volume_id in (root, more):
        await stand.host_moved(server_id, volume_id, Rung.PLUGGED)
    await stand.host_saw(server_id, ServerRung.RUNNING)
    answer = await stand.attach(server_id, await stand.make_volume())
    assert (answer.status_code, "SATA" in message(answer)) == (409, True)
    answer = await stand.call("DELETE", f"/servers/{server_id}/os-volume_attachments/{more}")
    assert (answer.status_code, "SATA" in message(answer)) == (409, True)
    await stand.call("POST", f"/servers/{server_id}/action", {"os-stop": None})
    await stand.host_saw(server_id, ServerRung.DEFINED)
    answer = await stand.call("DELETE", f"/servers/{server_id}/os-volume_attachments/{more}")
    assert answer.status_code == 202


async def test_a_volume_in_error_goes_with_its_server_if_it_should_and_stays_if_not(stand: Stand) -> None:
    server_id = await make(stand, blank(boot_index=0, delete_on_termination=True), blank())
    root, kept = [one["volumeId"] for one in await attachments(stand, server_id)]
    stand.backend.total_bytes = 0
    for volume_id in (root, kept):
        await work(stand, volume_id)
    assert (await show(stand, server_id))["status"] == "ERROR"
    await stand.call("DELETE", f"/servers/{server_id}")
    for volume_id in (root, kept):
        await stand.look_at_path(server_id, volume_id)
    assert (await status_of(stand, root), await status_of(stand, kept)) == ("deleting", "error")
    assert (await show(stand, server_id))["status"] == "ERROR", "its host has not said yet that nothing of it is there"
    await stand.host_removed(server_id)
    assert (await stand.call("GET", f"/servers/{server_id}")).status_code == 404


async def test_a_server_whose_host_is_silent_keeps_its_volumes_until_the_host_has_let_go(stand: Stand) -> None:
    root, more = await stand.make_volume(bootable=True), await stand.make_volume()
    server_id = await make(stand, boot(root), data(more))
    await stand.host_moved(server_id, root, Rung.PLUGGED)  # half attached: the other is on its way
    await stand.call("DELETE", f"/servers/{server_id}")
    assert (await stand.call("DELETE", f"/servers/{server_id}")).status_code == 204
    for volume_id in (root, more):
        assert await status_of(stand, volume_id) == "detaching"
        answer = await ask(stand, boot(volume_id))
        assert server_id in message(answer)
    await stand.host_removed(server_id)
    for volume_id in (root, more):
        await stand.host_moved(server_id, volume_id, Rung.EXPORTED)
        assert await status_of(stand, volume_id) == "available"
    assert (await stand.call("GET", f"/servers/{server_id}")).status_code == 404


def defines(*items: dict[str, Any], **more: str) -> dict[str, str]:
    """The properties of an image that defines block devices."""
    return {"block_device_mapping": json.dumps(items), "bdm_v2": "True", "root_device_name": "/dev/sda", **more}


def of_snapshot(snapshot_id: str, **keys: Any) -> dict[str, Any]:
    """A block device as a createImage of a server with volumes writes it."""
    known = {"source_type": "snapshot", "destination_type": "volume", "snapshot_id": snapshot_id, "boot_index": None}
    nothing = dict.fromkeys(("volume_id", "image_id", "no_device", "guest_format", "tag", "volume_type"))
    return known | nothing | {"volume_size": 1, "delete_on_termination": True, "disk_bus": "scsi"} | keys


async def test_a_server_gets_the_volumes_that_its_image_defines(stand: Stand) -> None:
    root, more = await stand.make_snapshot(bootable=True), await stand.make_snapshot()
    image_id = await stand.make_image(
        **defines(
            of_snapshot(root, boot_index=0, device_name="/dev/sda", device_type="disk"),
            of_snapshot(more, device_name="/dev/sdb"),
            blank(device_name="/dev/sdc"),
        )
    )
    local = {"uuid": image_id, "source_type": "image", "destination_type": "local", "boot_index": 0}
    for disks in (None, [local]):
        server_id = await make(stand, imageRef=image_id, block_device_mapping_v2=disks)
        listed = await attachments(stand, server_id)
        assert [(one["device"], one["delete_on_termination"]) for one in listed] == [
            ("/dev/sda", True),
            ("/dev/sdb", True),
            ("/dev/sdc", False),
        ]
        volumes = [(await stand.volumes.get(stand.actor, one["volumeId"])).volume for one in listed]
        assert [volume.snapshot_id for volume in volumes] == [root, more, None]
        assert await stand.waits_for(server_id) == {volume.id for volume in volumes}
        shown = await show(stand, server_id)
        assert shown["image"]["id"] == image_id


async def test_an_images_volumes_come_beside_its_own_root_disk(stand: Stand) -> None:
    image_id = await stand.make_image(**defines(blank(device_name="vdb"), blank(boot_index=1)))
    server_id = await make(stand, imageRef=image_id, block_device_mapping_v2=None)
    assert [one["device"] for one in await attachments(stand, server_id)] == ["/dev/vdb", "/dev/sdb"]


async def test_a_request_takes_the_place_of_what_its_image_defines_under_the_same_device_name(stand: Stand) -> None:
    root, other = await stand.make_snapshot(bootable=True), await stand.make_volume(bootable=True)
    image_id = await stand.make_image(
        **defines(of_snapshot(root, boot_index=0, device_name="/dev/sda"), blank(device_name="/dev/sdb"))
    )
    server_id = await make(
        stand, boot(other, device_name="sda"), {"no_device": True, "device_name": "/dev/sdb"}, imageRef=image_id
    )
    assert [one["volumeId"] for one in await attachments(stand, server_id)] == [other]
    # Under another name there would be two to boot from.
    another = await stand.make_volume(bootable=True)
    answer = await ask(stand, boot(another, device_name="sdx"), imageRef=image_id)
    assert (answer.status_code, "they are 0, 0" in message(answer)) == (400, True)
    old = [{"volume_id": another, "device_name": "/dev/sdb"}]
    server_id = await make(stand, imageRef=image_id, block_device_mapping_v2=None, block_device_mapping=old)
    (first, second) = await attachments(stand, server_id)
    assert sorted([first["device"], second["device"]]) == ["/dev/sda", "/dev/sdb"]
    assert another in (first["volumeId"], second["volumeId"])


async def test_an_image_may_define_its_volumes_in_the_older_form(stand: Stand) -> None:
    root, more = await stand.make_snapshot(bootable=True), await stand.make_snapshot()
    old: list[dict[str, Any]] = [{"device_name": "vda", "snapshot_id": root}]
    old.append({"device_name": "vdb", "snapshot_id": more, "volume_size": 2})
    image_id = await stand.make_image(**(defines(*old, bdm_v2="", root_device_name="/dev/vda")))
    server_id = await make(stand, imageRef=image_id, block_device_mapping_v2=None)
    listed = await attachments(stand, server_id)
    volumes = [(await stand.volumes.get(stand.actor, one["volumeId"])).volume for one in listed]
    assert [(volume.snapshot_id, volume.size_gib) for volume in volumes] == [(root, 1), (more, 2)]


async def test_a_root_volume_that_is_to_be_made_of_such_an_image_is_made_as_the_image_says(stand: Stand) -> None:
    root = await stand.make_snapshot(bootable=True)
    image_id = await stand.make_image(**defines(of_snapshot(root, boot_index=0)))
    of_image = boot(image_id, source_type="image", volume_size=1)
    (one,) = await attachments(stand, await make(stand, of_image))
    assert (await stand.volumes.get(stand.actor, one["volumeId"])).volume.snapshot_id == root


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"block_device_mapping": "moon"}, "list of objects"),
        ({"block_device_mapping": "[1]"}, "list of objects"),
        ({"block_device_mapping": json.dumps([{}] * 257)}, "more than 256"),
        (defines(of_snapshot(ABSENT, boot_index=0)), f"block device 0 of the image (snapshot {ABSENT})"),
        (defines({"source_type": "blank", "destination_type": "local"}), "no ephemeral"),
        (defines(blank(boot_index=2)), "0, 1, 2 and so on"),
        (defines(blank(moon=1)), "'moon' was unexpected"),
        (defines({"virtual_name": "swap"}, bdm_v2="false"), "no ephemeral"),
        ({"hw_scsi_model": "lsilogic"}, "it has virtio-scsi"),
    ],
)
async def test_an_image_whose_block_devices_there_cannot_be_makes_no_server(
    stand: Stand, properties: dict[str, str], words: str
) -> None:
    image_id = await stand.make_image(**properties)
    answer = await ask(stand, imageRef=image_id, block_device_mapping_v2=None)
    assert (answer.status_code, words in message(answer)) == (400, True), message(answer)
    assert (await stand.call("GET", "/servers")).json()["servers"] == []


async def test_an_image_that_defines_block_devices_rescues_no_server(stand: Stand) -> None:
    server_id, image_id = await stand.make_server(), await stand.make_image(**defines(blank()))
    body = {"rescue": {"rescue_image_ref": image_id}}
    answer = await stand.call("POST", f"/servers/{server_id}/action", body)
    assert (answer.status_code, "defines block devices" in message(answer)) == (400, True)
