"""What only a host can tell: console output, diagnostics, and how long a host is up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kevel.domain.model import ServerRung
from kevel.domain.questions import (
    Answer,
    ConsoleTail,
    DiskUsage,
    Failed,
    HostUsage,
    MeasureHost,
    MeasureServer,
    Nothing,
    Question,
    ReadConsole,
    ServerUsage,
)
from tests.integration.compute.conftest import HOST, Stand, message

TEXT = b"one\ntwo\x1b[31m\r\nthree\x00\tfour\xff\n"
USAGE = ServerUsage(
    cpu_times_ns=(700, 800),
    memory_mib_max=96,
    memory_mib=64,
    disks=(
        DiskUsage(target="sda", read_requests=1, read_bytes=512, write_requests=2, write_bytes=1024),
        DiskUsage(target="sdb", read_requests=0, read_bytes=0, write_requests=3, write_bytes=1536),
    ),
)


async def read_console(stand: Stand, server_id: str, *, caller: str = "member", **keys: Any) -> Any:
    path = f"/servers/{server_id}/action"
    return await stand.call("POST", path, {"os-getConsoleOutput": keys}, caller=caller)


@pytest.mark.parametrize(
    ("keys", "output"),
    [
        ({}, "one\ntwo[31m\nthree\tfour\ufffd\n"),
        ({"length": None}, "one\ntwo[31m\nthree\tfour\ufffd\n"),
        ({"length": -1}, "one\ntwo[31m\nthree\tfour\ufffd\n"),
        ({"length": 99}, "one\ntwo[31m\nthree\tfour\ufffd\n"),
        ({"length": 2}, "three\tfour\ufffd\n"),
        ({"length": "1"}, ""),
        ({"length": 0}, ""),
    ],
)
async def test_a_console_shows_its_last_lines_without_control_characters(
    stand: Stand, keys: dict[str, Any], output: str
) -> None:
    server_id = await stand.make_server()
    async with stand.host_sees(ConsoleTail(TEXT)) as asked:
        answer = await read_console(stand, server_id, **keys)
        assert (answer.status_code, answer.json()) == (200, {"output": output})
        assert asked == [ReadConsole(server_id)]


@pytest.mark.parametrize("length", [-2, 1.5, "few", "-2", True, [], "9" * 10])
async def test_a_length_that_is_none_is_refused(stand: Stand, length: object) -> None:
    server_id = await stand.make_server()
    answer = await read_console(stand, server_id, length=length)
    assert answer.status_code == 400, answer.text
    assert (await read_console(stand, server_id, lines=3)).status_code == 400


async def test_a_console_is_read_of_a_stopped_server_and_not_of_one_that_is_being_made(stand: Stand) -> None:
    server_id = await stand.make_server(rung=None)
    answer = await read_console(stand, server_id)
    assert (answer.status_code, message(answer)) == (409, f"Instance {server_id} is not ready")
    await stand.host_saw(server_id, ServerRung.DEFINED)
    async with stand.host_sees(ConsoleTail(b"")):
        assert (await read_console(stand, server_id)).json() == {"output": ""}


async def test_a_host_that_does_not_answer_or_cannot_look_is_named(stand: Stand) -> None:
    server_id = await stand.make_server()
    stand.hosts.questions.wait_s = 0.01
    for method, path, body in (
        ("POST", f"/servers/{server_id}/action", {"os-getConsoleOutput": {}}),
        ("GET", f"/servers/{server_id}/diagnostics", None),
    ):
        for version in ("2.47", "2.48"):
            answer = await stand.call(method, path, body, caller="admin", version=version)
            assert answer.status_code == 503, answer.text
            assert HOST in answer.json()["serviceUnavailable"]["message"]
    stand.hosts.questions.wait_s = 30.0
    async with stand.host_sees(Failed("It cannot be read.")):
        answer = await read_console(stand, server_id)
        assert answer.json()["serviceUnavailable"] == {"code": 503, "message": "It cannot be read."}


async def test_an_answer_that_is_late_or_anothers_is_nothing(stand: Stand) -> None:
    server_id = await stand.make_server()
    stand.hosts.questions.wait_s = 2.0
    asking = asyncio.create_task(read_console(stand, server_id))
    questions: tuple[Question, ...] = ()
    while not questions:
        questions = (await stand.hosts.changes(HOST, 0)).questions
        await asyncio.sleep(0)
    (question,) = questions
    wrong = Answer(question_id=question.id, sight=ConsoleTail(b"wrong"))
    await stand.hosts.answer("host-2", wrong)
    assert (await stand.hosts.changes(HOST, 0)).questions == ()  # told once
    assert (await asking).status_code == 503
    await stand.hosts.answer(HOST, wrong)


async def test_diagnostics_have_libvirts_names_until_2_47_and_one_shape_from_then_on(stand: Stand) -> None:
    server_id = await stand.make_server()
    path = f"/servers/{server_id}/diagnostics"
    assert (await stand.call("GET", path)).status_code == 403
    async with stand.host_sees(USAGE) as asked:
        old = (await stand.call("GET", path, caller="admin", version="2.47")).json()
        new = (await stand.call("GET", path, caller="admin", version="2.48")).json()
        assert asked == [MeasureServer(server_id)] * 2
    assert (old["cpu1_time"], old["sdb_write"], old["sda_read_req"], old["memory"]) == (800, 1536, 1, 96 * 1024)
    assert 0 <= new.pop("uptime") < 60
    assert new == {
        "state": "running",
        "driver": "libvirt",
        "hypervisor": "qemu",
        "hypervisor_os": "linux",
        "config_drive": False,
        "num_cpus": 2,
        "num_disks": 2,
        "num_nics": 0,
        "cpu_details": [
            {"id": 0, "time": 700, "utilisation": None},
            {"id": 1, "time": 800, "utilisation": None},
        ],
        "disk_details": [
            {
                "read_bytes": disk.read_bytes,
                "read_requests": disk.read_requests,
                "write_bytes": disk.write_bytes,
                "write_requests": disk.write_requests,
                "errors_count": None,
            }
            for disk in USAGE.disks
        ],
        "nic_details": [],
        "memory_details": {"maximum": 96, "used": 64},
    }


@pytest.mark.parametrize("version", ["2.1", "2.48"])
@pytest.mark.parametrize("rung", [ServerRung.DEFINED, ServerRung.RUNNING])
async def test_a_guest_that_does_not_run_has_no_diagnostics(stand: Stand, version: str, rung: ServerRung) -> None:
    server_id = await stand.make_server(rung)
    async with stand.host_sees(Nothing()):
        answer = await stand.call("GET", f"/servers/{server_id}/diagnostics", caller="admin", version=version)
    assert answer.status_code == 409, answer.text
    assert "get_diagnostics" in message(answer)


async def test_a_host_tells_how_long_it_is_up(stand: Stand) -> None:
    usage = HostUsage(up_s=2 * 86400 + 13 * 3600 + 27 * 60, load=(0.21, 0.06, 1))
    tail = " up 2 days, 13:27,  0 users,  load average: 0.21, 0.06, 1.00"
    async with stand.host_sees(usage) as asked:
        old = (await stand.call("GET", "/os-hypervisors/1/uptime", caller="admin")).json()["hypervisor"]
        assert old.pop("uptime").endswith(tail)
        assert old == {"id": 1, "hypervisor_hostname": "host-1.example", "state": "up", "status": "enabled"}
        (new,) = (await stand.call("GET", "/os-hypervisors/detail", caller="admin", version="2.88")).json()[
            "hypervisors"
        ]
        assert new["uptime"].endswith(tail)
        path = f"/os-hypervisors/{new['id']}"
        shown = (await stand.call("GET", path, caller="admin", version="2.88")).json()["hypervisor"]
        assert shown["uptime"].endswith(tail)
        assert asked == [MeasureHost()] * 3
        gone = await stand.call("GET", f"{path}/uptime", caller="admin", version="2.88")
        assert gone.status_code == 404
    stand.hosts.questions.wait_s = 0.01
    shown = (await stand.call("GET", path, caller="admin", version="2.88")).json()["hypervisor"]
    assert shown["uptime"] is None
    assert (await stand.call("GET", "/os-hypervisors/1/uptime", caller="admin")).status_code == 503
    assert (await stand.call("GET", "/os-hypervisors/9/uptime", caller="admin")).status_code == 404


async def test_a_host_that_is_silent_is_not_asked(stand: Stand) -> None:
    await stand.silence_host()
    answer = await stand.call("GET", "/os-hypervisors/1/uptime", caller="admin")
    assert (answer.status_code, "host-1" in message(answer)) == (400, True)
