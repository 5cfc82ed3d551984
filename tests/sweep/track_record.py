"""Writes what a sweep came to into docs/track-record.md, between its marks."""

from __future__ import annotations

from pathlib import Path

from tests.sweep.operations import OPERATIONS
from tests.sweep.sweep import Tally

RECORD = Path(__file__).parents[2] / "docs" / "track-record.md"


def write_sweep(tally: Tally) -> None:
    """Replace the table of this depth by the one of this run."""
    name = "singles" if tally.depth == 1 else "pairs"
    begin, end = f"<!-- {name}: written by python -m tests.sweep -->", f"<!-- end of {name} -->"
    text = RECORD.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    RECORD.write_text(f"{before}{begin}\n{markdown(tally)}\n{end}{after}", encoding="utf-8")


def markdown(tally: Tally) -> str:
    """The table of a sweep, and what it cost."""
    lines = ["| operation | where | points | cases | residue |", "|---|---|---:|---:|---:|"]
    order = [one.name for one in OPERATIONS]
    rows = sorted(tally.rows.values(), key=lambda one: (order.index(one.operation), one.place))
    lines += [f"| {row.operation} | {row.place} | {row.points} | {row.cases:,} | {row.residue} |" for row in rows]
    residue = sum(row.residue for row in tally.rows.values())
    lines.append(f"| **all** | | | **{tally.cases:,}** | **{residue}** |")
    share = "every case" if tally.one_in == 1 else f"each {tally.one_in}th of the pairs"
    lines += ["", f"{share.capitalize()}, {tally.cpu_s:.0f} CPU seconds."]
    return "\n".join(lines)
