"""What one attach passes through: our functions and files, its durable writes, the rows that they write.

`kevel up` runs as it always does, with a profile hook in its processes (`trace_hook`). One attach is traced, from the
request until the volume is `in-use`; nobody polls meanwhile. The method is the one that Nova and Cinder were measured
with: every distinct function of the project's own that is called. The list itself is written by
`python -m benchmarks.trace_attach DRIVER FILE`.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console

import kevel
from benchmarks.cycles import run_cycle
from benchmarks.figures import Figure, Section, as_table
from benchmarks.http import Connection, log_in
from benchmarks.stand import VOLUME_TIMEOUT_S, boot_server, temporary_kevel
from kevel.cli.process import KevelProcess

HOOK: Final = Path(__file__).parent / "trace_hook"
SOURCE: Final = str(Path(kevel.__file__).parent)
#: An attach is long complete by then.
QUIET_S: Final = 1.0
POLL_S: Final = 0.005
#: The act in which the request reaches the hypervisor, and the writer's own functions for a transaction.
PLUG: Final = {"sim": "SimHypervisor.plug_disk", "libvirt": "Session.plug_disk"}
COMMIT: Final = "Batcher._commit"
JOB: Final = "Batcher._run_job"


class Called(NamedTuple):
    """One call of a function of ours."""

    at_ns: int
    pid: int
    file: str
    #: Comprehensions and lambdas count as the function that they stand in.
    function: str


def measure_trace(hypervisor: str = "sim", listing: Path | None = None) -> Section:
    """Trace one attach with that driver; `listing` gets every function in the order of its first call."""
    with temporary_kevel(hypervisor) as process:
        trace = process.data.with_name("calls.txt")
        hook = {"PYTHONPATH": str(HOOK), "KEVEL_TRACE_FILE": str(trace), "KEVEL_TRACE_FOLDER": SOURCE}
        os.environ.update(hook)
        try:
            cloud = process.start()
        finally:
            for name in hook:
                del os.environ[name]
        server_id = boot_server(cloud, "trace")
        volume_id = cloud.create_volume("trace", 1, VOLUME_TIMEOUT_S)
        rows, calls = asyncio.run(_trace_one(process, trace, server_id, volume_id))
    if listing is not None:
        listing.write_text(
            "".join(f"{name}\n" for name in dict.fromkeys(f"{one.file}: {one.function}" for one in calls))
        )
    title = f"One attach, from the HTTP request on ({hypervisor} driver)"
    return Section(title=title, figures=_show(calls, rows, PLUG[hypervisor]))


async def _trace_one(
    process: KevelProcess, trace: Path, server_id: str, volume_id: str
) -> tuple[Counter[str], list[Called]]:
    async with Connection(log_in(process.data)) as connection:
        await run_cycle(
            connection, server_id, volume_id, poll_s=POLL_S
        )  # so that first times (caches, threads) are behind us
        await asyncio.sleep(QUIET_S)
        before, started_ns = _read_rows(process.data), time.monotonic_ns()
        path = f"/compute/v2.1/servers/{server_id}/os-volume_attachments"
        await connection.send("POST", path, {"volumeAttachment": {"volumeId": volume_id}})
        await asyncio.sleep(QUIET_S)
        ended_ns = time.monotonic_ns()
        answer = await connection.send("GET", f"/volume/v3/volumes/{volume_id}")
        assert answer.json()["volume"]["status"] == "in-use", "the attach is not complete; make QUIET_S longer"
        rows = Counter(str(row[0]) for row in _read_rows(process.data) - before)
    return rows, [call for call in _read_calls(trace) if started_ns <= call.at_ns <= ended_ns]


def _read_calls(trace: Path) -> Iterator[Called]:
    for line in trace.read_text().splitlines():
        at_ns, pid, file, function = line.split(" ", 3)
        owner = function.partition(".<locals>.<")[0]
        yield Called(int(at_ns), int(pid), file.removeprefix(f"{SOURCE}/"), owner)


def _read_rows(data: Path) -> set[tuple[object, ...]]:
    """Every row of every table, the table's name in front; read from outside."""
    database = sqlite3.connect(f"file:{data / 'kevel.db'}?mode=ro", uri=True)
    try:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        # Names come from the schema, so they are safe to stand in a statement.
        return {(name, *row) for name in names for row in database.execute(f'SELECT * FROM "{name}"')}  # noqa: S608
    finally:
        database.close()


def _show(calls: Sequence[Called], rows: Counter[str], plug: str) -> list[Figure]:
    to_plug = calls[: 1 + next(number for number, call in enumerate(calls) if call.function == plug)]
    note = ", ".join(f"{count} {name}" for name, count in sorted(rows.items()))
    figures: list[Figure] = []
    for what, part, marks in (("to the hypervisor", to_plug, (40.0, 12.0)), ("to in-use", calls, (None, None))):
        functions, files = {call[2:] for call in part}, {call.file for call in part}
        figures += [
            Figure(name=f"functions of ours, {what}", value=len(functions), unit="", mark=marks[0], note="Nova: 619"),
            Figure(name=f"files of ours, {what}", value=len(files), unit="", mark=marks[1], note="Nova: 94"),
        ]
    figures += [
        Figure(name="calls of ours, to in-use", value=len(calls), unit="", note="Nova and Cinder: 2,357"),
        Figure(name="processes", value=len({call.pid for call in calls}), unit=""),
        Figure(name="durable writes (commits)", value=_count(calls, COMMIT), unit="", mark=4, note="Nova: 20"),
        Figure(name="transactions in them", value=_count(calls, JOB), unit=""),
        Figure(name="rows written (new or changed)", value=rows.total(), unit="", note=note),
    ]
    return figures


def _count(calls: Sequence[Called], function: str) -> int:
    return sum(call.function == function for call in calls)


if __name__ == "__main__":
    driver, listing = (*sys.argv[1:], None, None)[:2]
    Console().print(as_table(measure_trace(driver or "sim", Path(listing) if listing else None)))
