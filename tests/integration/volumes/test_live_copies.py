"""Snapshots, clones and images of volumes that a running server has: the host's agent copies them."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from kevel.domain.assignments import CopyAssignment, CopyReport
from kevel.domain.copies import AT_REST, FAILED, CopyState
from kevel.domain.model import Reason
from kevel.store.copies import apply_copy_report, copies_for_host
from kevel.store.transactions import Tx
from tests.integration.volumes.conftest import HOST, World, message


async def orders(world: World) -> list[CopyAssignment]:
    """What the host's agent is asked to copy now."""
    found = await world.runtime.store.read(copies_for_host, HOST, 0)
    return [one for one in found if one.state is CopyState.WANTED]


async def report(world: World, order: CopyAssignment, state: CopyState, code: str = FAILED) -> None:
    """The agent says how the copy has ended."""
    at = world.runtime.clock.now_us()
    reason = Reason(code=code, message="The guest has gone.", at=at) if state is CopyState.FAILED else None
    said = CopyReport(
        copy_id=order.id, revision=order.revision, state=state, done_bytes=0, total_bytes=0, reason=reason
    )
    assert await world.runtime.store.write(apply_copy_report, HOST, 1, said, at=at)


async def copy(world: World, start: bytes) -> CopyAssignment:
    """The agent makes the one copy that it is asked for."""
    (order,) = await orders(world)
    with Path(order.target_path).open("r+b") as file:
        file.write(start)
    await report(world, order, CopyState.DONE)
    return order


async def look(world: World) -> None:
    """One look at all that is unfinished."""
    for worker, key in await world.unfinished():
        await worker.look(key)


async def test_a_snapshot_of_a_plugged_volume_is_what_the_agent_copied(world: World) -> None:
    volume_id = await world.make()
    await world.attach(volume_id)
    message(await world.ask_snapshot(volume_id, version="3.65", force=False), 400)
    snapshot_id = (await world.ask_snapshot(volume_id, version="3.65", force=True)).json()["snapshot"]["id"]
    await look(world)
    await look(world)
    assert await world.snapshot_status(snapshot_id) == "creating"
    await copy(world, b"live")
    await world.settle_all()
    assert await world.snapshot_status(snapshot_id) == "available"
    assert await world.status(volume_id) == "in-use"
    made = await world.make(snapshot_id=snapshot_id)
    assert world.read(made, 5) == b"live\0"


async def test_a_guest_that_goes_meanwhile_leaves_the_copy_to_the_back_end(world: World) -> None:
    volume_id = await world.make()
    world.write(volume_id, b"at rest")
    server_id = await world.attach(volume_id)
    snapshot_id = (await world.ask_snapshot(volume_id)).json()["snapshot"]["id"]
    await look(world)
    (order,) = await orders(world)
    await world.detach(server_id, volume_id)
    await report(world, order, CopyState.FAILED, AT_REST)
    await world.settle_all()
    assert await world.snapshot_status(snapshot_id) == "available"
    assert not Path(order.target_path).exists()
    made = await world.make(snapshot_id=snapshot_id)
    assert world.read(made, 7) == b"at rest"


async def test_a_copy_that_the_agent_cannot_make_fails_the_snapshot(world: World) -> None:
    volume_id = await world.make()
    await world.attach(volume_id)
    snapshot_id = (await world.ask_snapshot(volume_id)).json()["snapshot"]["id"]
    await look(world)
    (order,) = await orders(world)
    await report(world, order, CopyState.FAILED)
    await world.settle_all()
    assert await world.snapshot_status(snapshot_id) == "error"
    assert await world.status(volume_id) == "in-use"
    (told,) = await world.get("/messages", "messages")
    assert told["user_message"] == "create snapshot: The guest has gone."


async def test_a_snapshot_that_is_deleted_while_the_agent_copies_waits_for_it_to_stop(world: World) -> None:
    volume_id = await world.make()
    await world.attach(volume_id)
    snapshot_id = (await world.ask_snapshot(volume_id)).json()["snapshot"]["id"]
    await look(world)
    (order,) = await orders(world)
    await world.call("POST", f"/snapshots/{snapshot_id}/action", {"os-force_delete": {}}, caller="admin")
    await look(world)
    assert await world.snapshot_status(snapshot_id) == "deleting", "the agent still writes into its file"
    assert Path(order.target_path).exists()
    (dropped,) = await world.runtime.store.read(copies_for_host, HOST, 0)
    assert dropped.state is CopyState.DROPPED
    await report(world, dropped, CopyState.DROPPED)
    await world.settle_all()
    message(await world.call("GET", f"/snapshots/{snapshot_id}"), 404)
    assert [path.name for path in world.root.iterdir()] == [f"volume-{volume_id}"]


async def test_nothing_is_left_of_a_copy_that_the_agent_began_for_a_volume_and_the_back_end_made(world: World) -> None:
    volume_id = await world.make()
    world.write(volume_id, b"at rest")
    server_id = await world.attach(volume_id)
    made = (await world.ask(source_volid=volume_id)).json()["volume"]["id"]
    await look(world)
    (order,) = await orders(world)
    assert Path(order.target_path).exists()
    await world.detach(server_id, volume_id)
    await report(world, order, CopyState.FAILED, AT_REST)
    await world.settle_all()
    assert world.read(made, 7) == b"at rest"
    names = sorted(path.name for path in world.root.iterdir())
    assert names == sorted([f"volume-{volume_id}", f"volume-{made}"])


async def test_a_volume_and_an_image_are_made_of_a_plugged_volume_by_way_of_a_copy(world: World) -> None:
    volume_id = await world.make()
    await world.attach(volume_id)
    made = (await world.ask(source_volid=volume_id, size=2)).json()["volume"]["id"]
    await look(world)
    await copy(world, b"live")
    await world.settle_all()
    assert await world.status(made) == "available"
    assert world.read(made, 4) == b"live"
    body = {"image_name": "from life", "force": True}
    answer = await world.act(volume_id, "os-volume_upload_image", body)
    image_id = answer.json()["os-volume_upload_image"]["image_id"]
    assert await world.status(volume_id) == "uploading"
    await look(world)
    await copy(world, b"later")
    await world.settle_all()
    assert await world.status(volume_id) == "in-use"
    assert (await world.image_bytes(image_id))[:6] == b"later\0"
    names = sorted(path.name for path in world.root.iterdir())
    assert names == sorted([f"volume-{volume_id}", f"volume-{made}"]), "nothing is left of the copies"


async def test_a_volume_that_waits_for_an_agents_copy_can_be_deleted(world: World) -> None:
    volume_id = await world.make()
    await world.attach(volume_id)
    made = (await world.ask(source_volid=volume_id)).json()["volume"]["id"]
    await look(world)
    (order,) = await orders(world)
    body: dict[str, object] = {"os-force_delete": {}}
    assert (await world.call("POST", f"/volumes/{made}/action", body, caller="admin")).status_code == 202
    await look(world)
    assert await world.status(made) == "deleting"
    (dropped,) = await world.runtime.store.read(copies_for_host, HOST, 0)
    assert dropped.id == order.id
    await report(world, dropped, CopyState.DROPPED)
    await world.settle_all()
    message(await world.call("GET", f"/volumes/{made}"), 404)
    assert [path.name for path in world.root.iterdir()] == [f"volume-{volume_id}"]


async def test_a_volume_of_a_stopped_server_is_copied_by_the_back_end(world: World) -> None:
    volume_id = await world.make()
    world.write(volume_id, b"stopped")
    server_id = await world.attach(volume_id)
    await world.runtime.store.write(stop_server, server_id)
    snapshot_id = await world.make_snapshot(volume_id)
    assert await world.snapshot_status(snapshot_id) == "available"
    assert await orders(world) == []
    made = await world.make(snapshot_id=snapshot_id)
    assert world.read(made, 7) == b"stopped"


def stop_server(tx: Tx, server_id: str) -> None:
    tx.execute(text("UPDATE servers SET goal = 'stopped', rung = 2 WHERE id = :id"), {"id": server_id})
