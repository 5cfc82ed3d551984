"""Several pools in one Kevel: where a volume is made, and what operators see of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kevel.domain.errors import StepNever, StepRetry
from kevel.storage.base import Capacity, Export, VolumeFile
from kevel.storage.directory import DirectoryConnector
from tests.integration.volumes.conftest import GIB, HOST, Pool, World

FAST = f"{HOST}@fast#fast"
LOCAL = f"{HOST}@local#local"


async def place(world: World, volume_id: str) -> str:
    return str((await world.get(f"/volumes/{volume_id}", "volume", caller="admin"))["os-vol-host-attr:host"])


async def test_a_volume_is_made_where_its_type_says_else_where_most_is_free(world: World, fast: Pool) -> None:
    assert await place(world, await world.make()) == LOCAL
    chosen = await world.make(volume_type="fast")
    assert await place(world, chosen) == FAST
    assert await fast.list_volumes() == [chosen]
    fast.shown = Capacity(total_bytes=50 * GIB, free_bytes=45 * GIB)
    assert await place(world, await world.make()) == FAST


async def test_a_pool_that_is_full_silent_or_disabled_leaves_the_volume_to_another(
    world: World, fast: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pool.shown = Capacity(total_bytes=50 * GIB, free_bytes=0)
    assert await place(world, await world.make()) == FAST
    world.pool.shown = Capacity(total_bytes=90 * GIB, free_bytes=80 * GIB)
    body = {"host": f"{HOST}@local", "binary": "cinder-volume"}
    assert (await world.call("PUT", "/os-services/disable", body, caller="admin")).status_code == 200
    assert await place(world, await world.make()) == FAST
    assert (await world.call("PUT", "/os-services/enable", body, caller="admin")).status_code == 200

    async def fail() -> Capacity:
        raise StepRetry("The pool is silent.")

    monkeypatch.setattr(world.pool, "capacity", fail)
    assert await place(world, await world.make()) == FAST
    monkeypatch.setattr(fast, "capacity", fail)
    assert (await world.ask()).status_code == 503


async def test_what_is_copied_stays_in_the_pool_of_its_source(world: World, fast: Pool) -> None:
    source = await world.make(volume_type="fast")
    assert await fast.list_files() == [f"volume-{source}"]
    snapshot = await world.make_snapshot(source)
    assert await fast.list_snapshots() == [snapshot]
    for fields in ({"source_volid": source}, {"snapshot_id": snapshot}):
        copy = await world.make(**fields)
        assert (await place(world, copy), await world.status(copy)) == (FAST, "available")


async def test_operators_see_each_pool_and_its_service(world: World, fast: Pool) -> None:
    await world.make(volume_type="fast")
    pools = await world.get("/scheduler-stats/get_pools?detail=true", "pools", caller="admin")
    shown = {one["name"]: one["capabilities"] for one in pools}
    assert shown.keys() == {LOCAL, FAST}
    assert (shown[FAST]["volume_backend_name"], shown[FAST]["provisioned_capacity_gb"]) == ("fast", 1)
    one = await world.get(f"/scheduler-stats/get_pools?name={HOST}%40fast%23fast", "pools", caller="admin")
    assert one == [{"name": FAST}]
    services = await world.get("/os-services?binary=cinder-volume", "services", caller="admin")
    assert [one["host"] for one in services] == [f"{HOST}@local", f"{HOST}@fast"]
    answer = await world.call("GET", f"/capabilities/{HOST}@fast", caller="admin")
    assert answer.json()["volume_backend_name"] == "fast"
    assert (await world.call("PUT", "/os-services/freeze", {"host": HOST}, caller="admin")).status_code == 200
    services = await world.get("/os-services?binary=cinder-volume", "services", caller="admin")
    assert [one["frozen"] for one in services] == [True, True]


async def test_a_host_reaches_a_volume_in_its_own_pool_and_no_other(world: World, fast: Pool, tmp_path: Path) -> None:
    volume_id = await world.make(volume_type="fast")
    volume = VolumeFile(volume_id=volume_id, size_bytes=GIB, format="raw")
    export = Export(volume=volume, path_id=volume_id, generation=1, host=HOST)
    info = await fast.export_volume(export)
    assert info == fast.describe_export(export)
    there = DirectoryConnector(world.root, world.runtime.executor, {"fast": tmp_path / "fast"})
    assert (await there.connect_volume(volume, info)).path == str(tmp_path / "fast" / f"volume-{volume_id}")
    with pytest.raises(StepNever, match="not configured"):
        await DirectoryConnector(world.root, world.runtime.executor).connect_volume(volume, info)
    with pytest.raises(StepNever, match="not there"):
        await there.connect_volume(volume, world.pool.describe_export(export))
