"""What operators see and say of the service, and what follows for volumes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from kevel import __version__
from kevel.api.operations import Version
from kevel.api.volume import API
from kevel.api.volume.services.about import FILTERS
from tests.integration.stand import PROJECTS
from tests.integration.volumes.conftest import HOST, World, message
from tests.integration.volumes.test_types import make_type

POOL = f"{HOST}@local"
LISTS = {
    "volume": "listVolumeDetails",
    "snapshot": "listSnapshotDetails",
    "backup": "listBackupDetails",
    "group": "listGroupDetails",
    "group_snapshot": "listGroupSnapshotDetails",
    "attachment": "listAttachments",
    "message": "listMessages",
    "pool": "listPools",
    "volume_type": "listTypes",
}


async def say(world: World, verb: str, caller: str = "admin", version: str = "3.71", **body: Any) -> Any:
    return await world.call("PUT", f"/os-services/{verb}", body, caller=caller, version=version)


async def services(world: World, query: str = "", version: str = "3.71") -> list[dict[str, Any]]:
    path = f"/os-services?{query}"
    found: list[dict[str, Any]] = await world.get(path, "services", caller="admin", version=version)
    return found


async def test_the_parts_are_listed_with_what_came_with_the_microversion(world: World) -> None:
    scheduler, volume, backup = await services(world)
    assert volume == {
        "binary": "cinder-volume",
        "host": POOL,
        "zone": "nova",
        "status": "enabled",
        "state": "up",
        "updated_at": volume["updated_at"],
        "disabled_reason": None,
        "replication_status": "disabled",
        "active_backend_id": None,
        "frozen": False,
        "cluster": None,
        "backend_state": "up",
    }
    assert (scheduler["binary"], scheduler["host"]) == ("cinder-scheduler", HOST)
    assert (backup["binary"], backup["host"]) == ("cinder-backup", HOST)
    assert not {"frozen", "backend_state"} & (scheduler.keys() | backup.keys())
    assert "backend_state" not in (await services(world, version="3.48"))[1]
    assert "cluster" not in (await services(world, version="3.6"))[0]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (f"host={HOST}", ["cinder-scheduler", "cinder-volume", "cinder-backup"]),
        (f"host={POOL}", ["cinder-volume"]),
        ("binary=cinder-scheduler", ["cinder-scheduler"]),
        (f"host={HOST}&binary=cinder-volume", ["cinder-volume"]),
        ("host=elsewhere", []),
    ],
)
async def test_a_hosts_name_means_its_pools_too(world: World, query: str, names: list[str]) -> None:
    assert [one["binary"] for one in await services(world, query)] == names


async def test_a_disabled_pool_takes_no_new_volumes_and_keeps_those_it_has(world: World) -> None:
    old = await world.make()
    answer = await say(world, "disable-log-reason", host=POOL, binary="cinder-volume", disabled_reason=" disks swap ")
    assert answer.json() == {
        "host": POOL,
        "service": "",
        "binary": "cinder-volume",
        "status": "disabled",
        "disabled": True,
        "disabled_reason": "disks swap",
    }
    (shown,) = await services(world, "binary=cinder-volume")
    assert (shown["status"], shown["disabled_reason"], shown["state"]) == ("disabled", "disks swap", "up")
    answer = await world.ask()
    assert (answer.status_code, answer.json()["volume"]["status"]) == (202, "error")
    (told,) = await world.get("/messages", "messages")
    assert "disks swap" in told["user_message"]
    assert (await world.act(old, "os-extend", {"new_size": 2})).status_code == 202
    await world.settle()
    assert (await world.get(f"/volumes/{old}", "volume"))["size"] == 2
    answer = await say(world, "enable", host=POOL, service="cinder-volume")
    assert answer.json() == {
        "host": POOL,
        "service": "cinder-volume",
        "binary": "",
        "status": "enabled",
        "disabled": False,
        "disabled_reason": None,
    }
    assert await world.status(await world.make()) == "available"


async def test_nothing_is_placed_while_the_scheduler_is_disabled(world: World) -> None:
    answer = await say(world, "disable", host=HOST, binary="cinder-scheduler")
    assert answer.json()["status"] == "disabled"
    assert "disabled_reason" not in answer.json()
    assert await world.status(await world.make()) == "error"


async def test_no_backups_are_made_while_their_service_is_disabled(world: World) -> None:
    volume_id = await world.make()
    await say(world, "disable", host=HOST, binary="cinder-backup")
    body = {"backup": {"volume_id": volume_id}}
    answer = await world.call("POST", "/backups", body)
    assert (answer.status_code, answer.json()["serviceUnavailable"]["code"]) == (503, 503)
    assert await world.get("/backups", "backups") == []
    await say(world, "enable", host=HOST, binary="cinder-backup")
    assert (await world.call("POST", "/backups", body)).status_code == 202


async def test_a_frozen_pool_keeps_what_it_has(world: World) -> None:
    volume_id = await world.make()
    snapshot_id = await world.make_snapshot(volume_id)
    answer = await say(world, "freeze", host=POOL)
    assert (answer.status_code, answer.content) == (200, b"")
    (shown,) = await services(world, "binary=cinder-volume")
    assert (shown["frozen"], shown["status"], shown["disabled_reason"]) == (True, "disabled", "frozen")
    assert "frozen" in message(await world.call("DELETE", f"/volumes/{volume_id}"), 400)
    assert "frozen" in message(await world.call("DELETE", f"/snapshots/{snapshot_id}"), 400)
    answer = await world.call("POST", "/snapshots", {"snapshot": {"volume_id": volume_id}})
    assert "frozen" in message(answer, 400)
    assert await world.status(await world.make()) == "error"
    for verb, more in (("enable", {}), ("disable", {}), ("disable-log-reason", {"disabled_reason": "x"})):
        assert "thaw" in message(await say(world, verb, host=POOL, binary="cinder-volume", **more), 400)
    assert (await say(world, "thaw", host=POOL)).status_code == 200
    assert (await world.call("DELETE", f"/snapshots/{snapshot_id}")).status_code == 202


@pytest.mark.parametrize("verb", ["enable", "disable", "disable-log-reason"])
async def test_a_bad_word_about_a_service_is_refused(world: World, verb: str) -> None:
    more = {"disabled_reason": "x"} if verb == "disable-log-reason" else {}
    message(await say(world, verb, host="elsewhere", binary="cinder-volume", **more), 404)
    message(await say(world, verb, host=POOL, binary="none-such", **more), 404)
    message(await say(world, verb, host=POOL, **more), 400)
    message(await say(world, verb, binary="cinder-volume", **more), 400)
    message(await say(world, verb, host="a b", binary="cinder-volume", **more), 400)
    message(await say(world, verb, host=POOL, binary="cinder-volume", colour="red", **more), 400)
    message(await say(world, verb, caller="member", host=POOL, binary="cinder-volume", **more), 403)
    for reason in (None, "", "  ", "r" * 256):
        answer = await say(world, "disable-log-reason", host=POOL, binary="cinder-volume", disabled_reason=reason)
        message(answer, 400)
    assert {one["status"] for one in await services(world)} == {"enabled"}


async def test_only_a_pool_can_be_frozen_and_only_by_admins(world: World) -> None:
    for verb in ("freeze", "thaw"):
        message(await say(world, verb, host="elsewhere"), 400)
        message(await say(world, verb), 400)
        message(await say(world, verb, caller="member", host=POOL), 403)


async def test_hosts_are_listed_and_show_what_projects_have_in_their_pools(world: World) -> None:
    await world.make(size=2)
    await world.make(size=1)
    await world.make(size=4, caller="other")
    first, second, _ = await world.get("/os-hosts", "hosts", caller="admin")
    assert second == {
        "host_name": POOL,
        "service": "cinder-volume",
        "zone": "nova",
        "service-status": "available",
        "service-state": "enabled",
        "last-update": second["last-update"],
    }
    assert first["host_name"] == HOST
    assert await world.get("/os-hosts?zone=elsewhere", "hosts", caller="admin") == []
    shown = [one["resource"] for one in await world.get(f"/os-hosts/{POOL}", "host", caller="admin")]
    found = {one["project"]: (one["volume_count"], one["total_volume_gb"], one["snapshot_count"]) for one in shown}
    expected = {"(total)": ("3", "7", "0"), PROJECTS["member"]: ("2", "3", "0"), PROJECTS["other"]: ("1", "4", "0")}
    assert (shown[0]["project"], found) == ("(total)", expected)
    message(await world.call("GET", "/os-hosts/elsewhere", caller="admin"), 404)
    message(await world.call("GET", f"/os-hosts/{HOST}", caller="admin"), 404)
    await say(world, "disable", host=POOL, binary="cinder-volume")
    assert len(await world.get("/os-hosts", "hosts", caller="admin")) == 2
    message(await world.call("GET", f"/os-hosts/{POOL}", caller="admin"), 404)


async def test_pools_are_found_by_name_and_by_the_type_they_meet(world: World) -> None:
    await make_type(world, "here", extra_specs={"volume_backend_name": "local"})
    await make_type(world, "ceph", extra_specs={"volume_backend_name": "ceph"})

    async def pools(query: str, version: str = "3.71") -> int:
        path = f"/scheduler-stats/get_pools?{query}"
        return len(await world.get(path, "pools", caller="admin", version=version))

    assert await pools("name=host-1@local%23local") == 1
    assert await pools("name=elsewhere") == 0
    assert await pools("name=elsewhere", "3.27") == 1
    assert await pools("volume_type=here") == 1
    assert [await pools("volume_type=ceph", version) for version in ("3.35", "3.34")] == [0, 1]
    assert await pools("volume_type=none-such") == 0
    message(await world.call("GET", "/scheduler-stats/get_pools?colour=red", caller="admin"), 400)
    assert await pools("colour=red", "3.30") == 1
    message(await world.call("GET", "/scheduler-stats/get_pools?detail=perhaps", caller="admin"), 400)


async def test_capabilities_are_those_of_the_pool(world: World) -> None:
    shown = (await world.call("GET", f"/capabilities/{POOL}", caller="admin")).json()
    assert shown == {
        "namespace": f"OS::Storage::Capabilities::{POOL}",
        "vendor_name": "Kevel",
        "volume_backend_name": "local",
        "pool_name": "local",
        "driver_version": __version__,
        "storage_protocol": "file",
        "display_name": None,
        "description": None,
        "visibility": None,
        "replication_targets": [],
        "properties": {},
    }
    (pool,) = await world.get("/scheduler-stats/get_pools?detail=1", "pools", caller="admin")
    names = ("vendor_name", "volume_backend_name", "storage_protocol")
    assert all(pool["capabilities"][name] == shown[name] for name in names)
    message(await world.call("GET", "/capabilities/elsewhere", caller="admin"), 404)


@pytest.mark.parametrize(
    ("specs", "is_taken"),
    [
        ({"vendor_name": "Kevel", "storage_protocol": "file"}, True),
        ({"capabilities:volume_backend_name": "local"}, True),
        ({"thin_provisioning_support": "<is> True", "multiattach": "<is> False"}, True),
        ({"total_capacity_gb": ">= 50", "storage_protocol": "<or> nfs <or> file"}, True),
        ({"vendor:colour": "red"}, True),
        ({"vendor_name": "Other"}, False),
        ({"colour": "red"}, False),
        ({"free_capacity_gb": ">= 1000"}, False),
        ({"replication_enabled": "<is> True"}, False),
    ],
)
async def test_a_volume_is_made_where_the_extra_specs_of_its_type_are_met(
    world: World, specs: dict[str, str], is_taken: bool
) -> None:
    type_id = await make_type(world, "special", extra_specs=specs)
    volume_id = await world.make(volume_type="special")
    assert await world.status(volume_id) == ("available" if is_taken else "error")
    told = [one for one in await world.get("/messages", "messages") if one["resource_uuid"] == volume_id]
    if is_taken:
        assert told == []
        return
    assert [one["event_id"] for one in told] == ["VOLUME_VOLUME_001_003"]
    assert "special asks for" in told[0]["user_message"]
    assert not (world.root / f"volume-{volume_id}").exists()
    plain = await world.make()
    assert "asks for" in message(await world.act(plain, "os-retype", {"new_type": type_id}), 400)
    assert (await world.call("DELETE", f"/volumes/{volume_id}")).status_code == 202
    await world.settle()
    message(await world.call("GET", f"/volumes/{volume_id}"), 404)


async def test_there_are_no_clusters_and_nothing_waits_for_a_cleanup(world: World) -> None:
    for path in ("/clusters", "/clusters/detail"):
        assert await world.get(f"{path}?is_up=true&name=one", "clusters", caller="admin") == []
        message(await world.call("GET", f"{path}?colour=red", caller="admin"), 400)
        message(await world.call("GET", f"{path}?is_up=perhaps", caller="admin"), 400)
        message(await world.call("GET", f"{path}?frozen=true", caller="admin", version="3.25"), 400)
        message(await world.call("GET", path, caller="admin", version="3.6"), 404)
        message(await world.call("GET", path), 403)
    message(await world.call("GET", "/clusters/one", caller="admin"), 404)
    message(await world.call("PUT", "/clusters/enable", {"name": "one"}, caller="admin"), 404)
    answer = await world.call("POST", "/workers/cleanup", {"is_up": "true", "resource_type": "Volume"}, caller="admin")
    assert (answer.status_code, answer.json()) == (202, {"cleaning": [], "unavailable": []})
    for body in ({"resource_id": "one"}, {"resource_type": "Pig"}, {"binary": "none-such"}, {"colour": "red"}):
        message(await world.call("POST", "/workers/cleanup", body, caller="admin"), 400)
    message(await world.call("POST", "/workers/cleanup", {}, caller="admin", version="3.23"), 404)
    message(await world.call("POST", "/workers/cleanup", {}), 403)


@pytest.fixture
def own_levels() -> Iterator[logging.Logger]:
    """Kevel's loggers, whose levels are put back."""
    loggers = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    kept = {one: one.level for one in loggers}
    yield logging.getLogger("kevel.store")
    for one in logging.root.manager.loggerDict.values():
        if isinstance(one, logging.Logger):
            one.setLevel(kept.get(one, logging.NOTSET))


async def test_log_levels_are_shown_and_changed(world: World, own_levels: logging.Logger) -> None:
    answer = await say(world, "set-log", binary="*", server="", prefix="kevel.store", level="debug")
    assert (answer.status_code, answer.content) == (202, b"")
    assert own_levels.getEffectiveLevel() == logging.DEBUG
    answer = await say(world, "get-log", prefix="kevel.store")
    found = answer.json()["log_levels"]
    names = [("cinder-api", HOST), ("cinder-scheduler", HOST), ("cinder-volume", POOL), ("cinder-backup", HOST)]
    assert [(one["binary"], one["host"]) for one in found] == names
    assert all(one["levels"]["kevel.store"] == "DEBUG" for one in found)
    await say(world, "set-log", binary="cinder-api", server="elsewhere", prefix="kevel.store", level="ERROR")
    assert own_levels.getEffectiveLevel() == logging.DEBUG
    await say(world, "set-log", binary="cinder-volume", level="ERROR")
    assert own_levels.getEffectiveLevel() == logging.ERROR
    (one,) = (await say(world, "get-log", binary="cinder-volume", server=POOL)).json()["log_levels"]
    assert one["levels"]["kevel"] == "ERROR"


@pytest.mark.parametrize(
    "body",
    [
        {"level": "LOUD"},
        {"level": None},
        {},
        {"level": "DEBUG", "binary": "none-such"},
        {"level": "DEBUG", "colour": "red"},
    ],
)
async def test_a_bad_log_level_is_refused(world: World, body: dict[str, Any], own_levels: logging.Logger) -> None:
    before = own_levels.getEffectiveLevel()
    message(await say(world, "set-log", **body), 400)
    assert own_levels.getEffectiveLevel() == before


async def test_log_levels_are_for_admins_since_3_32(world: World) -> None:
    for verb in ("get-log", "set-log"):
        body = {"level": "ERROR"} if verb == "set-log" else {}
        message(await say(world, verb, caller="member", **body), 403)
        message(await say(world, verb, version="3.31", **body), 404)
    message(await say(world, "get-log", binary="none-such"), 400)


async def test_filters_are_told_since_3_33_and_lists_have_them(world: World) -> None:
    found = await world.get("/resource_filters", "resource_filters", caller="reader")
    assert {one["resource"]: tuple(one["filters"]) for one in found} == FILTERS
    (one,) = await world.get("/resource_filters?resource=pool", "resource_filters")
    assert one == {"resource": "pool", "filters": ["name", "volume_type"]}
    assert await world.get("/resource_filters?resource=pig", "resource_filters") == []
    message(await world.call("GET", "/resource_filters", version="3.32"), 404)
    rows = {row.name: row for row in API.operations if row.serves(Version(3, 71))}
    for resource, name in LISTS.items():
        assert set(FILTERS[resource]) <= set(rows[name].query_names)
    assert FILTERS.keys() == LISTS.keys()


async def test_older_parts_of_the_api_have_names(world: World) -> None:
    found = {one["alias"]: one for one in await world.get("/extensions", "extensions", caller="reader")}
    assert found["os-hosts"]["name"] == "Hosts"
    assert await world.get("/extensions/os-hosts", "extension") == found["os-hosts"]
    message(await world.call("GET", "/extensions/none-such"), 404)


@pytest.mark.parametrize("path", ["/os-services", "/os-hosts", "/os-hosts/one", "/capabilities/one", "/clusters"])
async def test_the_service_is_the_operators(world: World, path: str) -> None:
    message(await world.call("GET", path), 403)
