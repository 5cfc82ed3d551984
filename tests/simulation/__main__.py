"""Simulate seeds, repeat one with its story, or shrink one: `python -m tests.simulation --help`."""

from __future__ import annotations

import argparse
import os
import sys

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tests.simulation.run import Run
from tests.simulation.seeds import play_seeds
from tests.simulation.shrink import shrink
from tests.simulation.story import print_story


def simulate(first: int, count: int, jobs: int) -> int:
    """Play seeds with progress; print each that fails, and how much was simulated."""
    console = Console(stderr=True)
    failed = operations = crashes = faults = 0
    simulated_s = cpu_s = 0.0
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("seeds", total=count)
        for played in play_seeds(first, count, jobs):
            progress.advance(task)
            operations += played.operations
            crashes += played.crashes
            faults += played.faults
            simulated_s += played.simulated_s
            cpu_s += played.cpu_s
            if played.error is not None:
                failed += 1
                progress.console.print(f"seed {played.seed}, {played.error}", markup=False, highlight=False)
    print(
        f"{count} seeds, {failed} failed: {operations} requests, {faults} faults, {crashes} crashes, "
        f"{simulated_s / 3600:.1f} simulated hours in {cpu_s:.0f} CPU seconds "
        f"({operations / cpu_s:.0f} requests a CPU second)"
    )
    return 1 if failed else 0


def main() -> int:
    """0 when no seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("first", type=int, help="first seed")
    parser.add_argument("count", type=int, nargs="?", default=1, help="number of seeds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--story", action="store_true", help="repeat the first seed and tell what happened")
    parser.add_argument("--shrink", action="store_true", help="leave out faults and requests that do not matter")
    wanted = parser.parse_args()
    if wanted.shrink:
        script, skip = shrink(wanted.first)
        return print_story(Run(wanted.first, script=script, skip=skip, story=True))
    if wanted.story:
        return print_story(Run(wanted.first, story=True))
    return simulate(wanted.first, wanted.count, wanted.jobs)


if __name__ == "__main__":
    sys.exit(main())
