"""What is in volumes: made from volumes and images, reverted, reimaged, written out, and what is known of it."""

from __future__ import annotations

from typing import Any

import pytest

from kevel.domain.errors import StepNever
from kevel.domain.ladder import Rung
from kevel.storage.base import CopyWatch, ImageFile, PoolFile, Source, VolumeFile
from kevel.store import images
from tests.integration.volumes.conftest import MIB, Pool, World, message

NOBODY = "5e0f0c57-3ffb-4b5c-9c8b-0c0ffee0c0de"


async def show(world: World, volume_id: str) -> Any:
    return await world.get(f"/volumes/{volume_id}", "volume")


async def test_a_volume_made_from_another_is_a_volume_of_its_own(world: World) -> None:
    source = await world.make(name="source")
    world.write(source, b"words")
    copy = await world.make(source_volid=source, size=2)
    world.write(source, b"other")
    assert world.read(copy, 5) == b"words"
    shown = await show(world, copy)
    assert (shown["source_volid"], shown["size"], shown["bootable"]) == (source, 2, "false")
    same = (await world.ask(source_volid=source, size=None)).json()["volume"]
    assert same["size"] == 1


async def test_sources_that_cannot_be_are_refused(world: World) -> None:
    source = await world.make(size=2)
    snapshot_id = await world.make_snapshot(source)
    image_id = await world.make_image()
    message(await world.ask(source_volid=NOBODY), 404)
    message(await world.ask(snapshot_id=NOBODY), 404)
    message(await world.ask(source_volid=source, size=2, caller="other"), 404)
    message(await world.ask(snapshot_id=snapshot_id, size=2, caller="other"), 404)
    assert "cannot be smaller" in message(await world.ask(source_volid=source, size=1), 400)
    assert "cannot be smaller" in message(await world.ask(snapshot_id=snapshot_id, size=1), 400)
    assert "one of" in message(await world.ask(source_volid=source, snapshot_id=snapshot_id, size=2), 400)
    assert "Invalid image" in message(await world.ask(imageRef=NOBODY), 400)
    assert "Invalid image" in message(await world.ask(imageRef=image_id, caller="other"), 400)
    message(await world.ask(imageRef=image_id, size=None), 400)
    unmade = (await world.ask()).json()["volume"]["id"]
    assert "creating" in message(await world.ask(source_volid=unmade), 400)


async def test_a_volume_from_an_image_is_bootable_and_says_what_is_in_it(world: World) -> None:
    image_id = await world.make_image(b"kernel", name="disk", os_distro="tiny")
    made = await world.make(imageRef=image_id)
    assert world.read(made, 6) == b"kernel"
    shown = await show(world, made)
    assert shown["bootable"] == "true"
    known = shown["volume_image_metadata"]
    assert (known["image_id"], known["image_name"], known["os_distro"]) == (image_id, "disk", "tiny")
    assert (known["disk_format"], known["size"]) == ("raw", str(MIB))
    copy = await show(world, await world.make(source_volid=made))
    assert (copy["bootable"], copy["volume_image_metadata"]) == ("true", known)
    snapshot_id = await world.make_snapshot(made)
    copy = await show(world, await world.make(snapshot_id=snapshot_id))
    assert (copy["bootable"], copy["volume_image_metadata"]) == ("true", known)
    assert "volume_image_metadata" not in await show(world, await world.make())


async def test_an_image_has_to_fit_and_to_be_a_disk(world: World) -> None:
    large = await world.make_image(min_disk=3)
    assert "minDisk" in message(await world.ask(imageRef=large), 400)
    kernel = await world.make_image(disk_format="aki", container_format="aki")
    assert "no disk" in message(await world.ask(imageRef=kernel), 400)


async def test_volumes_are_found_by_what_is_in_them(world: World) -> None:
    one = await world.make(imageRef=await world.make_image(name="one"))
    await world.make(imageRef=await world.make_image(name="two"))
    await world.make()

    async def listed(version: str) -> list[str]:
        rows = await world.get('/volumes?glance_metadata={"image_name": "one"}', "volumes", version=version)
        return [row["id"] for row in rows]

    assert await listed("3.4") == [one]
    assert len(await listed("3.3")) == 3
    message(await world.call("GET", "/volumes?glance_metadata=one"), 400)


async def test_a_volume_that_cannot_be_made_from_its_source_shows_why(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(self: Pool, volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        raise StepNever("There is no space left in the storage pool.")

    monkeypatch.setattr(Pool, "create_volume_from", refuse)
    made = await world.make(source_volid=await world.make())
    assert await world.status(made) == "error"
    (told,) = await world.get("/messages", "messages")
    assert told["user_message"].endswith("There is no space left in the storage pool.")
    assert (await world.call("DELETE", f"/volumes/{made}")).status_code == 202
    await world.settle()
    message(await world.call("GET", f"/volumes/{made}"), 404)


async def test_a_source_that_is_deleted_goes_when_its_copy_is_made(world: World) -> None:
    source = await world.make()
    world.write(source, b"words")
    made = (await world.ask(source_volid=source)).json()["volume"]["id"]
    assert (await world.call("DELETE", f"/volumes/{source}")).status_code == 202
    await world.worker.look(source)
    assert await world.status(source) == "deleting"
    await world.settle()
    assert world.read(made, 5) == b"words"
    message(await world.call("GET", f"/volumes/{source}"), 404)


async def test_a_volume_is_reverted_to_its_latest_snapshot(world: World) -> None:
    volume_id = await world.make()
    world.write(volume_id, b"first")
    first = await world.make_snapshot(volume_id)
    world.write(volume_id, b"later")
    latest = await world.make_snapshot(volume_id)
    world.write(volume_id, b"spoilt")
    assert "latest" in message(await world.act(volume_id, "revert", {"snapshot_id": first}), 400)
    assert (await world.act(volume_id, "revert", {"snapshot_id": latest})).status_code == 202
    assert await world.status(volume_id) == "reverting"
    message(await world.act(volume_id, "revert", {"snapshot_id": latest}), 409)
    await world.settle()
    assert await world.status(volume_id) == "available"
    assert world.read(volume_id, 6) == b"later\0"


async def test_what_cannot_be_reverted_is_refused(world: World) -> None:
    volume_id = await world.make()
    message(await world.act(volume_id, "revert", {"snapshot_id": NOBODY}), 400)
    message(await world.act(NOBODY, "revert", {"snapshot_id": NOBODY}), 404)
    snapshot_id = await world.make_snapshot(volume_id)
    message(await world.act(volume_id, "revert", {"snapshot_id": snapshot_id}, caller="other"), 404)
    message(await world.act(volume_id, "revert", {"snapshot_id": snapshot_id}, version="3.39"), 404)
    await world.act(volume_id, "os-extend", {"new_size": 2})
    await world.settle()
    assert "equal" in message(await world.act(volume_id, "revert", {"snapshot_id": snapshot_id}), 400)
    held = await world.make()
    of_held = await world.make_snapshot(held)
    await world.attach(held, Rung.RESERVED)
    assert "attaching" in message(await world.act(held, "revert", {"snapshot_id": of_held}), 409)


async def test_an_image_is_put_into_a_volume_that_exists(world: World) -> None:
    volume_id = await world.make()
    world.write(volume_id, b"spoilt")
    image_id = await world.make_image(b"fresh", name="disk")
    assert (await world.act(volume_id, "os-reimage", {"image_id": image_id})).status_code == 202
    assert await world.status(volume_id) == "downloading"
    message(await world.act(volume_id, "os-reimage", {"image_id": image_id}), 400)
    await world.settle()
    assert world.read(volume_id, 6) == b"fresh\0"
    shown = await show(world, volume_id)
    assert (shown["status"], shown["bootable"], shown["volume_image_metadata"]["image_id"]) == (
        "available",
        "true",
        image_id,
    )
    message(await world.act(volume_id, "os-reimage", {"image_id": image_id}, version="3.67"), 404)
    message(await world.act(volume_id, "os-reimage", {"image_id": image_id}, caller="other"), 404)
    message(await world.act(volume_id, "os-reimage", {"image_id": NOBODY}), 400)
    message(await world.act(volume_id, "os-reimage", {"image_id": image_id, "reimage_reserved": True}), 400)


async def test_a_volume_that_several_have_is_not_reimaged(world: World) -> None:
    made = await world.call("POST", "/types", {"volume_type": {"name": "shared"}}, caller="admin")
    type_id = made.json()["volume_type"]["id"]
    specs = {"extra_specs": {"multiattach": "<is> True"}}
    await world.call("POST", f"/types/{type_id}/extra_specs", specs, caller="admin")
    volume_id = await world.make(volume_type="shared")
    await world.attach(volume_id)
    await world.attach(volume_id)
    image_id = await world.make_image()
    message(await world.act(volume_id, "os-reimage", {"image_id": image_id}), 409)
    assert "2 running servers" in message(await world.ask_snapshot(volume_id), 400)


async def test_a_volume_is_written_out_as_an_image(world: World) -> None:
    volume_id = await world.make(imageRef=await world.make_image(b"words", os_distro="tiny", min_disk=1))
    answer = await world.act(
        volume_id, "os-volume_upload_image", {"image_name": "out", "visibility": "private", "protected": False}
    )
    assert answer.status_code == 202
    told = answer.json()["os-volume_upload_image"]
    assert (told["id"], told["status"], told["image_name"]) == (volume_id, "uploading", "out")
    assert (told["disk_format"], told["container_format"], told["visibility"]) == ("raw", "bare", "private")
    assert await world.status(volume_id) == "uploading"
    message(await world.act(volume_id, "os-volume_upload_image", {"image_name": "again"}), 400)
    await world.settle()
    assert await world.status(volume_id) == "available"
    assert (await world.image_bytes(told["image_id"]))[:6] == b"words\0"
    copy = await show(world, await world.make(imageRef=told["image_id"]))
    assert copy["volume_image_metadata"]["os_distro"] == "tiny"
    assert copy["volume_image_metadata"]["image_id"] == told["image_id"]


async def test_what_an_upload_shows_and_takes_depends_on_the_microversion(world: World) -> None:
    volume_id = await world.make()
    wanted = {"image_name": "out", "visibility": "private"}
    message(await world.act(volume_id, "os-volume_upload_image", wanted, version="3.0"), 400)
    answer = await world.act(volume_id, "os-volume_upload_image", {"image_name": "out"}, version="3.0")
    assert not {"visibility", "protected"} & answer.json()["os-volume_upload_image"].keys()


async def test_a_volume_of_a_type_that_its_project_may_use_no_more_is_written_out(world: World) -> None:
    volume_id = await world.make()
    type_id = (await show(world, volume_id))["volume_type_id"]
    changed = {"volume_type": {"is_public": False}}
    assert (await world.call("PUT", f"/types/{type_id}", changed, caller="admin")).status_code == 200
    answer = await world.act(volume_id, "os-volume_upload_image", {"image_name": "out"})
    assert answer.status_code == 202, answer.text
    assert answer.json()["os-volume_upload_image"]["volume_type"]["id"] == type_id


@pytest.mark.parametrize(
    "wanted",
    [
        {"image_name": ""},
        {},
        {"image_name": "out", "disk_format": "vmdk"},
        {"image_name": "out", "container_format": "ova"},
        {"image_name": "out", "visibility": "secret"},
        {"image_name": "out", "visibility": "public"},
        {"image_name": "out", "force": "perhaps"},
    ],
)
async def test_an_image_that_cannot_be_is_not_begun(world: World, wanted: dict[str, object]) -> None:
    volume_id = await world.make()
    message(await world.act(volume_id, "os-volume_upload_image", wanted), 400)
    assert await world.status(volume_id) == "available"


@pytest.mark.parametrize("version", ["3.0", "3.71"])
async def test_only_its_project_writes_a_volume_out_and_only_so_many_images(
    world: World, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    volume_id = await world.make()
    wanted = {"image_name": "out"}
    message(await world.act(volume_id, "os-volume_upload_image", wanted, caller="other", version=version), 404)
    monkeypatch.setattr(images, "count_images", lambda tx, project_id: 1000)
    message(await world.act(volume_id, "os-volume_upload_image", wanted, version=version), 413)
    assert await world.status(volume_id) == "available"


async def test_an_upload_that_fails_leaves_volume_and_images_as_they_were(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(self: Pool, image: ImageFile, source: PoolFile, watch: CopyWatch) -> None:
        raise StepNever("There is no space left in the storage pool.")

    monkeypatch.setattr(Pool, "write_image", refuse)
    volume_id = await world.make()
    await world.act(volume_id, "os-volume_upload_image", {"image_name": "out"})
    await world.settle()
    assert await world.status(volume_id) == "available"
    (told,) = await world.get("/messages", "messages")
    assert told["user_message"].startswith("copy volume to image: ")
    assert list((world.root.parent / "images").iterdir()) == []


async def test_an_upload_survives_a_restart_and_the_images_cleaning(world: World) -> None:
    volume_id = await world.make()
    world.write(volume_id, b"words")
    answer = await world.act(volume_id, "os-volume_upload_image", {"image_name": "out"})
    await world.images.open()
    await world.settle()
    assert (await world.image_bytes(answer.json()["os-volume_upload_image"]["image_id"]))[:5] == b"words"


async def test_what_is_known_of_an_image_can_be_written_and_read(world: World) -> None:
    volume_id = await world.make()
    assert (await world.act(volume_id, "os-show_image_metadata", {})).json() == {"metadata": {}}
    items = {"metadata": {"image_id": NOBODY, "os": "tiny"}}
    answer = await world.act(volume_id, "os-set_image_metadata", items)
    assert (answer.status_code, answer.json()) == (200, items)
    assert (await show(world, volume_id))["volume_image_metadata"] == items["metadata"]
    assert (await world.act(volume_id, "os-unset_image_metadata", {"key": "os"})).status_code == 200
    assert (await world.act(volume_id, "os-show_image_metadata", None)).json() == {"metadata": {"image_id": NOBODY}}
    message(await world.act(volume_id, "os-unset_image_metadata", {"key": "os"}), 404)
    message(await world.act(volume_id, "os-unset_image_metadata", {}), 400)
    message(await world.act(volume_id, "os-set_image_metadata", {"metadata": {"k": 5}}), 400)
    many = {"metadata": {f"k{n}": "v" for n in range(129)}}
    message(await world.act(volume_id, "os-set_image_metadata", many), 413)
    for action, value in (
        ("os-show_image_metadata", {}),
        ("os-set_image_metadata", items),
        ("os-unset_image_metadata", {"key": "image_id"}),
    ):
        message(await world.act(volume_id, action, value, caller="other"), 404)


async def test_metadata_is_changed_by_those_who_have_seen_it(world: World) -> None:
    volume_id = await world.make(metadata={"a": "1"})
    path = f"/volumes/{volume_id}/metadata"
    clients, version = world.clients["member"], {"OpenStack-API-Version": "volume 3.15"}
    tag = (await clients.get(path, headers=version)).headers["ETag"]
    assert "ETag" not in (await world.call("GET", path, version="3.14")).headers
    await world.call("POST", path, {"metadata": {"b": "2"}})
    old = version | {"If-Match": tag}
    message(await clients.put(path, json={"metadata": {"c": "3"}}, headers=old), 412)
    message(await clients.put(f"{path}/c", json={"meta": {"c": "3"}}, headers=old), 412)
    assert await world.get(path, "metadata") == {"a": "1", "b": "2"}
    new = version | {"If-Match": (await clients.get(path, headers=version)).headers["ETag"]}
    assert (await clients.put(path, json={"metadata": {"c": "3"}}, headers=new)).status_code == 200
    assert (await clients.put(path, json={"metadata": {}}, headers=old | {"If-Match": "*"})).status_code == 200
    assert await world.get(path, "metadata") == {}


async def test_an_item_of_a_volumes_encryption_is_shown_by_its_name(world: World) -> None:
    volume_id = await world.make()
    answer = await world.call("GET", f"/volumes/{volume_id}/encryption/encryption_key_id")
    assert answer.json() == {"encryption_key_id": None}
    message(await world.call("GET", f"/volumes/{volume_id}/encryption/colour"), 404)
    message(await world.call("GET", f"/volumes/{volume_id}/encryption/encryption_key_id", caller="other"), 404)
