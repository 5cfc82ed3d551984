"""Volumes through their API: what is made, shown, changed and refused."""

from __future__ import annotations

import re
import uuid
from typing import Any

import httpx
import pytest

from kevel.domain.ladder import Rung
from kevel.storage.base import Capacity
from tests.integration.stand import PROJECTS
from tests.integration.volumes.conftest import GIB, World, message

NULLS = dict.fromkeys(
    (
        "name",
        "description",
        "volume_type",
        "metadata",
        "availability_zone",
        "snapshot_id",
        "source_volid",
        "imageRef",
        "backup_id",
        "consistencygroup_id",
        "group_id",
        "multiattach",
    )
)
BASE_KEYS = {
    "id",
    "status",
    "size",
    "availability_zone",
    "created_at",
    "updated_at",
    "name",
    "description",
    "volume_type",
    "snapshot_id",
    "source_volid",
    "metadata",
    "links",
    "user_id",
    "bootable",
    "encrypted",
    "replication_status",
    "consistencygroup_id",
    "multiattach",
    "attachments",
    "os-vol-tenant-attr:tenant_id",
}
NEWEST_KEYS = BASE_KEYS | {"group_id", "shared_targets", "service_uuid", "volume_type_id", "consumes_quota"}
ADMIN_KEYS = {
    "migration_status",
    "os-vol-host-attr:host",
    "os-vol-mig-status-attr:migstat",
    "os-vol-mig-status-attr:name_id",
}
#: More items than a volume's metadata may have.
TOO_MANY = {f"key{number}": "v" for number in range(129)}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")


async def test_a_volume_is_creating_and_then_available_with_a_file_of_its_size(world: World) -> None:
    answer = await world.ask(name="data", description="of value", metadata={"a": "b"}, volume_type=None)
    assert answer.status_code == 202
    made = answer.json()["volume"]
    assert (made["status"], made["name"], made["size"], made["volume_type"]) == ("creating", "data", 1, "standard")
    # Cinder leaves its extensions' attributes out here.
    assert set(made) == NEWEST_KEYS - {"os-vol-tenant-attr:tenant_id"}
    assert list(world.root.iterdir()) == []
    await world.settle()
    shown = await world.get(f"/volumes/{made['id']}", "volume")
    assert shown["status"] == "available"
    assert shown["metadata"] == {"a": "b"}
    assert TIME.fullmatch(shown["created_at"])
    assert TIME.fullmatch(shown["updated_at"])
    assert (world.root / f"volume-{made['id']}").stat().st_size == GIB


async def test_the_body_that_the_command_line_sends_with_every_key_null_is_taken(world: World) -> None:
    answer = await world.call("POST", "/volumes", {"volume": NULLS | {"size": 1}})
    assert answer.status_code == 202
    volume = answer.json()["volume"]
    assert (volume["name"], volume["description"], volume["metadata"], volume["bootable"]) == ("", None, {}, "false")


@pytest.mark.parametrize("size", ["1", 1])
async def test_a_size_may_be_a_number_or_its_digits(world: World, size: object) -> None:
    answer = await world.call("POST", "/volumes", {"volume": {"size": size}})
    assert answer.json()["volume"]["size"] == 1


@pytest.mark.parametrize(
    "size", [0, -1, "0", "-1", "", "text", "1.5", 1.5, 10**30, "1" + "0" * 30, None, True, [], "\uff11"]
)
async def test_a_size_that_is_none_is_refused_and_leaves_nothing(world: World, size: object) -> None:
    assert "size" in message(await world.call("POST", "/volumes", {"volume": {"size": size}}), 400)
    assert await world.get("/volumes", "volumes") == []


@pytest.mark.parametrize("version", ["3.0", "3.71"])
@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"volume": None},
        {"volume": {}},
        {"volume": {"size": 1, "name": "n" * 256}},
        {"volume": {"size": 1, "description": "d" * 256}},
        {"volume": {"size": 1, "name": "a\0b"}},
        {"volume": {"size": 1, "name": 5}},
        {"volume": {"size": 1, "metadata": {"": "empty key"}}},
        {"volume": {"size": 1, "metadata": {"k" * 256: "v"}}},
        {"volume": {"size": 1, "metadata": {"k": "v" * 256}}},
        {"volume": {"size": 1, "metadata": {"k": 5}}},
        {"volume": {"size": 1, "metadata": "text"}},
        {"volume": {"size": 1, "availability_zone": "elsewhere"}},
        {"volume": {"size": 1, "multiattach": True}},
        {"volume": {"size": 1, "multiattach": "perhaps"}},
        {"volume": {"size": 1, "imageRef": str(uuid.uuid4())}},
    ],
)
async def test_a_bad_body_is_refused_and_leaves_nothing(world: World, body: object, version: str) -> None:
    message(await world.call("POST", "/volumes", body, version=version), 400)
    assert await world.get("/volumes", "volumes") == []


async def test_unknown_keys_are_refused_from_3_53(world: World) -> None:
    body: dict[str, dict[str, object]] = {"volume": {"size": 1, "colour": "red"}}
    assert (await world.call("POST", "/volumes", body, version="3.52")).status_code == 202
    assert "colour" in message(await world.call("POST", "/volumes", body, version="3.53"), 400)
    body = {"volume": {"size": 1}, "beside": {"colour": "red"}}
    assert (await world.call("POST", "/volumes", body, version="3.52")).status_code == 202
    message(await world.call("POST", "/volumes", body, version="3.53"), 400)


async def test_an_error_repeats_only_the_beginning_of_a_long_key(world: World) -> None:
    text = message(await world.call("POST", "/volumes", {"volume": {"size": 1, "k" * 100_000: 1}}), 400)
    assert "unknown field 'kkk" in text
    assert len(text) < 1000


async def test_what_volumes_are_not_made_from_is_said_by_name(world: World) -> None:
    answer = await world.ask(consistencygroup_id=str(uuid.uuid4()))
    assert "does not make volumes from consistency groups" in message(answer, 400)


@pytest.mark.parametrize("version", ["3.52", "3.71"])
async def test_an_unknown_type_is_not_found(world: World, version: str) -> None:
    assert "nothing-like-it" in message(await world.ask(volume_type="nothing-like-it", version=version), 404)


@pytest.mark.parametrize(
    ("version", "keys"),
    [
        ("3.0", BASE_KEYS),
        ("3.12", BASE_KEYS),
        ("3.13", BASE_KEYS | {"group_id"}),
        ("3.48", BASE_KEYS | {"group_id", "shared_targets", "service_uuid"}),
        ("3.63", NEWEST_KEYS - {"consumes_quota"}),
        ("3.71", NEWEST_KEYS),
    ],
)
async def test_a_volume_has_the_keys_of_the_microversion(world: World, version: str, keys: set[str]) -> None:
    volume_id = await world.make()
    shown = await world.get(f"/volumes/{volume_id}", "volume", version=version)
    assert set(shown) == keys
    (listed,) = await world.get("/volumes/detail", "volumes", version=version)
    assert listed == shown
    for_admin = set(await world.get(f"/volumes/{volume_id}", "volume", version=version, caller="admin"))
    more = {"provider_id"} if version >= "3.21" else set()
    assert for_admin == keys | ADMIN_KEYS | more | ({"cluster_name"} if version >= "3.61" else set())


async def test_the_short_list_has_id_name_and_links(world: World) -> None:
    volume_id = await world.make(name="data")
    (line,) = await world.get("/volumes", "volumes")
    assert set(line) == {"id", "name", "links"}
    assert line["links"][0] == {"rel": "self", "href": f"http://kevel.test/volume/v3/volumes/{volume_id}"}


@pytest.mark.parametrize("caller", ["other", "member"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PUT", "", {"volume": {"name": "mine"}}),
        ("DELETE", "", None),
        ("GET", "/metadata", None),
        ("POST", "/metadata", {"metadata": {"a": "b"}}),
        ("PUT", "/metadata", {"metadata": {"a": "b"}}),
        ("GET", "/metadata/k", None),
        ("PUT", "/metadata/k", {"meta": {"k": "v"}}),
        ("DELETE", "/metadata/k", None),
        ("GET", "/encryption", None),
        ("POST", "/action", {"os-extend": {"new_size": 2}}),
        ("POST", "/action", {"os-set_bootable": {"bootable": True}}),
        ("POST", "/action", {"os-update_readonly_flag": {"readonly": True}}),
        ("POST", "/action", {"os-retype": {"new_type": "standard"}}),
    ],
)
async def test_another_projects_volume_is_not_found_and_stays_as_it_was(
    world: World, caller: str, method: str, path: str, body: object
) -> None:
    volume_id = await world.make(metadata={"k": "before"})
    before = await world.get(f"/volumes/{volume_id}", "volume")
    asked = volume_id if caller == "other" else str(uuid.uuid4())
    assert asked in message(await world.call(method, f"/volumes/{asked}{path}", body, caller=caller), 404)
    assert await world.get(f"/volumes/{volume_id}", "volume") == before


@pytest.mark.parametrize("volume_id", ["not-a-uuid", "%00", "..%2f..", "x" * 300, "データ"])
async def test_a_malformed_id_is_not_found(world: World, volume_id: str) -> None:
    message(await world.call("GET", f"/volumes/{volume_id}"), 404)
    message(await world.call("DELETE", f"/volumes/{volume_id}"), 404)


async def test_projects_see_their_own_volumes_and_an_admin_who_asks_all(world: World) -> None:
    mine, theirs = await world.make(), await world.make(caller="other")
    assert [one["id"] for one in await world.get("/volumes", "volumes")] == [mine]
    assert [one["id"] for one in await world.get("/volumes?all_tenants=1", "volumes", caller="other")] == [theirs]
    assert await world.get("/volumes", "volumes", caller="admin") == []
    everything = await world.get("/volumes?all_tenants=True", "volumes", caller="admin")
    assert {one["id"] for one in everything} == {mine, theirs}
    path = f"/volumes?all_tenants=True&project_id={PROJECTS['other']}"
    assert [one["id"] for one in await world.get(path, "volumes", caller="admin")] == [theirs]
    assert (await world.get(f"/volumes/{theirs}", "volume", caller="admin"))["id"] == theirs


async def test_a_reader_reads_and_does_nothing_else(world: World) -> None:
    volume_id = await world.make()
    assert len(await world.get("/volumes", "volumes", caller="reader")) == 1
    message(await world.ask(caller="reader"), 403)
    message(await world.call("DELETE", f"/volumes/{volume_id}", caller="reader"), 403)
    message(await world.act(volume_id, "os-extend", {"new_size": 2}, caller="reader"), 403)


async def test_name_description_and_metadata_can_be_changed(world: World) -> None:
    volume_id = await world.make(name="old", metadata={"a": "1"})
    body: dict[str, Any] = {"volume": {"name": " new ", "description": "text", "metadata": {"b": "2"}}}
    answer = await world.call("PUT", f"/volumes/{volume_id}", body)
    assert answer.status_code == 200
    shown = answer.json()["volume"]
    assert (shown["name"], shown["description"], shown["metadata"]) == ("new", "text", {"b": "2"})
    body = {"volume": {"description": None}}
    shown = (await world.call("PUT", f"/volumes/{volume_id}", body)).json()["volume"]
    assert (shown["name"], shown["description"], shown["metadata"]) == ("new", None, {"b": "2"})
    body = {"volume": {"display_name": "older word"}}
    shown = (await world.call("PUT", f"/volumes/{volume_id}", body, version="3.0")).json()["volume"]
    assert shown["name"] == "older word"
    message(await world.call("PUT", f"/volumes/{volume_id}", {"volume": {}}), 400)
    message(await world.call("PUT", f"/volumes/{volume_id}", {"volume": {"size": 5}}), 400)


@pytest.mark.parametrize("version", ["3.52", "3.71"])
async def test_a_change_that_cannot_be_changes_nothing(world: World, version: str) -> None:
    volume_id = await world.make(name="old", metadata={"a": "1"})
    before = await world.get(f"/volumes/{volume_id}", "volume")
    for status, fields in ((400, {"name": "a\0b"}), (413, {"metadata": TOO_MANY})):
        body = {"volume": fields}
        message(await world.call("PUT", f"/volumes/{volume_id}", body, version=version), status)
    assert await world.get(f"/volumes/{volume_id}", "volume") == before


async def test_metadata_items_are_set_replaced_and_removed(world: World) -> None:
    volume_id = await world.make(metadata={"a": "1"})
    path = f"/volumes/{volume_id}/metadata"
    answer = await world.call("POST", path, {"metadata": {"b": "2"}})
    assert answer.json() == {"metadata": {"a": "1", "b": "2"}}
    answer = await world.call("PUT", path, {"metadata": {"c": "3"}})
    assert answer.json() == {"metadata": {"c": "3"}}
    answer = await world.call("PUT", f"{path}/d", {"meta": {"d": "4"}})
    assert answer.json() == {"meta": {"d": "4"}}
    message(await world.call("PUT", f"{path}/d", {"meta": {"e": "4"}}), 400)
    assert await world.get(f"{path}/d", "meta") == {"d": "4"}
    message(await world.call("GET", f"{path}/e"), 404)
    assert (await world.call("DELETE", f"{path}/d")).status_code == 200
    message(await world.call("DELETE", f"{path}/d"), 404)
    assert await world.get(path, "metadata") == {"c": "3"}


async def test_metadata_that_cannot_be_changes_nothing(world: World) -> None:
    full = {f"key{number}": "v" for number in range(128)}
    volume_id = await world.make(metadata=full)
    path = f"/volumes/{volume_id}/metadata"
    for method in ("POST", "PUT"):
        message(await world.call(method, path, {"metadata": {"": "v"}}), 400)
        message(await world.call(method, path, {"metadata": TOO_MANY}), 413)
    message(await world.call("PUT", f"{path}/one-more", {"meta": {"one-more": "v"}}), 413)
    assert await world.get(path, "metadata") == full


async def test_a_deleted_volume_and_its_file_are_gone(world: World) -> None:
    volume_id = await world.make()
    answer = await world.call("DELETE", f"/volumes/{volume_id}?cascade=False&force=False")
    assert (answer.status_code, answer.content) == (202, b"")
    assert await world.status(volume_id) == "deleting"
    message(await world.call("DELETE", f"/volumes/{volume_id}"), 400)
    await world.settle()
    message(await world.call("GET", f"/volumes/{volume_id}"), 404)
    message(await world.call("DELETE", f"/volumes/{volume_id}"), 404)
    assert await world.get("/volumes", "volumes") == []
    assert list(world.root.iterdir()) == []


@pytest.mark.parametrize("rung", [Rung.EXPORTED, Rung.PLUGGED])
@pytest.mark.parametrize("force", [False, True])
async def test_an_attached_volume_cannot_be_deleted_not_even_by_force(world: World, rung: Rung, force: bool) -> None:
    volume_id = await world.make()
    server_id = await world.attach(volume_id, rung)
    status = "in-use" if rung is Rung.PLUGGED else "attaching"
    assert await world.status(volume_id) == status
    answer = await world.call("DELETE", f"/volumes/{volume_id}?force={force}", caller="admin")
    assert server_id in message(answer, 400)
    if force:
        message(await world.act(volume_id, "os-force_delete", None, caller="admin"), 400)
    await world.settle()
    assert await world.status(volume_id) == status
    assert (world.root / f"volume-{volume_id}").exists()


async def test_force_is_for_admins(world: World) -> None:
    volume_id = await world.make()
    message(await world.call("DELETE", f"/volumes/{volume_id}?force=True"), 403)
    message(await world.act(volume_id, "os-force_delete", None), 403)
    assert (await world.call("DELETE", f"/volumes/{volume_id}?force=True", version="3.22")).status_code == 202


async def test_an_attached_volume_shows_its_attachment_and_the_host_to_admins_only(world: World) -> None:
    volume_id = await world.make()
    server_id = await world.attach(volume_id)
    shown = await world.get(f"/volumes/{volume_id}", "volume")
    (attachment,) = shown["attachments"]
    assert shown["status"] == "in-use"
    assert shown["metadata"] == {"attached_mode": "rw"}
    assert TIME.fullmatch(attachment.pop("attached_at"))
    attachment_id = attachment.pop("attachment_id")
    assert attachment == {
        "id": volume_id,
        "volume_id": volume_id,
        "server_id": server_id,
        "host_name": None,
        "device": "/dev/sdb",
    }
    (attachment,) = (await world.get(f"/volumes/{volume_id}", "volume", caller="admin"))["attachments"]
    assert (attachment["host_name"], attachment["attachment_id"]) == ("host-1", attachment_id)
    await world.detach(server_id, volume_id)
    shown = await world.get(f"/volumes/{volume_id}", "volume")
    assert (shown["status"], shown["attachments"], shown["metadata"]) == ("available", [], {})


async def test_an_attachment_that_is_not_complete_is_not_among_the_attachments(world: World) -> None:
    volume_id = await world.make()
    await world.attach(volume_id, Rung.EXPORTED)
    shown = await world.get(f"/volumes/{volume_id}", "volume")
    assert (shown["status"], shown["attachments"]) == ("attaching", [])


async def test_beyond_the_pools_limit_nothing_is_made_and_the_error_says_the_limit(world: World) -> None:
    await world.make(size=60)
    # 50 GiB, twice.
    text = message(await world.ask(size=41), 413)
    assert "60 GiB are provisioned" in text
    assert "the limit is 100 GiB" in text
    assert len(await world.get("/volumes", "volumes")) == 1
    assert (await world.ask(size=40)).status_code == 202
    message(await world.ask(size=1), 413)


@pytest.mark.parametrize("version", ["3.52", "3.71"])
async def test_a_full_pool_takes_no_volume(world: World, version: str) -> None:
    world.pool.shown = Capacity(total_bytes=50 * GIB, free_bytes=1 << 20)
    answer = await world.ask(version=version)
    assert "1 MiB are free" in message(answer, 413)
    assert answer.headers["Retry-After"] == "0"
    assert await world.get("/volumes", "volumes") == []


async def test_flags_are_shown_once_they_were_set(world: World) -> None:
    volume_id = await world.make()
    assert (await world.act(volume_id, "os-set_bootable", {"bootable": "True"})).status_code == 200
    assert (await world.act(volume_id, "os-update_readonly_flag", {"readonly": True})).status_code == 202
    shown = await world.get(f"/volumes/{volume_id}", "volume")
    assert (shown["bootable"], shown["metadata"]) == ("true", {"readonly": "True"})
    assert (await world.act(volume_id, "os-update_readonly_flag", {"readonly": False})).status_code == 202
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["metadata"] == {"readonly": "False"}
    assert await world.get(f"/volumes/{volume_id}/metadata", "metadata") == {}
    message(await world.act(volume_id, "os-set_bootable", {"bootable": "perhaps"}), 400)
    await world.attach(volume_id)
    message(await world.act(volume_id, "os-update_readonly_flag", {"readonly": True}), 400)


@pytest.mark.parametrize("body", [None, {}, {"a": 1, "b": 2}, {"os-fly": None}, {"os-extend": None}, {"os-extend": {}}])
async def test_an_action_that_does_not_exist_or_says_nothing_is_refused(world: World, body: object) -> None:
    volume_id = await world.make()
    message(await world.call("POST", f"/volumes/{volume_id}/action", body), 400)


async def test_no_volume_is_encrypted(world: World) -> None:
    volume_id = await world.make()
    assert (await world.call("GET", f"/volumes/{volume_id}/encryption")).json() == {"encryption_key_id": None}


async def test_a_projects_volumes_are_summed_up(world: World) -> None:
    await world.make(size=2, metadata={"a": "1"})
    await world.make(size=3, metadata={"a": "2", "b": "x"})
    await world.make(caller="other", size=4)
    body = {"total_count": 2, "total_size": 5, "metadata": {"a": ["1", "2"], "b": ["x"]}}
    assert await world.get("/volumes/summary", "volume-summary") == body
    assert await world.get("/volumes/summary", "volume-summary", version="3.12") == {"total_count": 2, "total_size": 5}
    message(await world.call("GET", "/volumes/summary", version="3.11"), 404)
    everything = await world.get("/volumes/summary?all_tenants=1", "volume-summary", caller="admin")
    assert everything["total_size"] == 9


async def test_a_sum_by_a_filter_that_makes_no_sense_is_refused(world: World) -> None:
    message(await world.call("GET", "/volumes/summary?bootable=perhaps"), 400)


async def test_paths_may_begin_with_the_project_and_only_with_the_tokens(world: World) -> None:
    volume_id = await world.make()
    path = f"/{PROJECTS['member']}/volumes/{volume_id}"
    assert (await world.get(path, "volume"))["id"] == volume_id
    message(await world.call("GET", f"/{PROJECTS['other']}/volumes"), 400)


async def test_a_token_without_a_project_has_no_volumes(world: World) -> None:
    message(await world.call("GET", "/volumes", caller="unscoped"), 403)
    message(await world.ask(caller="unscoped"), 403)


async def test_a_forged_token_is_refused(world: World) -> None:
    answer = await world.clients["member"].get("/volumes", headers={"X-Auth-Token": "forged"})
    assert answer.status_code == 401


def ids_of(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


@pytest.fixture
async def five(world: World) -> list[str]:
    """Five volumes, oldest first; the second is attached, the third bootable."""
    made = [
        await world.make(name=f"v{number}", size=5 - number, metadata={"even": str(number % 2 == 0)})
        for number in range(5)
    ]
    await world.attach(made[1])
    await world.act(made[2], "os-set_bootable", {"bootable": True})
    return made


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [4, 3, 2, 1, 0]),
        ("name=v3", [3]),
        ("name=none", []),
        ("display_name=v3", [3]),
        ("name~=v", [4, 3, 2, 1, 0]),
        ("name~=%25", []),
        ("status=in-use", [1]),
        ("status=available", [4, 3, 2, 0]),
        ("bootable=True", [2]),
        ("bootable=false", [4, 3, 1, 0]),
        ("metadata=%7B%27even%27%3A+%27True%27%7D", [4, 2, 0]),
        ('metadata={"even":"False"}', [3, 1]),
        ("availability_zone=nova", [4, 3, 2, 1, 0]),
        ("availability_zone=other", []),
        ("volume_type=standard&size=5", [0]),
        ("unknown=filter", [4, 3, 2, 1, 0]),
        ("group_id=1", []),
        ("consumes_quota=False", []),
        ("consumes_quota=True", [4, 3, 2, 1, 0]),
        ("created_at=lt:2000-01-01T00:00:00", []),
        ("created_at=gte:2000-01-01T00:00:00,lt:2100-01-01T00:00:00Z", [4, 3, 2, 1, 0]),
        ("sort=name:asc", [0, 1, 2, 3, 4]),
        ("sort=size:asc", [4, 3, 2, 1, 0]),
        ("sort=size", [0, 1, 2, 3, 4]),
        ("sort_key=name&sort_dir=asc", [0, 1, 2, 3, 4]),
        ("sort=status:desc,name:asc", [1, 0, 2, 3, 4]),
        ("sort=status:asc,name:desc&limit=2", [4, 3]),
        ("limit=2", [4, 3]),
        ("limit=0", []),
        ("limit=2&offset=1", [3, 2]),
        ("status=available&limit=2&offset=1", [3, 2]),
        ("limit=2000", [4, 3, 2, 1, 0]),
    ],
)
async def test_a_list_is_filtered_sorted_and_cut(
    world: World, five: list[str], query: str, expected: list[int]
) -> None:
    wanted = [five[number] for number in expected]
    assert ids_of(await world.get(f"/volumes?{query}", "volumes")) == wanted
    assert ids_of(await world.get(f"/volumes/detail?{query}", "volumes")) == wanted


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=text",
        "limit=" + "9" * 30,
        "offset=-1",
        "sort=colour",
        "sort=name:up",
        "sort_key=colour",
        "bootable=perhaps",
        "metadata=text",
        "metadata=" + "(" * 3000,
        "metadata=[1]",
        "created_at=yesterday",
        "created_at=gt:",
        "size=text",
        "sort=" + ",".join(["name"] * 9),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(world: World, query: str) -> None:
    message(await world.call("GET", f"/volumes/detail?{query}"), 400)


@pytest.mark.parametrize("path", ["/volumes", "/volumes/detail"])
async def test_an_unknown_marker_is_not_found(world: World, path: str) -> None:
    await world.make()
    message(await world.call("GET", f"{path}?marker={uuid.uuid4()}"), 404)


@pytest.mark.parametrize("query", ["limit=2", "limit=2&status=available", "limit=2&sort=status:asc,size:asc"])
async def test_the_links_lead_through_the_whole_list(world: World, five: list[str], query: str) -> None:
    whole = ids_of(await world.get(f"/volumes?{query.replace('limit=2', '')}", "volumes"))
    seen: list[str] = []
    url: str | None = f"http://kevel.test/volume/v3/volumes?{query}"
    for _ in range(4):
        if url is None:
            break
        body = (await world.clients["member"].get(url)).json()
        seen += ids_of(body["volumes"])
        links = body.get("volumes_links", [])
        url = next((link["href"] for link in links if link["rel"] == "next"), None)
    assert seen == whole


@pytest.mark.parametrize(("query", "count"), [("limit=1", 5), ("limit=1&status=available", 4), ("name=v1", 1)])
async def test_a_list_can_be_counted(world: World, five: list[str], query: str, count: int) -> None:
    answer = await world.call("GET", f"/volumes?{query}&with_count=True")
    assert answer.json()["count"] == count
    assert "count" not in (await world.call("GET", f"/volumes?{query}&with_count=True", version="3.44")).json()


async def test_the_service_says_what_is_true(world: World) -> None:
    await world.make(size=3)
    limits = await world.get("/limits", "limits")
    assert limits["absolute"]["totalVolumesUsed"] == 1
    assert limits["absolute"]["totalGigabytesUsed"] == 3
    zones = await world.get("/os-availability-zone", "availabilityZoneInfo")
    assert zones == [{"zoneName": "nova", "zoneState": {"available": True}}]
    (pool,) = await world.get("/scheduler-stats/get_pools?detail=True", "pools", caller="admin")
    assert pool["name"] == "host-1@local#local"
    assert pool["capabilities"]["total_capacity_gb"] == 50
    assert pool["capabilities"]["provisioned_capacity_gb"] == 3
    for path in ("/os-services", "/scheduler-stats/get_pools"):
        message(await world.call("GET", path), 403)


async def test_a_pool_that_does_not_answer_is_shown_as_down_and_takes_nothing(world: World) -> None:
    world.pool.shown = None
    world.root.rename(world.root.with_name("elsewhere"))
    (service,) = await world.get("/os-services?binary=cinder-volume", "services", caller="admin")
    assert service["state"] == "down"
    for version in ("3.52", "3.71"):
        assert "try again later" in message_503(await world.ask(version=version))
    assert await world.get("/volumes", "volumes") == []


async def test_a_volume_whose_pool_does_not_answer_stays_as_large_as_it_is(world: World) -> None:
    volume_id = await world.make()
    world.pool.shown = None
    world.root.rename(world.root.with_name("elsewhere"))
    assert "try again later" in message_503(await world.act(volume_id, "os-extend", {"new_size": 2}))
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["size"] == 1


def message_503(answer: httpx.Response) -> str:
    assert answer.status_code == 503
    return str(answer.json()["serviceUnavailable"]["message"])


async def test_discovery_needs_no_token(world: World) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=world.app), base_url="http://kevel.test") as client:
        for path, status in (("/volume", 300), ("/volume/", 300), ("/volume/v3", 200), ("/volume/v3/", 200)):
            answer = await client.get(path)
            assert answer.status_code == status
            (version,) = answer.json()["versions"]
            assert (version["version"], version["min_version"], version["status"]) == ("3.71", "3.0", "CURRENT")
            assert version["links"][0]["href"] == "http://kevel.test/volume/v3/"


async def test_a_full_page_has_a_link_to_the_next_one_even_if_nothing_follows(world: World, five: list[str]) -> None:
    full = (await world.call("GET", "/volumes?limit=5")).json()
    assert len(full["volumes"]) == len(five)
    (link,) = full["volumes_links"]
    last = (await world.clients["member"].get(link["href"])).json()
    assert last == {"volumes": []}
    assert "volumes_links" not in (await world.call("GET", "/volumes?limit=6")).json()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_volume_without_an_id_is_not_found(world: World, method: str) -> None:
    body = {"volume": {"name": "other"}} if method == "PUT" else None
    message(await world.call(method, "/volumes/", body), 404)
