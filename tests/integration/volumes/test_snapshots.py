"""Snapshots through the API: taken, shown, listed, changed, deleted, and what volumes are made from them."""

from __future__ import annotations

import pytest

from kevel.domain.errors import StepNever, StepRetry
from kevel.domain.ladder import Rung
from kevel.storage.base import CopyWatch, SnapshotFile, VolumeFile
from tests.integration.volumes.conftest import Pool, World, message

NOBODY = "5e0f0c57-3ffb-4b5c-9c8b-0c0ffee0c0de"


async def test_a_snapshot_keeps_what_the_volume_had_and_makes_volumes(world: World) -> None:
    volume_id = await world.make(name="source")
    world.write(volume_id, b"before")
    answer = await world.ask_snapshot(volume_id, name="first", description="d", metadata={"k": "v"})
    assert answer.status_code == 202
    shown = answer.json()["snapshot"]
    assert shown["status"] == "creating"
    await world.settle()
    world.write(volume_id, b"after!")
    kept = await world.get(f"/snapshots/{shown['id']}", "snapshot")
    assert kept["status"] == "available"
    assert (kept["name"], kept["description"], kept["metadata"]) == ("first", "d", {"k": "v"})
    assert (kept["size"], kept["volume_id"]) == (1, volume_id)
    assert kept["os-extended-snapshot-attributes:progress"] == "100%"
    made = await world.make(snapshot_id=shown["id"], size=2)
    assert world.read(made, 6) == b"before"
    detail = await world.get(f"/volumes/{made}", "volume")
    assert (detail["status"], detail["size"], detail["snapshot_id"]) == ("available", 2, shown["id"])
    same = await world.make(snapshot_id=shown["id"], size=None)
    assert (await world.get(f"/volumes/{same}", "volume"))["size"] == 1


async def test_keys_come_with_their_microversions(world: World) -> None:
    volume_id = await world.make()
    snapshot_id = await world.make_snapshot(volume_id)
    for version, keys in (
        ("3.13", set()),
        ("3.14", {"group_snapshot_id"}),
        ("3.41", {"group_snapshot_id", "user_id"}),
        ("3.65", {"group_snapshot_id", "user_id", "consumes_quota"}),
    ):
        shown = await world.get(f"/snapshots/{snapshot_id}", "snapshot", version=version)
        assert {"group_snapshot_id", "user_id", "consumes_quota"} & shown.keys() == keys


async def test_a_snapshot_of_nothing_is_not_taken(world: World) -> None:
    message(await world.ask_snapshot(NOBODY), 404)
    message(await world.ask_snapshot(None), 404)
    volume_id = await world.make()
    message(await world.ask_snapshot(volume_id, caller="other"), 404)
    message(await world.ask_snapshot(volume_id, metadata={"k": 5}), 400)
    message(await world.ask_snapshot(volume_id, name="a\0b"), 400)
    message(await world.ask_snapshot(volume_id, metadata={f"k{n}": "v" for n in range(129)}), 413)


async def test_a_volume_that_is_not_there_yet_has_no_snapshots(world: World) -> None:
    volume_id = (await world.ask()).json()["volume"]["id"]
    assert "creating" in message(await world.ask_snapshot(volume_id), 400)


async def test_a_volume_in_use_needs_force_until_3_66_and_force_cannot_be_false_from_then_on(world: World) -> None:
    volume_id = await world.make()
    await world.attach(volume_id, Rung.RESERVED)
    assert "attaching" in message(await world.ask_snapshot(volume_id, version="3.65"), 400)
    free = await world.make()
    message(await world.ask_snapshot(free, version="3.66", force=False), 400)
    assert (await world.ask_snapshot(free, version="3.66", force=True)).status_code == 202
    assert (await world.ask_snapshot(free, version="3.65", force=False)).status_code == 202


async def test_lists_filter_sort_and_page(world: World) -> None:
    one, two = await world.make(), await world.make()
    ids = [
        await world.make_snapshot(one, name="b", metadata={"k": "1"}),
        await world.make_snapshot(one, name="a"),
        await world.make_snapshot(two, name="c"),
    ]

    async def listed(query: str, version: str = "3.71") -> list[str]:
        rows = await world.get(f"/snapshots?{query}", "snapshots", version=version)
        return [row["id"] for row in rows]

    assert await listed("") == ids[::-1]
    assert await listed("sort_key=name&sort_dir=asc") == [ids[1], ids[0], ids[2]]
    assert await listed(f"volume_id={one}") == [ids[1], ids[0]]
    assert await listed("name=c") == [ids[2]]
    assert await listed("name~=b") == [ids[0]]
    assert await listed("status=available&limit=2") == [ids[2], ids[1]]
    assert await listed("status=error") == []
    assert await listed('metadata={"k": "1"}') == [ids[0]]
    assert await listed('metadata={"k": "1"}', "3.21") == ids[::-1]
    assert await listed(f"marker={ids[2]}") == [ids[1], ids[0]]
    assert await listed("offset=1&limit=1") == [ids[1]]
    assert await listed("consumes_quota=false") == []
    assert await listed("created_at=gt:2020-01-01T00:00:00") == ids[::-1]
    assert await listed("limit=0") == []
    page = await world.call("GET", "/snapshots/detail?limit=2&with_count=true")
    assert page.json()["count"] == 3
    assert f"marker={ids[1]}" in page.json()["snapshots_links"][0]["href"]
    assert (await world.get("/snapshots", "snapshots", caller="other")) == []
    assert len(await world.get("/snapshots?all_tenants=1", "snapshots", caller="admin")) == 3
    message(await world.call("GET", f"/snapshots?marker={NOBODY}"), 404)
    message(await world.call("GET", "/snapshots?sort_key=colour"), 400)
    message(await world.call("GET", "/snapshots?limit=few"), 400)
    message(await world.call("GET", "/snapshots/detail?sort=name:up"), 400)
    message(await world.call("GET", f"/snapshots/detail?marker={NOBODY}"), 404)


async def test_name_description_and_metadata_change(world: World) -> None:
    snapshot_id = await world.make_snapshot(await world.make(), metadata={"a": "1"})
    path = f"/snapshots/{snapshot_id}"
    answer = await world.call("PUT", path, {"snapshot": {"name": "new", "description": "words"}})
    assert answer.json()["snapshot"]["name"] == "new"
    assert (await world.get(path, "snapshot"))["description"] == "words"
    assert (await world.call("POST", f"{path}/metadata", {"metadata": {"b": "2"}})).json()["metadata"] == {
        "a": "1",
        "b": "2",
    }
    assert (await world.call("PUT", f"{path}/metadata", {"metadata": {"c": "3"}})).json()["metadata"] == {"c": "3"}
    assert (await world.call("PUT", f"{path}/metadata/d", {"meta": {"d": "4"}})).json()["meta"] == {"d": "4"}
    assert await world.get(f"{path}/metadata/d", "meta") == {"d": "4"}
    assert (await world.call("DELETE", f"{path}/metadata/c")).status_code == 200
    assert await world.get(f"{path}/metadata", "metadata") == {"d": "4"}
    message(await world.call("PUT", path, {"snapshot": {}}), 400)
    message(await world.call("GET", f"{path}/metadata/none"), 404)
    message(await world.call("DELETE", f"{path}/metadata/none"), 404)
    message(await world.call("PUT", f"{path}/metadata/d", {"meta": {"e": "5"}}), 400)
    many = {"metadata": {f"k{n}": "v" for n in range(129)}}
    message(await world.call("PUT", f"{path}/metadata", many), 413)
    message(await world.call("POST", f"{path}/metadata", many), 413)
    message(await world.call("PUT", f"{path}/metadata", {"metadata": {"k": 5}}), 400)
    message(await world.call("POST", f"{path}/metadata", {"metadata": {"k": 5}}), 400)
    await world.call("PUT", f"{path}/metadata", {"metadata": {f"k{n}": "v" for n in range(128)}})
    message(await world.call("PUT", f"{path}/metadata/one", {"meta": {"one": "more"}}), 413)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PUT", "", {"snapshot": {"name": "x"}}),
        ("DELETE", "", None),
        ("GET", "/metadata", None),
        ("POST", "/metadata", {"metadata": {}}),
        ("PUT", "/metadata", {"metadata": {}}),
        ("GET", "/metadata/k", None),
        ("PUT", "/metadata/k", {"meta": {"k": "v"}}),
        ("DELETE", "/metadata/k", None),
        ("POST", "/action", {"os-update_snapshot_status": {"status": "available"}}),
    ],
)
async def test_another_projects_snapshot_is_not_there(world: World, method: str, path: str, body: object) -> None:
    snapshot_id = await world.make_snapshot(await world.make(), metadata={"k": "v"})
    message(await world.call(method, f"/snapshots/{snapshot_id}{path}", body, caller="other"), 404)
    message(await world.call(method, f"/snapshots/{NOBODY}{path}", body), 404)


async def test_a_volume_with_snapshots_is_deleted_with_cascade_only(world: World) -> None:
    volume_id = await world.make()
    ids = [await world.make_snapshot(volume_id) for _ in range(2)]
    assert "2 snapshots" in message(await world.call("DELETE", f"/volumes/{volume_id}"), 400)
    message(await world.call("DELETE", f"/volumes/{volume_id}?cascade=False"), 400)
    assert (await world.call("DELETE", f"/volumes/{volume_id}?cascade=True")).status_code == 202
    assert [await world.snapshot_status(one) for one in ids] == ["deleting"] * 2
    assert await world.status(volume_id) == "deleting"
    await world.worker.look(volume_id)
    assert await world.status(volume_id) == "deleting", "its snapshots are still there"
    await world.settle()
    message(await world.call("GET", f"/volumes/{volume_id}"), 404)
    message(await world.call("GET", f"/snapshots/{ids[0]}"), 404)
    assert list(world.root.iterdir()) == []


async def test_a_deleted_snapshot_leaves_the_volumes_that_were_made_from_it(world: World) -> None:
    volume_id = await world.make()
    world.write(volume_id, b"words")
    snapshot_id = await world.make_snapshot(volume_id)
    made = await world.make(snapshot_id=snapshot_id)
    assert (await world.call("DELETE", f"/snapshots/{snapshot_id}")).status_code == 202
    assert "deleting" in message(await world.call("DELETE", f"/snapshots/{snapshot_id}"), 400)
    await world.settle()
    assert (await world.call("DELETE", f"/volumes/{volume_id}")).status_code == 202
    await world.settle()
    assert world.read(made, 5) == b"words"
    assert [path.name for path in world.root.iterdir()] == [f"volume-{made}"]


async def test_a_snapshot_that_is_copied_is_deleted_afterwards(world: World) -> None:
    snapshot_id = await world.make_snapshot(await world.make())
    made = (await world.ask(snapshot_id=snapshot_id)).json()["volume"]["id"]
    await world.call("DELETE", f"/snapshots/{snapshot_id}")
    await world.snapshot_worker.look(snapshot_id)
    assert await world.snapshot_status(snapshot_id) == "deleting"
    await world.settle()
    assert await world.status(made) == "available"
    message(await world.call("GET", f"/snapshots/{snapshot_id}"), 404)


async def test_a_snapshot_that_cannot_be_taken_shows_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(self: Pool, snapshot: SnapshotFile, source: VolumeFile, watch: CopyWatch) -> None:
        raise StepNever("There is no space left in the storage pool.")

    monkeypatch.setattr(Pool, "create_snapshot", refuse)
    volume_id = await world.make()
    snapshot_id = await world.make_snapshot(volume_id)
    assert await world.snapshot_status(snapshot_id) == "error"
    assert await world.status(volume_id) == "available"
    (told,) = await world.get("/messages", "messages")
    assert (told["resource_type"], told["resource_uuid"]) == ("VOLUME_SNAPSHOT", snapshot_id)
    assert told["user_message"] == "create snapshot: There is no space left in the storage pool."
    assert told["event_id"] == "VOLUME_VOLUME_SNAPSHOT_009_013"
    message(await world.ask(snapshot_id=snapshot_id), 400)
    assert (await world.call("DELETE", f"/snapshots/{snapshot_id}")).status_code == 202
    await world.settle()
    message(await world.call("GET", f"/snapshots/{snapshot_id}"), 404)


async def test_a_snapshot_whose_volume_was_attached_meanwhile_is_taken_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume_id = await world.make()
    world.write(volume_id, b"old")
    snapshot_id = (await world.ask_snapshot(volume_id)).json()["snapshot"]["id"]
    real = Pool.create_snapshot
    attached: list[str] = []

    async def attach_meanwhile(self: Pool, snapshot: SnapshotFile, source: VolumeFile, watch: CopyWatch) -> None:
        await real(self, snapshot, source, watch)
        if not attached:
            attached.append(await world.attach(volume_id))
            world.write(volume_id, b"new")
            await world.detach(attached[0], volume_id)

    monkeypatch.setattr(Pool, "create_snapshot", attach_meanwhile)
    await world.settle_all()
    assert attached
    assert await world.snapshot_status(snapshot_id) == "available"
    made = await world.make(snapshot_id=snapshot_id)
    assert world.read(made, 3) == b"new", "a copy in whose middle somebody wrote does not count"


async def test_a_snapshot_that_is_deleted_while_it_is_taken_stops(world: World) -> None:
    volume_id = await world.make()
    snapshot_id = (await world.ask_snapshot(volume_id)).json()["snapshot"]["id"]
    message(await world.call("DELETE", f"/snapshots/{snapshot_id}"), 400)
    answer = await world.call("POST", f"/snapshots/{snapshot_id}/action", {"os-force_delete": {}}, caller="admin")
    assert answer.status_code == 202
    await world.settle()
    message(await world.call("GET", f"/snapshots/{snapshot_id}"), 404)
    assert [path.name for path in world.root.iterdir()] == [f"volume-{volume_id}"]


async def test_a_status_can_be_put_over_a_snapshot_and_cannot_lie(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot_id = await world.make_snapshot(await world.make())

    async def reset(status: str, *, caller: str = "admin", one: str = snapshot_id) -> int:
        body = {"os-reset_status": {"status": status}}
        return (await world.call("POST", f"/snapshots/{one}/action", body, caller=caller)).status_code

    for status in ("creating", "deleting", "error", "error_deleting"):
        assert await reset(status) == 202
        assert await world.snapshot_status(snapshot_id) == status
    assert await reset("available") == 202
    assert await world.snapshot_status(snapshot_id) == "available"
    assert await reset("painted") == 400
    assert await reset("error", caller="member") == 403
    assert await reset("error", one=NOBODY) == 404

    async def refuse(self: Pool, snapshot: SnapshotFile, source: VolumeFile, watch: CopyWatch) -> None:
        raise StepRetry("not now")

    monkeypatch.setattr(Pool, "create_snapshot", refuse)
    unmade = await world.make_snapshot(await world.make())
    assert await reset("available", one=unmade) == 400


async def test_a_driver_says_how_far_it_is(world: World) -> None:
    snapshot_id = await world.make_snapshot(await world.make())
    path = f"/snapshots/{snapshot_id}"

    async def say(**said: str) -> int:
        return (await world.call("POST", f"{path}/action", {"os-update_snapshot_status": said})).status_code

    assert await say(status="error") == 400, "it is available"
    await world.call("POST", f"{path}/action", {"os-reset_status": {"status": "creating"}}, caller="admin")
    assert await say(status="deleting") == 400
    assert await say(status="error", progress="eighty") == 400
    assert await say(status="error", progress="80%") == 202
    shown = await world.get(path, "snapshot")
    assert (shown["status"], shown["os-extended-snapshot-attributes:progress"]) == ("error", "80%")


async def test_only_an_admin_deletes_by_force(world: World) -> None:
    snapshot_id = await world.make_snapshot(await world.make())
    body: dict[str, object] = {"os-force_delete": {}}
    assert (await world.call("POST", f"/snapshots/{snapshot_id}/action", body)).status_code == 403
    message(await world.call("POST", f"/snapshots/{NOBODY}/action", body, caller="admin"), 404)
