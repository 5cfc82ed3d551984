"""Each thing that can be asked of a server leaves an action, with its event, its times, and how it ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kevel.domain.ladder import Rung
from kevel.domain.model import ServerRung
from tests.integration.compute.conftest import HOST, Stand
from tests.integration.compute.test_server_shapes import host_made, make_large
from tests.integration.stand import PROJECTS

DEFINED, RUNNING = ServerRung.DEFINED, ServerRung.RUNNING
PAUSED, SUSPENDED = ServerRung.PAUSED, ServerRung.SUSPENDED
Finish = Callable[[Stand, str], Awaitable[None]]


def saw(rung: ServerRung) -> Finish:
    """The host sees the server on that rung."""

    async def finish(stand: Stand, server_id: str) -> None:
        await stand.host_saw(server_id, rung)

    return finish


async def made_anew(stand: Stand, server_id: str) -> None:
    await host_made(stand, server_id, RUNNING)


async def removed(stand: Stand, server_id: str) -> None:
    await stand.host_removed(server_id)


async def at_once(stand: Stand, server_id: str) -> None:
    """Nobody has anything more to do."""


#: By name and kind: what has to be done first (with how the host follows), the request, and how the host follows.
Row = tuple[str, list[tuple[dict[str, Any], Finish]], dict[str, Any] | None, str, Finish]
RESIZED: list[tuple[dict[str, Any], Finish]] = [({"resize": {"flavorRef": "large"}}, made_anew)]
ROWS: list[Row] = [
    ("stop", [], {"os-stop": None}, "compute_stop_instance", saw(DEFINED)),
    ("start", [({"os-stop": None}, saw(DEFINED))], {"os-start": None}, "compute_start_instance", saw(RUNNING)),
    ("pause", [], {"pause": None}, "compute_pause_instance", saw(PAUSED)),
    ("unpause", [({"pause": None}, saw(PAUSED))], {"unpause": None}, "compute_unpause_instance", saw(RUNNING)),
    ("suspend", [], {"suspend": None}, "compute_suspend_instance", saw(SUSPENDED)),
    ("resume", [({"suspend": None}, saw(SUSPENDED))], {"resume": None}, "compute_resume_instance", saw(RUNNING)),
    ("reboot", [], {"reboot": {"type": "SOFT"}}, "compute_reboot_instance", saw(RUNNING)),
    ("reboot", [], {"reboot": {"type": "HARD"}}, "compute_reboot_instance", saw(RUNNING)),
    ("rescue", [], {"rescue": None}, "compute_rescue_instance", made_anew),
    ("unrescue", [({"rescue": None}, made_anew)], {"unrescue": None}, "compute_unrescue_instance", made_anew),
    ("rebuild", [], {"rebuild": {}}, "compute_rebuild_instance", made_anew),
    ("resize", [], {"resize": {"flavorRef": "large"}}, "compute_resize_instance", made_anew),
    ("revertResize", RESIZED, {"revertResize": None}, "compute_revert_resize", made_anew),
    ("confirmResize", RESIZED, {"confirmResize": None}, "compute_confirm_resize", at_once),
    ("lock", [], {"lock": None}, "api_lock", at_once),
    ("unlock", [({"lock": None}, at_once)], {"unlock": None}, "api_unlock", at_once),
    ("delete", [], {"forceDelete": None}, "compute_terminate_instance", removed),
    ("delete", [], None, "compute_terminate_instance", removed),
]
NAMES = [f"{row[0]}-{at}" for at, row in enumerate(ROWS)]


async def ask(stand: Stand, server_id: str, body: dict[str, Any] | None) -> None:
    if body is None:
        answer = await stand.call("DELETE", f"/servers/{server_id}", version="2.90")
    else:
        body = {"rebuild": {"imageRef": stand.image_id}} if "rebuild" in body else body
        answer = await stand.call("POST", f"/servers/{server_id}/action", body, version="2.90")
    assert answer.status_code in (200, 202, 204), answer.text


async def prepare(stand: Stand, row: Row) -> str:
    await make_large(stand)
    server_id = await stand.make_server()
    for body, finish in row[1]:
        await ask(stand, server_id, body)
        await finish(stand, server_id)
    return server_id


async def last_action(stand: Stand, server_id: str) -> dict[str, Any]:
    """The newest action, as an admin sees it whole."""
    path = f"/servers/{server_id}/os-instance-actions"
    (last, *_) = (await stand.call("GET", path, version="2.84")).json()["instanceActions"]
    answer = await stand.call("GET", f"{path}/{last['request_id']}", version="2.84", caller="admin")
    shown: dict[str, Any] = answer.json()["instanceAction"]
    assert shown.items() >= last.items()
    assert (shown["instance_uuid"], shown["project_id"]) == (server_id, PROJECTS["member"])
    assert shown["user_id"] == "u-member"
    return shown


def check_ended(shown: dict[str, Any], name: str, event: str, *, why: str | None = None) -> None:
    """The action has one event, which has ended so, behind its beginning, on the server's host."""
    (one,) = shown["events"]
    assert (shown["action"], one["event"], one["host"]) == (name, event, HOST)
    assert (one["result"], one["details"]) == ("Success" if why is None else "Error", why)
    assert shown["message"] == (None if why is None else "Error")
    assert one["start_time"] == shown["start_time"] <= one["finish_time"] == shown["updated_at"]
    assert len(one["hostId"]) == 56


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
async def test_what_is_done_has_an_action_that_succeeded(stand: Stand, row: Row) -> None:
    name, _, body, event, finish = row
    server_id = await prepare(stand, row)
    await ask(stand, server_id, body)
    if finish is not at_once:
        (begun,) = (await last_action(stand, server_id))["events"]
        assert (begun["event"], begun["result"], begun["finish_time"]) == (event, None, None)
    await finish(stand, server_id)
    check_ended(await last_action(stand, server_id), name, event)


FAILING = [row for row in ROWS if row[4] is not at_once and row[0] != "delete"]


@pytest.mark.parametrize("row", FAILING, ids=[row[0] for row in FAILING])
async def test_what_fails_has_an_action_that_says_why_and_the_server_a_fault_or_its_old_state(
    stand: Stand, row: Row
) -> None:
    name, _, body, event, _ = row
    server_id = await prepare(stand, row)
    before = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]["status"]
    await ask(stand, server_id, body)
    await stand.host_failed(server_id)
    check_ended(await last_action(stand, server_id), name, event, why="It would not.")
    shown = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]
    assert shown["OS-EXT-STS:task_state"] is None
    if shown["status"] == "ERROR":
        assert shown["fault"]["message"] == "It would not."
    else:
        assert shown["status"] == before


async def test_a_server_that_is_made_has_an_action_and_one_that_is_not_a_fault(stand: Stand) -> None:
    server_id = await stand.make_server(rung=None)
    assert (await last_action(stand, server_id))["events"][0]["result"] is None
    await stand.host_saw(server_id, DEFINED)
    await stand.host_saw(server_id, RUNNING)
    check_ended(await last_action(stand, server_id), "create", "compute__do_build_and_run_instance")
    server_id = await stand.make_server(rung=None)
    await stand.host_failed(server_id)
    event = "compute__do_build_and_run_instance"
    check_ended(await last_action(stand, server_id), "create", event, why="It would not.")
    shown = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]
    assert (shown["status"], shown["fault"]["code"], shown["fault"]["message"]) == ("ERROR", 500, "It would not.")


async def test_volumes_that_come_and_go_have_actions_of_their_own(stand: Stand) -> None:
    server_id, volume_id = await stand.make_server(), await stand.make_volume()
    await stand.attach(server_id, volume_id)
    assert (await last_action(stand, server_id))["events"][0]["result"] is None
    await stand.host_moved(server_id, volume_id, Rung.PLUGGED)
    check_ended(await last_action(stand, server_id), "attach_volume", "compute_attach_volume")
    path = f"/servers/{server_id}/os-volume_attachments/{volume_id}"
    assert (await stand.call("DELETE", path)).status_code == 202
    await stand.host_moved(server_id, volume_id, Rung.EXPORTED)
    check_ended(await last_action(stand, server_id), "detach_volume", "compute_detach_volume")
    other = await stand.make_volume()
    await stand.attach(server_id, other)
    await stand.host_refused(server_id, other, "It has no room.")
    shown = await last_action(stand, server_id)
    check_ended(shown, "attach_volume", "compute_attach_volume", why="It has no room.")


async def test_what_was_asked_for_and_given_up_says_so(stand: Stand) -> None:
    server_id = await stand.make_server()
    await ask(stand, server_id, {"pause": None})
    await ask(stand, server_id, {"reboot": {"type": "HARD"}})
    path = f"/servers/{server_id}/os-instance-actions"
    actions = (await stand.call("GET", path, version="2.84")).json()["instanceActions"]
    shown = (await stand.call("GET", f"{path}/{actions[1]['request_id']}", version="2.84")).json()["instanceAction"]
    (event,) = shown["events"]
    assert (shown["action"], event["result"]) == ("pause", "Error")
    assert event["details"] == "Another request took its place before it was done."
