"""Backups: made, listed, restored, damaged, deleted, exported and imported."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from kevel.domain.errors import StepError, StepNever, StepRetry
from kevel.domain.ladder import Rung
from kevel.domain.model import ServerGoal, ServerRung
from kevel.runtime.reconciler import DONE
from kevel.store.schema.servers import servers
from kevel.store.transactions import Tx
from tests.integration.stand import PROJECTS
from tests.integration.volumes.conftest import GIB, World, message
from tests.integration.volumes.test_encryption import make_sealed

MIB = 1024**2


def write(world: World, volume_id: str, content: bytes, at: int = 0) -> None:
    with (world.root / f"volume-{volume_id}").open("r+b") as file:
        file.seek(at)
        file.write(content)


def read(world: World, volume_id: str, length: int, at: int = 0) -> bytes:
    with (world.root / f"volume-{volume_id}").open("rb") as file:
        file.seek(at)
        return file.read(length)


def stop_server(tx: Tx, server_id: str) -> None:
    stopped = {"goal": ServerGoal.STOPPED, "rung": ServerRung.DEFINED}
    tx.execute(update(servers).where(servers.c.id == server_id).values(**stopped))


async def silent() -> None:
    raise StepRetry("The disk does not answer.")


async def ask_backup(
    world: World, volume_id: str, *, caller: str = "member", version: str = "3.71", **fields: Any
) -> Any:
    body = {"backup": {"volume_id": volume_id, **fields}}
    return await world.call("POST", "/backups", body, caller=caller, version=version)


async def back_up(world: World, volume_id: str, **fields: Any) -> str:
    answer = await ask_backup(world, volume_id, **fields)
    assert answer.status_code == 202, answer.text
    await world.settle()
    backup_id: str = answer.json()["backup"]["id"]
    assert (await show(world, backup_id))["status"] == "available"
    return backup_id


async def show(world: World, backup_id: str, **more: Any) -> dict[str, Any]:
    shown: dict[str, Any] = await world.get(f"/backups/{backup_id}", "backup", **more)
    return shown


async def restore(world: World, backup_id: str, **fields: Any) -> httpx.Response:
    return await world.call("POST", f"/backups/{backup_id}/restore", {"restore": fields})


async def remove(world: World, backup_id: str, **more: Any) -> httpx.Response:
    return await world.call("DELETE", f"/backups/{backup_id}", **more)


async def act(world: World, backup_id: str, name: str, value: object = None, **more: Any) -> httpx.Response:
    caller = more.pop("caller", "admin")
    return await world.call("POST", f"/backups/{backup_id}/action", {name: value}, caller=caller, **more)


def fail_with(error: StepError) -> Callable[..., Any]:
    def fail(*args: object) -> None:
        raise error

    return fail


async def test_a_backup_is_made_and_restored_into_a_new_volume_with_what_the_old_one_was(world: World) -> None:
    volume_id = await world.make(name="v", description="d", metadata={"a": "b"})
    write(world, volume_id, b"hello", 3 * MIB)
    await world.act(volume_id, "os-set_bootable", {"bootable": True})
    answer = await ask_backup(world, volume_id, name="b", description="of v", container="c", metadata={"m": "1"})
    assert answer.json()["backup"].keys() == {"id", "name", "links"}
    backup_id = answer.json()["backup"]["id"]
    assert await world.status(volume_id) == "backing-up"
    assert (await show(world, backup_id))["status"] == "creating"
    await world.settle()
    assert await world.status(volume_id) == "available"
    shown = await show(world, backup_id)
    assert (shown["status"], shown["size"], shown["object_count"], shown["fail_reason"]) == ("available", 1, 1, None)
    assert (shown["name"], shown["description"], shown["container"]) == ("b", "of v", "c")
    assert (shown["metadata"], shown["volume_id"], shown["is_incremental"]) == ({"m": "1"}, volume_id, False)
    write(world, volume_id, b"OTHER", 3 * MIB)
    await world.call("DELETE", f"/volumes/{volume_id}")
    await world.settle()
    restored = (await restore(world, backup_id, name="again")).json()["restore"]
    assert restored == {"backup_id": backup_id, "volume_id": restored["volume_id"], "volume_name": "again"}
    assert await world.status(restored["volume_id"]) == "restoring-backup"
    assert (await show(world, backup_id))["status"] == "restoring"
    await world.settle()
    assert (await show(world, backup_id))["status"] == "available"
    volume = await world.get(f"/volumes/{restored['volume_id']}", "volume")
    assert (volume["status"], volume["name"], volume["description"], volume["size"]) == ("available", "again", "d", 1)
    assert (volume["metadata"], volume["bootable"]) == ({"a": "b"}, "true")
    assert read(world, restored["volume_id"], 7, 3 * MIB - 1) == b"\0hello\0"


@pytest.mark.parametrize(
    ("version", "caller", "more"),
    [
        ("3.0", "admin", set()),
        ("3.18", "admin", {"os-backup-project-attr:project_id"}),
        ("3.43", "member", {"metadata"}),
        ("3.56", "member", {"metadata", "user_id"}),
    ],
)
async def test_a_backup_is_shown_by_its_microversion(world: World, version: str, caller: str, more: set[str]) -> None:
    backup_id = await back_up(world, await world.make())
    shown = await show(world, backup_id, version=version, caller=caller)
    known = {
        "id", "name", "links", "status", "size", "object_count", "availability_zone", "container", "created_at",
        "updated_at", "description", "fail_reason", "volume_id", "is_incremental", "has_dependent_backups",
        "snapshot_id", "data_timestamp",
    }  # fmt: skip
    assert shown.keys() == known | more
    query = "?all_tenants=1"
    assert await world.get(f"/backups/detail{query}", "backups", version=version, caller=caller) == [shown]
    (short,) = await world.get(f"/backups{query}", "backups", version=version, caller=caller)
    assert short.keys() == {"id", "name", "links"}


async def test_keys_of_a_backup_came_with_their_microversions(world: World) -> None:
    volume_id = await world.make()
    message(await ask_backup(world, volume_id, version="3.42", metadata={}), 400)
    message(await ask_backup(world, volume_id, version="3.50", availability_zone="nova"), 400)
    message(await ask_backup(world, volume_id, version="3.51", availability_zone="mars"), 400)
    assert (
        await ask_backup(world, volume_id, version="3.51", availability_zone="nova", metadata={})
    ).status_code == 202


async def test_increments_restore_their_own_times_and_are_deleted_from_the_newest(world: World) -> None:
    volume_id = await world.make()
    write(world, volume_id, b"one")
    full = await back_up(world, volume_id)
    write(world, volume_id, b"two", 5 * MIB)
    second = await back_up(world, volume_id, incremental=True)
    write(world, volume_id, b"ONE")
    third = await back_up(world, volume_id, incremental=True)
    flags = [(one["is_incremental"], one["has_dependent_backups"], one["object_count"]) for one in
             [await show(world, backup_id) for backup_id in (full, second, third)]]  # fmt: skip
    assert flags == [(False, True, 1), (True, True, 1), (True, False, 1)]
    wanted = {full: (b"one", b"\0\0\0"), second: (b"one", b"two"), third: (b"ONE", b"two")}
    for backup_id, (first, later) in wanted.items():
        new_id = (await restore(world, backup_id)).json()["restore"]["volume_id"]
        await world.settle()
        assert (read(world, new_id, 3), read(world, new_id, 3, 5 * MIB)) == (first, later)
    for backup_id in (full, second):
        assert "build on" in message(await remove(world, backup_id), 400)
        message(await act(world, backup_id, "os-force_delete"), 400)
    for backup_id in (third, second, full):
        assert (await remove(world, backup_id)).status_code == 202
        assert (await show(world, backup_id))["status"] == "deleting"
        await world.settle()
        message(await world.call("GET", f"/backups/{backup_id}"), 404)
    assert list(world.backup_files.root.iterdir()) == []


async def test_an_increment_needs_a_backup_of_the_same_volume_and_project(world: World) -> None:
    volume_id, other = await world.make(), await world.make()
    assert "no backup" in message(await ask_backup(world, volume_id, incremental=True), 400)
    await back_up(world, other)
    message(await ask_backup(world, volume_id, incremental=True), 400)
    backup_id = await back_up(world, volume_id)
    await act(world, backup_id, "os-reset_status", {"status": "error"})
    message(await ask_backup(world, volume_id, incremental=True), 400)
    message(await ask_backup(world, volume_id, incremental=True, caller="admin"), 400)
    assert await world.status(volume_id) == "available"


async def test_a_grown_volume_is_backed_up_in_an_increment(world: World) -> None:
    volume_id = await world.make()
    write(world, volume_id, b"one")
    await back_up(world, volume_id)
    await world.act(volume_id, "os-extend", {"new_size": 2})
    await world.settle()
    write(world, volume_id, b"end", 2 * GIB - 3)
    second = await back_up(world, volume_id, incremental=True)
    assert (await show(world, second))["size"] == 2
    new_id = (await restore(world, second)).json()["restore"]["volume_id"]
    await world.settle()
    assert (read(world, new_id, 3), read(world, new_id, 3, 2 * GIB - 3)) == (b"one", b"end")


async def test_a_backup_is_restored_into_a_volume_that_exists(world: World) -> None:
    volume_id = await world.make(name="v", metadata={"a": "b"})
    write(world, volume_id, b"one")
    backup_id = await back_up(world, volume_id)
    target = await world.make(name="t", size=2)
    write(world, target, b"x" * 10, 7 * MIB)
    answer = (await restore(world, backup_id, volume_id=target)).json()["restore"]
    assert answer == {"backup_id": backup_id, "volume_id": target, "volume_name": "t"}
    assert await world.status(target) == "restoring-backup"
    message(await world.act(target, "os-extend", {"new_size": 3}), 400)
    message(await restore(world, backup_id), 400)
    message(await remove(world, backup_id), 400)
    message(await act(world, backup_id, "os-force_delete"), 400)
    await world.settle()
    assert (read(world, target, 3), read(world, target, 10, 7 * MIB)) == (b"one", bytes(10))
    shown = await world.get(f"/volumes/{target}", "volume")
    assert (shown["status"], shown["name"], shown["metadata"], shown["size"]) == ("available", "t", {}, 2)


async def test_a_volume_that_is_too_small_or_in_use_takes_no_backup(world: World) -> None:
    big, small = await world.make(size=2), await world.make()
    backup_id = await back_up(world, big)
    assert "2 GiB" in message(await restore(world, backup_id, volume_id=small), 400)
    await world.attach(big, Rung.PLUGGED)
    assert "in-use" in message(await restore(world, backup_id, volume_id=big), 400)
    message(await restore(world, backup_id, volume_id=str(uuid.uuid4())), 404)
    message(await restore(world, str(uuid.uuid4())), 404)
    message(await world.ask(backup_id=backup_id, size=1), 400)
    assert (await show(world, backup_id))["status"] == "available"


async def test_a_volume_is_made_from_a_backup_from_3_47(world: World) -> None:
    volume_id = await world.make(metadata={"a": "b", "c": "d"})
    write(world, volume_id, b"one")
    backup_id = await back_up(world, volume_id)
    message(await world.ask(backup_id=backup_id, version="3.46"), 400)
    message(await world.ask(backup_id=backup_id, snapshot_id=str(uuid.uuid4())), 400)
    message(await world.ask(backup_id=str(uuid.uuid4())), 404)
    answer = await world.ask(size=None, backup_id=backup_id, name="n", metadata={"a": "x"}, version="3.47")
    assert answer.status_code == 202, answer.text
    new_id = answer.json()["volume"]["id"]
    await world.settle()
    shown = await world.get(f"/volumes/{new_id}", "volume")
    assert (shown["status"], shown["size"], shown["metadata"]) == ("available", 1, {"a": "x", "c": "d"})
    assert read(world, new_id, 3) == b"one"


async def test_a_snapshot_is_backed_up_by_its_own_time(world: World) -> None:
    volume_id = await world.make()
    write(world, volume_id, b"old")
    snapshot_id = await world.make_snapshot(volume_id)
    write(world, volume_id, b"new")
    other = await world.make()
    assert "is not of volume" in message(await ask_backup(world, other, snapshot_id=snapshot_id), 400)
    message(await ask_backup(world, volume_id, snapshot_id=str(uuid.uuid4())), 404)
    answer = await ask_backup(world, volume_id, snapshot_id=snapshot_id)
    assert await world.status(volume_id) == "available"
    await world.settle()
    shown = await show(world, answer.json()["backup"]["id"])
    assert (shown["status"], shown["snapshot_id"]) == ("available", snapshot_id)
    snapshot = await world.get(f"/snapshots/{snapshot_id}", "snapshot")
    assert shown["data_timestamp"] == snapshot["created_at"]
    new_id = (await restore(world, shown["id"])).json()["restore"]["volume_id"]
    await world.settle()
    assert read(world, new_id, 3) == b"old"


async def test_a_volume_in_use_is_backed_up_with_force_through_a_snapshot_that_goes_again(world: World) -> None:
    volume_id = await world.make()
    write(world, volume_id, b"one")
    server_id = await world.attach(volume_id, Rung.PLUGGED)
    await world.runtime.store.write(stop_server, server_id)
    assert "force" in message(await ask_backup(world, volume_id), 400)
    answer = await ask_backup(world, volume_id, force=True)
    assert answer.status_code == 202, answer.text
    backup_id = answer.json()["backup"]["id"]
    assert await world.status(volume_id) == "backing-up"
    (snapshot,) = await world.get("/snapshots", "snapshots")
    assert snapshot["name"] == f"backup_{backup_id}"
    await world.settle_all()
    assert (await show(world, backup_id))["status"] == "available"
    assert await world.status(volume_id) == "in-use"
    assert await world.get("/snapshots", "snapshots") == []
    new_id = (await restore(world, backup_id)).json()["restore"]["volume_id"]
    await world.settle()
    assert read(world, new_id, 3) == b"one"


async def test_what_is_not_there_or_another_projects_is_not_backed_up(world: World) -> None:
    volume_id = await world.make()
    message(await ask_backup(world, volume_id, caller="other"), 404)
    message(await ask_backup(world, str(uuid.uuid4())), 404)
    message(await ask_backup(world, volume_id, caller="reader"), 403)
    await world.act(volume_id, "os-reset_status", {"status": "error"}, caller="admin")
    assert "error" in message(await ask_backup(world, volume_id, force=True), 400)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "n" * 256},
        {"name": "\0"},
        {"incremental": "perhaps"},
        {"force": 7},
        {"colour": "red"},
        {"metadata": {"": "x"}},
        {"snapshot_id": 5},
    ],
)
async def test_a_bad_backup_is_refused(world: World, fields: dict[str, Any]) -> None:
    message(await ask_backup(world, await world.make(), **fields), 400)
    assert await world.get("/backups", "backups") == []


async def test_backups_are_their_projects(world: World) -> None:
    backup_id = await back_up(world, await world.make())
    path = f"/backups/{backup_id}"
    for method, place, body in (
        ("GET", path, None),
        ("PUT", path, {"backup": {"name": "x"}}),
        ("DELETE", path, None),
        ("POST", f"{path}/restore", {"restore": {}}),
    ):
        message(await world.call(method, place, body, caller="other"), 404)
        message(await world.call(method, place.replace(backup_id, str(uuid.uuid4())), body), 404)
    assert await world.get("/backups/detail", "backups", caller="other") == []
    assert await world.get("/backups", "backups", caller="admin") == []
    (seen,) = await world.get("/backups/detail?all_tenants=1", "backups", caller="admin")
    assert seen["os-backup-project-attr:project_id"] == PROJECTS["member"]
    for action in ("os-reset_status", "os-force_delete"):
        message(await act(world, backup_id, action, {"status": "error"}, caller="member"), 403)
        message(await act(world, str(uuid.uuid4()), action, {"status": "error"}), 404)
    message(await world.call("GET", f"{path}/export_record"), 403)
    message(await world.call("GET", f"/backups/{uuid.uuid4()}/export_record", caller="admin"), 404)


async def test_name_description_and_metadata_change(world: World) -> None:
    backup_id = await back_up(world, await world.make(), name="a", metadata={"m": "1"})
    path = f"/backups/{backup_id}"
    body: dict[str, Any] = {"backup": {"name": "b", "description": "d"}}
    answer = await world.call("PUT", path, body, version="3.9")
    assert answer.json()["backup"] == {"id": backup_id, "name": "b", "links": answer.json()["backup"]["links"]}
    message(await world.call("PUT", path, body, version="3.8"), 404)
    body["backup"]["metadata"] = {"n": "2"}
    message(await world.call("PUT", path, body, version="3.42"), 400)
    assert (await world.call("PUT", path, body)).status_code == 200
    shown = await show(world, backup_id)
    assert (shown["name"], shown["description"], shown["metadata"]) == ("b", "d", {"n": "2"})
    nothings: list[dict[str, Any]] = [{"backup": {}}, {"backup": None}, {}, {"backup": {"name": "\0"}}]
    for nothing in nothings:
        message(await world.call("PUT", path, nothing), 400)


async def test_lists_have_filters_pages_a_count_and_an_order(world: World) -> None:
    volume_id, other = await world.make(), await world.make()
    ids = [await back_up(world, one, name=name) for one, name in ((volume_id, "a"), (volume_id, "b"), (other, "c"))]
    assert [one["id"] for one in await world.get("/backups", "backups")] == ids[::-1]
    answer = (await world.call("GET", "/backups?sort=name:asc&limit=2&with_count=true")).json()
    assert ([one["name"] for one in answer["backups"]], answer["count"]) == (["a", "b"], 3)
    (link,) = answer["backups_links"]
    assert [one["id"] for one in await world.get(link["href"], "backups")] == ids[2:]
    await act(world, ids[0], "os-reset_status", {"status": "error"})
    for query, found in (
        (f"volume_id={volume_id}", ids[1::-1]),
        ("name=b", ids[1:2]),
        ("name~=b", ids[1:2]),
        ("status=error", ids[:1]),
        ("status=available&with_count=1", ids[:0:-1]),
        ("offset=1", ids[1::-1]),
    ):
        assert [one["id"] for one in await world.get(f"/backups?{query}", "backups")] == found
    for path in ("/backups", "/backups/detail"):
        message(await world.call("GET", f"{path}?sort=colour"), 400)
        message(await world.call("GET", f"{path}?marker=nothing"), 404)


async def test_a_damaged_backup_is_not_restored_and_the_volume_keeps_what_it_had(world: World) -> None:
    volume_id = await world.make()
    write(world, volume_id, b"one")
    backup_id = await back_up(world, volume_id)
    data = world.backup_files.root / f"backup-{backup_id}" / "data"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    write(world, volume_id, b"now")
    assert (await restore(world, backup_id, volume_id=volume_id)).status_code == 202
    await world.settle()
    assert await world.status(volume_id) == "error_restoring"
    assert read(world, volume_id, 3) == b"now"
    assert (await show(world, backup_id))["status"] == "available"
    (told,) = await world.get("/messages", "messages")
    assert (told["event_id"], told["resource_type"]) == ("VOLUME_VOLUME_BACKUP_015_026", "VOLUME_BACKUP")
    assert "damaged: chunk 0" in told["user_message"]
    new_id = (await restore(world, backup_id)).json()["restore"]["volume_id"]
    await world.settle()
    assert await world.status(new_id) == "error_restoring"
    content[100] ^= 1
    data.write_bytes(content)
    assert (await restore(world, backup_id, volume_id=volume_id)).status_code == 202
    await world.settle()
    assert (await world.status(volume_id), read(world, volume_id, 3)) == ("available", b"one")
    assert (await world.call("DELETE", f"/volumes/{new_id}")).status_code == 202
    await world.settle()
    message(await world.call("GET", f"/volumes/{new_id}"), 404)


async def test_a_backup_that_fails_says_why_leaves_nothing_and_frees_the_volume(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume_id = await world.make()
    with monkeypatch.context() as patch:
        patch.setattr(world.backup_files, "write", fail_with(StepNever("There is no space left.")))
        backup_id = (await ask_backup(world, volume_id)).json()["backup"]["id"]
        await world.settle()
    shown = await show(world, backup_id)
    assert (shown["status"], shown["fail_reason"]) == ("error", "There is no space left.")
    assert await world.status(volume_id) == "available"
    (told,) = await world.get("/messages", "messages")
    assert told["event_id"] == "VOLUME_VOLUME_BACKUP_013_020"
    message(await restore(world, backup_id), 400)
    message(await act(world, backup_id, "os-reset_status", {"status": "available"}), 400)
    message(await world.call("GET", f"/backups/{backup_id}/export_record", caller="admin"), 400)
    assert (await remove(world, backup_id)).status_code == 202
    await world.settle()
    assert await world.get("/backups", "backups") == []


async def test_a_passing_failure_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    volume_id = await world.make()
    with monkeypatch.context() as patch:
        patch.setattr(world.backup_files, "write", fail_with(StepRetry("The disk is slow.")))
        backup_id = (await ask_backup(world, volume_id)).json()["backup"]["id"]
        await world.backup_worker.look(backup_id)
    assert (await show(world, backup_id))["status"] == "creating"
    assert await world.backup_worker.look(backup_id) is DONE
    assert (await show(world, backup_id))["status"] == "available"


@pytest.mark.parametrize("kind", ["creating", "restoring", "deleting"])
async def test_an_act_that_was_done_but_not_recorded_is_done_again(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    volume_id = await world.make()
    write(world, volume_id, b"one")
    backup_id = (await ask_backup(world, volume_id)).json()["backup"]["id"]
    if kind != "creating":
        await world.settle()
    if kind == "restoring":
        write(world, volume_id, b"two")
        await restore(world, backup_id, volume_id=volume_id)
    if kind == "deleting":
        await remove(world, backup_id)

    async def die(*args: object, **kwargs: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(world.runtime.store, "write", die)
        with pytest.raises(asyncio.CancelledError):
            await world.backup_worker.look(backup_id)
    assert (await show(world, backup_id))["status"] == kind
    world.backup_files.open()
    await world.settle()
    assert await world.status(volume_id) == "available"
    if kind == "deleting":
        message(await world.call("GET", f"/backups/{backup_id}"), 404)
        assert list(world.backup_files.root.iterdir()) == []
        return
    assert (await show(world, backup_id))["status"] == "available"
    assert read(world, volume_id, 3) == b"one"


async def test_deleting_a_backup_that_is_being_made_takes_force_and_frees_the_volume(world: World) -> None:
    volume_id = await world.make()
    backup_id = (await ask_backup(world, volume_id)).json()["backup"]["id"]
    message(await remove(world, backup_id), 400)
    assert (await act(world, backup_id, "os-force_delete")).status_code == 202
    assert await world.status(volume_id) == "available"
    await world.settle()
    message(await world.call("GET", f"/backups/{backup_id}"), 404)
    assert list(world.backup_files.root.iterdir()) == []


async def test_a_volume_that_is_deleted_by_force_while_it_is_restored_stays_deleted(world: World) -> None:
    volume_id = await world.make()
    backup_id = await back_up(world, volume_id)
    await restore(world, backup_id, volume_id=volume_id)
    assert (await world.act(volume_id, "os-force_delete", None, caller="admin")).status_code == 202
    await world.settle()
    message(await world.call("GET", f"/volumes/{volume_id}"), 404)
    assert (await show(world, backup_id))["status"] == "available"
    assert list(world.root.iterdir()) == []


async def test_a_deletion_that_fails_shows_it_and_can_be_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup_id = await back_up(world, await world.make())
    with monkeypatch.context() as patch:
        patch.setattr(world.backup_files, "remove", fail_with(StepNever("It is not permitted.")))
        await remove(world, backup_id)
        await world.settle()
    assert (await show(world, backup_id))["status"] == "error_deleting"
    assert (await remove(world, backup_id)).status_code == 202
    await world.settle()
    message(await world.call("GET", f"/backups/{backup_id}"), 404)


async def test_a_reset_puts_a_word_over_the_status_and_makes_nothing_so(world: World) -> None:
    backup_id = await back_up(world, await world.make())
    for word in ("error", "error_deleting", "available"):
        answer = await act(world, backup_id, "os-reset_status", {"status": word})
        assert (answer.status_code, answer.content) == (202, b"")
        assert (await show(world, backup_id))["status"] == word
    for body in ({"status": "colour"}, {"status": "restoring"}, {"status": None}, {}, None):
        message(await act(world, backup_id, "os-reset_status", body), 400)
    await remove(world, backup_id)
    message(await act(world, backup_id, "os-reset_status", {"status": "available"}), 400)


async def export(world: World, backup_id: str) -> dict[str, Any]:
    record: dict[str, Any] = await world.get(f"/backups/{backup_id}/export_record", "backup-record", caller="admin")
    return record


async def enter(world: World, record: dict[str, Any], **changes: Any) -> httpx.Response:
    inner = json.loads(base64.b64decode(record["backup_url"])) | changes
    record = record | {"backup_url": base64.b64encode(json.dumps(inner).encode()).decode()}
    return await world.call("POST", "/backups/import_record", {"backup-record": record}, caller="admin")


async def test_a_record_is_exported_and_imported_and_its_files_stay_while_one_needs_them(world: World) -> None:
    volume_id = await world.make()
    write(world, volume_id, b"one")
    backup_id = await back_up(world, volume_id, name="b")
    record = await export(world, backup_id)
    assert record["backup_service"].startswith("cinder.backup.drivers")
    message(await enter(world, record), 400)
    new_id = str(uuid.uuid4())
    answer = await enter(world, record, id=new_id)
    assert (answer.status_code, answer.json()["backup"]["id"]) == (201, new_id)
    assert (await show(world, new_id, caller="admin"))["status"] == "available"
    assert (await remove(world, backup_id)).status_code == 202
    await world.settle()
    body: dict[str, Any] = {"restore": {}}
    answer = await world.call("POST", f"/backups/{new_id}/restore", body, caller="admin")
    await world.settle()
    assert read(world, answer.json()["restore"]["volume_id"], 3) == b"one"
    assert (await enter(world, record)).status_code == 201
    for one in (new_id, backup_id):
        assert (await remove(world, one, caller="admin")).status_code == 202
        await world.settle()
    assert list(world.backup_files.root.iterdir()) == []
    assert "not there" in message(await enter(world, record), 400)


async def test_a_record_that_lies_is_not_imported(world: World) -> None:
    volume_id = await world.make()
    full = await back_up(world, volume_id)
    second = await back_up(world, volume_id, incremental=True)
    record = await export(world, second)
    fresh = {"id": str(uuid.uuid4())}
    lies: list[dict[str, Any]] = [
        {"size_gib": 2},
        {"checksum": "0" * 64},
        {"volume_id": str(uuid.uuid4())},
        {"chain": ["../../etc"]},
        {"chain": []},
        {"parent_id": None},
        {"parent_id": str(uuid.uuid4())},
        {"size_gib": "large"},
    ]
    for changes in lies:
        message(await enter(world, record, **fresh, **changes), 400)
    for body in ({"backup_service": "swift"}, {"backup_url": "no base64!"}, {"backup_url": "e30="}, {"backup_url": ""}):
        answer = await world.call("POST", "/backups/import_record", {"backup-record": record | body}, caller="admin")
        message(answer, 400)
    message(await world.call("POST", "/backups/import_record", {"backup-record": record}), 403)
    assert len(await world.get("/backups?all_tenants=1", "backups", caller="admin")) == 2
    assert (await enter(world, record, **fresh)).status_code == 201
    message(await remove(world, full), 400)


@pytest.mark.parametrize("resource", ["backups", "backup_gigabytes"])
async def test_a_project_has_no_more_backups_than_its_quota(world: World, resource: str) -> None:
    volume_id = await world.make()
    path = f"/os-quota-sets/{PROJECTS['member']}"
    assert (await world.call("PUT", path, {"quota_set": {resource: 1}}, caller="admin")).status_code == 200
    backup_id = await back_up(world, volume_id)
    assert resource in message(await ask_backup(world, volume_id), 413)
    record = await export(world, backup_id)
    path = f"/os-quota-sets/{PROJECTS['admin']}"
    assert (await world.call("PUT", path, {"quota_set": {resource: 0}}, caller="admin")).status_code == 200
    message(await enter(world, record, id=str(uuid.uuid4())), 413)
    await remove(world, backup_id)
    await world.settle()
    await back_up(world, volume_id)


async def test_restoring_needs_room_for_the_volume(world: World) -> None:
    backup_id = await back_up(world, await world.make())
    path = f"/os-quota-sets/{PROJECTS['member']}"
    assert (await world.call("PUT", path, {"quota_set": {"volumes": 1}}, caller="admin")).status_code == 200
    message(await restore(world, backup_id), 413)
    assert (await show(world, backup_id))["status"] == "available"


async def test_a_volume_that_no_pool_takes_is_in_error_and_its_backup_is_free(world: World) -> None:
    backup_id = await back_up(world, await world.make())
    specs = {"name": "elsewhere", "extra_specs": {"volume_backend_name": "mars"}}
    assert (await world.call("POST", "/types", {"volume_type": specs}, caller="admin")).status_code == 200
    answer = await world.ask(backup_id=backup_id, volume_type="elsewhere")
    assert answer.status_code == 202
    assert await world.status(answer.json()["volume"]["id"]) == "error"
    assert (await show(world, backup_id))["status"] == "available"


async def test_pages_follow_each_other_whatever_they_are_sorted_by(world: World) -> None:
    volume_id = await world.make()
    ids = {await back_up(world, volume_id, name=name) for name in ("b", None, "a", "b", None)}
    for sort in ("name:asc", "name:desc", "updated_at:desc,id:asc", "size:asc,description:desc", "data_timestamp:asc"):
        for more in ("", "&status=available"):
            query, seen = f"/backups?limit=2&sort={sort}{more}", []
            while query:
                answer = (await world.call("GET", query)).json()
                seen += [one["id"] for one in answer["backups"]]
                query = answer["backups_links"][0]["href"] if "backups_links" in answer else ""
            assert (len(seen), set(seen)) == (5, ids)
            assert seen == [one["id"] for one in await world.get(f"/backups?sort={sort}{more}", "backups")]


async def test_an_encrypted_volume_is_neither_backed_up_nor_restored_to(world: World) -> None:
    sealed, plain = await make_sealed(world), await world.make()
    assert "encrypted" in message(await ask_backup(world, sealed), 400)
    backup_id = await back_up(world, plain)
    assert "encrypted" in message(await restore(world, backup_id, volume_id=sealed), 400)
    assert "encrypted" in message(await world.ask(backup_id=backup_id, volume_type="sealed"), 400)
    assert await world.status(sealed) == "available"
    assert (await show(world, backup_id))["status"] == "available"


@pytest.mark.parametrize("version", ["3.0", "3.42", "3.43", "3.50", "3.51"])
async def test_every_microversion_makes_backups_of_what_is_there_and_has_room(world: World, version: str) -> None:
    volume_id = await world.make()
    message(await ask_backup(world, str(uuid.uuid4()), version=version), 404)
    backup_id = await back_up(world, volume_id, version=version)
    path = f"/os-quota-sets/{PROJECTS['member']}"
    await world.call("PUT", path, {"quota_set": {"backups": 1}}, caller="admin")
    message(await ask_backup(world, volume_id, version=version), 413)
    if version >= "3.42":
        body = {"backup": {"name": "x"}}
        message(await world.call("PUT", f"/backups/{uuid.uuid4()}", body, version=version), 404)
        assert (await world.call("PUT", f"/backups/{backup_id}", body, version=version)).status_code == 200


async def test_nothing_is_restored_while_the_pool_does_not_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup_id = await back_up(world, await world.make())
    monkeypatch.setattr(world.pool, "capacity", silent)
    message(await restore(world, backup_id), 503)
    assert (await show(world, backup_id))["status"] == "available"
