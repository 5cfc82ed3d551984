"""Sweep faults over every point of every operation: `python -m tests.sweep --help`."""

from __future__ import annotations

import argparse
import os
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation.faults import Fault
from tests.simulation.story import tell
from tests.sweep.cases import PLACES, Case, make_run, play
from tests.sweep.operations import OPERATIONS
from tests.sweep.sweep import Tally, sweep
from tests.sweep.track_record import write_sweep

#: Broken cases that are printed in full.
SHOWN_MAX = 20


def table_of(tally: Tally) -> Table:
    """Operation, points, cases, residue."""
    table = Table()
    for name in ("operation", "place"):
        table.add_column(name)
    for name in ("points", "cases", "residue"):
        table.add_column(name, justify="right")
    for row in sorted(tally.rows.values(), key=lambda one: [op.name for op in OPERATIONS].index(one.operation)):
        table.add_row(row.operation, row.place, str(row.points), str(row.cases), str(row.residue))
    return table


def run_sweep(wanted: argparse.Namespace) -> int:
    """0 when no case left anything."""
    console = Console(stderr=True)
    columns = (TextColumn("cases"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("cases")
        tally = sweep(
            wanted.depth,
            jobs=wanted.jobs,
            operations=wanted.operation,
            one_in=wanted.one_in,
            told=lambda done, known: progress.update(task, completed=done, total=known),
        )
    for outcome in tally.broken[:SHOWN_MAX]:
        console.print(f"{outcome.case}: {outcome.error}", markup=False, highlight=False, soft_wrap=True)
        script = ",".join(f"{number}:{fault.name}" for number, fault in outcome.case.script)
        place = PLACES.index(outcome.case.place)
        again = f'python -m tests.sweep --operation "{outcome.case.operation}" --place {place} --script {script}'
        console.print(f"  tell it: {again}", markup=False, highlight=False, soft_wrap=True)
    out = Console()
    if wanted.json:
        out.print_json(data={"rows": [vars(row) for row in tally.rows.values()], "cpu_s": tally.cpu_s})
    else:
        out.print(table_of(tally))
        out.print(f"{tally.cases} cases, {len(tally.broken)} with residue, {tally.cpu_s:.0f} CPU seconds")
    if wanted.write:
        write_sweep(tally)
    return 1 if tally.broken else 0


def tell_case(wanted: argparse.Namespace) -> int:
    """Repeat one case and tell its story."""
    faults = [one.partition(":") for one in wanted.script.split(",") if one]
    script = tuple((int(number), Fault[name]) for number, _, name in faults)
    case = Case(wanted.operation[0], PLACES[wanted.place], script)
    run = make_run(case, story=True)
    return tell(run, lambda: play(case, run).error)


def main() -> int:
    """Parse the arguments; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.sweep", description=__doc__)
    parser.add_argument("--depth", type=int, choices=(1, 2), default=1, help="faults in a case: singles, or pairs too")
    parser.add_argument("--one-in", type=int, default=1, metavar="N", help="play each N-th of the deepest cases only")
    parser.add_argument("--operation", action="append", default=[], choices=[one.name for one in OPERATIONS])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--write", action="store_true", help="write the table to docs/track-record.md")
    parser.add_argument("--place", type=int, choices=range(len(PLACES)), default=0, help="with --script: where")
    parser.add_argument("--script", help="repeat one case and tell it: POINT:FAULT,...")
    wanted = parser.parse_args()
    return tell_case(wanted) if wanted.script is not None else run_sweep(wanted)


if __name__ == "__main__":
    sys.exit(main())
