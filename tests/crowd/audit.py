"""Was a refusal right? The records say when each volume was free: a request that met nothing else must not be refused.

A volume is *plain* from the end of one thing that occupied it to the beginning of the next: an operation, or a claim. A
request whose whole duration lies in such a time, on a server that was idle, met a volume that was available.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.crowd.users import Refusal

#: Clocks are the same; what a transaction calls "now" was drawn a little before it ran.
SLACK_US: Final = 250_000
#: What an available volume may be asked for at any time.
ALLOWED: Final = frozenset({"attach", "extend", "snapshot"})
_BUSY: Final = """
    SELECT subject_id AS volume_id, created_at AS since, finished_at AS until FROM operations WHERE subject = 'volume'
    UNION ALL SELECT volume_id, claimed_at, released_at FROM claims
    UNION ALL SELECT id, 0, created_at FROM volumes
    UNION ALL SELECT id, deleted_at, NULL FROM volumes WHERE deleted_at IS NOT NULL
    ORDER BY 1, 2
"""


def find_unjust(database: Path, refusals: list[Refusal]) -> Iterator[str]:
    """Refusals of what the rules allow."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        busy = _read_busy(connection)
    for one in refusals:
        if one.what in ALLOWED and _was_plain(busy.get(one.volume_id, []), one):
            yield f"{one.what} of volume {one.volume_id}, which was available: {one.status} {one.message}"


def _read_busy(connection: sqlite3.Connection) -> dict[str, list[tuple[int, int]]]:
    """By volume: when it was occupied, joined and in order."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for volume_id, since, until in connection.execute(_BUSY):
        end = 1 << 62 if until is None else until
        spans = found[volume_id]
        if spans and since <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((since, end))
    return found


def _was_plain(busy: list[tuple[int, int]], refusal: Refusal) -> bool:
    begin, end = refusal.asked_at - SLACK_US, refusal.answered_at + SLACK_US
    place = bisect_right(busy, (end, 1 << 62))
    return bool(busy) and (place == 0 or busy[place - 1][1] < begin)
