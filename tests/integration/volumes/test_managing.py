"""What is in a pool already becomes a volume or snapshot, and one of Kevel's is left there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from kevel.control.hosts.comparison import Comparison
from kevel.domain.errors import StepRetry
from kevel.storage.base import Capacity, VolumeFile
from kevel.store.censuses import list_findings
from tests.integration.volumes.conftest import GIB, HOST, Pool, World, message
from tests.integration.volumes.test_types import make_type

HERE = f"{HOST}@local#local"
NOBODY = "00000000-0000-4000-8000-000000000000"
STAGE = "snapshot-00000000-0000-5000-8000-000000000000"
ACTIONS = {"volume": "/volumes", "snapshot": "/snapshots"}
SNAPSHOT_PATHS = ("/os-snapshot-manage", "/manageable_snapshots")
TOO_MANY = {"host": HERE, "ref": {"source-name": "disk"}}


async def manage(world: World, source: str, *, caller: str = "admin", path: str = "", **fields: Any) -> httpx.Response:
    """POST a volume of that file."""
    body = {"volume": {"host": HERE, "ref": {"source-name": source}, **fields}}
    return await world.call("POST", path or "/os-volume-manage", body, caller=caller)


async def manage_snapshot(world: World, volume_id: str, source: str, **fields: Any) -> httpx.Response:
    """POST a snapshot of that file."""
    caller, path = fields.pop("caller", "admin"), fields.pop("path", "/os-snapshot-manage")
    body = {"snapshot": {"volume_id": volume_id, "ref": {"source-name": source}, **fields}}
    return await world.call("POST", path, body, caller=caller)


async def unmanage(world: World, kind: str, one: str, *, caller: str = "admin") -> httpx.Response:
    """Leave it."""
    return await world.call("POST", f"{ACTIONS[kind]}/{one}/action", {"os-unmanage": {}}, caller=caller)


def put(world: World, name: str = "disk", start: bytes = b"theirs", size_bytes: int = GIB) -> Path:
    """A file that somebody put into the pool."""
    path = world.root / name
    path.write_bytes(start)
    os.truncate(path, size_bytes)
    return path


@pytest.mark.parametrize("path", ["/os-volume-manage", "/manageable_volumes"])
async def test_a_file_in_the_pool_becomes_a_volume_with_its_contents(world: World, path: str) -> None:
    file = put(world)
    fields: dict[str, Any] = {"name": "n", "description": "d", "metadata": {"k": "v"}, "bootable": True}
    answer = await manage(world, "disk", path=path, availability_zone="nova", **fields)
    assert answer.status_code == 202, answer.text
    shown = answer.json()["volume"]
    assert (shown["status"], shown["size"], shown["bootable"]) == ("creating", 1, "true")
    await world.settle()
    shown = await world.get(f"/volumes/{shown['id']}", "volume", caller="admin")
    assert (shown["status"], shown["os-vol-host-attr:host"]) == ("available", HERE)
    assert (shown["name"], shown["description"], shown["metadata"]) == ("n", "d", {"k": "v"})
    assert world.read(shown["id"], 6) == b"theirs"
    assert not file.exists()


@pytest.mark.parametrize(("size_bytes", "size_gib"), [(0, 1), (5, 1), (GIB, 1), (GIB + 1, 2)])
async def test_a_raw_file_grows_to_whole_gibibytes(world: World, size_bytes: int, size_gib: int) -> None:
    put(world, size_bytes=size_bytes, start=b"")
    answer = await manage(world, "disk")
    volume_id = answer.json()["volume"]["id"]
    assert answer.json()["volume"]["size"] == size_gib
    await world.settle()
    assert (world.root / f"volume-{volume_id}").stat().st_size == size_gib * GIB


async def test_a_crash_between_the_new_name_and_the_record_costs_nothing(world: World) -> None:
    put(world)
    volume_id = (await manage(world, "disk")).json()["volume"]["id"]
    await world.pool.take_file(VolumeFile(volume_id=volume_id, size_bytes=GIB, format="raw"), "disk")
    await world.settle()
    assert await world.status(volume_id) == "available"
    assert world.read(volume_id, 6) == b"theirs"


async def test_a_file_that_is_gone_by_then_leaves_a_volume_in_error_and_is_told(world: World) -> None:
    file = put(world)
    volume_id = (await manage(world, "disk")).json()["volume"]["id"]
    file.unlink()
    await world.settle()
    assert await world.status(volume_id) == "error"
    (told,) = await world.get("/messages", "messages", caller="admin")
    assert "no file disk" in told["user_message"]


async def test_what_is_no_safe_file_of_the_pool_is_refused_and_stays(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    (world.root / "link").symlink_to(outside)
    os.link(outside, world.root / "twice")
    (world.root / "folder").mkdir()
    os.mkfifo(world.root / "pipe")
    put(world, ".hidden")
    for name in ("link", "twice", "folder", "pipe", ".hidden", "../outside", str(outside), "absent", "x" * 300, STAGE):
        assert "ref" in message(await manage(world, name), 400), name
    assert outside.read_bytes() == b"secret"
    assert await world.get("/volumes?all_tenants=1", "volumes", caller="admin") == []


@pytest.mark.parametrize(
    "fields",
    [
        {"host": None},
        {"ref": {}},
        {"ref": {"source-id": "disk"}},
        {"ref": {"source-name": 7}},
        {"ref": {"source-name": "disk", "more": 1}},
        {"ref": "disk"},
        {"availability_zone": "mars"},
        {"bootable": "perhaps"},
        {"name": "a\0b"},
        {"metadata": {"k": 1}},
    ],
)
async def test_a_bad_request_to_manage_a_volume_changes_nothing(world: World, fields: dict[str, Any]) -> None:
    file = put(world)
    message(await manage(world, "disk", **fields), 400)
    assert file.exists()
    assert await world.get("/volumes?all_tenants=1", "volumes", caller="admin") == []


async def test_an_unknown_host_type_or_caller_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    put(world)
    for path in ("/os-volume-manage", "/manageable_volumes"):
        for caller in ("member", "reader", "other"):
            message(await manage(world, "disk", caller=caller, path=path), 403)
        message(await manage(world, "disk", host="elsewhere@local#local", path=path), 404)
        message(await manage(world, "disk", volume_type="none", path=path), 404)
        message(await manage(world, "disk", host=None, path=path), 400)
    body = {"volume": TOO_MANY}
    message(await world.call("POST", "/manageable_volumes", body, caller="admin", version="3.7"), 404)
    for path in ("/os-volume-manage", "/manageable_volumes"):
        with monkeypatch.context() as patch:
            patch.setattr(Pool, "shown", Capacity(total_bytes=GIB, free_bytes=0))
            message(await manage(world, "disk", path=path), 413)
            patch.setattr(Pool, "capacity", fail)
            assert (await manage(world, "disk", path=path)).status_code == 503
    assert (world.root / "disk").exists()


async def fail(*_: object) -> Any:
    raise StepRetry("The pool is silent.")


async def test_a_type_that_the_pool_does_not_meet_or_that_is_encrypted_is_refused(world: World) -> None:
    put(world)
    await make_type(world, "far", extra_specs={"volume_backend_name": "far"})
    assert "far" in message(await manage(world, "disk", volume_type="far"), 400)
    secret = await make_type(world, "secret")
    body = {
        "encryption": {
            "provider": "luks",
            "cipher": "aes-xts-plain64",
            "key_size": 256,
            "control_location": "front-end",
        }
    }
    assert (await world.call("POST", f"/types/{secret}/encryption", body, caller="admin")).status_code == 200
    assert "encrypted" in message(await manage(world, "disk", volume_type="secret"), 400)


async def test_an_unmanaged_volume_is_forgotten_left_and_managed_again(world: World) -> None:
    volume_id = await world.make()
    world.write(volume_id, b"mine")
    assert (await unmanage(world, "volume", volume_id)).status_code == 202
    message(await world.call("GET", f"/volumes/{volume_id}"), 404)
    assert world.read(volume_id, 4) == b"mine"
    answer = await manage(world, f"volume-{volume_id}")
    again = answer.json()["volume"]["id"]
    await world.settle()
    assert await world.status(again) == "available"
    assert world.read(again, 4) == b"mine"
    assert not (world.root / f"volume-{volume_id}").exists()


async def test_what_is_left_is_neither_removed_by_a_comparison_nor_reported(world: World) -> None:
    volume_id = await world.make()
    assert (await unmanage(world, "volume", volume_id)).status_code == 202
    comparison = Comparison(world.runtime, world.backends)
    await comparison.compare_storage()
    await world.worker.look(volume_id)
    assert (world.root / f"volume-{volume_id}").exists()
    found = await world.runtime.store.read(list_findings, world.runtime.clock.now_us())
    assert not [one for one in found if one.subject.startswith("storage")]


async def test_a_volume_of_kevels_or_one_that_is_being_removed_is_not_managed_a_second_time(world: World) -> None:
    volume_id = await world.make()
    assert "already" in message(await manage(world, f"volume-{volume_id}"), 400)
    await world.call("DELETE", f"/volumes/{volume_id}")
    await world.settle()
    put(world, f"volume-{volume_id}")
    assert "removed" in message(await manage(world, f"volume-{volume_id}"), 400)


async def test_a_volume_in_use_with_snapshots_or_in_a_copy_is_not_unmanaged(world: World) -> None:
    used, snapped, copied = await world.make(), await world.make(), await world.make()
    await world.attach(used)
    await world.make_snapshot(snapped)
    assert (await world.ask(source_volid=copied)).status_code == 202
    for volume_id, word in ((used, "attached"), (snapped, "snapshots"), (copied, "copied")):
        assert word in message(await unmanage(world, "volume", volume_id), 400)
    message(await unmanage(world, "volume", NOBODY), 404)
    for caller in ("member", "reader", "other"):
        message(await unmanage(world, "volume", snapped, caller=caller), 403)
    await world.settle()
    assert await world.status(copied) == "available"


async def test_what_is_being_worked_on_is_not_unmanaged_under_a_word_of_an_admins(world: World) -> None:
    volume_id = await world.make()
    snapshot_id = await world.make_snapshot(volume_id)
    for kind, one in (("snapshot", snapshot_id), ("volume", volume_id)):
        assert (await world.call("DELETE", f"{ACTIONS[kind]}/{one}")).status_code == 202
        answer = await world.call(
            "POST", f"{ACTIONS[kind]}/{one}/action", {"os-reset_status": {"status": "error"}}, caller="admin"
        )
        assert answer.status_code == 202
        assert "is deleting" in message(await unmanage(world, kind, one), 400)
        await world.settle()
        message(await world.call("GET", f"{ACTIONS[kind]}/{one}"), 404)


@pytest.mark.parametrize("path", SNAPSHOT_PATHS)
async def test_an_unmanaged_snapshot_is_left_and_managed_again(world: World, path: str) -> None:
    volume_id = await world.make()
    world.write(volume_id, b"then")
    snapshot_id = await world.make_snapshot(volume_id)
    assert (await unmanage(world, "snapshot", snapshot_id)).status_code == 202
    message(await world.call("GET", f"/snapshots/{snapshot_id}"), 404)
    fields: dict[str, Any] = {"name": "n", "description": "d", "metadata": {"k": "v"}}
    answer = await manage_snapshot(world, volume_id, f"snapshot-{snapshot_id}", path=path, **fields)
    assert answer.status_code == 202, answer.text
    again = answer.json()["snapshot"]["id"]
    await world.settle()
    assert await world.snapshot_status(again) == "available"
    copy = await world.make(snapshot_id=again, caller="admin")
    assert world.read(copy, 4) == b"then"
    assert not (world.root / f"snapshot-{snapshot_id}").exists()
    assert (await unmanage(world, "volume", volume_id)).status_code == 400


async def test_bad_requests_about_snapshots_change_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    volume_id = await world.make()
    snapshot_id = await world.make_snapshot(volume_id)
    put(world, "large", size_bytes=GIB + 1)
    put(world)
    for path in SNAPSHOT_PATHS:
        assert "2 GiB" in message(await manage_snapshot(world, volume_id, "large", path=path), 400)
        assert "already" in message(await manage_snapshot(world, volume_id, f"snapshot-{snapshot_id}", path=path), 400)
        message(await manage_snapshot(world, volume_id, "absent", path=path), 400)
        message(await manage_snapshot(world, NOBODY, "disk", path=path), 404)
    message(await unmanage(world, "snapshot", NOBODY), 404)
    for caller in ("member", "reader", "other"):
        message(await manage_snapshot(world, volume_id, "disk", caller=caller), 403)
        message(await unmanage(world, "snapshot", snapshot_id, caller=caller), 403)
    quota = {"quota_set": {"snapshots": 1}}
    project = (await world.get(f"/volumes/{volume_id}", "volume", caller="admin"))["os-vol-tenant-attr:tenant_id"]
    assert (await world.call("PUT", f"/os-quota-sets/{project}", quota, caller="admin")).status_code == 200
    body = {"snapshot": {"volume_id": volume_id, "ref": {"source-name": "disk"}}}
    for path in SNAPSHOT_PATHS:
        message(await world.call("POST", path, body, caller="admin"), 413)
        with monkeypatch.context() as patch:
            patch.setattr(Pool, "measure_file", fail)
            assert (await world.call("POST", path, body, caller="admin")).status_code == 503
    message(await world.call("POST", "/manageable_snapshots", body, caller="admin", version="3.7"), 404)
    assert (await world.ask(snapshot_id=snapshot_id)).status_code == 202
    assert "copied" in message(await unmanage(world, "snapshot", snapshot_id), 400)
    assert (world.root / "disk").exists()


@pytest.mark.parametrize("path", ["/os-volume-manage", "/manageable_volumes"])
async def test_what_a_pool_has_is_listed_with_what_cannot_be_managed(world: World, path: str) -> None:
    mine, left = await world.make(), await world.make()
    await world.make_snapshot(mine)
    await unmanage(world, "volume", left)
    put(world, "a", size_bytes=3 * GIB)
    (world.root / "link").symlink_to(world.root / "a")
    query = f"host={HOST}%40local%23local"
    rows = await world.get(f"{path}/detail?{query}", "manageable-volumes", caller="admin")
    found = {row["reference"]["source-name"]: row for row in rows}
    assert found.keys() == {"a", "link", f"volume-{mine}", f"volume-{left}"}
    assert found["a"]["safe_to_manage"]
    assert found["a"]["size"] == 3
    assert found[f"volume-{left}"]["safe_to_manage"]
    assert "already" in found[f"volume-{mine}"]["reason_not_safe"]
    assert found[f"volume-{mine}"]["cinder_id"] == mine
    assert not found["link"]["safe_to_manage"]

    async def names(more: str) -> list[str]:
        short = await world.get(f"{path}?{query}{more}", "manageable-volumes", caller="admin")
        assert all(row.keys() == {"reference", "size", "safe_to_manage"} for row in short)
        return [row["reference"]["source-name"] for row in short]

    everything = sorted(found)
    assert await names("") == everything[::-1]
    assert await names("&sort=reference:asc&limit=2") == everything[:2]
    assert await names("&sort=reference:asc&offset=3") == everything[3:]
    assert await names('&sort=reference:asc&marker={"source-name": "a"}') == everything[1:]
    assert (await names("&sort=size:desc"))[0] == "a"


async def test_snapshots_in_a_pool_are_listed_with_their_volumes(world: World) -> None:
    volume_id = await world.make()
    mine, left = await world.make_snapshot(volume_id), await world.make_snapshot(volume_id)
    await unmanage(world, "snapshot", left)
    query = f"host={HOST}%40local%23local"
    for path in ("/os-snapshot-manage", "/manageable_snapshots"):
        rows = await world.get(f"{path}/detail?{query}", "manageable-snapshots", caller="admin")
        found = {row["reference"]["source-name"]: row for row in rows}
        assert found.keys() == {f"snapshot-{mine}", f"snapshot-{left}"}
        assert found[f"snapshot-{left}"]["safe_to_manage"]
        assert found[f"snapshot-{mine}"]["cinder_id"] == mine
        assert found[f"snapshot-{mine}"]["source_reference"] == {"source-name": f"volume-{volume_id}"}
        short = await world.get(f"{path}?{query}", "manageable-snapshots", caller="admin")
        assert all("cinder_id" not in row for row in short)


@pytest.mark.parametrize("kind", ["volume", "snapshot"])
@pytest.mark.parametrize("end", ["", "/detail"])
async def test_bad_lists_of_a_pool_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str, end: str
) -> None:
    here = f"?host={HOST}%40local%23local"
    for path in (f"/os-{kind}-manage{end}", f"/manageable_{kind}s{end}"):
        message(await world.call("GET", path, caller="admin"), 400)
        message(await world.call("GET", f"{path}{here}&sort=colour", caller="admin"), 400)
        message(await world.call("GET", f"{path}{here}&limit=few", caller="admin"), 400)
        message(await world.call("GET", f"{path}{here}&marker=x", caller="admin"), 400)
        message(await world.call("GET", f'{path}{here}&marker={{"source-name": "x"}}', caller="admin"), 404)
        message(await world.call("GET", f"{path}?host=elsewhere", caller="admin"), 404)
        message(await world.call("GET", f"{path}{here}", caller="member"), 403)
        with monkeypatch.context() as patch:
            patch.setattr(Pool, "list_files", fail)
            assert (await world.call("GET", f"{path}{here}", caller="admin")).status_code == 503
    message(await world.call("GET", f"/manageable_{kind}s{end}{here}", caller="admin", version="3.7"), 404)
