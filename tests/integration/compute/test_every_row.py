"""What every row of the table owes: another project's thing is not found, nor is one that is not there."""

from __future__ import annotations

from typing import Any, Final

import pytest

from kevel.api.compute import API
from kevel.domain.ladder import Rung
from tests.integration.compute.conftest import Stand, decode
from tests.integration.rows import NOTHING, Asker, needs_admin, read_everything, rows_shut_to, rows_with

#: What belongs to a project, and what is there for all.
OWNED: Final = ("server_id", "volume_id", "snapshot_id")
SHARED: Final = ("flavor_id", "hypervisor_id", "class_name")
#: What a row has to be asked so that only the thing can be wrong, where it is more than the smallest body.
BODIES: Final[dict[str, Any]] = {
    "rebootServer": {"reboot": {"type": "SOFT"}},
    "rebuildServer": {"rebuild": {"imageRef": NOTHING}},
    "rebuildServerWhole": {"rebuild": {"imageRef": NOTHING}},
    "setServerMeta": {"meta": {"k": "mine"}},
    "updateFlavorExtraSpec": {"k": "mine"},
}


def make_asker(volume_id: str) -> Asker:
    """Asks for that volume where a row wants one."""
    named = ("attachVolume", "attachVolumeLater", "swapVolume", "updateVolumeAttachment")
    return Asker(API, BODIES | {name: {"volumeAttachment": {"volumeId": volume_id}} for name in named})


async def make_things(stand: Stand) -> dict[str, str]:
    """A server of the member's with a volume, and what was done to it."""
    server_id, volume_id = await stand.make_server(metadata={"k": "v"}), await stand.make_volume()
    assert (await stand.attach(server_id, volume_id)).status_code == 200
    await stand.host_moved(server_id, volume_id, Rung.PLUGGED)
    actions = decode((await stand.call("GET", f"/servers/{server_id}/os-instance-actions")).content)
    request_id = actions["instanceActions"][0]["request_id"]
    snapshot_id = await stand.make_snapshot()
    return {"server_id": server_id, "volume_id": volume_id, "request_id": request_id, "snapshot_id": snapshot_id}


async def test_another_project_finds_nothing_and_changes_nothing(stand: Stand) -> None:
    things = await make_things(stand)
    before = await stand.runtime.store.read(read_everything)
    rows = rows_with(API, OWNED)
    wrong = await make_asker(NOTHING).find_unrefused(
        stand.clients["other"], rows, things, lambda row: 403 if needs_admin(row) else 404
    )
    assert not wrong, "\n".join(wrong)
    assert await stand.runtime.store.read(read_everything) == before


async def test_what_is_not_there_is_not_found_by_an_admin_either(stand: Stand) -> None:
    things = dict.fromkeys((*OWNED, *SHARED, "volume_id"), NOTHING)
    before = await stand.runtime.store.read(read_everything)
    asker = make_asker(NOTHING)
    wrong = await asker.find_unrefused(stand.clients["admin"], rows_with(API, things), things, lambda row: 404)
    assert not wrong, "\n".join(wrong)
    assert await stand.runtime.store.read(read_everything) == before


@pytest.mark.parametrize("role", ["reader", "member"])
async def test_a_caller_without_the_role_is_refused(stand: Stand, role: str) -> None:
    before = await stand.runtime.store.read(read_everything)
    wrong = await make_asker(NOTHING).find_unrefused(stand.clients[role], rows_shut_to(API, role), {}, lambda row: 403)
    assert not wrong, "\n".join(wrong)
    assert await stand.runtime.store.read(read_everything) == before
