"""What a server's host says of it: console output, and diagnostics."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from msgspec import Meta, Struct, field

from kevel.api.compute import replies
from kevel.api.compute.shapes import v
from kevel.api.operations import Call, Operation, Policy, Reply
from kevel.control.hosts.readings import ServerReading
from kevel.domain.questions import DiskUsage

#: A number of lines; -1: all that are kept.
Lines = Annotated[int, Meta(ge=-1, le=2**31)] | Annotated[str, Meta(pattern=r"^(-1|[0-9]{1,9})\Z")]
#: What would move a terminal's cursor, colour it or worse, and all that Nova takes out.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f]")


class ConsoleKeys(Struct, forbid_unknown_fields=True):
    """How much of it."""

    length: Lines | None = None


class ConsoleBody(Struct, forbid_unknown_fields=True):
    """The action `os-getConsoleOutput`."""

    console: ConsoleKeys = field(name="os-getConsoleOutput")


async def show_console(call: Call) -> Reply:
    body: ConsoleBody = call.body
    asked = body.console.length
    text = await call.services.readings.read_console(call.actor, call.path["server_id"])
    return Reply(body={"output": _CONTROL.sub("", _tail(text, -1 if asked is None else int(asked)))})


def _tail(text: str, lines: int) -> str:
    """The last lines of a text; what stands behind the last line break is one more, as Nova counts."""
    if lines < 0:
        return text
    return "\n".join(text.split("\n")[-lines:]) if lines else ""


async def show_diagnostics(call: Call) -> Reply:
    reading = await call.services.readings.measure_server(call.actor, call.path["server_id"])
    return Reply(body=_show_old(reading) if call.version < v(48) else _show(call, reading))


def _show_old(reading: ServerReading) -> dict[str, int]:
    """The names of libvirt's driver, which were all there was until 2.47."""
    usage = reading.usage
    shown = {f"cpu{number}_time": time for number, time in enumerate(usage.cpu_times_ns)}
    for disk in usage.disks:
        shown |= {
            f"{disk.target}_read": disk.read_bytes,
            f"{disk.target}_read_req": disk.read_requests,
            f"{disk.target}_write": disk.write_bytes,
            f"{disk.target}_write_req": disk.write_requests,
            f"{disk.target}_errors": -1,
        }
    return shown | {"memory": usage.memory_mib_max * 1024, "memory-actual": usage.memory_mib * 1024}


def _show(call: Call, reading: ServerReading) -> dict[str, Any]:
    usage, launched_at = reading.usage, reading.server.launched_at or reading.server.created_at
    return {
        "state": "running",
        # Nova has a closed list of drivers, and clients hold answers against it.
        "driver": "libvirt",
        "hypervisor": str(reading.host.facts["hypervisor_type"]).lower(),
        "hypervisor_os": "linux",
        "uptime": max(0, call.services.runtime.clock.now_us() - launched_at) // 1_000_000,
        "config_drive": False,
        "num_cpus": len(usage.cpu_times_ns),
        "num_disks": len(usage.disks),
        "num_nics": 0,
        "cpu_details": [
            {"id": number, "time": time, "utilisation": None} for number, time in enumerate(usage.cpu_times_ns)
        ],
        "disk_details": [_show_disk(disk) for disk in usage.disks],
        "nic_details": [],
        "memory_details": {"maximum": usage.memory_mib_max, "used": usage.memory_mib},
    }


def _show_disk(disk: DiskUsage) -> dict[str, int | None]:
    return {
        "read_bytes": disk.read_bytes,
        "read_requests": disk.read_requests,
        "write_bytes": disk.write_bytes,
        "write_requests": disk.write_requests,
        "errors_count": None,
    }


OPERATIONS: Final = (
    Operation(
        name="showConsoleOutput",
        reply=replies.CONSOLE,
        method="POST",
        path="/servers/{server_id}/action",
        action="os-getConsoleOutput",
        handler=show_console,
        policy=Policy.MEMBER,
        errors=(400, 404, 409, 503),
        body=ConsoleBody,
    ),
    Operation(
        name="showDiagnostics",
        reply=dict[str, int],
        method="GET",
        path="/servers/{server_id}/diagnostics",
        handler=show_diagnostics,
        policy=Policy.ADMIN,
        errors=(404, 409, 503),
        until=v(47),
    ),
    Operation(
        name="showNamedDiagnostics",
        reply=replies.Diagnostics,
        method="GET",
        path="/servers/{server_id}/diagnostics",
        handler=show_diagnostics,
        policy=Policy.ADMIN,
        errors=(404, 409, 503),
        since=v(48),
    ),
)
