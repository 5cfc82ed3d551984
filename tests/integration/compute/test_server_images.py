"""Images of servers: what they hold, what they say of the server, and that they keep nothing from going on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kevel.domain.images import Image
from kevel.domain.ladder import Rung
from kevel.domain.model import ServerRung
from tests.integration.compute.conftest import IMAGES_MAX, MEMBER, Stand, message

BODY = {"createImage": {"name": "kept", "metadata": {"purpose": "a test"}}}


async def ask(
    stand: Stand, server_id: str, body: dict[str, Any] = BODY, *, caller: str = "member", version: str = "2.45"
) -> tuple[int, str]:
    """The status, and the image's id or the error."""
    answer = await stand.call("POST", f"/servers/{server_id}/action", body, caller=caller, version=version)
    if answer.status_code != 202:
        return answer.status_code, message(answer)
    return 202, answer.json()["image_id"] if version == "2.45" else answer.headers["Location"].rpartition("/")[2]


async def state_of(stand: Stand, server_id: str) -> tuple[str, str | None]:
    shown = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]
    return shown["status"], shown["OS-EXT-STS:task_state"]


async def show(stand: Stand, image_id: str) -> Image:
    return await stand.images.show(MEMBER, image_id)


@pytest.mark.parametrize("version", ["2.44", "2.45"])
async def test_an_image_of_a_running_server_holds_its_root_disk(stand: Stand, version: str) -> None:
    server_id = await stand.make_server()
    code, image_id = await ask(stand, server_id, version=version)
    assert (code, await state_of(stand, server_id)) == (202, ("ACTIVE", "image_snapshot"))
    await stand.host_copied()
    image = await show(stand, image_id)
    assert (image.name, image.status.value, image.size_bytes) == ("kept", "active", 20)
    assert image.properties["purpose"] == "a test"
    assert (image.properties["image_type"], image.properties["base_image_ref"]) == ("snapshot", stand.image_id)
    assert await state_of(stand, server_id) == ("ACTIVE", None)
    path = f"/servers/{server_id}/os-instance-actions"
    (last, *_) = (await stand.call("GET", path, version="2.84")).json()["instanceActions"]
    action = (await stand.call("GET", f"{path}/{last['request_id']}", version="2.84")).json()["instanceAction"]
    assert (action["action"], [event["result"] for event in action["events"]]) == ("createImage", ["Success"])


async def test_an_image_of_a_server_of_volumes_names_a_snapshot_of_each_and_makes_such_a_server(stand: Stand) -> None:
    root = await stand.make_volume(bootable=True)
    disk = {"source_type": "volume", "destination_type": "volume", "uuid": root, "boot_index": 0}
    server_id = await stand.make_server(imageRef="", block_device_mapping_v2=[disk])
    await stand.host_moved(server_id, root, Rung.PLUGGED)
    code, image_id = await ask(stand, server_id)
    assert (code, await state_of(stand, server_id)) == (202, ("ACTIVE", "image_snapshot"))
    await stand.look_at_images()
    image = await show(stand, image_id)
    assert (image.status.value, image.size_bytes, image.properties["bdm_v2"]) == ("active", 0, "True")
    (item,) = json.loads(image.properties["block_device_mapping"])
    assert (item["source_type"], item["boot_index"], item["volume_size"]) == ("snapshot", 0, 1)
    assert await state_of(stand, server_id) == ("ACTIVE", None)


async def test_a_copy_that_fails_leaves_no_image_and_the_server_as_it_was(stand: Stand) -> None:
    server_id = await stand.make_server()
    _, image_id = await ask(stand, server_id)
    await stand.host_copied(failed="There is no space left for the copy.")
    assert await state_of(stand, server_id) == ("ACTIVE", None)
    await stand.look_at_images()
    assert image_id not in {one.id for one in await stand.images.list_visible(MEMBER)}
    path = f"/servers/{server_id}/os-instance-actions"
    (last, *_) = (await stand.call("GET", path, version="2.84")).json()["instanceActions"]
    assert (last["action"], last["message"]) == ("createImage", "Error")


async def test_an_image_whose_server_is_deleted_is_given_up(stand: Stand) -> None:
    server_id = await stand.make_server()
    _, image_id = await ask(stand, server_id)
    await stand.look_at_images()
    assert (await stand.call("DELETE", f"/servers/{server_id}")).status_code == 204
    await stand.look_at_images()
    assert image_id not in {one.id for one in await stand.images.list_visible(MEMBER)}


async def test_nothing_else_is_done_with_the_server_meanwhile(stand: Stand) -> None:
    server_id = await stand.make_server()
    assert (await ask(stand, server_id))[0] == 202
    for body in ({"os-stop": None}, {"shelve": None}, BODY):
        answer = await stand.call("POST", f"/servers/{server_id}/action", body)
        assert (answer.status_code, "image_snapshot" in message(answer)) == (409, True)


@pytest.mark.parametrize("version", ["2.44", "2.45"])
async def test_what_is_wrong_is_refused_and_makes_no_image(stand: Stand, version: str) -> None:
    server_id = await stand.make_server()
    before = len(await stand.images.list_visible(MEMBER))
    for keys in ({}, {"name": ""}, {"name": "x", "more": 1}, {"name": "x", "metadata": {"k": 1}}):
        assert (await ask(stand, server_id, {"createImage": keys}, version=version))[0] == 400
    assert (await ask(stand, server_id, caller="other", version=version))[0] == 404
    await stand.call("POST", f"/servers/{server_id}/action", {"lock": None})
    assert (await ask(stand, server_id, version=version))[0] == 409
    assert len(await stand.images.list_visible(MEMBER)) == before
    await stand.call("POST", f"/servers/{server_id}/action", {"unlock": None})
    for _ in range(IMAGES_MAX - before):
        await stand.images.create(MEMBER, None, {"name": "one more"})
    assert (await ask(stand, server_id, version=version))[0] == 403
    assert await state_of(stand, server_id) == ("ACTIVE", None)


async def test_a_server_that_is_still_built_is_409(stand: Stand) -> None:
    server_id = await stand.make_server(None)
    assert (await ask(stand, server_id))[0] == 409
    await stand.host_saw(server_id, ServerRung.RUNNING)
    assert (await ask(stand, server_id))[0] == 202
