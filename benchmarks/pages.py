"""Pages of long lists: what a page costs must not grow with the rows that are not on it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure, Section, median
from benchmarks.http import Connection, log_in
from benchmarks.stand import VOLUME_TIMEOUT_S, temporary_kevel

SIZES: Final = (1_000, 10_000, 100_000)
ROUNDS: Final = 15
PAGE_ROWS: Final = 1000
MARK_MS: Final = 40
#: What is asked for; `{middle}` is the id of the volume in the middle of the list. Of a hundred rows one has a fault.
QUERIES: Final = {
    "the first 100": "limit=100",
    "1,000, filtered by zone and name": f"limit={PAGE_ROWS}&availability_zone=nova&name~=page",
    "1,000 that are available": f"limit={PAGE_ROWS}&status=available",
    "100 from the middle": "limit=100&marker={middle}",
    "100 with an error": "limit=100&status=error",
    "100 by name": "limit=100&sort=name:asc",
}
#: The filtered thousand is what the mark speaks of.
MARKED: Final = "1,000, filtered by zone and name"


def measure_pages() -> Section:
    """Each page at each size, with the ratio to the smallest."""
    taken: dict[tuple[str, int], float] = {}
    with temporary_kevel("sim") as process:
        process.start().create_volume("page", 1, VOLUME_TIMEOUT_S)
        process.stop()
        for size in SIZES:
            _fill(process.data, size)
            process.start()
            for name, value in asyncio.run(_measure(process.data, size)).items():
                taken[name, size] = value
            process.stop()
    figures: list[Figure] = []
    for name in QUERIES:
        for size in SIZES:
            value = taken[name, size]
            note = "" if size == SIZES[0] else f"{value / taken[name, SIZES[0]]:.1f} times that of {SIZES[0]:,}"
            mark = MARK_MS if name == MARKED and size == 10_000 else None
            figures.append(Figure(name=f"{name}, of {size:,}", value=value, unit="ms", mark=mark, note=note))
    return Section(title="Pages of long lists", figures=figures)


def _fill(data: Path, size: int) -> None:
    """Copies of the first volume, each with an empty file of its own."""
    with closing(sqlite3.connect(data / "kevel.db")) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(volumes)")]
        first = connection.execute("SELECT * FROM volumes ORDER BY created_at LIMIT 1").fetchone()
        one = dict(zip(columns, first, strict=True))
        (file,) = (data / "volumes").rglob(f"*{one['id']}*")
        known = connection.execute("SELECT count(*) FROM volumes").fetchone()[0]
        rows = []
        for number in range(known, size):
            row = one | {"id": str(uuid.uuid4()), "name": f"page-{number}", "created_at": one["created_at"] + number}
            with file.with_name(file.name.replace(one["id"], row["id"])).open("xb") as made:
                made.truncate(file.stat().st_size)
            if number % 100 == 0:
                row["fault"] = '{"code":"creating_failed","message":"no","at":1}'
            rows.append(tuple(row.values()))
        connection.executemany(f"INSERT INTO volumes VALUES ({','.join('?' * len(columns))})", rows)  # noqa: S608
        connection.commit()


async def _measure(data: Path, size: int) -> dict[str, float]:
    found: dict[str, float] = {}
    async with Connection(log_in(data)) as connection:
        path = "/volume/v3/volumes"
        middle = (await connection.send("GET", f"{path}?limit=1&offset={size // 2}")).json()["volumes"][0]["id"]
        for name, query in QUERIES.items():
            asked, taken = f"{path}?{query.format(middle=middle)}", []
            assert (await connection.send("GET", asked)).json()["volumes"], f"{query} lists nothing"
            for _ in range(ROUNDS):
                started = time.perf_counter()
                await connection.send("GET", asked)
                taken.append((time.perf_counter() - started) * 1e3)
            found[name] = median(taken)
    return found
