"""Volumes move to other pools: by a retype that has to, and because an admin says so."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from kevel.control.copies import copies
from kevel.control.hosts.comparison import Comparison
from kevel.domain.errors import StepNever, StepRetry
from kevel.domain.findings import FindingKind
from kevel.storage.base import Capacity, CopyWatch, Source, VolumeFile
from kevel.store.censuses import list_findings
from kevel.store.transactions import Tx
from kevel.store.volumes import load_volume, provisioned_gib
from tests.integration.volumes.conftest import GIB, HOST, MIB, Pool, World, message
from tests.integration.volumes.test_encryption import LUKS, key_of, make_sealed
from tests.integration.volumes.test_type_rules import encrypt
from tests.integration.volumes.test_types import make_type

FAST = f"{HOST}@fast#fast"
LOCAL = f"{HOST}@local#local"
WORDS = b"contents"
#: How each move is asked for.
MOVES = ("os-retype", "os-migrate_volume")


async def ask_move(world: World, volume_id: str, name: str = "os-migrate_volume", **fields: Any) -> Any:
    """POST a move to the other pool."""
    body = {"new_type": "fast", "migration_policy": "on-demand"} if name == "os-retype" else {"host": FAST}
    return await world.act(volume_id, name, body | fields, caller="admin")


async def make_full(world: World, **fields: Any) -> str:
    """A volume with something in it."""
    volume_id = await world.make(**fields)
    world.write(volume_id, WORDS)
    return volume_id


def start_of(folder: Path, volume_id: str, length: int = len(WORDS)) -> bytes:
    """The first bytes of the volume in that pool."""
    with (folder / f"volume-{volume_id}").open("rb") as file:
        return file.read(length)


async def show(world: World, volume_id: str) -> tuple[str, str, str | None]:
    """Status, pool and migration status."""
    shown = await world.get(f"/volumes/{volume_id}", "volume", caller="admin")
    assert shown["migration_status"] == shown["os-vol-mig-status-attr:migstat"]
    return shown["status"], shown["os-vol-host-attr:host"], shown["migration_status"]


async def find(world: World, migration_status: str) -> list[str]:
    """The ids of the volumes of which that is shown."""
    found = await world.get(f"/volumes?migration_status={migration_status}", "volumes")
    return [one["id"] for one in found]


async def work(world: World, volume_id: str) -> None:
    """Let the worker work, and tidy up."""
    await world.settle_all()
    await world.worker.look(volume_id)


async def find_strays(world: World) -> list[tuple[FindingKind, str]]:
    """What a comparison finds of the storage."""
    await Comparison(world.runtime, world.backends).compare_storage()
    found = await world.runtime.store.read(list_findings, world.runtime.clock.now_us())
    return [(one.kind, one.subject) for one in found if one.subject.startswith("storage")]


def end_time(tx: Tx) -> None:
    tx.execute(text("UPDATE operations SET deadline_at = 1 WHERE finished_at IS NULL"), {})


async def test_a_retype_on_demand_moves_the_volume_to_a_pool_that_its_type_wants(
    world: World, fast: Pool, tmp_path: Path
) -> None:
    other = await world.make()
    volume_id = await make_full(world, name="n", metadata={"k": "v"})
    body = {"new_type": "fast", "migration_policy": "on-demand"}
    answer = await world.act(volume_id, "os-retype", body)
    assert (answer.status_code, answer.content) == (202, b"")
    assert await show(world, volume_id) == ("retyping", LOCAL, "migrating")
    assert "migration_status" not in await world.get(f"/volumes/{volume_id}", "volume")
    assert (await find(world, "migrating"), await find(world, "success")) == ([volume_id], [])
    await work(world, volume_id)
    assert (await find(world, "migrating"), await find(world, "success")) == ([], [volume_id])
    assert await show(world, volume_id) == ("available", FAST, "success")
    shown = await world.get(f"/volumes/{volume_id}", "volume")
    assert (shown["volume_type"], shown["name"], shown["metadata"], shown["size"]) == ("fast", "n", {"k": "v"}, 1)
    assert await fast.list_files() == [f"volume-{volume_id}"]
    assert await world.pool.list_files() == [f"volume-{other}"]
    assert start_of(tmp_path / "fast", volume_id) == WORDS
    assert await find_strays(world) == []
    await world.attach(volume_id)
    assert await world.status(volume_id) == "in-use"


@pytest.mark.parametrize("policy", [None, "never"])
async def test_a_retype_that_may_not_move_a_volume_that_would_have_to_is_refused(
    world: World, fast: Pool, policy: str | None
) -> None:
    volume_id = await world.make()
    body = {"new_type": "fast"} | ({} if policy is None else {"migration_policy": policy})
    assert "the storage pool local has not" in message(await world.act(volume_id, "os-retype", body), 400)
    assert await show(world, volume_id) == ("available", LOCAL, None)


async def test_a_retype_that_its_own_pool_meets_moves_nothing_and_is_done_at_once(world: World, fast: Pool) -> None:
    await make_type(world, "here", extra_specs={"volume_backend_name": "local"})
    volume_id = await make_full(world)
    body = {"new_type": "here", "migration_policy": "on-demand"}
    assert (await world.act(volume_id, "os-retype", body)).status_code == 202
    assert await show(world, volume_id) == ("available", LOCAL, None)
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["volume_type"] == "here"


async def test_an_admin_moves_a_volume_there_and_back(world: World, fast: Pool, tmp_path: Path) -> None:
    volume_id = await make_full(world)
    answer = await ask_move(world, volume_id, force_host_copy=False, lock_volume=True)
    assert (answer.status_code, answer.content) == (202, b"")
    assert await show(world, volume_id) == ("maintenance", LOCAL, "migrating")
    message(await world.call("DELETE", f"/volumes/{volume_id}"), 400)
    assert "maintenance" in message(await ask_move(world, volume_id), 400)
    # The process dies behind the record: the old file stays, and what is written meanwhile is not in it.
    await world.worker.look(volume_id)
    assert await world.pool.list_files() == await fast.list_files()
    with (tmp_path / "fast" / f"volume-{volume_id}").open("r+b") as file:
        file.write(b"CONTENTS")
    answer = await ask_move(world, volume_id, host=f"{HOST}@local")
    assert answer.status_code == 202
    await work(world, volume_id)
    assert await show(world, volume_id) == ("available", LOCAL, "success")
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["volume_type"] == "standard"
    assert world.read(volume_id) == b"CONTENTS"
    assert await fast.list_files() == []
    assert await find_strays(world) == []


async def test_a_move_before_3_16_takes_a_host_only(world: World, fast: Pool) -> None:
    volume_id = await world.make()
    for version, body in (
        ("3.15", {"cluster": "c"}),
        ("3.15", {"host": FAST, "cluster": None}),
        ("3.15", {}),
        ("3.16", {}),
        ("3.16", {"cluster": "c"}),
        ("3.16", {"host": FAST, "cluster": "c"}),
        ("3.16", {"host": FAST, "lock_volume": "perhaps"}),
        ("3.16", {"host": FAST, "colour": "red"}),
        ("3.16", {"host": 5}),
    ):
        answer = await world.act(volume_id, "os-migrate_volume", body, caller="admin", version=version)
        message(answer, 400)
    for version in ("3.15", "3.16"):
        answer = await world.act(volume_id, "os-migrate_volume", {"host": FAST}, caller="admin", version=version)
        assert answer.status_code == 202
        await work(world, volume_id)
        await ask_move(world, volume_id, host=LOCAL)
        await work(world, volume_id)


@pytest.mark.parametrize(("here", "there"), [("qcow2", "raw"), ("raw", "qcow2"), ("qcow2", "qcow2")])
async def test_a_move_gives_the_volume_the_format_of_its_pool(
    world: World, fast: Pool, monkeypatch: pytest.MonkeyPatch, here: str, there: str
) -> None:
    monkeypatch.setattr(world.pool, "volume_format", here)
    monkeypatch.setattr(fast, "volume_format", there)
    volume_id = await world.make(imageRef=await world.make_image(WORDS))
    await ask_move(world, volume_id)
    await work(world, volume_id)
    assert await show(world, volume_id) == ("available", FAST, "success")
    volume = await world.runtime.store.read(load_volume, volume_id)
    assert volume is not None
    assert volume.format == there
    monkeypatch.setattr(world.pool, "volume_format", "raw")
    await ask_move(world, volume_id, host=LOCAL)
    await work(world, volume_id)
    assert world.read(volume_id) == WORDS


async def test_a_retype_to_a_shared_type_makes_the_volume_raw(
    world: World, fast: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "volume_format", "qcow2")
    await make_type(world, "shared", extra_specs={"volume_backend_name": "fast", "multiattach": "<is> True"})
    volume_id = await world.make()
    await ask_move(world, volume_id, "os-retype", new_type="shared")
    await work(world, volume_id)
    volume = await world.runtime.store.read(load_volume, volume_id)
    assert volume is not None
    assert (volume.backend, volume.format, volume.multiattach) == ("fast", "raw", True)


async def test_an_encrypted_volume_moves_as_it_is_and_keeps_its_key(world: World, fast: Pool, tmp_path: Path) -> None:
    volume_id = await make_sealed(world)
    key = await key_of(world, volume_id)
    written = start_of(world.root, volume_id, MIB)
    for name, specs in (("sealed-fast", LUKS), ("longer-fast", LUKS | {"key_size": 512})):
        type_id = await make_type(world, name, extra_specs={"volume_backend_name": "fast"})
        await encrypt(world, type_id, **specs)
    for name in ("fast", "longer-fast"):
        answer = await ask_move(world, volume_id, "os-retype", new_type=name)
        assert "encrypted" in message(answer, 400)
    await ask_move(world, volume_id, "os-retype", new_type="sealed-fast")
    await work(world, volume_id)
    assert await show(world, volume_id) == ("available", FAST, "success")
    assert start_of(tmp_path / "fast", volume_id, MIB) == written
    assert await key_of(world, volume_id) == key
    plain_id = await world.make()
    assert "encrypted" in message(await ask_move(world, plain_id, "os-retype", new_type="sealed-fast"), 400)


@pytest.mark.parametrize("name", MOVES)
async def test_what_has_to_stay_in_its_pool_is_not_moved(world: World, fast: Pool, name: str) -> None:
    volume_id = await world.make()
    server_id = await world.attach(volume_id)
    assert "is in-use" in message(await ask_move(world, volume_id, name), 400)
    await world.detach(server_id, volume_id)
    copy_id = (await world.ask(source_volid=volume_id)).json()["volume"]["id"]
    assert "being copied" in message(await ask_move(world, volume_id, name), 400)
    await world.settle_all()
    snapshot_id = await world.make_snapshot(volume_id)
    assert "has snapshots" in message(await ask_move(world, volume_id, name), 400)
    await world.call("DELETE", f"/snapshots/{snapshot_id}")
    await world.settle_all()
    freeze = {"host": f"{HOST}@local"}
    assert (await world.call("PUT", "/os-services/freeze", freeze, caller="admin")).status_code == 200
    assert "frozen" in message(await ask_move(world, volume_id, name), 400)
    assert (await world.call("PUT", "/os-services/thaw", freeze, caller="admin")).status_code == 200
    other = {"host": f"{HOST}@fast", "binary": "cinder-volume"}
    assert (await world.call("PUT", "/os-services/disable", other, caller="admin")).status_code == 200
    assert "storage pool" in message(await ask_move(world, volume_id, name), 400)
    assert (await world.call("PUT", "/os-services/enable", other, caller="admin")).status_code == 200
    fast.shown = Capacity(total_bytes=50 * GIB, free_bytes=0)
    assert "full" in message(await ask_move(world, volume_id, name), 413)
    older = {"os-migrate_volume": {"host": FAST}}
    path = f"/volumes/{volume_id}/action"
    assert "full" in message(await world.call("POST", path, older, caller="admin", version="3.15"), 413)
    assert await show(world, volume_id) == ("available", LOCAL, None)
    assert await fast.list_files() == []
    assert await world.status(copy_id) == "available"


async def test_a_volume_in_a_group_stays_in_its_pool(world: World, fast: Pool) -> None:
    kind = {"group_type": {"name": "kind"}}
    kind_id = (await world.call("POST", "/group_types", kind, caller="admin")).json()["group_type"]["id"]
    body = {"group": {"group_type": kind_id, "volume_types": ["standard"]}}
    group_id = (await world.call("POST", "/groups", body)).json()["group"]["id"]
    volume_id = await world.make(volume_type="standard", group_id=group_id)
    assert group_id in message(await ask_move(world, volume_id), 400)


async def test_a_volume_moves_only_where_there_is_a_pool_that_takes_it_and_for_admins(
    world: World, fast: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume_id = await world.make()
    for host in ("elsewhere", HOST, f"{HOST}@fast#other"):
        assert f"No available service named {host}" in message(await ask_move(world, volume_id, host=host), 400)
    assert "already" in message(await ask_move(world, volume_id, host=LOCAL), 400)
    message(await world.act(volume_id, "os-migrate_volume", {"host": FAST}), 403)
    message(await world.act("no-such-volume", "os-migrate_volume", {"host": FAST}, caller="admin"), 404)
    message(await world.act("no-such-volume", "os-retype", {"new_type": "fast"}), 404)
    await make_type(world, "here", extra_specs={"volume_backend_name": "local"})
    bound = await world.make(volume_type="here")
    assert "asks for volume_backend_name" in message(await ask_move(world, bound), 400)
    await make_type(world, "ceph", extra_specs={"volume_backend_name": "ceph"})
    assert "no storage pool takes" in message(await ask_move(world, volume_id, "os-retype", new_type="ceph"), 400)

    async def fail() -> Capacity:
        raise StepRetry("The pool is silent.")

    monkeypatch.setattr(fast, "capacity", fail)
    assert "No available service" in message(await ask_move(world, volume_id), 400)
    monkeypatch.setattr(world.pool, "capacity", fail)
    monkeypatch.setattr(fast, "capacity", Pool.capacity.__get__(fast))
    message(await ask_move(world, volume_id, "os-retype"), 503)
    assert await show(world, volume_id) == ("available", LOCAL, None)


@pytest.mark.parametrize("name", MOVES)
async def test_a_move_that_fails_leaves_the_volume_as_it_was_and_says_why(
    world: World, fast: Pool, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async def fail(volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        await Pool.create_volume_from(fast, volume, source, watch)
        raise StepNever("There is no space left in the storage pool.")

    volume_id = await make_full(world)
    with monkeypatch.context() as patch:
        patch.setattr(fast, "create_volume_from", fail)
        await ask_move(world, volume_id, name)
        await work(world, volume_id)
    assert await show(world, volume_id) == ("available", LOCAL, "error")
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["volume_type"] == "standard"
    (told,) = await world.get("/messages", "messages")
    assert "no space left" in told["user_message"]
    assert (await fast.list_files(), world.read(volume_id)) == ([], WORDS)
    body = {"migration_status": "none"}
    assert (await world.act(volume_id, "os-reset_status", body, caller="admin")).status_code == 202
    assert await show(world, volume_id) == ("available", LOCAL, None)
    await ask_move(world, volume_id, name)
    message(await world.act(volume_id, "os-reset_status", body, caller="admin"), 400)
    await work(world, volume_id)
    assert await show(world, volume_id) == ("available", FAST, "success")


class Crash(Exception):
    """The process died."""


#: The effects of a move, and whether the process dies before or behind them.
POINTS = [
    (pool, effect, when)
    for pool, effect in (("fast", "delete_volume"), ("fast", "create_volume_from"), ("local", "delete_volume"))
    for when in ("before", "behind")
]


@pytest.mark.parametrize(("pool", "effect", "when"), POINTS)
async def test_a_crash_anywhere_costs_time_and_nothing_else(
    world: World, fast: Pool, monkeypatch: pytest.MonkeyPatch, pool: str, effect: str, when: str, tmp_path: Path
) -> None:
    volume_id = await make_full(world)
    await ask_move(world, volume_id, "os-retype")
    one = world.backends[pool]
    real = getattr(one, effect)

    async def die(*args: Any) -> None:
        if when == "behind":
            await real(*args)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(one, effect, die)
        with pytest.raises(Crash):
            await work(world, volume_id)
        assert set(await find_strays(world)) <= {(FindingKind.VOLUME_LEFT, "storage:local")}
    await work(world, volume_id)
    assert await show(world, volume_id) == ("available", FAST, "success")
    assert await fast.list_files() == [f"volume-{volume_id}"]
    assert await world.pool.list_files() == []
    assert start_of(tmp_path / "fast", volume_id) == WORDS
    assert await find_strays(world) == []


async def test_a_half_made_copy_of_an_earlier_move_is_not_taken_for_this_one(world: World, fast: Pool) -> None:
    volume_id = await make_full(world)
    await ask_move(world, volume_id)
    await world.settle_all()
    # The process dies before it has removed the old file, and the volume moves back.
    (world.root / f"volume-{volume_id}").write_bytes(b"obsolete")
    await ask_move(world, volume_id, host=LOCAL)
    await work(world, volume_id)
    assert (await show(world, volume_id), world.read(volume_id)) == (("available", LOCAL, "success"), WORDS)


async def test_a_file_that_a_failed_growing_left_larger_moves_as_it_is(
    world: World, fast: Pool, tmp_path: Path
) -> None:
    volume_id = await make_full(world)
    os.truncate(world.root / f"volume-{volume_id}", 2 * GIB)
    await ask_move(world, volume_id)
    await work(world, volume_id)
    assert await show(world, volume_id) == ("available", FAST, "success")
    assert (tmp_path / "fast" / f"volume-{volume_id}").stat().st_size == 2 * GIB
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["size"] == 1


async def test_a_move_that_takes_too_long_is_given_up(
    world: World, fast: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def last(volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        watch.total_bytes, watch.done_bytes = 200, 84
        begun.set()
        while True:
            watch.check()
            await asyncio.sleep(0.005)

    monkeypatch.setattr(fast, "create_volume_from", last)
    monkeypatch.setattr(copies, "WATCH_S", 0.01)
    volume_id = await make_full(world)
    await ask_move(world, volume_id)
    look = asyncio.create_task(world.worker.look(volume_id))
    await begun.wait()
    await world.runtime.store.write(end_time)
    async with asyncio.timeout(20):
        await look
    await work(world, volume_id)
    assert await show(world, volume_id) == ("available", LOCAL, "error")
    assert (await fast.list_files(), world.read(volume_id)) == ([], WORDS)


async def test_a_volume_that_is_deleted_by_force_while_it_moves_is_left_in_no_pool(
    world: World, fast: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pause(volume: VolumeFile, source: Source, watch: CopyWatch) -> None:
        await Pool.create_volume_from(fast, volume, source, watch)
        raise StepRetry("The process died here.")

    volume_id = await make_full(world)
    await ask_move(world, volume_id)
    with monkeypatch.context() as patch:
        patch.setattr(fast, "create_volume_from", pause)
        await world.worker.look(volume_id)
    assert await fast.list_files() == await world.pool.list_files() == [f"volume-{volume_id}"]
    assert (await world.act(volume_id, "os-force_delete", None, caller="admin")).status_code == 202
    await world.settle_all()
    assert (await fast.list_files(), await world.pool.list_files()) == ([], [])


async def test_what_a_move_has_left_is_found_and_removed_and_what_somebody_put_there_is_not(
    world: World, fast: Pool, tmp_path: Path
) -> None:
    moved, other = await make_full(world), await make_full(world)
    await ask_move(world, moved)
    await world.settle_all()
    (tmp_path / "fast" / f"volume-{other}").write_bytes(b"a copy that an operator made")
    found = {(FindingKind.VOLUME_LEFT, "storage:local"), (FindingKind.VOLUME_UNKNOWN, "storage:fast")}
    assert set(await find_strays(world)) == found
    listed = await world.call("GET", f"/manageable_volumes/detail?host={LOCAL.replace('#', '%23')}", caller="admin")
    stray = next(
        one for one in listed.json()["manageable-volumes"] if one["reference"]["source-name"] == f"volume-{moved}"
    )
    assert "moves between pools" in stray["reason_not_safe"]
    await world.worker.look(moved)
    await world.worker.look(other)
    assert await find_strays(world) == [(FindingKind.VOLUME_UNKNOWN, "storage:fast")]
    assert await world.pool.list_files() == [f"volume-{other}"]


async def test_what_moves_counts_where_it_goes_to(world: World, fast: Pool) -> None:
    type_id = next(one["id"] for one in await world.get("/types", "volume_types") if one["name"] == "fast")
    quotas = "/os-quota-sets/" + "11" * 16
    body = {"quota_set": {"volumes_fast": 1}}
    assert (await world.call("PUT", quotas, body, caller="admin")).status_code == 200
    volume_id = await world.make()
    await ask_move(world, volume_id, "os-retype")
    usage = await world.get(f"{quotas}?usage=true", "quota_set")
    assert usage["volumes_fast"] == {"limit": 1, "in_use": 0, "reserved": 1}
    assert usage["gigabytes_fast"]["reserved"] == 1
    assert (usage["volumes"]["in_use"], usage["volumes"]["reserved"]) == (1, 0)
    message(await world.ask(volume_type="fast"), 413)
    assert await world.runtime.store.read(provisioned_gib, "fast") == 1
    assert "in use" in message(await world.call("DELETE", f"/types/{type_id}", caller="admin"), 400)
    await work(world, volume_id)
    usage = await world.get(f"{quotas}?usage=true", "quota_set")
    assert usage["volumes_fast"] == {"limit": 1, "in_use": 1, "reserved": 0}
    assert await world.runtime.store.read(provisioned_gib, "local") == 0


async def test_a_pool_that_is_not_configured_any_more_ends_a_move(world: World, fast: Pool) -> None:
    volume_id = await make_full(world)
    await ask_move(world, volume_id)
    del world.backends["fast"]
    await work(world, volume_id)
    assert await show(world, volume_id) == ("available", LOCAL, "error")
    assert world.read(volume_id) == WORDS


async def test_a_growing_is_completed_by_itself_and_fails_when_its_consumer_says_so(world: World) -> None:
    volume_id = await world.make()
    name = "os-extend_volume_completion"
    assert "no growing" in message(await world.act(volume_id, name, {"error": True}, caller="admin"), 400)
    await world.act(volume_id, "os-extend", {"new_size": 2})
    for body in (None, {"error": "perhaps"}, {"colour": "red"}):
        message(await world.act(volume_id, name, body, caller="admin"), 400)
    message(await world.act(volume_id, name, {}), 403)
    message(await world.act(volume_id, name, {}, caller="admin", version="3.70"), 404)
    message(await world.act("no-such-volume", name, {}, caller="admin"), 404)
    assert (await world.act(volume_id, name, {}, caller="admin")).status_code == 202
    await world.settle()
    assert (await world.get(f"/volumes/{volume_id}", "volume"))["size"] == 2
    await world.act(volume_id, "os-extend", {"new_size": 3})
    answer = await world.act(volume_id, name, {"error": True}, caller="admin")
    assert (answer.status_code, answer.content) == (202, b"")
    await world.settle()
    shown = await world.get(f"/volumes/{volume_id}", "volume")
    assert (shown["status"], shown["size"]) == ("error_extending", 2)
    (told,) = await world.get("/messages", "messages")
    assert "new size" in told["user_message"]
