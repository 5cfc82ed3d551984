"""Shelving: what keeps its place, what gives it away, and what comes back with everything that it had."""

from __future__ import annotations

from typing import Any

import pytest

from kevel.control.servers.shelving import Place
from kevel.domain.errors import Conflict
from kevel.domain.ladder import Rung
from kevel.domain.model import Actor, ServerRung
from kevel.store.hosts import register_host
from kevel.store.servers import list_used, load_server
from tests.integration.compute.conftest import FACTS, HOST, IMAGES_MAX, MEMBER, Stand, message

ADMIN = Actor(user_id="u-admin", project_id="33" * 16, request_id="req-admin", is_admin=True)


async def act(
    stand: Stand, server_id: str, body: dict[str, Any], *, caller: str = "member", version: str | None = None
) -> tuple[int, str]:
    answer = await stand.call("POST", f"/servers/{server_id}/action", body, caller=caller, version=version)
    return answer.status_code, "" if answer.status_code == 202 else message(answer)


async def show(stand: Stand, server_id: str, *, caller: str = "member") -> dict[str, Any]:
    shown: dict[str, Any] = (await stand.call("GET", f"/servers/{server_id}", caller=caller)).json()["server"]
    return shown


async def state_of(stand: Stand, server_id: str) -> tuple[str, str | None]:
    shown = await show(stand, server_id)
    return shown["status"], shown["OS-EXT-STS:task_state"]


async def shelve(stand: Stand, server_id: str) -> None:
    """Shelve a server that runs, until its root disk is kept; it has its place still, or is about to leave."""
    await stand.keeping.shelve(MEMBER, server_id)
    await stand.host_saw(server_id, ServerRung.DEFINED)
    await stand.host_copied()
    assert await state_of(stand, server_id) == ("SHELVED", None)


async def offload(stand: Stand, server_id: str) -> None:
    """The same, and have it leave its host; it has no volumes."""
    await shelve(stand, server_id)
    assert await act(stand, server_id, {"shelveOffload": None}, caller="admin") == (202, "")
    await stand.host_saw(server_id, ServerRung.PLACED)
    assert await state_of(stand, server_id) == ("SHELVED_OFFLOADED", None)


async def used_hosts(stand: Stand) -> list[str]:
    return [used.host for used in await stand.runtime.store.read(list_used)]


async def attached(stand: Stand, server_id: str) -> str:
    """A volume that the running server has."""
    volume_id = await stand.make_volume()
    assert (await stand.attach(server_id, volume_id)).status_code == 200
    await stand.host_moved(server_id, volume_id, Rung.PLUGGED)
    return volume_id


async def volume_word(stand: Stand, volume_id: str) -> str:
    return (await stand.volumes.get(MEMBER, volume_id)).status


async def let_go(stand: Stand, server_id: str, volume_id: str) -> None:
    """The host of a server that leaves it lets go of the volume, and the storage shuts it out."""
    await stand.host_moved(server_id, volume_id, Rung.EXPORTED)
    await stand.look_at_path(server_id, volume_id)


async def test_a_shelved_server_is_stopped_kept_as_an_image_and_then_leaves_its_host(stand: Stand) -> None:
    server_id = await stand.make_server()
    assert await act(stand, server_id, {"shelve": None}) == (202, "")
    assert await state_of(stand, server_id) == ("ACTIVE", "shelving")
    await stand.host_saw(server_id, ServerRung.DEFINED)
    assert await state_of(stand, server_id) == ("SHUTOFF", "shelving_image_uploading")
    (image,) = [one for one in await stand.images.list_visible(MEMBER) if one.name == "web-shelved"]
    assert (image.status.value, image.properties["image_type"]) == ("saving", "snapshot")
    assert image.properties["instance_uuid"] == server_id
    await stand.host_copied()
    assert await state_of(stand, server_id) == ("SHELVED", "shelving_offloading")
    image = await stand.images.show(MEMBER, image.id)
    assert (image.status.value, image.size_bytes) == ("active", 20)
    with pytest.raises(Conflict, match="in use"):
        await stand.images.delete(MEMBER, image.id)
    await stand.host_saw(server_id, ServerRung.PLACED)
    assert await state_of(stand, server_id) == ("SHELVED_OFFLOADED", None)
    shown = await show(stand, server_id, caller="admin")
    assert (shown["OS-EXT-SRV-ATTR:host"], shown["hostId"], shown["OS-EXT-AZ:availability_zone"]) == (None, "", "")
    assert shown["OS-EXT-STS:power_state"] == 4
    assert (await stand.call("GET", f"/servers/{server_id}", version="2.16", caller="admin")).status_code == 200
    assert await used_hosts(stand) == [], "its room is another's"


async def test_an_offloaded_server_comes_back_with_its_root_disk_and_its_image_goes(stand: Stand) -> None:
    server_id = await stand.make_server()
    await offload(stand, server_id)
    assert await act(stand, server_id, {"unshelve": None}) == (202, "")
    assert await state_of(stand, server_id) == ("SHELVED_OFFLOADED", "unshelving")
    assert await used_hosts(stand) == [HOST]
    server = await stand.runtime.store.read(load_server, server_id)
    assert server is not None
    shelf = server.extras.shelf
    assert shelf is not None
    assert shelf.root is not None
    image_id = shelf.root.image_id
    await stand.host_saw(server_id, ServerRung.DEFINED, made=True)
    assert await state_of(stand, server_id) == ("SHELVED_OFFLOADED", "unshelving")
    await stand.host_saw(server_id, ServerRung.RUNNING)
    assert await state_of(stand, server_id) == ("ACTIVE", None)
    await stand.look_at_images()
    assert image_id not in {one.id for one in await stand.images.list_visible(MEMBER)}
    assert await stand.image_worker.unfinished() == []
    path = f"/servers/{server_id}/os-instance-actions"
    listed = (await stand.call("GET", path, version="2.84")).json()["instanceActions"]
    assert [one["action"] for one in listed] == ["unshelve", "shelveOffload", "shelve", "create"]
    for one in listed:
        action = (await stand.call("GET", f"{path}/{one['request_id']}", version="2.84")).json()["instanceAction"]
        assert [event["result"] for event in action["events"]] == ["Success"], one["action"]


async def test_a_shelved_server_that_has_its_place_still_starts_there(stand: Stand) -> None:
    server_id = await stand.make_server()
    await shelve(stand, server_id)
    assert await used_hosts(stand) == [HOST]
    code, text = await act(stand, server_id, {"unshelve": {"availability_zone": "nova"}}, version="2.77")
    assert (code, "has its place still" in text) == (409, True)
    assert await act(stand, server_id, {"unshelve": {}}, version="2.91") == (202, "")
    assert await state_of(stand, server_id) == ("SHELVED", "unshelving")
    await stand.host_saw(server_id, ServerRung.RUNNING)
    assert await state_of(stand, server_id) == ("ACTIVE", None)


async def test_its_volumes_are_reserved_without_a_path_and_get_one_again(stand: Stand) -> None:
    server_id = await stand.make_server()
    volume_id = await attached(stand, server_id)
    await shelve(stand, server_id)
    assert await volume_word(stand, volume_id) == "in-use"
    assert (await act(stand, server_id, {"shelveOffload": None}, caller="admin"))[0] == 202
    await stand.host_saw(server_id, ServerRung.PLACED)
    assert await state_of(stand, server_id) == ("SHELVED", "shelving_offloading"), "a path is left"
    await let_go(stand, server_id, volume_id)
    assert await state_of(stand, server_id) == ("SHELVED_OFFLOADED", None)
    assert await volume_word(stand, volume_id) == "reserved"
    late = await stand.make_volume()
    assert (await stand.attach(server_id, late)).status_code == 200
    assert await volume_word(stand, late) == "in-use", "nobody has to do anything for it until the server has a host"
    assert (await act(stand, server_id, {"unshelve": None}))[0] == 202
    assert await volume_word(stand, volume_id) == "attaching"
    await stand.host_saw(server_id, ServerRung.DEFINED, made=True)
    assert await stand.waits_for(server_id) == {volume_id, late}, "it is not started without what it had"
    for one in (volume_id, late):
        await stand.host_moved(server_id, one, Rung.PLUGGED)
        assert await volume_word(stand, one) == "in-use"
    await stand.host_saw(server_id, ServerRung.RUNNING)
    assert await state_of(stand, server_id) == ("ACTIVE", None)


async def test_a_server_without_a_host_runs_again_in_the_zone_that_is_named(stand: Stand) -> None:
    server_id = await stand.make_server()
    await offload(stand, server_id)
    assert await act(stand, server_id, {"unshelve": {"availability_zone": "nova"}}, version="2.77") == (202, "")
    assert (await state_of(stand, server_id))[1] == "unshelving"


async def test_volumes_go_at_once_from_a_server_without_a_host(stand: Stand) -> None:
    server_id = await stand.make_server()
    await offload(stand, server_id)
    volume_id, deleted = await stand.make_volume(), await stand.make_volume()
    for one in (volume_id, deleted):
        assert (await stand.attach(server_id, one)).status_code == 200
    path = f"/servers/{server_id}/os-volume_attachments"
    assert (await stand.call("DELETE", f"{path}/{volume_id}", version="2.20")).status_code == 202
    assert await volume_word(stand, volume_id) == "available"
    assert (await stand.call("DELETE", f"/servers/{server_id}")).status_code == 204
    assert (await stand.call("GET", f"/servers/{server_id}")).status_code == 404, "no host has to be asked"
    assert await volume_word(stand, deleted) == "available"
    await stand.look_at_images()
    assert not [one for one in await stand.images.list_visible(MEMBER) if one.name == "web-shelved"]


async def test_clients_of_before_2_20_give_no_volumes_to_shelved_servers_and_take_none(stand: Stand) -> None:
    server_id = await stand.make_server()
    volume_id = await attached(stand, server_id)
    await shelve(stand, server_id)
    path = f"/servers/{server_id}/os-volume_attachments"
    body = {"volumeAttachment": {"volumeId": await stand.make_volume()}}
    for answer in (
        await stand.call("POST", path, body, version="2.19"),
        await stand.call("DELETE", f"{path}/{volume_id}", version="2.19"),
    ):
        assert (answer.status_code, "vm_state shelved" in message(answer)) == (409, True)


async def test_a_server_without_a_host_takes_no_tag_and_no_shared_volume(stand: Stand) -> None:
    server_id = await stand.make_server()
    await offload(stand, server_id)
    assert (await stand.attach(server_id, await stand.make_volume(), tag="db")).status_code == 400
    assert (await stand.attach(server_id, await stand.make_volume(multiattach=True))).status_code == 400


async def test_it_goes_where_it_is_asked_to(stand: Stand) -> None:
    server_id = await stand.make_server()
    await offload(stand, server_id)
    assert (await act(stand, server_id, {"unshelve": {"availability_zone": "far"}}, version="2.77"))[0] == 400
    assert (await act(stand, server_id, {"unshelve": {}}, version="2.77"))[0] == 400
    assert (await act(stand, server_id, {"unshelve": {"host": "host-2"}}, version="2.91"))[0] == 403
    assert (await act(stand, server_id, {"unshelve": {"host": "none"}}, version="2.91", caller="admin"))[0] == 400
    await stand.runtime.store.write(
        register_host, name="host-2", availability_zone="far", facts=FACTS | {"hostname": "two"}, at=stand.now
    )
    to_host = {"unshelve": {"host": "host-2", "availability_zone": None}}
    assert await act(stand, server_id, to_host, version="2.91", caller="admin") == (202, "")
    shown = await show(stand, server_id, caller="admin")
    assert (shown["OS-EXT-SRV-ATTR:host"], shown["OS-EXT-AZ:availability_zone"]) == ("host-2", "far")


async def test_it_waits_for_room(stand: Stand) -> None:
    first = await stand.make_server(flavorRef="tiny")
    await offload(stand, first)
    await stand.runtime.store.write(
        register_host, name=HOST, availability_zone="nova", facts=FACTS | {"memory_mib": 1}, at=stand.now
    )
    code, text = await act(stand, first, {"unshelve": None})
    assert (code, text.startswith("No valid host was found.")) == (409, True)
    assert await state_of(stand, first) == ("SHELVED_OFFLOADED", None)


@pytest.mark.parametrize("place", [Place(zone="nova"), Place(host=HOST)])
async def test_a_place_is_for_whoever_has_none(stand: Stand, place: Place) -> None:
    server_id = await stand.make_server()
    await shelve(stand, server_id)
    with pytest.raises(Conflict):
        await stand.keeping.unshelve(ADMIN, server_id, place)


async def test_a_root_disk_that_cannot_be_kept_leaves_the_server_as_it_is_with_the_reason(stand: Stand) -> None:
    server_id = await stand.make_server()
    assert (await act(stand, server_id, {"shelve": None}))[0] == 202
    await stand.host_saw(server_id, ServerRung.DEFINED)
    await stand.host_copied(failed="There is no space left for the copy.")
    shown = await show(stand, server_id)
    assert (shown["status"], shown["fault"]["message"]) == ("ERROR", "There is no space left for the copy.")
    await stand.look_at_images()
    assert not [one for one in await stand.images.list_visible(MEMBER) if one.name == "web-shelved"]
    assert (await act(stand, server_id, {"reboot": {"type": "HARD"}}))[0] == 202
    await stand.host_saw(server_id, ServerRung.RUNNING)
    assert await state_of(stand, server_id) == ("ACTIVE", None)


async def test_a_server_whose_root_disk_is_a_volume_needs_no_image(stand: Stand) -> None:
    root = await stand.make_volume(bootable=True)
    disk = {"source_type": "volume", "destination_type": "volume", "uuid": root, "boot_index": 0}
    server_id = await stand.make_server(imageRef="", block_device_mapping_v2=[disk])
    await stand.host_moved(server_id, root, Rung.PLUGGED)
    assert (await act(stand, server_id, {"shelve": None}))[0] == 202
    await stand.host_saw(server_id, ServerRung.DEFINED)
    assert await state_of(stand, server_id) == ("SHELVED", "shelving_offloading")
    await stand.host_saw(server_id, ServerRung.PLACED)
    await let_go(stand, server_id, root)
    assert await state_of(stand, server_id) == ("SHELVED_OFFLOADED", None)
    assert await stand.image_worker.unfinished() == []


@pytest.mark.parametrize(
    ("state", "body"),
    [
        ("SHELVED", {"shelve": None}),
        ("SHELVED", {"os-start": None}),
        ("SHELVED", {"reboot": {"type": "HARD"}}),
        ("SHELVED_OFFLOADED", {"shelve": None}),
        ("SHELVED_OFFLOADED", {"shelveOffload": None}),
        ("SHELVED_OFFLOADED", {"os-start": None}),
        ("ACTIVE", {"unshelve": None}),
        ("ACTIVE", {"shelveOffload": None}),
    ],
)
async def test_what_is_not_for_its_state_is_409_and_changes_nothing(
    stand: Stand, state: str, body: dict[str, Any]
) -> None:
    server_id = await stand.make_server()
    if state != "ACTIVE":
        await (shelve if state == "SHELVED" else offload)(stand, server_id)
    version = "2.91" if "unshelve" in body else None
    code, text = await act(stand, server_id, body, caller="admin", version=version)
    assert (code, text.startswith("Cannot '")) == (409, True)
    assert await state_of(stand, server_id) == (state, None)


@pytest.mark.parametrize("version", ["2.1", "2.77", "2.91"])
async def test_locked_and_other_projects_servers_are_not_unshelved(stand: Stand, version: str) -> None:
    server_id = await stand.make_server()
    await offload(stand, server_id)
    assert (await act(stand, server_id, {"unshelve": None}, caller="other", version=version))[0] == 404
    assert (await act(stand, server_id, {"lock": None}))[0] == 202
    assert (await act(stand, server_id, {"unshelve": None}, version=version))[0] == 409


async def test_only_admins_offload_and_nobody_shelves_what_is_not_theirs(stand: Stand) -> None:
    server_id = await stand.make_server()
    assert (await act(stand, server_id, {"shelveOffload": None}))[0] == 403
    assert (await act(stand, server_id, {"shelve": None}, caller="other"))[0] == 404
    assert (await act(stand, stand.runtime.ids.uuid(), {"shelveOffload": None}, caller="admin"))[0] == 404


async def test_a_project_with_all_the_images_that_it_may_have_shelves_nothing(stand: Stand) -> None:
    server_id = await stand.make_server()
    for _ in range(IMAGES_MAX - 1):
        await stand.images.create(MEMBER, None, {"name": "one more"})
    code, text = await act(stand, server_id, {"shelve": None})
    assert (code, "images already" in text) == (403, True)
    assert await state_of(stand, server_id) == ("ACTIVE", None)


async def test_an_admins_reset_hides_that_a_server_is_shelved_and_never_loses_it(stand: Stand) -> None:
    server_id = await stand.make_server()
    await offload(stand, server_id)
    assert (await act(stand, server_id, {"os-resetState": {"state": "error"}}, caller="admin"))[0] == 202
    assert (await state_of(stand, server_id))[0] == "ERROR"
    assert (await act(stand, server_id, {"os-resetState": {"state": "active"}}, caller="admin"))[0] == 202
    assert await state_of(stand, server_id) == ("SHELVED_OFFLOADED", None)
