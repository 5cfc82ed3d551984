"""An image whose bytes a server still needs is not deleted; any other is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kevel.domain.errors import Conflict
from kevel.domain.images import ImageForServer
from kevel.domain.model import Actor, ServerRung
from tests.integration.compute.conftest import MEMBER, Stand


async def _bytes() -> AsyncIterator[bytes]:
    yield b"kernel"


async def make_kernel(stand: Stand, word: str) -> str:
    image = await stand.images.create(MEMBER, None, {"disk_format": word, "container_format": word})
    await stand.images.upload(MEMBER, image.id, _bytes())
    return image.id


async def test_a_disk_may_go_once_the_server_has_its_own(stand: Stand) -> None:
    image_id = await stand.make_image()
    server_id = await stand.make_server(None, imageRef=image_id)
    with pytest.raises(Conflict, match="in use"):
        await stand.images.delete(MEMBER, image_id)
    await stand.host_saw(server_id, ServerRung.DEFINED)
    await stand.images.delete(MEMBER, image_id)
    shown = await stand.call("GET", f"/servers/{server_id}")
    assert shown.json()["server"]["image"]["id"] == image_id


async def test_a_kernel_may_go_with_its_last_server(stand: Stand) -> None:
    boot = [await make_kernel(stand, word) for word in ("aki", "ari")]
    image_id = await stand.make_image(kernel_id=boot[0], ramdisk_id=boot[1])
    server_id = await stand.make_server(ServerRung.RUNNING, imageRef=image_id)
    await stand.images.delete(MEMBER, image_id)
    for kernel_id in boot:
        with pytest.raises(Conflict, match="boots from it"):
            await stand.images.delete(MEMBER, kernel_id)
    assert (await stand.call("DELETE", f"/servers/{server_id}")).status_code == 204
    await stand.host_saw(server_id, ServerRung.PLACED)
    for kernel_id in boot:
        await stand.images.delete(MEMBER, kernel_id)


async def test_no_server_is_made_of_an_image_that_is_deleted_meanwhile(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = await stand.make_image()
    looked_up = stand.images.get_for_server

    async def delete_behind(actor: Actor, wanted: str) -> ImageForServer:
        image = await looked_up(actor, wanted)
        await stand.images.delete(MEMBER, image_id)
        return image

    monkeypatch.setattr(stand.images, "get_for_server", delete_behind)
    answer = await stand.ask_server(imageRef=image_id)
    assert (answer.status_code, "deleted" in answer.text) == (400, True)
    assert (await stand.call("GET", "/servers")).json()["servers"] == []
