"""Pausing, suspending, resetting: the states in which Nova allows them, and what is shown meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from kevel.domain.ladder import Rung
from kevel.domain.model import Reason, ServerRung
from tests.integration.compute.conftest import Stand, message

#: How a server comes to each state: what is asked, and where its host sees it afterwards.
WAYS: dict[str, tuple[tuple[dict[str, Any], ServerRung], ...]] = {
    "ACTIVE": (),
    "SHUTOFF": (({"os-stop": None}, ServerRung.DEFINED),),
    "PAUSED": (({"pause": None}, ServerRung.PAUSED),),
    "SUSPENDED": (({"suspend": None}, ServerRung.SUSPENDED),),
    "ERROR": (({"os-resetState": {"state": "error"}}, ServerRung.RUNNING),),
}
SOFT, HARD = {"reboot": {"type": "SOFT"}}, {"reboot": {"type": "HARD"}}
#: What may be asked in which states, and the task that it begins.
ALLOWED: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"os-start": None}, {"SHUTOFF": "powering-on"}),
    ({"os-stop": None}, {"ACTIVE": "powering-off", "ERROR": "powering-off"}),
    ({"pause": None}, {"ACTIVE": "pausing"}),
    ({"unpause": None}, {"PAUSED": "unpausing"}),
    ({"suspend": None}, {"ACTIVE": "suspending"}),
    ({"resume": None}, {"SUSPENDED": "resuming"}),
    (SOFT, {"ACTIVE": "rebooting"}),
    (
        HARD,
        {
            "ACTIVE": "rebooting_hard",
            "SHUTOFF": "powering-on",
            "PAUSED": "rebooting_hard",
            "SUSPENDED": "rebooting_hard",
            "ERROR": "rebooting_hard",
        },
    ),
]


async def act(stand: Stand, server_id: str, body: dict[str, Any], *, caller: str = "member") -> tuple[int, str]:
    answer = await stand.call("POST", f"/servers/{server_id}/action", body, caller=caller)
    return answer.status_code, "" if answer.status_code == 202 else message(answer)


async def show(stand: Stand, server_id: str) -> tuple[str, str | None, int]:
    shown = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]
    return shown["status"], shown["OS-EXT-STS:task_state"], shown["OS-EXT-STS:power_state"]


async def make(stand: Stand, state: str) -> str:
    server_id = await stand.make_server()
    for body, rung in WAYS[state]:
        assert (await act(stand, server_id, body, caller="admin"))[0] == 202
        if rung is not ServerRung.RUNNING:
            await stand.host_saw(server_id, rung)
    assert (await show(stand, server_id))[:2] == (state, None)
    return server_id


@pytest.mark.parametrize("state", WAYS)
async def test_each_action_is_accepted_in_novas_states_and_409_in_the_others(stand: Stand, state: str) -> None:
    for body, states in ALLOWED:
        server_id = await make(stand, state)
        code, text = await act(stand, server_id, body)
        name = next(iter(body)).removeprefix("os-")
        if state in states:
            assert code == 202, (state, body, text)
            assert (await show(stand, server_id))[1] == states[state]
        else:
            assert code == 409, (state, body)
            assert text.startswith(f"Cannot '{name}' instance {server_id} while it is in vm_state"), text
            assert (await show(stand, server_id))[:2] == (state, None), "it changed nothing"
        await stand.call("DELETE", f"/servers/{server_id}")
        await stand.host_saw(server_id, ServerRung.PLACED)


@pytest.mark.parametrize(
    ("there", "rung", "back", "shown"),
    [
        ("pause", ServerRung.PAUSED, "unpause", ("PAUSED", 3)),
        ("suspend", ServerRung.SUSPENDED, "resume", ("SUSPENDED", 4)),
    ],
)
async def test_there_and_back_each_has_its_action_with_its_event(
    stand: Stand, there: str, rung: ServerRung, back: str, shown: tuple[str, int]
) -> None:
    server_id = await stand.make_server()
    assert (await act(stand, server_id, {there: None}))[0] == 202
    await stand.host_saw(server_id, rung)
    status, task, power = await show(stand, server_id)
    assert (status, power, task) == (*shown, None)
    assert (await act(stand, server_id, {back: None}))[0] == 202
    await stand.host_saw(server_id, ServerRung.RUNNING)
    assert await show(stand, server_id) == ("ACTIVE", None, 1)
    path = f"/servers/{server_id}/os-instance-actions"
    listed = (await stand.call("GET", path, version="2.84")).json()["instanceActions"]
    assert [one["action"] for one in listed] == [back, there, "create"]
    for one in listed[:2]:
        action = (await stand.call("GET", f"{path}/{one['request_id']}", version="2.84")).json()["instanceAction"]
        (event,) = action["events"]
        assert (event["event"], event["result"]) == (f"compute_{one['action']}_instance", "Success")


@pytest.mark.parametrize("key", ["pause", "unpause", "suspend", "resume"])
async def test_a_locked_server_and_another_projects_are_not_touched(stand: Stand, key: str) -> None:
    server_id = await stand.make_server()
    assert (await act(stand, server_id, {"lock": None}))[0] == 202
    assert await act(stand, server_id, {key: None}) == (409, f"Instance {server_id} is locked")
    assert (await act(stand, server_id, {key: None}, caller="other"))[0] == 404
    assert (await show(stand, server_id))[:2] == ("ACTIVE", None)


@pytest.mark.parametrize("state", ["PAUSED", "SUSPENDED"])
async def test_a_guest_that_ends_meanwhile_leaves_its_server_stopped_with_the_reason(stand: Stand, state: str) -> None:
    server_id = await make(stand, state)
    reason = Reason(code="guest_crashed", message="The server's guest process died.", at=stand.now)
    await stand.host_saw(server_id, ServerRung.DEFINED, ended=reason)
    assert (await show(stand, server_id))[:2] == ("SHUTOFF", None)


@pytest.mark.parametrize(("key", "state"), [("unpause", "PAUSED"), ("resume", "SUSPENDED"), ("pause", "ACTIVE")])
async def test_an_action_that_fails_leaves_the_server_as_it_was_and_says_why(
    stand: Stand, key: str, state: str
) -> None:
    server_id = await make(stand, state)
    assert (await act(stand, server_id, {key: None}))[0] == 202
    await stand.host_failed(server_id)
    assert (await show(stand, server_id))[:2] == (state, None)
    path = f"/servers/{server_id}/os-instance-actions"
    (last, *_) = (await stand.call("GET", path, version="2.84")).json()["instanceActions"]
    assert (last["action"], last["message"]) == (key, "Error")
    assert (await act(stand, server_id, {key: None}))[0] == 202, "it may be asked for again"


@pytest.mark.parametrize(("state", "attach", "detach"), [("PAUSED", 200, 202), ("SUSPENDED", 409, 409)])
async def test_volumes_come_and_go_in_novas_states_and_stay_attached_in_all(
    stand: Stand, state: str, attach: int, detach: int
) -> None:
    server_id, first, second = await stand.make_server(), await stand.make_volume(), await stand.make_volume()
    await stand.attach(server_id, first)
    await stand.host_moved(server_id, first, Rung.PLUGGED)
    for body, rung in WAYS[state]:
        await act(stand, server_id, body)
        await stand.host_saw(server_id, rung)
    shown = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]
    assert [one["id"] for one in shown["os-extended-volumes:volumes_attached"]] == [first]
    assert (await stand.attach(server_id, second)).status_code == attach
    gone = await stand.call("DELETE", f"/servers/{server_id}/os-volume_attachments/{first}")
    assert gone.status_code == detach


async def test_an_admin_sets_and_takes_away_an_error_and_nothing_else_is_claimed(stand: Stand) -> None:
    server_id = await stand.make_server()
    assert (await act(stand, server_id, {"os-resetState": {"state": "error"}}))[0] == 403
    assert (await act(stand, server_id, {"os-resetState": {"state": "error"}}, caller="admin"))[0] == 202
    shown = (await stand.call("GET", f"/servers/{server_id}")).json()["server"]
    assert (shown["status"], shown["OS-EXT-STS:power_state"]) == ("ERROR", 1), "it runs all the same"
    assert shown["fault"]["message"] == "An admin has set the server to error."
    assert (await stand.attach(server_id, await stand.make_volume())).status_code == 409
    assert (await act(stand, server_id, {"os-resetState": {"state": "active"}}, caller="admin"))[0] == 202
    assert (await show(stand, server_id))[:2] == ("ACTIVE", None)


async def test_a_stopped_server_that_is_reset_to_active_is_still_shown_as_stopped(stand: Stand) -> None:
    server_id = await make(stand, "SHUTOFF")
    for state in ("error", "active"):
        assert (await act(stand, server_id, {"os-resetState": {"state": state}}, caller="admin"))[0] == 202
    assert (await show(stand, server_id))[:2] == ("SHUTOFF", None)


async def test_a_reset_gives_up_what_is_under_way_and_its_action_ends_in_error(stand: Stand) -> None:
    server_id = await stand.make_server()
    await act(stand, server_id, {"pause": None})
    assert (await act(stand, server_id, {"os-resetState": {"state": "active"}}, caller="admin"))[0] == 202
    assert (await show(stand, server_id))[:2] == ("ACTIVE", None)
    path = f"/servers/{server_id}/os-instance-actions"
    (last, *_) = (await stand.call("GET", path, version="2.84")).json()["instanceActions"]
    assert (last["action"], last["message"]) == ("pause", "Error")


async def test_a_reset_neither_ends_a_deletion_nor_hides_it(stand: Stand) -> None:
    server_id = await stand.make_server()
    await stand.call("DELETE", f"/servers/{server_id}")
    assert (await act(stand, server_id, {"os-resetState": {"state": "active"}}, caller="admin"))[0] == 202
    assert (await show(stand, server_id))[1] == "deleting"
    await stand.host_saw(server_id, ServerRung.PLACED)
    assert (await stand.call("GET", f"/servers/{server_id}")).status_code == 404


async def test_a_server_that_never_ran_and_is_reset_is_built_after_all(stand: Stand) -> None:
    server_id = await stand.make_server(None)
    assert (await act(stand, server_id, {"os-resetState": {"state": "error"}}, caller="admin"))[0] == 202
    assert (await show(stand, server_id))[:2] == ("ERROR", None)
    assert (await act(stand, server_id, {"os-resetState": {"state": "active"}}, caller="admin"))[0] == 202
    assert (await show(stand, server_id))[:2] == ("BUILD", "spawning")
    await stand.host_saw(server_id, ServerRung.RUNNING)
    assert (await show(stand, server_id))[:2] == ("ACTIVE", None)


@pytest.mark.parametrize("value", [{}, {"state": "deleted"}, {"state": None}, {"state": "error", "why": "x"}, None])
async def test_what_is_no_state_to_reset_to_is_400(stand: Stand, value: object) -> None:
    server_id = await stand.make_server()
    assert (await act(stand, server_id, {"os-resetState": value}, caller="admin"))[0] == 400
    assert (await act(stand, "0" * 32, {"os-resetState": {"state": "error"}}, caller="admin"))[0] == 404


async def test_a_forced_deletion_is_a_deletion_and_none_is_undone(stand: Stand) -> None:
    server_id = await stand.make_server()
    code, text = await act(stand, server_id, {"restore": None})
    assert (code, text) == (409, f"Cannot 'restore' instance {server_id} while it is in vm_state active")
    assert (await act(stand, server_id, {"lock": None}))[0] == 202
    assert (await act(stand, server_id, {"forceDelete": None}))[0] == 409
    assert (await act(stand, server_id, {"unlock": None}))[0] == 202
    assert (await act(stand, server_id, {"forceDelete": None}, caller="other"))[0] == 404
    assert (await act(stand, server_id, {"forceDelete": None}))[0] == 202
    assert (await show(stand, server_id))[1] == "deleting"
    await stand.host_saw(server_id, ServerRung.PLACED)
    assert (await stand.call("GET", f"/servers/{server_id}")).status_code == 404
