"""What every row of the table owes: another project's thing is not found, nor is one that is not there."""

from __future__ import annotations

from typing import Any, Final

import pytest

from kevel.api.operations import Operation
from kevel.api.volume import API
from tests.integration.rows import NOTHING, Asker, needs_admin, read_everything, rows_shut_to, rows_with
from tests.integration.volumes.conftest import World
from tests.integration.volumes.test_backups import back_up
from tests.integration.volumes.test_external_attachments import declare
from tests.integration.volumes.test_group_snapshots import make_pair, take
from tests.integration.volumes.test_messages import fail_attach
from tests.integration.volumes.test_transfers import offer

#: What belongs to a project, and what is there for all.
OWNED: Final = (
    *("volume_id", "snapshot_id", "attachment_id", "backup_id", "transfer_id"),
    *("message_id", "group_id", "group_snapshot_id"),
)
SHARED: Final = ("type_id", "group_type_id", "specs_id", "encryption_id", "alias", "host", "class_name")
#: What a row has to be asked so that only the thing can be wrong, where it is more than the smallest body.
BODIES: Final[dict[str, Any]] = {
    "updateKnownVolume": {"volume": {"name": "mine"}},
    "putMetadataItem": {"meta": {"k": "mine"}},
    "resetStatus": {"os-reset_status": {"status": "error"}},
    "declareAttached": {"os-attach": {"mountpoint": "/dev/vdz", "host_name": "mine"}},
    "updateSnapshot": {"snapshot": {"name": "mine"}},
    "putSnapshotMetadataItem": {"meta": {"k": "mine"}},
    "updateBackup": {"backup": {"name": "mine"}},
    "updateMarkedBackup": {"backup": {"name": "mine"}},
    "updateType": {"volume_type": {"name": "mine"}},
    "putSpec": {"k": "mine"},
    "updateGroupType": {"group_type": {"name": "mine"}},
    "putGroupSpec": {"k": "mine"},
}
#: The same for queries.
QUERIES: Final = dict.fromkeys(("associateQos", "disassociateQos"), f"vol_type_id={NOTHING}")
ASKER: Final = Asker(API, BODIES, QUERIES)
#: Rows that are there for other projects: the key of the offer is what opens them.
FOR_OTHERS: Final = ("acceptTransfer", "acceptVolumeTransfer")


async def make_things(world: World) -> dict[str, str]:
    """One of each of the member's."""
    volume_id = await world.make(metadata={"k": "v"})
    offered = await world.make()
    await fail_attach(world)
    group_id, _, _ = await make_pair(world)
    return {
        "volume_id": volume_id,
        "snapshot_id": await world.make_snapshot(volume_id, metadata={"k": "v"}),
        "attachment_id": (await declare(world, await world.make()))["id"],
        "backup_id": await back_up(world, volume_id),
        "transfer_id": (await offer(world, offered))["id"],
        "message_id": (await world.get("/messages", "messages"))[0]["id"],
        "group_id": group_id,
        "group_snapshot_id": await take(world, group_id),
    }


async def test_another_project_finds_nothing_and_changes_nothing(world: World) -> None:
    things = await make_things(world)
    before, files = await world.runtime.store.read(read_everything), sorted(world.root.iterdir())

    def wanted(row: Operation) -> int:
        return 403 if needs_admin(row) else 400 if row.name in FOR_OTHERS else 404

    wrong = await ASKER.find_unrefused(world.clients["other"], rows_with(API, OWNED), things, wanted)
    assert not wrong, "\n".join(wrong)
    assert await world.runtime.store.read(read_everything) == before
    assert sorted(world.root.iterdir()) == files


async def test_what_is_not_there_is_not_found_by_an_admin_either(world: World) -> None:
    things = dict.fromkeys((*OWNED, *SHARED), NOTHING)
    before = await world.runtime.store.read(read_everything)
    wrong = await ASKER.find_unrefused(world.clients["admin"], rows_with(API, things), things, lambda row: 404)
    assert not wrong, "\n".join(wrong)
    assert await world.runtime.store.read(read_everything) == before


@pytest.mark.parametrize("role", ["reader", "member"])
async def test_a_caller_without_the_role_is_refused(world: World, role: str) -> None:
    before = await world.runtime.store.read(read_everything)
    wrong = await ASKER.find_unrefused(world.clients[role], rows_shut_to(API, role), {}, lambda row: 403)
    assert not wrong, "\n".join(wrong)
    assert await world.runtime.store.read(read_everything) == before
