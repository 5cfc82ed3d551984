"""Encrypted volumes: made with a key of their own, shown, copied as they are, and destroyed with their key."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from kevel.domain.ladder import Rung
from kevel.domain.model import GIB, Volume
from kevel.store.assignments import changes_for_host
from kevel.store.volume_keys import SealedKey, load_key
from kevel.store.volumes import load_volume
from tests.integration.volumes.conftest import HOST, World, message
from tests.integration.volumes.test_type_rules import encrypt
from tests.integration.volumes.test_types import make_type

LUKS: dict[str, Any] = {"provider": "luks", "cipher": "aes-xts-plain64", "key_size": 256}
LUKS["control_location"] = "front-end"


async def make_sealed(world: World, **fields: Any) -> str:
    """An encrypted volume, of the type "sealed"."""
    await encrypt(world, await make_type(world, "sealed"), **LUKS)
    return await world.make(volume_type="sealed", **fields)


async def row_of(world: World, volume_id: str) -> Volume:
    found = await world.runtime.store.read(load_volume, volume_id)
    assert found is not None
    return found


async def key_of(world: World, volume_id: str) -> SealedKey:
    volume = await row_of(world, volume_id)
    assert volume.encryption_key_id is not None
    found = await world.runtime.store.read(load_key, volume.encryption_key_id)
    assert found is not None
    return found


def can_open(path: Path, word: str) -> bool:
    """Does that passphrase open the file?"""
    secret = path.parent / "word"
    secret.write_text(word)
    options = f"driver=luks,key-secret=key,file.driver=file,file.filename={path}"
    command = ["qemu-img", "measure", "--object", f"secret,id=key,file={secret}", "--image-opts", options, "-O", "raw"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    secret.unlink()
    return done.returncode == 0


async def test_a_volume_of_an_encrypted_type_is_luks_with_a_key_that_lies_sealed(world: World) -> None:
    volume_id = await make_sealed(world)
    assert await world.status(volume_id) == "available"
    key = await key_of(world, volume_id)
    word = world.keys.open(key).passphrase.value
    path = world.root / f"volume-{volume_id}"
    assert can_open(path, word)
    assert not can_open(path, "another")
    assert path.stat().st_size > GIB
    for file in world.root.parent.rglob("*"):
        if file.is_file() and file.stat().st_size < GIB:
            assert word.encode() not in file.read_bytes(), file


async def test_each_volume_has_a_key_of_its_own(world: World) -> None:
    first = await make_sealed(world)
    second = await world.make(volume_type="sealed")
    keys = [world.keys.open(await key_of(world, one)).passphrase.value for one in (first, second)]
    assert keys[0] != keys[1]
    assert not can_open(world.root / f"volume-{second}", keys[0])


async def test_its_users_see_that_it_is_encrypted_and_how_but_not_what_opens_it(world: World) -> None:
    volume_id, plain_id = await make_sealed(world), await world.make()
    key_id = (await row_of(world, volume_id)).encryption_key_id
    shown = await world.get(f"/volumes/{volume_id}", "volume")
    assert (shown["encrypted"], shown["encryption_key_id"]) == (True, key_id)
    shown = await world.get(f"/volumes/{volume_id}", "volume", version="3.63")
    assert shown["encrypted"] is True
    assert "encryption_key_id" not in shown
    plain = await world.get(f"/volumes/{plain_id}", "volume")
    assert plain["encrypted"] is False
    assert "encryption_key_id" not in plain
    answer = await world.call("GET", f"/volumes/{volume_id}/encryption")
    assert answer.json() == {"encryption_key_id": key_id, **LUKS}
    assert (await world.call("GET", f"/volumes/{plain_id}/encryption")).json() == {"encryption_key_id": None}
    message(await world.call("GET", f"/volumes/{volume_id}/encryption", caller="other"), 404)


async def test_s10_its_key_reaches_the_host_that_plugs_it_and_no_other(world: World) -> None:
    volume_id, plain_id = await make_sealed(world), await world.make()
    for one in (volume_id, plain_id):
        await world.attach(one, Rung.EXPORTED)
    word = world.keys.open(await key_of(world, volume_id)).passphrase

    def opened(name: str, sealed: bytes) -> dict[str, Any]:
        return world.keys._sealer.open(name, sealed)

    found = await world.runtime.store.read(changes_for_host, HOST, 0, opened, {"local": frozenset()})
    paths = {path.volume_id: path for path in found.paths}
    assert paths[volume_id].passphrase == word
    assert (paths[volume_id].volume_format, paths[plain_id].volume_format) == ("luks", "raw")
    assert paths[plain_id].passphrase is None
    assert word.value not in repr(found)
    answer = await world.call("GET", f"/volumes/{volume_id}", caller="admin")
    assert word.value not in answer.text


async def test_it_is_not_copied_while_a_running_server_has_it(world: World) -> None:
    volume_id = await make_sealed(world)
    await world.attach(volume_id)
    assert "encrypted" in message(await world.ask_snapshot(volume_id, force=True, version="3.0"), 400)
    assert "encrypted" in message(await world.ask(source_volid=volume_id), 400)


async def test_it_grows(world: World) -> None:
    volume_id = await make_sealed(world)
    before = (world.root / f"volume-{volume_id}").stat().st_size
    assert (await world.act(volume_id, "os-extend", {"new_size": 2})).status_code == 202
    await world.settle()
    assert (world.root / f"volume-{volume_id}").stat().st_size == before + GIB
    assert (await row_of(world, volume_id)).size_gib == 2


async def test_its_snapshot_and_what_is_made_of_either_are_opened_by_the_same_key(world: World) -> None:
    volume_id = await make_sealed(world)
    word = world.keys.open(await key_of(world, volume_id)).passphrase.value
    snapshot_id = await world.make_snapshot(volume_id)
    assert await world.snapshot_status(snapshot_id) == "available"
    for source in ({"snapshot_id": snapshot_id}, {"source_volid": volume_id}):
        copy_id = await world.make(size=2, **source)
        await world.settle_all()
        assert await world.status(copy_id) == "available"
        assert (await row_of(world, copy_id)).format == "luks"
        assert can_open(world.root / f"volume-{copy_id}", word)
    assert (await world.act(volume_id, "revert", {"snapshot_id": snapshot_id})).status_code == 202
    await world.settle_all()
    assert await world.status(volume_id) == "available"
    assert can_open(world.root / f"volume-{volume_id}", word)


async def test_its_key_is_destroyed_with_the_last_volume_that_it_opens(world: World) -> None:
    volume_id = await make_sealed(world)
    copy_id = await world.make(source_volid=volume_id)
    await world.settle_all()
    key_id = (await row_of(world, volume_id)).encryption_key_id
    for one, is_left in ((volume_id, True), (copy_id, False)):
        assert (await world.call("DELETE", f"/volumes/{one}")).status_code == 202
        await world.settle_all()
        key = await world.runtime.store.read(load_key, key_id or "")
        assert key is not None
        assert (key.sealed is not None) is is_left


async def test_nothing_is_encrypted_or_decrypted_on_the_way(world: World) -> None:
    sealed_id, plain_id = await make_sealed(world), await world.make()
    await make_type(world, "plain")
    image_id = await world.make_image()
    refused = [
        await world.ask(source_volid=sealed_id, volume_type="plain"),
        await world.ask(source_volid=plain_id, volume_type="sealed"),
        await world.ask(imageRef=image_id, volume_type="sealed"),
        await world.act(sealed_id, "os-reimage", {"image_id": image_id}, version="3.68"),
        await world.act(sealed_id, "os-volume_upload_image", {"image_name": "leak"}),
        await world.act(sealed_id, "os-retype", {"new_type": "plain"}),
        await world.act(plain_id, "os-retype", {"new_type": "sealed"}),
    ]
    refused += [
        await world.call("POST", "/backups", {"backup": {"volume_id": sealed_id}}),
    ]
    for answer in refused:
        message(answer, 400)
    assert [await world.status(one) for one in (sealed_id, plain_id)] == ["available", "available"]


@pytest.mark.parametrize(
    "changes",
    [{"provider": "plain"}, {"cipher": "serpent"}, {"key_size": 128}, {"control_location": "back-end"}],
    ids=["provider", "cipher", "key size", "place"],
)
async def test_an_encryption_that_kevel_cannot_do_makes_no_volume(world: World, changes: dict[str, Any]) -> None:
    await encrypt(world, await make_type(world, "strange"), **(LUKS | changes))
    message(await world.ask(volume_type="strange"), 400)
